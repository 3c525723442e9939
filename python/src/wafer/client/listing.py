"""Lists and records as a notebook shows them: tables in HTML, in which everything is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from .errors import NotFound, printable

SHOWN_ROWS = 200
"""The most rows of a table that are shown."""
SHOWN_TEXT = 300
"""The most characters of a cell that are shown."""

Item = TypeVar("Item")


def shown(value: Any) -> str:
    """Returns the text of a value in a cell."""
    if value is None:
        text = ""
    elif isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, (list, tuple)):
        text = " ".join(shown(each) for each in value[:100])
    elif isinstance(value, Mapping):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    text = text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT] + " …"
    return printable(text)


def html_table(header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Returns a table in HTML. Every text in it is escaped."""

    def cells(tag: str, values: Sequence[Any]) -> str:
        return "".join(
            f'<{tag} style="text-align:left">{html.escape(shown(value))}</{tag}>'
            for value in values
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows[:SHOWN_ROWS])
    head = f"<thead><tr>{cells('th', header)}</tr></thead>" if any(header) else ""
    title = f"<caption>{html.escape(printable(caption))}</caption>" if caption else ""
    more = len(rows) - SHOWN_ROWS
    rest = f"<p>… and {more:,} more</p>" if more > 0 else ""
    return f"<table>{title}{head}<tbody>{body}</tbody></table>{rest}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table as lines of text."""
    lines = [[shown(cell).replace("\n", " ")[:60] for cell in row] for row in rows[:SHOWN_ROWS]]
    lines = [[shown(name) for name in header], *lines] if any(header) else lines
    if not lines:
        return ""
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    if len(rows) > SHOWN_ROWS:
        texts.append(f"… and {len(rows) - SHOWN_ROWS:,} more")
    return "\n".join(texts)


class Listing(Sequence[Item], Generic[Item]):
    """Things with names, in their order: by number, or by name."""

    def __init__(
        self,
        kind: str,
        items: Sequence[Item],
        columns: Mapping[str, Callable[[Item], Any]],
        name: Callable[[Item], str],
    ) -> None:
        self._kind = kind
        self._items = list(items)
        self._columns = dict(columns)
        self._name = name

    @property
    def names(self) -> list[str]:
        """The names."""
        return [self._name(item) for item in self._items]

    @overload
    def __getitem__(self, key: int | str) -> Item: ...

    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...

    def __getitem__(self, key: int | str | slice) -> Item | list[Item]:
        if not isinstance(key, str):
            return self._items[key]
        for item in self._items:
            if self._name(item) == key:
                return item
        known = ", ".join(self.names[:50]) or "none"
        raise NotFound(f"there is no {self._kind} `{key}`; known are {known}")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def _rows(self) -> list[list[Any]]:
        return [[cell(item) for cell in self._columns.values()] for item in self._items]

    def __repr__(self) -> str:
        return text_table(list(self._columns), self._rows()) if self._items else f"no {self._kind}s"

    def _repr_html_(self) -> str:
        return html_table(list(self._columns), self._rows(), f"{len(self):,} {self._kind}s")


class Record(Mapping[str, Any]):
    """What the server or a command said of one thing: its fields by name, also as attributes."""

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._kind = kind
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._fields[name]
        except KeyError:
            known = ", ".join(self._fields)
            raise AttributeError(f"a {self._kind} has no `{name}`; it has {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def _facts(self) -> list[list[Any]]:
        said = [(name, value) for name, value in self._fields.items() if _is_short(value)]
        return [[name, value] for name, value in said if value not in (None, "", [], {})]

    def _tables(self) -> list[tuple[str, list[str], list[list[Any]]]]:
        """Returns the lists of objects in the record, each as a table."""
        tables = []
        for name, value in self._fields.items():
            if not _is_short(value) and value:
                header = list(dict.fromkeys(key for row in value for key in row))
                tables.append((name, header, [[row.get(key) for key in header] for row in value]))
        return tables

    def __repr__(self) -> str:
        parts = [text_table(["", ""], self._facts())]
        parts += [text_table(header, rows) for _, header, rows in self._tables()]
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        parts = [html_table(["", ""], self._facts(), self._kind)]
        parts += [html_table(header, rows, name) for name, header, rows in self._tables()]
        return "".join(parts)


def _is_short(value: Any) -> bool:
    """Returns whether a value is shown in a cell, and not as a table of its own."""
    is_list = isinstance(value, list) and bool(value)
    return not (is_list and all(isinstance(each, Mapping) for each in value))


def records(kind: str, things: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Listing[Record]:
    """Returns a list of records that is shown with these columns."""

    def cell(column: str) -> Callable[[Record], Any]:
        return lambda record: _cell(record.get(column))

    return Listing(
        kind,
        [Record(kind, thing) for thing in things],
        {column: cell(column) for column in columns},
        lambda record: str(record.get("name", "")),
    )


def _cell(value: Any) -> Any:
    """Returns what a list shows of a field: of columns and keys their names."""
    if isinstance(value, list):
        return [each.get("name", each) if isinstance(each, Mapping) else each for each in value]
    return value
