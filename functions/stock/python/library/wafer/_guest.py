"""The interpreter's side of the contract, called by `glue/wafer.c`.

Assets: `python` is the author's module, or a zip archive of modules, in which dependencies are
below `site-packages/`. All others are the function's own. Parameters: `python_file` is the name of
the file, for tracebacks, or the module of the archive; `python_function` the function or trainer
that is wanted; `python_default` the one that is wanted if none is named and the module has several.
A trainer is told more by parameters that begin with `wafer.`. All others are the function's own.
"""

from __future__ import annotations

import gc
import importlib
import io
import sys
import zipfile
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import _wafer

from . import _errors
from ._errors import Refused
from ._function import Function
from ._imports import Modules, install
from ._kinds import Buffers
from ._prepare import keep
from ._rows import Answer, Call
from ._signature import forget_docs
from ._trainer import Trainer, Training, trainer_of

CODE, FILE, FUNCTION, DEFAULT = "python", "python_file", "python_function", "python_default"
TOLD = "wafer."
WARN = 3
FAILED = 1
MAX_TRACES = 3
MAX_FILES = 20_000
MAX_BYTES = 256 << 20

_assets: dict[str, bytearray] = {}
_modules = Modules({})
_function: Function | None = None
_call: Call | None = None
_training: Training | None = None
_traces = 0

Made = TypeVar("Made", Function, Trainer)


def load(asset: str, chunk: bytes, last: int) -> None:
    _assets.setdefault(asset, bytearray()).extend(chunk)


def init(parameters: list[tuple[str, str]]) -> str | None:
    """Imports the author's module; returns why it cannot be a function."""
    try:
        make(dict(parameters))
        keep()
    except BaseException as error:
        return _why(error)
    # The memory of a call is given back as a whole.
    gc.disable()
    return None


def make(parameters: dict[str, str]) -> None:
    """Makes the function."""
    global _function, _call
    names = _names(parameters)
    module = _imported(parameters)
    _function = chosen(module, function_of, "function", "`@wafer.function` above one", *names)
    _call = _function.initialised(_own_assets(), parameters, report)


def forget() -> None:
    """Forgets the function, and what was imported for it."""
    global _modules, _function, _call
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "loader", None) is _modules:
            del sys.modules[name]
    forget_docs()
    _modules = Modules({})
    install(_modules)
    _function = _call = None


def _why(error: BaseException) -> str:
    """Returns what went wrong, with its place in the author's files."""
    if not isinstance(error, Refused):
        return _errors.trace(error, line)
    return _errors.located(error) if _errors.own_frames(error.__traceback__) else str(error)


def _names(parameters: dict[str, str]) -> tuple[str | None, str | None]:
    """Takes out of the parameters what is wanted, and what is if nothing is."""
    return parameters.pop(FUNCTION, None), parameters.pop(DEFAULT, None)


def _own_assets() -> dict[str, bytes]:
    """Returns the assets that were loaded."""
    assets = {name: bytes(content) for name, content in _assets.items()}
    _assets.clear()
    return assets


def _imported(parameters: dict[str, str]) -> ModuleType:
    """Imports the author's module, and takes it out of the assets and parameters."""
    global _modules
    file = parameters.pop(FILE, "function.py")
    if CODE not in _assets:
        raise Refused(f"the asset `{CODE}` is missing, the function's code")
    module, files = unpacked(file, bytes(_assets.pop(CODE)))
    _modules = Modules(files)
    install(_modules)
    imported = importlib.import_module(module)
    if not isinstance(getattr(imported.__spec__, "loader", None), Modules):
        raise Refused(f"`{module}` is a module of Python itself: give the file another name")
    return imported


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


def function_of(thing: Any) -> Function | None:
    """Returns a function that was decorated."""
    return thing if isinstance(thing, Function) else None


def chosen(
    module: ModuleType,
    of: Callable[[Any], Made | None],
    kind: str,
    missing: str,
    wanted: str | None,
    default: str | None,
) -> Made:
    """Returns the function or trainer of a module: the one that is wanted, or else the only one, or
    else the default."""
    made = {name: of(value) for name, value in vars(module).items()}
    found = {name: value for name, value in made.items() if value is not None}
    if wanted in found:
        return found[wanted]
    names = ", ".join(f"`{name}`" for name in found)
    if wanted is not None and (found or wanted not in vars(module)):
        raise Refused(f"`{module.__name__}` has no {kind} `{wanted}` (it has {names or 'none'})")
    if not found:
        raise Refused(f"`{module.__name__}` has no {kind}: write {missing}")
    if default in found:
        return found[default]
    if len(set(map(id, found.values()))) > 1:
        first = next(iter(found))
        raise Refused(
            f"`{module.__name__}` has the {kind}s {names}: say which, as in "
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


def begin(
    parameters: list[tuple[str, str]], _columns: list[Any], label: str
) -> list[tuple[Any, ...]] | str:
    """Begins a training; returns the columns of its rows, or why there is none."""
    try:
        return _begin(dict(parameters), label)
    except BaseException as error:
        return _why(error)


def _begin(parameters: dict[str, str], label: str) -> list[tuple[Any, ...]]:
    global _training
    names = _names(parameters)
    module = _imported(parameters)
    trainer = chosen(module, trainer_of, "trainer", "`@wafer.trainer` above a class", *names)
    own = {name: value for name, value in parameters.items() if not name.startswith(TOLD)}
    _training = trainer.begun(_own_assets(), own, label)
    return trainer.described()


def feed(role: int, rows: int, batch: list[Buffers]) -> str | None:
    """Feeds rows; returns why the training cannot go on."""
    assert _training is not None
    try:
        _training.feed(role, rows, batch)
    except BaseException as error:
        return _why(error)
    return None


def next_pass() -> tuple[bool, str | None]:
    """Ends a pass; returns whether the rows are fed once more, and why the training failed."""
    assert _training is not None
    try:
        return _training.next_pass(), None
    except BaseException as error:
        return False, _why(error)


def finish() -> tuple[list[tuple[str, int]], list[tuple[str, float]]] | str:
    """Ends the training; returns its artifacts and metrics, or why there are none."""
    assert _training is not None
    try:
        return _training.finish()
    except BaseException as error:
        return _why(error)


def read(artifact: str, offset: int) -> memoryview:
    """Returns a piece of an artifact."""
    assert _training is not None
    return _training.read(artifact, offset)
