"""Feature vectors, as a server answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

from . import frames
from .errors import Error
from .listing import html_table, text_table
from .values import decoded, decoder

Schema = Mapping[str, str]
"""The types of the features of a view, by name."""


@dataclass(frozen=True)
class Vector(Mapping[str, Any]):
    """The features of one row, by name."""

    features: Mapping[str, Any]
    status: Mapping[str, str]
    """For each feature `present`, `null`, `not_found`, `expired` or `error`."""
    event_timestamp: Mapping[str, datetime | None] = field(default_factory=dict)
    """For each lookup the event time of the row that was found."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """The reasons of the functions that failed for the row, by their names."""

    def __getitem__(self, name: str) -> Any:
        return self.features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def _rows(self) -> list[list[Any]]:
        return [[name, value, self.status.get(name)] for name, value in self.features.items()]

    def __repr__(self) -> str:
        return text_table(["feature", "value", "status"], self._rows())

    def _repr_html_(self) -> str:
        return html_table(["feature", "value", "status"], self._rows())


class Features(Sequence[Vector]):
    """Feature vectors, in the order of the rows that were asked for."""

    def __init__(self, view: str, schema: Schema, vectors: Sequence[Vector]) -> None:
        self.view = view
        self.schema = dict(schema)
        self._vectors = list(vectors)

    @overload
    def __getitem__(self, index: int) -> Vector: ...

    @overload
    def __getitem__(self, index: slice) -> list[Vector]: ...

    def __getitem__(self, index: int | slice) -> Vector | list[Vector]:
        return self._vectors[index]

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def failed(self) -> list[tuple[int, Mapping[str, str]]]:
        """The rows that functions failed for, each with its number and the reasons."""
        rows = enumerate(self._vectors)
        return [(number, vector.errors) for number, vector in rows if vector.errors]

    def to_arrow(self) -> Any:
        """Returns the features as a table of pyarrow."""
        columns = [
            (name, kind, [vector.features.get(name) for vector in self._vectors])
            for name, kind in self.schema.items()
        ]
        return frames.table_of_columns(columns)

    def to_pandas(self) -> Any:
        """Returns the features as a data frame of pandas."""
        return frames.to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """Returns the features as a data frame of Polars."""
        return frames.to_polars(self.to_arrow())

    def _table(self) -> list[list[Any]]:
        return [[vector.features.get(name) for name in self.schema] for vector in self._vectors]

    def __repr__(self) -> str:
        return text_table(list(self.schema), self._table())

    def _repr_html_(self) -> str:
        return html_table(list(self.schema), self._table(), f"{len(self):,} rows of `{self.view}`")


def vectors_of(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> list[Vector]:
    """Reads the rows of an answer.

    Raises ValueError if a feature is of another type than the schema says, or is not in it.
    """
    columns = {}
    for name in rows[0]["features"] if rows else ():
        if name not in schema:
            raise ValueError(f"`{name}` is a feature that was not known")
        columns[name] = decoded(schema[name], (row["features"][name] for row in rows))
    time = decoder("timestamp")
    return [
        Vector(
            features={name: values[number] for name, values in columns.items()},
            status=dict(row["status"]),
            event_timestamp={
                lookup: time(value) for lookup, value in row.get("event_timestamp", {}).items()
            },
            errors=dict(row.get("errors", {})),
        )
        for number, row in enumerate(rows)
    ]


def rows_of_answer(answer: Any, count: int) -> list[Mapping[str, Any]]:
    """Returns the rows of an answer, one for each that was asked for."""
    rows = answer.get("rows") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or len(rows) != count:
        raise Error(f"the server did not answer {count:,} rows for {count:,} rows")
    return rows
