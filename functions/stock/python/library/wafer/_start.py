"""Imported by `glue/wafer.c` when the component is built; what it imports is called later."""

from __future__ import annotations

from . import _log
from ._guest import begin, call, describe, init, load
from ._prepare import prepare

__all__ = ["begin", "call", "describe", "init", "load"]

_log.install()
prepare()
