//! `[server]`: the limits of the project's server, and the names by which it may be asked.

use serde::Deserialize;
use wafer_core::Duration;

use crate::error::BrokenRule;
use crate::values::{duration, size};

/// The longest time that a setting may have.
const LONGEST: Duration = Duration::from_days(1);
/// The shortest time that a client may be given for its part of a request.
const SHORTEST: Duration = Duration::from_secs(1);
/// The least memory that requests need.
const LEAST_MEMORY: u64 = 16 << 20;
/// The least disk that a request for a training set needs.
const LEAST_DISK: u64 = 1 << 20;

/// The limits of the project's server, and the names by which it may be asked. What is not set has
/// the default of the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The host names by which the server may be asked, beside `localhost` and IP addresses.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The number of open connections.
    pub connections: Option<u32>,
    /// The number of requests that are worked on at the same time.
    pub requests: Option<u32>,
    /// The longest time that a request waits until it is worked on.
    #[serde(default, deserialize_with = "duration")]
    pub queue_timeout: Option<Duration>,
    /// The time within which the headers of a request must have come in.
    #[serde(default, deserialize_with = "duration")]
    pub header_timeout: Option<Duration>,
    /// The time within which a body must have come in.
    #[serde(default, deserialize_with = "duration")]
    pub body_timeout: Option<Duration>,
    /// The time within which a client must have read an answer.
    #[serde(default, deserialize_with = "duration")]
    pub write_timeout: Option<Duration>,
    /// The time that a server which is stopped may take to end.
    #[serde(default, deserialize_with = "duration")]
    pub drain_timeout: Option<Duration>,
    /// The memory in bytes that all requests together may take.
    #[serde(default, deserialize_with = "size")]
    pub memory: Option<u64>,
    /// The disk in bytes that all requests together may take: for training sets, and for copies of
    /// remote files to look at.
    #[serde(default, deserialize_with = "size")]
    pub disk: Option<u64>,
    /// The disk in bytes that one request for a training set may take.
    #[serde(default, deserialize_with = "size")]
    pub disk_per_set: Option<u64>,
}

/// Checks the settings of a server.
///
/// # Errors
/// Returns the key that is wrong, below `server`.
pub(crate) fn check_server(server: &ServerConfig) -> Result<(), BrokenRule> {
    if let Some(host) = server.hosts.iter().find(|host| !is_host(host)) {
        let message =
            format!("`{host}` is not a host name; write it without scheme, port and path");
        return Err(BrokenRule::new("hosts", message));
    }
    for (key, count) in [
        ("connections", server.connections),
        ("requests", server.requests),
    ] {
        if count == Some(0) {
            return Err(BrokenRule::new(
                key,
                "is 0: the server would answer nothing",
            ));
        }
    }
    for (key, time, shortest) in [
        ("queue_timeout", server.queue_timeout, Duration::ZERO),
        ("header_timeout", server.header_timeout, SHORTEST),
        ("body_timeout", server.body_timeout, SHORTEST),
        ("write_timeout", server.write_timeout, SHORTEST),
        ("drain_timeout", server.drain_timeout, Duration::ZERO),
    ] {
        if time.is_some_and(|time| time < shortest || time > LONGEST) {
            let message = format!("is not between {shortest} and {LONGEST}");
            return Err(BrokenRule::new(key, message));
        }
    }
    for (key, disk) in [("disk", server.disk), ("disk_per_set", server.disk_per_set)] {
        if disk.is_some_and(|disk| disk < LEAST_DISK) {
            return Err(BrokenRule::new(key, "is less than 1 MiB"));
        }
    }
    match server.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        true => Err(BrokenRule::new("memory", "is less than 16 MiB")),
        false => Ok(()),
    }
}

/// Returns whether a text can be the name of a host.
fn is_host(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_key() {
        for (toml, wanted) in [
            ("", None),
            ("hosts = [\"features.example.com\", \"wafer\"]", None),
            ("hosts = [\"http://wafer\"]", Some("hosts")),
            ("hosts = [\"wafer:8080\"]", Some("hosts")),
            ("hosts = [\"\"]", Some("hosts")),
            ("connections = 1\nrequests = 1", None),
            ("connections = 0", Some("connections")),
            ("requests = 0", Some("requests")),
            ("queue_timeout = \"0s\"\ndrain_timeout = \"0s\"", None),
            ("header_timeout = \"1s\"\nbody_timeout = \"1d\"", None),
            ("header_timeout = \"999ms\"", Some("header_timeout")),
            ("body_timeout = \"0s\"", Some("body_timeout")),
            ("write_timeout = \"25h\"", Some("write_timeout")),
            ("drain_timeout = \"2d\"", Some("drain_timeout")),
            ("memory = \"16 MiB\"", None),
            ("memory = \"15 MiB\"", Some("memory")),
            ("disk = \"1 MiB\"\ndisk_per_set = \"1 MiB\"", None),
            ("disk = \"1023 KiB\"", Some("disk")),
            ("disk_per_set = \"1023 KiB\"", Some("disk_per_set")),
        ] {
            let server: ServerConfig = toml::from_str(toml).unwrap();
            let found = check_server(&server).err().map(|rule| rule.key);
            assert_eq!(found.as_deref(), wanted, "{toml}");
        }
    }
}
