//! Features of a flight at its scheduled departure, computed from the request and the two airports.

use local_time::Zone;
use wafer::{Row, Timestamp};

/// A flight as known at scheduled departure. The columns of an unknown airport are null.
#[derive(Debug, Row)]
pub struct Departure {
    /// Scheduled departure.
    scheduled_departure: Timestamp,
    /// Scheduled arrival.
    scheduled_arrival: Timestamp,
    /// Latitude of the origin, degrees north.
    origin_lat: Option<f64>,
    /// Longitude of the origin, degrees east.
    origin_lon: Option<f64>,
    /// Standard time at the origin minus UTC, minutes.
    origin_utc_offset_minutes: Option<i64>,
    /// Whether clocks at the origin are put forward in summer.
    origin_observes_dst: Option<bool>,
    /// Latitude of the destination, degrees north.
    dest_lat: Option<f64>,
    /// Longitude of the destination, degrees east.
    dest_lon: Option<f64>,
}

/// Features of a departure.
#[derive(Debug, Row)]
pub struct DepartureFeatures {
    /// Great-circle distance from origin to destination, km.
    distance_km: Option<f64>,
    /// Initial course from origin to destination, degrees from north.
    course_degrees: Option<f64>,
    /// Hour of the scheduled departure on the wall clock of the origin, 0 to 23.
    local_hour: Option<i64>,
    /// Day of the week on that clock: 1 = Monday to 7 = Sunday.
    local_weekday: Option<i64>,
    /// Scheduled time from gate to gate, minutes.
    scheduled_minutes: f64,
    /// Distance over scheduled time, km/h.
    scheduled_speed_kmh: Option<f64>,
}

/// Distance, course, local time and scheduled speed of a departure.
#[wafer::function]
pub fn departure_features(d: Departure) -> Result<DepartureFeatures, String> {
    let minutes =
        (d.scheduled_arrival.as_micros() - d.scheduled_departure.as_micros()) as f64 / 60e6;
    if minutes <= 0.0 {
        return Err(format!(
            "scheduled_arrival {} is not after scheduled_departure {}",
            d.scheduled_arrival, d.scheduled_departure
        ));
    }
    let path = place(d.origin_lat, d.origin_lon).zip(place(d.dest_lat, d.dest_lon));
    let distance_km = path.map(|(from, to)| great_circle_km(from, to));
    let zone = d.origin_utc_offset_minutes.zip(d.origin_observes_dst);
    let wall_clock = zone.map(|(utc_offset_minutes, observes_dst)| {
        Zone {
            utc_offset_minutes,
            observes_dst,
        }
        .wall_clock(d.scheduled_departure)
    });
    Ok(DepartureFeatures {
        distance_km,
        course_degrees: path.map(|(from, to)| initial_course_degrees(from, to)),
        local_hour: wall_clock.map(|(_, minutes)| minutes / 60),
        local_weekday: wall_clock.map(|(day, _)| i64::from(day.weekday())),
        scheduled_minutes: minutes,
        scheduled_speed_kmh: distance_km.map(|km| km / minutes * 60.0),
    })
}

/// A position: latitude and longitude in radians.
#[derive(Clone, Copy)]
struct Place {
    lat: f64,
    lon: f64,
}

fn place(lat: Option<f64>, lon: Option<f64>) -> Option<Place> {
    Some(Place {
        lat: lat?.to_radians(),
        lon: lon?.to_radians(),
    })
}

/// Mean radius of the Earth, km (IUGG).
const EARTH_KM: f64 = 6_371.008_8;

/// Haversine formula: R. W. Sinnott, "Virtues of the Haversine", Sky and
/// Telescope 68 (1984).
fn great_circle_km(from: Place, to: Place) -> f64 {
    let half_lat = ((to.lat - from.lat) / 2.0).sin();
    let half_lon = ((to.lon - from.lon) / 2.0).sin();
    let h = half_lat * half_lat + from.lat.cos() * to.lat.cos() * half_lon * half_lon;
    2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
}

fn initial_course_degrees(from: Place, to: Place) -> f64 {
    let east = (to.lon - from.lon).sin() * to.lat.cos();
    let north =
        from.lat.cos() * to.lat.sin() - from.lat.sin() * to.lat.cos() * (to.lon - from.lon).cos();
    (east.atan2(north).to_degrees() + 360.0) % 360.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jfk_to(lat: f64, lon: f64) -> Departure {
        Departure {
            scheduled_departure: Timestamp::from_seconds(1_372_683_600), // 2013-07-01T13:00Z
            scheduled_arrival: Timestamp::from_seconds(1_372_683_600 + 6 * 3_600),
            origin_lat: Some(40.639_751),
            origin_lon: Some(-73.778_925),
            origin_utc_offset_minutes: Some(-300),
            origin_observes_dst: Some(true),
            dest_lat: Some(lat),
            dest_lon: Some(lon),
        }
    }

    #[test]
    fn new_york_to_los_angeles() {
        let features = departure_features(jfk_to(33.942_536, -118.408_075)).unwrap();
        // The records give 2,475 miles, on an ellipsoid; distances on a sphere differ by up to 0.5
        // %.
        let miles = features.distance_km.unwrap() / 1.609_344;
        assert!((miles / 2_475.0 - 1.0).abs() < 0.005, "{miles}");
        assert!((features.course_degrees.unwrap() - 273.9).abs() < 0.5);
        assert_eq!(
            (features.local_hour, features.local_weekday),
            (Some(9), Some(1))
        );
        assert_eq!(features.scheduled_minutes, 360.0);
        assert_eq!(
            features.scheduled_speed_kmh,
            features.distance_km.map(|km| km / 6.0)
        );
    }

    #[test]
    fn unknown_airports_give_nulls() {
        let unknown = Departure {
            dest_lat: None,
            ..jfk_to(0.0, 0.0)
        };
        let features = departure_features(unknown).unwrap();
        assert_eq!(
            (features.distance_km, features.scheduled_speed_kmh),
            (None, None)
        );
        assert_eq!(features.local_hour, Some(9));
    }

    #[test]
    fn arrivals_before_departure_are_errors() {
        let departure = jfk_to(0.0, 0.0);
        let backwards = Departure {
            scheduled_arrival: departure.scheduled_departure,
            ..departure
        };
        assert!(
            departure_features(backwards)
                .err()
                .unwrap()
                .contains("is not after")
        );
    }
}
