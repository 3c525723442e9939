"""The functions of `languages.rs` in CPython, without a sandbox:
`PYTHONPATH=functions/stock/python/library python benches/languages.py`.

The rows are objects already, and the columns arrays: nothing is converted.
"""

import importlib.util
import statistics
import time
from array import array
from pathlib import Path

import wafer

FUNCTIONS = Path(__file__).parent / "functions" / "languages"
RUNS = 15


def loaded(name: str):
    """Returns a module of the folder of functions."""
    spec = importlib.util.spec_from_file_location(name, FUNCTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values(column: int, rows: int) -> array:
    """Returns the values that the bench in Rust has in a column."""
    return array("d", ((column * 31 + row * 7) % 170 - 85 for row in range(rows)))


def micros(call) -> str:
    """Times a call."""
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e6)
    return f"{statistics.median(times):10.1f} µs (from {min(times):.1f} to {max(times):.1f})"


for rows in (1, 100, 8_192):
    columns = [values(column, rows) for column in range(4)]
    for name, function in [("rows", "narrow"), ("simple_rows", "northing")]:
        module = loaded(name)
        body, points = getattr(module, function), [module.Points(*row) for row in zip(*columns)]
        print(f"{rows} rows, {name}: {micros(lambda: [body(point) for point in points])}")
    for name, function in [("columns", "narrow"), ("simple_columns", "northing")]:
        module = loaded(name)
        names = ("from_lat", "from_lon", "to_lat", "to_lon")
        points = wafer.Columns(**dict(zip(names, columns)))
        body = getattr(module, function)
        print(f"{rows} rows, {name}: {micros(lambda: body(points))}")
