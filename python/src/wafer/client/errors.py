"""Errors of the client, and those of the server as exceptions.

An error has what the server said: a code for programs, a message for people, the row that it is
about, and what to do. Which class it is tells what the caller can do.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import PushReport

MAX_MESSAGE = 4_000
"""The most characters that are kept of a message."""

_ROW = re.compile(r"\brow (\d+)\b")
_FIRST_ROW = re.compile(r"^row (\d+)\b")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Error(Exception):
    """Something that failed. All exceptions of the client are of this class.

    `code` is the server's word for the kind of error, `status` the HTTP status, `row` the number of
    the row that the error is about, from 0, and `hint` what to do. Each may be None.
    """

    default_code = "failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = printable(message)
        self.code = code or self.default_code
        self.status = status
        self.row = row
        self.hint = printable(hint) if hint else None
        text = self.message
        if self.hint and self.hint not in text:
            text = f"{text}; {self.hint}"
        super().__init__(text)


class Invalid(Error):
    """The request cannot be answered as it is: a value, a name of a field or its size is wrong."""

    default_code = "invalid"


class NotFound(Error):
    """There is nothing of that name."""

    default_code = "not_found"


class Conflict(Error):
    """What is there does not fit what was asked for."""

    default_code = "conflict"


class Forbidden(Error):
    """The server does not take requests from here, or not from this caller."""

    default_code = "forbidden"


class Busy(Error):
    """The server has too much to do, also after the request was tried again."""

    default_code = "unavailable"


class FunctionFailed(Error):
    """A function failed. The message is for its author."""

    default_code = "function"


class ServerFailed(Error):
    """The server failed; its log says more."""

    default_code = "internal"


class TimedOut(Error):
    """Something took longer than a time limit, which the message names."""

    default_code = "timed_out"


class Unreachable(Error):
    """The server cannot be reached, or the connection was lost before the answer was there."""

    default_code = "unreachable"


class NotSupported(Error):
    """The server has no route for this, so that only an opened folder can do it."""

    default_code = "not_supported"


class CommandFailed(Error):
    """A command of the program `wafer` failed. `status` is its exit code."""

    default_code = "command"


class Rejected(Error):
    """Some events of a push were rejected. `report` has what became of each event."""

    default_code = "rejected"

    def __init__(self, message: str, report: PushReport, *, row: int | None = None) -> None:
        super().__init__(message, status=422, row=row)
        self.report = report


def printable(text: str) -> str:
    """Returns a text cut, and without characters that control a terminal."""
    if len(text) > MAX_MESSAGE:
        text = text[:MAX_MESSAGE] + " …"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_BY_CODE: dict[str, type[Error]] = {
    "invalid": Invalid,
    "unsupported_media_type": Invalid,
    "method_not_allowed": Invalid,
    "not_found": NotFound,
    "conflict": Conflict,
    "forbidden": Forbidden,
    "too_slow": TimedOut,
    "too_many_requests": Busy,
    "unavailable": Busy,
    "function": FunctionFailed,
    "internal": ServerFailed,
}

_BY_STATUS: dict[int, type[Error]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: TimedOut,
    409: Conflict,
    429: Busy,
    503: Busy,
}


def of_answer(status: int, body: bytes) -> Error:
    """Returns the error that an answer with an error status is."""
    code, message, hint = _said(body)
    if message is None:
        start = body[:200].decode("utf-8", "replace").strip()
        message = f"the server answered with status {status}" + (f": {start}" if start else "")
    kind = _BY_CODE.get(code or "") or _BY_STATUS.get(status)
    if kind is None:
        kind = ServerFailed if status >= 500 else Invalid
    found = _ROW.search(message)
    return kind(
        message,
        code=code,
        status=status,
        row=int(found[1]) if found else None,
        hint=hint or _hint(message),
    )


def in_batch(error: Error, first: int) -> Error:
    """Counts the row of an error from the first row of all, of which `first` came before."""
    found = _FIRST_ROW.match(error.message)
    if first == 0 or not found or error.row is None:
        return error
    row = first + error.row
    message = f"row {row}" + error.message[found.end() :]
    return type(error)(message, code=error.code, status=error.status, row=row, hint=error.hint)


def _said(body: bytes) -> tuple[str | None, str | None, str | None]:
    """Returns code, message and hint of the body of an error, in Wafer's form or the protocol's."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, None
    error = said.get("error") if isinstance(said, dict) else None
    if isinstance(error, str):
        return None, error, None
    if not isinstance(error, dict):
        return None, None, None

    def text(name: str) -> str | None:
        value = error.get(name)
        return value if isinstance(value, str) else None

    return text("code"), text("message"), text("hint")


def _hint(message: str) -> str | None:
    """Returns what comes after the first semicolon: the server says what to do there."""
    _, _, hint = message.partition("; ")
    return hint or None
