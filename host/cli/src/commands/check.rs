//! `wafer check`.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use wafer_config::resolve;
use wafer_core::DataType;
use wafer_platform::{CHECK_ROWS, GoLive, SourceKind, SourceReader, check_function};

use super::Context;
use crate::output::{say, table};
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
}

impl Check {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode> {
        let project = context.project()?;
        if self.build {
            build::build_project(&project)?;
        }
        // The definitions are applied to stores of their own, which are removed at the end.
        let scratch = Scratch::new()?;
        let mut scratch_project = project.clone();
        scratch_project.store.path = scratch.0.clone();
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
                    // The rows of a Delta table are read by runs only.
                    let is_delta = matches!(source.kind, SourceKind::Delta { .. });
                    source.files.as_ref().filter(|_| !is_delta).map(|_| {
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
            let report = tokio::task::spawn_blocking(move || {
                let rows = source
                    .map(|source| source.first_rows(CHECK_ROWS))
                    .transpose()?;
                check_function(&function, rows.flatten())
            })
            .await??;
            checked.push(Checked {
                function: name.clone(),
                rows: report.rows,
                of: if report.real {
                    "its source"
                } else {
                    "made-up data"
                },
                row_errors: report.row_errors,
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
            table(&["function", "rows", "of", "row errors"], &rows) + "\neverything fits"
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// A temporary folder, which is removed when this is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("wafer-check-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An error is ignored, because the system cleans its folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
