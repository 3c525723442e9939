"""Training sets."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from . import frames, plots
from .command import Commands, Progress
from .errors import Error, Invalid, NotSupported
from .listing import Listing, Record, records
from .tables import ARROW
from .transport import Transport, path_of
from .values import argument_time

MAX_LABEL_BYTES = 256 << 20
"""The most bytes of labels that a server takes."""

MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "arrows": ARROW,
    "arrow": "application/vnd.apache.arrow.file",
    "feather": "application/vnd.apache.arrow.file",
    "ipc": "application/vnd.apache.arrow.file",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "jsonl": "application/x-ndjson",
    "json": "application/x-ndjson",
}
ENCODINGS = {"gz": "gzip", "zst": "zstd"}

_COUNT = re.compile(r"^(.*)=(\d+)$")

Split = str | Mapping[str, float | datetime | date | str | None]
Time = datetime | date | str


class CoincidentLabels(UserWarning):
    """Labels have the time of an event that they are joined with, so that the event counts."""


class TrainingSet:
    """A training set that was made. Its rows are in a temporary file, which ends with this object."""

    def __init__(
        self,
        id: str,
        folder: Path,
        coincident: Mapping[str, int],
        commands: Commands | None,
    ) -> None:
        self.id = id
        """The name of its record, by which the same bytes can be made again."""
        self.coincident = dict(coincident)
        """For each lookup the number of labels that have the time of an event of it."""
        self._folder = folder
        self._commands = commands
        self._table: Any = None
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def to_arrow(self) -> Any:
        """Returns the set as a table of pyarrow, which reads the file where it is."""
        if self._table is None:
            self._table = frames.read_stream(self._folder / "set.arrows")
        return self._table

    def to_pandas(self) -> Any:
        """Returns the set as a data frame of pandas, with columns that may be null as such."""
        return frames.to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """Returns the set as a data frame of Polars."""
        return frames.to_polars(self.to_arrow())

    def to_torch(
        self,
        columns: Sequence[str] | None = None,
        fill: float | Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Returns a tensor for each column of numbers, booleans, times (microseconds) or vectors.

        Without `columns`, other columns are left out. `fill` says what stands for nulls.
        """
        return frames.to_torch(self.to_arrow(), columns, fill)

    def __len__(self) -> int:
        return int(self.to_arrow().num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns: those of the labels, then the features."""
        return list(self.to_arrow().column_names)

    def statistics(self) -> Listing[Record]:
        """Returns what is recorded of each column: nulls, range, mean, quantiles, frequent values."""
        if self._commands is None:
            raise NotSupported(
                "the server has no route for the statistics that are recorded of a training set",
                hint="`to_pandas().describe()` computes some of them here",
            )
        recorded = self._commands.json(["training-sets", "--", self.id])
        shown = ["name", "type", "nulls", "distinct", "min", "mean", "max", "stddev"]
        return records("column", recorded["columns"], shown)

    def plot(self, *columns: str) -> Any:
        """Draws a histogram of each column of numbers, or of those that are named."""
        return plots.histograms(self.to_arrow(), columns)

    def __repr__(self) -> str:
        return f"<training set {self.id}: {len(self):,} rows, {len(self.columns):,} columns>"

    def _repr_html_(self) -> str:
        return Record("training set", self._facts())._repr_html_()

    def _facts(self) -> dict[str, Any]:
        return {
            "training set": self.id,
            "rows": len(self),
            "columns": self.columns,
            "labels at the time of an event": self.coincident,
        }


def make(
    transport: Transport,
    commands: Commands | None,
    view: str,
    labels: Any,
    options: Mapping[str, str],
    progress: Progress | None,
) -> TrainingSet:
    """Makes a training set. `options` have the names of the route's parameters."""
    folder = Path(tempfile.mkdtemp(prefix="wafer-"))
    try:
        path = _labels(labels, folder)
        if path.stat().st_size > MAX_LABEL_BYTES:
            if commands is None:
                raise Invalid(
                    f"the labels have {path.stat().st_size:,} bytes, and a server takes at most "
                    f"{MAX_LABEL_BYTES:,}",
                    hint="send them in parts, or as a file of Parquet",
                )
            named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
            arguments = [f"--labels={path}", *named, "--", view]
            return _by_command(commands, arguments, folder, progress, view)
        return _by_route(transport, commands, view, path, options, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def recreate(commands: Commands | None, id: str, progress: Progress | None) -> TrainingSet:
    """Makes the same bytes of a recorded training set again."""
    if commands is None:
        raise NotSupported(
            "the server has no route to make a recorded training set again",
            hint="open the folder of the project",
        )
    folder = Path(tempfile.mkdtemp(prefix="wafer-"))
    try:
        return _by_command(commands, [f"--recreate={id}"], folder, progress, "training set")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def options_of(
    time: str,
    split: Split | None,
    split_by: str | None,
    seed: int | None,
    as_of: Time | None,
    zone: str | None,
    types: Mapping[str, str] | str | None,
) -> dict[str, str]:
    """Returns the parameters of a request."""
    if isinstance(types, Mapping):
        types = ",".join(f"{column}={kind}" for column, kind in types.items())
    given = {
        "time": time,
        "as_of": None if as_of is None else argument_time(as_of, "as_of"),
        "types": types,
        "zone": zone,
        "split": None if split is None else _split_text(split),
        "split_by": split_by,
        "seed": None if seed is None else str(seed),
    }
    return {name: value for name, value in given.items() if value is not None}


def _split_text(split: Split) -> str:
    """Returns a split as a text: {"train": 0.8, "test": 0.2}, or by times, of which the last is None."""
    if isinstance(split, str):
        return split
    parts = []
    for name, end in split.items():
        if end is None:
            parts.append(name)
        elif isinstance(end, (int, float)):
            parts.append(f"{name}={end!r}")
        else:
            parts.append(f"{name}<{argument_time(end, 'split')}")
    return ",".join(parts)


def _labels(labels: Any, folder: Path) -> Path:
    """Returns the file of labels: the one that is named, or one of the rows that are given."""
    if isinstance(labels, (str, Path)):
        path = Path(labels)
        _media_type(path)
        if not path.is_file():
            raise Invalid(f"there is no file of labels {path}")
        return path
    path = folder / "labels.arrows"
    frames.write_stream(frames.table_of(labels), path)
    return path


def _media_type(path: Path) -> tuple[str, str | None]:
    """Returns the media type of a file, and how it is compressed."""
    extensions = [extension.removeprefix(".").lower() for extension in path.suffixes]
    encoding = ENCODINGS.get(extensions[-1]) if extensions else None
    if encoding is not None:
        extensions.pop()
    media_type = MEDIA_TYPES.get(extensions[-1]) if extensions else None
    if media_type is None:
        raise Invalid(
            f"the name of {path} tells no format",
            hint=f"labels are {', '.join('.' + name for name in MEDIA_TYPES)}, or rows",
        )
    return media_type, encoding


def _by_route(
    transport: Transport,
    commands: Commands | None,
    view: str,
    labels: Path,
    options: Mapping[str, str],
    folder: Path,
) -> TrainingSet:
    media_type, encoding = _media_type(labels)
    headers = {"accept": ARROW}
    if encoding is not None:
        headers["content-encoding"] = encoding
    answer = transport.send(
        "POST",
        path_of("v1", "views", view, "training-set"),
        query=list(options.items()),
        body=labels,
        media_type=media_type,
        headers=headers,
        timeout=transport.timeouts.training_set,
        into=folder / "set.arrows",
    )
    counts = [_COUNT.match(each) for each in answer.headers.get(_COINCIDENT, "").split(", ")]
    coincident = {found[1]: int(found[2]) for found in counts if found}
    id = answer.headers.get("wafer-training-set")
    if id is None:
        raise Error("the server did not say under which ID it recorded the training set")
    return _made(id, folder, coincident, commands)


_COINCIDENT = "wafer-coincident-labels"


def _by_command(
    commands: Commands,
    arguments: list[str],
    folder: Path,
    progress: Progress | None,
    title: str,
) -> TrainingSet:
    out = f"--out={folder / 'set.arrows'}"
    made = commands.json(["training-set", out, *arguments], progress, title)
    return _made(made["id"], folder, made.get("coincident", {}), commands)


def _made(
    id: str, folder: Path, coincident: Mapping[str, int], commands: Commands | None
) -> TrainingSet:
    if coincident:
        counted = ", ".join(f"{count:,} of `{lookup}`" for lookup, count in coincident.items())
        warnings.warn(
            f"labels have the time of an event that they are joined with, so the event counts: "
            f"{counted}. If the event is what the label is about, the features know the answer: let "
            "`time` name when the prediction is made, or give the source a `delay`",
            CoincidentLabels,
            # Whoever called the method of the project is shown.
            stacklevel=5,
        )
    (folder / "labels.arrows").unlink(missing_ok=True)
    return TrainingSet(id, folder, coincident, commands)
