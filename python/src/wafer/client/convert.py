"""Models of other libraries, as the files that Wafer's stock functions read.

A pipeline of scikit-learn is converted to ONNX, and predicts its own training set both ways before
it is taken: what differs by more than `TOLERANCE` is refused with the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import frames
from .errors import Invalid

TOLERANCE = 1e-6
"""The greatest difference of two predictions that are equal, relative to those greater than 1."""

OPSETS = {"": 21, "ai.onnx.ml": 3}
"""What the stock function `onnx` reads."""

CHECKED_ROWS = 50_000
"""The number of rows that are predicted at a time."""
NAMED_ROWS = 5
"""The number of rows that an error names."""

MLFLOW = ("models:/", "runs:/", "mlflow-artifacts:/")
"""How the URIs of MLflow begin."""
FLAVORS = ("onnx", "lightgbm", "xgboost", "sklearn")

Training = Callable[[], Any]
"""Returns the rows that a model was trained on, as a table of pyarrow."""


def artifact(model: Any, folder: Path, training: Training | None) -> Path:
    """Returns the file of a model. It is written to `folder`, unless the model is a file already."""
    if isinstance(model, str) and model.startswith(MLFLOW):
        model = _of_mlflow(model)
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.is_file():
            raise Invalid(f"there is no file of a model {path}")
        return path
    library = type(model).__module__.partition(".")[0]
    if library == "lightgbm":
        path = folder / "model.txt"
        getattr(model, "booster_", model).save_model(str(path))
        return path
    if library == "xgboost":
        path = folder / "model.ubj"
        model.save_model(str(path))
        return path
    if library == "onnx" and hasattr(model, "SerializeToString"):
        return _written(folder, model)
    if hasattr(model, "get_params") and hasattr(model, "predict"):
        if training is None:
            raise Invalid(
                "a pipeline of scikit-learn is checked on its training set",
                hint="pass `training_set`, which is a training set or its ID",
            )
        return _written(folder, _of_sklearn(model, training()))
    raise Invalid(
        f"a {type(model).__module__}.{type(model).__qualname__} is no model that can be registered",
        hint="push a model of scikit-learn, LightGBM, XGBoost or ONNX, a file, or a URI of MLflow",
    )


def _needed(module: str) -> Any:
    return frames.needed(
        module, "a pipeline of scikit-learn", "pandas scikit-learn skl2onnx onnxruntime"
    )


def _written(folder: Path, onnx_model: Any) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(onnx_model.SerializeToString())
    return path


def _of_mlflow(uri: str) -> Any:
    """Returns the model of a URI, as the first of the known libraries that it was logged by."""
    mlflow = frames.needed("mlflow", "a model of MLflow", "mlflow")
    flavors = frames.needed("mlflow.models", "a model of MLflow", "mlflow").get_model_info(uri).flavors
    for flavor in FLAVORS:
        if flavor in flavors:
            frames.needed(f"mlflow.{flavor}", f"a model of the flavor {flavor}", "mlflow")
            return getattr(mlflow, flavor).load_model(uri)
    raise Invalid(
        f"{uri} has the flavors {', '.join(flavors)}",
        hint=f"Wafer takes {', '.join(FLAVORS)}",
    )


def _of_sklearn(model: Any, rows: Any) -> Any:
    """Converts a model of scikit-learn, and checks that it predicts the same."""
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if not names:
        raise Invalid(
            "the model does not know the names of its features",
            hint="fit it on a data frame, such as `training_set.to_pandas()[features]`",
        )
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise Invalid(f"the training set has no column `{missing[0]}`, which the model was fitted on")
    rows = rows.select(names)
    refused: Invalid | None = None
    # Most operators are exact in doubles; some are there in floats only.
    for is_double in (True, False):
        try:
            converted = _converted(model, rows, is_double)
            _check(model, converted, rows, is_double)
            return converted
        except Invalid as error:
            refused = error if refused is None or error.row is not None else refused
    assert refused is not None
    raise refused


def _converted(model: Any, rows: Any, is_double: bool) -> Any:
    """Returns the ONNX model of a pipeline, with an input for each column."""
    skl2onnx = _needed("skl2onnx")
    types = _needed("skl2onnx.common.data_types")
    number = types.DoubleTensorType if is_double else types.FloatTensorType
    inputs = [
        (field.name, (types.StringTensorType if _is_text(field.type) else number)([None, 1]))
        for field in rows.schema
    ]
    whole = _by_columns(model, rows)
    last = whole.steps[-1][1] if hasattr(whole, "steps") else whole
    options = {id(whole): {"zipmap": False}} if hasattr(last, "predict_proba") else None
    try:
        return skl2onnx.convert_sklearn(
            whole, initial_types=inputs, options=options, target_opset=OPSETS
        )
    except Exception as error:
        raise Invalid(
            f"skl2onnx cannot convert the pipeline: {type(error).__name__}: {error}",
            hint="leave the step out of it, and compute it in a function before the model",
        ) from error


def _by_columns(model: Any, rows: Any) -> Any:
    """Returns a pipeline that takes columns by their names, which only a ColumnTransformer does."""
    compose = _needed("sklearn.compose")
    pipeline = _needed("sklearn.pipeline")
    first = model
    while hasattr(first, "steps"):
        first = first.steps[0][1]
    if isinstance(first, compose.ColumnTransformer):
        return model
    columns = compose.ColumnTransformer([("columns", "passthrough", rows.column_names)])
    columns.fit(_frame(rows.slice(0, 2)))
    return pipeline.Pipeline([("columns", columns), ("model", model)])


def _check(model: Any, converted: Any, rows: Any, is_double: bool) -> None:
    """Checks that a pipeline and its conversion predict the same for all rows."""
    ort = _needed("onnxruntime")
    try:
        session = ort.InferenceSession(
            converted.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise Invalid(f"onnxruntime cannot run the converted pipeline: {error}") from error
    compared, different, failed = 0, [], None
    for first, numbers, part in _parts(model, rows):
        try:
            other = session.run(None, _inputs(part, is_double))
        except Exception as error:
            failed = f"onnxruntime cannot run the converted pipeline: {error}"
            break
        own = _predicted(model, _frame(part))
        different += _differences(own, other, first, numbers)
        compared += part.num_rows
    if failed is not None:
        raise Invalid(failed)
    if compared == 0:
        raise Invalid("the training set has no row on which the pipeline could be checked")
    if different:
        listed = ", ".join(
            f"row {row}: {own} and {other}" for row, own, other in different[:NAMED_ROWS]
        )
        raise Invalid(
            f"the converted pipeline predicts something else than the pipeline itself for "
            f"{len(different):,} of {compared:,} rows: {listed}",
            row=different[0][0],
        )


def _parts(model: Any, rows: Any) -> Iterator[tuple[int, list[int], Any]]:
    """Yields the rows in parts, with the number of the first row and those that are left in a part.

    Rows with nulls are left out if the pipeline takes none, and those with a null text always.
    """
    pc = _needed("pyarrow.compute")
    takes_nulls = _takes_nulls(model, rows)
    for first in range(0, rows.num_rows, CHECKED_ROWS):
        part = rows.slice(first, CHECKED_ROWS)
        kept = [True] * part.num_rows
        for field, column in zip(part.schema, part.columns, strict=True):
            if column.null_count and (_is_text(field.type) or not takes_nulls):
                valid = pc.is_valid(column).to_pylist()
                kept = [both and own for both, own in zip(kept, valid, strict=True)]
        numbers = [number for number, is_kept in enumerate(kept) if is_kept]
        if numbers:
            yield first, numbers, part.take(numbers)


def _takes_nulls(model: Any, rows: Any) -> bool:
    pc = _needed("pyarrow.compute")
    numbers = [name for name in rows.column_names if not _is_text(rows.schema.field(name).type)]
    for name in numbers:
        at = pc.index(rows.column(name).is_null(), True).as_py()
        if at >= 0:
            try:
                model.predict(_frame(rows.slice(at, 1)))
            except (ValueError, TypeError):
                return False
    return True


def _is_text(kind: Any) -> bool:
    types = frames.arrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _frame(rows: Any) -> Any:
    """Returns rows as pipelines are fitted on them: numbers by numpy, NaN where nothing is."""
    pd = _needed("pandas")
    return pd.DataFrame(
        {
            field.name: _texts(column) if _is_text(field.type) else _doubles(column)
            for field, column in zip(rows.schema, rows.columns, strict=True)
        },
        columns=rows.column_names,
    )


def _doubles(column: Any) -> Any:
    pa = frames.arrow()
    try:
        values = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Invalid(f"a column of {column.type} is no feature of a pipeline: {error}") from None
    return values.fill_null(float("nan")).to_numpy()


def _texts(column: Any) -> Any:
    np = _needed("numpy")
    return np.array(column.to_pylist(), dtype=object)


def _inputs(rows: Any, is_double: bool) -> dict[str, Any]:
    np = _needed("numpy")
    number = np.float64 if is_double else np.float32
    return {
        field.name: (
            _texts(column) if _is_text(field.type) else _doubles(column).astype(number)
        ).reshape(-1, 1)
        for field, column in zip(rows.schema, rows.columns, strict=True)
    }


def _predicted(model: Any, frame: Any) -> tuple[Any, bool]:
    """Returns what a pipeline predicts, and whether these are the probabilities of classes."""
    last = model
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    if hasattr(last, "predict_proba"):
        return model.predict_proba(frame), True
    return model.predict(frame), False


def _differences(
    own: tuple[Any, bool], other: list[Any], first: int, numbers: list[int]
) -> list[tuple[int, Any, Any]]:
    """Returns the rows that differ, each with both predictions."""
    np = _needed("numpy")
    predicted, is_probability = own
    predicted = np.asarray(predicted).reshape(len(numbers), -1)
    converted = np.asarray(other[1] if is_probability else other[0]).reshape(len(numbers), -1)
    if predicted.shape != converted.shape:
        raise Invalid(
            f"the pipeline predicts {predicted.shape[1]} values for a row, and its conversion "
            f"{converted.shape[1]}"
        )
    if predicted.dtype.kind in "fiub" and converted.dtype.kind in "fiub":
        a, b = predicted.astype(float), converted.astype(float)
        is_equal = np.abs(a - b) <= TOLERANCE * np.maximum(1.0, np.abs(a))
        is_equal |= (a == b) | (np.isnan(a) & np.isnan(b))
    else:
        is_equal = predicted.astype(str) == converted.astype(str)
    places = np.flatnonzero(~is_equal.all(axis=1))
    return [
        (first + numbers[place], _shown(predicted[place]), _shown(converted[place]))
        for place in places.tolist()
    ]


def _shown(values: Any) -> Any:
    listed = values.tolist()
    return listed[0] if len(listed) == 1 else listed
