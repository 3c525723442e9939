//! `wafer show`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use wafer_core::{Condition, cut_to};
use wafer_platform::{
    HiddenColumn, HiddenReason, ShowBounds, ShowRequest, ShowTarget, ShownRows, show_files,
};

use super::CommandContext;
use crate::app;
use crate::output::{self, RowFormat, say, table, thousands};

/// The greatest number of bytes of a cell in a table on the terminal.
const CELL_BYTES: usize = 60;

/// Show some rows of a source, a group, a view, an offline table or a file.
///
/// Of a view, the feature vectors of its entities as of now are shown. The entities are those of
/// the group with the most inputs of the view as join keys, in the order of its table. Other
/// inputs, and the features that need them, are left out and named: only a request knows them. Of
/// anything else, the rows are shown in the order in which they are stored, with all their columns;
/// of a source, as the functions over it read them. On a terminal the result is a table, in which
/// long values are cut; elsewhere it is CSV, or what --format says. Rows that cannot be read are
/// named on standard error.
///
/// If several things have one name, write source:NAME, group:NAME, view:NAME or table:NAME. A
/// name with a slash, a dot or a star is that of files, for which no project is needed.
///
/// Examples:
///   wafer show rides.csv
///   wafer show last_ride --where "speed_kmh > 30" --columns driver_id,speed_kmh
///   wafer show source:flights --limit 5
///   wafer show last_ride_v1_quarantine
///   wafer show driver --limit 1000 --format arrow > vectors.arrows
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
    /// The source, group, view, table or file
    #[arg(value_name = "SOURCE|GROUP|VIEW|TABLE|FILE")]
    what: String,

    /// Show only rows that fulfil this: COLUMN = VALUE (or !=, <, <=, >, >=), COLUMN is null, or
    /// COLUMN is not null; several must all be fulfilled
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,

    /// Columns to show; default: all
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Option<Vec<String>>,

    /// Greatest number of rows, at most 10,000
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,

    /// Format of the rows; default: a table on a terminal, which takes no other, and CSV elsewhere
    #[arg(long, value_name = "FORMAT")]
    format: Option<RowFormat>,
}

impl Show {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let request = ShowRequest {
            conditions: self.conditions,
            columns: self.columns,
            limit: self.limit,
            bounds: ShowBounds::default(),
        };
        let shown = match ShowTarget::parse(&self.what) {
            Some(ShowTarget::Files(path)) => {
                show_files(&path, app::remote_files(), &request).await?
            }
            _ => {
                let platform = app::open_to_read(&context.project()?, None).await?;
                let at = platform.what_is(&self.what).await?;
                platform.show(at, &request).await?
            }
        };
        say_what_is_missing(&shown);
        let is_terminal = std::io::stdout().is_terminal();
        match (context.format, self.format) {
            (output::OutputFormat::Json, _) => context.format.print(&shown, String::new),
            (_, Some(RowFormat::Table)) => output::line(rows_text(&shown)),
            (_, None) if is_terminal => output::line(rows_text(&shown)),
            (_, format) => {
                let format = format.and_then(RowFormat::of_file);
                let format = format.unwrap_or(wafer_platform::Format::Csv);
                let out = output::standard_output()?;
                tokio::task::block_in_place(|| shown.write(out, "standard output", format))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn rows_text(shown: &ShownRows) -> String {
    let header: Vec<&str> = shown.fields.iter().map(|f| f.name.as_str()).collect();
    let mut rows = shown.texts();
    for cell in rows.iter_mut().flatten() {
        *cell = cut_to(std::mem::take(cell), CELL_BYTES);
    }
    table(&header, &rows)
}

/// Says on standard error what the rows do not show.
fn say_what_is_missing(shown: &ShownRows) {
    for reject in &shown.rejects {
        say(format!("{}: {}", reject.place, reject.message));
    }
    let unnamed = shown.rejected - shown.rejects.len() as u64;
    if unnamed > 0 {
        say(format!("{} more rows cannot be read", thousands(unnamed)));
    }
    for HiddenColumn { name, reason } in &shown.left_out {
        if let HiddenReason::Type(_) = reason {
            say(format!("column `{name}` is left out: it {reason}"));
        }
    }
    if let Some(text) = unknown_inputs_text(&shown.left_out) {
        say(text);
    }
    if shown.waiting > 0 {
        say(format!(
            "{} rows are durable and not in the table yet: a running server appends them within seconds, and \
             `wafer training-set` and `wafer push` do",
            thousands(shown.waiting)
        ));
    }
    if shown.has_more {
        say(format!(
            "there are more than these {} rows; see --limit",
            thousands(shown.rows.num_rows() as u64)
        ));
    }
}

/// Says which inputs of a view are known in requests only, and which features need them; `None` if
/// there are none.
fn unknown_inputs_text(left_out: &[HiddenColumn]) -> Option<String> {
    let names = |is_wanted: fn(&HiddenReason) -> bool| {
        let names = left_out.iter().filter(|column| is_wanted(&column.reason));
        let names: Vec<String> = names.map(|column| format!("`{}`", column.name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let inputs = names(|reason| matches!(reason, HiddenReason::Request))?;
    let features = names(|reason| matches!(reason, HiddenReason::Needs(_)));
    let features = features.map_or_else(String::new, |features| {
        format!(", and the features that need them: {features}")
    });
    Some(format!(
        "left out are the inputs that only a request knows: {inputs}{features}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_only_a_request_knows_are_named_with_the_features_that_need_them() {
        let left_out = |name: &str, reason| HiddenColumn {
            name: name.to_owned(),
            reason,
        };
        let stored = left_out("m", HiddenReason::Type("Map".to_owned()));
        let input = |name| left_out(name, HiddenReason::Request);
        let feature = |name| left_out(name, HiddenReason::Needs(vec!["rate".to_owned()]));
        let inputs = "left out are the inputs that only a request knows: ";
        for (left_out, wanted) in [
            (vec![], None),
            (vec![stored], None),
            (vec![input("rate")], Some("`rate`".to_owned())),
            (
                vec![input("rate"), input("to"), feature("x"), feature("y")],
                Some("`rate`, `to`, and the features that need them: `x`, `y`".to_owned()),
            ),
        ] {
            let wanted = wanted.map(|wanted| format!("{inputs}{wanted}"));
            assert_eq!(unknown_inputs_text(&left_out), wanted);
        }
    }
}
