//! A function of four columns, for benches.

use wafer::Row;

/// Two points.
#[derive(Debug, Row)]
pub struct Points {
    /// Latitude, degrees.
    from_lat: f64,
    /// Longitude, degrees.
    from_lon: f64,
    /// Latitude, degrees.
    to_lat: f64,
    /// Longitude, degrees.
    to_lon: f64,
}

/// The distance between two points.
#[derive(Debug, Row)]
pub struct Distance {
    /// Great-circle distance, km.
    km: f64,
}

/// Great-circle distance.
#[wafer::function]
pub fn narrow(p: Points) -> Distance {
    let (a, b) = (p.from_lat.to_radians(), p.to_lat.to_radians());
    let half_lat = ((b - a) / 2.0).sin();
    let half_lon = ((p.to_lon - p.from_lon).to_radians() / 2.0).sin();
    let h = half_lat * half_lat + a.cos() * b.cos() * half_lon * half_lon;
    Distance {
        km: 12_742.0 * h.sqrt().min(1.0).asin(),
    }
}
