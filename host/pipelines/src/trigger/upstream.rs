//! The upstream trigger: repeats intervals of a chained pipeline when the table that it reads
//! changes.
//!
//! An interval is run again if the upstream table gained or lost rows in it since its last run
//! (`chain.rs`), for example because the upstream group was backfilled. These intervals are run
//! after a scheduled run of the pipeline has succeeded. Their list is stored in the state of the
//! schedule.

use std::sync::Arc;

use async_trait::async_trait;
use wafer_catalog::{RunRecord, RunState};
use wafer_core::rules::Interval;
use wafer_store::Result;

use crate::chain::UpstreamChanges;
use crate::run::Runs;
use crate::run::job::Job;
use crate::trigger::state::Schedule;
use crate::trigger::{DueCheck, EndedRun, Trigger};

/// The upstream trigger of a pipeline.
pub(super) struct UpstreamTrigger {
    schedule: Schedule,
    /// The job for all repeated intervals, which all read the same version of the upstream table.
    job: Option<Arc<Job>>,
}

impl UpstreamTrigger {
    /// Creates the trigger of a chained pipeline that has a schedule.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            job: None,
        }
    }
}

#[async_trait]
impl Trigger for UpstreamTrigger {
    fn name(&self) -> &'static str {
        "upstream"
    }

    async fn due(&mut self, runs: &Runs, check: DueCheck<'_>) -> Result<Vec<Interval>> {
        if !is_after_success(check) {
            return Ok(Vec::new());
        }
        let mut job = self.schedule.job(runs, Interval::ALL).await?;
        let Some(snapshot) = job.input.table() else {
            return Ok(Vec::new());
        };
        let (mut state, version) = self.schedule.state(&runs.context).await?;
        let claims = runs.records.claims(&job.target.table.name).await?;
        let seen = versions_seen(&claims, state.upstream);
        let oldest = seen.iter().map(|(_, seen)| *seen).min();
        let changes = UpstreamChanges::new(snapshot, oldest).await?;
        add_changed(&mut state.again, &seen, &changes);
        job.caught_up_to = state.upstream;
        let previous = state.upstream.replace(changes.version);
        if state.again.is_empty() && previous == state.upstream {
            return Ok(Vec::new());
        }
        // The intervals are recorded before they are run, so that they are run even if this
        // process is interrupted.
        self.schedule
            .put_state(&runs.context, &state, version)
            .await?;
        self.job = Some(Arc::new(job));
        Ok(state.again)
    }

    async fn job(&self, _runs: &Runs, _interval: Interval) -> Result<Arc<Job>> {
        let job = self.job.as_ref();
        Ok(Arc::clone(job.expect(
            "`due` stores the job before it returns intervals",
        )))
    }

    /// Removes the interval from the stored list. If its run failed, the interval stays in the
    /// list, and no others are repeated until the next scheduled run succeeds.
    async fn ended(&mut self, runs: &Runs, run: EndedRun) -> Result<RunRecord> {
        let record = run.result?;
        let (mut state, version) = self.schedule.state(&runs.context).await?;
        state.again.retain(|other| *other != run.interval);
        self.schedule
            .put_state(&runs.context, &state, version)
            .await?;
        Ok(record)
    }
}

/// Returns whether a run for another trigger of the pipeline has just succeeded.
fn is_after_success(check: DueCheck<'_>) -> bool {
    matches!(check, DueCheck::WithLease { ran: Some(run) } if run.state == RunState::Succeeded)
}

/// Returns the intervals of the last runs, each with the version of the upstream table up to
/// which its changes are known. Failed runs are included, because they have not read the later
/// changes either. `known` is the version up to which the changes in all intervals are known.
fn versions_seen(runs: &[RunRecord], known: Option<u64>) -> Vec<(Interval, u64)> {
    let seen = runs.iter().filter_map(|run| {
        let read = run.upstream?;
        Some((run.interval, read.version.max(known.unwrap_or(0))))
    });
    seen.collect()
}

/// Adds the intervals to `again` that changed after the version that is known of each.
fn add_changed(again: &mut Vec<Interval>, seen: &[(Interval, u64)], changes: &UpstreamChanges) {
    for (interval, seen) in seen {
        if changes.has_changes(*seen, *interval) && !again.contains(interval) {
            again.push(*interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use wafer_catalog::Upstream;
    use wafer_core::{Digest, Timestamp};
    use wafer_store::{DataFile, TableChange};

    use super::*;

    fn day(day: i64) -> Interval {
        let at = |day: i64| Timestamp::from_micros(day * 86_400_000_000);
        Interval {
            from: at(day),
            to: at(day + 1),
        }
    }

    /// Returns the last run over a day, which read a version of the table.
    fn run(on: i64, read: Option<u64>, state: RunState) -> RunRecord {
        let at = day(on).to;
        let upstream = read.map(|version| Upstream {
            version,
            changed: version,
            since: None,
            base: None,
        });
        RunRecord {
            upstream,
            state,
            ..RunRecord::new("p", "t", day(on), Digest::of(&[]), at, at)
        }
    }

    /// Returns the changes after version 4: rows of day 1 in version 5, and of day 2 in 6.
    fn changes() -> UpstreamChanges {
        let change = |version, on| TableChange {
            version,
            file: DataFile {
                path: format!("{version}"),
                bytes: 1,
                rows: None,
                events: None,
                available: Some((day(on).from, day(on).from)),
            },
            is_removal: false,
        };
        UpstreamChanges {
            version: 6,
            files: Vec::new(),
            changes: vec![change(5, 1), change(6, 2)],
            since: 4,
        }
    }

    #[test]
    fn upstream_changes_are_read_after_a_run_that_succeeded() {
        use RunState::{Failed, Succeeded};
        let (succeeded, failed) = (run(1, None, Succeeded), run(1, None, Failed));
        for (check, wanted) in [
            (DueCheck::BeforeLease, false),
            (DueCheck::WithLease { ran: None }, false),
            (DueCheck::WithLease { ran: Some(&failed) }, false),
            (
                DueCheck::WithLease {
                    ran: Some(&succeeded),
                },
                true,
            ),
        ] {
            assert_eq!(is_after_success(check), wanted, "{check:?}");
        }
    }

    #[test]
    fn intervals_are_due_again_in_which_the_upstream_table_changed_after_they_were_run() {
        use RunState::{Failed, Succeeded};
        let all = |version| {
            [1, 2, 3]
                .map(|on| run(on, Some(version), Succeeded))
                .to_vec()
        };
        for (what, runs, known, again, wanted) in [
            ("nothing was run", Vec::new(), None, vec![], vec![]),
            ("both changes are later", all(4), None, vec![], vec![1, 2]),
            ("one change was read", all(5), None, vec![], vec![2]),
            ("both changes were read", all(6), None, vec![], vec![]),
            ("one change is known", all(4), Some(5), vec![], vec![2]),
            ("both changes are known", all(4), Some(6), vec![], vec![]),
            ("the log is too short", all(3), None, vec![], vec![1, 2, 3]),
            (
                "a failed run has not read them either",
                vec![run(2, Some(5), Failed)],
                None,
                vec![],
                vec![2],
            ),
            (
                "a run that failed before it read the table",
                vec![run(2, None, Failed)],
                None,
                vec![],
                vec![],
            ),
            (
                "recorded intervals stay first, and are there once",
                all(4),
                None,
                vec![3, 2],
                vec![3, 2, 1],
            ),
            ("they stay without changes", all(6), None, vec![3], vec![3]),
        ] {
            let days = |days: Vec<i64>| -> Vec<Interval> { days.into_iter().map(day).collect() };
            let mut found = days(again);
            add_changed(&mut found, &versions_seen(&runs, known), &changes());
            assert_eq!(found, days(wanted), "{what}");
        }
    }
}
