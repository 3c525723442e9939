//! Expectations: rules for the values of a column, and what happens when they are broken.

use std::collections::HashSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::DataType;
use crate::aggregate::{Cell, CellRef, Cells};
use crate::float::compare_integer;
use crate::text::shown;

/// What happens to a row, or to a run, that breaks an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The row is quarantined, with the reason.
    Reject,
    /// The row is kept, and the violation is counted.
    Warn,
    /// The run commits nothing. An event is rejected.
    Fail,
}

/// A bound of a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// A rule for the values of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Values are within these bounds, both inclusive. NaN never is. Nulls pass.
    Range {
        /// Least value, if there is one.
        min: Option<Bound>,
        /// Greatest value, if there is one.
        max: Option<Bound>,
    },
    /// Values are among these texts. Nulls pass.
    Values(Vec<String>),
    /// Texts match this regular expression as a whole. Nulls pass.
    Regex(String),
    /// No value is null.
    NotNull,
    /// At most this fraction of a run's values is null.
    NullFraction(f64),
    /// No value occurs twice in a run. Nulls pass.
    Unique,
}

/// A rule for a column, and what happens when it is broken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Name of the column.
    pub column: String,
    /// The rule.
    pub rule: Rule,
    /// What happens when the rule is broken.
    pub policy: Policy,
}

impl Rule {
    /// Whether the rule is about all values of a run together.
    pub fn is_of_run(&self) -> bool {
        matches!(self, Self::NullFraction(_) | Self::Unique)
    }

    /// Checks the rule's parameters, and that it can be applied to a column of this type.
    ///
    /// # Errors
    /// Returns a message that says what is wrong.
    pub fn check(&self, data_type: &DataType) -> Result<(), String> {
        let number = matches!(
            data_type,
            DataType::Int64 | DataType::Float64 | DataType::Float32
        );
        let single = number
            || matches!(
                data_type,
                DataType::Utf8 | DataType::Boolean | DataType::Date | DataType::Timestamp
            );
        match self {
            Self::Range {
                min: None,
                max: None,
            } => Err("a range needs `min` or `max`".to_owned()),
            Self::Range { .. } if !number => {
                Err(format!("a range is for numbers, not {data_type}"))
            }
            Self::Values(_) | Self::Regex(_) if *data_type != DataType::Utf8 => {
                Err(format!("it is for utf8, not {data_type}"))
            }
            Self::Regex(pattern) => anchored_regex(pattern).map(drop),
            Self::NullFraction(fraction) if !(0.0..=1.0).contains(fraction) => {
                Err(format!("a fraction is from 0 to 1, not {fraction}"))
            }
            Self::Unique if !single => Err(format!("it is for single values, not {data_type}")),
            _ => Ok(()),
        }
    }
}

/// Compiles a pattern that must match a text from start to end.
fn anchored_regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|e| e.to_string())
}

/// An expectation that is prepared for checking values.
#[derive(Debug)]
pub struct PreparedExpectation {
    expectation: Expectation,
    regex: Option<Regex>,
    values: HashSet<Vec<u8>>,
}

impl PreparedExpectation {
    /// Prepares an expectation whose rule has passed [`Rule::check`].
    pub fn new(expectation: &Expectation) -> Self {
        let regex = match &expectation.rule {
            Rule::Regex(pattern) => anchored_regex(pattern).ok(),
            _ => None,
        };
        let values = match &expectation.rule {
            Rule::Values(values) => values.iter().map(|v| v.clone().into_bytes()).collect(),
            _ => HashSet::new(),
        };
        Self {
            expectation: expectation.clone(),
            regex,
            values,
        }
    }

    /// The expectation that is checked.
    pub fn expectation(&self) -> &Expectation {
        &self.expectation
    }

    /// Says why a value breaks the rule, or `None` if it does not. Rules about a whole run always
    /// pass.
    pub fn broken(&self, value: Option<CellRef<'_>>) -> Option<String> {
        let column = &self.expectation.column;
        let Some(value) = value else {
            let not_null = matches!(self.expectation.rule, Rule::NotNull);
            return not_null.then(|| format!("`{column}` is null"));
        };
        match &self.expectation.rule {
            Rule::Range { min, max } => {
                let low = min.is_none_or(|min| at_least(value, min));
                let high = max.is_none_or(|max| at_most(value, max));
                (!low || !high).then(|| {
                    let end = |bound: &Option<Bound>| bound.map_or("…".to_owned(), bound_text);
                    format!(
                        "`{column}` is {}, outside of {} to {}",
                        text(value),
                        end(min),
                        end(max)
                    )
                })
            }
            Rule::Values(_) => {
                let known = matches!(value, CellRef::Bytes(bytes) if self.values.contains(bytes));
                (!known).then(|| format!("`{column}` is {}, not an allowed value", text(value)))
            }
            Rule::Regex(pattern) => {
                let matches = match (value, &self.regex) {
                    (CellRef::Bytes(bytes), Some(regex)) => {
                        std::str::from_utf8(bytes).is_ok_and(|text| regex.is_match(text))
                    }
                    _ => false,
                };
                (!matches).then(|| {
                    format!(
                        "`{column}` is {}, which does not match {pattern}",
                        text(value)
                    )
                })
            }
            Rule::NotNull | Rule::NullFraction(_) | Rule::Unique => None,
        }
    }
}

fn at_least(value: CellRef<'_>, min: Bound) -> bool {
    compare(value, min).is_some_and(std::cmp::Ordering::is_ge)
}

fn at_most(value: CellRef<'_>, max: Bound) -> bool {
    compare(value, max).is_some_and(std::cmp::Ordering::is_le)
}

/// Compares numbers by their exact values. NaN compares with nothing.
fn compare(value: CellRef<'_>, bound: Bound) -> Option<std::cmp::Ordering> {
    match (value, bound) {
        (CellRef::Int(value), Bound::Int(bound)) => Some(value.cmp(&bound)),
        (CellRef::Int(value), Bound::Float(bound)) => compare_integer(value, bound),
        (CellRef::Float(value), Bound::Int(bound)) => {
            compare_integer(bound, value).map(std::cmp::Ordering::reverse)
        }
        (CellRef::Float(value), Bound::Float(bound)) => value.partial_cmp(&bound),
        (CellRef::Bytes(_), _) => None,
    }
}

fn bound_text(bound: Bound) -> String {
    match bound {
        Bound::Int(value) => value.to_string(),
        Bound::Float(value) => value.to_string(),
    }
}

fn text(value: CellRef<'_>) -> String {
    match value {
        CellRef::Int(value) => value.to_string(),
        CellRef::Float(value) => value.to_string(),
        CellRef::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            format!("`{}`", shown(&text))
        }
    }
}

/// Values of a run, gathered for the rules that are about all of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunValues {
    rows: u64,
    nulls: u64,
    /// Distinct values so far, if they must be unique.
    #[serde(skip)]
    seen: HashSet<Cell>,
}

impl RunValues {
    /// Adds the values of a column in some rows. For [`Rule::Unique`], returns the rows whose value
    /// has occurred before.
    pub fn add(&mut self, rule: &Rule, cells: &Cells, rows: usize) -> Vec<usize> {
        let mut repeated = Vec::new();
        for row in 0..rows {
            self.rows += 1;
            match cells.get(row) {
                None => self.nulls += 1,
                Some(cell) if *rule == Rule::Unique => {
                    if !self.seen.insert(cell.to_owned()) {
                        repeated.push(row);
                    }
                }
                Some(_) => {}
            }
        }
        repeated
    }

    /// Adds the counts of other rows. Their values are not compared with these.
    pub fn append(&mut self, other: Self) {
        self.rows += other.rows;
        self.nulls += other.nulls;
    }

    /// Says why the run as a whole breaks a rule, or `None` if it does not.
    pub fn broken(&self, expectation: &Expectation) -> Option<String> {
        let Rule::NullFraction(most) = expectation.rule else {
            return None;
        };
        let fraction = self.nulls as f64 / (self.rows as f64).max(1.0);
        (fraction > most).then(|| {
            format!(
                "{} of {} values of `{}` are null, more than the fraction {most}",
                self.nulls, self.rows, expectation.column
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn check(rule: Rule) -> PreparedExpectation {
        PreparedExpectation::new(&Expectation {
            column: "c".to_owned(),
            rule,
            policy: Policy::Reject,
        })
    }

    #[test]
    fn expectations_give_reasons_for_rows() {
        let range = |min, max| Rule::Range { min, max };
        let big = (1 << 53) + 1;
        let bytes = |text: &'static str| Some(CellRef::Bytes(text.as_bytes()));
        for (rule, value, wanted) in [
            (
                range(Some(Bound::Int(1)), None),
                Some(CellRef::Int(1)),
                None,
            ),
            (
                range(Some(Bound::Int(1)), None),
                Some(CellRef::Int(0)),
                Some("`c` is 0, outside of 1 to …"),
            ),
            (
                range(None, Some(Bound::Int(big - 1))),
                Some(CellRef::Int(big)),
                Some("outside"),
            ),
            (
                range(None, Some(Bound::Float(1.5))),
                Some(CellRef::Float(f64::NAN)),
                Some("is NaN"),
            ),
            (range(None, Some(Bound::Float(1.5))), None, None),
            // A float bound and an int64 are not rounded to each other, nor the other way.
            (
                range(None, Some(Bound::Float(9_007_199_254_740_992.0))),
                Some(CellRef::Int(big)),
                Some("`c` is 9007199254740993, outside of … to 9007199254740992"),
            ),
            (
                range(Some(Bound::Int(big)), None),
                Some(CellRef::Float(9_007_199_254_740_992.0)),
                Some("outside"),
            ),
            (
                range(None, Some(Bound::Float(1e19))),
                Some(CellRef::Int(i64::MAX)),
                None,
            ),
            (
                range(Some(Bound::Int(0)), None),
                Some(CellRef::Float(-0.0)),
                None,
            ),
            (
                range(Some(Bound::Int(0)), None),
                Some(CellRef::Float(f64::NAN)),
                Some("is NaN"),
            ),
            (Rule::Values(vec!["a".into()]), bytes("a"), None),
            (
                Rule::Values(vec!["a".into()]),
                bytes("b"),
                Some("`c` is `b`, not an allowed value"),
            ),
            (Rule::Regex("[A-Z]{3}".into()), bytes("JFK"), None),
            (
                Rule::Regex("[A-Z]{3}".into()),
                bytes("JFKX"),
                Some("does not match"),
            ),
            (Rule::NotNull, None, Some("`c` is null")),
            (Rule::NotNull, bytes(""), None),
            (Rule::Unique, bytes("x"), None),
        ] {
            let found = check(rule.clone()).broken(value);
            match (found, wanted) {
                (None, None) => {}
                (Some(found), Some(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, _) => panic!("{rule:?} of {value:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn expectations_apply_to_whole_runs() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1), Some(2)]));
        let cells = Cells::new(&column).unwrap();
        let mut values = RunValues::default();
        assert_eq!(values.add(&Rule::Unique, &cells, 4), [2]);
        assert_eq!(values.add(&Rule::Unique, &cells, 1), [0]);
        let fraction = |most| Expectation {
            column: "c".to_owned(),
            rule: Rule::NullFraction(most),
            policy: Policy::Fail,
        };
        assert_eq!(values.broken(&fraction(0.2)), None);
        let message = values.broken(&fraction(0.1)).unwrap();
        assert!(
            message.contains("1 of 5 values of `c` are null"),
            "{message}"
        );
    }

    #[test]
    fn expectations_are_checked_against_types() {
        let range = Rule::Range {
            min: Some(Bound::Int(0)),
            max: None,
        };
        assert!(range.check(&DataType::Int64).is_ok());
        for (rule, data_type, wanted) in [
            (range, DataType::Utf8, "a range is for numbers, not utf8"),
            (
                Rule::Range {
                    min: None,
                    max: None,
                },
                DataType::Int64,
                "needs `min` or `max`",
            ),
            (Rule::Regex("(".into()), DataType::Utf8, "unclosed"),
            (Rule::Values(vec![]), DataType::Int64, "it is for utf8"),
            (Rule::NullFraction(1.5), DataType::Int64, "from 0 to 1"),
            (Rule::Unique, DataType::ListInt64, "single values"),
        ] {
            let message = rule.check(&data_type).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
