"""Seeded data for side-by-side numbers: labels, feature tables, events.

OUT/group_N.parquet  entity_id, event_timestamp (whole seconds over 90 days), f0..f4;
                     unique (entity, time), in time order
OUT/labels.parquet   label_id, entity_id, event_timestamp (days 7 to 90, any order), label
OUT/events.parquet   entity_id, event_timestamp (microseconds over 30 days), amount (whole
                     numbers, whose sums are exact), in time order

100,000 entities, the n-th most frequent 1/n as often as the first. Snappy, row groups
of 131,072 rows, written in pieces so that any size fits in memory.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SECOND = 1_000_000
DAY = 86_400 * SECOND
# 2024-01-01T00:00:00Z
START = 19_723 * DAY
ENTITIES = 100_000
FEATURES = 5
ROW_GROUP = 131_072
PIECE = 8 * ROW_GROUP

Rng = np.random.Generator


class Entities:
    """Draws entities by their popularity, of which their numbers say nothing."""

    def __init__(self, seed: int) -> None:
        shares = 1 / np.arange(1, ENTITIES + 1)
        self.ends = np.cumsum(shares / shares.sum())
        self.ids = np.random.default_rng(seed).permutation(ENTITIES)

    def draw(self, rng: Rng, n: int) -> np.ndarray:
        # The last end may be rounded to below 1.
        places = np.minimum(np.searchsorted(self.ends, rng.random(n)), ENTITIES - 1)
        return self.ids[places]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of each feature table")
    parser.add_argument("--groups", type=int, default=3, help="feature tables")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    entities = Entities(seed)
    for group in range(arguments.groups):
        rng = np.random.default_rng([seed, 1, group])
        write(out / f"group_{group}.parquet", features(rng, entities, arguments.rows))
    rng = np.random.default_rng([seed, 2])
    write(out / "labels.parquet", labels(rng, entities, arguments.labels))
    rng = np.random.default_rng([seed, 3])
    write(out / "events.parquet", events(rng, entities, arguments.events))


def write(path: Path, pieces: Iterator[pa.Table]) -> None:
    first = next(pieces)
    with pq.ParquetWriter(path, first.schema, compression="snappy") as writer:
        writer.write_table(first, row_group_size=ROW_GROUP)
        for piece in pieces:
            writer.write_table(piece, row_group_size=ROW_GROUP)
    rows = pq.read_metadata(path).num_rows
    print(f"{path}: {rows:,} rows, {path.stat().st_size / 2**20:,.1f} MiB")


def features(rng: Rng, entities: Entities, rows: int) -> Iterator[pa.Table]:
    for n, start, end in pieces(rows, 90 * DAY // SECOND):
        entity, second = unique(rng, entities, n, start, end)
        columns = {f"f{index}": rng.normal(size=n) for index in range(FEATURES)}
        yield table(entity, second * SECOND, columns)


def unique(rng: Rng, entities: Entities, n: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of entity and second, none twice, in the order of time."""
    pairs = np.empty(0, np.int64)
    while len(pairs) < n:
        more = n - len(pairs) + 1_000
        second = rng.integers(start, end, size=more)
        pairs = np.union1d(pairs, second * ENTITIES + entities.draw(rng, more))
    pairs = np.sort(rng.choice(pairs, size=n, replace=False))
    return pairs % ENTITIES, pairs // ENTITIES


def events(rng: Rng, entities: Entities, rows: int) -> Iterator[pa.Table]:
    for n, start, end in pieces(rows, 30 * DAY):
        time = np.sort(rng.integers(start, end, size=n))
        amount = rng.integers(0, 1_000, size=n).astype(np.float64)
        yield table(entities.draw(rng, n), time, {"amount": amount})


def labels(rng: Rng, entities: Entities, rows: int) -> Iterator[pa.Table]:
    first = 0
    for n, _, _ in pieces(rows, rows):
        time = rng.integers(7 * DAY // SECOND, 90 * DAY // SECOND, size=n) * SECOND
        label = rng.integers(0, 2, size=n).astype(np.float64)
        columns = table(entities.draw(rng, n), time, {"label": label})
        yield columns.add_column(0, "label_id", pa.array(np.arange(first, first + n)))
        first += n


def pieces(rows: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Cuts rows into pieces, each with its part of a length of time."""
    for first in range(0, rows, PIECE):
        last = min(first + PIECE, rows)
        yield last - first, first * length // rows, last * length // rows


def table(entity: np.ndarray, time: np.ndarray, columns: dict[str, np.ndarray]) -> pa.Table:
    stamps = pa.array(START + time).cast(pa.timestamp("us", "UTC"))
    return pa.table({"entity_id": entity, "event_timestamp": stamps} | columns)


if __name__ == "__main__":
    main()
