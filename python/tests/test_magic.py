"""The cell magic, with a project that keeps what it was asked for."""

from pathlib import Path
from typing import Any

import pytest
import wafer
from wafer.client import magic
from wafer.client.listing import Record
from wafer.client.project import Project


class Told(Project):
    """A project that applies nothing."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Any] = []
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder

    def apply(self, *, now: bool = False, progress: Any = None) -> Record:
        self.told.append(now)
        return Record("plan", {"changes": []})


class Shell:
    def __init__(self, project: Any) -> None:
        self.user_ns = {"p": project}
        self.magics: dict[str, Any] = {}

    def register_magic_function(self, function: Any, magic_kind: str, magic_name: str) -> None:
        self.magics[magic_name] = function


@pytest.fixture
def project(tmp_path: Path) -> Told:
    return Told(tmp_path.resolve())


def run(project: Any, line: str, cell: str = "x = 1\n") -> Record:
    shell = Shell(project)
    wafer.load_ipython_extension(shell)
    result: Record = shell.magics["wafer"](line, cell)
    return result


def test_cell_is_written_and_applied(project: Told) -> None:
    assert run(project, "f.py --project p").changes == []
    assert (project.folder / "f.py").read_text() == magic.MARK + "x = 1\n"
    run(project, "f.py --project p --now", "y = 2")
    assert (project.folder / "f.py").read_text() == magic.MARK + "y = 2\n"
    assert project.told == [False, True]
    assert [path.name for path in project.folder.iterdir()] == ["f.py"]


def test_file_that_no_notebook_wrote_is_not_replaced(project: Told) -> None:
    (project.folder / "f.py").write_text("mine = 1\n")
    with pytest.raises(wafer.Invalid, match="was not written by a notebook"):
        run(project, "f.py --project p")
    assert (project.folder / "f.py").read_text() == "mine = 1\n"
    assert project.told == []
    run(project, "f.py --project p --overwrite")
    assert (project.folder / "f.py").read_text().startswith(magic.MARK)


def test_mistake_of_the_syntax_changes_nothing(project: Told) -> None:
    with pytest.raises(SyntaxError):
        run(project, "f.py --project p", "def f(:\n")
    assert list(project.folder.iterdir()) == [] and project.told == []


@pytest.mark.parametrize("name", ["../f.py", "/tmp/f.py", "f.txt", "wafer.toml", ".wafer/f.py", "a/f.py"])
def test_only_python_files_of_the_project_are_written(project: Told, name: str) -> None:
    with pytest.raises(wafer.Invalid):
        run(project, f"{name} --project p")
    assert project.told == []


def test_arguments_that_are_wrong_are_refused(project: Told) -> None:
    for line in ["", "f.py --what", "f.py --project q"]:
        with pytest.raises(wafer.Invalid):
            run(project, line)
    with pytest.raises(wafer.Invalid, match="open it with `wafer.open`"):
        run(wafer.connect("http://localhost:9"), "f.py --project p")
