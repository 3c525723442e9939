//! Backfills: fill a group with history, interval by interval, in as few passes over the source
//! as possible.
//!
//! A backfill splits a span of time into intervals and runs up to 32 of them in one pass over
//! the source, each with its own claim and commit. Many intervals with few rows are combined into
//! pieces (`backfill/pieces.rs`), of which each is claimed, committed and replaced as one interval,
//! so that there are not more commits and files than the data deserves. The online store is updated
//! once, at the end, from the offline table. If the project has a staged version of the group, the
//! backfill fills that version, and the staged definitions become live once all staged tables are
//! filled. `staging.rs` says why nothing is missing then. A backfill can be stopped and repeated at
//! any time: intervals whose inputs did not change are skipped.

mod pieces;

use std::sync::Arc;

use serde::Serialize;
use wafer_catalog::{BackfillEstimate, Context, Definitions, Generation, Progress, Ticks, get};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Result};

use crate::backfill::pieces::Piece;
use crate::materialize::Materializer;
use crate::run::job::{Job, OnlineUpdate};
use crate::run::lease::run_lease;
use crate::run::{RequestedRun, RunRequest, Runs};
use crate::staging::Staging;

/// The number of pieces that one pass over the source writes. Each piece keeps rows in memory until
/// they fill a row group of a file.
const PIECES_OF_A_PASS: usize = 32;

/// The number of rows that a pass reads and transforms in a second, for estimates. The functions of
/// the benchmarks are a few times faster; a model may be slower.
const ROWS_PER_SECOND: u64 = 200_000;

/// How long a commit takes, for estimates.
const COMMIT: Duration = Duration::from_micros(50_000);

/// The default length of an interval.
const DAY: Duration = Duration::from_days(1);

/// The largest number of intervals in one backfill.
const MAX_INTERVALS: usize = 100_000;

/// A request to fill a group with history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillRequest {
    /// The name of the pipeline.
    pub pipeline: String,
    /// The first event time to fill.
    pub from: Timestamp,
    /// The end of the event times to fill, exclusive.
    pub to: Timestamp,
    /// The length of an interval. Without it, the intervals are those of the
    /// pipeline's schedule, or days if it has no schedule.
    pub interval: Option<Duration>,
    /// The number of chunks that are transformed concurrently.
    pub workers: usize,
}

/// The report of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackfillReport {
    /// The table that was filled.
    pub table: String,
    /// The number of intervals that the backfill covers.
    pub intervals: usize,
    /// The number of these intervals that were written; the others were up to date.
    pub written: usize,
    /// The number of rows in the intervals that were written.
    pub rows_written: u64,
    /// The number of rows that were rejected and moved to the quarantine table.
    pub rows_rejected: u64,
    /// The number of entities that the group has in the online store, if its online rows were
    /// rebuilt.
    pub entities: Option<u64>,
    /// Whether a staged version of the group became live.
    pub became_live: bool,
    /// The first gap: event times that the live version has rows for and the staged version was
    /// not filled for, or from other inputs than it has now.
    pub missing: Option<Interval>,
}

/// What a backfill fills, and by which definitions.
struct Filling {
    /// The definitions with the version of the group.
    definitions: Arc<Definitions>,
    /// The staged generation of these definitions, which becomes live once its versions are filled.
    /// `None` if they are live.
    staged: Option<Generation>,
    /// The intervals, in order.
    intervals: Vec<Interval>,
    /// The run over all of them.
    run: RunRequest,
}

/// Fills groups with history.
#[derive(Debug)]
pub struct Backfills {
    context: Arc<Context>,
    runs: Arc<Runs>,
    staging: Arc<Staging>,
    materializer: Materializer,
}

impl Backfills {
    pub(crate) fn new(
        context: Arc<Context>,
        runs: Arc<Runs>,
        staging: Arc<Staging>,
        materializer: Materializer,
    ) -> Self {
        Self {
            context,
            runs,
            staging,
            materializer,
        }
    }

    /// Fills a pipeline's group over a span of time: its staged version if there is one, else
    /// the live version. Intervals whose inputs did not change are left as they are, so a
    /// backfill can be stopped and repeated at any time. After all intervals are written, the
    /// group's online rows are rebuilt from the offline table, and a staged version that is
    /// complete becomes live.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown pipeline,
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) for a span that contains no interval, and
    /// the errors of [`Runs::run`].
    pub async fn backfill(
        &self,
        request: &BackfillRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<BackfillReport> {
        // What is wrong with the request is said before anything is waited for.
        self.filling(request)?;
        let lease = run_lease(&self.context, &request.pipeline).await?;
        lease
            .during(self.backfill_under_lease(request, &progress))
            .await
    }

    /// Fills a pipeline's group. The caller must hold the lease of the pipeline, so that no run
    /// writes to a version that is about to be replaced.
    async fn backfill_under_lease(
        &self,
        request: &BackfillRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<BackfillReport> {
        if self.filling(request)?.staged.is_some() {
            progress.stage("waiting until every process writes to the new version");
            self.staging.settle().await?;
        }
        progress.stage("reading the source");
        let filling = self.filling(request)?;
        let Filling {
            definitions,
            intervals,
            run,
            ..
        } = &filling;
        let mut job = self
            .runs
            .jobs
            .job(definitions, run, None, OnlineUpdate::ByCaller)
            .await?;
        let mut report = self.fill(&mut job, intervals, progress).await?;
        let Some(staged) = filling.staged else {
            return Ok(report);
        };
        if run.archive {
            // A process that was suspended for longer than `settle` waits may have committed events
            // since. They are looked for once more.
            job = self
                .runs
                .jobs
                .job(definitions, run, None, OnlineUpdate::ByCaller)
                .await?;
            report = report.with(self.fill(&mut job, intervals, progress).await?);
        }
        report.missing = self.staging.first_missing(&job).await?;
        if report.missing.is_none() {
            report.became_live = self.staging.record_filled(&report.table, staged).await?;
        }
        Ok(report)
    }

    /// Returns what a backfill fills: the staged version of the pipeline's group if there is one,
    /// else the live version.
    fn filling(&self, request: &BackfillRequest) -> Result<Filling> {
        let applied = self.context.applied();
        let table = |definitions: &Definitions| {
            let pipeline = definitions.pipelines.get(&request.pipeline)?;
            Some(definitions.groups[&pipeline.group].table())
        };
        let other = applied
            .staged
            .as_ref()
            .filter(|staged| table(staged) != table(&applied.live));
        let definitions = Arc::clone(other.unwrap_or(&applied.live));
        let staged = applied.pointer.staged.filter(|_| other.is_some());
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?;
        let schedule = pipeline.schedule.as_ref();
        let ticks = schedule
            .map(Ticks::new)
            .transpose()
            .map_err(Error::invalid)?;
        let intervals = intervals(request, ticks.as_ref())?;
        let source = &definitions.sources[&pipeline.source];
        let run = RunRequest {
            pipeline: request.pipeline.clone(),
            interval: Interval {
                from: request.from,
                to: request.to,
            },
            workers: request.workers,
            archive: source.keeps_events() && (staged.is_some() || source.files.is_none()),
        };
        Ok(Filling {
            definitions,
            staged,
            intervals,
            run,
        })
    }

    /// Runs the intervals in passes. Then rebuilds the group's online rows, if this backfill or
    /// one that was interrupted recorded that they have to be rebuilt.
    async fn fill(
        &self,
        job: &mut Job,
        intervals: &[Interval],
        progress: &Arc<dyn Progress>,
    ) -> Result<BackfillReport> {
        let table = job.target.table.name.clone();
        let mut report = BackfillReport {
            table: table.clone(),
            intervals: intervals.len(),
            ..BackfillReport::default()
        };
        let pieces = self.pieces(job, intervals).await?;
        progress.backfill(&estimate(job, intervals.len(), pieces.len()));
        let combined = pieces.iter().filter(|piece| piece.intervals > 1);
        job.combined = combined.map(|piece| piece.interval).collect();
        if !job.combined.is_empty() {
            self.runs.records.record_combined(&table).await?;
        }
        for pass in pieces.chunks(PIECES_OF_A_PASS) {
            let intervals: Vec<Interval> = pass.iter().map(|piece| piece.interval).collect();
            let runs = self.runs.run_pass(job, &intervals, progress).await?;
            for (piece, run) in pass.iter().zip(&runs) {
                report.add(piece, run);
            }
        }
        if self.runs.records.needs_online_rebuild(&table).await? {
            progress.stage("updating the online store");
            report.entities = Some(self.materializer.materialize(&job.target).await?.entities);
            self.runs.records.forget_online_rebuild(&table).await?;
        }
        Ok(report)
    }
}

impl BackfillReport {
    /// Combines the reports of two consecutive passes over the same intervals.
    fn with(self, next: Self) -> Self {
        Self {
            written: self.written.max(next.written),
            rows_written: self.rows_written + next.rows_written,
            rows_rejected: self.rows_rejected + next.rows_rejected,
            entities: next.entities.or(self.entities),
            ..self
        }
    }

    /// Adds the intervals of a piece, which count only if it was written.
    fn add(&mut self, piece: &Piece, run: &RequestedRun) {
        if run.is_new {
            self.written += piece.intervals;
            self.rows_written += run.record.rows_written;
            self.rows_rejected += run.record.rows_rejected;
        }
    }
}

/// Estimates the work of a backfill.
fn estimate(job: &Job, intervals: usize, pieces: usize) -> BackfillEstimate {
    let rows = job.input.estimated_rows();
    let passes = pieces.div_ceil(PIECES_OF_A_PASS);
    let duration = rows.map(|rows| {
        let read = rows.saturating_mul(passes as u64);
        let micros = read.saturating_mul(1_000_000 / ROWS_PER_SECOND);
        let commits = COMMIT.as_micros().saturating_mul(pieces as i64);
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        Duration::from_micros(micros.saturating_add(commits))
    });
    BackfillEstimate {
        intervals,
        pieces,
        passes,
        rows,
        duration,
    }
}

/// Returns the intervals of a backfill, in order.
fn intervals(request: &BackfillRequest, ticks: Option<&Ticks>) -> Result<Vec<Interval>> {
    let BackfillRequest { from, to, .. } = *request;
    if from >= to {
        return Err(Error::invalid(format!(
            "{from} is not before {to}: nothing to fill"
        )));
    }
    let found = match (ticks, request.interval) {
        (Some(_), Some(_)) => {
            let message = format!(
                "pipeline `{}` has a schedule, and its intervals are filled; leave out the length of the interval",
                request.pipeline
            );
            return Err(Error::invalid(message));
        }
        (Some(ticks), None) => ticks.intervals(from, to),
        (None, length) => fixed_intervals(from, to, length.unwrap_or(DAY))?,
    };
    if found.is_empty() {
        let message = format!("no interval of the schedule lies between {from} and {to}");
        return Err(Error::invalid(message));
    }
    if found.len() > MAX_INTERVALS {
        let message = format!(
            "the span has {} intervals, and at most {MAX_INTERVALS} are allowed; take longer ones",
            found.len()
        );
        return Err(Error::invalid(message));
    }
    Ok(found)
}

/// Cuts a span into intervals of a fixed length; the last one may be shorter.
fn fixed_intervals(from: Timestamp, to: Timestamp, length: Duration) -> Result<Vec<Interval>> {
    if length <= Duration::ZERO {
        return Err(Error::invalid("the length of an interval must be positive"));
    }
    let mut steps = Vec::new();
    let mut start = from;
    while start < to && steps.len() <= MAX_INTERVALS {
        let end = start.plus(length).min(to);
        steps.push(Interval {
            from: start,
            to: end,
        });
        start = end;
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_cut_into_intervals() {
        let request = |from: &str, to: &str, interval| BackfillRequest {
            pipeline: "p".to_owned(),
            from: Timestamp::parse_argument(from).unwrap(),
            to: Timestamp::parse_argument(to).unwrap(),
            interval,
            workers: 1,
        };
        let found = intervals(&request("2013-01-01", "2013-01-03T12:00:00Z", None), None).unwrap();
        let ends: Vec<String> = found.iter().map(|i| i.to.to_string()).collect();
        assert_eq!(
            ends,
            [
                "2013-01-02T00:00:00Z",
                "2013-01-03T00:00:00Z",
                "2013-01-03T12:00:00Z"
            ]
        );
        for (from, to, interval, wanted) in [
            ("2013-01-02", "2013-01-01", None, "is not before"),
            ("2013-01-01", "2013-01-01", None, "is not before"),
            (
                "2013-01-01",
                "2013-01-02",
                Some(Duration::ZERO),
                "must be positive",
            ),
            (
                "2013-01-01",
                "2014-01-01",
                Some(Duration::from_secs(1)),
                "take longer ones",
            ),
        ] {
            let error = intervals(&request(from, to, interval), None).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
