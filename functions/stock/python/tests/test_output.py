"""What an author prints and logs."""

import logging

import pytest
from conftest import MESSAGES
from guest import Guest
from wafer import _log

HEAD = """
import logging
from dataclasses import dataclass
import wafer

@dataclass
class Row:
    a: float
"""


@pytest.fixture
def logger() -> logging.Logger:
    """A logger that writes to the log of the host."""
    logger = logging.getLogger("rides")
    handler = _log.Handler()
    handler.setFormatter(_log.Formatter("%(name)s: %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    MESSAGES.clear()
    return logger


def test_lines_are_messages() -> None:
    MESSAGES.clear()
    stream = _log.Lines(_log.INFO)
    print("a\nb", "c", file=stream)
    print("d", end="", file=stream)
    assert MESSAGES == [(2, "a"), (2, "b c")]
    stream.flush()
    assert MESSAGES[2:] == [(2, "d")]


def test_levels_of_logging(logger: logging.Logger) -> None:
    logger.debug("a")
    logger.warning("b\nc")
    logger.critical("d")
    assert MESSAGES == [(1, "rides: a"), (3, "rides: b"), (3, "c"), (4, "rides: d")]


def test_logged_traceback_has_own_lines_only(logger: logging.Logger) -> None:
    code = HEAD + """
import json
@wafer.function
def f(row: Row) -> Row:
    try:
        json.loads("{")
    except ValueError:
        logging.getLogger("rides").exception("no JSON")
    return row
"""
    Guest(code).call([1.0])
    line = code[: code.index("json.loads")].count("\n") + 1
    assert MESSAGES == [
        (4, "rides: no JSON"),
        (4, "Traceback (most recent call last):"),
        (4, f'  File "code_of_test.py", line {line}, in f'),
        (4, '    json.loads("{")'),
        (4, "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ]
