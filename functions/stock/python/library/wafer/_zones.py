"""Time zones. Their data, IANA's, is in the component, since there are no files."""

from __future__ import annotations

import io
import zoneinfo
from collections.abc import Mapping
from zoneinfo import ZoneInfoNotFoundError, _common


def install(zones: Mapping[str, bytes]) -> None:
    """Lets `zoneinfo` find the data of zones here, and nowhere else."""

    def load(key: str) -> io.BytesIO:
        if key not in zones:
            raise ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return io.BytesIO(zones[key])

    def available_timezones() -> set[str]:
        return set(zones)

    zoneinfo.reset_tzpath(())
    zoneinfo.available_timezones = available_timezones
    _common.load_tzdata = load  # type: ignore[assignment]
