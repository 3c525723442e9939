"""What tables have in common that hold the same rows in any order.

For each column whose name starts with a prefix: its values that are not null, their
sum rounded once, and a sum over all rows of a mix of the row's keys and the value's
bits, which differs if values stand in other rows. The last line is over the columns
regardless of their names and order.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def show(path: Path, keys: list[str], prefixes: list[str]) -> None:
    """Prints the sums of a Parquet file. The keys are whole numbers or times."""
    file = pq.ParquetFile(path)
    rows = np.zeros(file.metadata.num_rows, np.uint64)
    for name in keys:
        rows = mix(rows ^ bits(read(file, name)))
    names = [name for name in file.schema_arrow.names if name.startswith(tuple(prefixes))]
    lines = []
    for name in sorted(names):
        lines.append(column_sums(read(file, name), rows))
        print(f"{name:<24} {lines[-1]}")
    together = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    print(f"{len(rows):,} rows, {len(names)} columns, {together}")


def read(file: pq.ParquetFile, name: str) -> pa.Array:
    return file.read([name])[name].combine_chunks()


def column_sums(values: pa.Array, rows: np.ndarray) -> str:
    # Whole numbers as floats, so that their width and sign do not matter.
    numbers = values.cast(pa.float64())
    valid = np.asarray(numbers.is_valid())
    total = math.fsum(numbers.drop_null().to_numpy())
    mixed = mix(rows ^ bits(numbers))[valid].sum(dtype=np.uint64)
    return f"{int(valid.sum()):>12,} {total!r:>26} {mixed:016x}"


def bits(values: pa.Array) -> np.ndarray:
    """Values as 64 bits each, nulls as zero; 0.0 and -0.0 as one."""
    if pa.types.is_floating(values.type):
        return (values.fill_null(0.0).to_numpy() + 0.0).view(np.uint64)
    return values.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
