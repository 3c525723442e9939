"""Signatures, read from type hints and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Generator, Iterable, Iterator
from typing import Annotated, Any, Generic, TypeVar, Union

from ._errors import Refused
from ._kinds import FLOAT32_KIND, LISTS, SCALARS, Kind, Vectors

Row = TypeVar("Row")
ONE_TO_ONE, ONE_TO_MANY = 0, 1
_DOCS: dict[str, dict[str, dict[str, str]]] = {}
"""The strings that follow fields: by module that has no file, by class, by field."""

float32 = Annotated[float, FLOAT32_KIND]
"""The hint of a column of 32-bit numbers."""


def vector(dimension: int) -> Any:
    """Returns the hint of a column of vectors of 32-bit numbers."""
    if type(dimension) is not int or not 1 <= dimension < 2**32:
        raise Refused(f"a vector cannot have the dimension {dimension!r}: it is at least 1")
    return Annotated[list[float], Vectors(dimension)]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A column of a signature."""

    name: str
    kind: Kind
    nullable: bool
    doc: str

    def described(self) -> tuple[Any, ...]:
        return self.name, self.kind.tag, self.kind.dimension, self.nullable, self.doc


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """The fields of a dataclass, as columns."""

    cls: type
    fields: tuple[Field, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and returns."""

    inputs: Rows
    outputs: Rows
    mapping: int
    is_optional: bool
    """Whether it returns None for rows that have no output."""
    doc: str


class Columns(Generic[Row]):
    """Rows as whole columns: an attribute for each field of `Row`.

    Columns of numbers, moments (microseconds since 1970) and days (since 1970) are `memoryview`s;
    others are lists. `valid(name)` says which values are there. The columns that a function returns
    are given by name: buffers of the same types, or any sequence of values.
    """

    def __init__(self, **columns: Any) -> None:
        self.__dict__.update(columns)

    def valid(self, name: str) -> list[bool] | None:
        """Returns for each row whether it has a value, or None if all have."""
        validity: dict[str, list[bool]] = self.__dict__.get("_validity", {})
        return validity.get(name)

    def __len__(self) -> int:
        rows: int = self.__dict__["_rows"]
        return rows


def signature(function: Any, columns: bool) -> Signature:
    """Reads the signature of a function."""
    name = function.__name__
    hints = hints_of(function, f"function `{name}`")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise Refused(f"function `{name}` takes nothing: its first parameter is a row, a dataclass")
    first = parameters[0].name
    if first not in hints:
        raise Refused(
            f"parameter `{first}` of function `{name}` has no type hint: name the dataclass of its rows"
        )
    if "return" not in hints:
        raise Refused(
            f"function `{name}` has no type hint for what it returns: `-> Output`, a dataclass"
        )
    taken, returned = hints[first], hints["return"]
    where = f"parameter `{first}` of function `{name}`"
    answer = f"what function `{name}` returns"
    if columns:
        taken = _item_of(taken, (Columns,), where, "wafer.Columns[Input]")
        returned = _item_of(returned, (Columns,), answer, "wafer.Columns[Output]")
        mapping, is_optional = ONE_TO_ONE, False
    else:
        returned, mapping, is_optional = _mapping(returned)
    inputs = rows_of(taken, where)
    outputs = rows_of(returned, answer)
    doc = inspect.getdoc(function) or ""
    return Signature(inputs, outputs, mapping, is_optional, doc)


def hints_of(thing: Any, where: str) -> dict[str, Any]:
    """Returns the type hints of a function or class."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"a type hint of {where} cannot be read: {error}") from None


def _mapping(returned: Any) -> tuple[Any, int, bool]:
    """Tells how many rows a function returns for one."""
    inner, is_optional = _without_none(returned)
    if is_optional:
        return inner, ONE_TO_MANY, True
    origin = typing.get_origin(returned)
    if origin in (list, Iterator, Iterable, Generator):
        return typing.get_args(returned)[0], ONE_TO_MANY, False
    return returned, ONE_TO_ONE, False


def _item_of(hint: Any, origins: tuple[Any, ...], where: str, wanted: str) -> Any:
    if typing.get_origin(hint) not in origins:
        raise Refused(f"{where} is {named(hint)}, and has to be {wanted}, since it is `columns=True`")
    return typing.get_args(hint)[0]


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if len(parts) != 1:
        return hint, False
    return parts[0], len(parts) < len(typing.get_args(hint))


def rows_of(cls: Any, where: str) -> Rows:
    """Reads the columns of a dataclass."""
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        raise Refused(f"{where} is {named(cls)}, and has to be a dataclass, whose fields are columns")
    hints = hints_of(cls, f"dataclass `{cls.__name__}`")
    docs = docs_of(cls)
    fields = []
    for field in dataclasses.fields(cls):
        if not field.init:
            raise Refused(f"field `{field.name}` of `{cls.__name__}` is not a column, because it is not given")
        doc = field.metadata.get("doc") or docs.get(field.name, "")
        fields.append(_field(cls, field.name, hints[field.name], doc))
    if not fields:
        raise Refused(f"dataclass `{cls.__name__}` has no fields")
    return Rows(cls, tuple(fields))


def _field(cls: type, name: str, hint: Any, doc: str) -> Field:
    hint, nullable = _without_none(hint)
    kind = None
    while typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        for note in notes:
            if isinstance(note, Kind):
                kind = note
            elif isinstance(note, str):
                doc = doc or note
        hint, inner = _without_none(hint)
        nullable = nullable or inner
    kind = kind or kind_of(hint)
    if kind is None:
        raise Refused(
            f"field `{name}` of `{cls.__name__}` has the type {named(hint)}, which no column has: "
            "bool, int, float, str, bytes, datetime, date, list[int], list[float], list[str], "
            "wafer.float32, wafer.vector(n), each with `| None` if values may be missing"
        )
    return Field(name, kind, nullable, inspect.cleandoc(doc))


def kind_of(hint: Any) -> Kind | None:
    """Returns the type of columns for a type hint."""
    if typing.get_origin(hint) is list:
        return LISTS.get(typing.get_args(hint)[0])
    return SCALARS.get(hint) if isinstance(hint, type) else None


def named(hint: Any) -> str:
    """Returns how a type hint is written."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return f"`{text.removeprefix('typing.')}`"


def remember_docs(module: str, tree: ast.Module) -> None:
    """Keeps the documentation of the fields of a module that has no file."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    _DOCS[module] = {node.name: found for node in classes if (found := _docs(node.body))}


def forget_docs() -> None:
    _DOCS.clear()


def docs_of(cls: type) -> dict[str, str]:
    """Returns the strings that follow the fields of a class, by field."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        docs |= _own_docs(base)
    return docs


def _own_docs(cls: type) -> dict[str, str]:
    if cls.__module__ in _DOCS:
        return _DOCS[cls.__module__].get(cls.__name__, {})
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    classes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    return _docs(next((node.body for node in classes if node.name == cls.__name__), []))


def _docs(body: list[ast.stmt]) -> dict[str, str]:
    docs = {}
    for statement, after in zip(body, body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[statement.target.id] = after.value.value
    return docs
