"""Data that is awkward on purpose: skew, gaps, ties, edges, nulls, extremes.

events.parquet  key_a, key_b, happened_at, visible, small, amount, wild, label_text, id;
                many events of one key at one time
facts.parquet   key_a, key_b, happened_at, value, score; one fact of a key at a time
labels.parquet  key_a, key_b, event_timestamp, label, row; `row` rises in the order
                in which labels were made, the file is shuffled
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# 2024-01-01T00:00:00Z
START = 19_723 * DAY
DAYS = 100
# Spans of days after START with events. There are weeks without events between them. The last span is
# around the epoch, where times change their sign.
ACTIVE = [(0, 9), (30, 33), (33, 46), (75, DAYS), (-19_724, -19_721)]
ACTIVE_SHARE = [0.3, 0.2, 0.2, 0.28, 0.02]
HOPS = [5 * MINUTE, HOUR, DAY]
# The times between an event and a label that lies on the edge of a window, of the available time or of
# the time to live.
OFFSETS = [MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 13 * HOUR, DAY, 7 * DAY, 12 * DAY]
NAMES = ["", "a", "b", "ä", "鍵", "a b", "x" * 40, "NULL", "0", "A"]
NUMBERS = [0, 1, -1, 7, 2**53 + 1, 2**63 - 1, -(2**63)]
EXTREMES = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
TEXTS = ["", "red", "green", "blue", "Blue", "grün", "青", "a,b", 'quote"', "line\nbreak"]
# The key whose floats may be infinite or NaN.
SPECIAL = (3, 2)

Rng = np.random.Generator
Keys = tuple[np.ndarray, np.ndarray]


def write(folder: Path, seed: int, events: int, facts: int, labels: int) -> None:
    """Writes FOLDER/data. The same seed and sizes give the same rows."""
    rng = np.random.default_rng(seed)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    event_keys, event_times = keys(rng, events), times(rng, events)
    fact_keys, fact_times = unique(keys(rng, facts), times(rng, facts))
    tables = {
        "events": event_table(rng, event_keys, event_times),
        "facts": fact_table(rng, fact_keys, fact_times),
        "labels": label_table(rng, labels, [(event_keys, event_times), (fact_keys, fact_times)]),
    }
    for name, table in tables.items():
        pq.write_table(table, data / f"{name}.parquet", row_group_size=4_096)
        print(f"{data / name}.parquet: {table.num_rows:,} rows")


def keys(rng: Rng, n: int) -> Keys:
    """Returns indices of NAMES and NUMBERS; -1 means null. A third of them is one key."""
    a, b = rng.integers(len(NAMES), size=n), rng.integers(len(NUMBERS), size=n)
    hot = rng.random(n) < 1 / 3
    a[hot], b[hot] = 1, 1
    a[rng.random(n) < 0.01], b[rng.random(n) < 0.01] = -1, -1
    return a, b


def times(rng: Rng, n: int) -> np.ndarray:
    """Returns times in microseconds: a tenth at and beside the edges of hops, and some equal ones."""
    first, last = np.array(ACTIVE).T[:, rng.choice(len(ACTIVE), size=n, p=ACTIVE_SHARE)]
    time = START + first * DAY + (rng.random(n) * (last - first) * DAY).astype(np.int64)
    time = np.where(rng.random(n) < 0.3, time // SECOND * SECOND, time)
    edge = on_edges(rng, time)
    time = np.where(rng.random(n) < 0.1, edge, time)
    again = rng.random(n) < 0.05
    time[again] = rng.choice(time, size=again.sum())
    return time


def on_edges(rng: Rng, time: np.ndarray) -> np.ndarray:
    hop = rng.choice(HOPS, size=len(time))
    return time // hop * hop + rng.integers(-1, 2, size=len(time))


def unique(key: Keys, time: np.ndarray) -> tuple[Keys, np.ndarray]:
    """Returns the first fact of each key and time, nulls included."""
    _, first = np.unique(np.stack([*key, time]), axis=1, return_index=True)
    first.sort()
    return (key[0][first], key[1][first]), time[first]


def event_table(rng: Rng, key: Keys, time: np.ndarray) -> pa.Table:
    n = len(time)
    small = rng.integers(-50, 50, size=n)
    small = np.where(rng.random(n) < 0.04, rng.choice(EXTREMES, size=n), small)
    amount = rng.lognormal(0, 3, size=n) * rng.choice([1, -1], size=n, p=[0.8, 0.2])
    amount = np.where(rng.random(n) < 0.2, rng.choice([0.0, 0.1, 0.2, 1e6, 1e-6], size=n), amount)
    wild = rng.choice([1.0, -1.0], size=n) * 10.0 ** rng.uniform(-300, 300, size=n)
    special = (key[0] == SPECIAL[0]) & (key[1] == SPECIAL[1]) & (rng.random(n) < 0.05)
    wild = np.where(special, rng.choice([np.nan, np.inf, -np.inf], size=n), wild)
    text = rng.choice(TEXTS, size=n)
    return pa.table(
        key_columns(key)
        | {
            "happened_at": timestamps(time),
            "visible": timestamps(time + rng.integers(0, HOUR, size=n)),
            "small": nullable(rng, small, 0.1),
            "amount": nullable(rng, amount, 0.1),
            "wild": nullable(rng, wild, 0.1),
            "label_text": nullable(rng, text, 0.2),
            "id": pa.array(rng.permutation(n)),
        }
    )


def fact_table(rng: Rng, key: Keys, time: np.ndarray) -> pa.Table:
    n = len(time)
    score = nullable(rng, rng.normal(size=n), 0.2)
    columns = {"happened_at": timestamps(time), "value": pa.array(rng.permutation(n)), "score": score}
    return pa.table(key_columns(key) | columns)


def label_table(rng: Rng, n: int, histories: list[tuple[Keys, np.ndarray]]) -> pa.Table:
    """Returns labels around the rows of both histories: at their times, beside them, a window after
    them, or at any time; with the same key, with another, or with an unknown one."""
    a, b, time = (np.concatenate(part) for part in zip(*((k[0], k[1], t) for k, t in histories)))
    picked = rng.integers(len(time), size=n)
    a, b, time = a[picked], b[picked], time[picked]
    beside = rng.integers(-1, 2, size=n)
    random = START + (rng.uniform(-5, DAYS + 20, size=n) * DAY).astype(np.int64)
    kinds = [time, time + beside, time + rng.choice(OFFSETS, size=n) + beside, on_edges(rng, random), random]
    time = np.choose(rng.choice(len(kinds), size=n, p=[0.15, 0.1, 0.35, 0.1, 0.3]), kinds)
    other = rng.random(n) < 0.2
    a[other], b[other] = (part[other] for part in keys(rng, n))
    a[rng.random(n) < 0.02] = len(NAMES)
    again = rng.random(n) < 0.05
    source = rng.integers(n, size=again.sum())
    label = rng.random(n)
    for column in (a, b, time, label):
        column[again] = column[source]
    table = pa.table(
        key_columns((a, b))
        | {"event_timestamp": timestamps(time), "label": pa.array(label), "row": pa.array(np.arange(n))}
    )
    return table.take(rng.permutation(n))


def key_columns(key: Keys) -> dict[str, pa.Array]:
    a, b = key
    # The index after the last of NAMES is a key that no row has.
    texts, numbers = np.array([*NAMES, "nobody"], dtype=object), np.array(NUMBERS)
    return {
        "key_a": pa.array(texts[a], pa.utf8(), mask=a < 0),
        "key_b": pa.array(numbers[b], pa.int64(), mask=b < 0),
    }


def timestamps(micros: np.ndarray) -> pa.Array:
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))


def nullable(rng: Rng, values: np.ndarray, share: float) -> pa.Array:
    return pa.array(values, mask=rng.random(len(values)) < share)
