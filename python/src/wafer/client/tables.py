"""Rows of the offline table of a group, of other tables, and of sources."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from . import conditions, frames
from .command import Commands
from .errors import NotFound, NotSupported
from .listing import Record, html_table
from .transport import Transport, path_of
from .values import argument_time

MOST_ROWS = 10_000
"""The most rows that the server answers."""
FIRST_ROWS = 20
ARROW = "application/vnd.apache.arrow.stream"


class Source(Record):
    """A source: what is known of it, and its rows."""

    def __init__(self, transport: Transport, name: str) -> None:
        super().__init__("source", transport.get(path_of("v1", "sources", name)))
        self._transport = transport
        self._path = path_of("v1", "sources", name, "rows")

    def to_arrow(
        self,
        *,
        where: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        limit: int = FIRST_ROWS,
    ) -> Any:
        """Returns the first rows as a table of pyarrow, in the order in which the files have them.

        They have all columns of the files, as functions over the source read them. `where` is one
        condition or several, as for a table. `limit` is at most 10,000.
        """
        texts = [where] if isinstance(where, str) else list(where or ())
        return _asked(self._transport, self._path, texts, columns, limit)

    def to_pandas(self, **options: Any) -> Any:
        """Returns the first rows as a data frame of pandas. The options are those of `to_arrow`."""
        return frames.to_pandas(self.to_arrow(**options))

    def to_polars(self, **options: Any) -> Any:
        """Returns the first rows as a data frame of Polars. The options are those of `to_arrow`."""
        return frames.to_polars(self.to_arrow(**options))

    def _repr_html_(self) -> str:
        return super()._repr_html_() + _first_rows(self._transport, self._path, "rows")


class Table:
    """An offline table: that of the live version of a group, or any by its own name."""

    def __init__(self, transport: Transport, commands: Commands | None, name: str) -> None:
        self._transport = transport
        self._commands = commands
        self.name = name
        try:
            self.table = str(transport.get(path_of("v1", "groups", name))["table"])
        except NotFound:
            tables = transport.get(path_of("v1", "tables"))["tables"]
            if name not in [table["table"] for table in tables]:
                raise
            self.table = name
        self._path = path_of("v1", "tables", self.table, "rows")

    def to_arrow(
        self,
        *,
        as_of: datetime | date | str | None = None,
        where: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Any:
        """Returns rows as a table of pyarrow, in the order in which they are stored.

        `where` is one condition or several, all of which must be fulfilled: `speed_kmh > 30`,
        `city = Paris`, `minutes is not null`. `as_of` takes what the table had at a time of the
        machine's clock. Rows that are still on their way to the table are not in it.
        """
        texts = [where] if isinstance(where, str) else list(where or ())
        asked = [conditions.parsed(text) for text in texts]
        most = None if limit is None else max(limit, 0)
        if as_of is not None and self._commands is None:
            raise NotSupported(
                "the server has no route for the rows that a table had earlier",
                hint="open the folder of the project, or read the Delta table directly",
            )
        if as_of is None and (asked or self._commands is None or _is_few(most)):
            limit = MOST_ROWS if most is None else min(most, MOST_ROWS)
            rows = _asked(self._transport, self._path, texts, columns, limit)
            # With as many rows as are answered there may be more.
            if rows.num_rows < MOST_ROWS or most is not None and most <= MOST_ROWS:
                return rows
        if self._commands is None:
            raise NotSupported(
                f"there are {MOST_ROWS:,} rows or more, and the server has no route for so many",
                hint="ask for fewer with `where` or `limit`, open the folder of the project, or read "
                "the Delta table directly",
            )
        if as_of is not None and asked:
            # The server says what is wrong with a condition.
            _asked(self._transport, self._path, texts, None, 1)
        return self._export(self._commands, as_of, asked, columns, most)

    def to_pandas(self, **options: Any) -> Any:
        """Returns rows as a data frame of pandas. The options are those of `to_arrow`."""
        return frames.to_pandas(self.to_arrow(**options))

    def to_polars(self, **options: Any) -> Any:
        """Returns rows as a data frame of Polars. The options are those of `to_arrow`."""
        return frames.to_polars(self.to_arrow(**options))

    def _export(
        self,
        commands: Commands,
        as_of: datetime | date | str | None,
        asked: list[conditions.Condition],
        columns: Sequence[str] | None,
        limit: int | None,
    ) -> Any:
        """Lets the program write rows, and filters them here."""
        arguments = ["export", "--out=-", "--format=arrow"]
        if columns is not None:
            needed = dict.fromkeys([*columns, *(condition.column for condition in asked)])
            arguments.append(f"--columns={','.join(needed)}")
        if limit is not None and not asked:
            arguments.append(f"--limit={limit}")
        if as_of is not None:
            arguments.append(f"--as-of={argument_time(as_of, 'as_of')}")
        with tempfile.TemporaryDirectory(prefix="wafer-") as folder:
            file = Path(folder) / "rows.arrows"
            commands.into([*arguments, "--", self.table], file)
            rows = conditions.filtered(frames.read_stream(file), asked)
        if columns is not None:
            rows = rows.select(list(columns))
        # The server requires no values of any column, and an export of some.
        nullable = [field.with_nullable(True) for field in rows.schema]
        rows = rows.cast(frames.arrow().schema(nullable))
        return rows if limit is None else rows.slice(0, limit)

    def __repr__(self) -> str:
        return f"<table `{self.table}`; to_arrow(), to_pandas() and to_polars() have its rows>"

    def _repr_html_(self) -> str:
        return _first_rows(self._transport, self._path, self.table)


def _asked(
    transport: Transport,
    path: str,
    texts: Sequence[str],
    columns: Sequence[str] | None,
    limit: int,
) -> Any:
    """Asks the server for rows that fulfil conditions."""
    query = [("limit", str(limit)), *(("where", text) for text in texts)]
    if columns is not None:
        query.append(("columns", ",".join(columns)))
    answer = transport.send("GET", path, query=query, headers={"accept": ARROW})
    return frames.read_bytes(answer.body)


def _first_rows(transport: Transport, path: str, title: str) -> str:
    """Returns the first rows in HTML."""
    answer = transport.get(path, [("limit", str(FIRST_ROWS))])
    header = [str(column["name"]) for column in answer["columns"]]
    rows = [[row.get(name) for name in header] for row in answer["rows"]]
    more = ", the first rows" if answer["more"] else ""
    return html_table(header, rows, f"{title}{more}")


def _is_few(limit: int | None) -> bool:
    return limit is not None and limit <= MOST_ROWS
