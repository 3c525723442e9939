//! Routing: which release answers which request.

use std::collections::BTreeSet;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use wafer_store::Result;

/// All of the requests, in the unit of weights: hundredths of a percent.
pub const WHOLE: u32 = 10_000;

/// Where an endpoint's requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Releases and their weights, hundredths of a percent, which add up to all.
    pub routes: Vec<(String, u32)>,
    /// Releases that are asked as well, and whose answers are only logged.
    pub shadow: Vec<String>,
    /// Field of the request by which a row is routed: the same value goes to the same release
    /// as long as weights stay. Absent: each request by itself.
    pub key: Option<String>,
    /// How much is logged, hundredths of a percent.
    pub log: u32,
}

impl Routing {
    /// From texts such as `r1=90 r2=10`; a release alone gets everything.
    ///
    /// # Errors
    /// What is wrong with them.
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

    /// All releases, shadows last.
    pub fn releases(&self) -> impl Iterator<Item = &String> {
        self.routes
            .iter()
            .map(|(release, _)| release)
            .chain(&self.shadow)
    }

    /// The release of a point from 0 to [`WHOLE`].
    pub(crate) fn at(&self, point: u32) -> &str {
        let mut end = 0;
        for (release, weight) in &self.routes {
            end += weight;
            if point < end {
                return release;
            }
        }
        // Weights add up to all: the last one with any is found above.
        self.routes.last().map_or("", |(release, _)| release)
    }
}

/// Hundredths of a percent, from a text such as `12.5`.
///
/// # Errors
/// What is wrong with it.
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

/// Where something falls, from 0 to [`WHOLE`]: the same on every machine and for ever.
pub(crate) fn point(what: &str, endpoint: &str, value: &[u8]) -> u32 {
    let mut hasher = XxHash64::with_seed(0);
    for part in [what.as_bytes(), endpoint.as_bytes(), value] {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    (hasher.finish() % u64::from(WHOLE)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(routes: &[&str], shadow: &[&str]) -> Result<Routing, String> {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Routing::parse(&owned(routes), owned(shadow), None, WHOLE)
    }

    #[test]
    fn routings_are_read_and_checked() {
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
    fn points_fall_to_releases_by_weight_and_for_ever() {
        let routing = parse(&["r0=0", "r1=90", "r2=10"], &[]).unwrap();
        let release = |key: u32| routing.at(point("route", "late", &key.to_le_bytes()));
        let of_r2 = (0..20_000).filter(|key| release(*key) == "r2").count();
        assert!((1_800..2_200).contains(&of_r2), "{of_r2}");
        assert!((0..20_000).all(|key| release(key) != "r0"));
        // Whoever was at r2 stays there when it gets more.
        let more = parse(&["r0=0", "r1=50", "r2=50"], &[]).unwrap();
        let stays = |key: u32| more.at(point("route", "late", &key.to_le_bytes())) == "r2";
        assert!((0..20_000).filter(|key| release(*key) == "r2").all(stays));
        // Written down: a new version must not move anybody.
        let points = ["route", "log"].map(|what| point(what, "late", b"a"));
        assert_eq!(points, [649, 5_052]);
    }
}
