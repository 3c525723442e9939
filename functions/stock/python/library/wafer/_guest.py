"""The interpreter's side of the contract, called by `glue/wafer.c`.

Assets: `python` is the author's module, or a zip archive of modules, in which dependencies are
below `site-packages/`. All others are the function's own. Parameters: `python_file` is the name of
the file, for tracebacks, or the module of the archive; `python_function` the function that is
wanted; `python_default` the one that is wanted if none is named and the module has several. All
others are the function's own.
"""

from __future__ import annotations

import gc
import importlib
import io
import zipfile
from typing import Any

import _wafer

from . import _errors
from ._errors import Refused
from ._function import Function
from ._imports import Modules, install
from ._kinds import Buffers
from ._prepare import keep
from ._rows import Answer, Call

CODE, FILE, FUNCTION, DEFAULT = "python", "python_file", "python_function", "python_default"
WARN = 3
FAILED = 1
MAX_TRACES = 3
MAX_FILES = 20_000
MAX_BYTES = 256 << 20

_assets: dict[str, bytearray] = {}
_modules = Modules({})
_function: Function | None = None
_call: Call | None = None
_traces = 0


def load(asset: str, chunk: bytes, last: int) -> None:
    _assets.setdefault(asset, bytearray()).extend(chunk)


def init(parameters: list[tuple[str, str]]) -> str | None:
    """Imports the author's module; returns why it cannot be a function."""
    try:
        _init(dict(parameters))
    except BaseException as error:
        return _why(error)
    return None


def _why(error: BaseException) -> str:
    """Returns what went wrong, with its place in the author's files."""
    if not isinstance(error, Refused):
        return _errors.trace(error, line)
    return _errors.located(error) if _errors.own_frames(error.__traceback__) else str(error)


def _init(parameters: dict[str, str]) -> None:
    global _modules, _function, _call
    file = parameters.pop(FILE, "function.py")
    wanted, default = parameters.pop(FUNCTION, None), parameters.pop(DEFAULT, None)
    if CODE not in _assets:
        raise Refused(f"the asset `{CODE}` is missing, the function's code")
    assets = {name: bytes(content) for name, content in _assets.items()}
    code = assets.pop(CODE)
    _assets.clear()
    module, files = unpacked(file, code)
    _modules = Modules(files)
    install(_modules)
    imported = importlib.import_module(module)
    if not isinstance(getattr(imported.__spec__, "loader", None), Modules):
        raise Refused(f"`{module}` is a module of Python itself: give the file another name")
    _function = chosen(imported, wanted, default)
    _call = _function.initialised(assets, parameters, report)
    keep()
    # The memory of a call is given back as a whole.
    gc.disable()


def unpacked(file: str, code: bytes) -> tuple[str, dict[str, bytes]]:
    """Returns the name of the module to import, and all files by path."""
    module = file.removesuffix("/").removesuffix(".py").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        raise Refused(f"`{file}` is not a name of a module, which has letters, digits and `_`")
    if not code.startswith(b"PK\x03\x04"):
        return module, {file: code}
    try:
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            total = sum(entry.file_size for entry in entries)
            if len(entries) > MAX_FILES or total > MAX_BYTES:
                raise Refused(
                    f"the code has {len(entries)} files of {total >> 20} MiB; "
                    f"at most {MAX_FILES} and {MAX_BYTES >> 20} MiB"
                )
            return module, {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"the archive of the code cannot be read: {error}") from None


def chosen(module: Any, wanted: str | None, default: str | None = None) -> Function:
    """Returns the function of a module: the one that is wanted, or else the only one, or else the
    default."""
    found = {
        name: value for name, value in vars(module).items() if isinstance(value, Function)
    }
    if wanted in found:
        return found[wanted]
    names = ", ".join(f"`{name}`" for name in found)
    if wanted is not None and (found or wanted not in vars(module)):
        raise Refused(f"`{module.__name__}` has no function `{wanted}` (it has {names or 'none'})")
    if not found:
        raise Refused(f"`{module.__name__}` has no function: write `@wafer.function` above one")
    if default in found:
        return found[default]
    if len(set(map(id, found.values()))) > 1:
        first = next(iter(found))
        raise Refused(
            f"`{module.__name__}` has the functions {names}: say which, as in "
            f'`python = "FILE.py:{first}"`'
        )
    return next(iter(found.values()))


def describe() -> tuple[Any, ...]:
    assert _function is not None
    return _function.described()


def call(rows: int, batch: list[Buffers]) -> Answer | tuple[int, str]:
    """Computes a batch; returns an error of the whole batch as its case and message."""
    global _traces
    _traces = 0
    assert _call is not None
    try:
        return _call(rows, batch)
    except BaseException as error:
        return FAILED, _why(error)


def report(error: BaseException) -> None:
    """Logs the traceback of a row that failed, of the first ones of a batch, line by line."""
    global _traces
    if _traces < MAX_TRACES:
        _traces += 1
        for message in _errors.trace(error, line).split("\n"):
            _wafer.log(WARN, message)


def line(file: str, number: int) -> str:
    """Returns a line of an author's file, for a traceback."""
    return _modules.line(file, number)


def begin(_parameters: list[Any], _columns: list[Any], _label: str) -> str:
    """Begins a training."""
    return "Python functions cannot train models yet: write the trainer in Rust, or name a stock one"
