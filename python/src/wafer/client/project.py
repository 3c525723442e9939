"""A project: in a folder, by a private server, or on a server that runs."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from . import events, frames, inference, models, training
from .command import Commands, Progress, find_binary
from .errors import Error, Invalid, in_batch
from .events import PushReport
from .inference import Predictions
from .listing import Listing, Record, records
from .models import Models, needs_folder
from .private import PrivateServer
from .tables import Source, Table
from .training import Split, TrainingSet
from .transport import Retries, Timeouts, Transport, path_of
from .values import argument_time, encoded_row
from .vectors import Features, Vector, rows_of_answer, vectors_of

FEATURE_ROWS = 1_000
"""The number of rows of one request for features."""

Time = datetime | date | str

_opened: weakref.ref[Project] | None = None


class Project:
    """A project of Wafer. `wafer.open` and `wafer.connect` return one."""

    def __init__(self, transport: Transport, opened: Opened | None = None) -> None:
        self._transport = transport
        self._opened = opened
        self._schemas: dict[str, dict[str, str]] = {}

    # What there is.

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._transport.url

    @property
    def folder(self) -> Path | None:
        """The folder of the project, if it was opened."""
        return self._opened.folder if self._opened else None

    @property
    def log(self) -> list[str]:
        """The last lines of the log of the private server."""
        return self._opened.server.log if self._opened else []

    def views(self) -> Listing[Record]:
        """Returns the feature views. `view(name)` has the inputs and features of one."""
        return records("view", self._get("v1", "views")["views"], ["name", "doc"])

    def view(self, name: str) -> Record:
        """Returns a feature view: its inputs and its features."""
        return Record("view", self._get("v1", "views", name))

    def groups(self) -> Listing[Record]:
        """Returns the feature groups, with what fills them and what reads them."""
        shown = ["name", "version", "entity", "keys", "features", "source", "views", "doc"]
        return records("group", self._get("v1", "groups")["groups"], shown)

    def group(self, name: str) -> Record:
        """Returns a feature group: its join keys and its features."""
        return Record("group", self._get("v1", "groups", name))

    def sources(self) -> Listing[Record]:
        """Returns the sources, with the groups that are filled from them."""
        shown = ["name", "type", "path", "group", "groups", "doc"]
        return records("source", self._get("v1", "sources")["sources"], shown)

    def source(self, name: str) -> Source:
        """Returns a source. `to_pandas()` and others have its first rows."""
        self._check()
        return Source(self._transport, name)

    def functions(self) -> Listing[Record]:
        """Returns the functions, with what each reads and returns."""
        found = needs_folder(self._commands, "functions").json(["functions"])
        signatures = [
            {"name": name, **function["registered"]["signature"], **function["registered"]}
            for name, function in found.items()
        ]
        return records("function", signatures, ["name", "mapping", "inputs", "outputs", "doc", "digest"])

    def table(self, group: str) -> Table:
        """Returns the offline table of a group, or a table by its own name."""
        self._check()
        return Table(self._transport, self._commands, group)

    # Features.

    def features(self, view: str, rows: Any) -> Features:
        """Returns feature vectors as of now.

        `rows` have the join keys and request fields of the view: mappings, a table or a data frame.
        More than 1,000 rows are asked for in several requests, one after the other.
        """
        self._check()
        path = path_of("v1", "views", view, "features")
        vectors: list[Vector] = []
        schema: dict[str, str] = {}
        for first, batch in _batches(rows):
            body = b'{"rows":[' + b",".join(batch) + b"]}"
            try:
                answer = self._transport.post_json(path, body)
            except Error as error:
                raise in_batch(error, first) from None
            schema, read = self._read(view, rows_of_answer(answer, len(batch)))
            vectors += read
        return Features(view, schema or self._schema(view), vectors)

    async def features_async(self, view: str, rows: Any) -> Features:
        """Returns feature vectors, as `features` does, without blocking the event loop."""
        return await asyncio.to_thread(self.features, view, rows)

    def predict(self, endpoint: str, rows: Any, *, release: str | None = None) -> Predictions:
        """Returns what an endpoint predicts, by the Open Inference Protocol.

        `rows` have the join keys and request fields. With `release`, this release of the endpoint
        is asked. Rows that failed are in `errors` of the answer.
        """
        self._check()
        return inference.predict(self._transport, endpoint, rows, release)

    async def predict_async(
        self, endpoint: str, rows: Any, *, release: str | None = None
    ) -> Predictions:
        """Returns predictions, as `predict` does, without blocking the event loop."""
        return await asyncio.to_thread(self.predict, endpoint, rows, release=release)

    def push(self, source: str, rows: Any, *, on_rejected: str = "raise") -> PushReport:
        """Pushes events to a source, and returns what became of each.

        They go in batches of at most 1,000, and each batch is durable when it is answered. Pushing
        the same events again changes nothing. If some were rejected, `Rejected` is raised after the
        last batch, with the report; with `on_rejected="return"` the report is returned.
        """
        if on_rejected not in ("raise", "return"):
            raise Invalid(f"on_rejected is `raise` or `return`, and not `{on_rejected}`")
        self._check()
        return events.push(self._transport, source, rows, on_rejected == "raise")

    # Training sets.

    def training_set(
        self,
        view: str,
        labels: Any,
        *,
        time: str = "event_timestamp",
        split: Split | None = None,
        split_by: str | None = None,
        seed: int | None = None,
        as_of: Time | None = None,
        zone: str | None = None,
        types: Mapping[str, str] | str | None = None,
        progress: Progress | None = None,
    ) -> TrainingSet:
        """Joins labels with the features of a view as they were known at each label's time.

        `labels` are a data frame, a table, mappings, or the path of a file. `time` is the column of
        their times. `split` divides the rows: `{"train": 0.8, "test": 0.2}`, or by times
        `{"train": datetime(…), "test": None}`. `zone` is the zone of times that name none. The
        other options are those of `wafer training-set`.
        """
        self._check()
        options = training.options_of(time, split, split_by, seed, as_of, zone, types)
        return training.make(self._transport, self._commands, view, labels, options, progress)

    def recreate(self, id: str, *, progress: Progress | None = None) -> TrainingSet:
        """Makes a recorded training set again, byte by byte."""
        return training.recreate(self._commands, id, progress)

    # Work.

    def apply(self, *, now: bool = False, progress: Progress | None = None) -> Record:
        """Makes the definitions of `wafer.toml` live, and returns what changed.

        The private server is started anew, so that it serves them from now on.
        """
        commands = needs_folder(self._commands, "definitions")
        assert self._opened is not None
        plan = commands.json(["apply", *(["--now"] if now else [])], progress, "apply")
        self._opened.restart(self._transport)
        self._schemas.clear()
        return Record("plan", plan)

    def run(
        self,
        pipeline: str,
        *,
        start: Time | None = None,
        end: Time | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Runs a pipeline over the files of its source, and returns the record of the run."""
        commands = needs_folder(self._commands, "runs")
        interval = _interval(start, end)
        ran = commands.json(["run", *interval, "--", pipeline], progress, pipeline)
        return Record("run", ran)

    def backfill(
        self,
        pipeline: str,
        start: Time,
        end: Time,
        *,
        interval: str | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Fills history interval by interval. `interval` is a length such as `1d`."""
        commands = needs_folder(self._commands, "backfills")
        options = _interval(start, end)
        if interval is not None:
            options.append(f"--interval={interval}")
        report = commands.json(["backfill", *options, "--", pipeline], progress, pipeline)
        return Record("backfill", report)

    # Models.

    @property
    def models(self) -> Models:
        """The models: `models.push(…)` registers one, `models.list()` lists them."""
        return Models(self._commands)

    def release(self, model: str, name: str | None = None, *, doc: str = "") -> Record:
        """Binds a version of a model, such as `late@3`, to its view and the functions of both."""
        return models.release(self._commands, model, name, doc)

    def endpoint(
        self,
        name: str,
        routes: str | Mapping[str, float],
        *,
        key: str | None = None,
        shadow: Sequence[str] = (),
        log: float | None = None,
    ) -> Record:
        """Routes an endpoint to a release, or to several by percentages: `{"r1": 80, "r2": 20}`.

        `key` is the field by which rows are routed, `shadow` names releases that predict and do not
        answer, `log` is the percentage that is logged (10 by default).
        """
        options = [f"--shadow={release}" for release in shadow]
        if key is not None:
            options.append(f"--key={key}")
        if log is not None:
            options.append(f"--log={log!r}")
        return models.endpoint(self._transport, self._commands, name, routes, options)

    # The end.

    def close(self) -> None:
        """Ends the private server, if there is one, and closes connections."""
        self._transport.close()
        if self._opened is not None:
            self._opened.server.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<project {self.folder or self.url}>"

    # Inside.

    @property
    def _commands(self) -> Commands | None:
        return self._opened.commands if self._opened else None

    def _check(self) -> None:
        if self._opened is not None:
            self._opened.server.check()

    def _get(self, *parts: str) -> Any:
        self._check()
        return self._transport.get(path_of(*parts))

    def _schema(self, view: str) -> dict[str, str]:
        """Returns the types of the features of a view."""
        if view not in self._schemas:
            features = self._get("v1", "views", view)["features"]
            self._schemas[view] = {feature["name"]: feature["type"] for feature in features}
        return self._schemas[view]

    def _read(
        self, view: str, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, str], list[Vector]]:
        """Reads the rows of an answer by the types of the view, which may have changed."""
        try:
            return self._schema(view), vectors_of(self._schema(view), rows)
        except ValueError:
            self._schemas.pop(view, None)
        try:
            return self._schema(view), vectors_of(self._schema(view), rows)
        except ValueError as error:
            raise Error(f"what was answered for view `{view}` is not what the view has: {error}") from None


class Opened:
    """The folder of a project, and the private server of it."""

    def __init__(
        self, binary: str, folder: Path, clock: str | None, options: Sequence[str], timeouts: Timeouts
    ) -> None:
        self.folder = folder
        self.commands = Commands(binary, folder)
        self._clock = clock
        self._options = list(options)
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self.server = self._start()

    def _start(self) -> PrivateServer:
        clock = [] if self._clock is None else [f"--clock={self._clock}"]
        return PrivateServer(
            self.commands.binary, self.folder, [*clock, *self._options], self._timeouts
        )

    def restart(self, transport: Transport) -> None:
        """Starts the server anew, with its clock where it was."""
        with self._lock:
            if self._clock is not None:
                _, _, speed = self._clock.partition(",")
                now = transport.get(path_of("v1", "clock"))["now"]
                self._clock = f"{now},{speed}" if speed else now
            self.server.close()
            self.server = self._start()
            transport.move(self.server.url)


def open(
    folder: str | os.PathLike[str],
    *,
    clock: str | None = None,
    binary: str | os.PathLike[str] | None = None,
    timeouts: Timeouts | None = None,
    retries: Retries | None = None,
) -> Project:
    """Opens the folder of a project, with a private server that ends with this process.

    `clock` gives it another present, `START[,SPEED]` as `wafer serve --clock` has it. The program is
    `binary`, or the one that came with this package, or `wafer` on PATH.
    """
    global _opened
    path = Path(folder).resolve()
    if not (path / "wafer.toml").is_file():
        raise Invalid(f"{path} is no project: it has no wafer.toml", hint="`wafer new` makes one")
    timeouts = timeouts or Timeouts()
    opened = Opened(find_binary(binary), path, clock, [], timeouts)
    project = Project(Transport(opened.server.url, None, timeouts, retries), opened)
    _opened = weakref.ref(project)
    return project


def connect(
    url: str,
    token: str | None = None,
    *,
    timeouts: Timeouts | None = None,
    retries: Retries | None = None,
) -> Project:
    """Connects to a server. The token is sent as `Authorization: Bearer`, over https only."""
    return Project(Transport(url, token, timeouts, retries))


def last_opened() -> Project | None:
    """Returns the project that was opened last in this process."""
    return None if _opened is None else _opened()


def _batches(rows: Any) -> Any:
    """Yields rows as JSON, some at a time, with the number of the first."""
    first, batch = 0, []
    for number, row in enumerate(frames.rows_of(rows)):
        batch.append(encoded_row(row, number))
        if len(batch) == FEATURE_ROWS:
            yield first, batch
            first, batch = number + 1, []
    if batch:
        yield first, batch


def _interval(start: Time | None, end: Time | None) -> list[str]:
    options = []
    if start is not None:
        options.append(f"--from={argument_time(start, 'start')}")
    if end is not None:
        options.append(f"--to={argument_time(end, 'end')}")
    return options
