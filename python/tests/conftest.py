"""The package as the wheel has it, and a server that answers what a test says."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import build_wheel  # noqa: E402

TREE = Path(tempfile.mkdtemp(prefix="wafer-package-"))
atexit.register(shutil.rmtree, TREE, ignore_errors=True)
build_wheel.write_tree(TREE)
sys.path.insert(0, str(TREE))

from fake_server import FakeServer  # noqa: E402


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def tree() -> Path:
    """The folder that the package is in."""
    return TREE


@pytest.fixture(scope="session")
def binary() -> str:
    """The real program. Tests that need it are skipped where it is not named."""
    named = os.environ.get("WAFER_BINARY")
    if not named:
        pytest.skip("WAFER_BINARY does not name the program `wafer`, which this test runs")
    return named


@pytest.fixture(scope="session")
def stock(binary: str) -> str:
    """The real program, where it can build the functions that come with it."""
    if not os.environ.get("WAFER_CACHE"):
        pytest.skip("WAFER_CACHE names no folder in which stock functions are built and kept")
    return binary
