"""Flights as they were scheduled, with their later arrival delay, which is the label."""

from dataclasses import dataclass
from datetime import datetime

import wafer
from local_time import MINUTE, Zone, load_zones, zone_of

LATE_MINUTES = 15
"""A flight that arrives more than this many minutes late counts as late, as for the US Department
of Transportation."""


@dataclass
class FlightRecord:
    """A flight as the airport's records list it."""

    carrier: str
    """Two-letter code of the airline."""
    flight: int
    """Number of the flight."""
    tailnum: str | None
    """Tail number of the plane; missing for some cancelled flights."""
    origin: str
    """Airport of departure."""
    dest: str
    """Airport of destination."""
    time_hour: datetime
    """The full hour in which it was scheduled to depart, UTC."""
    minute: int
    """Minutes past that hour."""
    sched_arr_time: int
    """Local time of scheduled arrival as hhmm, at the destination."""
    arr_delay: int | None
    """Arrival delay, minutes; missing for cancelled and diverted flights."""


@dataclass
class ScheduledFlight:
    """A flight at its scheduled departure, and its outcome."""

    carrier: str
    """Two-letter code of the airline."""
    flight: int
    """Number of the flight."""
    origin: str
    """Airport of departure."""
    dest: str
    """Airport of destination."""
    departs_at: datetime
    """Scheduled departure, as the time of the row."""
    tailnum: str | None
    """Tail number of the plane; missing for some cancelled flights."""
    scheduled_departure: datetime
    """Scheduled departure."""
    scheduled_arrival: datetime
    """Scheduled arrival."""
    arrival_delay: int | None
    """The label: arrival delay, minutes; missing for cancelled and diverted flights."""
    arrived_late: bool | None
    """The label: whether it arrived more than 15 minutes late."""


@wafer.function(init=load_zones)
def scheduled_flight(flight: FlightRecord, zones: dict[str, Zone]) -> ScheduledFlight:
    """The schedule and the arrival delay of every flight, including cancelled ones."""
    zone = zone_of(zones, flight.dest)
    departs_at = flight.time_hour + flight.minute * MINUTE
    return ScheduledFlight(
        carrier=flight.carrier,
        flight=flight.flight,
        origin=flight.origin,
        dest=flight.dest,
        departs_at=departs_at,
        tailnum=flight.tailnum,
        scheduled_departure=departs_at,
        scheduled_arrival=zone.first_after(departs_at, flight.sched_arr_time),
        arrival_delay=flight.arr_delay,
        arrived_late=None if flight.arr_delay is None else flight.arr_delay > LATE_MINUTES,
    )
