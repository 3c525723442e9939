"""Imported by `glue/wafer.c` when the component is built; what it imports is called later."""

from __future__ import annotations

from . import _log, _zones
from ._guest import begin, call, describe, feed, finish, init, load, next_pass, read
from ._iana import ZONES
from ._prepare import keep, prepare
from ._rehearsal import rehearse

__all__ = ["begin", "call", "describe", "feed", "finish", "init", "load", "next_pass", "read"]

_log.install()
_zones.install(ZONES)
prepare()
rehearse()
keep()
