//! The outcome of a flight, known when it has landed.

use std::collections::HashMap;

use local_time::Zone;
use wafer::{Init, Row, Timestamp};

/// A flight as the airport's records list it.
#[derive(Debug, Row)]
pub struct FlightRecord {
    /// Tail number of the plane; missing for some cancelled flights.
    tailnum: Option<String>,
    /// Two-letter code of the airline.
    carrier: String,
    /// Number of the flight.
    flight: i64,
    /// Airport of departure.
    origin: String,
    /// Airport of destination.
    dest: String,
    /// The full hour in which it was scheduled to depart, UTC.
    time_hour: Timestamp,
    /// Minutes past that hour.
    minute: i64,
    /// Departure delay, minutes; missing for cancelled flights.
    dep_delay: Option<i64>,
    /// Local time of arrival as hhmm, at the destination; missing for cancelled
    /// flights.
    arr_time: Option<i64>,
    /// Arrival delay, minutes; missing for cancelled and diverted flights.
    arr_delay: Option<i64>,
    /// Time in the air, minutes.
    air_time: Option<i64>,
}

/// The last completed flight of a plane.
#[derive(Debug, Row)]
pub struct FlightOutcome {
    /// Tail number of the plane.
    tailnum: String,
    /// Time of arrival.
    arrived_at: Timestamp,
    /// Time of leaving the gate.
    departed_at: Timestamp,
    /// Two-letter code of the airline.
    carrier: String,
    /// Number of the flight.
    flight: i64,
    /// Airport of departure.
    origin: String,
    /// Airport of destination.
    dest: String,
    /// Departure delay, minutes.
    dep_delay_minutes: i64,
    /// Arrival delay, minutes; missing for diverted flights.
    arr_delay_minutes: Option<i64>,
    /// Delay made up on the way, minutes; missing for diverted flights.
    recovered_minutes: Option<i64>,
    /// Time in the air, minutes.
    air_time_minutes: Option<i64>,
}

/// Offsets of the airports' wall clocks, by code.
pub type Zones = HashMap<String, Zone>;

/// Reads the asset `zones`.
pub fn load_zones(init: &Init) -> Result<Zones, String> {
    local_time::read_zones(init.text_asset("zones")?)
}

/// The outcome of a flight, at its actual arrival. Cancelled flights have none.
#[wafer::function(init = load_zones)]
pub fn flight_outcome(
    flight: FlightRecord,
    zones: &Zones,
) -> Result<Option<FlightOutcome>, String> {
    let (Some(tailnum), Some(dep_delay), Some(arr_time)) =
        (flight.tailnum, flight.dep_delay, flight.arr_time)
    else {
        return Ok(None);
    };
    let zone = zones
        .get(&flight.dest)
        .ok_or_else(|| format!("destination `{}` is not in the asset `zones`", flight.dest))?;
    let departed_at = flight
        .time_hour
        .plus_micros((flight.minute + dep_delay) * 60_000_000);
    let arrived_at = zone
        .first_after(departed_at, arr_time)
        .map_err(|message| format!("arr_time {message}"))?;
    Ok(Some(FlightOutcome {
        tailnum,
        arrived_at,
        departed_at,
        carrier: flight.carrier,
        flight: flight.flight,
        origin: flight.origin,
        dest: flight.dest,
        dep_delay_minutes: dep_delay,
        arr_delay_minutes: flight.arr_delay,
        recovered_minutes: flight.arr_delay.map(|arr_delay| dep_delay - arr_delay),
        air_time_minutes: flight.air_time,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let csv =
            "faa,utc_offset_minutes,observes_dst\nIAH,-360,true\nJFK,-300,true\nSJU,-240,false\n";
        load_zones(&Init::new().with_asset("zones", csv)).unwrap()
    }

    fn flight(
        time_hour: &str,
        minute: i64,
        dep_delay: i64,
        dest: &str,
        arr_time: i64,
    ) -> FlightRecord {
        let hours: i64 = time_hour[11..13].parse().unwrap();
        let date = |r: std::ops::Range<usize>| time_hour[r].parse::<i64>().unwrap();
        let day = wafer::Date::from_ymd(date(0..4) as i32, date(5..7) as u32, date(8..10) as u32)
            .unwrap();
        FlightRecord {
            tailnum: Some("N14228".into()),
            carrier: "UA".into(),
            flight: 1545,
            origin: "EWR".into(),
            dest: dest.into(),
            time_hour: Timestamp::from_seconds((i64::from(day.as_days()) * 24 + hours) * 3_600),
            minute,
            dep_delay: Some(dep_delay),
            arr_time: Some(arr_time),
            arr_delay: Some(11),
            air_time: Some(227),
        }
    }

    fn arrived(flight: FlightRecord) -> String {
        let outcome = flight_outcome(flight, &zones()).unwrap().unwrap();
        outcome.arrived_at.to_string()[..16].to_owned()
    }

    #[test]
    fn arrival_times_become_instants() {
        // UA 1545 of 1 January left the gate at 5:17 in New York and arrived at 8:30 in Houston.
        assert_eq!(
            arrived(flight("2013-01-01T10", 15, 2, "IAH", 830)),
            "2013-01-01T14:30"
        );
        // Across midnight.
        assert_eq!(
            arrived(flight("2013-01-02T04", 59, 3, "SJU", 442)),
            "2013-01-02T08:42"
        );
        // 2400 is midnight at the end of the day.
        assert_eq!(
            arrived(flight("2013-06-01T23", 0, 0, "IAH", 2400)),
            "2013-06-02T05:00"
        );
        // Across the beginning and the end of daylight saving time.
        assert_eq!(
            arrived(flight("2013-03-10T04", 0, 0, "IAH", 305)),
            "2013-03-10T08:05"
        );
        assert_eq!(
            arrived(flight("2013-11-03T05", 40, 0, "JFK", 130)),
            "2013-11-03T06:30"
        );
    }

    #[test]
    fn cancelled_flights_have_no_outcome() {
        let cancelled = FlightRecord {
            arr_time: None,
            ..flight("2013-01-01T10", 15, 2, "IAH", 0)
        };
        assert!(flight_outcome(cancelled, &zones()).unwrap().is_none());
        let unknown = FlightRecord {
            tailnum: None,
            ..flight("2013-01-01T10", 15, 2, "IAH", 830)
        };
        assert!(flight_outcome(unknown, &zones()).unwrap().is_none());
    }

    #[test]
    fn invalid_flights_are_errors() {
        let message = |f| flight_outcome(f, &zones()).err().unwrap();
        assert!(message(flight("2013-01-01T10", 15, 2, "XXX", 830)).contains("`XXX`"));
        assert!(message(flight("2013-01-01T10", 15, 2, "IAH", 2561)).contains("2561"));
        assert!(message(flight("2013-01-01T10", 15, 2, "IAH", -5)).contains("-5"));
    }

    #[test]
    fn invalid_zones_are_errors_that_name_the_line() {
        let load = |csv: &str| load_zones(&Init::new().with_asset("zones", csv)).unwrap_err();
        assert!(load("faa,m,d\nJFK,-300,yes\n").contains("line 2: `JFK,-300,yes`"));
        assert!(load("faa,m,d\nJFK,-300,true\nIAH\n").contains("line 3"));
        assert!(load_zones(&Init::new()).unwrap_err().contains("`zones`"));
    }
}
