"""Versions of models, and the releases and endpoints that serve them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import convert, training
from .command import Commands, Progress
from .errors import Error, NotSupported
from .listing import Listing, Record, records
from .training import TrainingSet
from .transport import Transport, path_of

POLL = 0.05


class Models:
    """The models of a project."""

    def __init__(self, commands: Commands | None) -> None:
        self._commands = commands

    def push(
        self,
        name: str,
        model: Any,
        *,
        training_set: TrainingSet | str | None = None,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, Any] | None = None,
        doc: str | None = None,
        tags: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Registers a model as the next version of the model `name` of the project.

        `model` is a pipeline or estimator of scikit-learn that was fitted on a data frame, a model
        of LightGBM, XGBoost or ONNX, a file, or a URI of MLflow. Which function predicts by it is
        in `wafer.toml`. With `training_set` (the set or its ID) the version is evaluated.
        """
        commands = needs_folder(self._commands, "models")
        set_of = training_set

        def rows() -> Any:
            of = set_of if isinstance(set_of, TrainingSet) else None
            return (of or training.recreate(commands, str(set_of), progress)).to_arrow()

        with tempfile.TemporaryDirectory(prefix="wafer-") as folder:
            file = convert.artifact(model, Path(folder), None if set_of is None else rows)
            arguments = [f"--artifact=model={file}"]
            if set_of is not None:
                id = set_of.id if isinstance(set_of, TrainingSet) else set_of
                arguments.append(f"--training-set={id}")
            arguments += [f"--metric={key}={value!r}" for key, value in (metrics or {}).items()]
            arguments += [f"--parameter={key}={value}" for key, value in (parameters or {}).items()]
            arguments += [f"--tag={key}={value}" for key, value in (tags or {}).items()]
            if doc is not None:
                arguments.append(f"--doc={doc}")
            pushed = commands.json(["models", "push", *arguments, "--", name], progress, name)
        return Record("version of a model", pushed)

    def list(self, name: str | None = None) -> Listing[Record]:
        """Returns the models, or the versions of one."""
        commands = needs_folder(self._commands, "models")
        if name is None:
            models = commands.json(["models", "list"])
            return records("model", models, ["name", "latest", "aliases", "owner", "doc"])
        versions = commands.json(["models", "list", "--", name])
        named = [{"name": f"{version['model']}@{version['version']}", **version} for version in versions]
        return records("version", named, ["name", "created", "training_set", "metrics", "doc"])

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()


def release(commands: Commands | None, model: str, name: str | None, doc: str) -> Record:
    """Makes a release of a version of a model."""
    commands = needs_folder(commands, "releases")
    arguments = ["release", "create", f"--model={model}", f"--doc={doc}"]
    made = commands.json([*arguments, *(["--", name] if name is not None else [])])
    return Record("release", made)


def endpoint(
    transport: Transport,
    commands: Commands | None,
    name: str,
    routes: str | Mapping[str, float],
    options: Sequence[str],
) -> Record:
    """Routes an endpoint, and waits until the server does."""
    commands = needs_folder(commands, "endpoints")
    if isinstance(routes, str):
        routes = {routes: 100}
    texts = [f"{release}={percent!r}" for release, percent in routes.items()]
    made = commands.json(["endpoints", "set", *options, "--", name, *texts])
    _await_releases(transport, name, set(routes))
    return Record("endpoint", {"name": name, **made})


def _await_releases(transport: Transport, name: str, wanted: set[str]) -> None:
    """Waits until the server answers for an endpoint by these releases."""
    until = time.monotonic() + transport.timeouts.answer
    said: Error | None = None
    while time.monotonic() < until:
        try:
            if set(transport.get(path_of("v2", "models", name))["versions"]) == wanted:
                return
        except Error as error:
            said = error
        time.sleep(POLL)
    raise Error(
        f"the endpoint `{name}` is set, and the server does not serve it yet"
        + (f": {said.message}" if said else ""),
        hint="its log says why a release could not be made ready (`project.log`)",
    )


def needs_folder(commands: Commands | None, what: str) -> Commands:
    """Returns the commands of an opened folder."""
    if commands is None:
        raise NotSupported(
            f"the server has no route for {what} yet",
            hint="open the folder of the project with `wafer.open`, or use the command `wafer`",
        )
    return commands


