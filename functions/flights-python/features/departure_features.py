"""Features of a flight at its scheduled departure, computed from the request and the two airports."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import asin, atan2, cos, degrees, radians, sin, sqrt
from typing import NamedTuple, Self

import wafer
from local_time import MINUTE, Zone

MICROSECOND = timedelta(microseconds=1)

EARTH_KM = 6_371.008_8
"""Mean radius of the Earth (IUGG)."""


@dataclass
class Departure:
    """A flight as known at scheduled departure. The columns of an unknown airport are null."""

    scheduled_departure: datetime
    """Scheduled departure."""
    scheduled_arrival: datetime
    """Scheduled arrival."""
    origin_lat: float | None
    """Latitude of the origin, degrees north."""
    origin_lon: float | None
    """Longitude of the origin, degrees east."""
    origin_utc_offset_minutes: int | None
    """Standard time at the origin minus UTC, minutes."""
    origin_observes_dst: bool | None
    """Whether clocks at the origin are put forward in summer."""
    dest_lat: float | None
    """Latitude of the destination, degrees north."""
    dest_lon: float | None
    """Longitude of the destination, degrees east."""


@dataclass
class DepartureFeatures:
    """Features of a departure."""

    distance_km: float | None
    """Great-circle distance from origin to destination, km."""
    course_degrees: float | None
    """Initial course from origin to destination, degrees from north."""
    local_hour: int | None
    """Hour of the scheduled departure on the wall clock of the origin, 0 to 23."""
    local_weekday: int | None
    """Day of the week on that clock: 1 = Monday to 7 = Sunday."""
    scheduled_minutes: float
    """Scheduled time from gate to gate, minutes."""
    scheduled_speed_kmh: float | None
    """Distance over scheduled time, km/h."""


class Place(NamedTuple):
    """A position, in radians."""

    lat: float
    lon: float

    @classmethod
    def at(cls, lat: float | None, lon: float | None) -> Self | None:
        """Returns the position at a latitude and a longitude in degrees, if both are known."""
        return None if lat is None or lon is None else cls(radians(lat), radians(lon))


@wafer.function
def departure_features(departure: Departure) -> DepartureFeatures:
    """Distance, course, local time and scheduled speed of a departure."""
    departs_at, arrives_at = departure.scheduled_departure, departure.scheduled_arrival
    if arrives_at <= departs_at:
        raise ValueError(
            f"scheduled_arrival {arrives_at.isoformat()} is not after "
            f"scheduled_departure {departs_at.isoformat()}"
        )
    features = DepartureFeatures(
        distance_km=None,
        course_degrees=None,
        local_hour=None,
        local_weekday=None,
        scheduled_minutes=(arrives_at - departs_at) // MICROSECOND / 60e6,
        scheduled_speed_kmh=None,
    )
    origin = Place.at(departure.origin_lat, departure.origin_lon)
    destination = Place.at(departure.dest_lat, departure.dest_lon)
    if origin is not None and destination is not None:
        features.distance_km = great_circle_km(origin, destination)
        features.course_degrees = initial_course_degrees(origin, destination)
        features.scheduled_speed_kmh = features.distance_km / features.scheduled_minutes * 60
    offset, observes_dst = departure.origin_utc_offset_minutes, departure.origin_observes_dst
    if offset is not None and observes_dst is not None:
        shown = Zone(offset * MINUTE, observes_dst).wall_clock(departs_at)
        features.local_hour = shown.hour
        features.local_weekday = shown.isoweekday()
    return features


def great_circle_km(origin: Place, destination: Place) -> float:
    """Returns a distance by the haversine formula.

    R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).
    """
    half_lat = sin((destination.lat - origin.lat) / 2)
    half_lon = sin((destination.lon - origin.lon) / 2)
    h = half_lat * half_lat + cos(origin.lat) * cos(destination.lat) * half_lon * half_lon
    return 2 * EARTH_KM * asin(min(1.0, sqrt(h)))


def initial_course_degrees(origin: Place, destination: Place) -> float:
    """Returns the course at the origin of the shortest path, in degrees from north."""
    lon = destination.lon - origin.lon
    east = sin(lon) * cos(destination.lat)
    across = sin(origin.lat) * cos(destination.lat) * cos(lon)
    north = cos(origin.lat) * sin(destination.lat) - across
    return (degrees(atan2(east, north)) + 360) % 360
