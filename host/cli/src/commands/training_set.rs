//! `wafer training-set` and `wafer training-sets`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use wafer_core::{Timestamp, Zone};
use wafer_platform::{
    ColumnStatistics, DeleteIf, Progress, Split, SplitBy, TrainingSet, TrainingSetRequest,
    column_types,
};

use super::{CommandContext, LabelFiles, NOTHING, check_output, until_interrupted};
use crate::app;
use crate::output::{Bar, facts, path_text, say, table, thousands};

/// Join labels with a view's features as they were known at each label's time.
///
/// The training set has a row for each label, in the order of the labels: all columns of
/// the label, then the features of the view. Files are Parquet (.parquet), CSV (.csv),
/// NDJSON (.ndjson, .jsonl, .json) or Arrow (.arrow, .feather, .ipc, .arrows), by their
/// extension. What the training set was made of is recorded, so that the same bytes can be
/// made again.
///
/// Examples:
///   wafer training-set arrival_delay --labels flights.parquet --out training.parquet
///   wafer training-set arrival_delay --labels flights.csv --time scheduled_departure --out t.csv
///   wafer training-set arrival_delay --labels l.parquet --out t.parquet --split train=0.8,test=0.2 --split-by time
///   wafer training-set arrival_delay --labels flights.csv --types zip=utf8,delay=float64 --out t.parquet
///   wafer training-set --recreate 3f9a8c41d2e0 --out again.parquet
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct MakeTrainingSet {
    /// The view
    #[arg(required_unless_present = "recreate")]
    view: Option<String>,

    /// File with the labels: join keys and request fields of the view, a time, and any other
    /// columns
    #[arg(long, value_name = "FILE", required_unless_present = "recreate")]
    labels: Option<PathBuf>,

    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Column of the labels that holds their time
    #[arg(long, default_value = "event_timestamp", value_name = "COLUMN")]
    time: String,

    /// Types of columns of the labels, if these are CSV or NDJSON, that the view does not read;
    /// types that are not given are guessed so that values are written as the same texts
    #[arg(long, value_name = "COLUMN=TYPE,…")]
    types: Option<String>,

    /// Time zone of times of the labels that name none, such as UTC or Europe/Berlin; without it,
    /// such times are refused
    #[arg(long, value_name = "ZONE")]
    zone: Option<Zone>,

    /// Use the versions of the tables at this time, by the machine's clock
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    as_of: Option<Timestamp>,

    /// Memory that the join may use; what does not fit is written to temporary files
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = super::size)]
    memory: u64,

    /// Divide the rows into parts, named in a column `split`: by fractions, or by times as in
    /// `train<2013-09-01T00:00:00Z,test`
    #[arg(long, value_name = "NAME=FRACTION,…")]
    split: Option<String>,

    /// What decides the part of a row: `row`, `time`, or a column whose equal values stay together
    #[arg(long, default_value = "row", value_name = "WHAT", requires = "split")]
    split_by: String,

    /// Seed of a random split
    #[arg(long, default_value_t = 0, value_name = "N", requires = "split")]
    seed: u64,

    /// Make the same bytes of a recorded training set again
    #[arg(long, value_name = "ID", conflicts_with_all = ["view", "labels", "types", "zone", "as_of", "split"])]
    recreate: Option<String>,
}

impl MakeTrainingSet {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        check_output(&project, &platform, &self.out, LabelFiles::Protected)?;
        let bar = Arc::new(Bar::new(self.view.as_deref().unwrap_or("training set")));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let training = platform.training();
        let result = until_interrupted(NOTHING, async {
            let set = match &self.recreate {
                Some(id) => {
                    training
                        .recreate_training_set(id, &self.out, self.memory, &progress)
                        .await
                }
                None => training.training_set(&self.request()?, &progress).await,
            };
            Ok(set?)
        });
        let result = result.await;
        bar.finish();
        let set = result?;
        for error in &set.errors {
            say(format!("{}: {}", error.place, error.message));
        }
        say_coincident(&set);
        context.format.print(&set, || summary(&set, &self.out));
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> Result<TrainingSetRequest> {
        let by = SplitBy::parse(&self.split_by);
        let split = self.split.as_deref();
        let split = split.map(|text| Split::parse(text, by, self.seed));
        let types = column_types(self.types.as_deref().unwrap_or_default());
        Ok(TrainingSetRequest {
            view: self.view.clone().expect("clap requires it"),
            labels: self.labels.clone().expect("clap requires it"),
            labels_name: None,
            time: self.time.clone(),
            types: types.map_err(anyhow::Error::msg)?,
            zone: self.zone,
            out: self.out.clone(),
            as_of: self.as_of,
            memory: self.memory,
            most_label_bytes: None,
            room: None,
            split: split.transpose().map_err(anyhow::Error::msg)?,
        })
    }
}

/// Warns of labels that have the time of events that they were joined with. Such an event may be
/// the very one that the label is about.
pub(crate) fn say_coincident(set: &TrainingSet) {
    for (lookup, labels) in &set.coincident {
        say(format!(
            "warning: {} of {} labels have the time of an event of `{lookup}` that they are joined with, so the \
             event counts",
            thousands(*labels),
            thousands(set.rows)
        ));
    }
    if !set.coincident.is_empty() {
        say(
            "Online, a request at that time sees such an event only if it came in before. If the event is what the \
             label is about, the features know the answer: let --time name when the prediction is made, or give \
             the source of the events the `delay` after which they are known",
        );
    }
}

fn summary(set: &TrainingSet, out: &std::path::Path) -> String {
    let mut text = format!(
        "{}: {} rows, {} columns; recorded as {}",
        path_text(out),
        thousands(set.rows),
        set.columns.len(),
        set.id
    );
    if set.function_errors > 0 {
        text += &format!(
            "; functions failed on {} rows, whose features are null",
            thousands(set.function_errors)
        );
    }
    let rows: Vec<_> = set
        .columns
        .iter()
        .map(|column| {
            vec![
                column.name.clone(),
                column.data_type.clone(),
                thousands(column.nulls),
                number(column.min),
                number(column.mean),
                number(column.max),
                number(column.stddev),
            ]
        })
        .collect();
    let header = ["column", "type", "nulls", "min", "mean", "max", "stddev"];
    format!("{text}\n\n{}", table(&header, &rows))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.4}"))
}

/// The quantiles that are shown of a column.
const SHOWN_QUANTILES: [(&str, f64); 5] = [
    ("5 %", 0.05),
    ("25 %", 0.25),
    ("50 %", 0.5),
    ("75 %", 0.75),
    ("95 %", 0.95),
];

/// Formats what is recorded of a training set.
fn recorded(set: &TrainingSet) -> String {
    let versions = set.versions.iter();
    let versions = versions.map(|(table, version)| format!("{table}@{version}"));
    let facts = facts(&[
        ("training set", set.id.clone()),
        ("created", set.created.to_string()),
        ("view", format!("{} {}", set.view, set.view_version)),
        ("labels", set.labels_name.clone()),
        ("time", set.time.clone()),
        ("tables", versions.collect::<Vec<_>>().join(" ")),
        ("rows", thousands(set.rows)),
    ]);
    let row = |column: &ColumnStatistics| {
        let quantile = |fraction: f64| {
            let mut quantiles = column.quantiles.iter();
            let found = quantiles.find(|(other, _)| (other - fraction).abs() < 1e-9);
            number(found.map(|(_, value)| *value))
        };
        let mut cells = vec![
            column.name.clone(),
            column.data_type.clone(),
            thousands(column.nulls),
            column.distinct.map_or_else(String::new, thousands),
            number(column.min),
        ];
        cells.extend(SHOWN_QUANTILES.map(|(_, fraction)| quantile(fraction)));
        cells.push(number(column.max));
        cells.push(most_frequent(&column.top));
        cells
    };
    let mut header = vec!["column", "type", "nulls", "distinct", "min"];
    header.extend(SHOWN_QUANTILES.map(|(name, _)| name));
    header.extend(["max", "most frequent"]);
    let rows: Vec<_> = set.columns.iter().map(row).collect();
    format!("{facts}\n\n{}", table(&header, &rows))
}

/// Formats the most frequent values of a column, of which the table has room for three.
fn most_frequent(top: &[(String, u64)]) -> String {
    let shown = top.iter().take(3);
    let shown = shown.map(|(value, count)| format!("{value} ({})", thousands(*count)));
    shown.collect::<Vec<_>>().join(", ")
}

/// List training sets, newest first, show what is recorded of one, or delete one.
///
/// Of one training set, the statistics of its columns are shown: quantiles, which are exact to one
/// part in 256, and the most frequent values of columns with at most 1,000 different ones. After a
/// deletion, compaction may remove the versions of tables that only this training set needed.
///
/// Examples:
///   wafer training-sets
///   wafer training-sets 3f9a8c41d2e0
///   wafer training-sets --delete 3f9a8c41d2e0
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TrainingSets {
    /// Show this training set
    #[arg(value_name = "ID", conflicts_with = "delete")]
    id: Option<String>,
    /// Delete this training set
    #[arg(long, value_name = "ID")]
    delete: Option<String>,
    /// Delete it even if versions of models were trained on it
    #[arg(long, requires = "delete")]
    force: bool,
}

impl TrainingSets {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        if let Some(id) = &self.id {
            let set = TrainingSet::read(platform.context(), id).await?;
            context.format.print(&set, || recorded(&set));
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(id) = &self.delete {
            let condition = match self.force {
                true => DeleteIf::Always,
                false => DeleteIf::Unused,
            };
            platform
                .training()
                .delete_training_set(id, condition)
                .await?;
        }
        let sets = TrainingSet::read_all(platform.context()).await?;
        context.format.print(&sets, || {
            if sets.is_empty() {
                return "no training sets; make one with `wafer training-set`".to_owned();
            }
            let rows: Vec<_> = sets
                .iter()
                .map(|set| {
                    vec![
                        set.id.clone(),
                        set.created.to_string(),
                        set.view.clone(),
                        thousands(set.rows),
                        set.labels_name.clone(),
                    ]
                })
                .collect();
            table(&["id", "created", "view", "rows", "labels"], &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}
