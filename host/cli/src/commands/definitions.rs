//! `wafer sources`, `wafer groups` and `wafer views`.

use std::process::ExitCode;

use anyhow::Result;
use wafer_core::Field;
use wafer_platform::{GroupSummary, SourceSummary, ViewSummary};

use super::CommandContext;
use crate::app;
use crate::output::{facts, table};

/// List the live sources, or show one.
///
/// Examples:
///   wafer sources
///   wafer sources rides
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Sources {
    /// The source
    source: Option<String>,
}

/// List the live feature groups, or show the join keys and features of one.
///
/// Examples:
///   wafer groups
///   wafer groups last_ride
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Groups {
    /// The group
    group: Option<String>,
}

/// List the live feature views, or show the inputs and features of one.
///
/// Examples:
///   wafer views
///   wafer views driver
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Views {
    /// The view
    view: Option<String>,
}

/// What is said when there is nothing to list.
const NOTHING: &str = "nothing was applied yet; make wafer.toml live with `wafer apply`";

impl Sources {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open_to_read(&context.project()?, None).await?;
        if let Some(name) = &self.source {
            let source = platform.source(name)?;
            context.format.print(&source, || source_text(&source));
            return Ok(ExitCode::SUCCESS);
        }
        let sources = platform.sources();
        context.format.print(&sources, || {
            let row = |source: &SourceSummary| {
                vec![
                    source.name.clone(),
                    source.kind.to_owned(),
                    rows_from(source),
                    source.groups.join(" "),
                    source.doc.clone(),
                ]
            };
            let header = ["source", "type", "from", "groups", "description"];
            listed(&header, sources.iter().map(row).collect())
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Groups {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open_to_read(&context.project()?, None).await?;
        if let Some(name) = &self.group {
            let group = platform.group(name)?;
            context.format.print(&group, || group_text(&group));
            return Ok(ExitCode::SUCCESS);
        }
        let groups = platform.groups();
        context.format.print(&groups, || {
            let row = |group: &GroupSummary| {
                vec![
                    group.name.clone(),
                    version_text(group),
                    group.entity.clone(),
                    group.features.len().to_string(),
                    group.source.clone().unwrap_or_default(),
                    group.views.join(" "),
                    group.doc.clone(),
                ]
            };
            let header = [
                "group",
                "version",
                "entity",
                "features",
                "source",
                "views",
                "description",
            ];
            listed(&header, groups.iter().map(row).collect())
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Views {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open_to_read(&context.project()?, None).await?;
        if let Some(name) = &self.view {
            let view = platform.view(name)?;
            context.format.print(&view, || view_text(&view));
            return Ok(ExitCode::SUCCESS);
        }
        let views = platform.views()?;
        context.format.print(&views, || {
            let names = |fields: &[Field]| {
                let names = fields.iter().map(|field| field.name.as_str());
                names.collect::<Vec<_>>().join(" ")
            };
            let row = |view: &ViewSummary| {
                vec![
                    view.name.clone(),
                    names(&view.inputs),
                    view.features.len().to_string(),
                    view.groups.join(" "),
                    view.functions.join(" "),
                    view.models.join(" "),
                    view.doc.clone(),
                ]
            };
            let header = [
                "view",
                "inputs",
                "features",
                "groups",
                "functions",
                "models",
                "description",
            ];
            listed(&header, views.iter().map(row).collect())
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Formats a list as a table.
fn listed(header: &[&str], rows: Vec<Vec<String>>) -> String {
    match rows.is_empty() {
        true => NOTHING.to_owned(),
        false => table(header, &rows),
    }
}

/// Returns where the rows of a source come from.
fn rows_from(source: &SourceSummary) -> String {
    let group = source.group.as_ref().map(|group| format!("group {group}"));
    group.or_else(|| source.path.clone()).unwrap_or_default()
}

fn source_text(source: &SourceSummary) -> String {
    facts(&[
        ("source", source.name.clone()),
        ("type", source.kind.to_owned()),
        ("from", rows_from(source)),
        ("pipelines", source.pipelines.join(" ")),
        ("groups", source.groups.join(" ")),
        ("description", source.doc.clone()),
    ])
}

/// Returns the live version of a group, and the one that is being filled.
fn version_text(group: &GroupSummary) -> String {
    match group.staged {
        None => group.version.to_string(),
        Some(staged) => format!("{}, {staged} staged", group.version),
    }
}

fn group_text(group: &GroupSummary) -> String {
    let facts = facts(&[
        ("group", group.name.clone()),
        ("version", version_text(group)),
        ("entity", group.entity.clone()),
        ("table", group.table.clone()),
        ("event time", group.event_time.clone()),
        ("ttl", group.ttl.clone().unwrap_or_default()),
        ("pipeline", group.pipeline.clone().unwrap_or_default()),
        ("source", group.source.clone().unwrap_or_default()),
        ("made by", group.made_by.clone().unwrap_or_default()),
        ("views", group.views.join(" ")),
        ("description", group.doc.clone()),
    ]);
    let columns = columns(&[
        ("key", group.keys.as_slice()),
        ("feature", group.features.as_slice()),
    ]);
    format!("{facts}\n\n{columns}")
}

fn view_text(view: &ViewSummary) -> String {
    let facts = facts(&[
        ("view", view.name.clone()),
        ("groups", view.groups.join(" ")),
        ("functions", view.functions.join(" ")),
        ("models", view.models.join(" ")),
        ("description", view.doc.clone()),
    ]);
    let columns = columns(&[
        ("input", view.inputs.as_slice()),
        ("feature", view.features.as_slice()),
    ]);
    format!("{facts}\n\n{columns}")
}

/// Formats fields as a table, with what each is for.
fn columns(kinds: &[(&str, &[Field])]) -> String {
    let row = |kind: &str, field: &Field| {
        let nullable = if field.nullable { "?" } else { "" };
        // A comment of several lines becomes one.
        let doc = field.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        vec![
            kind.to_owned(),
            field.name.clone(),
            format!("{}{nullable}", field.data_type),
            doc,
        ]
    };
    let kinds = kinds.iter();
    let rows = kinds.flat_map(|(kind, fields)| fields.iter().map(move |field| row(kind, field)));
    let rows: Vec<_> = rows.collect();
    table(&["", "name", "type", "description"], &rows)
}
