"""The weather at an airport, from its hourly reports.

The function takes and returns whole columns, which is faster than row by row where what is computed
is arithmetic. `tests/weather_by_rows.py` has the same function of rows.
"""

from dataclasses import dataclass
from datetime import datetime

import wafer

MS_PER_MPH = 0.447_04
KM_PER_MILE = 1.609_344
MM_PER_INCH = 25.4


@dataclass
class WeatherReport:
    """An hourly report in the units of its station."""

    origin: str
    """Code of the airport that reports."""
    time_hour: datetime
    """The hour that the report is about, UTC."""
    temp: float | None
    """Temperature, °F."""
    dewp: float | None
    """Dew point, °F."""
    humid: float | None
    """Relative humidity, %."""
    wind_dir: int | None
    """Direction the wind comes from, degrees."""
    wind_speed: float | None
    """Wind speed, mph."""
    wind_gust: float | None
    """Speed of gusts, mph."""
    precip: float | None
    """Precipitation of the hour, inches."""
    pressure: float | None
    """Pressure at sea level, mbar."""
    visib: float | None
    """Visibility, miles."""


@dataclass
class AirportWeather:
    """The weather at an airport."""

    faa: str
    """Code of the airport."""
    observed_at: datetime
    """The hour of the report."""
    temperature_c: float | None
    """Temperature, °C."""
    dew_point_spread_c: float | None
    """Temperature minus dew point, °C; small when fog is near."""
    humidity_percent: float | None
    """Relative humidity, %."""
    wind_direction_degrees: int | None
    """Direction the wind comes from, degrees."""
    wind_speed_ms: float | None
    """Wind speed, m/s."""
    wind_gust_ms: float | None
    """Speed of gusts, or of the wind where none is reported, m/s."""
    precipitation_mm: float | None
    """Precipitation of the hour, mm."""
    pressure_hpa: float | None
    """Pressure at sea level, hPa."""
    visibility_km: float | None
    """Visibility, km."""
    instrument_conditions: bool | None
    """Whether instruments are needed: visibility below 3 miles (14 CFR 91.155)."""


@wafer.function(columns=True)
def hourly_weather(reports: wafer.Columns[WeatherReport]) -> wafer.Columns[AirportWeather]:
    """An airport's weather in SI units."""
    temp, dewp = values(reports, "temp"), values(reports, "dewp")
    wind_speed, visib = values(reports, "wind_speed"), values(reports, "visib")
    gusts = zip(values(reports, "wind_gust"), wind_speed, strict=True)
    return wafer.Columns(
        faa=reports.origin,  # type: ignore[attr-defined]
        observed_at=reports.time_hour,  # type: ignore[attr-defined]
        temperature_c=[None if t is None else (t - 32) * 5 / 9 for t in temp],
        dew_point_spread_c=[
            None if t is None or d is None else (t - d) * 5 / 9
            for t, d in zip(temp, dewp, strict=True)
        ],
        humidity_percent=values(reports, "humid"),
        wind_direction_degrees=values(reports, "wind_dir"),
        wind_speed_ms=scaled(wind_speed, MS_PER_MPH),
        wind_gust_ms=scaled([wind if gust is None else gust for gust, wind in gusts], MS_PER_MPH),
        precipitation_mm=scaled(values(reports, "precip"), MM_PER_INCH),
        pressure_hpa=values(reports, "pressure"),
        visibility_km=scaled(visib, KM_PER_MILE),
        instrument_conditions=[None if v is None else v < 3 for v in visib],
    )


def values(reports: wafer.Columns[WeatherReport], name: str) -> list[float | None]:
    """Returns the values of a column of numbers, None where there is none."""
    column, valid = getattr(reports, name), reports.valid(name)
    if valid is None:
        return list(column)
    return [value if is_valid else None for value, is_valid in zip(column, valid, strict=True)]


def scaled(values: list[float | None], factor: float) -> list[float | None]:
    """Returns values in another unit."""
    return [None if value is None else value * factor for value in values]
