"""Compares a training set with what the oracle expects.

Null equals null only. Whole numbers, texts and times are equal. Floats that come
from one row (of plain groups, min, max, first, last) are equal bit by bit, every
NaN being one; so are sums and means of the column `wild`. Other sums and means,
variances and deviations differ by at most 1e-12 of the expected value: NaN equals
NaN only, an infinity the same infinity only, zero only zero. DuckDB rounds in
between: where one of these differs, it is computed again in rational numbers, and
that decides.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from expected import Feature, Oracle, Plan, column

TOLERANCE = 1e-12
# The greatest number of values of a feature that are computed again, and of rows that are shown.
REFEREED = 200
SHOWN = 5


def check(folder: Path, result_file: Path, plan: Plan) -> int:
    """Prints what was compared. Returns 1 if anything differs."""
    labels = pq.read_table(folder / "data" / "labels.parquet").combine_chunks()
    result = pq.read_table(result_file).combine_chunks()
    wrong = check_labels(labels, result)
    if wrong:
        print(wrong)
        return 1
    oracle = Oracle(folder, labels)
    right: dict[str, bool] = {}
    for group in plan.plain:
        right |= {feature.name: compare(labels, result, feature) for feature in oracle.plain(group)}
    for group in plan.windows:
        right |= {feature.name: compare(labels, result, feature) for feature in oracle.windows(group, plan)}
    failures = list(right.values()).count(False)
    unknown = [name for name in result.column_names if name not in {*labels.column_names, *right}]
    if unknown:
        print(f"not compared, because nobody expects them: {', '.join(unknown)}")
    print(f"{len(right)} features of {labels.num_rows:,} labels, {failures} differ")
    return 1 if failures or unknown else 0


def check_labels(labels: pa.Table, result: pa.Table) -> str | None:
    """Checks that the label columns come first and are unchanged, row by row."""
    names = labels.column_names
    if result.num_rows != labels.num_rows:
        return f"{result.num_rows:,} rows for {labels.num_rows:,} labels"
    if result.column_names[: len(names)] != names:
        return f"the first columns are {result.column_names[: len(names)]}, not {names}"
    for name in names:
        if not column(result, name).cast(labels[name].type).equals(column(labels, name)):
            return f"label column `{name}` is not what it was, or not in its order"
    return None


def compare(labels: pa.Table, result: pa.Table, feature: Feature) -> bool:
    """Prints a line about a feature, and the first rows that differ."""
    if feature.name not in result.column_names:
        print(f"{feature.name}: is not in the training set")
        return False
    got, want = column(result, feature.name), feature.values
    if got.type != want.type:
        print(f"{feature.name}: is {got.type}, not {want.type}")
        return False
    differs, errors = difference(got, want, feature.rule)
    positions = np.flatnonzero(differs)
    exact = 0
    disputed = np.flatnonzero(differs & np.asarray(want.is_valid()))
    if feature.referee and 0 < len(disputed) <= REFEREED:
        values = want.to_pylist()
        again = feature.referee(disputed)
        for position, value in again.items():
            values[position] = value
        exact, want = len(again), pa.array(values, want.type)
        differs, errors = difference(got, want, feature.rule)
        positions = np.flatnonzero(differs)
    filled = int(np.asarray(want.is_valid()).sum())
    notes = [
        f"{exact} computed exactly" * bool(exact),
        f"{len(positions)} DIFFER" * bool(len(positions)),
    ]
    worst = f"{errors.max(initial=0):.1e}" if feature.rule == "tolerance" else feature.rule
    counts = f"{len(want):>7} rows {filled:>7} not null  {worst:>7}"
    print(f"{feature.name:<44} {counts}  {', '.join(filter(None, notes))}")
    for position in positions[:SHOWN]:
        row = {name: labels[name][int(position)].as_py() for name in labels.column_names}
        print(f"    expected {want[int(position)]}, got {got[int(position)]} at {row}")
    return not len(positions)


def difference(got: pa.Array, want: pa.Array, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns which rows differ, and by which fraction of the expected value."""
    one_null = np.asarray(got.is_valid()) != np.asarray(want.is_valid())
    if rule == "equal":
        return one_null | np.asarray(pc.not_equal(got, want).fill_null(False)), np.zeros(len(want))
    # Nulls are compared as zeros, so that two nulls are equal.
    a, b = (array.fill_null(0.0).to_numpy() for array in (got, want))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if rule == "bits":
        return one_null | ~((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))), np.zeros(len(want))
    with np.errstate(all="ignore"):
        errors = np.where(same, 0.0, np.abs(a - b) / np.abs(b))
    errors = np.where(np.isnan(errors), np.inf, errors)
    return one_null | ~(errors <= TOLERANCE), np.where(one_null, 0.0, errors)
