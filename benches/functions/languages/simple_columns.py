"""The difference of two columns in Python, by whole columns."""

from array import array
from dataclasses import dataclass
from operator import sub

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


@wafer.function(columns=True)
def northing(points: wafer.Columns[Points]) -> wafer.Columns[Northing]:
    """How far north the second point is of the first."""
    return wafer.Columns(degrees=array("d", map(sub, points.to_lat, points.from_lat)))
