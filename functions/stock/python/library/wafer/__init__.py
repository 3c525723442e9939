"""What an author of a Python function imports.

    from dataclasses import dataclass
    import wafer

    @dataclass
    class Flight:
        distance_km: float
        seats: int | None

    @dataclass
    class Features:
        is_long: bool
        \"\"\"Whether it is longer than 3,000 km.\"\"\"

    @wafer.function
    def features(flight: Flight) -> Features:
        \"\"\"What is known of a flight before it departs.\"\"\"
        return Features(flight.distance_km > 3000)

A function is called with one row, and returns one; None if there is none (`-> Features | None`), or
several (`-> list[Features]`, or a generator). What it raises is the error of its row. It depends on
nothing but the row, its assets and its parameters.
"""

from ._errors import Refused
from ._function import Function, function
from ._signature import Columns, float32, vector
from ._trainer import Role, Trained, trainer

__all__ = [
    "Columns",
    "Function",
    "Refused",
    "Role",
    "Trained",
    "float32",
    "function",
    "trainer",
    "vector",
]
