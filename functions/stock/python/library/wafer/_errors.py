"""Errors, as an author is told of them: the lines of the author's files only."""

from __future__ import annotations

import errno
import os
import traceback
from types import TracebackType
from typing import Any

# In the component all that is not the author's is below one folder. Outside of it, in an author's
# tests, Python's files are elsewhere.
_LIBRARY = "/library/"
# What the author's files import is below this one.
_DEPENDENCIES = "site-packages/"
_NATIVE = tuple(
    os.path.dirname(file) + os.sep for file in (globals().get("__file__"), os.__file__) if file
)

MOST_FRAMES = 20

NOT_THERE = (
    "a function has no clock, randomness, files, environment, processes or sockets: what it needs "
    "are its inputs, assets and parameters (a time is a column, randomness `random.Random(seed)`)"
)


class Refused(Exception):
    """A function that cannot be one. The message says why, and what to write instead."""


def own_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """Returns the frames of a traceback that are in the author's files."""
    frames = traceback.extract_tb(trace)
    return [frame for frame in frames if not is_library(frame.filename)]


def is_library(file: str) -> bool:
    """Returns whether a file is Python's, this library's or a dependency's."""
    others = (_LIBRARY, _DEPENDENCIES, "<frozen", *_NATIVE)
    return file.startswith(others) or file in ("<rows>", "<string>")


def explained(error: BaseException) -> str:
    """Returns the type and message of an error, and what to do where Python does not say it."""
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:
        message = ""
    if isinstance(error, Refused):
        return message
    text = f"{name}: {message}" if message else name
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.ENOTSUP, errno.EBADF):
        return f"{text}; {NOT_THERE}"
    if isinstance(error, MemoryError):
        return f"{text}; the setting `memory` of the function says how much there is"
    if isinstance(error, SystemExit):
        return f"{text}; a function cannot end Python"
    return text


def located(error: BaseException) -> str:
    """Returns an error with the place in the author's files where it was raised."""
    if isinstance(error, SyntaxError) and error.filename and not is_library(error.filename):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = own_frames(error.__traceback__)
    if not frames:
        return explained(error)
    last = frames[-1]
    return f"{last.filename}, line {last.lineno}, in {last.name}: {explained(error)}"


def trace(error: BaseException, line: Any) -> str:
    """Returns a traceback of the author's lines. `line` returns a line of a file, or ''."""
    parts = ["Traceback (most recent call last):"]
    frames = own_frames(error.__traceback__)
    if len(frames) > MOST_FRAMES:
        half = MOST_FRAMES // 2
        parts.append(f"  ({len(frames)} calls, of which {half} at each end are shown)")
        frames = frames[:half] + frames[-half:]
    for frame in frames:
        parts.append(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        source = line(frame.filename, frame.lineno or 0).strip()
        if source:
            parts.append(f"    {source}")
    if isinstance(error, SyntaxError) and error.text:
        parts.append(f"    {error.text.strip()}")
    parts.append(explained(error))
    return "\n".join(parts)
