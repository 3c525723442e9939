"""Checks the flights project's training set with DuckDB: flights.py PROJECT RESULT.

What was known of planes and weather by ASOF joins, counts and means of windows by
running totals at both ends of each window, over the Parquet files of the offline
tables. Every value must be equal; prints how many were compared. Rows of a plane that
landed twice at one instant, as one did, are left out: SQL does not say which is newer.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import duckdb

import tables

DAY = 86_400_000_000
# The width of each window, and the hop that its start is rounded down to.
WINDOWS = {"1d": (DAY, DAY // 24), "7d": (7 * DAY, DAY // 24), "30d": (30 * DAY, DAY)}
# Groups with windows: alias, table, join keys of the table and of the labels, column.
DELAYS = [
    ("route", "route_delays_v1", {"origin": "origin", "dest": "dest"}, "arr_delay_minutes"),
    ("airline", "carrier_delays_v1", {"carrier": "carrier"}, "arr_delay_minutes"),
    ("departures", "origin_delays_v1", {"origin": "origin"}, "dep_delay_minutes"),
    ("recent", "plane_delays_v1", {"tailnum": "tailnum"}, "arr_delay_minutes"),
]
# Groups with the newest row: alias, table, join keys, features, time to live in days.
NEWEST = [
    ("plane", "plane_outcome_v1", {"tailnum": "tailnum"}, ["arr_delay_minutes", "departed_at"], 30),
    ("weather", "airport_weather_v1", {"faa": "origin"}, ["temperature_c", "visibility_km"], 0.25),
]


def main() -> int:
    project, result = Path(sys.argv[1]), Path(sys.argv[2])
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.execute(
        f"""CREATE TABLE labels AS SELECT *, epoch_us(scheduled_departure) AS t,
            row_number() OVER () AS number FROM read_parquet('{result}')"""
    )
    values = wrong = 0
    for alias, table, keys, column in DELAYS:
        load(database, project, table)
        for window, (width, hop) in WINDOWS.items():
            compared, differing = window_of(database, table, keys, column, alias, window, width, hop)
            values, wrong = values + compared, wrong + differing
    for alias, table, keys, features, days in NEWEST:
        load(database, project, table)
        for feature in features:
            compared, differing = newest(database, table, keys, alias, feature, int(days * DAY))
            values, wrong = values + compared, wrong + differing
    print(f"{values} values compared, {wrong} differ")
    return 1 if wrong or not values else 0


def load(database: duckdb.DuckDBPyConnection, project: Path, table: str) -> None:
    files = [str(path) for path in tables.live_files(project / ".wafer/offline" / table)]
    database.execute(
        f"""CREATE OR REPLACE TABLE {table} AS SELECT *, epoch_us(event_timestamp) AS e
            FROM read_parquet({files})"""
    )
    late = f"SELECT count(*) FROM {table} WHERE available_timestamp > event_timestamp"
    assert database.execute(late).fetchone() == (0,), "the SQL takes rows to be visible at once"


def matching(keys: dict[str, str], left: str) -> str:
    return " AND ".join(f"{left}.{label} = r.{own}" for own, label in keys.items())


def window_of(database, table, keys, column, alias, window, width, hop) -> tuple[int, int]:
    own = ", ".join(keys)
    database.execute(
        f"""CREATE OR REPLACE TABLE totals AS SELECT DISTINCT {own}, e,
            count({column}) OVER w AS n, sum({column}) OVER w AS s FROM {table}
            WINDOW w AS (PARTITION BY {own} ORDER BY e RANGE UNBOUNDED PRECEDING)"""
    )
    database.execute(
        f"""CREATE OR REPLACE TABLE bounds AS SELECT *,
            (CAST(floor((t - {width})::DOUBLE / {hop}) AS BIGINT)) * {hop} AS start FROM labels"""
    )
    database.execute(
        f"""CREATE OR REPLACE TABLE counted AS
            SELECT l.*, r.n AS n1, r.s AS s1 FROM bounds l
            ASOF LEFT JOIN totals r ON {matching(keys, 'l')} AND l.t >= r.e"""
    )
    count, mean = f"{alias}_{column}_count_{window}", f"{alias}_{column}_mean_{window}"
    return database.execute(
        f"""WITH ends AS (
              SELECT l.*, n1 - coalesce(r.n, 0) AS n, s1 - coalesce(r.s, 0) AS s FROM counted l
              ASOF LEFT JOIN totals r ON {matching(keys, 'l')} AND l.start >= r.e),
            wanted AS (SELECT *, CASE WHEN n > 0 THEN CAST(s AS DOUBLE) / n END AS m FROM ends)
            SELECT 2 * count(*), count(*) FILTER (
              {count} IS DISTINCT FROM n OR {mean} IS DISTINCT FROM m) FROM wanted"""
    ).fetchone()


def newest(database, table, keys, alias, feature, ttl) -> tuple[int, int]:
    own = ", ".join(keys)
    return database.execute(
        f"""WITH single AS (
              SELECT {own}, e, any_value({feature}) AS {feature}, count(*) > 1 AS tied
              FROM {table} GROUP BY {own}, e),
            wanted AS (
              SELECT l.{alias}_{feature} AS found, CASE WHEN r.e >= l.t - {ttl} THEN r.{feature} END AS w, tied
              FROM labels l ASOF LEFT JOIN single r ON {matching(keys, 'l')} AND l.t >= r.e)
            SELECT count(*), count(*) FILTER (found IS DISTINCT FROM w) FROM wanted
            WHERE NOT coalesce(tied, false)"""
    ).fetchone()


if __name__ == "__main__":
    sys.exit(main())
