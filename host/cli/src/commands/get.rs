//! `wafer get`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value as Json};
use wafer_core::escaped;

use super::CommandContext;
use crate::app::{self, ClockOption};
use crate::named_values::named_values;
use crate::output::table;

/// Get the feature vector of a view for one row.
///
/// Example, with --output json for programs:
///   wafer get arrival_delay tailnum=N14228 origin=EWR dest=IAH \
///     scheduled_departure=2013-12-31T13:00:00Z scheduled_arrival=2013-12-31T18:30:00Z
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Get {
    /// The feature view
    view: String,

    /// Values of join keys and request fields
    #[arg(value_name = "FIELD=VALUE")]
    fields: Vec<String>,

    /// Clock to use instead of the machine's; it decides the time of the request
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Get {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open_to_read(&project, self.clock).await?;
        let definitions = platform.context().definitions();
        let view = definitions.views.get(&self.view);
        let row = named_values(&self.fields, "FIELD=VALUE", |name| {
            let input = view?.inputs.iter().find(|input| input.name == name)?;
            Some(&input.data_type)
        })?;
        let vectors = platform
            .serving()
            .features(&self.view, &[Json::Object(row)])
            .await?;
        let answer = serde_json::to_value(
            vectors
                .rows()
                .next()
                .context("there is no vector for the row")?,
        )?;
        context.format.print(&answer, || text(&answer));
        Ok(ExitCode::SUCCESS)
    }
}

fn text(answer: &Json) -> String {
    let empty = Map::new();
    let features = answer["features"].as_object().unwrap_or(&empty);
    let rows: Vec<_> = features
        .iter()
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let status = answer["status"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            vec![name.clone(), value, status]
        })
        .collect();
    let mut text = table(&["feature", "value", "status"], &rows);
    if let Some(errors) = answer["errors"].as_object() {
        for (function, message) in errors {
            let message = message.as_str().unwrap_or_default();
            text += &format!("\nfunction `{function}`: {}", escaped(message));
        }
    }
    text
}
