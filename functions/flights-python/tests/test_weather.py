"""The weather: whole columns give what single rows give."""

from dataclasses import astuple, replace
from datetime import UTC, datetime
from pathlib import Path

import hourly_weather
import pytest
from data import rows
from guest import Guest
from hourly_weather import AirportWeather, WeatherReport
from weather_by_rows import weather_by_rows

REPORT = WeatherReport(
    origin="EWR",
    time_hour=datetime(2013, 1, 1, tzinfo=UTC),
    temp=50.0,
    dewp=41.0,
    humid=59.0,
    wind_dir=None,
    wind_speed=10.0,
    wind_gust=None,
    precip=1.0,
    pressure=None,
    visib=2.0,
)
WEATHER = AirportWeather(
    faa="EWR",
    observed_at=datetime(2013, 1, 1, tzinfo=UTC),
    temperature_c=10.0,
    dew_point_spread_c=5.0,
    humidity_percent=59.0,
    wind_direction_degrees=None,
    wind_speed_ms=4.4704,
    wind_gust_ms=4.4704,
    precipitation_mm=25.4,
    pressure_hpa=None,
    visibility_km=3.218688,
    instrument_conditions=True,
)
NOTHING = WeatherReport("EWR", REPORT.time_hour, *[None] * 9)


def of_columns(reports: list[WeatherReport]) -> list[AirportWeather]:
    """Calls the function as the host does: with buffers and bit maps."""
    guest = Guest(Path(hourly_weather.__file__).read_text())
    assert guest.error is None, guest.error
    made, sources, errors = guest.call(*map(list, zip(*map(astuple, reports), strict=True)))
    assert (sources, errors) == (None, {})
    return [AirportWeather(*values) for values in made]


@pytest.mark.parametrize("gust", [None, 20.0])
def test_units_are_converted_and_nulls_stay_null(gust: float | None) -> None:
    report = replace(REPORT, wind_gust=gust)
    wanted = replace(WEATHER, wind_gust_ms=8.9408 if gust else 4.4704)
    assert weather_by_rows(report) == wanted
    assert of_columns([report]) == [wanted]


def test_reports_of_nothing_are_nulls() -> None:
    wanted = AirportWeather("EWR", REPORT.time_hour, *[None] * 10)
    assert of_columns([NOTHING, REPORT]) == [wanted, WEATHER]


def test_all_reports_give_the_same_by_columns_and_by_rows() -> None:
    reports = rows("weather.parquet", WeatherReport)
    assert len(reports) == 26_115
    assert of_columns(reports) == [weather_by_rows(report) for report in reports]
