"""What an author prints and logs, and time zones."""

import logging
import struct
import sys
import zoneinfo
from datetime import datetime, timedelta
from zoneinfo import _common

import pytest
from conftest import MESSAGES
from guest import Guest
from wafer import _log, _zones

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


def zone(seconds: int, name: bytes) -> bytes:
    """Makes the file of a zone with one offset."""
    counts = struct.pack(">6L", 0, 0, 0, 0, 1, len(name) + 1)
    return b"TZif\0" + bytes(15) + counts + struct.pack(">lBB", seconds, 0, 0) + name + b"\0"


def test_time_zones_are_those_of_the_component(monkeypatch: pytest.MonkeyPatch) -> None:
    # Setting what is there makes pytest restore it.
    monkeypatch.setattr(_common, "load_tzdata", _common.load_tzdata)
    monkeypatch.setattr(zoneinfo, "available_timezones", zoneinfo.available_timezones)
    paths = zoneinfo.TZPATH
    try:
        _zones.install({"Utopia/Amaurot": zone(5400, b"AMT")})
        found = zoneinfo.ZoneInfo.no_cache("Utopia/Amaurot")
        at = datetime(2026, 7, 1, 12, tzinfo=found)
        assert (at.utcoffset(), at.tzname()) == (timedelta(minutes=90), "AMT")
        assert zoneinfo.available_timezones() == {"Utopia/Amaurot"}
        with pytest.raises(zoneinfo.ZoneInfoNotFoundError, match="No time zone found with key Europe/Zurich"):
            zoneinfo.ZoneInfo.no_cache("Europe/Zurich")
    finally:
        zoneinfo.reset_tzpath(paths)


def test_rehearsal_leaves_nothing() -> None:
    from wafer import _guest, _rehearsal

    meta_path = list(sys.meta_path)
    try:
        _rehearsal.rehearse()
        assert _guest._function is None and _guest._call is None and not _guest._assets
        assert "rehearsal" not in sys.modules
    finally:
        sys.meta_path[:] = meta_path
