"""Wall clocks of airports."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from local_time import HOUR, MINUTE, Zone, load_zones, zone_of

NEW_YORK = Zone(-5 * HOUR, observes_dst=True)
PHOENIX = Zone(-7 * HOUR, observes_dst=False)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "shown", "instants"),
    # Daylight saving time of 2013 in the United States: 10 March to 3 November.
    [
        (NEW_YORK, "2013-01-01T05:15", ["2013-01-01T10:15"]),
        (NEW_YORK, "2013-07-01T05:15", ["2013-07-01T09:15"]),
        (NEW_YORK, "2013-12-31T23:59", ["2014-01-01T04:59"]),
        (NEW_YORK, "2013-03-10T01:59", ["2013-03-10T06:59"]),
        (NEW_YORK, "2013-03-10T02:30", []),
        (NEW_YORK, "2013-03-10T03:00", ["2013-03-10T07:00"]),
        (NEW_YORK, "2013-11-03T01:30", ["2013-11-03T05:30", "2013-11-03T06:30"]),
        (NEW_YORK, "2013-11-03T02:00", ["2013-11-03T07:00"]),
        (PHOENIX, "2013-07-01T05:15", ["2013-07-01T12:15"]),
    ],
)
def test_wall_clocks_become_instants(zone: Zone, shown: str, instants: list[str]) -> None:
    assert list(zone.instants(datetime.fromisoformat(shown))) == [utc(text) for text in instants]


@pytest.mark.parametrize(
    ("name", "standard", "observes_dst"),
    [
        ("America/New_York", -5, True),
        ("America/Chicago", -6, True),
        ("America/Denver", -7, True),
        ("America/Los_Angeles", -8, True),
        ("America/Anchorage", -9, True),
        ("America/Phoenix", -7, False),
        ("Pacific/Honolulu", -10, False),
        ("America/Puerto_Rico", -4, False),
    ],
)
def test_wall_clocks_are_those_of_the_iana(name: str, standard: int, observes_dst: bool) -> None:
    zone, iana = Zone(standard * HOUR, observes_dst), ZoneInfo(name)
    for hours in range(24 * 365 * 2):
        time = datetime(2013, 1, 1, 0, 17, tzinfo=UTC) + hours * HOUR
        shown = time.astimezone(iana).replace(tzinfo=None)
        assert zone.wall_clock(time) == shown, time
        both = {shown.replace(tzinfo=iana, fold=fold).astimezone(UTC) for fold in (0, 1)}
        assert list(zone.instants(shown)) == sorted(both), shown


@pytest.mark.parametrize("hhmm", [-5, 60, 1260, 2401, 2561])
def test_what_is_no_time_of_day_is_an_error(hhmm: int) -> None:
    with pytest.raises(ValueError, match=f"^{hhmm} is not a time of day as hhmm$"):
        NEW_YORK.first_after(utc("2013-01-01"), hhmm)


def test_the_first_instant_after_another_is_the_next_one() -> None:
    # The clock never shows 2:30 on 10 March, and shows 1:30 twice on 3 November.
    for time, hhmm, wanted in [
        ("2013-01-01T10:15", 516, "2013-01-01T10:16"),
        ("2013-01-01T10:15", 515, "2013-01-02T10:15"),
        ("2013-01-01T10:15", 2400, "2013-01-02T05:00"),
        ("2013-03-10T05:00", 230, "2013-03-11T06:30"),
        ("2013-11-03T05:00", 130, "2013-11-03T05:30"),
        ("2013-11-03T05:30", 130, "2013-11-03T06:30"),
        ("2013-11-03T06:30", 130, "2013-11-04T06:30"),
    ]:
        assert NEW_YORK.first_after(utc(time), hhmm) == utc(wanted), (time, hhmm)


def test_zones_are_read() -> None:
    table = b"faa,utc_offset_minutes,observes_dst\nIAH,-360,true\nSJU,-240,false\n"
    zones = load_zones({"zones": table})
    assert zones == {
        "IAH": Zone(timedelta(hours=-6), observes_dst=True),
        "SJU": Zone(-240 * MINUTE, observes_dst=False),
    }
    with pytest.raises(ValueError, match="destination `XXX` is not in the asset `zones`"):
        zone_of(zones, "XXX")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"faa,m,d\nJFK,-300,yes\n", "line 2: `JFK,-300,yes`"),
        (b"faa,m,d\nJFK,-300,true\nIAH\n", "line 3: `IAH`"),
        (b"faa,m,d\nJFK,five,true\n", "line 2: `JFK,five,true`"),
    ],
)
def test_lines_that_are_no_zone_are_named(table: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_zones({"zones": table})
