"""Imported by `glue/wafer.c` when the component is built; what it imports is called later."""

from __future__ import annotations

import io
import logging
import sys

import _wafer

from ._guest import begin, call, describe, init, load
from ._prepare import prepare

__all__ = ["begin", "call", "describe", "init", "load"]

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


class Handler(logging.Handler):
    """Messages of `logging` are messages of the log."""

    def emit(self, record: logging.LogRecord) -> None:
        levels = ((40, ERROR), (30, WARN), (20, INFO), (10, DEBUG))
        level = next((level for least, level in levels if record.levelno >= least), TRACE)
        _wafer.log(level, self.format(record))


def start() -> None:
    """Makes the log what is written to."""
    sys.stdout = Lines(INFO)
    sys.stderr = Lines(WARN)
    logging.basicConfig(handlers=[Handler()], level=logging.DEBUG, format="%(name)s: %(message)s")


start()
prepare()
