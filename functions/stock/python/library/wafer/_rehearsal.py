"""Makes and calls functions when the component is built, so that all others need to write to fewer
pages of memory: Python rewrites code that runs for the first times, and fills caches.
"""

from __future__ import annotations

import typing
from datetime import UTC, date, datetime

from . import _guest, _kinds
from ._kinds import Buffers, Kind, write_column

ROUNDS = 3
FILE = "rehearsal.py"
CODE = b"""
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
import math
from typing import Annotated

import wafer

@dataclass
class In:
    a: float
    '''The first.'''
    b: int | None
    c: str
    d: datetime
    e: date
    f: Annotated[bool, "The last."]

@dataclass
class Out:
    a: float
    '''The first.'''
    b: int | None = None
    c: str | None = None
    d: datetime | None = None
    e: date | None = None
    f: bool = field(default=False)

@dataclass
class Settings:
    name: str = "none"

def load(assets, settings: Settings):
    return settings.name

@wafer.function
def one(row: In) -> Out:
    '''Returns a row.'''
    return Out(row.a + math.sqrt(row.a), row.b, row.c, row.d + timedelta(hours=1), row.e, row.f)

@wafer.function(init=load)
def some(row: In, name: str) -> Out | None:
    return Out(row.a) if row.b is None else None

@wafer.function
def many(row: In) -> list[Out]:
    return [Out(row.a), Out(1.0)]

@wafer.function(columns=True)
def columns(rows: wafer.Columns[In]) -> wafer.Columns[Out]:
    return wafer.Columns(a=rows.a, b=rows.b, c=rows.c, d=rows.d, e=rows.e, f=rows.f)
"""
FUNCTIONS = ("one", "some", "many", "columns")
VALUES: dict[type, list[object]] = {
    float: [1.0, 2.0],
    int: [1, None],
    str: ["a", "b"],
    datetime: [datetime(2026, 1, 2, tzinfo=UTC)] * 2,
    date: [date(2026, 1, 2)] * 2,
    bool: [True, False],
}


def rehearse() -> None:
    """Runs each kind of function as the host would."""
    batch = [_column(_kinds.SCALARS[kind], values) for kind, values in VALUES.items()]
    for _ in range(ROUNDS):
        _round(batch)
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()


def _round(batch: list[Buffers]) -> None:
    for function in FUNCTIONS:
        _guest.load(_guest.CODE, CODE, 1)
        _guest.make({_guest.FILE: FILE, _guest.FUNCTION: function})
        _guest.describe()
        answer = _guest.call(2, batch)
        if len(answer) != 4 or answer[3]:
            raise RuntimeError(f"the rehearsal of {function} failed: {answer}")
        _guest.forget()


def _column(kind: Kind, values: list[object]) -> Buffers:
    """Returns a column as the host passes it."""
    tag, validity, *buffers = write_column(kind, True, values, _never)
    copies = [bytes(memoryview(buffer)) for buffer in buffers]
    return tag, validity, *copies


def _never(index: int, message: str) -> None:
    raise ValueError(message)
