//! `wafer check`.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wafer_config::resolve;
use wafer_core::{DataType, escaped};
use wafer_platform::{
    CHECK_ROWS, Error, GoLive, Reject, SourceReader, check_function, temporary_folder,
};

use super::Context;
use crate::output::{say, table, thousands};
use crate::{app, build};

/// Check a project without writing anything.
///
/// Reads wafer.toml, loads the components that were built, checks that the columns
/// fit from source to view, and calls every function on the same rows at once, in
/// parts and in another order: an output row may depend on its own input row only.
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
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode> {
        let project = context.project()?;
        if self.build {
            build::build_project(&project)?;
        }
        // The definitions are applied to stores of their own, which are removed at the end.
        let scratch = temporary_folder()?;
        let mut scratch_project = project.clone();
        scratch_project.store.path = scratch.path().to_owned();
        scratch_project.store.cloud = None;
        app::check_stores(&project)?;
        let platform = app::open(&scratch_project, None).await?;
        let mut specs = build::specs(&project)?;
        if specs.iter().any(|function| !function.fitted.is_empty()) {
            // Fitted artifacts are versions of models, which only the project's own stores have.
            let registry = app::open(&project, None).await?;
            let mut complete = Vec::new();
            for function in specs {
                complete.push(registry.with_fitted(function).await?);
            }
            specs = complete;
        }
        let functions = platform.register(specs).await?;
        let columns = super::apply::columns_of_files(&project, &platform).await?;
        let live = platform.context().definitions();
        let definitions = resolve(&project, functions, &columns, &live)?;
        platform.apply(definitions.clone(), GoLive::AtOnce).await?;

        let mut checked = Vec::new();
        for name in definitions.functions.keys() {
            let function = platform.context().function(name)?;
            let inputs = function.signature().inputs.clone();
            let source = definitions
                .pipelines
                .values()
                .find(|p| p.made_by.function() == Some(name))
                .and_then(|p| {
                    let source = &definitions.sources[&p.source];
                    // The rows of a table are read by runs only.
                    let is_read = source.kind.reads_files_one_by_one();
                    source.files.as_ref().filter(|_| is_read).map(|_| {
                        let remote = &platform.context().components().remote;
                        SourceReader::open(source, &p.source, inputs.fields(), remote)
                    })
                });
            let source = source.transpose()?;
            let opaque = inputs
                .fields()
                .iter()
                .any(|f| matches!(f.data_type, DataType::Arrow(_)));
            if source.is_none() && opaque {
                say(format!(
                    "function `{name}` was not called, because there are no rows to call it on"
                ));
                continue;
            }
            let (report, first) = tokio::task::spawn_blocking(move || {
                let first = source.map(|source| source.first_rows(CHECK_ROWS));
                let mut first = first.transpose()?.unwrap_or_default();
                let report = check_function(&function, first.columns.take())?;
                Ok::<_, Error>((report, first))
            })
            .await??;
            checked.push(Checked {
                function: name.clone(),
                rows: report.rows,
                of: if report.real { SOURCE } else { "made-up data" },
                row_errors: report.row_errors,
                unreadable: first.unreadable,
                first_unreadable: first
                    .reject
                    .map(|Reject { place, message }| format!("{place}: {message}")),
            });
        }
        context.format.print(&checked, || {
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
            format!("{}\n{}", table(&header, &rows), verdict(&checked))
        });
        Ok(match checked.iter().any(Checked::has_no_readable_row) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
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
