//! Time windows of aggregates, and the tiles that windows share.
//!
//! A window of width W at time q covers events with `floor_hop(q - W) < event <= q`: its head is
//! exact, its tail is aligned to a hop. A tile covers `(end - hop, end]`, so that an event belongs
//! to the tile that ends at `ceil_hop(event)`, and a window is made of whole tiles. Hops are
//! counted from the Unix epoch.

use serde::{Deserialize, Serialize};

use crate::{Duration, Timestamp};

const FIVE_MINUTES: Duration = Duration::from_mins(5);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_days(1);

/// How far back an aggregate looks, and to what its start is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    /// The width, or `None` for everything up to now.
    pub width: Option<Duration>,
    /// The step to which the tail is aligned, or `None` if it is exact.
    pub hop: Option<Duration>,
}

/// The error for text that is not a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The text is neither a duration nor `lifetime`.
    #[error("`{0}` is not a window; write a duration such as 30m, 24h or 7d, or lifetime")]
    Text(String),
    /// The width is not a multiple of the hop, so that the tail cannot be aligned.
    #[error(
        "a window of {width} is not a multiple of its hop of {hop}; use {below} or {above}, or set `exact = true`"
    )]
    Hop {
        /// Width of the window.
        width: String,
        /// The hop to which its tail would be aligned.
        hop: String,
        /// The next narrower width that can be aligned.
        below: String,
        /// The next wider width that can be aligned.
        above: String,
    },
}

impl Window {
    /// The window that covers everything up to now.
    pub const LIFETIME: Self = Self {
        width: None,
        hop: None,
    };

    /// Parses a window with an exact tail: a duration, or `lifetime`.
    ///
    /// # Errors
    /// Returns [`WindowError`] when the text is not a window.
    pub fn exact(text: &str) -> Result<Self, WindowError> {
        let width = parse_width(text)?;
        Ok(Self { width, hop: None })
    }

    /// Parses a window with an aligned tail: a duration, or `lifetime`. The tail is aligned to 5
    /// minutes, from 12 hours on to the hour, and from 12 days on to the day (UTC); that of a
    /// window shorter than an hour is exact.
    ///
    /// # Errors
    /// Returns [`WindowError`] when the text is not a window, or its tail cannot be aligned.
    pub fn aligned(text: &str) -> Result<Self, WindowError> {
        let Some(width) = parse_width(text)? else {
            return Ok(Self::LIFETIME);
        };
        let hop = match width {
            w if w >= DAY.times(12) => Some(DAY),
            w if w >= HOUR.times(12) => Some(HOUR),
            w if w >= HOUR => Some(FIVE_MINUTES),
            _ => None,
        };
        if let Some(hop) = hop
            && width.as_micros() % hop.as_micros() != 0
        {
            let hops = width.as_micros() / hop.as_micros();
            return Err(WindowError::Hop {
                width: text.to_owned(),
                hop: hop.to_string(),
                below: hop.times(hops).to_string(),
                above: hop.times(hops + 1).to_string(),
            });
        }
        Ok(Self {
            width: Some(width),
            hop,
        })
    }

    /// The last time before the window at `now`: the window covers events that are later.
    pub fn start(self, now: Timestamp) -> Timestamp {
        let Some(width) = self.width else {
            return Timestamp::MIN;
        };
        let start = now.minus(width);
        match self.hop {
            None => start,
            Some(hop) => Timestamp::from_micros(
                (start.as_micros().div_euclid(hop.as_micros()))
                    .checked_mul(hop.as_micros())
                    .unwrap_or(i64::MIN),
            ),
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.width {
            None => f.write_str("lifetime"),
            Some(width) => write!(f, "{width}"),
        }
    }
}

/// The end of the tile that an event belongs to: the first multiple of `hop` since the epoch that
/// is not before the event.
pub fn tile_end(event: Timestamp, hop: Duration) -> Timestamp {
    let rest = (-event.as_micros()).rem_euclid(hop.as_micros());
    event.plus(Duration::from_micros(rest))
}

/// Parses the width of a window; `None` is a lifetime.
fn parse_width(text: &str) -> Result<Option<Duration>, WindowError> {
    if text == "lifetime" {
        return Ok(None);
    }
    let width = text.parse::<Duration>().ok();
    let width = width.filter(|width| *width > Duration::ZERO);
    let width = width.ok_or_else(|| WindowError::Text(text.to_owned()))?;
    Ok(Some(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_argument(text).unwrap()
    }

    #[test]
    fn window_hops_follow_from_widths() {
        for (text, exact, hop) in [
            ("30d", false, Some(DAY)),
            ("12d", false, Some(DAY)),
            ("7d", false, Some(HOUR)),
            ("12h", false, Some(HOUR)),
            ("1h", false, Some(FIVE_MINUTES)),
            ("59m", false, None),
            ("7d", true, None),
            ("90s", false, None),
        ] {
            let window = match exact {
                true => Window::exact(text),
                false => Window::aligned(text),
            };
            let window = window.unwrap();
            assert_eq!(window.hop, hop, "{text}");
            assert_eq!(window.to_string().parse::<String>().unwrap(), text);
        }
        for window in [Window::aligned("lifetime"), Window::exact("lifetime")] {
            assert_eq!(window, Ok(Window::LIFETIME));
        }
    }

    #[test]
    fn invalid_windows_are_rejected() {
        let message = |text| Window::aligned(text).unwrap_err().to_string();
        assert_eq!(
            message("36h30m"),
            "a window of 36h30m is not a multiple of its hop of 1h; use 36h or 37h, or set `exact = true`"
        );
        assert!(message("12d1h").contains("use 12d or 13d"));
        assert!(message("61m").contains("use 1h or 65m"));
        assert!(Window::exact("36h30m").is_ok());
        for text in ["", "0s", "week", "7"] {
            assert!(message(text).contains("is not a window"), "{text}");
            assert!(Window::exact(text).is_err(), "{text}");
        }
    }

    #[test]
    fn window_tails_are_aligned_and_heads_exact() {
        let day = Window::aligned("1d").unwrap();
        for (now, start) in [
            ("2013-01-02T10:00:00Z", "2013-01-01T10:00:00Z"),
            ("2013-01-02T10:59:59.999999Z", "2013-01-01T10:00:00Z"),
            ("2013-01-02T11:00:00Z", "2013-01-01T11:00:00Z"),
            ("1970-01-01T00:30:00Z", "1969-12-31T00:00:00Z"),
        ] {
            assert_eq!(day.start(at(now)), at(start), "{now}");
        }
        let exact = Window::exact("1d").unwrap();
        assert_eq!(
            exact.start(at("2013-01-02T10:59:59Z")),
            at("2013-01-01T10:59:59Z")
        );
        assert_eq!(Window::LIFETIME.start(at("2013-01-02")), Timestamp::MIN);
        assert_eq!(day.start(Timestamp::MIN), Timestamp::MIN);
    }

    #[test]
    fn tiles_include_their_end_and_not_their_start() {
        for (event, end) in [
            ("2013-01-01T10:00:00Z", "2013-01-01T10:00:00Z"),
            ("2013-01-01T10:00:00.000001Z", "2013-01-01T11:00:00Z"),
            ("2013-01-01T11:00:00Z", "2013-01-01T11:00:00Z"),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(tile_end(at(event), HOUR), at(end), "{event}");
        }
    }
}
