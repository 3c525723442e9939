//! `wafer drop`.

use std::process::ExitCode;

use anyhow::Result;
use wafer_core::bytes_text;
use wafer_platform::{DroppedTable, TableUse};

use super::CommandContext;
use crate::app;
use crate::output::{table, thousands};

/// Drop tables that nothing uses any more, or list what uses each table.
///
/// A table is dropped with its rows online and with all its versions; this cannot be undone.
/// Tables are in use that the live or staged definitions write, that a training set was made
/// of, or that an endpoint reads. Nothing is dropped if one of the named tables is in use. The
/// number of a version of a group that was dropped is not used again.
///
/// Examples:
///   wafer drop
///   wafer drop last_ride@1
///   wafer drop rides_events last_ride_v1_quarantine
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Drop {
    /// Tables, or versions of groups with all their tables; default: list all tables
    #[arg(value_name = "TABLE|GROUP@VERSION")]
    tables: Vec<String>,
}

impl Drop {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        if self.tables.is_empty() {
            return list(context).await;
        }
        let platform = app::open(&context.project()?, None).await?;
        let dropped = platform.drop_tables(&self.tables).await?;
        context.format.print(&dropped, || {
            let row = |table: &DroppedTable| vec![table.table.clone(), thousands(table.rows)];
            let rows: Vec<_> = dropped.iter().map(row).collect();
            table(&["dropped", "rows"], &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(context: &CommandContext) -> Result<ExitCode> {
    let platform = app::open_to_read(&context.project()?, None).await?;
    let tables = platform.table_uses().await?;
    context.format.print(&tables, || {
        if tables.is_empty() {
            return "no tables yet; make them with `wafer apply`".to_owned();
        }
        let row = |table: &TableUse| {
            let users = match table.used_by.is_empty() {
                true => "nothing".to_owned(),
                false => table.used_by.join(", "),
            };
            vec![
                table.table.clone(),
                thousands(table.rows),
                bytes_text(table.bytes),
                users,
            ]
        };
        let rows: Vec<_> = tables.iter().map(row).collect();
        table(&["table", "rows", "size", "used by"], &rows)
    });
    Ok(ExitCode::SUCCESS)
}
