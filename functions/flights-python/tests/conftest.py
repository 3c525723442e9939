"""The functions as they are, without a sandbox, for tests on rows of the real data."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

PROJECT = Path(__file__).resolve().parent.parent
STOCK = PROJECT.parent / "stock/python"
# The library of authors, and what calls functions as the host does, are those of the interpreter.
sys.path[:0] = [str(PROJECT / "features"), str(STOCK / "library"), str(STOCK / "tests")]
sys.modules["_wafer"] = SimpleNamespace(log=print, keep=list)  # type: ignore[assignment]

from data import FLIGHTS  # noqa: E402
from local_time import Zone, load_zones  # noqa: E402


@pytest.fixture(scope="session")
def zones() -> dict[str, Zone]:
    """The zones of all airports."""
    return load_zones({"zones": (FLIGHTS / "data/airport_zones.csv").read_bytes()})
