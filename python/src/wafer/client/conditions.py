"""Conditions on rows, as the server has them: `delay >= 15`, `delay is null`.

The server filters up to 10,000 rows of a table. Rows of an export are filtered here, by the same
rules, after the server has accepted the conditions.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from . import frames
from .errors import Invalid

_NULL = re.compile(r"^(.+?) is (not )?null\s*$", re.IGNORECASE | re.DOTALL)
_COMPARISON = re.compile(r"^([^!=<>]*)(!=|<=|>=|=|<|>)(.*)$", re.DOTALL)
_FUNCTIONS = {
    "=": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
# Of a NaN in the column against a number: it is greater than all, and equal to itself.
_NAN_FULFILS = ("!=", ">", ">=")


@dataclass(frozen=True)
class Condition:
    """A condition on the value of one column."""

    column: str
    operator: str
    """`=`, `!=`, `<`, `<=`, `>`, `>=`, `is null` or `is not null`."""
    value: str = ""


def parsed(text: str) -> Condition:
    """Reads a condition."""
    null, comparison = _NULL.match(text), _COMPARISON.match(text)
    if null and (column := null[1].strip()):
        return Condition(column, "is not null" if null[2] else "is null")
    if comparison and (column := comparison[1].strip()):
        return Condition(column, comparison[2], _unquoted(comparison[3].strip()))
    raise Invalid(
        f"`{text}` is not a condition; write COLUMN = VALUE (or !=, <, <=, >, >=), COLUMN is null, "
        "or COLUMN is not null"
    )


def _unquoted(value: str) -> str:
    for quote in "'\"":
        if len(value) >= 2 and value[0] == value[-1] == quote:
            return value[1:-1]
    return value


def filtered(table: Any, conditions: list[Condition]) -> Any:
    """Returns the rows of a table that fulfil all conditions."""
    for condition in conditions:
        table = table.filter(_holds(condition, table.column(condition.column)))
    return table


def _holds(condition: Condition, column: Any) -> Any:
    """Returns for each value of a column whether it fulfils a condition; a null is no value."""
    pa, pc = frames.arrow(), frames.needed("pyarrow.compute", "this", "pyarrow")
    if condition.operator == "is null":
        return pc.is_null(column)
    if condition.operator == "is not null":
        return pc.is_valid(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    value = _value(condition, kind)
    compare = getattr(pc, _FUNCTIONS[condition.operator])
    if not pa.types.is_floating(kind):
        wanted = pa.scalar(value, pa.int8() if pa.types.is_boolean(kind) else kind)
        return compare(column, wanted)
    column = column.cast(pa.float64())
    is_nan = pc.is_nan(column)
    if not math.isnan(value):
        holds = compare(column, pa.scalar(value, pa.float64()))
        return pc.or_(holds, is_nan) if condition.operator in _NAN_FULFILS else holds
    return {
        "=": lambda: is_nan,
        ">=": lambda: is_nan,
        "!=": lambda: pc.invert(is_nan),
        "<": lambda: pc.invert(is_nan),
        "<=": lambda: pc.is_valid(column),
        ">": lambda: pc.and_(is_nan, False),
    }[condition.operator]()


def _value(condition: Condition, kind: Any) -> Any:
    """Reads the value of a condition, which the server has accepted, as the type of its column."""
    pa, text = frames.arrow(), condition.value
    try:
        if pa.types.is_boolean(kind):
            return int(text in ("true", "True", "TRUE", "t", "1"))
        if pa.types.is_integer(kind):
            return int(Decimal(text))
        if pa.types.is_float32(kind):
            return struct.unpack("f", struct.pack("f", float(text)))[0]
        if pa.types.is_floating(kind):
            return float(text)
        if pa.types.is_timestamp(kind):
            time = datetime.fromisoformat(text)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        if pa.types.is_date(kind):
            return date.fromisoformat(text)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return bytes.fromhex(text)
    except (ArithmeticError, ValueError, OverflowError) as error:
        raise Invalid(f"column `{condition.column}`: `{text}` is not {kind}: {error}") from None
    return text
