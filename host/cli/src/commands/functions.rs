//! `wafer functions`.

use std::process::ExitCode;

use anyhow::Result;
use wafer_core::{Field, Mapping, escaped};

use super::CommandContext;
use crate::app;
use crate::output::indented;

/// List the applied functions and their signatures.
///
/// Of each function: its name, the digest that it is known by, how many rows it makes of one,
/// its documentation, and its columns with their types. A type with a `?` has nulls. Views and
/// models take functions that make one row of each; pipelines take all.
///
/// Examples:
///   wafer functions
///   wafer functions ride_features --output json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Functions {
    /// List only this function
    function: Option<String>,
}

impl Functions {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open_to_read(&project, None).await?;
        let mut functions = platform.context().definitions().functions.clone();
        if let Some(wanted) = &self.function {
            functions.retain(|name, _| name == wanted);
            anyhow::ensure!(
                !functions.is_empty(),
                "there is no function `{wanted}`; see `wafer functions`"
            );
        }
        context.format.print(&functions, || {
            if functions.is_empty() {
                return "no functions yet; make them live with `wafer apply`".to_owned();
            }
            let texts = functions.iter().map(|(name, def)| {
                let signature = &def.registered.signature;
                let mapping = match signature.mapping {
                    Mapping::OneToOne => "one row out for each row in",
                    Mapping::OneToMany => "any number of rows out for each row in, or none",
                };
                let mut text = format!("{name}  {}  {mapping}\n", def.registered.digest.short());
                if !signature.doc.is_empty() {
                    // The lines of the text are indented further than columns, so that none poses
                    // as a column.
                    text += &format!("    {}\n", indented(&signature.doc));
                }
                text += &fields("in ", signature.inputs.fields());
                text += &fields("out", signature.outputs.fields());
                text
            });
            texts.collect::<Vec<_>>().join("\n").trim_end().to_owned()
        });
        Ok(ExitCode::SUCCESS)
    }
}

fn fields(label: &str, fields: &[Field]) -> String {
    let width = fields.iter().map(|f| f.name.len()).max().unwrap_or(0);
    fields
        .iter()
        .map(|f| {
            let data_type = format!("{}{}", f.data_type, if f.nullable { "?" } else { "" });
            // A comment of several lines becomes one.
            let doc = f.doc.split_whitespace().collect::<Vec<_>>().join(" ");
            format!(
                "  {label} {:width$}  {data_type:12} {}",
                f.name,
                escaped(&doc)
            )
            .trim_end()
            .to_owned()
                + "\n"
        })
        .collect()
}
