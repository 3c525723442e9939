"""What a training set should hold, in SQL.

A plain group: the newest row whose event and available time are not after the
label's. A windowed group: aggregates over events with
floor_hop(T - width) < event <= T that were available at T.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from tables import live_files

SECOND = 1_000_000
UNITS = {"s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND}
# The least width of a window whose start is rounded down, and the hop that it is rounded to.
HOPS = [(12 * UNITS["d"], UNITS["d"]), (12 * UNITS["h"], UNITS["h"]), (UNITS["h"], 5 * UNITS["m"])]
FUNCTIONS = ("count", "sum", "mean", "min", "max", "stddev", "variance", "count_distinct", "first", "last")
# Functions whose results are rounded, except sums of int64.
ROUNDED = ("sum", "mean", "stddev", "variance")
# Functions of texts, and of the column whose magnitudes differ so much that squares and running sums
# of doubles are meaningless.
TEXT_FUNCTIONS = ("count", "count_distinct", "first", "last")
WILD, WILD_FUNCTIONS = "wild", tuple(f for f in FUNCTIONS if f not in ("stddev", "variance"))


@dataclass(frozen=True)
class Group:
    """A group of a view: the prefix of its features, its table, its time to live."""

    alias: str
    table: str
    ttl: int | None

    @classmethod
    def parse(cls, text: str) -> "Group":
        found = re.fullmatch(r"(\w+)=(\w+)(?:,(\d+))?", text)
        if not found:
            raise ValueError(text)
        alias, table, ttl = found.groups()
        return cls(alias, table, int(ttl) * SECOND if ttl else None)


@dataclass(frozen=True)
class Span:
    """A window: the suffix of its features' names, and its width and hop in microseconds."""

    name: str
    width: int | None
    hop: int


def spans(text: str) -> list[Span]:
    return [span(part) for part in text.split(",")]


def span(text: str) -> Span:
    if text == "lifetime":
        return Span(text, None, 1)
    found = re.fullmatch(r"((\d+)([smhd]))(-exact)?", text)
    if not found:
        raise ValueError(text)
    label, number, unit, exact = found.groups()
    width = int(number) * UNITS[unit]
    hop = next((hop for least, hop in HOPS if width >= least), 1)
    return Span(f"exact_{label}", width, 1) if exact else Span(label, width, hop)


@dataclass(frozen=True)
class Plan:
    """Everything that a training set should hold beside the label columns."""

    plain: list[Group]
    windows: list[Group]
    columns: list[str]
    spans: list[Span]
    functions: list[str]


@dataclass
class Feature:
    """The expected values of a feature, in the order of the labels."""

    name: str
    values: pa.Array
    # How values are compared: "bits" or "tolerance" for floats, "equal" for all others.
    rule: str
    # Computes the values at some positions again, without rounding. It works only until the oracle
    # continues with the next group.
    referee: Callable[[np.ndarray], dict[int, float]] | None = None


class Oracle:
    """The labels and tables of one project, in DuckDB."""

    def __init__(self, folder: Path, labels: pa.Table) -> None:
        self.folder = folder
        self.database = duckdb.connect()
        self.database.execute("SET TimeZone = 'UTC'; SET threads = 2; SET enable_progress_bar = false")
        self.rows = labels.num_rows
        self.database.register("raw_labels", labels.append_column("pos", pa.array(np.arange(self.rows))))
        self.database.execute(
            """CREATE TABLE labels AS
               SELECT * EXCLUDE (event_timestamp), epoch_us(event_timestamp) AS t FROM raw_labels"""
        )

    def load(self, group: Group) -> tuple[list[str], dict[str, str]]:
        """Makes the tables `rows` and `asked` of a group: its rows, and the labels with keys of its
        entities. Returns the key columns of the group, and its features with their types."""
        files = live_files(self.folder / ".wafer" / "offline" / group.table)
        paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        self.database.execute(
            f"""CREATE OR REPLACE TABLE rows AS
                SELECT * REPLACE (epoch_us(event_timestamp) AS event_timestamp,
                                  epoch_us(available_timestamp) AS available_timestamp,
                                  epoch_us(created_timestamp) AS created_timestamp)
                FROM read_parquet([{paths}])"""
        )
        description = self.database.execute("DESCRIBE rows").fetchall()
        types = {name: kind for name, kind, *_ in description}
        names = list(types)
        keys = names[: names.index("event_timestamp")]
        features = names[names.index("arrival_order") + 1 :]
        same = " AND ".join(f'l."{key}" = r."{key}"' for key in keys)
        by_key = ", ".join(f'"{key}"' for key in keys)
        # Entities and the order of rows become numbers, so that joins compare integers.
        self.database.execute(
            f"""CREATE OR REPLACE TABLE entities AS
                SELECT {by_key}, row_number() OVER () AS entity,
                       min(greatest(event_timestamp, available_timestamp)) AS known
                FROM rows GROUP BY ALL;
                CREATE OR REPLACE TABLE asked AS
                SELECT l.pos, l.t, r.entity, r.known <= l.t AS known FROM labels l JOIN entities r ON {same};
                CREATE OR REPLACE TABLE rows AS
                SELECT e.entity, r.*, row_number() OVER
                (ORDER BY event_timestamp, created_timestamp, arrival_order) AS age
                FROM rows r JOIN entities e USING ({by_key})"""
        )
        return keys, {name: types[name] for name in features}

    def plain(self, group: Group) -> list[Feature]:
        """Returns the features of the newest row that was known."""
        keys, features = self.load(group)
        picked = ", ".join(f'r."{name}"' for name in features)
        good = "true" if group.ttl is None else f"r.event_timestamp >= l.t - {group.ttl}"
        newest = """SELECT l.pos, any_value(l.t) AS t, max(r.age) AS age FROM asked l JOIN rows r
                    ON l.entity = r.entity AND r.event_timestamp <= l.t AND r.available_timestamp <= l.t
                    GROUP BY l.pos"""
        query = f"""SELECT {picked} FROM labels LEFT JOIN
                    (SELECT l.pos, {picked} FROM ({newest}) l JOIN rows r USING (age) WHERE {good}) r
                    USING (pos) ORDER BY pos"""
        found = self.database.sql(query).to_arrow_table().combine_chunks()
        self.second_opinion(group, keys, picked, found)
        return [picked_feature(f"{group.alias}_{name}", column(found, name)) for name in features]

    def second_opinion(self, group: Group, keys: list[str], picked: str, found: pa.Table) -> None:
        """Checks that DuckDB's ASOF JOIN agrees, if rows become visible in the order of their times."""
        [(delays, ties)] = self.database.execute(
            """SELECT count(DISTINCT available_timestamp - event_timestamp),
                      count(*) - count(DISTINCT (entity, event_timestamp)) FROM rows"""
        ).fetchall()
        if group.ttl is not None or delays != 1 or ties:
            print(f"{group.alias}: no ASOF JOIN beside it (a ttl, several delays, or ties)")
            return
        same = " AND ".join(f'l."{key}" = r."{key}"' for key in keys)
        again = self.database.sql(
            f"""SELECT {picked} FROM labels l ASOF LEFT JOIN rows r
                ON {same} AND l.t >= greatest(r.event_timestamp, r.available_timestamp) ORDER BY l.pos"""
        ).to_arrow_table().combine_chunks()
        if not again.equals(found):
            raise SystemExit(f"{group.alias}: the oracle contradicts itself: ASOF JOIN and max differ")
        print(f"{group.alias}: ASOF JOIN agrees")

    def windows(self, group: Group, plan: Plan) -> list[Feature]:
        """Returns the aggregates over every window."""
        _, features = self.load(group)
        columns = {name: features[name] for name in plan.columns}
        # Only labels of entities that were known have values. All others are null.
        self.database.execute(
            f"""CREATE OR REPLACE TABLE asked AS SELECT * FROM asked l WHERE known AND
                (SELECT max(r.event_timestamp) FROM rows r WHERE r.entity = l.entity
                 AND r.event_timestamp <= l.t AND r.available_timestamp <= l.t) >= l.t - {group.ttl}"""
            if group.ttl is not None
            else "DELETE FROM asked WHERE NOT known"
        )
        return [feature for span in plan.spans for feature in self.window(group, span, columns, plan.functions)]

    def window(self, group: Group, span: Span, columns: dict[str, str], functions: list[str]) -> list[Feature]:
        wanted = [
            (name, function, kind)
            for name, kind in columns.items()
            for function in functions
            if function in functions_of(name, kind)
        ]
        counts = {"count": "count(*)"} | {
            f"{c} {f}": sql(c, f, kind) for c, f, kind in wanted if (c, f) not in ((WILD, "sum"), (WILD, "mean"))
        }
        aggregates = ", ".join(f'{text} AS "{name}"' for name, text in counts.items())
        # Counts are zero in empty windows.
        empty = ", ".join(
            f'CASE WHEN l.pos IS NOT NULL THEN coalesce(w."{name}", 0) END AS "{name}"'
            if name.split()[-1] in ("count", "count_distinct")
            else f'w."{name}"'
            for name in counts
        )
        found = self.database.sql(
            f"""SELECT {empty} FROM labels LEFT JOIN asked l USING (pos) LEFT JOIN
                (SELECT l.pos, {aggregates} {covered(span)} GROUP BY l.pos) w ON w.pos = l.pos
                ORDER BY labels.pos"""
        ).to_arrow_table().combine_chunks()
        results = [picked_feature(f"{group.alias}_count_{span.name}", column(found, "count"))]
        wild = self.wild_sums(span) if WILD in columns else {}
        for c, f, kind in wanted:
            name = f"{group.alias}_{c}_{f}_{span.name}"
            if c == WILD and f in wild:
                feature = Feature(name, wild[f], "bits")
            elif f in ROUNDED and not (f == "sum" and kind == "BIGINT"):
                feature = Feature(name, column(found, f"{c} {f}"), "tolerance")
                feature.referee = lambda positions, c=c, f=f: self.exactly(span, c, f, positions)
            else:
                feature = picked_feature(name, column(found, f"{c} {f}"))
            results.append(feature)
        return results

    def values(self, span: Span, name: str, positions: np.ndarray | None = None) -> pa.Table:
        """Returns the values of a column in the windows of some labels, or of all."""
        some = ""
        if positions is not None:
            self.database.register("positions", pa.table({"pos": positions}))
            some = "AND l.pos IN (SELECT pos FROM positions)"
        return self.database.sql(
            f"""SELECT l.pos, list("{name}") AS list {covered(span)} AND "{name}" IS NOT NULL {some} GROUP BY l.pos"""
        ).to_arrow_table().combine_chunks()

    def wild_sums(self, span: Span) -> dict[str, pa.Array]:
        """Returns sums that are rounded once, and means, which are such a sum divided by the count."""
        found = self.values(span, WILD)
        sums, means = np.full(self.rows, np.nan), np.full(self.rows, np.nan)
        missing = np.ones(self.rows, dtype=bool)
        lists = column(found, "list")
        numbers, ends = lists.values.to_numpy(), lists.offsets.to_numpy()
        for pos, start, end in zip(column(found, "pos").to_pylist(), ends, ends[1:]):
            sums[pos] = float_sum(numbers[start:end])
            means[pos] = sums[pos] / (end - start)
            missing[pos] = False
        return {"sum": pa.array(sums, mask=missing), "mean": pa.array(means, mask=missing)}

    def exactly(self, span: Span, name: str, function: str, positions: np.ndarray) -> dict[int, float]:
        """Computes a function of a column in the windows of some labels, in rational numbers."""
        found = self.values(span, name, positions)
        lists = zip(column(found, "pos").to_pylist(), column(found, "list").to_pylist())
        return {pos: rational(function, values) for pos, values in lists if all(map(math.isfinite, values))}


def picked_feature(name: str, values: pa.Array) -> Feature:
    """Returns a feature whose values are counted or taken from rows, not computed."""
    return Feature(name, values, "bits" if pa.types.is_floating(values.type) else "equal")


def functions_of(name: str, kind: str) -> tuple[str, ...]:
    if name == WILD:
        return WILD_FUNCTIONS
    if kind not in ("BIGINT", "DOUBLE", "VARCHAR"):
        raise SystemExit(f"column `{name}` is {kind}; the oracle knows BIGINT, DOUBLE and VARCHAR")
    return TEXT_FUNCTIONS if kind == "VARCHAR" else FUNCTIONS


def covered(span: Span) -> str:
    """Returns the SQL that joins the labels `l` with the rows `r` in their windows."""
    start = ""
    if span.width is not None:
        # The operator // of DuckDB truncates, so that the non-negative remainder is subtracted.
        left = f"l.t - {span.width}"
        remainder = f"((({left}) % {span.hop}) + {span.hop}) % {span.hop}"
        start = f"AND r.event_timestamp > {left} - {remainder}"
    return f"""FROM asked l JOIN rows r ON l.entity = r.entity
               WHERE r.event_timestamp <= l.t AND r.available_timestamp <= l.t {start}"""


def sql(name: str, function: str, kind: str) -> str:
    """Returns the SQL of an aggregate over the rows of a window."""
    value = f'r."{name}"'
    kept = f"FILTER (WHERE {value} IS NOT NULL)"
    match function:
        case "count":
            return f"count({value})"
        case "sum" if kind == "BIGINT":
            # The sum is a HUGEINT, which does not overflow.
            whole = f"sum({value})"
            return f"CASE WHEN {whole} BETWEEN {-(2**63)}::HUGEINT AND {2**63 - 1} THEN {whole}::BIGINT END"
        case "sum":
            return f"fsum({value})"
        case "mean" if kind == "BIGINT":
            return f"sum({value})::DOUBLE / count({value})"
        case "mean":
            return f"favg({value})"
        case "min" | "max":
            return f"{function}({value})"
        case "stddev":
            return f"stddev_samp({value}::DOUBLE)"
        case "variance":
            return f"var_samp({value}::DOUBLE)"
        case "count_distinct":
            return f"count(DISTINCT {value})"
        case "first":
            return f"arg_min({value}, r.age) {kept}"
        case "last":
            return f"arg_max({value}, r.age) {kept}"
    raise SystemExit(f"`{function}` is not a function of the oracle; it knows {', '.join(FUNCTIONS)}")


def column(table: pa.Table, name: str) -> pa.Array:
    values = table[name]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def float_sum(values: np.ndarray) -> float:
    """Returns the sum of floats, rounded once. Infinities and NaN are added as in IEEE 754."""
    odd = values[~np.isfinite(values)]
    if len(odd):
        with np.errstate(invalid="ignore"):
            return float(odd.sum())
    return math.fsum(values.tolist())


def rational(function: str, values: list[float]) -> float:
    """Returns a function of numbers, rounded only at the end."""
    numbers = [Fraction(value) for value in values]
    total, n = sum(numbers), len(numbers)
    match function:
        case "sum":
            return float(total)
        case "mean":
            return float(total / n)
    variance = (sum(x * x for x in numbers) - total * total / n) / (n - 1)
    return float(variance) if function == "variance" else math.sqrt(variance)
