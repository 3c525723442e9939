//! `wafer check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wafer_config::{Project, resolve};
use wafer_core::{DataType, Field, escaped};
use wafer_platform::{
    CHECK_ROWS, Definitions, Error, GoLive, Platform, ProjectFunction, Reject, SourceReader,
    check_function, check_listed, missing_files, temporary_folder,
};

use super::CommandContext;
use super::apply::{columns_of_files, warn};
use crate::output::{say, table, thousands};
use crate::{app, build};

/// Check a project without writing anything.
///
/// Reads wafer.toml, loads the components that were built, checks that the columns
/// fit from source to view, lists the files of all sources on this machine, and calls
/// every function on the same rows at once, in parts and in another order: an output
/// row may depend on its own input row only.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Build the functions first
    #[arg(long)]
    build: bool,
}

/// The result for one function.
#[derive(Serialize)]
struct Checked {
    function: String,
    rows: usize,
    /// Where the rows came from.
    of: &'static str,
    row_errors: usize,
    /// The number of rows of its source that could not be read.
    unreadable: u64,
    /// Where the first of them is, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_unreadable: Option<String>,
}

const SOURCE: &str = "its source";

impl Check {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        if self.build {
            build::build_project(&project)?;
        }
        let scratch = temporary_folder()?;
        let platform = scratch_platform(&project, scratch.path()).await?;
        let functions = platform.register(complete_specs(&project).await?).await?;
        let columns = columns_of_files(&project, &platform).await?;
        let live = platform.context().definitions();
        let definitions = resolve(&project, functions, &columns, &live)?;
        let applied = platform.apply(definitions.clone(), GoLive::AtOnce, &());
        applied.await?;
        look_for_files(definitions.clone()).await?;

        let mut checked = Vec::new();
        for name in definitions.functions.keys() {
            checked.extend(check_one(&platform, &definitions, name).await?);
        }
        context.format.print(&checked, || text(&checked));
        Ok(match checked.iter().any(Checked::has_no_readable_row) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

/// Lists the files of the sources, and warns of those that are not there and of those that are not
/// read.
///
/// # Errors
/// Returns the error of a source whose files cannot be listed.
async fn look_for_files(definitions: Definitions) -> Result<()> {
    let look = move || check_listed(&definitions).map(|()| missing_files(&definitions));
    warn(&tokio::task::spawn_blocking(look).await??);
    Ok(())
}

/// Opens the project with stores of its own in a folder, to which its definitions are applied.
async fn scratch_platform(project: &Project, folder: &Path) -> Result<Platform> {
    let mut scratch = project.clone();
    scratch.store.path = folder.to_owned();
    scratch.store.cloud = None;
    app::check_stores(project)?;
    app::open(&scratch, None).await
}

/// Returns what is registered of the functions, with the artifacts that were fitted for them.
async fn complete_specs(project: &Project) -> Result<Vec<ProjectFunction>> {
    let specs = build::specs(project)?;
    if specs.iter().all(|function| function.fitted.is_empty()) {
        return Ok(specs);
    }
    // Fitted artifacts are versions of models, which only the project's own stores have.
    let registry = app::open(project, None).await?;
    let mut complete = Vec::new();
    for function in specs {
        complete.push(registry.with_fitted(function).await?);
    }
    Ok(complete)
}

/// Calls a function on the first rows of its source, or on made-up rows. Returns `None` if there
/// are no rows to call it on.
async fn check_one(
    platform: &Platform,
    definitions: &Definitions,
    name: &str,
) -> Result<Option<Checked>> {
    let function = platform.context().function(name)?;
    let inputs = function.signature().inputs.clone();
    let source = source_of(platform, definitions, name, inputs.fields())?;
    let is_opaque = |field: &Field| matches!(field.data_type, DataType::Arrow(_));
    if source.is_none() && inputs.fields().iter().any(is_opaque) {
        say(format!(
            "function `{name}` was not called, because there are no rows to call it on"
        ));
        return Ok(None);
    }
    let (report, first) = tokio::task::spawn_blocking(move || {
        let first = source.map(|source| source.first_rows(CHECK_ROWS));
        let mut first = first.transpose()?.unwrap_or_default();
        let report = check_function(&function, first.columns.take())?;
        Ok::<_, Error>((report, first))
    })
    .await??;
    Ok(Some(Checked {
        function: name.to_owned(),
        rows: report.rows,
        of: if report.real { SOURCE } else { "made-up data" },
        row_errors: report.row_errors,
        unreadable: first.unreadable,
        first_unreadable: first
            .reject
            .map(|Reject { place, message }| format!("{place}: {message}")),
    }))
}

/// Opens the files of the source that a pipeline calls a function on. Returns `None` if there is no
/// such pipeline, or its source has no files.
fn source_of(
    platform: &Platform,
    definitions: &Definitions,
    function: &str,
    fields: &[Field],
) -> Result<Option<SourceReader>> {
    let mut pipelines = definitions.pipelines.values();
    let pipeline = pipelines.find(|pipeline| {
        let called = pipeline.made_by.function();
        called.is_some_and(|called| called == function)
    });
    let Some(pipeline) = pipeline else {
        return Ok(None);
    };
    let source = &definitions.sources[&pipeline.source];
    // The rows of a table are read by runs only.
    if source.files.is_none() || !source.kind.reads_files_one_by_one() {
        return Ok(None);
    }
    let remote = &platform.context().components().remote;
    let reader = SourceReader::open(source, &pipeline.source, fields, remote)?;
    Ok(Some(reader))
}

/// Returns the results as a table, and below it what the check found.
fn text(checked: &[Checked]) -> String {
    let rows: Vec<_> = checked
        .iter()
        .map(|c| {
            vec![
                c.function.clone(),
                c.rows.to_string(),
                c.of.to_owned(),
                c.row_errors.to_string(),
            ]
        })
        .collect();
    let header = ["function", "rows", "of", "row errors"];
    format!("{}\n{}", table(&header, &rows), verdict(checked))
}

impl Checked {
    /// Returns whether there are rows in its source, and none of them can be read.
    fn has_no_readable_row(&self) -> bool {
        self.unreadable > 0 && self.of != SOURCE
    }
}

/// Returns what the check found, in a line for each problem.
fn verdict(checked: &[Checked]) -> String {
    let problems = checked.iter().filter(|checked| checked.unreadable > 0);
    let problems = problems.map(|checked| {
        let count = match checked.has_no_readable_row() {
            true => "no row of its source can be read".to_owned(),
            false => format!(
                "{} of the first rows of its source cannot be read",
                thousands(checked.unreadable)
            ),
        };
        let first = checked.first_unreadable.as_deref().unwrap_or_default();
        let text = format!(
            "function `{}`: {count}; the first: {first}",
            checked.function
        );
        escaped(&text).into_owned()
    });
    let problems: Vec<String> = problems.collect();
    match problems.is_empty() {
        true => "everything fits".to_owned(),
        false => format!(
            "the columns fit, but not all rows:\n{}",
            problems.join("\n")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fits_only_if_all_rows_could_be_read() {
        let check = |of, unreadable, wanted: &str| {
            let checked = Checked {
                function: "f".to_owned(),
                rows: 3,
                of,
                row_errors: 0,
                unreadable,
                first_unreadable: (unreadable > 0).then(|| "a.csv:2: `x` is wrong".to_owned()),
            };
            let found = verdict(&[checked]);
            assert!(found.contains(wanted), "{found}");
            assert_eq!(unreadable == 0, found == "everything fits", "{found}");
        };
        check(SOURCE, 0, "everything fits");
        check("made-up data", 0, "everything fits");
        check(
            SOURCE,
            1,
            "function `f`: 1 of the first rows of its source cannot be read; the first: a.csv:2: `x` is wrong",
        );
        check("made-up data", 2, "no row of its source can be read");
    }
}
