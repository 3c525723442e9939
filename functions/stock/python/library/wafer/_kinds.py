"""The types of columns: how values are read from whole columns, and written to them.

Nothing here works value by value unless a column has values of the wrong type: then the rows are
found that are to blame.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, chain, pairwise
from typing import Any

# The cases of `data-type` in the contract.
BOOLEAN, INT64, FLOAT64, FLOAT32, UTF8, BINARY, TIMESTAMP, DATE, VECTOR = range(9)
LIST_INT64, LIST_FLOAT64, LIST_UTF8 = range(9, 12)

Buffers = tuple[Any, ...]
"""A column: case, validity or None, and the buffers of the case."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_BITS = [tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256)]
_DIGITS = bytes.maketrans(b"\0\1", b"01")
_LONGEST = 2**31 - 1
# Offsets are 32-bit integers on every machine.
_INT32: Any = "i"


def unpack_bits(bits: bytes, rows: int) -> list[bool]:
    """Returns the bits of a bit map, least significant first."""
    values = list(chain.from_iterable(map(_BITS.__getitem__, bits)))
    del values[rows:]
    return values


def pack_bits(values: Sequence[bool]) -> bytes:
    """Returns a bit map of values, least significant bit first."""
    if not values:
        return b""
    digits = bytes(values)[::-1].translate(_DIGITS)
    return int(digits, 2).to_bytes((len(values) + 7) // 8, "little")


class Kind:
    """A type of columns."""

    def __init__(self, tag: int, name: str, wanted: type, zero: Any) -> None:
        self.tag = tag
        """The case of the contract's `data-type`."""
        self.name = name
        """What an author writes for it."""
        self.wanted = wanted
        """The type of its values."""
        self.zero = zero
        """What stands in rows that have no value."""
        self.dimension = 0
        """The payload of the case: of vectors, how many numbers they have."""

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        """Returns the values of a column."""
        raise NotImplementedError

    def view(self, rows: int, *buffers: bytes) -> Any:
        """Returns a column without converting its values, where that is possible."""
        return self.read(rows, *buffers)

    def pack(self, values: Sequence[Any]) -> Buffers:
        """Returns the buffers of values that all have the wanted type."""
        raise NotImplementedError

    def wrong(self, value: Any) -> str | None:
        """Returns why a value cannot be in a column of this type."""
        if type(value) is not self.wanted:
            return f"found {describe(value)}, wanted {self.name}"
        return None

    def taken(self, column: Any, rows: int) -> Buffers | None:
        """Returns the buffers of a column that has the right layout already."""
        return None


class Number(Kind):
    """Values that are numbers of one width in memory."""

    def __init__(self, tag: int, name: str, wanted: type, zero: Any, code: Any) -> None:
        super().__init__(tag, name, wanted, zero)
        self.code = code

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        values: list[Any] = self.view(rows, *buffers).tolist()
        return values

    def view(self, rows: int, *buffers: bytes) -> Any:
        return memoryview(buffers[0]).cast(self.code)

    def pack(self, values: Sequence[Any]) -> Buffers:
        return (array(self.code, values),)

    def taken(self, column: Any, rows: int) -> Buffers | None:
        try:
            view = memoryview(column)
        except TypeError:
            return None
        if view.format != self.code and not (self.code == "q" and view.format == "l"):
            raise TypeError(
                f"found a buffer of items of type `{view.format}`, wanted `{self.code}` ({self.name})"
            )
        if view.itemsize != struct.calcsize("=" + self.code) or not view.c_contiguous:
            raise TypeError(f"found a buffer with another layout than {self.name} in a row")
        return (view,)


class Int(Number):
    def wrong(self, value: Any) -> str | None:
        if type(value) is int and not -(2**63) <= value < 2**63:
            return f"found {value}, which does not fit into 64 bits"
        return super().wrong(value)


class Float(Number):
    """Floating-point numbers. An integer is one if it is equal to it."""

    def wrong(self, value: Any) -> str | None:
        if type(value) is int:
            try:
                if float(value) == value:
                    return None
            except OverflowError:
                pass
            return f"found {describe(value)}, which no float is equal to"
        if self.code == "f" and type(value) is float:
            return _narrow(value)
        return super().wrong(value)

    def pack(self, values: Sequence[Any]) -> Buffers:
        packed = super().pack(values)
        if self.code == "f" and any(map(_narrow, values)):
            raise OverflowError
        return packed


def _narrow(value: float) -> str | None:
    if abs(value) <= 3.4028235677973366e38 or value != value or abs(value) == float("inf"):
        return None
    return f"found {value}, which does not fit into 32 bits"


class Bool(Kind):
    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        return unpack_bits(buffers[0], rows)

    def pack(self, values: Sequence[Any]) -> Buffers:
        return (pack_bits(values),)


def _offsets(lengths: Sequence[int]) -> array[int]:
    offsets = array(_INT32, [0])
    try:
        offsets.extend(accumulate(lengths))
    except OverflowError:
        raise OverflowError("the values of a column are longer than 2 GiB together") from None
    return offsets


class Text(Kind):
    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        offsets = memoryview(buffers[0]).cast(_INT32).tolist()
        content = buffers[1]
        if content.isascii():
            text = str(content, "ascii")
            return [text[start:end] for start, end in pairwise(offsets)]
        return [str(content[start:end], "utf-8") for start, end in pairwise(offsets)]

    def pack(self, values: Sequence[Any]) -> Buffers:
        text = "".join(values)
        if text.isascii():
            return _offsets(list(map(len, values))), text.encode("ascii")
        encoded = [value.encode("utf-8") for value in values]
        return _offsets(list(map(len, encoded))), b"".join(encoded)

    def wrong(self, value: Any) -> str | None:
        if type(value) is str:
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return f"found {describe(value)}, which has half of a surrogate pair"
        return super().wrong(value)


class Bytes(Kind):
    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        offsets = memoryview(buffers[0]).cast(_INT32).tolist()
        content = buffers[1]
        return [content[start:end] for start, end in pairwise(offsets)]

    def pack(self, values: Sequence[Any]) -> Buffers:
        return _offsets(list(map(len, values))), b"".join(values)


class Timestamp(Number):
    """Moments, in microseconds since 1970."""

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        moments = super().read(rows, *buffers)
        try:
            return [EPOCH + timedelta(0, 0, moment) for moment in moments]
        except OverflowError:
            return [_moment(moment) for moment in moments]

    def pack(self, values: Sequence[Any]) -> Buffers:
        return (array("q", [(value - EPOCH) // _MICROSECOND for value in values]),)

    def wrong(self, value: Any) -> str | None:
        if type(value) is datetime and value.tzinfo is None:
            return f"found {describe(value)}, which has no time zone: give it `tzinfo=UTC`"
        return super().wrong(value)


def _moment(moment: int) -> datetime | Unreadable:
    try:
        return EPOCH + timedelta(0, 0, moment)
    except OverflowError:
        return Unreadable(f"{moment} µs since 1970 is outside of the years 1 to 9999")


class Date(Number):
    """Days, since 1970."""

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        days = super().read(rows, *buffers)
        try:
            return [date.fromordinal(day + _EPOCH_ORDINAL) for day in days]
        except (ValueError, OverflowError):
            return [_day(day) for day in days]

    def pack(self, values: Sequence[Any]) -> Buffers:
        return (array(_INT32, [value.toordinal() - _EPOCH_ORDINAL for value in values]),)


def _day(day: int) -> date | Unreadable:
    try:
        return date.fromordinal(day + _EPOCH_ORDINAL)
    except (ValueError, OverflowError):
        return Unreadable(f"{day} days since 1970 is outside of the years 1 to 9999")


class Unreadable:
    """Stands for a value that Python cannot have; its row fails."""

    def __init__(self, message: str) -> None:
        self.message = message


class Many(Kind):
    """Lists of values of another type."""

    def __init__(self, tag: int, item: Kind) -> None:
        super().__init__(tag, f"list[{item.name}]", list, [])
        self.item = item

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        offsets = memoryview(buffers[0]).cast(_INT32).tolist()
        items = self.item.read(offsets[-1], *buffers[1:])
        return [items[start:end] for start, end in pairwise(offsets)]

    def pack(self, values: Sequence[Any]) -> Buffers:
        items = list(chain.from_iterable(values))
        if not fits(self.item, set(map(type, items))):
            raise TypeError
        return _offsets(list(map(len, values))), *self.item.pack(items)

    def wrong(self, value: Any) -> str | None:
        found = super().wrong(value)
        if found is None:
            for index, item in enumerate(value):
                found = self.item.wrong(item)
                if found is not None:
                    return f"item {index}: {found}"
        return found


class Vectors(Kind):
    """Lists of a fixed number of 32-bit numbers."""

    def __init__(self, dimension: int) -> None:
        super().__init__(VECTOR, f"vector({dimension})", list, [0.0] * dimension)
        self.dimension = dimension

    def read(self, rows: int, *buffers: bytes) -> list[Any]:
        values = self.view(rows, *buffers).tolist()
        width = self.dimension
        return [values[start : start + width] for start in range(0, len(values), width)]

    def view(self, rows: int, *buffers: bytes) -> Any:
        return memoryview(buffers[0]).cast("f")

    def pack(self, values: Sequence[Any]) -> Buffers:
        if set(map(len, values)) - {self.dimension}:
            raise TypeError
        items = list(chain.from_iterable(values))
        if not fits(FLOAT32_KIND, set(map(type, items))):
            raise TypeError
        return FLOAT32_KIND.pack(items)[0], self.dimension

    def wrong(self, value: Any) -> str | None:
        found = super().wrong(value)
        if found is None and len(value) != self.dimension:
            return f"found {len(value)} numbers, wanted {self.dimension}"
        if found is None:
            wrong = (FLOAT32_KIND.wrong(item) for item in value)
            return next((message for message in wrong if message), None)
        return found


INT_KIND = Int(INT64, "int", int, 0, "q")
FLOAT_KIND = Float(FLOAT64, "float", float, 0.0, "d")
FLOAT32_KIND = Float(FLOAT32, "wafer.float32", float, 0.0, "f")
TEXT_KIND = Text(UTF8, "str", str, "")

SCALARS: dict[type, Kind] = {
    bool: Bool(BOOLEAN, "bool", bool, False),
    int: INT_KIND,
    float: FLOAT_KIND,
    str: TEXT_KIND,
    bytes: Bytes(BINARY, "bytes", bytes, b""),
    datetime: Timestamp(TIMESTAMP, "datetime", datetime, EPOCH, "q"),
    date: Date(DATE, "date", date, EPOCH.date(), _INT32),
}
LISTS: dict[type, Kind] = {
    int: Many(LIST_INT64, INT_KIND),
    float: Many(LIST_FLOAT64, FLOAT_KIND),
    str: Many(LIST_UTF8, TEXT_KIND),
}


def fits(kind: Kind, types: set[type]) -> bool:
    """Returns whether values of these types can be packed without a look at each."""
    return not types or types == {kind.wanted}


def describe(value: Any) -> str:
    """Returns the type of a value and the value, cut."""
    try:
        text = repr(value)
    except Exception:
        text = "…"
    if len(text) > 60:
        text = text[:59] + "…"
    return f"{type(value).__name__} {text}" if value is not None else "None"


Wrong = Callable[[int, str], None]


def read_column(kind: Kind, rows: int, column: Buffers) -> list[Any]:
    """Returns the values of a column; None where there is none."""
    if column[0] != kind.tag:
        raise ValueError(f"wanted a column of {kind.name}")
    validity = column[1]
    if validity is None:
        return kind.read(rows, *column[2:])
    valid = unpack_bits(validity, rows)
    values = kind.read(rows, *column[2:])
    return [value if is_valid else None for value, is_valid in zip(values, valid, strict=True)]


def write_column(kind: Kind, nullable: bool, values: list[Any], wrong: Wrong) -> Buffers:
    """Returns a column of values. `wrong` is told the index of each that cannot be in it."""
    types = set(map(type, values))
    validity = None
    if nullable and type(None) in types:
        types.discard(type(None))
        validity = pack_bits([value is not None for value in values])
        values = [kind.zero if value is None else value for value in values]
    if fits(kind, types):
        try:
            return kind.tag, validity, *kind.pack(values)
        except (TypeError, ValueError, OverflowError):
            pass
    packed = []
    for index, value in enumerate(values):
        message = kind.wrong(value)
        if message is not None:
            wrong(index, message)
            value = kind.zero
        packed.append(value)
    return kind.tag, validity, *kind.pack(packed)
