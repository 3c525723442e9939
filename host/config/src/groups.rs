//! `[groups]`: feature groups with their aggregates and expectations.

use serde::Deserialize;
use wafer_core::Duration;
use wafer_core::expect::{Bound, Policy, Rule};

use crate::values::{duration, one_or_more};

/// The table `[groups.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The name of the entity that the features describe.
    pub entity: String,
    /// The number of the version, from 1 (the default). Changed columns need a new version.
    #[serde(default = "default_version")]
    pub version: u32,
    /// The output of the function that is the event time.
    pub event_time: String,
    /// The outputs of the function to store. The default is all outputs, or with aggregates those
    /// that aggregates and expectations use.
    pub columns: Option<Vec<String>>,
    /// Features over windows of time. If there are any, the columns themselves are not features.
    #[serde(default)]
    pub aggregates: Vec<AggregateConfig>,
    /// The rules that rows must meet.
    #[serde(default)]
    pub expectations: Vec<ExpectationConfig>,
    /// How long a row is good for. The default is forever.
    #[serde(default, deserialize_with = "duration")]
    pub ttl: Option<Duration>,
    /// The description of the group.
    #[serde(default)]
    pub doc: String,
}

/// Returns the default version of a group.
pub(crate) fn default_version() -> u32 {
    1
}

/// A table of `[[groups.NAME.aggregates]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateConfig {
    /// The aggregate functions, such as `mean`. The file has one as a string, or several as a
    /// list.
    #[serde(rename = "function", deserialize_with = "one_or_more")]
    pub functions: Vec<String>,
    /// The column to aggregate. The function `count` needs none.
    pub column: Option<String>,
    /// The widths of the windows: durations, or `lifetime`.
    pub windows: Vec<String>,
    /// The length of the list, for functions that return one.
    pub k: Option<u32>,
    /// The quantile, from 0 to 1.
    pub quantile: Option<f64>,
    /// Whether the starts of the windows are exact, and not rounded down to a hop. By default they
    /// are rounded.
    #[serde(default)]
    pub exact: bool,
    /// The start of the features' names, before function and window. The default is the column.
    pub name: Option<String>,
}

/// A table of `[[groups.NAME.expectations]]`: one rule, and what happens when it is broken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectationConfig {
    /// The column that the rule is about.
    pub column: String,
    /// The smallest allowed value.
    pub min: Option<Bound>,
    /// The greatest allowed value.
    pub max: Option<Bound>,
    /// The allowed values.
    pub values: Option<Vec<String>>,
    /// A regular expression that must match the whole text.
    pub regex: Option<String>,
    /// Whether nulls are forbidden.
    #[serde(default)]
    pub not_null: bool,
    /// The greatest allowed fraction of nulls in a run.
    pub null_fraction: Option<f64>,
    /// Whether no value may occur twice in a run.
    #[serde(default)]
    pub unique: bool,
    /// What happens when the rule is broken. The default is to reject the row.
    #[serde(default = "default_policy")]
    pub policy: Policy,
}

/// Returns the default policy of an expectation.
fn default_policy() -> Policy {
    Policy::Reject
}

impl ExpectationConfig {
    /// Returns the one rule of the expectation.
    ///
    /// # Errors
    /// Returns a message when it has no rule, or several.
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
