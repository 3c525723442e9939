//! Splits: how the rows of a training set are divided into parts.

use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;
use wafer_store::Result;

/// What decides which part a row belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Chance: each row by itself.
    Row,
    /// Time: the first part has the earliest rows.
    Time,
    /// Chance, by the value of a column: rows with the same value are in the same part.
    Column(String),
    /// Time: each part except the last ends at one of these times, where the next part begins.
    Ends(Vec<Timestamp>),
}

impl SplitBy {
    /// Parses `row`, `time`, or the name of a column.
    pub fn parse(text: &str) -> Self {
        match text {
            "row" => Self::Row,
            "time" => Self::Time,
            column => Self::Column(column.to_owned()),
        }
    }
}

/// A division of rows into parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The names of the parts and their fractions, which add up to one. The fractions are zero
    /// when parts end at times.
    pub parts: Vec<(String, f64)>,
    /// What decides which part a row belongs to.
    pub by: SplitBy,
    /// The seed of the random assignment.
    pub seed: u64,
    /// Whether 0.0 and −0.0 of the column are one value, as they are everywhere else. They are not
    /// in splits of earlier versions, which have to be made again as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_one_zero: bool,
}

impl Split {
    /// Parses a text such as `train=0.8,test=0.2`, or `train<2013-09-01T00:00:00Z,test`; for the
    /// latter, `by` is ignored.
    ///
    /// # Errors
    /// Returns a message for the user when the text is not a split.
    pub fn parse(text: &str, by: SplitBy, seed: u64) -> Result<Self, String> {
        if text.contains('<') {
            return Self::parse_ends(text, seed);
        }
        let wrong = || format!("`{text}` is not a split; write such as train=0.8,test=0.2");
        let part = |part: &str| -> Result<(String, f64), String> {
            let (name, fraction) = part.split_once('=').ok_or_else(wrong)?;
            let fraction: f64 = fraction.trim().parse().map_err(|_| wrong())?;
            if name.trim().is_empty() || !(0.0..=1.0).contains(&fraction) {
                return Err(wrong());
            }
            Ok((name.trim().to_owned(), fraction))
        };
        let parts: Vec<(String, f64)> = text.split(',').map(part).collect::<Result<_, _>>()?;
        check_names(text, &parts)?;
        let sum: f64 = parts.iter().map(|(_, fraction)| fraction).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return Err(format!(
                "the fractions of `{text}` add up to {sum}, not to 1"
            ));
        }
        Ok(Self {
            parts,
            by,
            seed,
            has_one_zero: true,
        })
    }

    fn parse_ends(text: &str, seed: u64) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is not a split: {why}; write such as train<2013-09-01T00:00:00Z,test")
        };
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (last, others) = parts.split_last().expect("a text has parts");
        if last.is_empty() || last.contains(['<', '=']) {
            return Err(wrong("the last part has a name and no end"));
        }
        let (mut names, mut ends) = (Vec::new(), Vec::new());
        for part in others {
            let (name, end) = part
                .split_once('<')
                .ok_or_else(|| wrong("a part has no end"))?;
            let end =
                Timestamp::parse_argument(end.trim()).map_err(|error| wrong(&error.to_string()))?;
            if name.trim().is_empty() || ends.last().is_some_and(|before| *before >= end) {
                return Err(wrong("each part has a name, and ends after the one before"));
            }
            names.push((name.trim().to_owned(), 0.0));
            ends.push(end);
        }
        names.push(((*last).to_owned(), 0.0));
        check_names(text, &names)?;
        Ok(Self {
            parts: names,
            by: SplitBy::Ends(ends),
            seed,
            has_one_zero: true,
        })
    }

    /// Returns the name of the part that a point between 0 and 1 falls into.
    pub fn part(&self, point: f64) -> &str {
        let mut end = 0.0;
        for (name, fraction) in &self.parts {
            end += fraction;
            if point < end {
                return name;
            }
        }
        &self.parts.last().expect("a split has parts").0
    }
}

/// Checks that no two parts have one name.
fn check_names(text: &str, parts: &[(String, f64)]) -> Result<(), String> {
    for (index, (name, _)) in parts.iter().enumerate() {
        if parts[..index].iter().any(|(other, _)| other == name) {
            return Err(format!(
                "`{text}` is not a split: two parts are named `{name}`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_parsed_and_checked() {
        let split = Split::parse("train=0.8, test=0.2", SplitBy::Row, 7).unwrap();
        assert_eq!(
            split.parts,
            [("train".to_owned(), 0.8), ("test".to_owned(), 0.2)]
        );
        assert_eq!(
            [0.0, 0.79, 0.8, 0.999].map(|point| split.part(point)),
            ["train", "train", "test", "test"]
        );
        for (text, wanted) in [
            ("train", "is not a split"),
            ("train=x", "is not a split"),
            ("train=1.5,test=-0.5", "is not a split"),
            ("train=0.8,test=0.1", "add up to 0.9"),
            (
                "train=0.5,test=0.3,train=0.2",
                "two parts are named `train`",
            ),
            (
                "train<2013-09-01T00:00:00Z,train",
                "two parts are named `train`",
            ),
            (
                "train<2013-09-01T00:00:00Z",
                "the last part has a name and no end",
            ),
            ("train<soon,test", "write such as train<2013"),
            ("<2013-09-01T00:00:00Z,test", "each part has a name"),
            (
                "a<2013-09-01T00:00:00Z,b<2013-08-01T00:00:00Z,test",
                "ends after the one before",
            ),
            ("train,a<2013-09-01T00:00:00Z,test", "a part has no end"),
        ] {
            let message = Split::parse(text, SplitBy::Row, 0).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
    #[test]
    fn parts_can_end_at_times() {
        let text = "train<2013-09-01T00:00:00Z, validation<2013-10-01T00:00:00Z, test";
        let split = Split::parse(text, SplitBy::Row, 0).unwrap();
        let names: Vec<_> = split.parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["train", "validation", "test"]);
        let SplitBy::Ends(ends) = split.by else {
            panic!("{:?}", split.by)
        };
        let texts: Vec<_> = ends.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2013-09-01T00:00:00Z", "2013-10-01T00:00:00Z"]);
    }
}
