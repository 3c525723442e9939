"""Calls functions and trainers as the host does: assets, parameters, columns as buffers."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wafer import _guest, _kinds

KINDS = {kind.tag: kind for kind in (*_kinds.SCALARS.values(), *_kinds.LISTS.values())}
KINDS[_kinds.FLOAT32] = _kinds.FLOAT32_KIND


class Guest:
    """A function in a new interpreter."""

    def __init__(
        self,
        code: str | bytes,
        file: str = "code_of_test.py",
        assets: dict[str, bytes] | None = None,
        **parameters: str,
    ) -> None:
        with new_interpreter(code, assets):
            self.error = _guest.init([("python_file", file), *parameters.items()])

    def described(self) -> Any:
        assert self.error is None, self.error
        return _guest.describe()

    def call(self, *columns: list[Any]) -> Any:
        """Returns what `call` answers: rows as tuples, source rows, and errors of rows."""
        inputs, outputs, _, _ = self.described()
        given = lowered(inputs, columns)
        answer = _guest.call(len(columns[0]), given)
        if len(answer) == 2:
            return answer[1]
        rows, made, sources, errors = answer
        failed = {row for row, _ in errors} if sources is None else set()
        values = lifted(outputs, rows, made)
        kept = [None if row in failed else value for row, value in enumerate(values)]
        return kept, None if sources is None else sources.tolist(), dict(errors)


class TrainerGuest:
    """A training in a new interpreter, of a trainer of columns that begins with the label."""

    def __init__(
        self, code: str, label: str = "label", assets: dict[str, bytes] | None = None, **parameters: str
    ) -> None:
        told = [("wafer.task", "regression"), ("wafer.keys", "")]
        given = [("python_file", "code_of_test.py"), *told, *parameters.items()]
        with new_interpreter(code, assets):
            self.begun = _guest.begin(given, [], label)

    def feed(self, role: int, *columns: list[Any]) -> str | None:
        assert not isinstance(self.begun, str), self.begun
        return _guest.feed(role, len(columns[0]), lowered(self.begun, columns))


@contextmanager
def new_interpreter(code: str | bytes, assets: dict[str, bytes] | None) -> Iterator[None]:
    """Loads code and other assets, and undoes what initialising a function changes."""
    for name in [name for name, m in sys.modules.items() if _is_guests(m)]:
        del sys.modules[name]
    importlib.reload(_guest)
    content = code.encode() if isinstance(code, str) else code
    for name, asset in {"python": content, **(assets or {})}.items():
        middle = len(asset) // 2
        _guest.load(name, asset[:middle], 0)
        _guest.load(name, asset[middle:], 1)
    meta_path = list(sys.meta_path)
    try:
        yield
    finally:
        sys.meta_path[:] = meta_path
        gc.enable()
        gc.unfreeze()


def lowered(fields: Any, columns: Any) -> list[Any]:
    """Returns columns as the host passes them."""
    given = []
    for (_, tag, dimension, _, _), values in zip(fields, columns, strict=True):
        kind = KINDS.get(tag) or _kinds.Vectors(dimension)
        given.append(_bytes(_kinds.write_column(kind, True, values, _never)))
    return given


def lifted(fields: Any, rows: int, columns: Any) -> list[tuple[Any, ...]]:
    """Returns the rows of columns that were returned."""
    read = []
    for (_, tag, dimension, _, _), column in zip(fields, columns, strict=True):
        kind = KINDS.get(tag) or _kinds.Vectors(dimension)
        column = _bytes(column if tag != _kinds.VECTOR else column[:3])
        read.append(_kinds.read_column(kind, rows, column))
    return list(zip(*read, strict=True))


def _bytes(column: Any) -> Any:
    """Makes buffers of what crosses to the host."""
    tag, validity, *buffers = column
    copies = [bytes(b) if not isinstance(b, int) else b for b in buffers]
    return (tag, validity, *[b for b in copies if isinstance(b, bytes)])


def _never(index: int, message: str) -> None:
    raise AssertionError(f"value {index}: {message}")


def _is_guests(module: Any) -> bool:
    spec = getattr(module, "__spec__", None)
    return type(getattr(spec, "loader", None)).__name__ == "Modules"
