"""Values: from Python to the JSON that the server reads, and from its answers to Python.

The rule is the server's: a value is kept exactly, or refused by name. None is null, and NaN is a
number that is none; JSON has it as the text "NaN".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from .errors import Invalid

_LIST = re.compile(r"^(?:vector\((\d+)\)|list<(int64|float64|utf8)>)$")
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encoded_row(row: Mapping[str, Any], number: int) -> bytes:
    """Returns a row as JSON. `number` is its place among all rows, for errors."""
    try:
        values = {}
        for name, value in row.items():
            if not isinstance(name, str):
                raise TypeError(f"`{name}` is a name of a field that is no text")
            values[name] = _jsonable(value, f"field `{name}`")
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"row {number}: a text in it is not Unicode", row=number) from None
    except RecursionError:
        raise Invalid(f"row {number}: its values are nested too deeply", row=number) from None
    except TypeError as error:
        raise Invalid(f"row {number}: {error}", row=number) from None


def encoded_value(value: Any, where: str) -> Any:
    """Returns a value in the form that JSON has of it. `where` names it in errors."""
    try:
        return _jsonable(value, where)
    except TypeError as error:
        raise Invalid(str(error)) from None


def _jsonable(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _float(value)
    name = type(value).__name__
    if name in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime):
        return time_text(value, where)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(inner, where) for inner in value]
    plain = _plain(value)
    if plain is None or type(plain) is type(value):
        raise TypeError(
            f"{where} is of the type {name}, which has no exact form in JSON; "
            "write a number, a text, a time, bytes or a list"
        )
    return _jsonable(plain, where)


def _plain(value: Any) -> Any:
    """Returns what a value of numpy is in Python, or None."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        return value.tolist()
    return None


def _float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def time_text(value: datetime, where: str) -> str:
    """Returns a time as RFC 3339. Without a zone it names none, and the server decides."""
    if getattr(value, "nanosecond", 0):
        raise TypeError(f"{where} has digits beyond microseconds: {value}")
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def argument_time(value: datetime | date | str, name: str) -> str:
    """Returns a time as an argument of a command or a query: with a zone, or a date."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Invalid(f"`{name}` names no time zone", hint="give it a `tzinfo`")
        try:
            return time_text(value, f"`{name}`")
        except TypeError as error:
            raise Invalid(str(error)) from None
    return value.isoformat()


def decoder(data_type: str) -> Callable[[Any], Any]:
    """Returns what makes Python's values of those that an answer has of a type.

    Values of a type that is not known here stay as they are.
    """
    inner = _DECODERS.get(data_type)
    if inner is None and (found := _LIST.match(data_type)):
        item = _float_of if found[1] else _DECODERS[found[2]]
        return lambda value: None if value is None else [item(each) for each in value]
    if inner is None:
        return lambda value: value
    read = inner
    return lambda value: None if value is None else read(value)


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"`{value}` is not {kind.__name__}")
        return value

    return read


def _float_of(value: Any) -> float:
    if isinstance(value, str):
        return _FLOATS[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{value}` is no number")
    return float(value)


def _time_of(value: Any) -> datetime:
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError(f"`{value}` names no time zone")
    return time.astimezone(UTC)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "boolean": _exactly(bool),
    "int64": _exactly(int),
    "float64": _float_of,
    "float32": _float_of,
    "utf8": _exactly(str),
    "binary": bytes.fromhex,
    "timestamp": _time_of,
    "date": date.fromisoformat,
}


def decoded(data_type: str, values: Iterable[Any]) -> list[Any]:
    """Returns the values that an answer has of a type.

    Raises ValueError if one is of another type.
    """
    read = decoder(data_type)
    try:
        return [read(value) for value in values]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a value is not {data_type}: {error}") from None


def list_kind(data_type: str) -> tuple[int | None, str] | None:
    """Returns the length and the type of the items of a type of lists, or None for another type."""
    found = _LIST.match(data_type)
    if not found:
        return None
    return (int(found[1]), "float32") if found[1] else (None, found[2])
