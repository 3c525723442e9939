"""The library as the component has it, but natively."""

import pathlib
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "library"))

MESSAGES: list[tuple[int, str]] = []
log = types.ModuleType("_wafer")
log.log = lambda level, message: MESSAGES.append((level, message))  # type: ignore[attr-defined]
log.keep = lambda objects: None  # type: ignore[attr-defined]
sys.modules["_wafer"] = log
