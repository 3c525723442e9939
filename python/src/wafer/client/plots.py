"""Histograms, by matplotlib or Altair, whichever is there."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import frames
from .errors import Invalid

BINS = 30
COLUMNS = 24
"""The most columns that are drawn unless they are named."""

Histogram = tuple[str, list[float], list[int]]
"""The name of a column, the edges of its bins, and their counts."""


def histograms(table: Any, columns: Sequence[str]) -> Any:
    """Draws a histogram of each column of numbers. Nulls, NaN and infinity are left out."""
    names = list(columns) or _numbers(table)[:COLUMNS]
    if not names:
        raise Invalid("no column has numbers that could be drawn")
    drawn = [_histogram(table, name) for name in names]
    if importlib.util.find_spec("matplotlib") is not None:
        return _by_matplotlib(drawn)
    if importlib.util.find_spec("altair") is not None:
        return _by_altair(drawn)
    raise ImportError("plots need matplotlib or altair: pip install matplotlib")


def _numbers(table: Any) -> list[str]:
    types = frames.arrow().types
    return [
        field.name
        for field in table.schema
        if types.is_integer(field.type) or types.is_floating(field.type)
    ]


def _histogram(table: Any, name: str) -> Histogram:
    pa, pc = frames.arrow(), frames.needed("pyarrow.compute", "plots", "pyarrow")
    if name not in table.column_names:
        raise Invalid(f"there is no column `{name}`; there are {', '.join(table.column_names)}")
    if name not in _numbers(table):
        raise Invalid(f"column `{name}` is {table.schema.field(name).type}, and no numbers")
    values = pc.cast(table.column(name), pa.float64(), safe=False).drop_null()
    values = values.filter(pc.is_finite(values))
    if len(values) == 0:
        return name, [0.0, 1.0], [0]
    low, high = pc.min(values).as_py(), pc.max(values).as_py()
    if low == high or not math.isfinite(high - low):
        return name, [low, high if high > low else math.nextafter(low, math.inf)], [len(values)]
    scaled = pc.multiply(pc.divide(pc.subtract(values, low), high - low), float(BINS))
    places = pc.min_element_wise(pc.floor(scaled), BINS - 1.0).cast(pa.int64())
    counts = [0] * BINS
    for found in pc.value_counts(places).to_pylist():
        counts[found["values"]] = found["counts"]
    return name, [low + (high - low) * edge / BINS for edge in range(BINS + 1)], counts


class Plot:
    """A figure of matplotlib, which a notebook shows, also without its plotting mode."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def save(self, path: str | Path) -> None:
        """Writes the figure to a file, in the format of its extension."""
        self.figure.savefig(path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=96)
        return buffer.getvalue()


def _by_matplotlib(drawn: Sequence[Histogram]) -> Plot:
    from matplotlib.figure import Figure

    across = min(3, len(drawn))
    down = math.ceil(len(drawn) / across)
    figure = Figure(figsize=(4 * across, 2.6 * down), layout="constrained")
    for number, (name, edges, counts) in enumerate(drawn):
        axes = figure.add_subplot(down, across, number + 1)
        axes.stairs(counts, edges, fill=True)
        # A dollar sign would begin a formula.
        axes.set_title(name.replace("$", r"\$"), fontsize=9)
    return Plot(figure)


def _by_altair(drawn: Sequence[Histogram]) -> Any:
    import altair as alt

    bars = [
        {"column": name, "from": edges[index], "to": edges[index + 1], "rows": count}
        for name, edges, counts in drawn
        for index, count in enumerate(counts)
    ]
    chart = alt.Chart(alt.Data(values=bars), width=220, height=120).mark_bar()
    encoded = chart.encode(
        x=alt.X("from:Q", title=None), x2="to:Q", y=alt.Y("rows:Q"), facet=alt.Facet("column:N", columns=3)
    )
    return encoded.resolve_scale(x="independent", y="independent")
