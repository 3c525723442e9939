//! `wafer check`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wafer_config::{Project, resolve};
use wafer_core::{DataType, Field, escaped};
use wafer_platform::{
    CHECK_ROWS, CheckReport, Definitions, FirstRows, GoLive, Platform, ProjectFunction, Reject,
    check_function, check_listed, missing_files, temporary_folder,
};

use super::CommandContext;
use super::apply::{columns_of_files, warn};
use crate::output::{say, table, thousands};
use crate::{app, build};

/// Check a project without writing anything.
///
/// Reads wafer.toml, loads the components that were built, checks that the columns
/// fit from source to view, lists the files of all sources on this machine, reads the
/// first rows of every source as its pipelines do, and calls every function on the
/// same rows at once, in parts and in another order: an output row may depend on its
/// own input row only.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Build the functions first
    #[arg(long)]
    build: bool,
}

/// What is checked at once: a function on the rows of a source, or what a pipeline without one
/// reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct CheckSubject {
    /// The function that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// The source whose rows are read. A function that no pipeline calls has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The pipelines that read the source so.
    pipelines: Vec<String>,
}

/// What a check found.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    subject: CheckSubject,
    rows: usize,
    /// Where the rows came from.
    of: &'static str,
    row_errors: usize,
    /// The first of them, and why the function refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_row_error: Option<String>,
    /// The number of rows of the source that could not be read.
    unreadable: u64,
    /// Where the first of them is, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_unreadable: Option<String>,
    /// Why no row of the source was looked at, although there should be some.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
    /// Why only a run reads the source, if that is so. That is how it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_to_runs: Option<&'static str>,
}

const SOURCE: &str = "its source";
const MADE_UP: &str = "made-up data";
const NOTHING: &str = "nothing";

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
        for subject in subjects(&definitions) {
            checked.push(check_one(&platform, subject).await?);
        }
        context.format.print(&checked, || text(&checked));
        Ok(match checked.iter().any(Checked::has_no_readable_row) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

/// Returns what is checked of a project: each function with each source that it is called on, and
/// then the pipelines without a function.
fn subjects(definitions: &Definitions) -> Vec<CheckSubject> {
    let mut called: BTreeMap<(String, Option<String>), Vec<String>> = BTreeMap::new();
    let mut others = Vec::new();
    for (name, pipeline) in &definitions.pipelines {
        let (source, pipelines) = (Some(pipeline.source.clone()), vec![name.clone()]);
        match pipeline.made_by.function() {
            Some(function) => {
                let key = (function.clone(), source);
                called.entry(key).or_default().extend(pipelines);
            }
            None => others.push(CheckSubject {
                function: None,
                source,
                pipelines,
            }),
        }
    }
    for function in definitions.functions.keys() {
        if !called.keys().any(|(called, _)| called == function) {
            called.insert((function.clone(), None), Vec::new());
        }
    }
    let called = called.into_iter();
    let called = called.map(|((function, source), pipelines)| CheckSubject {
        function: Some(function),
        source,
        pipelines,
    });
    called.chain(others).collect()
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

/// Reads the first rows of a source, and calls the function on them, or on made-up rows if there
/// are none.
async fn check_one(platform: &Platform, subject: CheckSubject) -> Result<Checked> {
    let sources = platform.pipelines().sources();
    let mut first = match subject.pipelines.first() {
        Some(pipeline) => sources.first_rows(pipeline, CHECK_ROWS).await?,
        None => FirstRows::default(),
    };
    let report = match &subject.function {
        Some(function) => call(platform, function, &mut first).await?,
        None => CheckReport {
            rows: first.rows,
            real: first.rows > 0,
            ..CheckReport::default()
        },
    };
    let place = |Reject { place, message }| format!("{place}: {message}");
    Ok(Checked {
        rows: report.rows,
        of: match report.real {
            true => SOURCE,
            false if report.rows > 0 => MADE_UP,
            false => NOTHING,
        },
        row_errors: report.row_errors,
        first_row_error: report.first_row_error,
        unreadable: first.unreadable,
        first_unreadable: first.reject.map(place),
        unread: first.unread,
        left_to_runs: first.left_to_runs,
        subject,
    })
}

/// Calls a function on rows, or on made-up ones if there are none and its types allow that.
async fn call(platform: &Platform, name: &str, first: &mut FirstRows) -> Result<CheckReport> {
    let rows = first.columns.take();
    let function = platform.context().function(name)?;
    let inputs = &function.signature().inputs;
    let is_opaque = |field: &Field| matches!(field.data_type, DataType::Arrow(_));
    if rows.is_none() && inputs.fields().iter().any(is_opaque) {
        say(format!(
            "function `{name}` was not called, because there are no rows to call it on"
        ));
        return Ok(CheckReport::default());
    }
    let report = tokio::task::spawn_blocking(move || check_function(&function, rows));
    Ok(report.await??)
}

/// Returns the results as a table, and below it what the check found.
fn text(checked: &[Checked]) -> String {
    let rows: Vec<_> = checked
        .iter()
        .map(|c| {
            vec![
                c.subject.name(),
                c.subject.source.clone().unwrap_or_default(),
                c.rows.to_string(),
                c.of.to_owned(),
                c.row_errors.to_string(),
            ]
        })
        .collect();
    let header = ["checked", "source", "rows", "of", "row errors"];
    let errors = checked.iter().filter_map(Checked::first_row_error);
    let errors: String = errors.map(|error| error + "\n").collect();
    format!("{}\n{errors}{}", table(&header, &rows), verdict(checked))
}

impl CheckSubject {
    /// Returns what is named in messages.
    fn name(&self) -> String {
        match &self.function {
            Some(function) => format!("function `{function}`"),
            None => format!("pipeline `{}`", self.pipelines.join("`, `")),
        }
    }
}

impl Checked {
    /// Returns whether there are rows in its source, and none of them can be read.
    fn has_no_readable_row(&self) -> bool {
        self.unreadable > 0 && self.of != SOURCE
    }

    /// Returns the first error of a row. That a function refuses rows may be as it should be.
    fn first_row_error(&self) -> Option<String> {
        let error = self.first_row_error.as_ref()?;
        let said = format!("the first row error of {}: {error}", self.subject.name());
        Some(escaped(&said).into_owned())
    }

    /// Returns what is not as it should be, or not known.
    fn problem(&self) -> Option<String> {
        let source = self.subject.source.as_deref()?;
        let problem = match (&self.unread, self.unreadable) {
            (Some(why), _) => format!("no row of source `{source}` was read: {why}"),
            (None, 0) => return None,
            (None, unreadable) => {
                let count = match self.has_no_readable_row() {
                    true => format!("no row of source `{source}` can be read"),
                    false => format!(
                        "{} of the first rows of source `{source}` cannot be read",
                        thousands(unreadable)
                    ),
                };
                let first = self.first_unreadable.as_deref().unwrap_or_default();
                format!("{count}; the first: {first}")
            }
        };
        Some(escaped(&format!("{}: {problem}", self.subject.name())).into_owned())
    }
}

/// Returns what the check found, in a line for each problem.
fn verdict(checked: &[Checked]) -> String {
    let problems: Vec<String> = checked.iter().filter_map(Checked::problem).collect();
    let is_read = checked.iter().all(|checked| checked.unreadable == 0);
    match (problems.is_empty(), is_read) {
        (true, _) => "everything fits".to_owned(),
        (false, true) => format!(
            "the columns fit, but not all sources were read:\n{}",
            problems.join("\n")
        ),
        (false, false) => format!(
            "the columns fit, but not all rows:\n{}",
            problems.join("\n")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(of: &'static str, unreadable: u64, unread: Option<&str>) -> Checked {
        let source = of != MADE_UP || unreadable > 0 || unread.is_some();
        Checked {
            subject: CheckSubject {
                function: Some("f".to_owned()),
                source: source.then(|| "s".to_owned()),
                pipelines: Vec::new(),
            },
            rows: 3,
            of,
            row_errors: 0,
            first_row_error: None,
            unreadable,
            first_unreadable: (unreadable > 0).then(|| "a.csv:2: `x` is wrong".to_owned()),
            unread: unread.map(str::to_owned),
            left_to_runs: None,
        }
    }

    #[test]
    fn everything_fits_only_if_rows_of_all_sources_were_read_and_all_of_them_can_be() {
        for (one, wanted) in [
            (checked(SOURCE, 0, None), "everything fits"),
            // It is called in requests alone.
            (checked(MADE_UP, 0, None), "everything fits"),
            (
                Checked {
                    left_to_runs: Some("it is the table of a group"),
                    ..checked(NOTHING, 0, None)
                },
                "everything fits",
            ),
            (
                checked(SOURCE, 1, None),
                "function `f`: 1 of the first rows of source `s` cannot be read; the first: a.csv:2: `x` is wrong",
            ),
            (
                checked(MADE_UP, 2, None),
                "no row of source `s` can be read; the first: a.csv:2",
            ),
            (
                checked(MADE_UP, 0, Some("there are no files")),
                "the columns fit, but not all sources were read:\n\
                 function `f`: no row of source `s` was read: there are no files",
            ),
            (
                checked(NOTHING, 0, Some("it has no rows")),
                "function `f`: no row of source `s` was read: it has no rows",
            ),
        ] {
            let fits = wanted == "everything fits";
            let found = verdict(&[checked(SOURCE, 0, None), one]);
            assert!(found.contains(wanted), "{found}");
            assert_eq!(fits, found == "everything fits", "{found}");
        }
    }

    #[test]
    fn every_pipeline_is_checked_and_rows_that_are_read_alike_once() {
        let pipeline = |source: &str, made_by: &str, what: serde_json::Value| json!({"source": source, made_by: what, "group": "g", "doc": ""});
        let definitions = json!({"pipelines": {
            "a": pipeline("s", "function", json!("f")),
            "b": pipeline("s", "columns", json!([])),
            "c": pipeline("s", "function", json!("f")),
            "d": pipeline("t", "function", json!("f")),
            "e": pipeline("s", "columns", json!([])),
        }});
        let definitions: Definitions = serde_json::from_value(definitions).unwrap();
        let subject = |function: Option<&str>, source: &str, pipelines: &[&str]| CheckSubject {
            function: function.map(str::to_owned),
            source: Some(source.to_owned()),
            pipelines: pipelines.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            subjects(&definitions),
            [
                subject(Some("f"), "s", &["a", "c"]),
                subject(Some("f"), "t", &["d"]),
                subject(None, "s", &["b"]),
                subject(None, "s", &["e"]),
            ]
        );
    }
}
