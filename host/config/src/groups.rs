//! `[groups]`: feature groups, their aggregates and expectations.

use serde::Deserialize;
use wafer_core::expect::{Bound, Policy, Rule};

use crate::values::{duration, one_or_more};

/// `[groups.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Entity that the features describe.
    pub entity: String,
    /// Version, from 1; a change of the columns needs a new one.
    #[serde(default = "one")]
    pub version: u32,
    /// Output of the function that says when a row held.
    pub event_time: String,
    /// Outputs of the function to store; default: all, or those that aggregates
    /// read.
    pub columns: Option<Vec<String>>,
    /// Features over windows of time, in the place of the columns themselves.
    #[serde(default)]
    pub aggregates: Vec<AggregateConfig>,
    /// What rows must be like.
    #[serde(default)]
    pub expectations: Vec<ExpectationConfig>,
    /// How long a row is good for; default: for ever.
    #[serde(default, deserialize_with = "duration")]
    pub ttl: Option<i64>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

pub(crate) fn one() -> u32 {
    1
}

/// `[[groups.NAME.aggregates]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateConfig {
    /// What is computed, such as `mean`; several are written as a list.
    #[serde(rename = "function", deserialize_with = "one_or_more")]
    pub functions: Vec<String>,
    /// Over which column; `count` needs none.
    pub column: Option<String>,
    /// Over how much time: durations, or `lifetime`.
    pub windows: Vec<String>,
    /// Length of a list.
    pub k: Option<u32>,
    /// Which quantile, from 0 to 1.
    pub quantile: Option<f64>,
    /// Whether the windows' tails are exact too.
    #[serde(default)]
    pub exact: bool,
    /// Start of the features' names, before function and window; default: the column.
    pub name: Option<String>,
}

/// `[[groups.NAME.expectations]]`: one rule, and what happens otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectationConfig {
    /// The column.
    pub column: String,
    /// Least value.
    pub min: Option<Bound>,
    /// Greatest value.
    pub max: Option<Bound>,
    /// Allowed values.
    pub values: Option<Vec<String>>,
    /// A regular expression that texts match as a whole.
    pub regex: Option<String>,
    /// No nulls.
    #[serde(default)]
    pub not_null: bool,
    /// Greatest fraction of nulls in a run.
    pub null_fraction: Option<f64>,
    /// No value twice in a run.
    #[serde(default)]
    pub unique: bool,
    /// What happens otherwise; default: the row is rejected.
    #[serde(default = "reject")]
    pub policy: Policy,
}

fn reject() -> Policy {
    Policy::Reject
}

impl ExpectationConfig {
    /// Its one rule.
    ///
    /// # Errors
    /// When it has none, or several.
    pub(crate) fn rule(&self) -> Result<Rule, String> {
        let range = (self.min.is_some() || self.max.is_some()).then_some(Rule::Range {
            min: self.min,
            max: self.max,
        });
        let rules = [
            range,
            self.values.clone().map(Rule::Values),
            self.regex.clone().map(Rule::Regex),
            self.not_null.then_some(Rule::NotNull),
            self.null_fraction.map(Rule::NullFraction),
            self.unique.then_some(Rule::Unique),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Ok(rule),
            _ => Err(
                "has one rule: `min` and `max`, `values`, `regex`, `not_null`, `null_fraction` or `unique`"
                    .to_owned(),
            ),
        }
    }
}
