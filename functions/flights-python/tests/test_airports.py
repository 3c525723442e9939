"""Airports, and features of departures from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf, nan

import pytest
from airport_profile import AirportProfile, AirportRecord, Settings, airport_profile, valid_from
from data import rows
from departure_features import Departure, departure_features

FROM = datetime(2013, 1, 1, tzinfo=UTC)
LA_GUARDIA = AirportRecord(
    faa="LGA", name="La Guardia", lat=40.777245, lon=-73.872608, alt=22, tz=-5, dst="A"
)
# From JFK to LAX, in six hours of summer.
DEPARTURE = Departure(
    scheduled_departure=datetime(2013, 7, 1, 13, tzinfo=UTC),
    scheduled_arrival=datetime(2013, 7, 1, 19, tzinfo=UTC),
    origin_lat=40.639751,
    origin_lon=-73.778925,
    origin_utc_offset_minutes=-300,
    origin_observes_dst=True,
    dest_lat=33.942536,
    dest_lon=-118.408075,
)
KM_PER_MILE = 1.609_344


@dataclass
class Flown:
    """A flight, with the distance that was recorded."""

    origin: str
    dest: str
    distance: int


def test_profiles_hold_from_the_parameter_on() -> None:
    assert valid_from({}, Settings(valid_from_seconds=1_356_998_400)) == FROM
    profile = airport_profile(LA_GUARDIA, FROM)
    assert profile == AirportProfile(
        faa="LGA",
        valid_from=FROM,
        name="La Guardia",
        lat=40.777245,
        lon=-73.872608,
        altitude_m=pytest.approx(6.7056),
        utc_offset_minutes=-300,
        observes_dst=True,
    )


@pytest.mark.parametrize(("lat", "lon"), [(140.8, -73.9), (40.8, -180.1), (nan, 0.0), (0.0, inf)])
def test_positions_have_to_be_on_earth(lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match="is not a place on Earth"):
        airport_profile(replace(LA_GUARDIA, lat=lat, lon=lon), FROM)


def test_new_york_to_los_angeles() -> None:
    features = departure_features(DEPARTURE)
    # The records give 2,475 miles, on an ellipsoid; a sphere differs by up to 0.5 %.
    assert features.distance_km / KM_PER_MILE == pytest.approx(2_475, rel=0.005)
    assert features.course_degrees == pytest.approx(273.9, abs=0.5)
    assert (features.local_hour, features.local_weekday) == (9, 1)
    assert features.scheduled_minutes == 360
    assert features.scheduled_speed_kmh == pytest.approx(features.distance_km / 6)


def test_an_hour_of_winter_is_another_one() -> None:
    later = timedelta(days=184)
    departs_at, arrives_at = DEPARTURE.scheduled_departure, DEPARTURE.scheduled_arrival
    winter = replace(
        DEPARTURE, scheduled_departure=departs_at + later, scheduled_arrival=arrives_at + later
    )
    features = departure_features(winter)
    assert (features.local_hour, features.local_weekday) == (8, 3)


@pytest.mark.parametrize("unknown", ["origin_lat", "origin_lon", "dest_lat", "dest_lon"])
def test_unknown_places_give_nulls(unknown: str) -> None:
    features = departure_features(replace(DEPARTURE, **{unknown: None}))
    found = (features.distance_km, features.course_degrees, features.scheduled_speed_kmh)
    assert found == (None, None, None)
    assert features.local_hour == 9


@pytest.mark.parametrize("unknown", ["origin_utc_offset_minutes", "origin_observes_dst"])
def test_unknown_clocks_give_nulls(unknown: str) -> None:
    features = departure_features(replace(DEPARTURE, **{unknown: None}))
    assert (features.local_hour, features.local_weekday) == (None, None)
    assert features.distance_km is not None


def test_arrivals_before_departure_are_errors() -> None:
    backwards = replace(DEPARTURE, scheduled_arrival=DEPARTURE.scheduled_departure)
    with pytest.raises(ValueError, match="is not after scheduled_departure 2013-07-01T13:00:00"):
        departure_features(backwards)


def test_distances_are_those_that_were_recorded() -> None:
    airports: Mapping[str, AirportProfile] = {
        record.faa: airport_profile(record, FROM)
        for record in rows("airports.parquet", AirportRecord)
    }
    assert len(airports) == 1_458
    compared = set()
    for flown in rows("flights.parquet", Flown, step=29):
        route = (flown.origin, flown.dest)
        if flown.dest not in airports or route in compared:
            continue
        origin, dest = airports[flown.origin], airports[flown.dest]
        departure = replace(
            DEPARTURE,
            origin_lat=origin.lat,
            origin_lon=origin.lon,
            dest_lat=dest.lat,
            dest_lon=dest.lon,
        )
        miles = departure_features(departure).distance_km / KM_PER_MILE
        assert miles == pytest.approx(flown.distance, rel=0.005, abs=1), route
        compared.add(route)
    assert len(compared) > 150
