//! The flights project of `functions/flights`.

use super::{Project, flights_components, repository};

/// All pipelines of the flights project.
pub(crate) const FLIGHTS_PIPELINES: [&str; 8] = [
    "airport",
    "airport_weather",
    "plane_outcome",
    "route_delays",
    "carrier_delays",
    "origin_delays",
    "plane_delays",
    "scheduled_flight",
];

impl Project {
    /// Makes a copy of the flights project, with its data and components.
    pub(crate) fn flights() -> Self {
        let source = repository().join("functions/flights");
        let mut text = std::fs::read_to_string(source.join("wafer.toml")).unwrap();
        for (name, krate) in [
            ("flight_outcome", "flight-outcomes"),
            ("scheduled_flight", "scheduled-flights"),
            ("hourly_weather", "hourly-weather"),
            ("airport_profile", "airport-profile"),
            ("departure_features", "departure-features"),
            ("train_trees", "train_trees"),
            ("trees", "lightgbm"),
            ("simple", "linear"),
        ] {
            let component = flights_components().join(format!("{name}.wasm"));
            let lines = ["crate", "stock"].map(|kind| format!("{kind} = \"{krate}\""));
            let line = lines.iter().find(|line| text.contains(*line)).unwrap();
            text = text.replace(line, &format!("component = \"{}\"", component.display()));
        }
        let project = Self::new(&text);
        std::os::unix::fs::symlink(source.join("data"), project.path().join("data")).unwrap();
        project
    }

    /// Runs all pipelines of the flights project over all of their files.
    pub(crate) fn run_flights(&self) {
        for pipeline in FLIGHTS_PIPELINES {
            self.ok(&["run", pipeline]);
        }
    }
}
