//! Routing: the releases of an endpoint, their weights, and the choice of a release for a row.
//!
//! A row falls to a release by a hash: of the value of the routing key or, without a key, of the
//! request. The hash becomes a point, and the weights divide the range of points among the
//! releases. So the same value goes to the same release, and rows move only as far as weights
//! change.

use std::collections::BTreeSet;
use std::hash::Hasher as _;

use arrow_array::ArrayRef;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use wafer_core::{Duration, encode_row};
use wafer_store::Result;

/// The sum of all weights: 100 %, in hundredths of a percent.
pub const WHOLE: u32 = 10_000;

/// [`Routing::log_within`] of an endpoint that was not told otherwise.
pub const LOG_WITHIN: Duration = Duration::from_secs(60);

/// The longest [`Routing::log_within`].
const MOST_LOG_WITHIN: Duration = Duration::from_hours(1);

/// The routing of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Releases and their weights in hundredths of a percent. The weights add up to [`WHOLE`].
    pub routes: Vec<(String, u32)>,
    /// Shadow releases. They are asked as well, and their answers are only logged.
    pub shadow: Vec<String>,
    /// Name of the request field by which rows are routed. The same value goes to the same release
    /// as long as the weights stay. `None` means that each request is routed as a whole, by
    /// chance.
    pub key: Option<String>,
    /// The share of rows that is logged, in hundredths of a percent.
    pub log: u32,
    /// How long rows to log may wait in the memory of a process, so that many are written at once,
    /// where each write is charged for (stores on AWS). If the process is killed, the rows of this
    /// time are lost at most. Where writes cost nothing, rows are written at once.
    #[serde(default = "log_within")]
    pub log_within: Duration,
}

/// Returns the value of endpoints that were set before there was this field.
fn log_within() -> Duration {
    LOG_WITHIN
}

impl Routing {
    /// Parses routes such as `r1=90` and `r2=10`, with weights in percent. The only route may be
    /// written without a weight. Rows to log wait for [`LOG_WITHIN`].
    ///
    /// # Errors
    /// Returns a message when a weight is missing or is not a percentage, the weights do not add
    /// up to 100, a release is named twice, or there are shadows but nothing is logged.
    pub fn parse(
        routes: &[String],
        shadow: Vec<String>,
        key: Option<String>,
        log: u32,
    ) -> Result<Self, String> {
        let route = |text: &String| match text.split_once('=') {
            None if routes.len() == 1 => Ok((text.clone(), WHOLE)),
            None => Err(format!("`{text}` has no weight; write {text}=50")),
            Some((release, percent)) => Ok((release.to_owned(), parse_percent(percent)?)),
        };
        let routing = Self {
            routes: routes.iter().map(route).collect::<Result<_, _>>()?,
            shadow,
            key,
            log,
            log_within: LOG_WITHIN,
        };
        let sum: u64 = routing
            .routes
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        if sum != u64::from(WHOLE) {
            let percent = sum as f64 / 100.0;
            return Err(format!("the weights add up to {percent}, not to 100"));
        }
        let mut seen = BTreeSet::new();
        for release in routing.releases() {
            if !seen.insert(release) {
                return Err(format!("release `{release}` is there twice"));
            }
        }
        if log == 0 && !routing.shadow.is_empty() {
            return Err(
                "shadows are asked for what is logged, and nothing is; say how much with --log"
                    .to_owned(),
            );
        }
        Ok(routing)
    }

    /// Returns the names of all releases, shadows last.
    pub fn releases(&self) -> impl Iterator<Item = &String> {
        self.routes
            .iter()
            .map(|(release, _)| release)
            .chain(&self.shadow)
    }

    /// Returns the release at a point from 0, included, to [`WHOLE`], excluded.
    pub(crate) fn release_at(&self, point: u32) -> &str {
        let mut end = 0;
        for (release, weight) in &self.routes {
            end += weight;
            if point < end {
                return release;
            }
        }
        // The weights add up to `WHOLE`, so every point is found above.
        self.routes.last().map_or("", |(release, _)| release)
    }
}

/// Parses a percentage such as `12.5`. Returns it in hundredths of a percent.
///
/// # Errors
/// Returns a message when the text is not a number from 0 to 100 with at most two decimals.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || {
        format!(
            "`{text}` is not a percentage; write a number from 0 to 100, with at most two decimals"
        )
    };
    let hundredths = text.parse::<f64>().map_err(|_| wrong())? * 100.0;
    let rounded = hundredths.round();
    if !(0.0..=f64::from(WHOLE)).contains(&rounded) || (hundredths - rounded).abs() > 1e-6 {
        return Err(wrong());
    }
    Ok(rounded as u32)
}

/// Parses how long rows to log may wait, such as `60s`.
///
/// # Errors
/// Returns a message when the text is not a duration, or is longer than an hour.
pub fn parse_log_within(text: &str) -> Result<Duration, String> {
    let within = text.parse::<Duration>().map_err(|e| e.to_string())?;
    match within <= MOST_LOG_WITHIN {
        true => Ok(within),
        false => Err(format!("`{text}` is more than {MOST_LOG_WITHIN}")),
    }
}

/// Hashes a value to a point from 0, included, to [`WHOLE`], excluded.
///
/// `purpose` and `endpoint` are part of the hash, so that, for example, the rows that are logged
/// are chosen independently of the release that answers them. The point of a value is the same on
/// all machines and in all versions of Wafer.
pub(crate) fn point(purpose: &str, endpoint: &str, value: &[u8]) -> u32 {
    let mut hasher = XxHash64::with_seed(0);
    for part in [purpose.as_bytes(), endpoint.as_bytes(), value] {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    (hasher.finish() % u64::from(WHOLE)) as u32
}

/// Encodes the values of a row. Only equal values have the same encoding.
pub(crate) fn encoded_row(columns: &[ArrayRef], row: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(columns, row, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(routes: &[&str], shadow: &[&str]) -> Result<Routing, String> {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Routing::parse(&owned(routes), owned(shadow), None, WHOLE)
    }

    #[test]
    fn routing_parse_accepts_routes_and_refuses_wrong_weights_and_duplicates() {
        assert_eq!(
            parse(&["r1"], &[]).unwrap().routes,
            [("r1".to_owned(), WHOLE)]
        );
        let routing = parse(&["r1=66.67", "r2=33.33"], &["r3"]).unwrap();
        assert_eq!(
            routing.routes,
            [("r1".to_owned(), 6_667), ("r2".to_owned(), 3_333)]
        );
        for (routes, shadow, wanted) in [
            (&["r1=90"][..], &[][..], "add up to 90, not to 100"),
            (&["r1=90", "r2=20"], &[], "add up to 110"),
            (&["r1", "r2=20"], &[], "`r1` has no weight"),
            (&["r1=x"], &[], "`x` is not a percentage"),
            (&["r1=33.333", "r2=66.667"], &[], "at most two decimals"),
            (&["r1=-10", "r2=110"], &[], "`-10` is not a percentage"),
            (&["r1=50", "r1=50"], &[], "`r1` is there twice"),
            (&["r1"], &["r1"], "`r1` is there twice"),
        ] {
            let message = parse(routes, shadow).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn log_within_is_a_duration_of_an_hour_at_most() {
        for (text, wanted) in [
            ("0s", Ok(0)),
            ("1m30s", Ok(90)),
            ("1h", Ok(3_600)),
            ("61m", Err("`61m` is more than 1h")),
            ("soon", Err("`soon` is not a duration")),
        ] {
            let parsed = parse_log_within(text);
            match wanted {
                Ok(seconds) => assert_eq!(parsed, Ok(Duration::from_secs(seconds))),
                Err(wanted) => assert!(parsed.unwrap_err().contains(wanted), "{text}"),
            }
        }
    }

    #[test]
    fn routing_of_earlier_versions_has_the_usual_log_within() {
        let stored = r#"{"routes": [["r1", 10000]], "shadow": [], "key": null, "log": 1000}"#;
        let routing: Routing = serde_json::from_str(stored).unwrap();
        assert_eq!(routing.log_within, LOG_WITHIN);
        let same = serde_json::to_string(&routing).unwrap();
        assert_eq!(serde_json::from_str::<Routing>(&same).unwrap(), routing);
    }

    #[test]
    fn routing_divides_keys_by_weight_and_moves_few_when_weights_change() {
        let routing = parse(&["r0=0", "r1=90", "r2=10"], &[]).unwrap();
        let release = |key: u32| routing.release_at(point("route", "late", &key.to_le_bytes()));
        let of_r2 = (0..20_000).filter(|key| release(*key) == "r2").count();
        assert!((1_800..2_200).contains(&of_r2), "{of_r2}");
        assert!((0..20_000).all(|key| release(key) != "r0"));
        // Keys of r2 stay there when r2 gets a larger weight.
        let more = parse(&["r0=0", "r1=50", "r2=50"], &[]).unwrap();
        let stays = |key: u32| more.release_at(point("route", "late", &key.to_le_bytes())) == "r2";
        assert!((0..20_000).filter(|key| release(*key) == "r2").all(stays));
        // The expected points are constants, because a new version of Wafer must not move a key.
        let points = ["route", "log"].map(|purpose| point(purpose, "late", b"a"));
        assert_eq!(points, [649, 5_052]);
    }
}
