//! `wafer plan` and `wafer apply`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use wafer_config::{Project, SourceColumns, resolve, source_def, untyped_sources};
use wafer_core::escaped;
use wafer_platform::{
    Definitions, GoLive, Platform, Progress, SourceDef, typed_columns, unread_files,
};

use super::CommandContext;
use crate::output::say;
use crate::{app, build};

/// Show what `wafer apply` would change.
///
/// Functions are built and registered, because their columns are known only then.
/// Nothing else is written.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanCommand {
    #[command(flatten)]
    build: BuildFlag,
}

/// Make the project's definitions live.
///
/// A new version of a group whose old version has rows must be filled first, with
/// `wafer backfill`. Until then the old definitions stay live, and events are
/// written to both versions. If the old version has no rows, this takes some seconds,
/// on AWS half a minute, in which events may still be on their way to it.
///
/// Applied definitions whose artifact is damaged or missing are written again if the
/// project is as it was, and replaced if no rows that may be served are lost.
///
/// Examples:
///   wafer apply
///   wafer apply --no-build
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Apply {
    #[command(flatten)]
    build: BuildFlag,

    #[command(flatten)]
    now: NowFlag,
}

/// Whether functions are built before they are registered.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildFlag {
    /// Use the components that were built before, without building
    #[arg(long)]
    no_build: bool,
}

/// When definitions become live.
#[derive(Debug, clap::Args)]
pub(crate) struct NowFlag {
    /// Make new versions of groups live at once, although they are still empty; events of
    /// the next seconds may be in the old versions alone
    #[arg(long)]
    now: bool,
}

impl NowFlag {
    /// Returns when definitions become live.
    pub(crate) fn go_live(&self) -> GoLive {
        match self.now {
            true => GoLive::AtOnce,
            false => GoLive::WhenFilled,
        }
    }
}

/// Builds and registers the functions of a project, and resolves its definitions. The definitions
/// are not applied.
///
/// # Errors
/// Returns an error when a function cannot be built or registered, or when definitions do not fit
/// together.
pub(crate) async fn definitions(
    project: &Project,
    platform: &Platform,
    flag: &BuildFlag,
) -> Result<Definitions> {
    if !flag.no_build {
        build::build_project(project)?;
    }
    let functions = platform.register(build::specs(project)?).await?;
    let columns = columns_of_files(project, platform).await?;
    let groups = project.groups.iter();
    let versions = groups.map(|(name, group)| (name.clone(), group.version));
    let applied = platform.definitions_in_use(&versions.collect()).await?;
    Ok(resolve(project, functions, &columns, &applied)?)
}

/// Returns the columns of the files of sources that do not declare them, and whose columns are
/// passed on.
///
/// # Errors
/// Returns an error when a file cannot be read, or its format has no types.
pub(crate) async fn columns_of_files(
    project: &Project,
    platform: &Platform,
) -> Result<SourceColumns> {
    let mut columns = SourceColumns::new();
    for name in untyped_sources(project) {
        let (source, name) = (source_def(project, name), name.clone());
        let remote = Arc::clone(&platform.context().components().remote);
        let (found, name) =
            tokio::task::spawn_blocking(move || (typed_columns(&source, &name, &remote), name))
                .await?;
        columns.insert(name, found?);
    }
    Ok(columns)
}

/// Prints what an apply waits for, a line for each stage.
#[derive(Debug)]
pub(crate) struct ApplyProgress;

impl Progress for ApplyProgress {
    fn read(&self, _rows: u64, _total: Option<u64>) {}

    fn stage(&self, stage: &str) {
        say(stage);
    }
}

/// Formats the changes of a plan, or returns `none` if there are none.
pub(crate) fn plan_text(plan: &wafer_platform::Plan, none: &str) -> String {
    if plan.changes.is_empty() {
        return none.to_owned();
    }
    plan.changes
        .iter()
        .map(|change| escaped(&change.to_string()).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Prints warnings to standard error.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format!("warning: {warning}"));
    }
}

/// Returns the sources that pipelines read: those of all of them, or that of one.
pub(crate) fn read_sources(
    definitions: &Definitions,
    pipeline: Option<&str>,
) -> BTreeMap<String, SourceDef> {
    let pipelines = definitions.pipelines.iter();
    let read = pipelines.filter(|(name, _)| pipeline.is_none_or(|one| one == name.as_str()));
    let sources = read.filter_map(|(_, pipeline)| {
        let source = definitions.sources.get(&pipeline.source)?;
        Some((pipeline.source.clone(), source.clone()))
    });
    sources.collect()
}

/// Warns of files on this machine that are in the folders of sources and not read. Every command
/// that reads the files of a source, or starts what reads them, says so before it does.
///
/// # Errors
/// Returns an error when the process is stopping.
pub(crate) async fn warn_of_unread_files(sources: BTreeMap<String, SourceDef>) -> Result<()> {
    let find = move || unread_files(&sources);
    warn(&tokio::task::spawn_blocking(find).await?);
    Ok(())
}

/// Explains what to do with new versions of groups that are not live yet.
pub(crate) fn staged_text(plan: &wafer_platform::Plan) -> String {
    format!(
        "none of it is live before these new versions are filled: {}\n\
         fill each with `wafer backfill PIPELINE --from … --to …`, or apply with --now",
        plan.staged.join(", ")
    )
}

/// Says that the definitions of a plan are applied already, and what they wait for.
fn waiting_text(plan: &wafer_platform::Plan) -> String {
    let waits = match plan.staged.is_empty() {
        true => "run `wafer apply` to make it live".to_owned(),
        false => staged_text(plan),
    };
    format!("all of it is applied already, and staged: {waits}")
}

impl PlanCommand {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        let wanted = definitions(&project, &platform, &self.build).await?;
        let plan = platform.plan(&wanted).await?;
        warn(&plan.warnings);
        context.format.print(&plan, || {
            let text = plan_text(&plan, "nothing would change");
            match (plan.changes.is_empty(), plan.staged.is_empty()) {
                (true, _) => text,
                (false, _) if plan.is_staged => format!("{text}\n{}", waiting_text(&plan)),
                (false, true) => text + "\nrun `wafer apply` to make it so",
                (false, false) => format!(
                    "{text}\nrun `wafer apply` to stage it; {}",
                    staged_text(&plan)
                ),
            }
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Apply {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open_to_apply(&project).await?;
        let wanted = definitions(&project, &platform, &self.build).await?;
        let here = wanted.sources.iter().filter(|(_, source)| source.is_here());
        let here: Vec<&str> = here.map(|(name, _)| name.as_str()).collect();
        if project.store.cloud.is_some() && !here.is_empty() {
            say(format!(
                "warning: the files of {} are on this machine, where functions on AWS cannot read \
                 them; `wafer deploy` copies them to S3",
                here.join(", ")
            ));
        }
        let plan = platform
            .apply(wanted, self.now.go_live(), &ApplyProgress)
            .await?;
        warn(&plan.warnings);
        context.format.print(&plan, || {
            let mut text = plan_text(&plan, "nothing changed");
            if !plan.staged.is_empty() {
                text += "\n";
                text += &staged_text(&plan);
            }
            text
        });
        Ok(ExitCode::SUCCESS)
    }
}
