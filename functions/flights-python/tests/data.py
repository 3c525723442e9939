"""The real data."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet

FLIGHTS = Path(__file__).resolve().parents[2] / "flights"
"""The project in Rust, which has the data."""

Row = TypeVar("Row")


def rows(file: str, row: type[Row], step: int = 1) -> list[Row]:
    """Returns every so many-th row of a file, with the columns that are fields of `row`."""
    names = [field.name for field in fields(row)]  # type: ignore[arg-type]
    table = pyarrow.parquet.read_table(FLIGHTS / "data" / file, columns=names)
    taken = table.take(list(range(0, table.num_rows, step)))
    columns: list[list[Any]] = [taken.column(name).to_pylist() for name in names]
    return [row(*values) for values in zip(*columns, strict=True)]
