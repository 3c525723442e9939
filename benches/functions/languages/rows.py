"""`narrow` in Python, row by row."""

import math
from dataclasses import dataclass

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


@wafer.function
def narrow(p: Points) -> Distance:
    """Great-circle distance."""
    a, b = math.radians(p.from_lat), math.radians(p.to_lat)
    half_lat = math.sin((b - a) / 2)
    half_lon = math.sin(math.radians(p.to_lon - p.from_lon) / 2)
    h = half_lat * half_lat + math.cos(a) * math.cos(b) * half_lon * half_lon
    return Distance(km=12_742 * math.asin(min(math.sqrt(h), 1)))
