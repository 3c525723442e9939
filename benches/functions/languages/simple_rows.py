"""The difference of two columns in Python, row by row."""

from dataclasses import dataclass

import wafer


@dataclass
class Points:
    """Two points, of which only the latitudes are used."""

    from_lat: float
    """Latitude, degrees."""
    from_lon: float
    """Longitude, degrees."""
    to_lat: float
    """Latitude, degrees."""
    to_lon: float
    """Longitude, degrees."""


@dataclass
class Northing:
    """How far north one point is of the other."""

    degrees: float
    """Difference of the latitudes, degrees."""


@wafer.function
def northing(p: Points) -> Northing:
    """How far north the second point is of the first."""
    return Northing(degrees=p.to_lat - p.from_lat)
