"""Trains models with the usual libraries. For each model it writes the model file, rows with nulls, and
the predictions of the library for these rows: `NAME.model`, `NAME.parquet` with the columns of the rows
and `expected`, and `models.json`, which lists the models. Usage: train.py FOLDER"""

import json
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

FOLDER = Path(sys.argv[1])
ROWS = 2_000
NAMES = [f"x{n}" for n in range(6)]
COLOURS = ["red", "green", "blue", "Ultraviolett, ähnlich"]
models = []


def data(seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(ROWS, len(NAMES)))
    x[:, 1] = random.integers(0, 7, ROWS)
    x[:, 2] = np.where(random.random(ROWS) < 0.3, 0.0, x[:, 2])
    y = x[:, 0] * 2 + np.sin(x[:, 1]) * 3 + np.maximum(x[:, 2], 0) + random.normal(size=ROWS) * 0.3
    return x, y


def with_gaps(x):
    x = x.copy()
    x[np.random.default_rng(9).random(x.shape) < 0.1] = np.nan
    return x


X, Y = data(1)
GAPS = with_gaps(X)
BINARY = (Y > 1).astype(int)
CLASSES = np.digitize(Y, [-1, 2])
COUNTS = np.floor(np.exp(np.clip(Y / 3, -3, 3))).astype(int)
POSITIVE = np.abs(Y) + 0.1


def write(name, function, content, columns, expected, output="prediction", parameters=None, tolerance=1e-6):
    """Returns expected values: a number or a list for each row. Integers must be equal exactly."""
    (FOLDER / f"{name}.model").write_bytes(content if isinstance(content, bytes) else content.encode())
    expected = np.asarray(expected)
    expected = expected if expected.dtype == np.int64 else expected.astype(float)
    values = pa.array(expected if expected.ndim == 1 else list(expected))
    # A missing value is a null, because NaN is a number.
    arrays = {k: v if isinstance(v, pa.Array) else pa.array(v, from_pandas=True) for k, v in columns.items()}
    pq.write_table(pa.table(arrays | {"expected": values}), FOLDER / f"{name}.parquet")
    models.append({"name": name, "function": function, "output": output, "parameters": parameters or {}, "tolerance": tolerance})


def columns(x, names=NAMES):
    return {name: x[:, n] for n, name in enumerate(names)}


def three_sums(sums, data):
    """A custom objective: the squared error of three numbers, each against whether a row is of its class."""
    sums = np.asarray(sums, dtype=float).reshape(ROWS, 3)
    return sums - np.eye(3)[data.get_label().astype(int)], np.ones((ROWS, 3))


def lightgbm_model(name, label, output="prediction", x=GAPS, rounds=30, raw=False, **parameters):
    parameters = {"verbosity": -1, "seed": 1, "num_leaves": 15, "num_threads": 2} | parameters
    dataset = lgb.Dataset(x, label, feature_name=NAMES, categorical_feature=parameters.pop("categorical", []))
    booster = lgb.train(parameters, dataset, rounds)
    options = {"raw": "true"} if raw else {}
    write(name, "lightgbm", booster.model_to_string(), columns(x), booster.predict(x, raw_score=raw), output, options)


lightgbm_model("lightgbm_binary", BINARY, objective="binary")
lightgbm_model("lightgbm_sigmoid", BINARY, objective="binary", sigmoid=2.0)
lightgbm_model("lightgbm_regression", Y, objective="regression")
lightgbm_model("lightgbm_sqrt", Y, objective="regression", reg_sqrt=True)
lightgbm_model("lightgbm_no_gaps", Y, objective="regression", x=X)
lightgbm_model("lightgbm_zero_as_missing", Y, objective="regression", zero_as_missing=True)
lightgbm_model("lightgbm_no_missing", Y, objective="regression", use_missing=False)
lightgbm_model("lightgbm_poisson", COUNTS, objective="poisson")
lightgbm_model("lightgbm_gamma", POSITIVE, objective="gamma")
lightgbm_model("lightgbm_tweedie", POSITIVE, objective="tweedie")
lightgbm_model("lightgbm_quantile", Y, objective="quantile", alpha=0.9)
lightgbm_model("lightgbm_quantile_sqrt", 10 * Y, objective="quantile", alpha=0.9, reg_sqrt=True)
lightgbm_model("lightgbm_l1_sqrt", 10 * Y, objective="regression_l1", reg_sqrt=True)
lightgbm_model("lightgbm_cross_entropy", BINARY, objective="cross_entropy")
lightgbm_model("lightgbm_multiclass", CLASSES, "probabilities", objective="multiclass", num_class=3)
lightgbm_model("lightgbm_multiclassova", CLASSES, "probabilities", objective="multiclassova", num_class=3)
lightgbm_model("lightgbm_raw_classes", CLASSES, "predictions", raw=True, objective="multiclass", num_class=3)
lightgbm_model("lightgbm_own_classes", CLASSES, "predictions", objective=three_sums, num_class=3)
lightgbm_model("lightgbm_categorical", Y, objective="regression", categorical=[1])
lightgbm_model("lightgbm_forest_raw", Y, raw=True, boosting="rf", bagging_freq=1, bagging_fraction=0.6)
lightgbm_model("lightgbm_forest", Y, boosting="rf", bagging_freq=1, bagging_fraction=0.6, feature_fraction=0.6)
lightgbm_model("lightgbm_dart", BINARY, objective="binary", boosting="dart")
lightgbm_model("lightgbm_one_leaf", np.ones(ROWS), objective="regression", rounds=1)

# Categories of pandas are texts, whose codes are in the model file.
random = np.random.default_rng(4)
colours = pd.Categorical.from_codes(random.integers(-1, len(COLOURS), ROWS), COLOURS)
frame = pd.DataFrame({"x0": GAPS[:, 0], "colour": colours, "x2": GAPS[:, 2]})
target = Y + np.where(colours.codes == 2, 3.0, 0.0)
booster = lgb.train({"verbosity": -1, "objective": "regression"}, lgb.Dataset(frame, target), 30)
asked = {"x0": frame.x0, "colour": frame.colour.astype(object), "x2": frame.x2}
write("lightgbm_texts", "lightgbm", booster.model_to_string(), asked, booster.predict(frame))


# So are categories that are numbers, or booleans.
frame = pd.DataFrame({"month": pd.Categorical(random.integers(1, 13, ROWS)), "x0": GAPS[:, 0], "new": pd.Categorical(random.random(ROWS) < 0.5)})
target_of_months = target + np.cos(frame.month.cat.codes) + 2 * frame.new.cat.codes
booster = lgb.train({"verbosity": -1, "objective": "regression"}, lgb.Dataset(frame, target_of_months), 30)
asked = {"month": np.asarray(frame.month), "x0": frame.x0, "new": np.asarray(frame.new)}
write("lightgbm_numbers", "lightgbm", booster.model_to_string(), asked, booster.predict(frame))

# LightGBM is told that this column of integers has categories, which are not those of pandas.
stores = pd.DataFrame({"x0": GAPS[:, 0], "store": random.integers(0, 9, ROWS)})
booster = lgb.train({"verbosity": -1, "objective": "regression"}, lgb.Dataset(stores, target, categorical_feature=["store"]), 30)
write("lightgbm_stores", "lightgbm", booster.model_to_string(), dict(stores), booster.predict(stores))

# Ordered categories are used beside such a column, and the file does not say which is which.
sizes = pd.Categorical.from_codes(random.integers(-1, 3, ROWS), ["S", "M", "L"], ordered=True)
stores["size"] = sizes
booster = lgb.train({"verbosity": -1, "objective": "regression"}, lgb.Dataset(stores, target + sizes.codes, categorical_feature=["store"]), 30)
asked = {"x0": stores.x0, "store": stores.store, "size": stores["size"].astype(object)}
write("lightgbm_sizes", "lightgbm", booster.model_to_string(), asked, booster.predict(stores), parameters={"categories": "size"})


def xgboost_model(name, label, output="prediction", form="json", x=GAPS, rounds=30, types=None, **parameters):
    parameters = {"seed": 1, "max_depth": 5, "nthread": 2, "verbosity": 0} | parameters
    matrix = xgb.DMatrix(x, label, feature_names=NAMES, feature_types=types, enable_categorical=types is not None)
    booster = xgb.train(parameters, matrix, rounds)
    write(name, "xgboost", bytes(booster.save_raw(form)), columns(x), booster.predict(matrix), output)


xgboost_model("xgboost_binary", BINARY, objective="binary:logistic")
xgboost_model("xgboost_binary_ubj", BINARY, form="ubj", objective="binary:logistic")
xgboost_model("xgboost_raw", BINARY, objective="binary:logitraw")
xgboost_model("xgboost_hinge", BINARY, objective="binary:hinge")
xgboost_model("xgboost_regression", Y, form="ubj", objective="reg:squarederror")
xgboost_model("xgboost_absolute", Y, objective="reg:absoluteerror")
xgboost_model("xgboost_poisson", COUNTS, objective="count:poisson")
xgboost_model("xgboost_gamma", POSITIVE, objective="reg:gamma")
xgboost_model("xgboost_tweedie", POSITIVE, objective="reg:tweedie", form="ubj")
xgboost_model("xgboost_cox", POSITIVE, objective="survival:cox")
xgboost_model("xgboost_softprob", CLASSES, "probabilities", objective="multi:softprob", num_class=3)
xgboost_model("xgboost_softmax", CLASSES, objective="multi:softmax", num_class=3, form="ubj")
xgboost_model("xgboost_dart", BINARY, objective="binary:logistic", booster="dart", rate_drop=0.3)
xgboost_model("xgboost_forest", Y, rounds=1, num_parallel_tree=20, subsample=0.7, colsample_bynode=0.7, learning_rate=1)
xgboost_model("xgboost_categorical", Y, types=["float", "c"] + ["float"] * 4, max_cat_to_onehot=1)
xgboost_model("xgboost_one_hot", Y, types=["float", "c"] + ["float"] * 4, max_cat_to_onehot=10, form="ubj")


def xgboost_of(name, matrix, **parameters):
    booster = xgb.train({"max_depth": 5, "nthread": 2, "seed": 1} | parameters, matrix, 30)
    write(name, "xgboost", bytes(booster.save_raw("json")), columns(GAPS), booster.predict(matrix))


# Labels of rankings come in groups of rows, and those of survival times are bounds.
ranked = xgb.DMatrix(GAPS, CLASSES, feature_names=NAMES)
ranked.set_group([50] * (ROWS // 50))
xgboost_of("xgboost_ndcg", ranked, objective="rank:ndcg")
survived = xgb.DMatrix(GAPS, feature_names=NAMES, label_lower_bound=POSITIVE, label_upper_bound=POSITIVE)
xgboost_of("xgboost_aft", survived, objective="survival:aft", aft_loss_distribution="normal", aft_loss_distribution_scale=1.2)

# Since version 3.1, the categories of a data frame are in the file.
# XGBoost cuts categories with characters beyond ASCII, so they have none here.
plain = colours.rename_categories({COLOURS[3]: "ultraviolet, or so"})
frame = pd.DataFrame({"colour": plain, "month": pd.Categorical(random.integers(1, 13, ROWS)), "x0": GAPS[:, 0]})
matrix = xgb.DMatrix(frame, target + np.cos(frame.month.cat.codes), enable_categorical=True)
booster = xgb.train({"max_depth": 5}, matrix, 30)
asked = {"colour": frame.colour.astype(object), "month": np.asarray(frame.month), "x0": frame.x0}
write("xgboost_frame", "xgboost", bytes(booster.save_raw("ubj")), asked, booster.predict(matrix))

# When training stops early, the scikit-learn classes predict with the best round, and the booster with
# all rounds.
stopped = xgb.XGBRegressor(n_estimators=300, max_depth=6, learning_rate=0.3, early_stopping_rounds=5, random_state=1)
stopped.fit(X[:1500], Y[:1500], eval_set=[(X[1500:], Y[1500:])], verbose=False)
booster = stopped.get_booster()
content, options = bytes(booster.save_raw("ubj")), {"features": ",".join(NAMES)}
assert stopped.best_iteration + 1 < booster.num_boosted_rounds()
write("xgboost_best", "xgboost", content, columns(X), stopped.predict(X), parameters=options | {"trees": "best"})
write("xgboost_all", "xgboost", content, columns(X), booster.predict(xgb.DMatrix(X)), parameters=options | {"trees": "all"})

matrix = xgb.DMatrix(GAPS, CLASSES, feature_names=NAMES)
booster = xgb.train({"max_depth": 4, "num_class": 3, "objective": "reg:squarederror"}, matrix, 20, obj=three_sums)
write("xgboost_own_classes", "xgboost", bytes(booster.save_raw("json")), columns(GAPS), booster.predict(matrix), "predictions")


def onnx_model(name, model, label, output, onnx_output, double=False, chosen=None, **options):
    model.fit(X, label)
    shape = [None, X.shape[1]]
    input_type = DoubleTensorType(shape) if double else FloatTensorType(shape)
    content = to_onnx(model, initial_types=[("x", input_type)], **options).SerializeToString()
    session = onnxruntime.InferenceSession(content)
    expected = session.run([onnx_output], {"x": X.astype(np.float64 if double else np.float32)})[0]
    expected = expected[:, 0] if expected.ndim == 2 and expected.shape[1] == 1 else expected
    parameters = {"features": ",".join(NAMES)}
    if chosen is not None:
        expected, parameters = expected[:, chosen], parameters | {"class": str(chosen)}
    write(name, "onnx", content, columns(X), expected, output, parameters)


flat = {"options": {"zipmap": False}}
onnx_model("onnx_linear", LinearRegression(), Y, "variable", "variable")
onnx_model("onnx_logistic", LogisticRegression(), BINARY, "probabilities", "probabilities", **flat)
onnx_model("onnx_network", MLPRegressor(hidden_layer_sizes=(16, 8), random_state=1, max_iter=300), Y, "variable", "variable", double=True)
onnx_model("onnx_classifier", MLPClassifier(hidden_layer_sizes=(16,), random_state=1, max_iter=300), CLASSES, "probabilities", "probabilities", **flat)
onnx_model("onnx_class", MLPClassifier(hidden_layer_sizes=(8,), random_state=1, max_iter=300), CLASSES, "prediction", "probabilities", chosen=2, **flat)
onnx_model("onnx_forest", RandomForestClassifier(20, max_depth=6, random_state=1), BINARY, "probabilities", "probabilities", **flat)

# A pipeline as it is exported by default: an input for each column, and a map of each row's probabilities.
frame = pd.DataFrame({"city": random.choice(["Bergen", "Bodo", "Oslo"], ROWS), "x0": GAPS[:, 0].astype(np.float32)})
steps = [("city", OneHotEncoder(), ["city"]), ("x0", make_pipeline(SimpleImputer(), StandardScaler()), ["x0"])]
pipeline = make_pipeline(ColumnTransformer(steps), GradientBoostingClassifier(n_estimators=20)).fit(frame, BINARY)
types = [("city", StringTensorType([None, 1])), ("x0", FloatTensorType([None, 1]))]
content = to_onnx(pipeline, initial_types=types).SerializeToString()
given = {name: frame[[name]].to_numpy() for name in frame}
maps = onnxruntime.InferenceSession(content).run(["output_probability"], given)[0]
write("onnx_pipeline", "onnx", content, dict(frame), [list(row.values()) for row in maps], "output_probability")

# The model has several inputs (numbers, vectors, integers and booleans), each from its own column.
inputs = [
    onnx.helper.make_tensor_value_info("price", onnx.TensorProto.DOUBLE, ["n"]),
    onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["n", 4]),
    onnx.helper.make_tensor_value_info("count", onnx.TensorProto.INT64, ["n", 1]),
    onnx.helper.make_tensor_value_info("is_new", onnx.TensorProto.BOOL, ["n"]),
]
nodes = [
    onnx.helper.make_node("ReduceSum", ["embedding", "axis"], ["length"], keepdims=0),
    onnx.helper.make_node("Cast", ["length"], ["wide"], to=onnx.TensorProto.DOUBLE),
    onnx.helper.make_node("Add", ["price", "wide"], ["sum"]),
    onnx.helper.make_node("Squeeze", ["count", "axis"], ["flat"]),
    onnx.helper.make_node("Cast", ["flat"], ["number"], to=onnx.TensorProto.DOUBLE),
    onnx.helper.make_node("Where", ["is_new", "sum", "number"], ["score"]),
    onnx.helper.make_node("Add", ["count", "count"], ["twice"]),
]
outputs = [
    onnx.helper.make_tensor_value_info("score", onnx.TensorProto.DOUBLE, ["n"]),
    onnx.helper.make_tensor_value_info("twice", onnx.TensorProto.INT64, ["n", 1]),
]
axis = onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
graph = onnx.helper.make_graph(nodes, "mixed", inputs, outputs, [axis])
mixed = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
given = {
    "price": Y,
    "embedding": random.normal(size=(ROWS, 4)).astype(np.float32),
    # This number is larger than the integers that a float can hold exactly.
    "count": random.integers(-9, 9, (ROWS, 1)) + np.where(random.random((ROWS, 1)) < 0.5, (1 << 53) + 1, 0),
    "is_new": random.random(ROWS) < 0.5,
}
score, twice = onnxruntime.InferenceSession(mixed).run(["score", "twice"], given)
vectors = pa.FixedSizeListArray.from_arrays(pa.array(given["embedding"].ravel()), 4)
asked = {"price": Y, "embedding": vectors, "count": given["count"][:, 0], "is_new": given["is_new"]}
write("onnx_mixed", "onnx", mixed, asked, score, "score")
write("onnx_mixed_integers", "onnx", mixed, asked, twice[:, 0], "twice")
# Exporters write the number of rows at each value between operators, as here.
inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(mixed))
assert any(d.dim_param == "n" for v in inferred.graph.value_info for d in v.type.tensor_type.shape.dim)
write("onnx_inferred", "onnx", inferred.SerializeToString(), asked, score, "score")

logistic = LogisticRegression().fit(X, BINARY)
linear = {"intercept": logistic.intercept_[0], "coefficients": dict(zip(NAMES, logistic.coef_[0])), "link": "logistic"}
write("linear_logistic", "linear", json.dumps(linear), columns(X), logistic.predict_proba(X)[:, 1], tolerance=1e-12)

(FOLDER / "models.json").write_text(json.dumps(models))
