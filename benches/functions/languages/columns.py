"""`narrow` in Python, by whole columns."""

from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt

import wafer


@dataclass
class Points:
    """Two points."""

    from_lat: float
    """Latitude, degrees."""
    from_lon: float
    """Longitude, degrees."""
    to_lat: float
    """Latitude, degrees."""
    to_lon: float
    """Longitude, degrees."""


@dataclass
class Distance:
    """The distance between two points."""

    km: float
    """Great-circle distance, km."""


@wafer.function(columns=True)
def narrow(points: wafer.Columns[Points]) -> wafer.Columns[Distance]:
    """Great-circle distance."""
    km = []
    for from_lat, from_lon, to_lat, to_lon in zip(
        points.from_lat, points.from_lon, points.to_lat, points.to_lon, strict=True
    ):
        a, b = radians(from_lat), radians(to_lat)
        half_lat, half_lon = sin((b - a) / 2), sin(radians(to_lon - from_lon) / 2)
        h = half_lat * half_lat + cos(a) * cos(b) * half_lon * half_lon
        km.append(12_742 * asin(min(sqrt(h), 1)))
    return wafer.Columns(km=km)
