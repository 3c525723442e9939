"""Values from Python to JSON and back."""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import wafer
from wafer.client.values import argument_time, decoded, encoded_row

BERLIN = timezone(timedelta(hours=1))


def encoded(value: Any) -> Any:
    return json.loads(encoded_row({"a": value}, 0))["a"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (9007199254740993, 9007199254740993),
        (0.1, 0.1),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ("é\u2028", "é\u2028"),
        (b"\x00\xff", "00ff"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 1, tzinfo=BERLIN), "2024-01-02T00:00:00Z"),
        (datetime(2024, 1, 2, 0, 0, 0, 5, tzinfo=UTC), "2024-01-02T00:00:00.000005Z"),
        # The server decides whether a time without a zone has one.
        (datetime(2024, 1, 2), "2024-01-02T00:00:00"),
        ([1, None, [math.nan]], [1, None, ["NaN"]]),
        ({"b": (1, 2)}, {"b": [1, 2]}),
    ],
)
def test_values_are_kept_exactly(value: Any, wanted: Any) -> None:
    assert encoded(value) == wanted
    assert type(encoded(value)) is type(wanted)


def test_values_of_numpy_and_pandas_are_those_of_python() -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    assert encoded(np.int64(2**62 + 1)) == 2**62 + 1
    assert encoded(np.float32(0.1)) == float(np.float32(0.1))
    assert encoded(np.bool_(True)) is True
    assert encoded(np.array([1, 2])) == [1, 2]
    assert encoded(pd.NaT) is None
    assert encoded(pd.NA) is None
    assert encoded(pd.Timestamp("2024-01-02T00:00:00Z")) == "2024-01-02T00:00:00Z"
    with pytest.raises(wafer.Invalid, match="digits beyond microseconds"):
        encoded(pd.Timestamp("2024-01-02T00:00:00.000000001Z"))


@pytest.mark.parametrize("value", [Decimal("0.1"), timedelta(1), 1j, object(), {1, 2}])
def test_values_without_an_exact_form_are_refused_with_row_and_field(value: Any) -> None:
    with pytest.raises(wafer.Invalid, match="row 7: field `a` is of the type") as raised:
        encoded_row({"a": value}, 7)
    assert raised.value.row == 7


def test_rows_that_are_no_json_are_refused() -> None:
    nested: list[Any] = []
    nested.append(nested)
    for row in [{"a": "\ud800"}, {"a": nested}, {1: 2}]:
        with pytest.raises(wafer.Invalid, match="row 7"):
            encoded_row(row, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("int64", [2**63 - 1, None], [2**63 - 1, None]),
        ("float64", [1, "-Infinity", None], [1.0, -math.inf, None]),
        ("boolean", [True], [True]),
        ("utf8", ["NaN"], ["NaN"]),
        ("binary", ["00ff"], [b"\x00\xff"]),
        ("date", ["2024-01-02"], [date(2024, 1, 2)]),
        ("timestamp", ["2024-01-02T00:00:00Z"], [datetime(2024, 1, 2, tzinfo=UTC)]),
        ("vector(2)", [[1, 2.5], None], [[1.0, 2.5], None]),
        ("list<utf8>", [["a"], []], [["a"], []]),
        ("of_a_later_version", [{"a": 1}], [{"a": 1}]),
    ],
)
def test_values_of_answers_are_those_of_their_type(
    kind: str, values: list[Any], wanted: list[Any]
) -> None:
    found = decoded(kind, values)
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]


def test_nan_of_an_answer_is_not_null() -> None:
    nan, null = decoded("float64", ["NaN", None])
    assert math.isnan(nan) and null is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int64", 1.5), ("int64", True), ("float64", "x"), ("utf8", 1), ("timestamp", "2024-01-02")],
)
def test_values_of_another_type_are_no_values(kind: str, value: Any) -> None:
    with pytest.raises(ValueError):
        decoded(kind, [value])


def test_times_of_arguments_have_a_zone_or_are_dates() -> None:
    assert argument_time("2024-01-02", "start") == "2024-01-02"
    assert argument_time(date(2024, 1, 2), "start") == "2024-01-02"
    assert argument_time(datetime(2024, 1, 2, tzinfo=UTC), "start") == "2024-01-02T00:00:00Z"
    with pytest.raises(wafer.Invalid, match="`start` names no time zone"):
        argument_time(datetime(2024, 1, 2), "start")
