//! Flights as they were scheduled, with their later arrival delay, which is the label.

use local_time::Zone;
use wafer::{Init, Row, Timestamp};

/// A flight as the airport's records list it.
#[derive(Debug, Row)]
pub struct FlightRecord {
    /// Two-letter code of the airline.
    carrier: String,
    /// Number of the flight.
    flight: i64,
    /// Tail number of the plane; missing for some cancelled flights.
    tailnum: Option<String>,
    /// Airport of departure.
    origin: String,
    /// Airport of destination.
    dest: String,
    /// The full hour in which it was scheduled to depart, UTC.
    time_hour: Timestamp,
    /// Minutes past that hour.
    minute: i64,
    /// Local time of scheduled arrival as hhmm, at the destination.
    sched_arr_time: i64,
    /// Arrival delay, minutes; missing for cancelled and diverted flights.
    arr_delay: Option<i64>,
}

/// A flight at its scheduled departure, and its outcome.
#[derive(Debug, Row)]
pub struct ScheduledFlight {
    /// Two-letter code of the airline.
    carrier: String,
    /// Number of the flight.
    flight: i64,
    /// Airport of departure.
    origin: String,
    /// Airport of destination.
    dest: String,
    /// Scheduled departure, as the time of the row.
    departs_at: Timestamp,
    /// Tail number of the plane; missing for some cancelled flights.
    tailnum: Option<String>,
    /// Scheduled departure.
    scheduled_departure: Timestamp,
    /// Scheduled arrival.
    scheduled_arrival: Timestamp,
    /// The label: arrival delay, minutes; missing for cancelled and diverted flights.
    arrival_delay: Option<i64>,
    /// The label: whether it arrived more than 15 minutes late.
    arrived_late: Option<bool>,
}

/// A flight that arrives more than this many minutes late counts as late, as for the US Department
/// of Transportation.
const LATE_MINUTES: i64 = 15;

/// The schedule and the arrival delay of every flight, including cancelled ones.
#[wafer::function(init = load_zones)]
pub fn scheduled_flight(flight: FlightRecord, zones: &Zones) -> Result<ScheduledFlight, String> {
    let zone = zones
        .get(&flight.dest)
        .ok_or_else(|| format!("destination `{}` is not in the asset `zones`", flight.dest))?;
    let departs_at = flight.time_hour.plus_micros(flight.minute * 60_000_000);
    let scheduled_arrival = zone
        .first_after(departs_at, flight.sched_arr_time)
        .map_err(|message| format!("sched_arr_time {message}"))?;
    Ok(ScheduledFlight {
        carrier: flight.carrier,
        flight: flight.flight,
        origin: flight.origin,
        dest: flight.dest,
        departs_at,
        tailnum: flight.tailnum,
        scheduled_departure: departs_at,
        scheduled_arrival,
        arrival_delay: flight.arr_delay,
        arrived_late: flight.arr_delay.map(|minutes| minutes > LATE_MINUTES),
    })
}

/// Offsets of the airports' wall clocks, by code.
pub type Zones = std::collections::HashMap<String, Zone>;

/// Reads the asset `zones`.
pub fn load_zones(init: &Init) -> Result<Zones, String> {
    local_time::read_zones(init.text_asset("zones")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let csv = "faa,utc_offset_minutes,observes_dst\nIAH,-360,true\n";
        load_zones(&Init::new().with_asset("zones", csv)).unwrap()
    }

    fn flight(dest: &str, sched_arr_time: i64) -> FlightRecord {
        FlightRecord {
            carrier: "UA".into(),
            flight: 1545,
            tailnum: None,
            origin: "EWR".into(),
            dest: dest.into(),
            // 2013-01-01T10:00:00Z
            time_hour: Timestamp::from_seconds(1_357_034_400),
            minute: 15,
            sched_arr_time,
            arr_delay: None,
        }
    }

    #[test]
    fn scheduled_times_become_instants() {
        let scheduled = scheduled_flight(flight("IAH", 819), &zones()).unwrap();
        assert_eq!(&scheduled.departs_at.to_string()[..16], "2013-01-01T10:15");
        assert_eq!(
            &scheduled.scheduled_arrival.to_string()[..16],
            "2013-01-01T14:19"
        );
    }

    #[test]
    fn invalid_scheduled_flights_are_errors() {
        let message = |f| scheduled_flight(f, &zones()).err().unwrap();
        assert!(message(flight("XXX", 819)).contains("`XXX`"));
        assert!(message(flight("IAH", 2561)).contains("sched_arr_time 2561"));
    }
}
