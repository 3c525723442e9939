"""The wheel, and what the package imports."""

import base64
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import build_wheel
import pytest

HERE = Path(__file__).resolve().parent


def test_author_library_is_there_and_the_client_is_imported_when_it_is_used(tree: Path) -> None:
    code = """
import sys
import wafer
assert wafer.function and wafer.Columns and wafer.vector(3) and wafer.Refused and wafer.float32
assert not any(name.startswith("wafer.client") for name in sys.modules), "the client was imported"
assert "urllib.request" not in sys.modules
wafer.Project
assert "wafer.client" in sys.modules
assert not {"pyarrow", "numpy", "pandas", "polars", "IPython"} & set(sys.modules)
assert set(wafer.__all__) <= set(dir(wafer)) and "open" not in wafer.__all__
"""
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tree)!r})\n{code}"], check=True)


def test_function_of_the_authors_library_works(tree: Path) -> None:
    code = """
from dataclasses import dataclass
import wafer

@dataclass
class In:
    a: float

@wafer.function
def f(row: In) -> In:
    return In(row.a * 2)

assert f(In(2.0)).a == 4.0
"""
    file = tree / "of_a_test.py"
    file.write_text(code)
    subprocess.run([sys.executable, str(file)], check=True)


def test_nothing_of_the_client_is_in_the_interpreter() -> None:
    assert not (build_wheel.LIBRARY / "client").exists()
    assert not (build_wheel.LIBRARY / "_author.py").exists()
    assert "wafer/_guest.py" not in build_wheel.package_files()


def test_wheel_is_the_same_each_time_and_lists_its_files(tmp_path: Path) -> None:
    first = build_wheel.build(tmp_path / "a", None)
    second = build_wheel.build(tmp_path / "b", None)
    assert first.name == second.name == f"wafer-{build_wheel.project()['version']}-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith("RECORD"))
        lines = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert sorted(line[0] for line in lines) == sorted(names)
        for name, digest, size in lines:
            if name == record:
                assert (digest, size) == ("", "")
                continue
            content = archive.read(name)
            wanted = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={wanted}", len(content))
        metadata = archive.read(record.replace("RECORD", "METADATA")).decode()
        assert 'Requires-Dist: pyarrow>=17 ; extra == "data"' in metadata
        requirements = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
        assert all("extra ==" in line for line in requirements)


def test_version_is_that_of_the_program() -> None:
    cargo = tomllib.loads((HERE.parents[1] / "Cargo.toml").read_text())
    assert build_wheel.project()["version"] == cargo["workspace"]["package"]["version"]


def test_program_is_in_the_wheel_and_may_be_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Path(os.path.realpath("/bin/true"))
    path = build_wheel.build(tmp_path, true)
    machine = os.uname().machine
    assert path.name.startswith(f"wafer-{build_wheel.project()['version']}-py3-none-manylinux_2_")
    assert path.name.endswith(f"_{machine}.whl")
    with zipfile.ZipFile(path) as archive:
        entry = next(each for each in archive.infolist() if "/scripts/wafer" in each.filename)
        assert entry.external_attr >> 16 & 0o777 == 0o755
        assert archive.read(entry)[:4] == b"\x7fELF"
    monkeypatch.setattr(build_wheel, "MAX_WHEEL_BYTES", 1_000)
    with pytest.raises(build_wheel.Refused, match="may have 1,000"):
        build_wheel.build(tmp_path / "small", true)
    assert list((tmp_path / "small").iterdir()) == []


def test_damaged_programs_are_refused() -> None:
    content = Path(os.path.realpath("/bin/true")).read_bytes()
    assert build_wheel.platform_tag(content).startswith("manylinux_2_")
    for damaged in [b"", b"#!/bin/sh", content[:40], content[:64], content[: len(content) // 2]]:
        with pytest.raises(build_wheel.Refused):
            build_wheel.platform_tag(damaged)
    with pytest.raises(build_wheel.Refused, match="every Linux"):
        build_wheel.platform_tag(content.replace(b"libc.so.6\0", b"libz.so.9\0"))
