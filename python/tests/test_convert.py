"""Models of other libraries, and the check of converted pipelines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wafer
from wafer.client import convert

pa = pytest.importorskip("pyarrow")
ROWS = 400


def rows() -> Any:
    """Returns rows with numbers, of which some are missing, and texts."""
    np = pytest.importorskip("numpy")
    chance = np.random.default_rng(7)
    a, b = chance.normal(size=ROWS), chance.integers(0, 50, size=ROWS)
    city = chance.choice(["Berlin", "Paris", "Rome"], size=ROWS)
    missing = chance.random(ROWS) < 0.1
    return pa.table(
        {
            "a": pa.array([None if no else float(x) for x, no in zip(a, missing, strict=True)]),
            "b": pa.array(b.tolist(), pa.int64()),
            "city": pa.array(city.tolist()),
            "y": pa.array(((a > 0) ^ (b > 25)).astype(int).tolist(), pa.int64()),
        }
    )


def frame(table: Any, columns: list[str]) -> Any:
    return convert._frame(table.select(columns))


@pytest.fixture
def sklearn() -> Iterator[Any]:
    for module in ["sklearn", "skl2onnx", "onnxruntime", "pandas"]:
        pytest.importorskip(module)
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.impute
    import sklearn.linear_model
    import sklearn.pipeline
    import sklearn.preprocessing
    import sklearn.tree

    yield sklearn


def columns_of(path: Path) -> list[str]:
    onnx = pytest.importorskip("onnx")
    return [each.name for each in onnx.load(str(path)).graph.input]


@pytest.mark.filterwarnings("ignore")
def test_pipeline_of_columns_predicts_the_same(sklearn: Any, tmp_path: Path) -> None:
    table = rows()
    pipeline = sklearn.pipeline.Pipeline(
        [
            (
                "columns",
                sklearn.compose.ColumnTransformer(
                    [
                        ("numbers", sklearn.impute.SimpleImputer(), ["a", "b"]),
                        ("texts", sklearn.preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city"]),
                    ]
                ),
            ),
            ("model", sklearn.linear_model.LogisticRegression(max_iter=1_000)),
        ]
    )
    pipeline.fit(frame(table, ["a", "b", "city"]), table["y"].to_numpy())
    path = convert.artifact(pipeline, tmp_path, lambda: table)
    assert columns_of(path) == ["a", "b", "city"]


@pytest.mark.filterwarnings("ignore")
def test_estimator_without_columns_gets_an_input_for_each(sklearn: Any, tmp_path: Path) -> None:
    table = rows()
    pipeline = sklearn.pipeline.make_pipeline(
        sklearn.impute.SimpleImputer(),
        sklearn.preprocessing.StandardScaler(),
        sklearn.ensemble.GradientBoostingRegressor(n_estimators=20, random_state=1),
    )
    pipeline.fit(frame(table, ["b", "a"]), table["y"].to_numpy())
    path = convert.artifact(pipeline, tmp_path, lambda: table)
    assert columns_of(path) == ["b", "a"]


@pytest.mark.filterwarnings("ignore")
def test_pipeline_that_predicts_something_else_is_refused_with_the_rows(
    sklearn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows()
    model = sklearn.linear_model.LinearRegression()
    model.fit(frame(table, ["b"]), table["y"].to_numpy())
    converted = convert._converted

    def wrong(model: Any, rows: Any, is_double: bool) -> Any:
        """Converts a model that predicts a step in the place of a line."""
        steps = sklearn.tree.DecisionTreeRegressor(max_leaf_nodes=2)
        own = model.predict(frame(rows, ["b"]))
        return converted(steps.fit(frame(rows, ["b"]), own), rows, is_double)

    monkeypatch.setattr(convert, "_converted", wrong)
    with pytest.raises(wafer.Invalid, match=r"of 400 rows: row \d+: ") as raised:
        convert.artifact(model, tmp_path, lambda: table)
    assert raised.value.row is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_models_that_cannot_be_checked_are_refused(sklearn: Any, tmp_path: Path) -> None:
    table = rows()
    fitted = sklearn.linear_model.LinearRegression().fit(frame(table, ["b"]), table["y"].to_numpy())
    with pytest.raises(wafer.Invalid, match="pass `training_set`"):
        convert.artifact(fitted, tmp_path, None)
    with pytest.raises(wafer.Invalid, match="no column `b`"):
        convert.artifact(fitted, tmp_path, lambda: table.drop_columns(["b"]))
    unnamed = sklearn.linear_model.LinearRegression().fit([[1.0], [2.0]], [1, 2])
    with pytest.raises(wafer.Invalid, match="names of its features"):
        convert.artifact(unnamed, tmp_path, lambda: table)


def test_models_of_other_libraries_are_written_by_themselves(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    np = pytest.importorskip("numpy")
    data = lightgbm.Dataset(np.arange(100.0).reshape(-1, 1), label=np.arange(100.0) > 50)
    booster = lightgbm.train({"verbose": -1, "objective": "binary"}, data, num_boost_round=2)
    path = convert.artifact(booster, tmp_path, None)
    assert path.read_text().startswith("tree\n")


def test_models_of_xgboost_and_wrappers_of_lightgbm_save_themselves(tmp_path: Path) -> None:
    class Saves:
        def save_model(self, path: str) -> None:
            Path(path).write_text(type(self).__module__)

    class OfXgboost(Saves):
        pass

    class OfLightgbm:
        booster_ = Saves()

    OfXgboost.__module__, OfLightgbm.__module__ = "xgboost.sklearn", "lightgbm.sklearn"
    path = convert.artifact(OfXgboost(), tmp_path, None)
    assert path.suffix == ".ubj" and path.read_text() == "xgboost.sklearn"
    assert convert.artifact(OfLightgbm(), tmp_path, None).suffix == ".txt"


def test_file_is_taken_as_it_is_and_anything_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.txt"
    file.write_text("tree\n")
    assert convert.artifact(file, tmp_path, None) == file
    assert convert.artifact(str(file), tmp_path, None) == file
    for wrong in [tmp_path / "none", 5, object()]:
        with pytest.raises(wafer.Invalid):
            convert.artifact(wrong, tmp_path, None)


def test_mlflow_is_asked_for_the_model_of_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    class Model:
        def SerializeToString(self) -> bytes:
            return b"of mlflow"

    Model.__module__ = "onnx.of_a_test"
    mlflow, models, onnx = (types.ModuleType(f"mlflow{end}") for end in ["", ".models", ".onnx"])
    flavors = {"python_function": {}, "onnx": {}}
    models.get_model_info = lambda uri: types.SimpleNamespace(flavors=flavors)  # type: ignore[attr-defined]
    onnx.load_model = lambda uri: Model()  # type: ignore[attr-defined]
    mlflow.onnx, mlflow.models = onnx, models  # type: ignore[attr-defined]
    for module in (mlflow, models, onnx):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert convert.artifact("models:/late/3", tmp_path, None).read_bytes() == b"of mlflow"
    del flavors["onnx"]
    with pytest.raises(wafer.Invalid, match="has the flavors python_function"):
        convert.artifact("runs:/1/model", tmp_path, None)
