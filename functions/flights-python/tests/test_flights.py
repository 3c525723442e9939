"""Flights: what is scheduled, and what came of it.

The data also has what a clock at the origin showed at departure, and how late a flight arrived. What
the functions compute of other columns has to fit both.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from data import rows
from flight_outcome import FlightOutcome, FlightRecord, flight_outcome
from local_time import MINUTE, Zone
from scheduled_flight import FlightRecord as ScheduleRecord
from scheduled_flight import ScheduledFlight, scheduled_flight

# The first flight of the data: it left at 5:17 in New York, and arrived at 8:30 in Houston.
UA_1545 = FlightRecord(
    tailnum="N14228",
    carrier="UA",
    flight=1545,
    origin="EWR",
    dest="IAH",
    time_hour=datetime(2013, 1, 1, 10, tzinfo=UTC),
    minute=15,
    dep_delay=2,
    arr_time=830,
    arr_delay=11,
    air_time=227,
)
PLAN_OF_UA_1545 = ScheduleRecord(
    carrier="UA",
    flight=1545,
    tailnum="N14228",
    origin="EWR",
    dest="IAH",
    time_hour=datetime(2013, 1, 1, 10, tzinfo=UTC),
    minute=15,
    sched_arr_time=819,
    arr_delay=11,
)


@dataclass
class Shown:
    """What a clock at the origin showed at departure."""

    dep_time: int | None


def test_outcome_of_a_flight(zones: dict[str, Zone]) -> None:
    assert rows("flights.parquet", FlightRecord, step=100_000)[0] == UA_1545
    assert flight_outcome(UA_1545, zones) == FlightOutcome(
        tailnum="N14228",
        arrived_at=datetime(2013, 1, 1, 14, 30, tzinfo=UTC),
        departed_at=datetime(2013, 1, 1, 10, 17, tzinfo=UTC),
        carrier="UA",
        flight=1545,
        origin="EWR",
        dest="IAH",
        dep_delay_minutes=2,
        arr_delay_minutes=11,
        recovered_minutes=-9,
        air_time_minutes=227,
    )


def test_schedule_of_a_flight(zones: dict[str, Zone]) -> None:
    assert rows("flights.parquet", ScheduleRecord, step=100_000)[0] == PLAN_OF_UA_1545
    assert scheduled_flight(PLAN_OF_UA_1545, zones) == ScheduledFlight(
        carrier="UA",
        flight=1545,
        origin="EWR",
        dest="IAH",
        departs_at=datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
        tailnum="N14228",
        scheduled_departure=datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
        scheduled_arrival=datetime(2013, 1, 1, 14, 19, tzinfo=UTC),
        arrival_delay=11,
        arrived_late=False,
    )


@pytest.mark.parametrize(
    ("time_hour", "minute", "dep_delay", "dest", "arr_time", "arrived_at"),
    [
        ("2013-01-02T04", 59, 3, "SJU", 442, "2013-01-02T08:42"),  # across midnight
        ("2013-06-01T23", 0, 0, "IAH", 2400, "2013-06-02T05:00"),  # the end of the day
        ("2013-03-10T04", 0, 0, "IAH", 305, "2013-03-10T08:05"),  # daylight saving time begins
        ("2013-11-03T05", 40, 0, "JFK", 130, "2013-11-03T06:30"),  # and ends
    ],
)
def test_arrivals_across_midnight_and_changes_of_clocks(
    zones: dict[str, Zone],
    time_hour: str,
    minute: int,
    dep_delay: int,
    dest: str,
    arr_time: int,
    arrived_at: str,
) -> None:
    flight = replace(
        UA_1545,
        time_hour=datetime.fromisoformat(time_hour).replace(tzinfo=UTC),
        minute=minute,
        dep_delay=dep_delay,
        dest=dest,
        arr_time=arr_time,
    )
    outcome = flight_outcome(flight, zones)
    assert outcome.arrived_at == datetime.fromisoformat(arrived_at).replace(tzinfo=UTC)


@pytest.mark.parametrize("missing", ["tailnum", "dep_delay", "arr_time"])
def test_cancelled_flights_have_no_outcome(zones: dict[str, Zone], missing: str) -> None:
    assert flight_outcome(replace(UA_1545, **{missing: None}), zones) is None


def test_diverted_flights_have_an_outcome_and_no_delay(zones: dict[str, Zone]) -> None:
    outcome = flight_outcome(replace(UA_1545, arr_delay=None, air_time=None), zones)
    assert (outcome.arr_delay_minutes, outcome.recovered_minutes) == (None, None)
    scheduled = scheduled_flight(replace(PLAN_OF_UA_1545, arr_delay=None), zones)
    assert (scheduled.arrival_delay, scheduled.arrived_late) == (None, None)


@pytest.mark.parametrize(("delay", "is_late"), [(15, False), (16, True)])
def test_late_is_more_than_15_minutes(zones: dict[str, Zone], delay: int, is_late: bool) -> None:
    flight = replace(PLAN_OF_UA_1545, arr_delay=delay)
    assert scheduled_flight(flight, zones).arrived_late is is_late


def test_invalid_flights_are_errors(zones: dict[str, Zone]) -> None:
    with pytest.raises(ValueError, match=r"^destination `XXX` is not in the asset `zones`$"):
        flight_outcome(replace(UA_1545, dest="XXX"), zones)
    with pytest.raises(ValueError, match=r"^2561 is not a time of day as hhmm$"):
        flight_outcome(replace(UA_1545, arr_time=2561), zones)
    with pytest.raises(ValueError, match=r"^2561 is not a time of day as hhmm$"):
        scheduled_flight(replace(PLAN_OF_UA_1545, sched_arr_time=2561), zones)


def test_flights_leave_when_the_clock_at_the_origin_says_so(zones: dict[str, Zone]) -> None:
    flights = rows("flights.parquet", FlightRecord, step=29)
    left = 0
    for flight, shown in zip(flights, rows("flights.parquet", Shown, step=29), strict=True):
        outcome = flight_outcome(flight, zones)
        assert outcome is not None or shown.dep_time is None or flight.arr_time is None
        if outcome is not None:
            clock = zones[flight.origin].wall_clock(outcome.departed_at)
            assert clock.hour * 100 + clock.minute == shown.dep_time % 2400, flight
            left += 1
    assert left > 11_000


def test_flights_arrive_as_late_as_was_recorded(zones: dict[str, Zone]) -> None:
    flights = rows("flights.parquet", FlightRecord, step=29)
    plans = rows("flights.parquet", ScheduleRecord, step=29)
    arrived, others = 0, []
    for flight, plan in zip(flights, plans, strict=True):
        outcome, scheduled = flight_outcome(flight, zones), scheduled_flight(plan, zones)
        if outcome is not None and outcome.arr_delay_minutes is not None:
            delay = outcome.arrived_at - scheduled.scheduled_arrival
            arrived += 1
            if delay != outcome.arr_delay_minutes * MINUTE:
                others.append(flight)
    assert arrived > 11_000
    # Of all flights this one is recorded by a clock that was not put forward yet: 2:03 did not exist
    # in that night, and comes on the next day.
    assert [(flight.flight, flight.dest, flight.arr_time) for flight in others] == [
        (35, "PBI", 203)
    ]
    assert others[0].time_hour == datetime(2013, 3, 10, 2, tzinfo=UTC)
