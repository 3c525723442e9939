//! `wafer models compare`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use wafer_core::Timestamp;
use wafer_platform::{EvaluateRequest, ModelVersion, Platform, Progress, VersionName};

use crate::commands::CommandContext;
use crate::output::{Bar, table};

/// Show where versions of models differ: metrics, parameters, training sets and functions.
///
/// The metrics are those that were recorded when the versions were registered, perhaps on different
/// rows. With --training-set, all versions are evaluated on the same rows now; rows that one of
/// them learned from are left out of its evaluation, so compare on a part that none of them has
/// seen.
///
/// Examples:
///   wafer models compare late_arrival@2 late_arrival@3
///   wafer models compare late_arrival@champion late_arrival --training-set 4f0c9a1b22d0 --part test
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Compare {
    /// The versions, two or more
    #[arg(required = true, num_args = 2.., value_name = "VERSION")]
    versions: Vec<VersionName>,

    /// Training set to evaluate the versions on
    #[arg(long, value_name = "ID")]
    training_set: Option<String>,

    /// Part of the training set; default: all of it
    #[arg(long, value_name = "NAME", requires = "training_set")]
    part: Option<String>,

    /// Memory that the join may use when the training set is made again
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = crate::commands::size)]
    memory: u64,
}

/// A version with what is compared.
#[derive(Serialize)]
struct Compared {
    version: String,
    registered: Timestamp,
    view: String,
    view_version: String,
    training_set: Option<String>,
    trainer: Option<String>,
    function: String,
    parameters: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    /// The metrics on the rows that all versions were evaluated on, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluated: Option<BTreeMap<String, f64>>,
}

impl Compared {
    fn new(version: &ModelVersion, evaluated: Option<BTreeMap<String, f64>>) -> Self {
        let digest = version.function.registered.digest.short();
        let trainer = version.trainer.as_ref();
        Self {
            version: version.name(),
            registered: version.created,
            view: version.view.clone(),
            view_version: version.view_version.clone(),
            training_set: version.training_set.clone(),
            trainer: trainer.map(|(name, digest)| format!("{name} {}", digest.short())),
            function: format!("{} {digest}", version.function_name),
            parameters: version.parameters.clone(),
            metrics: version.metrics.clone(),
            evaluated,
        }
    }

    /// Returns what is compared, as texts by name.
    fn texts(&self) -> BTreeMap<(ComparedKind, String), String> {
        let plain = [
            ("registered", self.registered.to_string()),
            ("view", format!("{} {}", self.view, self.view_version)),
            (
                "training set",
                self.training_set.clone().unwrap_or_default(),
            ),
            ("trainer", self.trainer.clone().unwrap_or_default()),
            ("function", self.function.clone()),
        ];
        let plain = plain.map(|(name, text)| ((ComparedKind::Origin, name.to_owned()), text));
        let mut texts: BTreeMap<_, _> = plain.into_iter().collect();
        for (name, value) in &self.parameters {
            texts.insert((ComparedKind::Parameter, name.clone()), value.clone());
        }
        for (name, value) in &self.metrics {
            texts.insert((ComparedKind::Metric, name.clone()), number_text(*value));
        }
        for (name, value) in self.evaluated.iter().flatten() {
            texts.insert((ComparedKind::Evaluated, name.clone()), number_text(*value));
        }
        texts
    }
}

/// What is compared, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ComparedKind {
    Evaluated,
    Metric,
    Origin,
    Parameter,
}

impl ComparedKind {
    fn text(self) -> &'static str {
        match self {
            Self::Evaluated => "evaluated",
            Self::Metric => "metric",
            Self::Origin => "origin",
            Self::Parameter => "parameter",
        }
    }
}

/// Formats a metric with all of its digits, because versions may differ in the last ones.
fn number_text(value: f64) -> String {
    format!("{value}")
}

impl Compare {
    pub(super) async fn run(self, context: &CommandContext, platform: &Platform) -> Result<()> {
        let mut compared = Vec::new();
        for name in &self.versions {
            let version = platform.registry().model_version(name).await?;
            let evaluated = self.evaluated(name, platform).await?;
            compared.push(Compared::new(&version, evaluated));
        }
        context.format.print(&compared, || text(&compared));
        Ok(())
    }

    /// Evaluates a version on the training set that was named, if one was.
    async fn evaluated(
        &self,
        name: &VersionName,
        platform: &Platform,
    ) -> Result<Option<BTreeMap<String, f64>>> {
        let Some(training_set) = self.training_set.clone() else {
            return Ok(None);
        };
        let bar = Arc::new(Bar::new(&name.to_string()));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let request = EvaluateRequest {
            version: name.clone(),
            training_set,
            part: self.part.clone(),
            with_training_rows: false,
            memory: self.memory,
        };
        let figures = platform.training().evaluate(&request, &progress).await;
        bar.finish();
        Ok(Some(figures?))
    }
}

/// Formats what is compared, one line for each, with a mark where versions differ.
fn text(compared: &[Compared]) -> String {
    let texts: Vec<_> = compared.iter().map(Compared::texts).collect();
    let names: BTreeSet<&(ComparedKind, String)> = texts.iter().flat_map(BTreeMap::keys).collect();
    let row = |name: &&(ComparedKind, String)| {
        let values = texts.iter();
        let values = values.map(|of| of.get(*name).cloned().unwrap_or_default());
        let values: Vec<String> = values.collect();
        let differs = values.iter().any(|value| *value != values[0]);
        let mark = if differs { "*" } else { "" };
        let start = [mark.to_owned(), name.0.text().to_owned(), name.1.clone()];
        start.into_iter().chain(values).collect::<Vec<String>>()
    };
    let rows: Vec<_> = names.iter().map(row).collect();
    let mut header = vec!["", "", ""];
    header.extend(compared.iter().map(|compared| compared.version.as_str()));
    table(&header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_beside_each_other_with_a_mark_where_they_differ() {
        let version = |number: u32, trees: &str, auc: f64| Compared {
            version: format!("late@{number}"),
            registered: Timestamp::from_micros(0),
            view: "flight".to_owned(),
            view_version: "abc".to_owned(),
            training_set: None,
            trainer: None,
            function: "trees def".to_owned(),
            parameters: BTreeMap::from([("trees".to_owned(), trees.to_owned())]),
            metrics: BTreeMap::from([("auc".to_owned(), auc), ("rows".to_owned(), 10.0)]),
            evaluated: None,
        };
        let shown = text(&[version(1, "40", 0.75), version(2, "80", 0.8)]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["late@1", "late@2"]
        );
        let wanted = [
            "* metric auc 0.75 0.8",
            "metric rows 10 10",
            "origin function trees def trees def",
            "* parameter trees 40 80",
        ];
        for wanted in wanted {
            let is_shown = lines
                .iter()
                .any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == wanted);
            assert!(is_shown, "{wanted}: {shown}");
        }
    }
}
