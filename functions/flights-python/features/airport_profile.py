"""Properties of an airport that do not change from day to day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import wafer

M_PER_FOOT = 0.3048


@dataclass
class AirportRecord:
    """An airport in the FAA's list."""

    faa: str
    """Code of the airport."""
    name: str
    """Name."""
    lat: float
    """Latitude, degrees north."""
    lon: float
    """Longitude, degrees east."""
    alt: int
    """Altitude, feet."""
    tz: int
    """Standard time minus UTC, hours."""
    dst: str
    """`A` where the daylight saving of the United States is observed."""


@dataclass
class AirportProfile:
    """Position, altitude and time zone of an airport."""

    faa: str
    """Code of the airport."""
    valid_from: datetime
    """The time from which this holds: the parameter `valid_from_seconds`."""
    name: str
    """Name."""
    lat: float
    """Latitude, degrees north."""
    lon: float
    """Longitude, degrees east."""
    altitude_m: float
    """Altitude, m."""
    utc_offset_minutes: int
    """Standard time minus UTC, minutes."""
    observes_dst: bool
    """Whether clocks are put forward in summer."""


@dataclass(frozen=True)
class Settings:
    """The parameters of the function."""

    valid_from_seconds: int
    """The time from which the list holds, in seconds since 1970."""


def valid_from(_assets: Mapping[str, bytes], settings: Settings) -> datetime:
    """Returns the time from which the list holds."""
    return datetime.fromtimestamp(settings.valid_from_seconds, UTC)


@wafer.function(init=valid_from)
def airport_profile(airport: AirportRecord, valid_from: datetime) -> AirportProfile:
    """An airport's position, altitude and time zone. A row whose position is not on Earth is an error."""
    if not (-90 <= airport.lat <= 90 and -180 <= airport.lon <= 180):
        raise ValueError(f"{airport.lat}, {airport.lon} is not a place on Earth")
    return AirportProfile(
        faa=airport.faa,
        valid_from=valid_from,
        name=airport.name,
        lat=airport.lat,
        lon=airport.lon,
        altitude_m=airport.alt * M_PER_FOOT,
        utc_offset_minutes=airport.tz * 60,
        observes_dst=airport.dst == "A",
    )
