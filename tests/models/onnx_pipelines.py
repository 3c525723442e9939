"""Writes ONNX models of all kinds that scikit-learn's pipelines are exported to, with the answers of
onnxruntime: `NAME.onnx`, and in `models.jsonl` a line for each model with its name, the parameters of the
stock function, the rows by column, and every output of the graph. The tests of functions/stock/onnx read
those in its tests/models, which were made with the versions in tests/oracle/requirements.txt.

Usage: onnx_pipelines.py FOLDER, or onnx_pipelines.py FOLDER MODEL.onnx ROWS.parquet … for models that exist."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import sklearn.discriminant_analysis as discriminant
import sklearn.ensemble as ensemble
import sklearn.linear_model as linear
import sklearn.naive_bayes as bayes
import sklearn.preprocessing as preprocessing
import sklearn.svm as svm
import sklearn.tree as tree
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

warnings.filterwarnings("ignore")
FOLDER = Path(sys.argv[1])
FOLDER.mkdir(exist_ok=True)
(FOLDER / "models.jsonl").write_text("")
# Rows to train on, and the first of them to ask for.
TRAINED, ASKED = 300, 12
# In these, onnxruntime adds hundreds of terms as float32, and the sum is small beside them.
ROUNDED = ["svr", "svr_linear", "svr_polynomial", "nu_svr", "outliers"]
NAMES = ["x0", "x1", "x2"]


def plain(values):
    """Values as JSON, a missing number as null."""
    if isinstance(values, list):
        # A map of probabilities for each row.
        return [[float(p) for p in row.values()] for row in values]
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind == "f":
        values = values.astype(float).astype(object)
        values[pd.isna(values)] = None
    return values.tolist()


def write(name, model, given, parameters, columns):
    """Asks onnxruntime, and writes a model with its answers."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = session.run(names, given)
    outputs = {name: plain(values) for name, values in zip(names, answers)}
    (FOLDER / f"{name}.onnx").write_bytes(model)
    case = {"name": name, "parameters": parameters, "columns": columns, "outputs": outputs}
    if name in ROUNDED:
        case["tolerance"] = 1e-5
    with (FOLDER / "models.jsonl").open("a") as models:
        models.write(json.dumps(case) + "\n")


def write_matrix(name, model, x, dtype=np.float32):
    x = x[:ASKED].astype(dtype)
    columns = {column: plain(x[:, n]) for n, column in enumerate(NAMES)}
    write(name, model, {"x": x}, {"features": ",".join(NAMES)}, columns)


def write_columns(name, model, columns):
    given = {column: np.asarray(values)[:ASKED].reshape(-1, 1) for column, values in columns.items()}
    write(name, model, given, {}, {column: plain(values) for column, values in given.items()})


def stored():
    """Models that exist, with the rows to ask them for."""
    for model, rows in zip(sys.argv[2::2], sys.argv[3::2]):
        rows, path = pq.read_table(rows).to_pandas()[:ASKED], Path(model)
        inputs = [i.name for i in onnxruntime.InferenceSession(model).get_inputs()]
        if inputs == ["x"]:
            write_matrix(path.stem, path.read_bytes(), rows[NAMES].to_numpy())
            continue
        types = {"float64": np.float32, "int64": np.int64}
        columns = {i: rows[i].to_numpy().astype(types.get(str(rows[i].dtype), object)) for i in inputs}
        write_columns(path.stem, path.read_bytes(), columns)


if len(sys.argv) > 2:
    stored()
    sys.exit()

random = np.random.default_rng(11)
X = random.normal(size=(TRAINED, 3)).astype(np.float32)
SUM = X[:, 0] + 0.3 * X[:, 1] ** 2 + random.normal(size=TRAINED) * 0.3
BINARY = (SUM > 0.2).astype(int)
CLASSES = np.digitize(SUM, [-0.4, 0.8])
TEXTS = np.array(["no", "yes"])[BINARY]
GAPS = X.copy()
GAPS[random.random(X.shape) < 0.2] = np.nan
CITIES = random.choice(["Bergen", "Bodo", "Oslo"], TRAINED)
REGIONS = random.choice(["north", "south", "ø"], TRAINED)
MONTHS = random.integers(1, 13, TRAINED)


def refused(name, error):
    """Says that there is no such model, because its exporter or onnxruntime refuses it."""
    print(f"{name}: {type(error).__name__}: {str(error)[:160]!r}")


def exported(name, model, label, x=X, double=False, **options):
    model.fit(x, label)
    input_type = (DoubleTensorType if double else FloatTensorType)([None, 3])
    try:
        content = to_onnx(model, initial_types=[("x", input_type)], **options).SerializeToString()
        write_matrix(name, content, x, np.float64 if double else np.float32)
    except Exception as error:
        refused(name, error)


flat = {"options": {"zipmap": False}}
logistic = linear.LogisticRegression
trees = {"n_estimators": 8, "max_depth": 4, "random_state": 1}

# Classifiers of two, three and named classes, with and without the map of probabilities.
exported("logistic_map", make_pipeline(preprocessing.StandardScaler(), logistic()), BINARY)
exported("logistic_map_texts", logistic(), TEXTS)
exported("logistic_texts", logistic(), TEXTS, **flat)
exported("logistic_three", logistic(), CLASSES, **flat)
exported("logistic_each", linear.LogisticRegressionCV(cv=3), CLASSES, **flat)
exported("sgd", linear.SGDClassifier(loss="log_loss", random_state=1), CLASSES, **flat)
exported("ridge_classes", linear.RidgeClassifier(), BINARY, **flat)
exported("tree", tree.DecisionTreeClassifier(max_depth=4), BINARY, **flat)
exported("tree_texts", tree.DecisionTreeClassifier(max_depth=4), TEXTS)
exported("tree_three", tree.DecisionTreeClassifier(max_depth=4), CLASSES, **flat)
exported("forest", ensemble.RandomForestClassifier(**trees), BINARY, **flat)
exported("forest_double", ensemble.RandomForestClassifier(**trees), CLASSES, double=True, **flat)
exported("extra", ensemble.ExtraTreesClassifier(**trees), BINARY, **flat)
exported("boosting", ensemble.GradientBoostingClassifier(n_estimators=8), BINARY, **flat)
exported("boosting_three", ensemble.GradientBoostingClassifier(n_estimators=5), CLASSES, **flat)
exported("boosting_zero", ensemble.GradientBoostingClassifier(n_estimators=5, init="zero"), BINARY, **flat)
exported("ada", ensemble.AdaBoostClassifier(n_estimators=4), BINARY, **flat)
exported("bagging", ensemble.BaggingClassifier(n_estimators=4, random_state=1), BINARY, **flat)
vote = [("a", logistic()), ("b", tree.DecisionTreeClassifier(max_depth=3))]
exported("voting", ensemble.VotingClassifier(vote, voting="soft", flatten_transform=False), BINARY, **flat)
exported("stacking", ensemble.StackingClassifier(vote, logistic()), BINARY, **flat)
exported("calibrated", CalibratedClassifierCV(logistic(), cv=3), BINARY, **flat)
exported("calibrated_isotonic", CalibratedClassifierCV(logistic(), method="isotonic", cv=3), BINARY, **flat)
exported("calibrated_svc", CalibratedClassifierCV(svm.LinearSVC(), cv=3), CLASSES, **flat)
exported("svc", svm.SVC(probability=True, random_state=1), BINARY, **flat)
exported("svc_three", svm.SVC(probability=True, random_state=1, kernel="poly"), CLASSES, **flat)
exported("svc_votes", svm.SVC(kernel="sigmoid"), BINARY, **flat)
exported("svc_texts", svm.SVC(kernel="linear"), TEXTS, **flat)
exported("nu_svc", svm.NuSVC(probability=True, random_state=1, nu=0.3), CLASSES, **flat)
exported("linear_svc", svm.LinearSVC(), BINARY)
exported("knn", KNeighborsClassifier(5), BINARY, **flat)
exported("naive_bayes", bayes.GaussianNB(), BINARY, **flat)
exported("bernoulli_bayes", bayes.BernoulliNB(), BINARY, **flat)
exported("discriminant", discriminant.LinearDiscriminantAnalysis(), CLASSES, **flat)
exported("network", MLPClassifier((6,), max_iter=200, random_state=1), CLASSES, **flat)

# Regressors.
exported("linear", linear.LinearRegression(), SUM)
exported("linear_two", linear.LinearRegression(), np.stack([SUM, X[:, 0]], axis=1))
exported("ridge", make_pipeline(preprocessing.MinMaxScaler(), linear.Ridge()), SUM)
exported("poisson", linear.PoissonRegressor(), np.abs(SUM))
exported("tree_regressor", tree.DecisionTreeRegressor(max_depth=4), SUM)
exported("tree_regressor_two", tree.DecisionTreeRegressor(max_depth=4), np.stack([SUM, X[:, 0]], axis=1))
exported("forest_regressor", ensemble.RandomForestRegressor(**trees), SUM)
exported("boosting_regressor", ensemble.GradientBoostingRegressor(n_estimators=10), SUM)
exported("svr", svm.SVR(), SUM)
exported("svr_linear", svm.SVR(kernel="linear"), SUM)
exported("svr_polynomial", svm.SVR(kernel="poly", degree=2), SUM)
exported("nu_svr", svm.NuSVR(), SUM)
exported("outliers", svm.OneClassSVM(nu=0.2), None)
exported("isolation_forest", ensemble.IsolationForest(n_estimators=4, random_state=1), None, target_opset={"": 15, "ai.onnx.ml": 3})
exported("kmeans", KMeans(3, random_state=1), None)

# Steps before them.
for name, step, x in [
    ("imputer", make_pipeline(SimpleImputer(), preprocessing.StandardScaler()), GAPS),
    ("imputer_constant", SimpleImputer(strategy="constant", fill_value=-1.5), GAPS),
    ("robust_polynomial", make_pipeline(preprocessing.RobustScaler(), preprocessing.PolynomialFeatures(2)), X),
    ("max_scaler", preprocessing.MaxAbsScaler(), X),
    ("norm_1", preprocessing.Normalizer("l1"), X),
    ("norm_2", preprocessing.Normalizer("l2"), X),
    ("norm_max", preprocessing.Normalizer("max"), np.abs(X)),
    ("binarizer", preprocessing.Binarizer(threshold=0.25), X),
    ("bins", preprocessing.KBinsDiscretizer(4, encode="onehot-dense"), X),
    ("bins_ordinal", preprocessing.KBinsDiscretizer(4, encode="ordinal"), X),
    ("power", preprocessing.PowerTransformer(), X),
    ("best", SelectKBest(k=2), X),
    ("components", PCA(2), X),
]:
    exported(f"step_{name}", make_pipeline(step, logistic()), BINARY, x, **flat)


def mixed(name, steps, columns, final=None):
    frame = pd.DataFrame(columns)
    steps = steps if steps is None else ColumnTransformer(steps, remainder="passthrough")
    model = make_pipeline(steps, logistic() if final is None else final).fit(frame, BINARY)
    kinds = {"f": FloatTensorType, "i": Int64TensorType, "O": StringTensorType, "U": StringTensorType}
    types = [(column, kinds[np.asarray(values).dtype.kind]([None, 1])) for column, values in columns.items()]
    columns = {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in columns.items()}
    try:
        write_columns(name, to_onnx(model, initial_types=types, **flat).SerializeToString(), columns)
    except Exception as error:
        refused(name, error)


one_hot = preprocessing.OneHotEncoder
mixed("text", [("c", one_hot(), ["city"]), ("x", preprocessing.StandardScaler(), ["x0"])], {"city": CITIES, "x0": X[:, 0]})
mixed("texts", [("c", one_hot(handle_unknown="ignore"), ["city", "region"])], {"city": CITIES, "region": REGIONS, "x0": X[:, 0]})
mixed("text_ordinal", [("c", preprocessing.OrdinalEncoder(), ["city", "region"])], {"city": CITIES, "region": REGIONS, "x0": X[:, 0]})
mixed("integers", [("m", one_hot(), ["month"])], {"month": MONTHS})
mixed("integers_and_floats", [("m", one_hot(), ["month"]), ("x", "passthrough", ["x0"])], {"month": MONTHS, "x0": X[:, 0]})
mixed("everything", [
    ("c", one_hot(), ["city"]),
    ("m", one_hot(), ["month"]),
    ("x", make_pipeline(SimpleImputer(), preprocessing.StandardScaler()), ["x0", "x1"]),
], {"city": CITIES, "month": MONTHS, "x0": GAPS[:, 0], "x1": GAPS[:, 1]}, ensemble.GradientBoostingClassifier(n_estimators=5))


# Operators by themselves, with attributes that exporters leave alone.
def by_itself(name, op, outputs, x=X, datum=TensorProto.FLOAT, **attributes):
    node = helper.make_node(op, ["x"], [output for output, _ in outputs], domain="ai.onnx.ml", **attributes)
    typed = [helper.make_tensor_value_info(output, kind, None) for output, kind in outputs]
    graph = helper.make_graph([node], "by_itself", [helper.make_tensor_value_info("x", datum, [None, 3])], typed)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3 if op != "LabelEncoder" else 2)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    try:
        write_matrix(f"op_{name}", model, x, np.float32)
    except Exception as error:
        refused(f"op_{name}", error)


classified = [("label", TensorProto.INT64), ("scores", TensorProto.FLOAT)]
number = [("y", TensorProto.FLOAT)]
for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]:
    short = transform.lower()
    by_itself(f"linear_one_{short}", "LinearClassifier", classified, X / 8 + 0.1, coefficients=[0.5, 0.4, 0.3],
              intercepts=[0.3], classlabels_ints=[4, 7], post_transform=transform)
    by_itself(f"linear_three_{short}", "LinearClassifier", classified, np.abs(X) / 9, intercepts=[0.1, 0.2, 0.3],
              coefficients=[0.3, 0.2, 0.1, 0.2, 0.2, 0.2, 0.1, 0.2, 0.3], classlabels_ints=[3, 5, 8], post_transform=transform)
    by_itself(f"regressor_one_{short}", "LinearRegressor", number, np.abs(X) / 9, coefficients=[0.3, 0.2, 0.1],
              intercepts=[0.1], targets=1, post_transform=transform)
    by_itself(f"regressor_two_{short}", "LinearRegressor", number, np.abs(X) / 9, intercepts=[0.1, 0.2],
              coefficients=[0.3, 0.2, 0.1, 0.2, 0.2, 0.2], targets=2, post_transform=transform)

stump = dict(nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2] * 2, nodes_featureids=[0, 0, 0, 1, 0, 0],
             nodes_values=[0.2, 0, 0, -0.1, 0, 0], nodes_truenodeids=[1, 0, 0] * 2, nodes_falsenodeids=[2, 0, 0] * 2,
             nodes_hitrates=[1.0] * 6)
ids = dict(treeids=[0, 0, 1, 1], nodeids=[1, 2, 1, 2])
for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]:
    for case, classes, weights in [
        ("one_positive", [0] * 4, [0.1, 0.3, 0.2, 0.4]),
        ("second_positive", [1] * 4, [0.1, 0.3, 0.2, 0.4]),
        ("one_mixed", [0] * 4, [-0.1, 0.3, 0.2, -0.4]),
        ("second_mixed", [1] * 4, [-0.1, 0.3, 0.2, -0.4]),
        ("both", [0, 1, 0, 1], [0.1, 0.3, 0.2, 0.4]),
    ]:
        for base in [None, [0.2], [0.1, 0.3]]:
            if transform in ["SOFTMAX", "SOFTMAX_ZERO"] and (base or case != "both"):
                continue
            if case == "both" and base == [0.2]:
                continue  # Here onnxruntime leaves the second score as it was in memory.
            more = {} if base is None else {"base_values": base}
            by_itself(f"trees_{case}_{transform.lower()}_{len(base or [])}", "TreeEnsembleClassifier", classified,
                      nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GTE", "LEAF", "LEAF"], class_ids=classes,
                      class_weights=weights, class_treeids=ids["treeids"], class_nodeids=ids["nodeids"],
                      # With weights of both classes, onnxruntime answers 0 and 1 whatever they are called.
                      classlabels_int64s=[0, 1] if case == "both" else [2, 6], post_transform=transform, **more, **stump)
for mode in ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"]:
    for tracks in [0, 1]:
        by_itself(f"split_{mode.lower()}_{tracks}", "TreeEnsembleRegressor", number, GAPS.round(1), n_targets=1,
                  nodes_modes=[f"BRANCH_{mode}", "LEAF", "LEAF"] * 2, target_ids=[0] * 4, target_weights=[1.0, 2.0, 4.0, 8.0],
                  target_treeids=ids["treeids"], target_nodeids=ids["nodeids"], nodes_missing_value_tracks_true=[tracks] * 6, **stump)
for aggregate in ["SUM", "AVERAGE", "MIN", "MAX"]:
    for targets, base in [(1, None), (1, [0.5]), (2, None), (2, [0.5, 0.7])]:
        more = {} if base is None else {"base_values": base}
        by_itself(f"aggregate_{aggregate.lower()}_{targets}_{len(base or [])}", "TreeEnsembleRegressor", number,
                  n_targets=targets, aggregate_function=aggregate, nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
                  target_ids=[0, targets - 1] * 2, target_weights=[1.0, 2.0, 4.0, 8.0], target_treeids=ids["treeids"],
                  target_nodeids=ids["nodeids"], **more, **stump)
for norm in ["MAX", "L1", "L2"]:
    zeros = X.copy()
    zeros[:3] = 0
    by_itself(f"norm_{norm.lower()}", "Normalizer", number, zeros, norm=norm)
by_itself("scaler_one", "Scaler", number, offset=[0.5], scale=[2.0])
by_itself("imputer_one", "Imputer", number, GAPS, imputed_value_floats=[7.0], replaced_value_float=float("nan"))
by_itself("imputer_zero", "Imputer", number, X.round(0), imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=0.0)
by_itself("binarizer", "Binarizer", number, threshold=0.1)
by_itself("encoder_floats", "LabelEncoder", [("y", TensorProto.INT64)], X.round(0), keys_floats=[-1.0, 0.0, 1.0],
          values_int64s=[5, 6, 7], default_int64=-9)
by_itself("vectorizer", "FeatureVectorizer", number, inputdimensions=[3])
by_itself("vectorizer_short", "FeatureVectorizer", number, inputdimensions=[2])
by_itself("vectorizer_long", "FeatureVectorizer", number, inputdimensions=[5])
support = dict(support_vectors=[0.1, 0.2, 0.3, -0.2, 0.4, 0.1, 0.5, -0.5, 0.2], rho=[0.05], kernel_params=[0.5, 0.1, 3.0])
for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
    for transform in ["NONE", "LOGISTIC"]:
        by_itself(f"svm_{kernel.lower()}_{transform.lower()}", "SVMClassifier", classified, coefficients=[0.5, -0.7, 0.4],
                  vectors_per_class=[1, 2], classlabels_ints=[3, 9], kernel_type=kernel, post_transform=transform, **support)
    by_itself(f"svm_regressor_{kernel.lower()}", "SVMRegressor", number, coefficients=[0.5, -0.7, 0.4], n_supports=3,
              kernel_type=kernel, **support)
for name, weights in [("positive", [0.5, 0.7, 0.4, 0.1, 0.2, 0.3]), ("mixed", [0.5, -0.7, 0.4, 0.1, 0.2, -0.3])]:
    by_itself(f"svm_without_vectors_{name}", "SVMClassifier", classified, coefficients=weights, classlabels_ints=[3, 9],
              rho=[0.05], kernel_params=[0.5, 0.1, 3.0], kernel_type="LINEAR")
