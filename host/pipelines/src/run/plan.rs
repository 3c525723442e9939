//! Plans runs: decides what to do for an interval, based on its last run and on what a new run
//! would read.

use std::sync::Arc;

use wafer_catalog::{Context, RunRecord, RunState, Upstream};
use wafer_core::rules::Interval;
use wafer_store::{Error, Kind, Result};

use crate::chain::{IncrementalRead, UpstreamChanges};
use crate::run::PlannedRun;
use crate::run::job::Job;
use crate::run::records::RunRecords;

/// What a run over an interval reads of the upstream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UpstreamRead {
    /// The version of the table, and which of its rows.
    upstream: Upstream,
    /// Whether there are later changes that the next run has to read.
    is_behind: bool,
}

impl UpstreamRead {
    /// A read that leaves no later changes for another run.
    fn up_to_date(upstream: Upstream) -> Self {
        Self {
            upstream,
            is_behind: false,
        }
    }
}

/// The last run over an interval of a chained pipeline. It had the same function and settings as
/// the next one.
struct LastUpstreamRead<'a> {
    /// The record of the run.
    run: &'a RunRecord,
    /// What the run read of the upstream table.
    read: Upstream,
    /// The last generation of the interval that is committed to the pipeline's own table.
    base: Option<i64>,
}

impl LastUpstreamRead<'_> {
    /// Returns what the next run reads. All finished runs have read the changes up to the version
    /// `caught_up_to`.
    fn next(
        &self,
        changes: &UpstreamChanges,
        caught_up_to: u64,
        incremental: IncrementalRead,
    ) -> UpstreamRead {
        let (read, interval) = (self.read, self.run.interval);
        // The version of the table up to which the interval has its rows.
        let seen = match self.run.state {
            RunState::Succeeded => Some(read.version.max(caught_up_to)),
            // The run is committed and has to be finished first.
            _ if self.base >= Some(self.run.generation) => {
                return UpstreamRead {
                    upstream: read,
                    is_behind: changes.has_changes(read.version, interval),
                };
            }
            // The run would have added rows to those that the interval still has.
            _ => read.since.filter(|_| read.base == self.base),
        };
        let Some(seen) = seen else {
            return UpstreamRead::up_to_date(changes.full_read());
        };
        UpstreamRead::up_to_date(match changes.unread(seen, interval, incremental) {
            Some(upstream) => Upstream {
                base: self.base.filter(|_| upstream.since.is_some()),
                ..upstream
            },
            None => read,
        })
    }
}

/// Returns the record of a run that is about to start. `before` is the record of the last run over
/// the same interval, and `fresh` is a new record with the inputs of this run.
fn next_record(before: Option<&RunRecord>, fresh: RunRecord) -> RunRecord {
    let Some(before) = before else {
        return RunRecord {
            generation: 1,
            ..fresh
        };
    };
    // The last run had the same inputs and did not finish. It is resumed: it keeps its id,
    // generation and creation time, and gets a new start time.
    if before.inputs == fresh.inputs && before.state != RunState::Succeeded {
        return RunRecord {
            max_rejects: greater(before.max_rejects, fresh.max_rejects),
            ..before.clone().restart(fresh.started)
        };
    }
    // Attempts are counted until one succeeds, even if the inputs change in between.
    let attempts = match before.state {
        RunState::Succeeded => 0,
        RunState::Running | RunState::Failed => before.attempts,
    };
    RunRecord {
        generation: before.generation + 1,
        attempts: attempts + 1,
        claim: before.claim,
        ..fresh
    }
}

/// Returns the limit of rejected rows of a run that is resumed. It may have been committed under
/// its earlier limit, so it is known to keep to no lower one.
fn greater(before: Option<f64>, now: Option<f64>) -> Option<f64> {
    Some(before?.max(now?))
}

/// Plans runs.
#[derive(Debug)]
pub(crate) struct Planner {
    context: Arc<Context>,
    records: RunRecords,
}

impl Planner {
    pub(crate) fn new(context: Arc<Context>, records: RunRecords) -> Self {
        Self { context, records }
    }

    /// Plans the runs of some intervals. All of them are checked before any of them is claimed.
    pub(super) async fn plan_runs(
        &self,
        job: &Job,
        intervals: &[Interval],
    ) -> Result<Vec<PlannedRun>> {
        let claims = self.records.claims(&job.target.table.name).await?;
        for interval in intervals {
            self.check_overlaps(job, *interval, &claims).await?;
        }
        let changes = self.upstream_changes_of(job, intervals, &claims).await?;
        let mut planned = Vec::new();
        for interval in intervals {
            let run = self.plan_run(job, *interval, &claims, changes.as_ref());
            planned.push(run.await?);
        }
        Ok(planned)
    }

    /// Plans the run over an interval: nothing if the inputs are those of the last run and it
    /// succeeded under the present limit of rejected rows, the same run again if it did not finish,
    /// else a run of a new generation.
    pub(crate) async fn plan_run(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
        changes: Option<&UpstreamChanges>,
    ) -> Result<PlannedRun> {
        let table = &job.target.table.name;
        let before = claims.iter().find(|claim| claim.interval == interval);
        let read = match changes {
            Some(changes) => Some(self.upstream_read(job, before, changes).await?),
            None => None,
        };
        let upstream = read.map(|read| read.upstream);
        let inputs = job.inputs_over(interval, upstream);
        if let Some(done) = before
            && done.inputs == inputs
            && job.is_settled(done)
        {
            return Ok(PlannedRun {
                record: done.clone(),
                is_done: true,
                files: Vec::new(),
                is_behind: false,
            });
        }
        let now = self.context.now();
        let started = self.context.machine_now();
        let fresh = RunRecord {
            // An interval that was combined stays so, whoever runs it again.
            is_combined: match before {
                Some(before) => before.is_combined,
                None => job.combined.contains(&interval),
            },
            max_rejects: Some(job.pipeline.max_rejects),
            ..RunRecord::new(&job.name, table, interval, inputs, now, started)
        };
        let record = next_record(before, fresh);
        let files = changes.zip(upstream);
        Ok(PlannedRun {
            files: files.map_or_else(Vec::new, |(changes, read)| changes.files(read, interval)),
            record: RunRecord { upstream, ..record },
            is_done: false,
            is_behind: read.is_some_and(|read| read.is_behind),
        })
    }

    /// Returns what a run over an interval reads of the upstream table. `before` is the last run
    /// over the interval.
    async fn upstream_read(
        &self,
        job: &Job,
        before: Option<&RunRecord>,
        changes: &UpstreamChanges,
    ) -> Result<UpstreamRead> {
        let is_same = |run: &&RunRecord| run.inputs == job.inputs_over(run.interval, run.upstream);
        // Rows that were added earlier are counted again under a lower limit of rejected rows.
        let is_kept = |run: &&RunRecord| run.state != RunState::Succeeded || job.is_settled(run);
        let Some((run, read)) = before
            .filter(is_same)
            .filter(is_kept)
            .and_then(|run| run.upstream.map(|read| (run, read)))
        else {
            return Ok(UpstreamRead::up_to_date(changes.full_read()));
        };
        let last = LastUpstreamRead {
            run,
            read,
            base: self.committed_generation(run).await?,
        };
        // An expectation about all rows of a run cannot be checked on the new rows alone.
        let incremental = match job.target.run_checks().is_empty() {
            true => IncrementalRead::Allowed,
            false => IncrementalRead::Refused,
        };
        let caught_up_to = job.caught_up_to.unwrap_or(0);
        Ok(last.next(changes, caught_up_to, incremental))
    }

    /// Returns the changes in the upstream table of a chained pipeline since the last runs over
    /// some intervals, or `None` if the pipeline reads no table.
    async fn upstream_changes_of(
        &self,
        job: &Job,
        intervals: &[Interval],
        claims: &[RunRecord],
    ) -> Result<Option<UpstreamChanges>> {
        let Some(snapshot) = job.input.table() else {
            return Ok(None);
        };
        let runs = claims
            .iter()
            .filter(|run| intervals.contains(&run.interval));
        let seen = runs.filter_map(|run| run.upstream);
        let oldest = seen.map(Upstream::oldest).min();
        let oldest = oldest.map(|oldest| oldest.max(job.caught_up_to.unwrap_or(0)));
        Ok(Some(UpstreamChanges::new(snapshot, oldest).await?))
    }

    /// Checks that an interval does not overlap another one that has rows.
    pub(crate) async fn check_overlaps(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
    ) -> Result<()> {
        let others = claims.iter().filter(|claim| claim.interval != interval);
        for claim in others.filter(|claim| claim.interval.overlaps(interval)) {
            if self.may_have_rows(claim).await? {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "pipeline `{}` was run over {}, which overlaps {interval}: rows would be there twice. \
                         Run it over {} again to replace those, or give its group a new `version` to \
                         fill it by other intervals",
                        job.name, claim.interval, claim.interval
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Returns whether the offline table may have rows of a run's interval.
    pub(crate) async fn may_have_rows(&self, claim: &RunRecord) -> Result<bool> {
        if claim.state == RunState::Succeeded {
            return Ok(true);
        }
        // This process holds the lease, so the run has failed or its process has died. An earlier
        // generation, or the run's own commit, may still be in the table.
        Ok(self.committed_generation(claim).await?.is_some())
    }

    /// Returns the last generation of a run's interval that is committed to the offline table.
    async fn committed_generation(&self, run: &RunRecord) -> Result<Option<i64>> {
        let offline = &self.context.components().stores.offline;
        offline.txn_version(&run.table, &run.app_id()).await
    }

    /// Returns whether a run is committed to the offline table.
    pub(crate) async fn is_committed(&self, run: &RunRecord) -> Result<bool> {
        Ok(self.committed_generation(run).await? >= Some(run.generation))
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::{Digest, Timestamp};
    use wafer_store::{DataFile, TableChange};

    use super::*;

    const INTERVAL: Interval = Interval {
        from: Timestamp::from_micros(0),
        to: Timestamp::from_micros(10),
    };

    fn record(state: RunState, generation: i64, inputs: &[u8]) -> RunRecord {
        let at = Timestamp::from_micros;
        RunRecord {
            state,
            generation,
            attempts: 2,
            claim: 7,
            ..RunRecord::new("p", "t", INTERVAL, Digest::of(inputs), at(20), at(21))
        }
    }

    #[test]
    fn run_is_new_or_taken_up_or_replaces_the_last_one() {
        use RunState::{Failed, Running, Succeeded};
        // The generation, the attempts, the version of the claim, and when the run was created.
        for (before, wanted) in [
            (None, (1, 1, 0, 30)),
            // The same run again.
            (Some(record(Failed, 3, b"same")), (3, 3, 7, 20)),
            (Some(record(Running, 3, b"same")), (3, 3, 7, 20)),
            // It succeeded, under a higher limit of rejected rows.
            (Some(record(Succeeded, 3, b"same")), (4, 1, 7, 30)),
            // The inputs changed.
            (Some(record(Succeeded, 3, b"other")), (4, 1, 7, 30)),
            (Some(record(Failed, 3, b"other")), (4, 3, 7, 30)),
            (Some(record(Running, 3, b"other")), (4, 3, 7, 30)),
        ] {
            let at = Timestamp::from_micros;
            let inputs = Digest::of(b"same");
            let fresh = RunRecord::new("p", "t", INTERVAL, inputs, at(30), at(31));
            let run = next_record(before.as_ref(), fresh);
            let found = (
                run.generation,
                run.attempts,
                run.claim,
                run.created.as_micros(),
            );
            assert_eq!(found, wanted, "{before:?}");
            assert_eq!((run.state, run.started), (Running, at(31)), "{before:?}");
            assert_eq!(run.inputs, inputs, "{before:?}");
        }
    }

    #[test]
    fn limit_of_a_resumed_run_is_the_highest_that_it_had() {
        use RunState::Failed;
        for (before, now, wanted) in [
            (Some(0.5), 0.1, Some(0.5)),
            (Some(0.1), 0.5, Some(0.5)),
            (None, 0.5, None),
        ] {
            let failed = RunRecord {
                max_rejects: before,
                ..record(Failed, 3, b"same")
            };
            let fresh = RunRecord {
                max_rejects: Some(now),
                ..record(Failed, 1, b"same")
            };
            let run = next_record(Some(&failed), fresh);
            assert_eq!(run.max_rejects, wanted, "{before:?} {now}");
        }
    }

    #[test]
    fn run_is_known_to_succeed_again_unless_its_limit_was_lowered() {
        use RunState::Succeeded;
        // The limit of the run, its rejected and written rows, and the present limit.
        for (limit, (rejected, written), now, wanted) in [
            (Some(0.5), (3, 7), 0.5, true),
            (Some(0.5), (3, 7), 0.9, true),
            (Some(0.5), (3, 7), 0.1, false),
            // Rows of no interval may count in a run over this one.
            (Some(0.5), (0, 7), 0.1, false),
            // Of an earlier version, whose limit is not known.
            (None, (3, 7), 0.3, true),
            (None, (3, 7), 0.2, false),
            (None, (0, 0), 0.0, true),
        ] {
            let run = RunRecord {
                max_rejects: limit,
                rows_rejected: rejected,
                rows_written: written,
                ..record(Succeeded, 1, b"same")
            };
            assert_eq!(run.is_known_within(now), wanted, "{limit:?} {now}");
        }
    }

    /// Returns a table at version 9 that gained a file with rows of the interval in version 6.
    fn changes() -> UpstreamChanges {
        let file = DataFile {
            path: "new".to_owned(),
            bytes: 1,
            rows: None,
            events: None,
            available: Some((INTERVAL.from, INTERVAL.from)),
        };
        UpstreamChanges {
            version: 9,
            files: vec![file.clone()],
            changes: vec![TableChange {
                version: 6,
                file,
                is_removal: false,
            }],
            since: 2,
        }
    }

    fn upstream(version: u64, changed: u64, since: Option<u64>, base: Option<i64>) -> Upstream {
        Upstream {
            version,
            changed,
            since,
            base,
        }
    }

    #[test]
    fn chained_run_reads_what_the_last_one_has_not_read() {
        use RunState::{Failed, Running, Succeeded};
        let all = |version| upstream(version, version, None, None);
        let everything = UpstreamRead::up_to_date(all(9));
        let new_rows = UpstreamRead::up_to_date(upstream(9, 6, Some(5), Some(3)));
        let finish = |upstream, is_behind| UpstreamRead {
            upstream,
            is_behind,
        };
        // The last run is of generation 3; `base` is the last generation that is committed.
        for (what, state, read, base, caught_up_to, is_allowed, wanted) in [
            (
                "there are new rows",
                Succeeded,
                all(5),
                Some(3),
                0,
                true,
                new_rows,
            ),
            (
                "a run reads all rows if it has to check them together",
                Succeeded,
                all(5),
                Some(3),
                0,
                false,
                UpstreamRead::up_to_date(upstream(9, 6, None, None)),
            ),
            (
                "nothing changed since",
                Succeeded,
                all(6),
                Some(3),
                0,
                true,
                UpstreamRead::up_to_date(all(6)),
            ),
            (
                "another look has seen the changes",
                Succeeded,
                all(5),
                Some(3),
                8,
                true,
                UpstreamRead::up_to_date(all(5)),
            ),
            (
                "the log is too short",
                Succeeded,
                all(1),
                Some(3),
                0,
                true,
                everything,
            ),
            (
                "the run is committed",
                Failed,
                all(5),
                Some(3),
                0,
                true,
                finish(all(5), true),
            ),
            (
                "it read all there is",
                Running,
                all(6),
                Some(3),
                0,
                true,
                finish(all(6), false),
            ),
            (
                "a full read did not finish",
                Failed,
                all(5),
                Some(2),
                0,
                true,
                everything,
            ),
            (
                "reading new rows did not finish",
                Failed,
                upstream(6, 6, Some(5), Some(2)),
                Some(2),
                0,
                true,
                UpstreamRead::up_to_date(upstream(9, 6, Some(5), Some(2))),
            ),
            (
                "the rows that it would have added to are gone",
                Failed,
                upstream(6, 6, Some(5), Some(1)),
                Some(2),
                0,
                true,
                everything,
            ),
        ] {
            let last = LastUpstreamRead {
                run: &record(state, 3, b"same"),
                read,
                base,
            };
            let incremental = match is_allowed {
                true => IncrementalRead::Allowed,
                false => IncrementalRead::Refused,
            };
            assert_eq!(
                last.next(&changes(), caught_up_to, incremental),
                wanted,
                "{what}"
            );
        }
    }
}
