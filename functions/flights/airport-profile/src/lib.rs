//! Properties of an airport that do not change from day to day.

use wafer::{Init, Row, Timestamp};

/// An airport in the FAA's list.
#[derive(Debug, Row)]
pub struct AirportRecord {
    /// Code of the airport.
    faa: String,
    /// Name.
    name: String,
    /// Latitude, degrees north.
    lat: f64,
    /// Longitude, degrees east.
    lon: f64,
    /// Altitude, feet.
    alt: i64,
    /// Standard time minus UTC, hours.
    tz: i64,
    /// `A` where the daylight saving of the United States is observed.
    dst: String,
}

/// Position, altitude and time zone of an airport.
#[derive(Debug, Row)]
pub struct AirportProfile {
    /// Code of the airport.
    faa: String,
    /// The time from which this holds: the parameter `valid_from_seconds`.
    valid_from: Timestamp,
    /// Name.
    name: String,
    /// Latitude, degrees north.
    lat: f64,
    /// Longitude, degrees east.
    lon: f64,
    /// Altitude, m.
    altitude_m: f64,
    /// Standard time minus UTC, minutes.
    utc_offset_minutes: i64,
    /// Whether clocks are put forward in summer.
    observes_dst: bool,
}

/// Reads the parameter `valid_from_seconds`: the time from which the list holds, in seconds since
/// the Unix epoch.
pub fn valid_from(init: &Init) -> Result<Timestamp, String> {
    let text = init
        .parameter("valid_from_seconds")
        .ok_or("parameter `valid_from_seconds` is not given")?;
    let seconds = text
        .parse()
        .map_err(|_| format!("parameter `valid_from_seconds`: `{text}` is not a number"))?;
    Ok(Timestamp::from_seconds(seconds))
}

const M_PER_FOOT: f64 = 0.3048;

/// An airport's position, altitude and time zone. A row whose position is not on Earth is an error.
#[wafer::function(init = valid_from)]
pub fn airport_profile(
    airport: AirportRecord,
    valid_from: &Timestamp,
) -> Result<AirportProfile, String> {
    if !(-90.0..=90.0).contains(&airport.lat) || !(-180.0..=180.0).contains(&airport.lon) {
        return Err(format!(
            "{}, {} is not a place on Earth",
            airport.lat, airport.lon
        ));
    }
    Ok(AirportProfile {
        faa: airport.faa,
        valid_from: *valid_from,
        name: airport.name,
        lat: airport.lat,
        lon: airport.lon,
        altitude_m: airport.alt as f64 * M_PER_FOOT,
        utc_offset_minutes: airport.tz * 60,
        observes_dst: airport.dst == "A",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn airport(lat: f64, lon: f64) -> AirportRecord {
        let (faa, name, dst) = ("LGA".into(), "La Guardia".into(), "A".into());
        AirportRecord {
            faa,
            name,
            lat,
            lon,
            alt: 22,
            tz: -5,
            dst,
        }
    }

    #[test]
    fn airport_profiles_hold_from_the_parameter_on() {
        let start = valid_from(&Init::new().with_parameter("valid_from_seconds", "86400")).unwrap();
        let profile = airport_profile(airport(40.8, -73.9), &start).unwrap();
        assert_eq!(
            profile.valid_from.to_string(),
            "1970-01-02T00:00:00.000000Z"
        );
        assert_eq!(
            (profile.utc_offset_minutes, profile.observes_dst),
            (-300, true)
        );
        assert!((profile.altitude_m - 6.7056).abs() < 1e-12);
    }

    #[test]
    fn positions_and_parameters_are_checked() {
        let start = Timestamp::from_seconds(0);
        assert!(airport_profile(airport(140.8, -73.9), &start).is_err());
        assert!(airport_profile(airport(f64::NAN, 0.0), &start).is_err());
        assert!(valid_from(&Init::new()).is_err());
        assert!(valid_from(&Init::new().with_parameter("valid_from_seconds", "x")).is_err());
    }
}
