"""The two projects have the same definitions, but for their functions and models."""

import tomllib
from pathlib import Path
from typing import Any

from conftest import PROJECT
from data import FLIGHTS

FUNCTIONS = [
    "airport_profile",
    "departure_features",
    "flight_outcome",
    "hourly_weather",
    "scheduled_flight",
]


def definitions(folder: Path) -> dict[str, Any]:
    """Reads a project file, in which paths start at this folder's neighbours."""
    text = (folder / "wafer.toml").read_text(encoding="utf-8")
    return tomllib.loads(text.replace('"data/', '"../flights/data/'))


def test_both_projects_have_the_same_definitions() -> None:
    rust, python = definitions(FLIGHTS), definitions(PROJECT)
    for table in ["entities", "sources", "groups", "pipelines", "views"]:
        assert python[table] == rust[table], table
    for name in FUNCTIONS:
        crate = rust["functions"][name].pop("crate")
        assert (FLIGHTS / crate).is_dir()
        assert python["functions"][name].pop("python") == "features"
        assert (PROJECT / "features" / f"{name}.py").is_file()
        assert python["functions"][name] == rust["functions"][name], name
    same = ["view", "label", "task", "doc", "owner"]
    of_rust, of_python = rust["models"]["late_arrival"], python["models"]["late_arrival"]
    assert [of_python[key] for key in same] == [of_rust[key] for key in same]
