"""What an author prints or logs are messages of the log, one for each line."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import _wafer

from ._errors import trace
from ._guest import line

TRACE, DEBUG, INFO, WARN, ERROR = range(5)


class Lines(io.TextIOBase):
    """A stream whose lines are messages of the log."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _wafer.log(self.level, line)
        return len(text)

    def flush(self) -> None:
        if self.rest:
            _wafer.log(self.level, self.rest)
            self.rest = ""


class Formatter(logging.Formatter):
    """Tracebacks have the author's lines only."""

    def formatException(self, ei: Any) -> str:
        return trace(ei[1], line) if ei[1] is not None else ""


class Handler(logging.Handler):
    """Messages of `logging` are messages of the log, one for each line."""

    def emit(self, record: logging.LogRecord) -> None:
        levels = ((40, ERROR), (30, WARN), (20, INFO), (10, DEBUG))
        level = next((level for least, level in levels if record.levelno >= least), TRACE)
        for message in self.format(record).split("\n"):
            _wafer.log(level, message)


def install() -> None:
    """Makes the log what is written to."""
    sys.stdout = Lines(INFO)
    sys.stderr = Lines(WARN)
    handler = Handler()
    handler.setFormatter(Formatter("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG)
