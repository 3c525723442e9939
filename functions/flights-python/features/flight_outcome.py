"""The outcome of a flight, known when it has landed."""

from dataclasses import dataclass
from datetime import datetime

import wafer
from local_time import MINUTE, Zone, load_zones, zone_of


@dataclass
class FlightRecord:
    """A flight as the airport's records list it."""

    tailnum: str | None
    """Tail number of the plane; missing for some cancelled flights."""
    carrier: str
    """Two-letter code of the airline."""
    flight: int
    """Number of the flight."""
    origin: str
    """Airport of departure."""
    dest: str
    """Airport of destination."""
    time_hour: datetime
    """The full hour in which it was scheduled to depart, UTC."""
    minute: int
    """Minutes past that hour."""
    dep_delay: int | None
    """Departure delay, minutes; missing for cancelled flights."""
    arr_time: int | None
    """Local time of arrival as hhmm, at the destination; missing for cancelled flights."""
    arr_delay: int | None
    """Arrival delay, minutes; missing for cancelled and diverted flights."""
    air_time: int | None
    """Time in the air, minutes."""


@dataclass
class FlightOutcome:
    """The last completed flight of a plane."""

    tailnum: str
    """Tail number of the plane."""
    arrived_at: datetime
    """Time of arrival."""
    departed_at: datetime
    """Time of leaving the gate."""
    carrier: str
    """Two-letter code of the airline."""
    flight: int
    """Number of the flight."""
    origin: str
    """Airport of departure."""
    dest: str
    """Airport of destination."""
    dep_delay_minutes: int
    """Departure delay, minutes."""
    arr_delay_minutes: int | None
    """Arrival delay, minutes; missing for diverted flights."""
    recovered_minutes: int | None
    """Delay made up on the way, minutes; missing for diverted flights."""
    air_time_minutes: int | None
    """Time in the air, minutes."""


@wafer.function(init=load_zones)
def flight_outcome(flight: FlightRecord, zones: dict[str, Zone]) -> FlightOutcome | None:
    """The outcome of a flight, at its actual arrival. Cancelled flights have none."""
    if flight.tailnum is None or flight.dep_delay is None or flight.arr_time is None:
        return None
    zone = zone_of(zones, flight.dest)
    departed_at = flight.time_hour + (flight.minute + flight.dep_delay) * MINUTE
    recovered = None if flight.arr_delay is None else flight.dep_delay - flight.arr_delay
    return FlightOutcome(
        tailnum=flight.tailnum,
        arrived_at=zone.first_after(departed_at, flight.arr_time),
        departed_at=departed_at,
        carrier=flight.carrier,
        flight=flight.flight,
        origin=flight.origin,
        dest=flight.dest,
        dep_delay_minutes=flight.dep_delay,
        arr_delay_minutes=flight.arr_delay,
        recovered_minutes=recovered,
        air_time_minutes=flight.air_time,
    )
