//! Reads and writes the claims of intervals and the records of runs in the metadata store.
//!
//! The claim of an interval is the record of the last run over it. It is written under the
//! version that was read, so that a process whose run was taken over finds that out and stops.
//!
//! Beside them, it is recorded of a table that it has intervals that a backfill combined, and that
//! its online rows have to be rebuilt.

use std::sync::Arc;

use bytes::Bytes;
use wafer_catalog::{Context, RunRecord, RunState, read};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, Result};

/// The claims of intervals and the records of runs.
#[derive(Clone, Debug)]
pub(crate) struct RunRecords {
    context: Arc<Context>,
}

impl RunRecords {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns the record of the last run over an interval of a table.
    pub(crate) async fn claimed(
        &self,
        table: &str,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let stored = self.context.object(&claim_name(table, interval)).await?;
        Ok(stored.map(|(record, version)| with_version(record, version)))
    }

    /// Returns the record of the last run over an interval of a table, or of the run that succeeded
    /// over a longer one that a backfill combined it with.
    pub(crate) async fn claim_over(
        &self,
        table: &str,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let exact = self.claimed(table, interval).await?;
        if exact.is_some() || !self.has_combined(table).await? {
            return Ok(exact);
        }
        let covers = |claim: &RunRecord| {
            let Interval { from, to } = claim.interval;
            let is_done = claim.is_combined && claim.state == RunState::Succeeded;
            is_done && from <= interval.from && interval.to <= to
        };
        Ok(self.claims(table).await?.into_iter().find(covers))
    }

    /// Returns the records of the last runs over all intervals of a table.
    pub(crate) async fn claims(&self, table: &str) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/claim/{table}/", self.context.project());
        let metadata = &self.context.components().stores.metadata;
        let stored = metadata.list(&prefix).await?;
        let claims = stored.iter();
        claims
            .map(|(name, stored)| Ok(with_version(read(name, &stored.value)?, stored.version)))
            .collect()
    }

    /// Gives a new record an id that no other record has, and writes it under that id. A record
    /// that has an id is left as it is.
    pub(crate) async fn insert_record(&self, record: &mut RunRecord) -> Result<()> {
        if !record.id.is_empty() {
            return Ok(());
        }
        loop {
            record.id = format!("{}-{}", sortable(record.created), record.pipeline);
            let name = run_name(&record.id);
            match self.context.put_object(&name, record, Expect::Absent).await {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() != Kind::Conflict => return Err(e),
                // A process was killed before it claimed the interval. Its run is begun again.
                Err(_) if self.is_begun(&name, record).await? => return Ok(()),
                // The clock stands still, so another run has this id; the next microsecond is
                // tried.
                Err(_) => record.created = record.created.plus(Duration::MICROSECOND),
            }
        }
    }

    /// Returns whether a stored record is that of the same run as one that claims the interval now.
    async fn is_begun(&self, name: &str, record: &RunRecord) -> Result<bool> {
        let stored: Option<(RunRecord, u64)> = self.context.object(name).await?;
        Ok(stored.is_some_and(|(stored, _)| {
            let run = |of: &RunRecord| (of.table.clone(), of.interval, of.generation);
            stored.state == RunState::Running && run(&stored) == run(record)
        }))
    }

    /// Writes a run's record, and the claim of its interval, which is the record of the last run
    /// over it.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process wrote the claim since it was read and has
    /// thereby taken over the run.
    pub(crate) async fn save(&self, record: &mut RunRecord) -> Result<()> {
        let name = claim_name(&record.table, record.interval);
        let expect = match record.claim {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = self.context.put_object(&name, record, expect).await;
        record.claim = put.map_err(|e| match e.kind() {
            Kind::Conflict => {
                let message = format!(
                    "the run of `{}` over {} was taken over by another process, because this one did not \
                     renew its lease in time; see `wafer runs`",
                    record.pipeline, record.interval
                );
                Error::caused(Kind::Conflict, message, e)
            }
            _ => e,
        })?;
        let name = run_name(&record.id);
        self.context
            .put_object(&name, record, Expect::Anything)
            .await?;
        Ok(())
    }

    /// Records a failed attempt that began at `started`, even if it failed before the interval
    /// was claimed, for example because the source is missing.
    pub(crate) async fn record_failed_attempt(
        &self,
        pipeline: &str,
        interval: Interval,
        started: Timestamp,
        error: &Error,
    ) -> Result<RunRecord> {
        let definitions = self.context.definitions();
        let table = definitions.groups[&definitions.pipelines[pipeline].group].table();
        let now = self.context.machine_now();
        let mut record = match self.claimed(&table, interval).await? {
            Some(record)
                if record.state == RunState::Running || record.finished >= Some(started) =>
            {
                record
            }
            Some(record) => record.restart(now),
            None => RunRecord::unclaimed(pipeline, &table, interval, self.context.now(), now),
        };
        if record.state == RunState::Running {
            record.fail(error.chain(), now);
            self.insert_record(&mut record).await?;
            self.save(&mut record).await?;
        }
        Ok(record)
    }

    /// Returns the record of a run by its id.
    pub(crate) async fn run_record(&self, id: &str) -> Result<Option<RunRecord>> {
        let stored = self.context.object(&run_name(id)).await?;
        Ok(stored.map(|(record, _)| record))
    }

    /// Returns the records of all runs, newest first.
    pub(crate) async fn all(&self) -> Result<Vec<RunRecord>> {
        let stored = self.context.objects("run").await?;
        Ok(stored.into_iter().rev().map(|(_, run)| run).collect())
    }

    /// Records a run that is given up as `Failed` if its record still says `Running`, which means
    /// that its last process died.
    pub(crate) async fn record_death(&self, record: Option<RunRecord>) -> Result<()> {
        let Some(record) = record.filter(|record| record.state == RunState::Running) else {
            return Ok(());
        };
        let error =
            "every process that worked on the run ended before the run was finished".to_owned();
        let mut record = RunRecord {
            state: RunState::Failed,
            error: Some(error),
            finished: Some(self.context.machine_now()),
            ..record
        };
        self.save(&mut record).await
    }

    /// Returns the current record of a run that is under way.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run is over or was taken over.
    pub(crate) async fn running_record(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.current_record(record).await?;
        match found.state {
            RunState::Running => Ok(found),
            _ => Err(run_over_error(record)),
        }
    }

    /// Returns the current record of a run.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run was taken over.
    pub(crate) async fn current_record(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.claimed(&record.table, record.interval).await?;
        let is_ours =
            |found: &RunRecord| found.key() == record.key() && found.attempts == record.attempts;
        found.filter(is_ours).ok_or_else(|| run_over_error(record))
    }

    /// Checks that a run is under way and was not taken over.
    pub(crate) async fn check_running(&self, record: &RunRecord) -> Result<()> {
        self.running_record(record).await.map(drop)
    }

    /// Records that a table has intervals that consist of several ones, before they are claimed.
    pub(crate) async fn record_combined(&self, table: &str) -> Result<()> {
        self.put_note(&self.combined_name(table)).await
    }

    /// Returns whether a table may have intervals that consist of several ones.
    pub(crate) async fn has_combined(&self, table: &str) -> Result<bool> {
        self.has_note(&self.combined_name(table)).await
    }

    fn combined_name(&self, table: &str) -> String {
        format!("{}/combined/{table}", self.context.project())
    }

    /// Records that the online rows of a table have to be rebuilt, before the table is written.
    /// If the backfill is interrupted, whoever repeats it rebuilds them, even if no interval is
    /// left to run.
    pub(crate) async fn record_online_rebuild(&self, table: &str) -> Result<()> {
        self.put_note(&self.online_rebuild_name(table)).await
    }

    /// Returns whether the online rows of a table have to be rebuilt.
    pub(crate) async fn needs_online_rebuild(&self, table: &str) -> Result<bool> {
        self.has_note(&self.online_rebuild_name(table)).await
    }

    /// Forgets that the online rows of a table have to be rebuilt, after they were.
    pub(crate) async fn forget_online_rebuild(&self, table: &str) -> Result<()> {
        let metadata = &self.context.components().stores.metadata;
        let name = self.online_rebuild_name(table);
        metadata.delete(&name, Expect::Anything).await?;
        Ok(())
    }

    /// Returns the name of the object that records that the online rows of a table have to be
    /// rebuilt.
    fn online_rebuild_name(&self, table: &str) -> String {
        format!("{}/owed/{table}", self.context.project())
    }

    /// Writes an object that says something by being there.
    async fn put_note(&self, name: &str) -> Result<()> {
        let metadata = &self.context.components().stores.metadata;
        let note = Bytes::from_static(b"{}");
        metadata.put(name, note, Expect::Anything).await?;
        Ok(())
    }

    async fn has_note(&self, name: &str) -> Result<bool> {
        let metadata = &self.context.components().stores.metadata;
        Ok(metadata.get(name).await?.is_some())
    }
}

/// The error for a run that is not under way any more, by its record.
fn run_over_error(record: &RunRecord) -> Error {
    let message = format!(
        "the run of `{}` over {} is over or was taken over; see `wafer runs`",
        record.pipeline, record.interval
    );
    Error::new(Kind::Conflict, message)
}

/// Returns the name of the object that holds the claim of an interval.
fn claim_name(table: &str, interval: Interval) -> String {
    format!("claim/{table}/{}", interval.slug())
}

/// Returns the name of the object that holds the record of a run.
fn run_name(id: &str) -> String {
    format!("run/{id}")
}

/// Writes a time as a text with all six decimals, so that the texts sort in the order of the
/// times.
fn sortable(time: Timestamp) -> String {
    let text = time.to_string().replace([':', '-', 'Z'], "");
    let (second, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{second}.{fraction:0<6}Z")
}

/// Returns a claim that remembers the version at which it was read.
fn with_version(record: RunRecord, version: u64) -> RunRecord {
    RunRecord {
        claim: version,
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sortable_times_sort_in_time_order() {
        let times = [0, 1, 999, 1_000, 500_000, 500_123, 999_999, 1_000_000];
        let texts: Vec<String> = times
            .iter()
            .map(|micros| sortable(Timestamp::from_micros(*micros)))
            .collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[5], "19700101T000000.500123Z");
    }
}
