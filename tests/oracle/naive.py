"""The test of the oracle itself. A loop over tiny data makes a training set directly from the rules.
It must pass the check, and the check must fail when one value of any feature is changed."""

import contextlib
import io
import json
import math
import random
import statistics
import tempfile
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import compare
import generate
from expected import FUNCTIONS, TEXT_FUNCTIONS, WILD_FUNCTIONS, Group, Plan, spans

Row = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KEYS = ["key_a", "key_b"]
SPANS = "20m,2h,3h-exact,13h,12d,lifetime"
OF_COLUMN = {"small": FUNCTIONS, "amount": FUNCTIONS, "wild": WILD_FUNCTIONS, "label_text": TEXT_FUNCTIONS}


def self_test(seeds: int) -> int:
    """Prints the results. Returns 1 if the SQL and the loop differ."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            wrong = one(Path(folder), seed)
        print(f"seed {seed}: {wrong or 'the SQL and the loop agree, and every change is found'}")
        if wrong:
            return 1
    return 0


def one(folder: Path, seed: int) -> str | None:
    rng = random.Random(seed)
    quietly(lambda: generate.write(folder, seed, events=400, facts=300, labels=150))
    # Rows become visible after a common delay, or each after its own.
    late = (lambda: timedelta(minutes=10)) if seed % 2 else (lambda: rng.choice([timedelta(), HOUR / 3, 5 * DAY]))
    facts, events = (table(folder, name, late) for name in ("facts", "events"))
    labels = pq.read_table(folder / "data" / "labels.parquet")
    plan = Plan(
        [Group("fact", "facts_v1", None), Group("good", "facts_v1", 1_800_000_000)],
        [Group("win", "events_v1", None), Group("good_win", "events_v1", 86_400_000_000)],
        list(OF_COLUMN),
        spans(SPANS),
        list(FUNCTIONS),
    )
    result = labels
    for alias, ttl in (("fact", None), ("good", HOUR / 2)):
        rows = [latest(facts, label, ttl) for label in labels.to_pylist()]
        for name, kind in (("value", pa.int64()), ("score", pa.float64())):
            result = result.append_column(f"{alias}_{name}", pa.array([row.get(name) for row in rows], kind))
    for alias, ttl in (("win", None), ("good_win", DAY)):
        features = [window_features(alias, events, label, ttl) for label in labels.to_pylist()]
        for name, kind in window_types(alias).items():
            result = result.append_column(name, pa.array([row.get(name) for row in features], kind))
    code, text = check(folder, result, plan)
    if code:
        return f"the SQL and the loop differ\n{text}"
    features = result.column_names[labels.num_columns :]
    for name in features:
        result = result.set_column(result.column_names.index(name), name, change(rng, result[name]))
    _, text = check(folder, result, plan)
    found = {line.split()[0] for line in text.splitlines() if line.endswith(" DIFFER")}
    missed = [name for name in features if name not in found]
    return f"changes were not found in {missed}\n{text}" if missed else None


def table(folder: Path, name: str, late: Any) -> list[Row]:
    """Writes an offline table with one live file and one that was removed."""
    rows = []
    for source in pq.read_table(folder / "data" / f"{name}.parquet").to_pylist():
        if None in (source["key_a"], source["key_b"]):
            continue
        time = source.pop("happened_at")
        system = {
            "event_timestamp": time,
            "available_timestamp": time + late(),
            "created_timestamp": EPOCH,
            "event_id": str(source.get("id", source.get("value"))),
            "arrival_order": len(rows),
        }
        rows.append({key: source.pop(key) for key in KEYS} | system | source)
    # The order of the rows in a file does not matter, only their order of arrival.
    rng = random.Random(len(rows))
    rng.shuffle(rows)
    root = folder / ".wafer" / "offline" / f"{name}_v1"
    (root / "_delta_log").mkdir(parents=True)
    written = pa.Table.from_pylist(rows)
    pq.write_table(written, root / "old.parquet")
    pq.write_table(written, root / "a b.parquet")
    for version, actions in enumerate(
        [[{"add": {"path": "old.parquet"}}], [{"remove": {"path": "old.parquet"}}, {"add": {"path": "a%20b.parquet"}}]]
    ):
        text = "\n".join(json.dumps(action) for action in actions)
        (root / "_delta_log" / f"{version:020}.json").write_text(text)
    return rows


def known(rows: list[Row], label: Row) -> list[Row]:
    """Returns the rows of the label's entity that were visible at its time."""
    at = label["event_timestamp"]
    return [
        row
        for row in rows
        if all(row[key] == label[key] for key in KEYS)
        and row["event_timestamp"] <= at
        and row["available_timestamp"] <= at
    ]


def arrival(row: Row) -> tuple[datetime, int]:
    """Returns what orders the rows of an entity: all of them were created at one time."""
    return row["event_timestamp"], row["arrival_order"]


def latest(rows: list[Row], label: Row, ttl: timedelta | None) -> Row:
    seen = known(rows, label)
    newest = max(seen, key=arrival, default={})
    if newest and ttl is not None and newest["event_timestamp"] < label["event_timestamp"] - ttl:
        return {}
    return newest


def window_types(alias: str) -> dict[str, pa.DataType]:
    """Returns the names and types of the features, in any order."""
    kinds = {"small": pa.int64(), "label_text": pa.utf8()}
    types = {}
    for span in spans(SPANS):
        types[f"{alias}_count_{span.name}"] = pa.int64()
        for name, functions in OF_COLUMN.items():
            for function in functions:
                kind = kinds.get(name, pa.float64())
                if function in ("count", "count_distinct"):
                    kind = pa.int64()
                elif function in ("mean", "stddev", "variance"):
                    kind = pa.float64()
                types[f"{alias}_{name}_{function}_{span.name}"] = kind
    return types


def window_features(alias: str, rows: list[Row], label: Row, ttl: timedelta | None) -> Row:
    if not latest(rows, label, ttl):
        return {}
    at, seen = label["event_timestamp"], known(rows, label)
    features = {}
    for name, after in (
        ("20m", at - timedelta(minutes=20)),
        ("2h", floor(at - 2 * HOUR, HOUR / 12)),
        ("exact_3h", at - 3 * HOUR),
        ("13h", floor(at - 13 * HOUR, HOUR)),
        ("12d", floor(at - 12 * DAY, DAY)),
        ("lifetime", datetime.min.replace(tzinfo=UTC)),
    ):
        inside = [row for row in seen if row["event_timestamp"] > after]
        features[f"{alias}_count_{name}"] = len(inside)
        inside.sort(key=arrival)
        for column, functions in OF_COLUMN.items():
            values = [row[column] for row in inside if row[column] is not None]
            for function in functions:
                features[f"{alias}_{column}_{function}_{name}"] = aggregate(function, values)
    return features


def floor(time: datetime, hop: timedelta) -> datetime:
    return EPOCH + (time - EPOCH) // hop * hop


def aggregate(function: str, values: list[Any]) -> Any:
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len({"nan" if value != value else value for value in values})
    if not values or function in ("stddev", "variance") and len(values) < 2:
        return None
    if function in ("first", "last"):
        return values[0 if function == "first" else -1]
    odd = [value for value in values if isinstance(value, float) and not math.isfinite(value)]
    if function in ("min", "max"):
        # NaN is greater than all other values.
        return (min if function == "min" else max)(values, key=lambda value: (value != value, value))
    if odd:
        return sum(odd)
    if function == "sum" and isinstance(values[0], int):
        return sum(values) if -(2**63) <= sum(values) < 2**63 else None
    whole = [Fraction(value) for value in values]
    if function in ("sum", "mean"):
        return float(sum(whole)) / (len(values) if function == "mean" else 1)
    variance = statistics.variance(whole)
    return float(variance) if function == "variance" else math.sqrt(variance)


def change(rng: random.Random, column: pa.ChunkedArray) -> pa.Array:
    """Returns the column with one value changed slightly, or filled if it was null."""
    values = column.to_pylist()
    place = rng.choice([row for row, value in enumerate(values) if value is None or value == value])
    match values[place]:
        case None:
            values[place] = "x" if column.type == pa.utf8() else 12_345
        case float() as value:
            values[place] = math.nan if math.isinf(value) else value * (1 + 1e-11) + 1e-320
        case int() as value:
            values[place] = value - 1 if value > 0 else value + 1
        case text:
            values[place] = text + "!"
    return pa.array(values, column.type)


def check(folder: Path, result: pa.Table, plan: Plan) -> tuple[int, str]:
    pq.write_table(result, folder / "result.parquet")
    return quietly(lambda: compare.check(folder, folder / "result.parquet", plan))


def quietly(action: Any) -> tuple[Any, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        return action(), out.getvalue()
