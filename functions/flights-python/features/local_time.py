"""Local time at airports of the United States.

The data gives hours and minutes on the wall clock of an airport; a model needs instants. Two values
determine what a wall clock shows: the standard offset from UTC, and whether daylight saving time is
observed. Since 2007 that lasts from 2:00 on the second Sunday of March to 2:00 on the first Sunday
of November (Energy Policy Act of 2005, section 110).

`zoneinfo` is not needed: the data has no names of zones, and four airports in it have none.

Instants have `tzinfo=UTC`. What a wall clock shows is a `datetime` without one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAYS = [timedelta(days=days) for days in range(3)]

BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Zone:
    """The difference between an airport's wall clock and UTC."""

    standard: timedelta
    """Standard time minus UTC; negative in the Americas."""
    observes_dst: bool
    """Whether clocks are put forward in summer."""

    def offset_at(self, time: datetime) -> timedelta:
        """Returns by how much the wall clock is ahead of UTC at an instant."""
        if not self.observes_dst:
            return self.standard
        standard_time = (time + self.standard).replace(tzinfo=None)
        start, end = summer(standard_time.year)
        return self.standard + HOUR if start <= standard_time < end else self.standard

    def wall_clock(self, time: datetime) -> datetime:
        """Returns what the wall clock shows at an instant."""
        return (time + self.offset_at(time)).replace(tzinfo=None)

    def instants(self, shown: datetime) -> Iterator[datetime]:
        """Yields the instants at which the wall clock shows a day and a time, in their order.

        There are none in the hour that is skipped in spring, and two in the hour that is repeated
        in autumn.
        """
        for offset in (self.standard + HOUR, self.standard):
            instant = shown.replace(tzinfo=UTC) - offset
            if self.offset_at(instant) == offset:
                yield instant

    def first_after(self, time: datetime, hhmm: int) -> datetime:
        """Returns the first instant after `time` at which the wall clock shows `hhmm`.

        Flights take less than a day, so this is the instant of their arrival.
        """
        hours, minutes = divmod(hhmm, 100)
        if not 0 <= hhmm <= 2400 or minutes > 59:
            raise ValueError(f"{hhmm} is not a time of day as hhmm")
        midnight = self.wall_clock(time).replace(hour=0, minute=0, second=0, microsecond=0)
        # As a duration, because 2400 is the midnight at the end of a day.
        since_midnight = timedelta(hours=hours, minutes=minutes)
        for day in DAYS:
            for instant in self.instants(midnight + day + since_midnight):
                if instant > time:
                    return instant
        raise ValueError(f"{hhmm} does not come within a day of departure")


@cache
def summer(year: int) -> tuple[datetime, datetime]:
    """Returns when daylight saving time begins and ends in a year, both in standard time."""
    return sunday(year, 3, 2) + 2 * HOUR, sunday(year, 11, 1) + 1 * HOUR


def sunday(year: int, month: int, nth: int) -> datetime:
    """Returns the midnight at which the `nth` Sunday of a month begins, counted from 1."""
    first = datetime(year, month, 1)
    return first + timedelta(days=7 - first.isoweekday(), weeks=nth - 1)


def load_zones(assets: Mapping[str, bytes]) -> dict[str, Zone]:
    """Reads the zones of airports, by code, from the asset `zones`.

    It is CSV with the columns `faa`, `utc_offset_minutes` and `observes_dst`.
    """
    lines = assets["zones"].decode().splitlines()
    zones = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            faa, offset, observes_dst = line.split(",")
            zones[faa] = Zone(int(offset) * MINUTE, BOOLEANS[observes_dst])
        except (KeyError, ValueError):
            raise ValueError(
                f"asset `zones`, line {number}: `{line}` is not faa,minutes,true|false"
            ) from None
    return zones


def zone_of(zones: Mapping[str, Zone], destination: str) -> Zone:
    """Returns the zone of an airport."""
    try:
        return zones[destination]
    except KeyError:
        raise ValueError(f"destination `{destination}` is not in the asset `zones`") from None
