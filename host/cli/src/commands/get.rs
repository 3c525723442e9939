//! `wafer get`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value as Json};
use wafer_core::{DataType, escaped};

use super::CommandContext;
use crate::app::{self, ClockOption};
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
        let mut row = Map::new();
        for field in &self.fields {
            let (name, text) = field
                .split_once('=')
                .with_context(|| format!("`{field}` is not FIELD=VALUE"))?;
            let is_text = definitions.views.get(&self.view).is_none_or(|view| {
                let input = view.inputs.iter().find(|f| f.name == name);
                input.is_none_or(|f| matches!(f.data_type, DataType::Utf8 | DataType::Binary))
            });
            // Values of other types are read as JSON. What is not JSON, such as a time, is text.
            let json = if is_text {
                None
            } else {
                serde_json::from_str(text).ok()
            };
            row.insert(
                name.to_owned(),
                json.unwrap_or_else(|| Json::String(text.to_owned())),
            );
        }
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
