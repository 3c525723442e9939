//! `wafer release`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use wafer_platform::{Release, VersionName, ViewOfRelease};

use super::CommandContext;
use crate::app;
use crate::output::{indented, table};

/// Manage releases, each of which binds a version of a model to a version of its view and to
/// the functions of both.
///
/// A release never changes. Endpoints switch from one release to another, and back, at once.
///
/// Examples:
///   wafer release create --model late_arrival@champion
///   wafer release create summer --model late_arrival@4 --doc "trained on the summer"
///   wafer release
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Releases {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the releases
    List,
    /// Show a release
    Show {
        /// The release
        name: String,
    },
    Create(Create),
}

/// Bind a version of a model to the version of its view that it was trained on.
///
/// Examples:
///   wafer release create --model late_arrival@champion
///   wafer release create summer --model late_arrival@4 --present-view
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Create {
    /// Name of the release; default: r1, r2, …
    name: Option<String>,

    /// Version of the model
    #[arg(long, value_name = "NAME@VERSION")]
    model: VersionName,

    /// Use the view as it is defined now, not as it was when the model was trained
    #[arg(long)]
    present_view: bool,

    /// Description of the release
    #[arg(long, default_value = "", value_name = "TEXT")]
    doc: String,
}

impl Releases {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        match self.command.unwrap_or(Command::List) {
            Command::List => {
                let releases = platform.registry().releases().await?;
                context.format.print(&releases, || list_text(&releases));
            }
            Command::Show { name } => {
                let release = platform.registry().release(&name).await?;
                context.format.print(&release, || text(&release));
            }
            Command::Create(create) => {
                let name = create.name.as_deref();
                let view = match create.present_view {
                    true => ViewOfRelease::Present,
                    false => ViewOfRelease::TrainedOn,
                };
                let release = platform
                    .registry()
                    .create_release(name, &create.model, view, &create.doc)
                    .await?;
                context.format.print(&release, || text(&release));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list_text(releases: &[Release]) -> String {
    if releases.is_empty() {
        return "no releases; make one with `wafer release create --model NAME@VERSION`".to_owned();
    }
    let rows: Vec<_> = releases
        .iter()
        .map(|release| {
            vec![
                release.name.clone(),
                release.created.to_string(),
                format!("{}@{}", release.model, release.version),
                format!("{} {}", release.view, release.view_version),
                release.doc.clone(),
            ]
        })
        .collect();
    table(
        &["release", "created", "model", "view", "description"],
        &rows,
    )
}

fn text(release: &Release) -> String {
    let mut lines = vec![format!(
        "release {}: model {}@{}, view {} {}",
        release.name, release.model, release.version, release.view, release.view_version
    )];
    if !release.doc.is_empty() {
        lines.push(format!("    {}", indented(&release.doc)));
    }
    let functions = release.functions.iter();
    lines.extend(functions.map(|(name, digest)| format!("  function {name} {}", digest.short())));
    lines.join("\n")
}
