"""What is done once, when the component is built: the modules that functions often use are
imported, and what would need a system is replaced by an error that says what to do instead.
"""

from __future__ import annotations

import gc
import importlib
import logging
import random
import sys
from typing import Any

import _wafer

from ._errors import Refused

OFTEN_USED = """
    abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv
    dataclasses datetime decimal enum fractions functools graphlib hashlib heapq html importlib.util
    inspect io ipaddress itertools json logging math numbers operator random re statistics string
    struct textwrap traceback types typing unicodedata urllib.parse uuid zipfile zlib
    zoneinfo
"""


def prepare() -> None:
    """Prepares the interpreter that all functions begin with."""
    for name in OFTEN_USED.split():
        importlib.import_module(name)
    for name in random.__all__:
        # Classes take a seed, and refuse to be made without one.
        if callable(getattr(random, name)) and not isinstance(getattr(random, name), type):
            setattr(random, name, _refused(name))
    logging.time = _NoTime()  # type: ignore[attr-defined]
    sys.path.clear()
    sys.path_importer_cache.clear()


def keep() -> None:
    """Makes everything that is there now stay for ever: it is neither traced nor counted."""
    gc.collect()
    _wafer.keep(gc.get_objects())
    gc.freeze()


class _NoTime:
    """The clock of log messages: the host writes when they came."""

    @staticmethod
    def time_ns() -> int:
        return 0

    @staticmethod
    def time() -> float:
        return 0.0


def _refused(name: str) -> Any:
    def refused(*_arguments: Any, **_named: Any) -> Any:
        raise Refused(
            f"`random.{name}` has no seed, and a function has no randomness: make a "
            "`random.Random(seed)`, with a seed that is made of the row"
        )

    refused.__name__ = refused.__qualname__ = name
    return refused
