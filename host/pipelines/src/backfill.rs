//! Backfills: history, interval by interval, in few passes over the source.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use wafer_catalog::{Definitions, Progress, RunRecord, Ticks, get};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_store::{Error, Expect, Result};

use crate::run::RunRequest;
use crate::run::job::{Job, Online};
use crate::service::Pipelines;

/// Intervals that one pass over the source writes: each holds rows in memory until they
/// fill a piece of a file.
const INTERVALS_OF_A_PASS: usize = 32;

const DAY: i64 = 86_400_000_000;

/// Until then every process that takes events in has learnt of definitions that were
/// staged before.
const SETTLE: Duration = Duration::from_secs(1);

/// Most intervals of a backfill.
const MAX_INTERVALS: usize = 100_000;

/// What to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillRequest {
    /// Name of the pipeline.
    pub pipeline: String,
    /// First event time.
    pub from: Timestamp,
    /// First event time after it.
    pub to: Timestamp,
    /// Microseconds of an interval; default: the schedule's intervals, or days.
    pub interval: Option<i64>,
    /// Chunks that are transformed at the same time.
    pub workers: usize,
}

/// What a backfill did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackfillReport {
    /// Table that was filled.
    pub table: String,
    /// Intervals that it covers.
    pub intervals: usize,
    /// Of these, those that were written; the others were as they should be.
    pub written: usize,
    /// Rows in the intervals that were written.
    pub rows_written: u64,
    /// Rows set aside.
    pub rows_rejected: u64,
    /// Entities in the online store now, if it was made anew.
    pub entities: Option<u64>,
    /// Whether a new group version became live.
    pub became_live: bool,
    /// The first event times of rows that the live version has and the new one was not
    /// filled for.
    pub missing: Option<Interval>,
}

impl Pipelines {
    /// Fills a pipeline's group over a span of time: a new version that waits for
    /// it, else the live one. Intervals whose inputs did not change stay as they
    /// are; it can be stopped and repeated at any time. When all is written, the
    /// online store is made from the offline table, at once, and a new version
    /// becomes live.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a span without an interval, and
    /// those of [`run`](Self::run).
    pub async fn backfill(
        &self,
        request: &BackfillRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<BackfillReport> {
        progress.stage("reading the source");
        let (definitions, staged) = self.to_backfill(&request.pipeline)?;
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?;
        let schedule = pipeline.schedule.as_ref();
        let ticks = schedule
            .map(Ticks::new)
            .transpose()
            .map_err(Error::invalid)?;
        let intervals = intervals(request, ticks.as_ref())?;
        let source = &definitions.sources[&pipeline.source];
        let archived = source.keeps_events();
        let run = RunRequest {
            pipeline: request.pipeline.clone(),
            interval: Interval {
                from: request.from,
                to: request.to,
            },
            workers: request.workers,
            archive: archived && (staged || source.files.is_none()),
        };
        let started = tokio::time::Instant::now();
        let lease = self.run_lease(&request.pipeline).await?;
        let work = async {
            let job = self.job(&definitions, &run, None, Online::Later).await?;
            let report = self.fill(&job, &intervals, &progress).await?;
            if !(staged && archived) {
                return Ok(report);
            }
            // Other processes may not have known of the new version in its first moment.
            tokio::time::sleep_until(started + SETTLE).await;
            let job = self.job(&definitions, &run, None, Online::Later).await?;
            let rest = self.fill(&job, &intervals, &progress).await?;
            Ok(report.with(rest))
        };
        let result: Result<BackfillReport> = work.await;
        lease.end().await;
        let mut report = result?;
        if staged {
            report.missing = self.missing(&report.table).await?;
            if report.missing.is_none() {
                report.became_live = self.filled(&report.table).await?;
            }
        }
        Ok(report)
    }

    /// The definitions whose version of the pipeline's group is to be filled, and
    /// whether they wait for it.
    fn to_backfill(&self, pipeline: &str) -> Result<(Arc<Definitions>, bool)> {
        let live = self.context.definitions();
        let table = |definitions: &Definitions| {
            let pipeline = definitions.pipelines.get(pipeline)?;
            Some(definitions.groups[&pipeline.group].table())
        };
        Ok(match self.context.staged() {
            Some(staged) if table(&staged) != table(&live) => (staged, true),
            _ => (live, false),
        })
    }

    async fn fill(
        &self,
        job: &Job,
        intervals: &[Interval],
        progress: &Arc<dyn Progress>,
    ) -> Result<BackfillReport> {
        let table = &job.target.table.name;
        let mut report = BackfillReport {
            table: table.clone(),
            intervals: intervals.len(),
            ..BackfillReport::default()
        };
        for pass in intervals.chunks(INTERVALS_OF_A_PASS) {
            for (record, fresh) in self.run_pass(job, pass, progress).await? {
                report.add(&record, fresh);
            }
        }
        let owed = self.online_rebuild_name(table);
        let metadata = &self.context.components().metadata;
        if metadata.get(&owed).await?.is_some() {
            progress.stage("updating the online store");
            report.entities = Some(self.materialize(&job.target).await?.entities);
            metadata.delete(&owed, Expect::Anything).await?;
        }
        Ok(report)
    }
}

impl Pipelines {
    /// Notes that the online store is to be made from a table that is about to be
    /// written: until that is done whoever repeats the backfill owes it, even if
    /// nothing else is left to do.
    pub(crate) async fn note_online_rebuild(&self, table: &str) -> Result<()> {
        let metadata = &self.context.components().metadata;
        let note = Bytes::from_static(b"{}");
        metadata
            .put(&self.online_rebuild_name(table), note, Expect::Anything)
            .await?;
        Ok(())
    }

    fn online_rebuild_name(&self, table: &str) -> String {
        format!("{}/owed/{table}", self.context.project())
    }
}

impl BackfillReport {
    /// Both of two backfills of the same intervals.
    fn with(self, next: Self) -> Self {
        Self {
            written: self.written.max(next.written),
            rows_written: self.rows_written + next.rows_written,
            rows_rejected: self.rows_rejected + next.rows_rejected,
            entities: next.entities.or(self.entities),
            ..self
        }
    }

    fn add(&mut self, record: &RunRecord, fresh: bool) {
        if fresh {
            self.written += 1;
            self.rows_written += record.rows_written;
            self.rows_rejected += record.rows_rejected;
        }
    }
}

/// The intervals of a backfill, in order.
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
                "pipeline `{}` has a schedule, whose intervals are filled; leave the length out",
                request.pipeline
            );
            return Err(Error::invalid(message));
        }
        (Some(ticks), None) => ticks.intervals(from, to),
        (None, length) => steps(from, to, length.unwrap_or(DAY))?,
    };
    if found.is_empty() {
        let message = format!("no interval of the schedule lies between {from} and {to}");
        return Err(Error::invalid(message));
    }
    if found.len() > MAX_INTERVALS {
        let message = format!(
            "{} intervals; at most {MAX_INTERVALS}, take longer ones",
            found.len()
        );
        return Err(Error::invalid(message));
    }
    Ok(found)
}

fn steps(from: Timestamp, to: Timestamp, length: i64) -> Result<Vec<Interval>> {
    if length <= 0 {
        return Err(Error::invalid("an interval is longer than nothing"));
    }
    let mut steps = Vec::new();
    let mut start = from;
    while start < to && steps.len() <= MAX_INTERVALS {
        let end = start.plus_micros(length).min(to);
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
    fn a_span_is_cut_into_intervals() {
        let request = |from: &str, to: &str, interval| BackfillRequest {
            pipeline: "p".to_owned(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
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
            ("2013-01-01", "2013-01-02", Some(0), "longer than nothing"),
            (
                "2013-01-01",
                "2014-01-01",
                Some(1_000_000),
                "take longer ones",
            ),
        ] {
            let error = intervals(&request(from, to, interval), None).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
