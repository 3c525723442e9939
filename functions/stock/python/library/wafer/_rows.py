"""Calling a function on a batch of rows.

The loop over rows is written once for each function, with the names of its columns, and then
compiled. Columns become lists of values before it, and columns again after it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from . import _kinds
from ._errors import Refused, located
from ._kinds import Buffers, Unreadable, describe, read_column, unpack_bits, write_column
from ._signature import ONE_TO_MANY, Columns, Field, Rows, Signature

Answer = tuple[int, list[Buffers], "array[int] | None", list[tuple[int, str]]]
"""Number of rows, columns, source rows if rows do not map one to one, and rows that failed."""

Call = Callable[[int, list[Buffers]], Answer]


class Failed:
    """Stands for the answer of a row that failed."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message


def rows_call(
    signature: Signature, function: Callable[..., Any], failed: Callable[[BaseException], None]
) -> Call:
    """Returns what calls a function of rows on a batch. `failed` is told each error."""
    loop = _loop(signature, function, failed)
    inputs, outputs = signature.inputs.fields, signature.outputs.fields
    getters = [attrgetter(field.name) for field in outputs]
    answers = _many if signature.mapping == ONE_TO_MANY else _one
    optional = signature.is_optional
    cls = signature.outputs.cls

    def call(rows: int, batch: list[Buffers]) -> Answer:
        errors: dict[int, str] = {}
        columns = [
            read_column(field.kind, rows, column)
            for field, column in zip(inputs, batch, strict=True)
        ]
        for field, column, values in zip(inputs, batch, columns, strict=True):
            _check_input(field, column, values, errors)
        results = loop(columns, errors)
        made, sources = answers(results, cls, optional, errors)
        while True:
            wrong: dict[int, str] = {}
            written = [
                _write(field, getter, made, sources, wrong)
                for field, getter in zip(outputs, getters, strict=True)
            ]
            if not wrong:
                break
            errors.update(wrong)
            made, sources = _without(made, sources, wrong, cls, outputs)
        row_errors = sorted(errors.items()) if errors else []
        if sources is None:
            return rows, written, None, row_errors
        return len(made), written, sources, row_errors

    return call


def _loop(
    signature: Signature, function: Callable[..., Any], failed: Callable[[BaseException], None]
) -> Callable[[list[list[Any]], dict[int, str]], list[Any]]:
    """Compiles the loop over rows."""
    values, given = _arguments(signature.inputs)
    returned = f"function(Input({given}))"
    if signature.mapping == ONE_TO_MANY and not signature.is_optional:
        returned = f"list({returned})"
    source = f"""
def loop(columns, errors):
    results = []
    append = results.append
    if not errors:
        for {values}, in zip(*columns):
            try:
                append({returned})
            except BaseException as error:
                append(failure(error))
        return results
    for row, ({values},) in enumerate(zip(*columns)):
        if row in errors:
            append(Failed(errors[row]))
            continue
        try:
            append({returned})
        except BaseException as error:
            append(failure(error))
    return results
"""

    def failure(error: BaseException) -> Failed:
        failed(error)
        return Failed(located(error))

    scope = {
        "function": function,
        "Input": signature.inputs.cls,
        "Failed": Failed,
        "failure": failure,
    }
    exec(compile(source, "<rows>", "exec"), scope)
    loop: Callable[[list[list[Any]], dict[int, str]], list[Any]] = scope["loop"]  # type: ignore[assignment]
    return loop


def _arguments(inputs: Rows) -> tuple[str, str]:
    """Returns variables for the values of a row, and the arguments that make a row of them."""
    values = [f"v{number}" for number in range(len(inputs.fields))]
    named = zip(inputs.fields, values, strict=True)
    return ", ".join(values), ", ".join(f"{field.name}={value}" for field, value in named)


def rows_reader(inputs: Rows) -> Callable[[int, list[Buffers]], list[Any]]:
    """Returns what makes rows of a batch, all of which have to be readable."""
    values, given = _arguments(inputs)
    source = f"lambda columns: [Input({given}) for {values}, in zip(*columns)]"
    make = eval(compile(source, "<rows>", "eval"), {"Input": inputs.cls})

    def read(rows: int, batch: list[Buffers]) -> list[Any]:
        errors: dict[int, str] = {}
        columns = []
        for field, column in zip(inputs.fields, batch, strict=True):
            columns.append(read_column(field.kind, rows, column))
            _check_input(field, column, columns[-1], errors)
        if errors:
            raise Refused(f"row {min(errors)} of a chunk: {errors[min(errors)]}")
        made: list[Any] = make(columns)
        return made

    return read


def _check_input(field: Field, column: Buffers, values: list[Any], errors: dict[int, str]) -> None:
    """Finds the rows whose value cannot be given to the function."""
    if column[1] is not None and not field.nullable:
        for row, value in enumerate(values):
            if value is None:
                errors.setdefault(row, f"column `{field.name}` is null, and may not be")
    if field.kind.tag in (_kinds.TIMESTAMP, _kinds.DATE) and Unreadable in map(type, values):
        for row, value in enumerate(values):
            if type(value) is Unreadable:
                errors.setdefault(row, f"column `{field.name}`: {value.message}")


def _one(
    results: list[Any], cls: type, _optional: bool, errors: dict[int, str]
) -> tuple[list[Any], array[int] | None]:
    if set(map(type, results)) <= {cls}:
        return results, None
    made = []
    for row, result in enumerate(results):
        if type(result) is not cls and not isinstance(result, cls):
            errors[row] = _wrong_answer(result, cls, "")
            result = None
        made.append(result)
    return made, None


def _many(
    results: list[Any], cls: type, optional: bool, errors: dict[int, str]
) -> tuple[list[Any], array[int] | None]:
    made: list[Any] = []
    sources = array("I")
    for row, result in enumerate(results):
        if result is None and optional:
            continue
        if type(result) is Failed:
            errors[row] = result.message
            continue
        answers = [result] if optional else result
        wrong = next((a for a in answers if not isinstance(a, cls)), answers)
        if wrong is not answers:
            errors[row] = _wrong_answer(wrong, cls, " or None" if optional else "")
            continue
        made.extend(answers)
        sources.extend([row] * len(answers))
    return made, sources


def _wrong_answer(result: Any, cls: type, other: str) -> str:
    if type(result) is Failed:
        message: str = result.message
        return message
    return f"the function returned {describe(result)}, wanted {cls.__name__}{other}"


def _write(
    field: Field,
    getter: Callable[[Any], Any],
    made: list[Any],
    sources: array[int] | None,
    wrong: dict[int, str],
) -> Buffers:
    """Writes one output column."""
    try:
        values = list(map(getter, made))
    except AttributeError:
        # Failed rows, or an object whose field was deleted.
        zero = field.kind.zero
        values = [zero if answer is None else _value(getter, answer) for answer in made]

    def tell(index: int, message: str) -> None:
        row = index if sources is None else sources[index]
        wrong.setdefault(row, f"field `{field.name}`: {message}")

    return write_column(field.kind, field.nullable, values, tell)


class _Absent:
    def __repr__(self) -> str:
        return "no value"


def _value(getter: Callable[[Any], Any], answer: Any) -> Any:
    try:
        return getter(answer)
    except AttributeError:
        return _Absent()


def _without(
    made: list[Any],
    sources: array[int] | None,
    wrong: dict[int, str],
    cls: type,
    outputs: tuple[Field, ...],
) -> tuple[list[Any], array[int] | None]:
    """Leaves out the answers of rows that failed."""
    if sources is None:
        return [None if row in wrong else answer for row, answer in enumerate(made)], None
    kept = [
        (answer, row) for answer, row in zip(made, sources, strict=True) if row not in wrong
    ]
    return [answer for answer, _ in kept], array("I", [row for _, row in kept])


def columns_of(inputs: Rows, rows: int, batch: list[Buffers]) -> Columns[Any]:
    """Returns the columns of a batch."""
    given, validity = {}, {}
    for field, column in zip(inputs.fields, batch, strict=True):
        if column[1] is not None:
            validity[field.name] = unpack_bits(column[1], rows)
        if isinstance(field.kind, _kinds.Number | _kinds.Vectors):
            given[field.name] = field.kind.view(rows, *column[2:])
        else:
            given[field.name] = read_column(field.kind, rows, column)
    columns: Columns[Any] = Columns(**given)
    columns.__dict__["_rows"] = rows
    columns.__dict__["_validity"] = validity
    return columns


def columns_call(signature: Signature, function: Callable[..., Any]) -> Call:
    """Returns what calls a function of whole columns on a batch."""
    outputs = signature.outputs.fields
    never_null = [field.name for field in signature.inputs.fields if not field.nullable]

    def call(rows: int, batch: list[Buffers]) -> Answer:
        errors: dict[int, str] = {}
        columns = columns_of(signature.inputs, rows, batch)
        for name in never_null:
            for row, is_valid in enumerate(columns.valid(name) or ()):
                if not is_valid:
                    errors.setdefault(row, f"column `{name}` is null, and may not be")
        answer = function(columns)
        if not isinstance(answer, Columns):
            raise Refused(f"the function returned {describe(answer)}, wanted wafer.Columns")
        written = [_whole(field, answer, rows, errors) for field in outputs]
        return rows, written, None, sorted(errors.items())

    return call


def _whole(field: Field, answer: Columns[Any], rows: int, errors: dict[int, str]) -> Buffers:
    """Writes a column that a function returned whole."""
    if field.name not in answer.__dict__:
        raise Refused(f"the function returned no column `{field.name}`")
    column = answer.__dict__[field.name]
    try:
        taken = None if isinstance(column, list | tuple) else field.kind.taken(column, rows)
        values = column if taken is None and isinstance(column, list) else None
        if taken is None and values is None:
            values = list(column)
    except TypeError as error:
        raise Refused(f"column `{field.name}`: {error}") from None
    length = len(values) if values is not None else len(taken[0])  # type: ignore[index]
    if length != rows:
        raise Refused(f"column `{field.name}` has {length} values, wanted {rows}, one for each row")
    if values is None:
        return field.kind.tag, None, *taken  # type: ignore[misc]
    def tell(index: int, message: str) -> None:
        errors.setdefault(index, f"field `{field.name}`: {message}")

    return write_column(field.kind, field.nullable, values, tell)
