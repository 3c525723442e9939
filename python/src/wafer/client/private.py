"""A private server of a folder, which ends with the process that started it.

Between this process and the server is a shell, whose standard input is a pipe from here. When the
pipe says so or ends, the shell stops the server, which is its own child. So the server ends however
this process does, also when it is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import IO

from .command import KEPT_LINES, failure, lines_of
from .errors import TimedOut, Unreachable
from .transport import Timeouts

# The pipe of standard error ends when the server has ended, as the shell does not keep it.
_SHELL = """\
"$@" </dev/null >/dev/null &
server=$!
exec 2>/dev/null
read -r stop
kill -TERM "$server"
wait "$server"
"""

_ADDRESS = re.compile(r"^serving project .* on (http://\S+)$")


class PrivateServer:
    """A server on a free port of this machine's loopback address."""

    def __init__(
        self, binary: str, folder: Path, options: list[str], timeouts: Timeouts
    ) -> None:
        command = [binary, "-C", str(folder), "serve", "--listen", "127.0.0.1:0", *options]
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "wafer-server", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C on a terminal is for this process, which may go on with the server.
            start_new_session=True,
        )
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._listens = threading.Event()
        self._ended = threading.Event()
        self._url: str | None = None
        # The end of this process calls it as well.
        self._stop = weakref.finalize(self, _stop, self._shell, os.getpid(), timeouts.stop)
        stream = self._shell.stderr
        assert stream is not None
        threading.Thread(target=_listen, args=(weakref.ref(self), stream), daemon=True).start()
        try:
            self.url = self._address(timeouts.start)
        except BaseException:
            self._stop()
            raise

    def _address(self, limit: float) -> str:
        if not self._listens.wait(limit):
            raise TimedOut(f"the server did not listen within {limit:g} s (`timeouts.start`)")
        if self._url is None:
            self._stop()
            raise failure(self._said, self._shell.returncode)
        return self._url

    @property
    def log(self) -> list[str]:
        """The last lines of the server's log."""
        return list(self._said)

    def check(self) -> None:
        """Raises an error if the server has ended by itself."""
        if self._ended.is_set() and self._stop.alive:
            last = "; its last lines: " + "\n".join(self.log[-5:]) if self._said else ""
            raise Unreachable(f"the private server has ended{last}")

    def close(self) -> None:
        """Stops the server, and waits until it has ended. What it acknowledged is durable."""
        self._stop()

    def heard(self, line: str) -> None:
        """Takes note of a line of the server's output."""
        found = _ADDRESS.match(line)
        if found and self._url is None:
            self._url = found[1]
            self._listens.set()
        else:
            self._said.append(line)

    def ended(self) -> None:
        """Takes note of the end of the server."""
        self._ended.set()
        self._listens.set()


def _listen(server: weakref.ref[PrivateServer], stream: IO[bytes]) -> None:
    """Reads what a server says until it ends, and so keeps its pipe from being full."""
    with stream:
        for line in lines_of(stream):
            known = server()
            if known is not None:
                known.heard(line)
            del known
    known = server()
    if known is not None:
        known.ended()


def _stop(shell: subprocess.Popen[bytes], owner: int, limit: float) -> None:
    """Stops a server. A process that was forked from its owner leaves it alone."""
    if os.getpid() != owner:
        return
    assert shell.stdin is not None
    with contextlib.suppress(OSError):
        # A line, and not only the end of the pipe, which forked processes may still hold.
        shell.stdin.write(b"stop\n")
        shell.stdin.flush()
    with contextlib.suppress(OSError):
        shell.stdin.close()
    try:
        shell.wait(limit)
    except subprocess.TimeoutExpired:
        # The shell, the server and its children are the whole of this group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
