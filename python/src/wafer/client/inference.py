"""Predictions of an endpoint, by the Open Inference Protocol, version 2."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import frames
from .errors import Error, Invalid, printable
from .listing import html_table, text_table
from .transport import Transport, parse_json, path_of
from .values import decoded, encoded_value

MAX_ROWS = 10_000
"""The most rows of one request."""

_TYPES = {"BOOL": "boolean", "INT64": "int64", "FP64": "float64", "FP32": "float32", "BYTES": "utf8"}
_ERROR = re.compile(r"(?:^|\n)row (\d+): ")


@dataclass
class Predictions:
    """What a model predicts for some rows, in their order."""

    endpoint: str
    outputs: dict[str, list[Any]]
    """The values of each output; None for a row that failed."""
    types: dict[str, str] = field(repr=False)
    release: str | None
    """The release that answered, or None if several did."""
    id: str
    """The identity of the request in the endpoint's log."""
    errors: dict[int, str] = field(default_factory=dict)
    """The rows that failed, by their numbers from 0, with the reasons."""

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values()), ()))

    def __getitem__(self, output: str) -> list[Any]:
        return self.outputs[output]

    def to_arrow(self) -> Any:
        """Returns the outputs as a table of pyarrow."""
        columns = [(name, self.types[name], values) for name, values in self.outputs.items()]
        return frames.table_of_columns(columns)

    def to_pandas(self) -> Any:
        """Returns the outputs as a data frame of pandas."""
        return frames.to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """Returns the outputs as a data frame of Polars."""
        return frames.to_polars(self.to_arrow())

    def _rows(self) -> list[list[Any]]:
        columns = zip(*self.outputs.values(), strict=True)
        return [[*row, self.errors.get(number)] for number, row in enumerate(columns)]

    def _repr_html_(self) -> str:
        return html_table([*self.outputs, "error"], self._rows(), f"endpoint `{self.endpoint}`")

    def __str__(self) -> str:
        return text_table([*self.outputs, "error"], self._rows())


def predict(transport: Transport, endpoint: str, rows: Any, release: str | None) -> Predictions:
    """Asks an endpoint, or one of its releases, for predictions."""
    model = ["v2", "models", endpoint] + ([] if release is None else ["versions", release])
    known = transport.get(path_of(*model))
    all_rows = list(frames.rows_of(rows))
    if len(all_rows) > MAX_ROWS:
        raise Invalid(
            f"{len(all_rows):,} rows are too many: a request has at most {MAX_ROWS:,}",
            hint="ask in parts, or predict by a pipeline with a model",
        )
    if not all_rows:
        raise Invalid("there are no rows")
    inputs = _inputs(known["inputs"], all_rows)
    body = json.dumps({"inputs": inputs}, ensure_ascii=False, allow_nan=False)
    answer = transport.send(
        "POST", path_of(*model, "infer"), body=body.encode(), media_type="application/json"
    )
    return _predictions(endpoint, parse_json(answer.body), len(all_rows))


def _inputs(
    tensors: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns a tensor for each input that the rows have."""
    datatypes = {tensor["name"]: tensor for tensor in tensors}
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name not in datatypes:
            raise Invalid(f"there is no input `{name}`; there are {', '.join(datatypes)}")
    inputs = []
    for name in names:
        tensor = datatypes[name]
        values = [
            encoded_value(row.get(name), f"row {number}: field `{name}`")
            for number, row in enumerate(rows)
        ]
        shape = [len(rows)]
        if len(tensor["shape"]) > 1 and tensor["shape"][1] != 1:
            values, width = _flat(values, name)
            shape.append(width)
        inputs.append(
            {"name": name, "datatype": tensor["datatype"], "shape": shape, "data": values}
        )
    return inputs


def _flat(values: Sequence[Any], name: str) -> tuple[list[Any], int]:
    """Returns the items of lists, and the length that all of them have."""
    lengths = {len(value) if isinstance(value, list) else None for value in values}
    width = lengths.pop() if len(lengths) == 1 else None
    if width is None:
        raise Invalid(f"input `{name}`: each row has a list, and all of them are of one length")
    return [item for value in values for item in value], width


def _predictions(endpoint: str, answer: Any, rows: int) -> Predictions:
    outputs: dict[str, list[Any]] = {}
    types: dict[str, str] = {}
    for tensor in answer["outputs"]:
        name, shape = tensor["name"], tensor["shape"]
        kind = _TYPES.get(tensor["datatype"])
        if kind is None:
            raise Error(f"output `{name}` is {tensor['datatype']}, which this client does not know")
        try:
            flat = decoded(kind, tensor["data"])
        except ValueError as error:
            raise Error(f"output `{name}`: {error}") from None
        width = shape[1] if len(shape) > 1 else None
        if shape[0] != rows or len(flat) != rows * (1 if width is None else width):
            raise Error(f"output `{name}` has the shape {shape} for {rows:,} rows")
        if width is None:
            outputs[name], types[name] = flat, kind
            continue
        outputs[name] = [flat[row * width : (row + 1) * width] for row in range(rows)]
        types[name] = f"vector({width})" if kind == "float32" else f"list<{kind}>"
    return Predictions(
        endpoint=endpoint,
        outputs=outputs,
        types=types,
        release=answer.get("model_version"),
        id=str(answer.get("id", "")),
        errors=_errors(answer.get("parameters", {}).get("errors")),
    )


def _errors(said: Any) -> dict[int, str]:
    """Reads the parameter that names the rows that failed, each with a message after it."""
    if not isinstance(said, str):
        return {}
    # The parts are the text before the first row, and then a number and a message for each row.
    parts = _ERROR.split(said)
    return {
        int(number): printable(message)
        for number, message in zip(parts[1::2], parts[2::2], strict=True)
    }
