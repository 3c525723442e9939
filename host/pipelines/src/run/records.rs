//! Claims of intervals and records of runs in the metadata store.

use bytes::Bytes;
use wafer_catalog::RunRecord;
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_store::{Error, Expect, Kind, Result, Versioned};

use crate::service::Pipelines;

impl Pipelines {
    fn claim_name(&self, table: &str, interval: Interval) -> String {
        format!(
            "{}/claim/{table}/{}",
            self.context.project(),
            interval.slug()
        )
    }

    /// The last run over an interval of a table.
    pub(crate) async fn claimed(
        &self,
        table: &str,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let name = self.claim_name(table, interval);
        let stored = self.context.components().metadata.get(&name).await?;
        stored.map(|stored| read_claim(&name, &stored)).transpose()
    }

    /// The last runs over all intervals of a table.
    pub(crate) async fn claims(&self, table: &str) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/claim/{table}/", self.context.project());
        let stored = self.context.components().metadata.list(&prefix).await?;
        stored
            .iter()
            .map(|(name, stored)| read_claim(name, stored))
            .collect()
    }

    /// Gives a new record an id that no other has, and a place under it.
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
                .metadata
                .put(&name, to_json(record), Expect::Absent)
                .await
            {
                Ok(_) => return Ok(()),
                // A clock that stands still: the next microsecond.
                Err(e) if e.kind() == Kind::Conflict => {
                    record.created = record.created.plus_micros(1);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes a run's record, and the claim of its interval, which is the record
    /// of the last run over it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when somebody else wrote the claim since it was read: the
    /// run is theirs.
    pub(crate) async fn save(&self, record: &mut RunRecord) -> Result<()> {
        let metadata = &self.context.components().metadata;
        let name = self.claim_name(&record.table, record.interval);
        let expect = match record.claim {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = metadata.put(&name, to_json(record), expect).await;
        record.claim = put.map_err(|e| match e.kind() {
            Kind::Conflict => {
                let message = format!(
                    "the run of `{}` over {} was taken over by another process, as this one did not \
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

    /// The record of a run by its id.
    pub(crate) async fn run_record(&self, id: &str) -> Result<Option<RunRecord>> {
        let name = format!("{}/run/{id}", self.context.project());
        let stored = self.context.components().metadata.get(&name).await?;
        stored
            .map(|stored| read_record(&name, &stored.value))
            .transpose()
    }

    /// Records of runs, newest first.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn runs(&self) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/run/", self.context.project());
        let stored = self.context.components().metadata.list(&prefix).await?;
        stored
            .iter()
            .rev()
            .map(|(name, object)| read_record(name, &object.value))
            .collect()
    }
}

/// A time as a text that sorts as it does: with all six decimals.
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

fn read_claim(name: &str, stored: &Versioned) -> Result<RunRecord> {
    let record = read_record(name, &stored.value)?;
    Ok(RunRecord {
        claim: stored.version,
        ..record
    })
}

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
    fn later_runs_sort_after_earlier_ones() {
        let times = [0, 1, 999, 1_000, 500_000, 500_123, 999_999, 1_000_000];
        let texts: Vec<String> = times
            .iter()
            .map(|micros| sortable(Timestamp::from_micros(*micros)))
            .collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[5], "19700101T000000.500123Z");
    }
}
