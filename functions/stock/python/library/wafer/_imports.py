"""Importing an author's modules from assets, and refusing what a function cannot have."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import zlib
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from ._errors import Refused
from ._signature import remember_docs

DEPENDENCIES = "site-packages/"
"""The folder of an archive that has what the author's modules need."""

WITHOUT = {
    "_ctypes": "native code",
    "_socket": "sockets",
    "asyncio": "sockets or anything else to wait for",
    "cffi": "native code",
    "concurrent": "threads or processes",
    "ctypes": "native code",
    "ftplib": "sockets",
    "http": "sockets",
    "multiprocessing": "processes",
    "os": "files, processes or an environment",
    "posix": "files, processes or an environment",
    "select": "sockets",
    "signal": "processes",
    "smtplib": "sockets",
    "socket": "sockets",
    "socketserver": "sockets",
    "sqlite3": "files",
    "ssl": "sockets",
    "subprocess": "processes",
    "tempfile": "files",
    "_thread": "threads",
    "threading": "threads",
    "urllib.request": "sockets",
}
"""Modules that an author's files may not import, and what they would be for. Some of them are there,
since many dependencies import them without a need: what they do is refused."""

NATIVE = (".so", ".pyd", ".dylib")


def refusal(name: str) -> str | None:
    """Returns why a module cannot be imported."""
    top = name.partition(".")[0]
    without = WITHOUT.get(name) or WITHOUT.get(top)
    if without is None:
        return None
    return (
        f"a function cannot import `{name}`: it has no {without}; "
        "what it needs are its inputs, assets and parameters"
    )


class Modules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from sources in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = {path: zlib.compress(content) for path, content in files.items()}
        """Contents by path, compressed, since most are never read again; dependencies are below
        `site-packages/`."""

    def path(self, name: str) -> tuple[str, bool] | None:
        """Finds the file of a module, and whether it is a package."""
        base = name.replace(".", "/")
        for folder in ("", DEPENDENCIES):
            if f"{folder}{base}/__init__.py" in self.files:
                return f"{folder}{base}/__init__.py", True
            if f"{folder}{base}.py" in self.files:
                return f"{folder}{base}.py", False
        return None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = self.path(name)
        if found is None:
            self.explain_absent(name)
            return None
        file, is_package = found
        spec = importlib.machinery.ModuleSpec(name, self, origin=file, is_package=is_package)
        spec.has_location = True
        return spec

    def explain_absent(self, name: str) -> None:
        """Raises an error that says why a module is not there, if that can be told."""
        message = refusal(name)
        if message is not None:
            raise ImportError(message, name=name)
        base = name.replace(".", "/")
        for file in self.files:
            relative = file.removeprefix(DEPENDENCIES)
            if relative.startswith(f"{base}.") and file.endswith(NATIVE):
                raise ImportError(
                    f"`{name}` is native code ({file}), which cannot run in the sandbox: "
                    "only packages of pure Python can be dependencies",
                    name=name,
                )

    def get_source(self, name: str) -> str:
        found = self.path(name)
        if found is None:
            raise ImportError(f"no module named `{name}`", name=name)
        return self.text(found[0])

    def text(self, file: str) -> str:
        """Returns the text of a source file, by its encoding as Python reads it."""
        try:
            return importlib.util.decode_source(zlib.decompress(self.files[file]))
        except (UnicodeDecodeError, SyntaxError, LookupError) as error:
            raise Refused(f"{file} is not text in UTF-8: {error}") from None

    def is_package(self, name: str) -> bool:
        found = self.path(name)
        return found is not None and found[1]

    def get_code(self, name: str) -> CodeType | None:
        found = self.path(name)
        if found is None:
            raise ImportError(f"no module named `{name}`", name=name)
        file = found[0]
        source = self.text(file)
        if not file.startswith(DEPENDENCIES):
            tree = ast.parse(source, file)
            check_imports(file, tree, self)
            remember_docs(name, tree)
        return compile(source, file, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        code = self.get_code(module.__name__)
        assert code is not None
        exec(code, module.__dict__)

    def line(self, file: str, number: int) -> str:
        """Returns a line of a file, for a traceback."""
        lines = self.text(file).splitlines() if file in self.files else []
        return lines[number - 1] if 0 < number <= len(lines) else ""


def check_imports(file: str, tree: ast.Module, modules: Modules) -> None:
    """Refuses a file of the author's that imports what a function cannot have."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            message = refusal(name)
            if message is not None and modules.path(name) is None:
                raise Refused(f"{file}, line {getattr(node, 'lineno', 0)}: {message}")


def install(modules: Modules) -> None:
    """Lets the author's modules be imported, and nothing from files."""
    kept: list[Any] = [
        finder
        for finder in sys.meta_path
        if finder is not importlib.machinery.PathFinder and not isinstance(finder, Modules)
    ]
    sys.meta_path[:] = [*kept, modules]
