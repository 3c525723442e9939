//! Reads and writes the claims of intervals and the records of runs in the metadata store.
//!
//! The claim of an interval is the record of the last run over it. It is written under the
//! version that was read, so that a process whose run was taken over finds that out and stops.

use bytes::Bytes;
use wafer_catalog::RunRecord;
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, Result, Versioned};

use crate::service::Pipelines;

impl Pipelines {
    /// Returns the name of the object that holds the claim of an interval.
    fn claim_name(&self, table: &str, interval: Interval) -> String {
        format!(
            "{}/claim/{table}/{}",
            self.context.project(),
            interval.slug()
        )
    }

    /// Returns the record of the last run over an interval of a table.
    pub(crate) async fn claimed(
        &self,
        table: &str,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let name = self.claim_name(table, interval);
        let stored = self.context.components().stores.metadata.get(&name).await?;
        stored.map(|stored| read_claim(&name, &stored)).transpose()
    }

    /// Returns the records of the last runs over all intervals of a table.
    pub(crate) async fn claims(&self, table: &str) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/claim/{table}/", self.context.project());
        let stored = self
            .context
            .components()
            .stores
            .metadata
            .list(&prefix)
            .await?;
        stored
            .iter()
            .map(|(name, stored)| read_claim(name, stored))
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
            let name = format!("{}/run/{}", self.context.project(), record.id);
            match self
                .context
                .components()
                .stores
                .metadata
                .put(&name, to_json(record), Expect::Absent)
                .await
            {
                Ok(_) => return Ok(()),
                // The clock stands still, so another run has this id; the next microsecond is
                // tried.
                Err(e) if e.kind() == Kind::Conflict => {
                    record.created = record.created.plus(Duration::MICROSECOND);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes a run's record, and the claim of its interval, which is the record of the last run
    /// over it.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process wrote the claim since it was read and has
    /// thereby taken over the run.
    pub(crate) async fn save(&self, record: &mut RunRecord) -> Result<()> {
        let metadata = &self.context.components().stores.metadata;
        let name = self.claim_name(&record.table, record.interval);
        let expect = match record.claim {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = metadata.put(&name, to_json(record), expect).await;
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
        let name = format!("{}/run/{}", self.context.project(), record.id);
        metadata
            .put(&name, to_json(record), Expect::Anything)
            .await?;
        Ok(())
    }

    /// Returns the record of a run by its id.
    pub(crate) async fn run_record(&self, id: &str) -> Result<Option<RunRecord>> {
        let name = format!("{}/run/{id}", self.context.project());
        let stored = self.context.components().stores.metadata.get(&name).await?;
        stored
            .map(|stored| read_record(&name, &stored.value))
            .transpose()
    }

    /// Returns the records of all runs, newest first.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn runs(&self) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/run/", self.context.project());
        let stored = self
            .context
            .components()
            .stores
            .metadata
            .list(&prefix)
            .await?;
        stored
            .iter()
            .rev()
            .map(|(name, object)| read_record(name, &object.value))
            .collect()
    }
}

/// Writes a time as a text with all six decimals, so that the texts sort in the order of the
/// times.
fn sortable(time: Timestamp) -> String {
    let text = time.to_string().replace([':', '-', 'Z'], "");
    let (second, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{second}.{fraction:0<6}Z")
}

fn to_json(record: &RunRecord) -> Bytes {
    serde_json::to_vec(record)
        .expect("a record is plain data")
        .into()
}

/// Reads a claim, and remembers the version that it was read at.
fn read_claim(name: &str, stored: &Versioned) -> Result<RunRecord> {
    let record = read_record(name, &stored.value)?;
    Ok(RunRecord {
        claim: stored.version,
        ..record
    })
}

/// Parses the record of a run; the error names the object.
fn read_record(name: &str, value: &[u8]) -> Result<RunRecord> {
    serde_json::from_slice(value).map_err(|e| {
        Error::caused(
            Kind::Internal,
            format!("stored record `{name}` cannot be read"),
            e,
        )
    })
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
