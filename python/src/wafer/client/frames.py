"""Rows and data frames: what the methods of a project take, and what they return.

Everything goes through Arrow: pandas, Polars and whatever else has Arrow's C interface. A column of
floats that pandas keeps by numpy has NaN where nothing is, so that NaN is null there; in all other
columns NaN and null are two things.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import Invalid
from .values import list_kind

BATCH = 10_000
"""The number of rows of a table that become Python's values at a time."""


def needed(module: str, purpose: str, install: str) -> Any:
    """Imports a module that is not a requirement of the package itself."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{purpose} needs {module}, which is not installed: pip install {install}"
        ) from None


def arrow() -> Any:
    """Returns pyarrow."""
    return needed("pyarrow", "this", "pyarrow")


def is_frame(data: Any) -> bool:
    """Returns whether something is a table or a data frame."""
    return hasattr(data, "__arrow_c_stream__") or _is_of(data, "pandas", "DataFrame")


def _is_of(data: Any, module: str, name: str) -> bool:
    kind = type(data)
    return kind.__name__ == name and kind.__module__.partition(".")[0] == module


def table_of(data: Any) -> Any:
    """Returns rows or a data frame as a table of pyarrow."""
    pa = arrow()
    try:
        if isinstance(data, pa.Table):
            table = data
        elif isinstance(data, pa.RecordBatch):
            table = pa.Table.from_batches([data])
        elif _is_of(data, "pandas", "DataFrame"):
            _check_names([str(name) for name in data.columns if not isinstance(name, str)])
            table = pa.Table.from_pandas(data, preserve_index=False)
        elif is_frame(data):
            table = pa.table(data)
        else:
            table = pa.Table.from_pylist([dict(row) for row in _each_row(data)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise Invalid(f"the rows are no table: {error}") from None
    # What pandas keeps there is of the frame that the table came from.
    return table.replace_schema_metadata(None)


def _check_names(names: Sequence[str]) -> None:
    if names:
        raise Invalid(f"`{names[0]}` is the name of a column, and is no text")


def rows_of(data: Any) -> Iterator[Mapping[str, Any]]:
    """Returns the rows of a mapping (one row), of mappings, of a table or of a data frame."""
    if not is_frame(data):
        return _each_row(data)
    return _rows_of_table(table_of(data))


def _each_row(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        yield data
        return
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise Invalid(
            f"rows are mappings, a table or a data frame, and not of the type {type(data).__name__}"
        )
    for number, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise Invalid(f"row {number} is {type(row).__name__}, and not a mapping", row=number)
        yield row


def _rows_of_table(table: Any) -> Iterator[Mapping[str, Any]]:
    pa = arrow()
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.unit in ("s", "ms", "ns"):
            try:
                column = column.cast(pa.timestamp("us", kind.tz))
            except pa.ArrowInvalid as error:
                raise Invalid(f"column `{field.name}`: {error}") from None
        columns.append(column)
    if len(set(table.column_names)) < len(table.column_names):
        raise Invalid("the table has two columns of one name")
    table = pa.table(columns, names=table.column_names)
    for first in range(0, table.num_rows, BATCH):
        yield from table.slice(first, BATCH).to_pylist()


def arrow_type(data_type: str) -> Any:
    """Returns the type of pyarrow for a type of Wafer."""
    pa = arrow()
    if kind := list_kind(data_type):
        length, item = kind
        return pa.list_(arrow_type(item), -1 if length is None else length)
    types = {
        "boolean": pa.bool_(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "float32": pa.float32(),
        "utf8": pa.string(),
        "binary": pa.binary(),
        "timestamp": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
    }
    if data_type not in types:
        raise Invalid(f"a column is of the type {data_type}, which this client does not know")
    return types[data_type]


def table_of_columns(columns: Sequence[tuple[str, str, list[Any]]]) -> Any:
    """Returns a table of columns with their names, types of Wafer, and values."""
    pa = arrow()
    arrays = [pa.array(values, arrow_type(kind)) for _, kind, values in columns]
    return pa.table(arrays, names=[name for name, _, _ in columns])


def to_pandas(table: Any) -> Any:
    """Returns a data frame of pandas whose columns keep what they have.

    Integers stay integers where some are missing, and NaN is not null: columns are of pandas' own
    nullable types, other types of those of Arrow.
    """
    pd = needed("pandas", "a data frame of pandas", "pandas")
    pa = arrow()
    nullable = {
        pa.bool_(): pd.BooleanDtype(),
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.string(): pd.StringDtype("pyarrow"),
        pa.large_string(): pd.StringDtype("pyarrow"),
    }
    frame = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_float32(kind) or pa.types.is_float64(kind):
            frame[name] = _floats(pd, column)
        elif kind in nullable:
            frame[name] = nullable[kind].__from_arrow__(column)
        else:
            frame[name] = pd.ArrowDtype(kind).__from_arrow__(column)
    return pd.DataFrame(frame, columns=table.column_names, copy=False)


def _floats(pd: Any, column: Any) -> Any:
    """Returns floats with a mask for nulls, so that NaN stays a number."""
    pa = arrow()
    mask = column.is_null().combine_chunks() if column.null_count else None
    values = column.fill_null(0.0).to_numpy() if mask is not None else column.to_numpy()
    np = needed("numpy", "a data frame of pandas", "numpy")
    nulls = np.zeros(len(values), dtype=bool)
    if mask is not None:
        flat = mask if isinstance(mask, pa.Array) else pa.concat_arrays(mask.chunks)
        nulls = flat.to_numpy(zero_copy_only=False).copy()
    return pd.arrays.FloatingArray(values.copy(), nulls)


def to_polars(table: Any) -> Any:
    """Returns a data frame of Polars."""
    return needed("polars", "a data frame of Polars", "polars").from_arrow(table)


def to_torch(table: Any, columns: Sequence[str] | None, fill: Any) -> dict[str, Any]:
    """Returns a tensor for each column of numbers, booleans, times or vectors.

    Tensors have no nulls: `fill` says what stands for them, for all columns or by name.
    """
    torch = needed("torch", "a tensor", "torch")
    pa = arrow()
    tensors = {}
    for name in table.column_names if columns is None else columns:
        if name not in table.column_names:
            raise Invalid(f"there is no column `{name}`; there are {', '.join(table.column_names)}")
        column = table.column(name)
        kind, width = column.type, None
        if pa.types.is_fixed_size_list(kind):
            kind, width = kind.value_type, kind.list_size
        if not (_is_number(pa, kind) or pa.types.is_timestamp(kind)):
            if columns is not None:
                raise Invalid(f"column `{name}` is {column.type}, which has no tensor")
            continue
        values = _filled(column, name, fill, width)
        if pa.types.is_timestamp(kind):
            values = values.cast(pa.int64())
        flat = values.to_numpy(zero_copy_only=False).copy()
        tensor = torch.from_numpy(flat)
        tensors[name] = tensor if width is None else tensor.reshape(len(column), width)
    return tensors


def _is_number(pa: Any, kind: Any) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def _filled(column: Any, name: str, fill: Any, width: int | None) -> Any:
    pa = arrow()
    wanted = fill.get(name) if isinstance(fill, Mapping) else fill
    if column.null_count and width is None and wanted is not None:
        try:
            column = column.fill_null(pa.scalar(wanted, column.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise Invalid(f"column `{name}`: `fill` does not fit it: {error}") from None
    if column.null_count:
        raise Invalid(
            f"column `{name}` has {column.null_count:,} nulls, and tensors have none",
            hint="say with `fill` what stands for them, such as fill=float('nan')",
        )
    flat = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return flat if width is None else flat.flatten()


def write_stream(table: Any, path: Path) -> None:
    """Writes a table as an Arrow stream."""
    pa = arrow()
    needed("pyarrow.ipc", "this", "pyarrow")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def read_stream(path: Path) -> Any:
    """Reads an Arrow stream, without a copy of what is in the file."""
    pa = arrow()
    needed("pyarrow.ipc", "this", "pyarrow")
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()


def read_bytes(body: bytes) -> Any:
    """Reads an Arrow stream that is in memory."""
    pa = arrow()
    needed("pyarrow.ipc", "this", "pyarrow")
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_all()
