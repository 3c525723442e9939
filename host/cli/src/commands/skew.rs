//! `wafer skew`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use wafer_core::Timestamp;
use wafer_platform::{Progress, ReleaseSkew, SkewReport, SkewRequest, ValueSkew};

use super::{CommandContext, interval};
use crate::app;
use crate::output::{Bar, table, thousands};

/// Compare what an endpoint logged with what a training set would have.
///
/// Each logged request is joined again, as of its time, with the tables as they are now, and
/// passed to the same functions and the same model. A value that differs although it was made
/// of the same row, or of the same events, is a mismatch. There should be none, and with one
/// the exit code is 1. Differences in timing, when a value was made of another row or of other
/// events, such as one that had not arrived yet, are counted apart.
///
/// Examples:
///   wafer skew late_arrival
///   wafer skew late_arrival --from 2013-03-01 --to 2013-04-01
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct Skew {
    /// The endpoint
    endpoint: String,

    /// Compare requests from this time on; default: all
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    from: Option<Timestamp>,

    /// Compare requests before this time; default: all
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    to: Option<Timestamp>,

    /// Memory that the join may use; what does not fit is written to temporary files
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = super::size)]
    memory: u64,
}

impl Skew {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let interval = interval(self.from, self.to)?;
        let project = context.project()?;
        let platform = app::open_to_read(&project, None).await?;
        let bar = Arc::new(Bar::new(&self.endpoint));
        let progress = Arc::clone(&bar) as Arc<dyn Progress>;
        let request = SkewRequest {
            endpoint: self.endpoint,
            interval,
            memory: self.memory,
        };
        let report = platform.skew(&request, &progress).await;
        bar.finish();
        let report = report?;
        context.format.print(&report, || text(&report));
        Ok(match report.mismatches {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

fn text(report: &SkewReport) -> String {
    let releases = report.releases.iter();
    let mut parts: Vec<String> = releases.map(release_text).collect();
    let compared = match report.rows {
        1 => "1 row compared".to_owned(),
        rows => format!("{} rows compared", thousands(rows)),
    };
    let mut result = match report.mismatches {
        0 => format!("{compared}: every value that was made of the same rows and events is equal"),
        count => format!(
            "{compared}: {} values differ although they were made of the same rows and events",
            thousands(count)
        ),
    };
    let values = report.releases.iter().flat_map(|release| &release.values);
    let timing: u64 = values.map(|value| value.timing).sum();
    if timing > 0 {
        result += &format!(
            "; {} values differ because other rows or events are found now than when they were served",
            thousands(timing)
        );
    }
    parts.push(result);
    parts.join("\n\n")
}

fn release_text(skew: &ReleaseSkew) -> String {
    let ReleaseSkew {
        release,
        table: log,
        rows,
        from,
        to,
        ..
    } = skew;
    let mut text = format!(
        "release {release}: {} rows from {from} to {to}, logged to {log}\n",
        thousands(*rows)
    );
    for (alias, others) in skew.other_identity.iter().filter(|(_, rows)| **rows > 0) {
        text += &format!(
            "{alias}: for {} rows another row or other events are found now than were served\n",
            thousands(*others)
        );
    }
    let values = skew.values.iter();
    let others: Vec<_> = values
        .filter(|value| value.mismatches + value.timing > 0)
        .map(value_row)
        .collect();
    match others.is_empty() {
        true => {
            text + &format!(
                "all {} features and predictions are equal",
                skew.values.len()
            )
        }
        false => text + &table(&["value", "mismatches", "timing", "for example"], &others),
    }
}

fn value_row(value: &ValueSkew) -> Vec<String> {
    let example = value.examples.first().map(|example| {
        format!(
            "{} row {} at {}: {} logged, {} now",
            example.request, example.row, example.time, example.logged, example.offline
        )
    });
    vec![
        value.name.clone(),
        thousands(value.mismatches),
        thousands(value.timing),
        example.unwrap_or_default(),
    ]
}
