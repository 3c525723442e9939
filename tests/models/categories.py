"""Writes models of LightGBM and XGBoost that were trained with categories of all types, with what the
libraries predict: `NAME.model`, and in `models.jsonl` a line for each model with its name, the parameters
of the stock function, the rows by column, and the outputs. The tests of functions/stock/lightgbm and
functions/stock/xgboost read those in their tests/models, which were made with the versions in
tests/oracle/requirements.txt. Usage: categories.py LIGHTGBM_FOLDER XGBOOST_FOLDER"""

import json
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb

FOLDERS = {"lightgbm": Path(sys.argv[1]), "xgboost": Path(sys.argv[2])}
TRAINED = 400
random = np.random.default_rng(5)
for folder in FOLDERS.values():
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.jsonl").write_text("")


def write(library, name, content, columns, predicted, parameters=None):
    (FOLDERS[library] / f"{name}.model").write_bytes(content if isinstance(content, bytes) else content.encode())
    columns = {column: [None if pd.isna(v) else v for v in values] for column, values in columns.items()}
    case = {"name": name, "parameters": parameters or {}, "columns": columns, "outputs": {"prediction": predicted.tolist()}}
    with (FOLDERS[library] / "models.jsonl").open("a") as models:
        models.write(json.dumps(case) + "\n")


def frame(values, x):
    return pd.DataFrame({"c": pd.Categorical(values), "x": x})


def training(categories):
    values = random.choice(np.array(categories, dtype=object), TRAINED)
    rows = frame(values, random.normal(size=TRAINED))
    return rows, rows.x + 3.0 * np.cos(2.0 * rows.c.cat.codes)


# XGBoost 3.1 and 3.2 write pandas' categories cut and shifted if one has characters beyond ASCII.
PLAIN = {"Ultraviolett, ähnlich": "ultraviolet, or so"}
great = 2**60
KINDS = {
    # Categories, and values that are none of them.
    "texts": (["red", "green", "blue", "Ultraviolett, ähnlich", ""], ["yellow", "Red"]),
    "integers": ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [0, 13, -1]),
    "integers_from_0": ([0, 1, 2, 3], [4, -1]),
    "integers_apart": ([-7, 0, 1000, 99], [1, 8]),
    "integers_great": ([great + 1, great + 2, great + 3, 5], [great, 4]),
    "numbers": ([0.5, 1.5, -2.25, 3.0], [0.0, 1.0, 2.5]),
    "booleans": ([False, True], []),
}

for name, (categories, others) in KINDS.items():
    rows, label = training(categories)
    booster = lgb.train({"verbosity": -1, "objective": "regression", "num_leaves": 6}, lgb.Dataset(rows, label), 4)
    asked = categories + others + [None]
    x = [0.1] * len(asked)
    predicted = booster.predict(frame(asked, x))
    write("lightgbm", name, booster.model_to_string(), {"c": asked, "x": x}, predicted, {"categories": "c"})
    if name in ["numbers", "booleans"]:
        continue  # XGBoost does not train with these.
    categories = [PLAIN.get(category, category) for category in categories]
    rows["c"] = rows.c.cat.rename_categories(lambda category: PLAIN.get(category, category))
    matrix = xgb.DMatrix(rows, label, enable_categorical=True)
    for form in ["json", "ubj"]:
        booster = xgb.train({"max_depth": 3}, matrix, 3)
        asked = categories + [None]
        x = [0.1] * len(asked)
        predicted = booster.predict(xgb.DMatrix(frame(asked, x), enable_categorical=True))
        write("xgboost", f"{name}_{form}", bytes(booster.save_raw(form)), {"c": asked, "x": x}, predicted)

# Codes, which the libraries take as they are, and values that are none.
codes = np.stack([random.integers(0, 6, TRAINED), random.normal(size=TRAINED)], axis=1)
label = codes[:, 1] + 3.0 * np.cos(2.0 * codes[:, 0])
asked = [0, 1, 2, 3, 4, 5, 6, 99, -1, -0.5, -0.0, 0.9, 2.9, 2.0**31, 1e300, None]
x = [0.1] * len(asked)
given = np.array([[np.nan if c is None else c, 0.1] for c in asked])
booster = lgb.train({"verbosity": -1, "objective": "regression", "num_leaves": 6},
                    lgb.Dataset(codes, label, feature_name=["c", "x"], categorical_feature=[0]), 4)
write("lightgbm", "codes", booster.model_to_string(), {"c": asked, "x": x}, booster.predict(given))
booster = xgb.train({"max_depth": 3}, xgb.DMatrix(codes, label, feature_names=["c", "x"], feature_types=["c", "float"],
                                                  enable_categorical=True), 3)
asked, x, given = asked[:-2] + [None], x[:-1], np.delete(given, -2, axis=0)
write("xgboost", "codes", bytes(booster.save_raw("json")), {"c": asked, "x": x}, booster.inplace_predict(given))
