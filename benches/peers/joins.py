"""Point-in-time joins by Polars and DuckDB: labels with every feature table, the
newest row of the entity that is not after the label nor more than 7 days before it.

joins.py bench DATA OUT            measures both, writes OUT/joins.json and OUT/joins.md
joins.py polars|duckdb DATA FILE   runs one of them
joins.py checksum FILE --prefix group_

DATA is what data.py wrote. The peers read and write Parquet (snappy). They are free
to leave the labels in another order than they were in.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import measure

TTL_DAYS = 7


def polars(data: Path, out: Path, threads: int) -> None:
    """In memory, by `join_asof`."""
    import polars as pl

    assert pl.thread_pool_size() == threads, "set POLARS_MAX_THREADS"
    joined = pl.scan_parquet(data / "labels.parquet").sort("event_timestamp")
    for path in tables(data):
        features = pl.scan_parquet(path).set_sorted("event_timestamp")
        names = {f"f{index}": f"{path.stem}_f{index}" for index in range(5)}
        joined = joined.join_asof(
            features.rename(names),
            on="event_timestamp",
            by="entity_id",
            strategy="backward",
            tolerance=f"{TTL_DAYS}d",
            check_sortedness=False,
        )
    joined.collect().write_parquet(out, compression="snappy")


def duckdb(data: Path, out: Path, threads: int) -> None:
    """By `ASOF JOIN`."""
    import duckdb

    joins, features = [], []
    for path in tables(data):
        name = path.stem
        joins.append(
            f"""ASOF LEFT JOIN '{path}' {name} ON l.entity_id = {name}.entity_id
                AND l.event_timestamp >= {name}.event_timestamp"""
        )
        good = f"epoch_us({name}.event_timestamp) >= epoch_us(l.event_timestamp) - {TTL_DAYS * 86_400_000_000}"
        features += [f"CASE WHEN {good} THEN {name}.f{index} END AS {name}_f{index}" for index in range(5)]
    database = duckdb.connect()
    database.execute(f"SET threads = {threads}; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    database.execute(
        f"""COPY (SELECT l.*, {', '.join(features)} FROM '{data / 'labels.parquet'}' l {' '.join(joins)})
            TO '{out}' (FORMAT parquet, COMPRESSION snappy)"""
    )


def tables(data: Path) -> list[Path]:
    return sorted(data.glob("group_*.parquet"))


if __name__ == "__main__":
    measure.command_line(__doc__, {"polars": polars, "duckdb": duckdb}, ["label_id"])
