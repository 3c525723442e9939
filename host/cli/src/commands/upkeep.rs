//! `wafer tables`, `wafer export`, `wafer compact`, `wafer heal`, `wafer delete` and
//! `wafer materialize`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use wafer_core::{Duration, Timestamp, bytes_text};
use wafer_platform::{ExportRequest, ExportTo};

use super::{CommandContext, LabelFiles, NOTHING, check_output, until_interrupted};
use crate::app::{self, ClockOption};
use crate::named_values::named_values;
use crate::output::{RowFormat, path_text, standard_output, table, thousands};

/// List the offline tables with their versions, files, rows and sizes.
#[derive(Debug, clap::Args)]
pub(crate) struct Tables {}

impl Tables {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open_to_read(&context.project()?, None).await?;
        let tables = platform.pipelines().upkeep().tables().await?;
        context.format.print(&tables, || {
            if tables.is_empty() {
                return "no tables yet; make them with `wafer apply`".to_owned();
            }
            let rows: Vec<_> = tables
                .iter()
                .map(|table| {
                    vec![
                        table.table.clone(),
                        table.version.to_string(),
                        thousands(table.files as u64),
                        bytes_text(table.bytes),
                        thousands(table.rows),
                        table.entities.map_or_else(String::new, thousands),
                        table.pinned.len().to_string(),
                    ]
                })
                .collect();
            let header = [
                "table", "version", "files", "size", "rows", "online", "pinned",
            ];
            self::table(&header, &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the rows of an offline table to one file, or to the standard output.
///
/// The format is Parquet, CSV, NDJSON or Arrow, by the extension of the file. To the standard
/// output, which is written `-`, rows go as CSV, or as --format says, unless it is a terminal:
/// `wafer show` looks at rows there. The tables are Delta tables, which other tools can also read
/// directly. An export that is interrupted leaves no file.
///
/// Examples:
///   wafer export scheduled_flight_v1 --out labels.parquet
///   wafer export airport_weather_v1 --out weather.csv --columns faa,event_timestamp,temperature_c
///   wafer export airport_weather_v1 --out - --limit 1000 | head
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct Export {
    /// The table
    table: String,

    /// File to write; `-` is the standard output
    #[arg(value_name = "FILE", required_unless_present = "out")]
    to: Option<PathBuf>,

    /// File to write, as an option
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    out: Option<PathBuf>,

    /// Columns to write; default: all
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Option<Vec<String>>,

    /// Greatest number of rows; default: all
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Format of the standard output: csv, ndjson, arrow or parquet; default: csv
    #[arg(long, value_name = "FORMAT")]
    format: Option<RowFormat>,

    /// Use the version of the table at this time, by the machine's clock
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    as_of: Option<Timestamp>,
}

impl Export {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let out = self.to.or(self.out).expect("clap requires one");
        let is_standard = out.as_os_str() == "-";
        let to = export_to(&out, self.format)?;
        let project = context.project()?;
        let platform = app::open_to_read(&project, None).await?;
        if !is_standard {
            // Labels are made by exports, again and again. Those that a source reads as well stay.
            check_output(&project, &platform, &out, LabelFiles::Writable)?;
        }
        let request = ExportRequest {
            table: self.table.clone(),
            columns: self.columns,
            as_of: self.as_of,
            limit: self.limit,
        };
        let left = match is_standard {
            true => "the output is not complete",
            false => NOTHING,
        };
        let rows = until_interrupted(left, async {
            Ok(platform.training().export(request, to).await?)
        });
        let rows = rows.await?;
        if is_standard {
            return Ok(ExitCode::SUCCESS);
        }
        let answer = serde_json::json!({"table": self.table, "rows": rows});
        context.format.print(&answer, || {
            format!("{}: {} rows", path_text(&out), thousands(rows))
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns where the rows go, in which format.
fn export_to(out: &Path, format: Option<RowFormat>) -> Result<ExportTo> {
    if out.as_os_str() != "-" {
        anyhow::ensure!(
            format.is_none(),
            "--format is for the standard output: the extension of {} is its format",
            path_text(out)
        );
        return Ok(ExportTo::Path(out.to_owned()));
    }
    let format = format.unwrap_or(RowFormat::Csv).of_file();
    let format = format.context(
        "--format table is for `wafer show`: an export is csv, ndjson, arrow or parquet",
    )?;
    Ok(ExportTo::Opened(standard_output()?, format))
}

/// Merge small files of the offline tables, and remove old ones.
///
/// The merged files are sorted by key and time. Files that only versions older than the
/// horizon need are removed, unless a training set needs them. Servers and runs may go
/// on at the same time.
///
/// Examples:
///   wafer compact
///   wafer compact airport_weather_v1 --horizon 30d
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Compact {
    /// The table; default: all tables
    table: Option<String>,

    /// How long old versions stay readable
    #[arg(long, default_value = "7d", value_name = "DURATION")]
    horizon: Duration,
}

impl Compact {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open(&context.project()?, None).await?;
        let reports = platform
            .pipelines()
            .upkeep()
            .compact(self.table.as_deref(), self.horizon)
            .await?;
        context.format.print(&reports, || {
            let rows: Vec<_> = reports
                .iter()
                .map(|report| {
                    vec![
                        report.table.clone(),
                        thousands(report.merged as u64),
                        thousands(report.written as u64),
                        thousands(report.removed as u64),
                    ]
                })
                .collect();
            table(&["table", "merged", "into", "removed"], &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Accept the events of a group that came too late after all.
///
/// They count from now on: online at once, and in training sets for labels from now
/// on.
#[derive(Debug, clap::Args)]
pub(crate) struct Heal {
    /// The group
    group: String,

    /// Clock to use instead of the machine's; it decides from when on the events are visible
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Heal {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open(&context.project()?, self.clock).await?;
        let report = platform.pipelines().upkeep().heal(&self.group).await?;
        context.format.print(&report, || {
            format!(
                "{}: {} late rows healed",
                self.group,
                thousands(report.healed)
            )
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Delete everything that is stored of an entity, and record the deletion.
///
/// Facts from before the deletion are not accepted again. Versions of tables that
/// training sets need still have rows of the entity, and so do the labels of these sets:
/// delete the sets with `wafer training-sets`, then run `wafer compact --horizon 0s`. The
/// files of sources are not changed.
///
/// Examples:
///   wafer delete plane tailnum=N725MQ
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Delete {
    /// The kind of the entity
    entity: String,

    /// Join keys of the entity
    #[arg(required = true, value_name = "KEY=VALUE")]
    keys: Vec<String>,

    /// Clock to use instead of the machine's; it decides the time of the deletion
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Delete {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open(&context.project()?, self.clock).await?;
        let definitions = platform.context().definitions();
        let group = definitions
            .groups
            .values()
            .find(|g| g.entity == self.entity);
        let keys = named_values(&self.keys, "KEY=VALUE", |name| {
            let key = group?.keys.iter().find(|key| key.name == name)?;
            Some(&key.data_type)
        })?;
        let keys: BTreeMap<_, _> = keys.into_iter().collect();
        let deletion = platform
            .pipelines()
            .entity_deleter()
            .delete_entity(&self.entity, &keys)
            .await?;
        context.format.print(&deletion, || {
            let rows: Vec<_> = deletion
                .rows
                .iter()
                .map(|(table, rows)| vec![table.clone(), thousands(*rows)])
                .collect();
            table(&["table", "rows deleted"], &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// Replace the rows of a group in the online store by those of its offline table.
#[derive(Debug, clap::Args)]
pub(crate) struct Materialize {
    /// The group
    group: String,

    /// Clock to use instead of the machine's; it decides which rows are due
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Materialize {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open(&context.project()?, self.clock).await?;
        let made = platform
            .pipelines()
            .materializer()
            .materialize_group(&self.group)
            .await?;
        context.format.print(&made, || {
            format!(
                "{}: {} entities from {} rows",
                self.group,
                thousands(made.entities),
                thousands(made.rows)
            )
        });
        Ok(ExitCode::SUCCESS)
    }
}
