"""Writes what LightGBM predicts with model files that were trained elsewhere, for rows with nulls and
with values at every threshold, in the form of train.py. Usage: predict.py FOLDER FEATURE,… MODEL…"""

import json
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER, NAMES = Path(sys.argv[1]), sys.argv[2].split(",")
ROWS = 2_000


def thresholds(node):
    if "threshold" not in node:
        return []
    return [node["threshold"]] + thresholds(node["left_child"]) + thresholds(node["right_child"])


models = []
for path in map(Path, sys.argv[3:]):
    booster = lgb.Booster(model_file=path)
    assert booster.feature_name() == NAMES, booster.feature_name()
    random = np.random.default_rng(7)
    splits = [t for tree in booster.dump_model()["tree_info"] for t in thresholds(tree["tree_structure"])]
    values = np.array(splits + [np.nextafter(t, np.inf) for t in splits] + [0.0, 1e300, -1e300])
    x = random.choice(values, (ROWS, len(NAMES)))
    x[random.random(x.shape) < 0.2] = np.nan
    columns = {name: pa.array(x[:, n], from_pandas=True) for n, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns | {"expected": booster.predict(x)}), FOLDER / f"{path.stem}.parquet")
    (FOLDER / f"{path.stem}.model").write_bytes(path.read_bytes())
    models.append({"name": path.stem, "function": "lightgbm", "output": "prediction", "parameters": {}, "tolerance": 1e-6})
(FOLDER / "models.json").write_text(json.dumps(models))
