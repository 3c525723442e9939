"""Wafer for Python: what an author of functions imports, and a client for notebooks and programs.

    import wafer

    with wafer.open("flights") as project:          # a private server of the folder
        project.features("driver", [{"driver_id": 7}])

`wafer.connect("https://…")` is the same against a server that runs. What authors of functions use
(`@wafer.function`, `wafer.Columns`, …) is the library that the sandbox has; the client is imported
when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _author
from ._author import *  # noqa: F403

if TYPE_CHECKING:
    from .client import (
        Busy as Busy,
        CoincidentLabels as CoincidentLabels,
        CommandFailed as CommandFailed,
        Conflict as Conflict,
        Error as Error,
        Forbidden as Forbidden,
        FunctionFailed as FunctionFailed,
        Invalid as Invalid,
        NotFound as NotFound,
        NotSupported as NotSupported,
        Project as Project,
        Rejected as Rejected,
        Retries as Retries,
        ServerFailed as ServerFailed,
        TimedOut as TimedOut,
        Timeouts as Timeouts,
        Unreachable as Unreachable,
        connect as connect,
        load_ipython_extension as load_ipython_extension,
        open as open,
    )

_CLIENT = (
    "Busy",
    "CoincidentLabels",
    "CommandFailed",
    "Conflict",
    "Error",
    "Forbidden",
    "FunctionFailed",
    "Invalid",
    "NotFound",
    "NotSupported",
    "Project",
    "Rejected",
    "Retries",
    "ServerFailed",
    "TimedOut",
    "Timeouts",
    "Unreachable",
    "connect",
    "load_ipython_extension",
    "open",
)

# `open` is left out, so that `from wafer import *` does not hide Python's own.
__all__ = [*_author.__all__, *(name for name in _CLIENT if name != "open")]


def __getattr__(name: str) -> Any:
    if name in _CLIENT:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module `wafer` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted({*_author.__all__, *_CLIENT})
