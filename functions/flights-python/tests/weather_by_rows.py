"""The weather at an airport, row by row: what the function of columns is compared with."""

import wafer
from hourly_weather import KM_PER_MILE, MM_PER_INCH, MS_PER_MPH, AirportWeather, WeatherReport


def scaled(value: float | None, factor: float) -> float | None:
    """Returns a value in another unit."""
    return None if value is None else value * factor


@wafer.function
def weather_by_rows(report: WeatherReport) -> AirportWeather:
    """An airport's weather in SI units."""
    temp, dewp, visib = report.temp, report.dewp, report.visib
    wind_gust = report.wind_speed if report.wind_gust is None else report.wind_gust
    return AirportWeather(
        faa=report.origin,
        observed_at=report.time_hour,
        temperature_c=None if temp is None else (temp - 32) * 5 / 9,
        dew_point_spread_c=None if temp is None or dewp is None else (temp - dewp) * 5 / 9,
        humidity_percent=report.humid,
        wind_direction_degrees=report.wind_dir,
        wind_speed_ms=scaled(report.wind_speed, MS_PER_MPH),
        wind_gust_ms=scaled(wind_gust, MS_PER_MPH),
        precipitation_mm=scaled(report.precip, MM_PER_INCH),
        pressure_hpa=report.pressure,
        visibility_km=scaled(visib, KM_PER_MILE),
        instrument_conditions=None if visib is None else visib < 3,
    )
