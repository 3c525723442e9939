"""Tables and data frames."""

import math
import sys
import types
from datetime import UTC, datetime
from typing import Any

import pytest
import wafer
from wafer.client import frames

pa = pytest.importorskip("pyarrow")
BIG = 2**62 + 1


def table() -> Any:
    return pa.table(
        {
            "i": pa.array([BIG, None], pa.int64()),
            "f": pa.array([math.nan, None], pa.float64()),
            "g": pa.array([1.5, None], pa.float32()),
            "t": pa.array([datetime(2024, 1, 2, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "v": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "s": pa.array(["a", None]),
            "b": pa.array([True, None]),
        }
    )


def test_pandas_keeps_integers_and_tells_nan_from_null() -> None:
    pd = pytest.importorskip("pandas")
    frame = frames.to_pandas(table())
    assert frame["i"][0] == BIG and frame["i"][1] is pd.NA
    assert math.isnan(frame["f"][0]) and frame["f"][1] is pd.NA
    assert frame["g"].dtype == pd.Float32Dtype()
    assert frame["t"][0] == pd.Timestamp("2024-01-02T00:00:00Z")
    assert frame["b"].dtype == pd.BooleanDtype()
    # What came as a frame goes back as it was.
    back = frames.table_of(frame)
    assert repr(back.to_pylist()) == repr(table().to_pylist())
    assert back.schema.field("i").type == pa.int64() and back.schema.field("v").type == table()["v"].type
    assert frames.table_of(frame)["f"].null_count == 1
    empty = frames.to_pandas(table().slice(0, 0))
    assert list(empty.dtypes) == list(frame.dtypes)


def test_floats_of_numpy_in_pandas_have_nan_where_nothing_is() -> None:
    pd = pytest.importorskip("pandas")
    rows = list(frames.rows_of(pd.DataFrame({"f": [1.0, math.nan], "i": [BIG, 2]})))
    assert rows == [{"f": 1.0, "i": BIG}, {"f": None, "i": 2}]


def test_polars_keeps_all_of_it() -> None:
    pl = pytest.importorskip("polars")
    frame = frames.to_polars(table())
    assert frame["i"].to_list() == [BIG, None]
    assert math.isnan(frame["f"][0]) and frame["f"][1] is None
    assert frame.schema["t"] == pl.Datetime("us", "UTC")
    assert list(frames.rows_of(frame.select("i", "s"))) == [{"i": BIG, "s": "a"}, {"i": None, "s": None}]


def test_rows_are_mappings_tables_or_one_mapping() -> None:
    assert list(frames.rows_of({"a": 1})) == [{"a": 1}]
    assert list(frames.rows_of([{"a": 1}, {}])) == [{"a": 1}, {}]
    assert list(frames.rows_of(pa.table({"a": [1]}))) == [{"a": 1}]
    for wrong in ["abc", 5, [1]]:
        with pytest.raises(wafer.Invalid):
            list(frames.rows_of(wrong))


def test_times_of_tables_are_exact_or_refused() -> None:
    whole = pa.array([1_000], pa.timestamp("ns", "UTC"))
    assert list(frames.rows_of(pa.table({"t": whole})))[0]["t"].microsecond == 1
    with pytest.raises(wafer.Invalid, match="column `t`"):
        list(frames.rows_of(pa.table({"t": pa.array([1], pa.timestamp("ns", "UTC"))})))


def test_rows_of_mixed_types_are_no_table() -> None:
    with pytest.raises(wafer.Invalid, match="no table"):
        frames.table_of([{"a": 1}, {"a": "x"}])
    assert frames.table_of([{"a": BIG}, {"a": None}])["a"].to_pylist() == [BIG, None]


def test_tensors_have_no_nulls_and_name_what_they_cannot_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = types.ModuleType("torch")
    fake.from_numpy = lambda array: array  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    with pytest.raises(wafer.Invalid, match="column `i` has 1 nulls"):
        frames.to_torch(table(), None, None)
    filled = frames.to_torch(table().drop_columns(["v", "t"]), None, {"i": 0, "f": 0.5, "g": 1, "b": False})
    assert filled["i"].tolist() == [BIG, 0] and filled["f"].tolist()[1] == 0.5
    assert set(filled) == {"i", "f", "g", "b"}
    vectors = frames.to_torch(table().slice(0, 1), ["v", "t"], None)
    assert vectors["v"].shape == (1, 2) and vectors["t"].tolist() == [1704153600000000]
    with pytest.raises(wafer.Invalid, match="column `s` is string"):
        frames.to_torch(table(), ["s"], None)
    with pytest.raises(wafer.Invalid, match="no column `x`"):
        frames.to_torch(table(), ["x"], None)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="needs pyarrow, .* pip install pyarrow"):
        frames.table_of([{"a": 1}])
    # Rows that are mappings need no package.
    assert list(frames.rows_of([{"a": 1}])) == [{"a": 1}]
