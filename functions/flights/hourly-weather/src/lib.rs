//! The weather at an airport, from its hourly reports.

use wafer::{Row, Timestamp};

/// An hourly report in the units of its station.
#[derive(Debug, Row)]
pub struct WeatherReport {
    /// Code of the airport that reports.
    origin: String,
    /// The hour that the report is about, UTC.
    time_hour: Timestamp,
    /// Temperature, °F.
    temp: Option<f64>,
    /// Dew point, °F.
    dewp: Option<f64>,
    /// Relative humidity, %.
    humid: Option<f64>,
    /// Direction the wind comes from, degrees.
    wind_dir: Option<i64>,
    /// Wind speed, mph.
    wind_speed: Option<f64>,
    /// Speed of gusts, mph.
    wind_gust: Option<f64>,
    /// Precipitation of the hour, inches.
    precip: Option<f64>,
    /// Pressure at sea level, mbar.
    pressure: Option<f64>,
    /// Visibility, miles.
    visib: Option<f64>,
}

/// The weather at an airport.
#[derive(Debug, Row)]
pub struct AirportWeather {
    /// Code of the airport.
    faa: String,
    /// The hour of the report.
    observed_at: Timestamp,
    /// Temperature, °C.
    temperature_c: Option<f64>,
    /// Temperature minus dew point, °C; small when fog is near.
    dew_point_spread_c: Option<f64>,
    /// Relative humidity, %.
    humidity_percent: Option<f64>,
    /// Direction the wind comes from, degrees.
    wind_direction_degrees: Option<i64>,
    /// Wind speed, m/s.
    wind_speed_ms: Option<f64>,
    /// Speed of gusts, or of the wind where none is reported, m/s.
    wind_gust_ms: Option<f64>,
    /// Precipitation of the hour, mm.
    precipitation_mm: Option<f64>,
    /// Pressure at sea level, hPa.
    pressure_hpa: Option<f64>,
    /// Visibility, km.
    visibility_km: Option<f64>,
    /// Whether instruments are needed: visibility below 3 miles (14 CFR 91.155).
    instrument_conditions: Option<bool>,
}

const MS_PER_MPH: f64 = 0.447_04;
const KM_PER_MILE: f64 = 1.609_344;
const MM_PER_INCH: f64 = 25.4;

/// An airport's weather in SI units.
#[wafer::function]
pub fn hourly_weather(report: WeatherReport) -> AirportWeather {
    let celsius = |fahrenheit: f64| (fahrenheit - 32.0) * 5.0 / 9.0;
    let spread = report
        .temp
        .zip(report.dewp)
        .map(|(temp, dewp)| (temp - dewp) * 5.0 / 9.0);
    AirportWeather {
        faa: report.origin,
        observed_at: report.time_hour,
        temperature_c: report.temp.map(celsius),
        dew_point_spread_c: spread,
        humidity_percent: report.humid,
        wind_direction_degrees: report.wind_dir,
        wind_speed_ms: report.wind_speed.map(|mph| mph * MS_PER_MPH),
        wind_gust_ms: report
            .wind_gust
            .or(report.wind_speed)
            .map(|mph| mph * MS_PER_MPH),
        precipitation_mm: report.precip.map(|inches| inches * MM_PER_INCH),
        pressure_hpa: report.pressure,
        visibility_km: report.visib.map(|miles| miles * KM_PER_MILE),
        instrument_conditions: report.visib.map(|miles| miles < 3.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_units_are_converted_and_nulls_stay_null() {
        let report = WeatherReport {
            origin: "EWR".into(),
            time_hour: Timestamp::from_seconds(0),
            temp: Some(50.0),
            dewp: Some(41.0),
            humid: Some(59.0),
            wind_dir: None,
            wind_speed: Some(10.0),
            wind_gust: None,
            precip: Some(1.0),
            pressure: None,
            visib: Some(2.0),
        };
        let weather = hourly_weather(report);
        assert_eq!(weather.temperature_c, Some(10.0));
        assert_eq!(weather.dew_point_spread_c, Some(5.0));
        assert_eq!(weather.wind_gust_ms, Some(4.4704));
        assert_eq!(weather.precipitation_mm, Some(25.4));
        assert_eq!(weather.instrument_conditions, Some(true));
        assert_eq!(
            (weather.wind_direction_degrees, weather.pressure_hpa),
            (None, None)
        );
    }
}
