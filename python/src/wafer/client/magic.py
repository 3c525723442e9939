"""`%%wafer`: writes a cell of a notebook into a file of the project, applies, and shows the result.

    %load_ext wafer

    %%wafer ride_features.py --show last_ride
    @wafer.function
    def ride_features(ride: Ride) -> RideFeatures: …

A file that a notebook did not write is not replaced, unless `--overwrite` says so.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from . import project as projects
from .errors import Invalid, NotFound
from .listing import Record
from .project import Project

MARK = "# Written by a notebook (%%wafer): a change here is replaced when its cell runs again.\n"


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Invalid(f"%%wafer: {message}", hint=self.format_usage().strip())


def _parser() -> _Arguments:
    parser = _Arguments(prog="%%wafer", add_help=False)
    parser.add_argument("file", help="the Python file, in the folder of the project")
    parser.add_argument("--project", help="the variable that has the project; default: the last one opened")
    parser.add_argument("--show", action="append", default=[], help="a view or a group to show")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of yours")
    parser.add_argument("--now", action="store_true", help="make new versions of groups live at once")
    return parser


def load_ipython_extension(shell: Any) -> None:
    """Registers the magic. IPython calls this for `%load_ext wafer`."""

    def magic(line: str, cell: str) -> Record:
        return run_cell(shell, line, cell)

    shell.register_magic_function(magic, magic_kind="cell", magic_name="wafer")


def run_cell(shell: Any, line: str, cell: str) -> Record:
    """Writes a cell, applies, and returns the plan. What `--show` names is displayed."""
    arguments = _parser().parse_args(shlex.split(line))
    project = _project(shell, arguments.project)
    if project.folder is None:
        raise Invalid("%%wafer writes into the folder of a project", hint="open it with `wafer.open`")
    path = _file(project.folder, arguments.file)
    # A mistake of the syntax leaves the file, and everything that is applied, as it was. The mark
    # stands where the notebook has the magic, so that lines have the same numbers.
    compile(MARK + cell, str(path), "exec", dont_inherit=True)
    write(path, cell, overwrites=arguments.overwrite)
    plan = project.apply(now=arguments.now)
    for name in arguments.show:
        _display(_named(project, name))
    return plan


def _project(shell: Any, name: str | None) -> Project:
    if name is None:
        found = projects.last_opened()
        if found is None:
            raise Invalid("no project was opened", hint="open it with `wafer.open` before")
        return found
    found = shell.user_ns.get(name)
    if not isinstance(found, Project):
        raise Invalid(f"`{name}` is no project")
    return found


def _file(folder: Path, name: str) -> Path:
    """Returns the path of a Python file within a folder."""
    path = (folder / name).resolve()
    if path.suffix != ".py" or not path.is_relative_to(folder) or ".wafer" in path.parts:
        raise Invalid(f"`{name}` is not a Python file (.py) in the folder of the project")
    if not path.parent.is_dir():
        raise Invalid(f"there is no folder {path.parent}")
    return path


def write(path: Path, cell: str, *, overwrites: bool) -> None:
    """Writes a cell to a file, the whole of it or nothing."""
    if path.exists() and not overwrites and not _is_ours(path):
        raise Invalid(
            f"{path.name} was not written by a notebook, and is not replaced",
            hint="name another file, or pass --overwrite",
        )
    text = MARK + (cell if cell.endswith("\n") else cell + "\n")
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".wafer-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(partial, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MARK.encode())) == MARK.encode()


def _named(project: Project, name: str) -> Any:
    """Returns what shows a group or a table by its rows, or a view by its fields."""
    try:
        return project.table(name)
    except NotFound:
        return project.view(name)


def _display(thing: Any) -> None:
    from IPython.display import display

    display(thing)
