"""Conditions, with the cases of the tests of the server's own."""

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
import wafer
from wafer.client.conditions import filtered, parsed

pa = pytest.importorskip("pyarrow")
FLOATS = [1.5, -0.0, math.nan, math.inf, None]
TEXTS = ["a", "", "a b", "it's", None]
TIMES = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), None]
TIME = pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("condition", "kind", "values", "wanted"),
    [
        ("v = 2", pa.int64(), [1, 2, 3, None], "0100"),
        ("v != 2", pa.int64(), [1, 2, 3, None], "1010"),
        ("v<2", pa.int64(), [1, 2, 3, None], "1000"),
        ("v<= 2", pa.int64(), [1, 2, 3, None], "1100"),
        (" v >2", pa.int64(), [1, 2, 3, None], "0010"),
        ("v>=2", pa.int64(), [1, 2, 3, None], "0110"),
        ("v = -9007199254740993", pa.int64(), [-9007199254740993, -9007199254740992], "10"),
        ("v = 2.0", pa.int64(), [2], "1"),
        ("v is null", pa.int64(), [1, None], "01"),
        ("v IS NOT NULL", pa.int64(), [1, None], "10"),
        ("v = 0", pa.float64(), FLOATS, "01000"),
        ("v = NaN", pa.float64(), FLOATS, "00100"),
        ("v != NaN", pa.float64(), FLOATS, "11010"),
        ("v < NaN", pa.float64(), FLOATS, "11010"),
        ("v <= NaN", pa.float64(), FLOATS, "11110"),
        ("v > NaN", pa.float64(), FLOATS, "00000"),
        ("v > 1.5", pa.float64(), FLOATS, "00110"),
        ("v < 1.5", pa.float32(), FLOATS, "01000"),
        ("v = 0.1", pa.float32(), [0.1], "1"),
        ("v = a", pa.string(), TEXTS, "10000"),
        ("v =", pa.string(), TEXTS, "01000"),
        ("v = ''", pa.string(), TEXTS, "01000"),
        ("v = 'a b'", pa.string(), TEXTS, "00100"),
        ("v = it's", pa.string(), TEXTS, "00010"),
        ("v > a", pa.string(), TEXTS, "00110"),
        ("v >= 2024-01-02T00:00:00Z", TIME, TIMES, "010"),
        ("v >= 2024-01-02", TIME, TIMES, "010"),
        ("v = 2024-01-02", pa.date32(), [date(2024, 1, 2), None], "10"),
        ("v = true", pa.bool_(), [True, False, None], "100"),
        ("v < true", pa.bool_(), [True, False, None], "010"),
        ("v = 00ff", pa.binary(), [b"\x00\xff", b"", None], "100"),
        ("v is not null", pa.list_(pa.int64()), [[1], None], "10"),
    ],
)
def test_conditions_hold_for_the_values_that_they_describe(
    condition: str, kind: Any, values: list[Any], wanted: str
) -> None:
    table = pa.table({"v": pa.array(values, kind), "n": list(range(len(values)))})
    kept = filtered(table, [parsed(condition)])["n"].to_pylist()
    assert "".join("1" if number in kept else "0" for number in range(len(values))) == wanted


@pytest.mark.parametrize("condition", ["", "v", "= 1", "is null", "v ! 1"])
def test_what_is_no_condition_is_refused(condition: str) -> None:
    with pytest.raises(wafer.Invalid, match="is not a condition"):
        parsed(condition)
