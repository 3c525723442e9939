"""Builds the wheel of the package `wafer`: the author's library, the client, and the program.

    python build_wheel.py --binary ../target/release/wafer --out ../dist
    python build_wheel.py --out ../dist                          # without the program: py3-none-any
    python build_wheel.py --tree FOLDER                          # the package as files, for tests

The same files make the same bytes. `pip install ./python` uses this file as a build backend, and
takes the program that `WAFER_WHEEL_BINARY` names.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "functions/stock/python/library/wafer"
CLIENT = HERE / "src/wafer"
LICENSES = [
    HERE.parent / "LICENSE",
    HERE.parent / "functions/stock/python/LICENSE-PSF.txt",
    HERE.parent / "functions/stock/javascript/LICENSE-QuickJS.txt",
]
"""The licences of Wafer, and of the interpreters that the program carries."""
VARIABLE = "WAFER_WHEEL_BINARY"

MAX_WHEEL_BYTES = 35_000_000
MAX_TABLE_BYTES = 1 << 20
"""The most bytes of a table of an ELF file that is read."""

# What manylinux allows a program to be linked with.
ALLOWED = {
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
}
MACHINES = {62: "x86_64", 183: "aarch64"}

EPOCH = (1980, 1, 1, 0, 0, 0)


class Refused(Exception):
    """A wheel that cannot be built. The message says why."""


# The package.


def package_files() -> dict[str, bytes]:
    """Returns the files of the package, by their paths in it."""
    files = {
        f"wafer/{path.relative_to(CLIENT).as_posix()}": path.read_bytes()
        for path in sorted(CLIENT.rglob("*"))
        if path.is_file() and path.suffix in (".py", ".typed")
    }
    for name, source in author_files().items():
        if name in files:
            raise Refused(f"{name} is a file of the client and one of the author's library")
        files[name] = source
    return files


def author_files() -> dict[str, bytes]:
    """Returns the author's library: what `import wafer` reaches in the sandbox.

    Its `__init__.py` is `_author.py` in the wheel. What only the interpreter needs is left out.
    """
    found: dict[str, bytes] = {}
    waiting = ["__init__"]
    while waiting:
        module = waiting.pop()
        name = "_author" if module == "__init__" else module
        if f"wafer/{name}.py" in found:
            continue
        source = (LIBRARY / f"{module}.py").read_bytes()
        found[f"wafer/{name}.py"] = source
        waiting += _imported(source)
    return found


def _imported(source: bytes) -> list[str]:
    """Returns the modules beside a module that it imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names += [node.module] if node.module else [alias.name for alias in node.names]
    return names


def write_tree(folder: Path) -> None:
    """Writes the package to a folder, from which it can be imported."""
    for name, content in package_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# Metadata.


def project() -> dict[str, Any]:
    """Returns the table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    return table


def metadata() -> str:
    """Returns the metadata of the distribution, in the form of Python's core metadata 2.4."""
    table = project()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {table['name']}",
        f"Version: {table['version']}",
        f"Summary: {table['description']}",
        f"License-Expression: {table['license']}",
        *(f"License-File: {path.name}" for path in LICENSES),
        f"Requires-Python: {table['requires-python']}",
        *(f"Classifier: {classifier}" for classifier in table["classifiers"]),
    ]
    for extra, requirements in sorted(table["optional-dependencies"].items()):
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {each} ; extra == "{extra}"' for each in requirements]
    lines.append("Description-Content-Type: text/markdown")
    return "\n".join(lines) + "\n\n" + (HERE / "README.md").read_text()


# The program.


def platform_tag(binary: bytes) -> str:
    """Returns the tag of the platforms that a program runs on, by what it needs of glibc."""
    elf = Elf(binary)
    foreign = sorted(set(elf.libraries) - ALLOWED)
    if foreign:
        raise Refused(f"the program needs {', '.join(foreign)}, which not every Linux has")
    needed = max(elf.glibc, default=(2, 17))
    return f"manylinux_{needed[0]}_{max(needed[1], 17)}_{elf.machine}"


class Elf:
    """What a 64-bit ELF file says that it needs."""

    def __init__(self, content: bytes) -> None:
        if content[:6] != b"\x7fELF\x02\x01":
            raise Refused("the program is not a 64-bit little-endian ELF file")
        self._content = content
        machine = self._numbers("<H", 18)[0]
        if machine not in MACHINES:
            raise Refused(f"the program is for the machine {machine}, which is not known here")
        self.machine = MACHINES[machine]
        self._sections = self._read_sections()
        self.libraries = self._read_libraries()
        self.glibc = self._read_glibc()

    def _numbers(self, form: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self._content, offset)
        except struct.error:
            raise Refused("the program is cut off") from None

    def _read_sections(self) -> list[tuple[int, int, int, int]]:
        """Returns type, offset, size and linked section of each section."""
        (start,) = self._numbers("<Q", 40)
        size, count = self._numbers("<HH", 58)
        if size != 64:
            raise Refused("the program has no table of sections")
        sections = []
        for number in range(count):
            at = start + number * size
            kind = self._numbers("<I", at + 4)[0]
            offset, length = self._numbers("<QQ", at + 24)
            sections.append((kind, offset, length, self._numbers("<I", at + 40)[0]))
        return sections

    def _table(self, kind: int) -> tuple[int, int, int] | None:
        """Returns offset, size and offset of the texts of the section of a type."""
        for found, offset, size, link in self._sections:
            if found == kind:
                if size > MAX_TABLE_BYTES or link >= len(self._sections):
                    raise Refused("a table of the program is too large, or names no texts")
                return offset, size, self._sections[link][1]
        return None

    def _text(self, offset: int) -> str:
        end = self._content.find(b"\0", offset, offset + 4096)
        if end < 0:
            raise Refused("a text of the program does not end")
        return self._content[offset:end].decode("ascii", "replace")

    def _read_libraries(self) -> list[str]:
        """Returns the names of the libraries that the program is linked with (DT_NEEDED)."""
        table = self._table(6)
        if table is None:
            return []
        offset, size, texts = table
        entries = [self._numbers("<QQ", offset + 16 * at) for at in range(size // 16)]
        return [self._text(texts + value) for tag, value in entries if tag == 1]

    def _read_glibc(self) -> list[tuple[int, int]]:
        """Returns the versions of glibc's symbols that the program needs (SHT_GNU_verneed)."""
        table = self._table(0x6FFFFFFE)
        if table is None:
            return []
        offset, size, texts = table
        end, versions = offset + size, []
        while True:
            _, count, _, first, following = self._numbers("<HHIII", offset)
            at = offset + first
            for _ in range(count):
                if at >= end:
                    raise Refused("the table of versions of the program is damaged")
                name = self._text(texts + self._numbers("<I", at + 8)[0])
                if name.startswith("GLIBC_2."):
                    major, minor = name.removeprefix("GLIBC_").split(".")[:2]
                    versions.append((int(major), int(minor)))
                at += self._numbers("<I", at + 12)[0]
            if following == 0:
                return versions
            offset += following
            if offset >= end:
                raise Refused("the table of versions of the program is damaged")


def stripped(binary: Path) -> bytes:
    """Returns a program without its symbols, which are most of what could be left out of it."""
    strip = shutil.which("strip")
    if strip is None:
        print("warning: there is no `strip`; the program goes in with its symbols", file=sys.stderr)
        return binary.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "wafer"
        subprocess.run([strip, "-o", str(out), str(binary)], check=True)
        return out.read_bytes()


# The wheel.


def build(out: Path, binary: Path | None) -> Path:
    """Builds a wheel, and returns its path."""
    table = project()
    program = None if binary is None else stripped(binary)
    tag = "py3-none-any" if program is None else f"py3-none-{platform_tag(program)}"
    stem = f"{table['name']}-{table['version']}"
    info = f"{stem}.dist-info"
    files = package_files()
    if program is not None:
        files[f"{stem}.data/scripts/wafer"] = program
    files[f"{info}/METADATA"] = metadata().encode()
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: wafer build_wheel\n"
        f"Root-Is-Purelib: {'true' if program is None else 'false'}\nTag: {tag}\n"
    ).encode()
    for path in LICENSES:
        files[f"{info}/licenses/{path.name}"] = path.read_bytes()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{stem}-{tag}.whl"
    partial = path.with_suffix(".partial")
    _write_zip(partial, files)
    size = partial.stat().st_size
    if size > MAX_WHEEL_BYTES:
        partial.unlink()
        raise Refused(
            f"the wheel would have {size:,} bytes, and may have {MAX_WHEEL_BYTES:,}: with the stores on AWS, "
            f"{binary} is too large; build it by `cargo build --release --package wafer-cli`"
        )
    os.replace(partial, path)
    return path


def _record(files: Mapping[str, bytes], itself: str) -> str:
    """Returns the list of all files with their digests."""
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join(lines) + f"{itself},,\n"


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a zip file whose bytes depend on nothing but the files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # Installers read metadata first, which the format wants at the end of the file.
        for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):
            entry = zipfile.ZipInfo(name, EPOCH)
            mode = 0o755 if ".data/scripts/" in name else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])


# The build backend that pyproject.toml names (PEP 517).


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Builds a wheel for an installer, and returns the name of its file."""
    named = os.environ.get(VARIABLE)
    return build(Path(wheel_directory), Path(named) if named else None).name


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Refuses: the package is built in the repository, which has the author's library."""
    raise Refused("there is no source distribution: build the wheel in the repository")


def main() -> int:
    """Builds what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, help="the program `wafer` that goes into the wheel")
    parser.add_argument("--out", type=Path, default=HERE.parent / "dist", help="folder of the wheel")
    parser.add_argument("--tree", type=Path, help="write the package as files to this folder instead")
    arguments = parser.parse_args()
    try:
        if arguments.tree is not None:
            write_tree(arguments.tree)
            return 0
        path = build(arguments.out, arguments.binary)
    except (Refused, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
