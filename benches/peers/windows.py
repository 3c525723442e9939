"""Sliding windows by Polars and DuckDB: for each event the count, sum and mean of its
entity's amounts over (t - 1 hour, t], 24 hours and 7 days.

windows.py bench DATA OUT            measures both, writes OUT/windows.json and OUT/windows.md
windows.py polars|duckdb DATA FILE   runs one of them
windows.py checksum FILE --prefix count_ sum_ mean_

DATA is what data.py wrote. The peers read and write Parquet (snappy).
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import measure

HOUR = 3_600_000_000
WIDTHS = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}


def polars(data: Path, out: Path, threads: int) -> None:
    """In memory, by rolling sums over each entity."""
    import polars as pl

    assert pl.thread_pool_size() == threads, "set POLARS_MAX_THREADS"
    features = []
    for name in WIDTHS:
        # Faster than `rolling` and `rolling_mean_by`, and the same bits.
        count, total = (
            pl.col(column).rolling_sum_by("event_timestamp", window_size=name, closed="right").over("entity_id")
            for column in ("one", "amount")
        )
        features += [count.alias(f"count_{name}"), total.alias(f"sum_{name}"), (total / count).alias(f"mean_{name}")]
    events = pl.scan_parquet(data / "events.parquet").with_columns(one=pl.lit(1.0))
    rolled = events.select("entity_id", "event_timestamp", *features)
    rolled.collect().write_parquet(out, compression="snappy")


def duckdb(data: Path, out: Path, threads: int) -> None:
    """By RANGE windows over whole microseconds."""
    import duckdb

    # The start of a RANGE is in it.
    windows = ", ".join(
        f"w_{name} AS (PARTITION BY entity_id ORDER BY t RANGE BETWEEN {width - 1} PRECEDING AND CURRENT ROW)"
        for name, width in WIDTHS.items()
    )
    features = ", ".join(
        f"""count(*) OVER w_{name} AS count_{name}, sum(amount) OVER w_{name} AS sum_{name},
            avg(amount) OVER w_{name} AS mean_{name}"""
        for name in WIDTHS
    )
    database = duckdb.connect()
    database.execute(f"SET threads = {threads}; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    database.execute(
        f"""COPY (SELECT entity_id, event_timestamp, {features}
                  FROM (SELECT *, epoch_us(event_timestamp) AS t FROM '{data / 'events.parquet'}')
                  WINDOW {windows})
            TO '{out}' (FORMAT parquet, COMPRESSION snappy)"""
    )


if __name__ == "__main__":
    measure.command_line(__doc__, {"polars": polars, "duckdb": duckdb}, ["entity_id", "event_timestamp"])
