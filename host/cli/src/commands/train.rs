//! `wafer train`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use wafer_platform::{Progress, TrainRequest, TrainingSet};

use super::CommandContext;
use super::models::{NoteArguments, metrics_text, named, say_not_evaluated};
use super::training_set::say_coincident;
use crate::app;
use crate::output::{Bar, thousands};

/// Train a model, and register the result as its next version.
///
/// A training set is made from the labels that the model names, and its rows are streamed to
/// the trainer of the model: those of the parts `train` and `validation`, or all of them when
/// it is not split. The version is evaluated on the part `test`, with the same function that
/// will serve it.
///
/// Examples:
///   wafer train late_arrival
///   wafer train late_arrival --labels labels.parquet --set trees=300 --doc "more trees"
///   wafer train late_arrival --training-set 4f0c9a1b22d0
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Train {
    /// The model
    model: String,

    /// File with the labels of the training set; default: the one that wafer.toml names
    #[arg(long, value_name = "FILE", conflicts_with = "training_set")]
    labels: Option<PathBuf>,

    /// Train on this training set, which was made before
    #[arg(long, value_name = "ID")]
    training_set: Option<String>,

    /// Set a parameter of the trainer for this training
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = named)]
    parameters: Vec<(String, String)>,

    /// Memory that the join may use; what does not fit is written to temporary files
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = super::size)]
    memory: u64,

    #[command(flatten)]
    note: NoteArguments,
}

impl Train {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        let bar = Arc::new(Bar::new(&self.model));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let request = TrainRequest {
            model: self.model,
            training_set: self.training_set,
            labels: self.labels,
            parameters: self.parameters.into_iter().collect(),
            memory: self.memory,
            note: self.note.into_note(),
        };
        let report = platform.training().train(request, &progress).await;
        bar.finish();
        let report = report?;
        if let Some(id) = &report.version.training_set {
            say_coincident(&TrainingSet::read(platform.context(), id).await?);
        }
        say_not_evaluated(report.not_evaluated.as_deref());
        context.format.print(&report, || {
            let mut text = format!(
                "{}: trained on {} rows of training set {}, {} {}",
                report.version.name(),
                thousands(report.rows),
                report.version.training_set.as_deref().unwrap_or("?"),
                report.passes,
                if report.passes == 1 { "pass" } else { "passes" },
            );
            if report.left_out > 0 {
                let left_out = thousands(report.left_out);
                text +=
                    &format!("; {left_out} rows without a label or a needed value were left out");
            }
            text + "\n" + &metrics_text(&report.version.metrics)
        });
        Ok(ExitCode::SUCCESS)
    }
}
