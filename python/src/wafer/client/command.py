"""Commands of the program `wafer`, for what a server has no route for."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import CommandFailed, NotFound, printable

PROGRAM = "wafer"
VARIABLE = "WAFER_BINARY"
"""The variable that names the program, before any other place."""

MAX_RESULT_BYTES = 256 << 20
KEPT_LINES = 200
MAX_LINE = 4_000

# What commands say of their progress, beside warnings.
_LOG = "warn,trainer=info,wafer::output=info"
_LOG_LINE = re.compile(r"^\d{4}-\S+Z +INFO +[\w:]+: ?(.*)$")
# How long a command that was interrupted may take to remove what it has not completed.
_INTERRUPTED = 10.0

Progress = Callable[[str], None]


def find_binary(named: str | os.PathLike[str] | None = None) -> str:
    """Returns the path of the program: the one that is named, this package's own, or on PATH."""
    named = named or os.environ.get(VARIABLE) or None
    if named is not None:
        path = shutil.which(os.fspath(named))
        if path is None:
            raise NotFound(f"there is no program `{os.fspath(named)}`")
        return os.path.abspath(path)
    for own in (_own_script(), shutil.which(PROGRAM)):
        if own is not None:
            return os.path.abspath(own)
    raise NotFound(
        "the program `wafer` was not found: this package was installed without it, and it is not on PATH",
        hint=f"put it on PATH, or name it by `binary=` or {VARIABLE}",
    )


def _own_script() -> str | None:
    """Returns the path of the program that was installed with this package, if it was."""
    try:
        files = importlib.metadata.files("wafer") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if file.name == PROGRAM]
    # `pip install --target FOLDER` puts programs into FOLDER/bin.
    found.append(str(Path(__file__).parents[2] / "bin" / PROGRAM))
    return next((path for path in found if os.access(path, os.X_OK) and os.path.isfile(path)), None)


class Commands:
    """Runs commands on the folder of a project."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary = binary
        self.folder = folder

    def json(
        self, arguments: Sequence[str], progress: Progress | None = None, title: str | None = None
    ) -> Any:
        """Runs a command, and returns its result. `progress` is told what it says meanwhile.

        Without it, a notebook or a terminal shows the progress of what has a title.
        """
        shown = default_progress(title) if progress is None and title is not None else None
        pieces: list[bytes] = []
        size = 0

        def read(stream: IO[bytes]) -> None:
            nonlocal size
            with stream:
                while piece := stream.read(1 << 16):
                    size += len(piece)
                    if size <= MAX_RESULT_BYTES:
                        pieces.append(piece)

        self._run(["--output", "json", *arguments], subprocess.PIPE, read, progress or shown)
        if shown is not None:
            shown("done")
        if size > MAX_RESULT_BYTES:
            raise CommandFailed(f"`wafer {arguments[0]}` said more than {MAX_RESULT_BYTES >> 20} MiB")
        try:
            return json.loads(b"".join(pieces))
        except ValueError as error:
            raise CommandFailed(f"the result of `wafer {arguments[0]}` is not JSON: {error}") from None

    def into(self, arguments: Sequence[str], path: Path) -> None:
        """Runs a command, and writes its standard output to a file."""
        with path.open("wb") as file:
            self._run(arguments, file, None, None)

    def _run(
        self,
        arguments: Sequence[str],
        out: int | IO[bytes],
        read: Callable[[IO[bytes]], None] | None,
        progress: Progress | None,
    ) -> None:
        said: deque[str] = deque(maxlen=KEPT_LINES)

        def listen(stream: IO[bytes]) -> None:
            with stream:
                for line in lines_of(stream):
                    known = _LOG_LINE.match(line)
                    if known is None:
                        said.append(line)
                    if progress is not None:
                        progress(known[1] if known else line)

        process = subprocess.Popen(
            [self.binary, "-C", str(self.folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env={"RUST_LOG": _LOG, **os.environ},
        )
        assert process.stderr is not None
        readers = [threading.Thread(target=listen, args=(process.stderr,), daemon=True)]
        if read is not None:
            assert process.stdout is not None
            readers.append(threading.Thread(target=read, args=(process.stdout,), daemon=True))
        try:
            for reader in readers:
                reader.start()
            status = process.wait()
        finally:
            _end(process)
            for reader in readers:
                reader.join(_INTERRUPTED)
        if status != 0:
            raise failure(said, status)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that still runs, which removes what it has not completed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_INTERRUPTED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def lines_of(stream: IO[bytes]) -> Any:
    """Yields the lines of a stream as texts. A line that is very long comes in pieces."""
    while line := stream.readline(MAX_LINE):
        yield printable(line.decode("utf-8", "replace").rstrip("\n"))


def failure(said: Sequence[str], status: int) -> CommandFailed:
    """Returns the error of a command: what it said from `error:` on."""
    lines = list(said)
    starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    if starts:
        lines = lines[starts[0] :]
        lines[0] = lines[0].removeprefix("error: ")
    message = "\n".join(lines) or f"the command ended with status {status}"
    first, _, hint = message.partition("; ")
    row = re.search(r"\brow (\d+)\b", first)
    return CommandFailed(
        message, status=status, row=int(row[1]) if row else None, hint=hint.split("\n")[0] or None
    )


def default_progress(title: str) -> Progress | None:
    """Returns what shows the progress of a command: in a notebook, or on a terminal."""
    handle = _notebook_display(title)
    if handle is not None:
        return handle
    if sys.stderr is not None and sys.stderr.isatty():
        return lambda line: print(line, file=sys.stderr)
    return None


def _notebook_display(title: str) -> Progress | None:
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import Pretty, display

    handle = display(Pretty(f"{title}: starting"), display_id=True)
    if handle is None:
        return None

    def show(line: str) -> None:
        handle.update(Pretty(line if line.startswith(title) else f"{title}: {line}"))

    return show
