//! The metadata store: one item per object, in one partition that is sorted by name.

use async_trait::async_trait;
use bytes::Bytes;
use wafer_store::{Error, Expect, Kind, MetadataStore, Result, Versioned, check_object};

use crate::Dynamo;
use crate::table::{Condition, Item, Key, WriteOutcome, bytes, bytes_of, number, number_of};

const PARTITION: &str = "m";
/// Attributes with the random tokens of the last writes, newest first.
const WRITERS: [&str; 4] = ["w", "w1", "w2", "w3"];

fn key(name: &str) -> Key {
    Key::new(PARTITION, name.as_bytes())
}

fn condition(expect: Expect) -> Option<Condition> {
    match expect {
        Expect::Absent => Some(Condition::absent()),
        Expect::Version(version) => Some(Condition::version(Some(version))),
        Expect::Anything => None,
    }
}

fn version_of(item: &Item) -> Option<u64> {
    number_of(item, "n")
}

fn changed(name: &str) -> Error {
    Error::new(
        Kind::Conflict,
        format!("`{name}` was changed by somebody else"),
    )
}

impl Dynamo {
    fn versioned(&self, item: &Item) -> Result<Versioned> {
        let version = version_of(item);
        let value = bytes_of(item, "d").map(Bytes::copy_from_slice);
        match (version, value) {
            (Some(version), Some(value)) => Ok(Versioned { version, value }),
            _ => Err(self.table.corrupt("an object that cannot be read")),
        }
    }

    /// Writes one version of an object, and returns the version. Returns `None` if the condition
    /// does not hold.
    ///
    /// Each write stores a random token, and the item keeps the last four. If an attempt has to be
    /// repeated because its response was lost, the token tells whether it succeeded, even if other
    /// processes have written since.
    async fn put_version(
        &self,
        name: &str,
        value: &Bytes,
        version: u64,
        condition: &Condition,
    ) -> Result<Option<u64>> {
        let token = bytes(&self.table.random.next().to_be_bytes());
        let values = [
            (":next", number(version)),
            (":d", bytes(value)),
            (":w", token.clone()),
            (":none", bytes(&[0])),
        ];
        let update = "SET n = :next, d = :d, w = :w, w1 = if_not_exists(w, :none), \
                      w2 = if_not_exists(w1, :none), w3 = if_not_exists(w2, :none)";
        let written = self
            .table
            .update(&key(name), update, condition, &values)
            .await?;
        let has_token = |item: &Item| WRITERS.iter().any(|w| item.get(*w) == Some(&token));
        match written {
            WriteOutcome::Done { .. } => Ok(Some(version)),
            // An earlier attempt succeeded, but its response was lost.
            WriteOutcome::ConditionFailed { stored, attempts }
                if attempts > 1 && stored.as_ref().is_some_and(has_token) =>
            {
                Ok(Some(version))
            }
            // Other processes may have written so often since that the token is gone.
            WriteOutcome::ConditionFailed { stored, attempts }
                if attempts > 1 && stored.as_ref().and_then(version_of) > Some(version) =>
            {
                let message = format!(
                    "an answer of DynamoDB was lost, and others wrote `{name}` since: it is not known \
                     whether this was written; read it again"
                );
                Err(Error::new(Kind::Unavailable, message))
            }
            WriteOutcome::ConditionFailed { .. } => Ok(None),
        }
    }
}

#[async_trait]
impl MetadataStore for Dynamo {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let item = self.table.get(&key(name)).await?;
        item.map(|item| self.versioned(&item)).transpose()
    }

    async fn get_eventual(&self, name: &str) -> Result<Option<Versioned>> {
        let item = self.table.get_eventual(&key(name)).await?;
        item.map(|item| self.versioned(&item)).transpose()
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        check_object(name, &value)?;
        if let Some(condition) = condition(expect) {
            let version = match expect {
                Expect::Version(version) => version + 1,
                _ => 1,
            };
            let written = self.put_version(name, &value, version, &condition).await?;
            return written.ok_or_else(|| changed(name));
        }
        let mut backoff = self.table.write_backoff();
        loop {
            let stored = MetadataStore::get(self, name).await?.map(|s| s.version);
            let version = stored.unwrap_or(0) + 1;
            let condition = Condition::version(stored);
            if let Some(version) = self.put_version(name, &value, version, &condition).await? {
                return Ok(version);
            }
            if !backoff.wait().await {
                return Err(changed(name));
            }
        }
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        let condition = condition(expect);
        match self.table.delete(&key(name), condition.as_ref()).await? {
            WriteOutcome::Done { .. } => Ok(()),
            // An earlier attempt may have deleted it.
            WriteOutcome::ConditionFailed {
                stored: None,
                attempts,
            } if attempts > 1 => Ok(()),
            WriteOutcome::ConditionFailed { .. } => Err(changed(name)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let items = self.table.query(PARTITION, prefix.as_bytes()).await?;
        items
            .iter()
            .map(|item| {
                let name = bytes_of(item, "sk").and_then(|name| std::str::from_utf8(name).ok());
                let name = name.ok_or_else(|| self.table.corrupt("an object without a name"))?;
                Ok((name.to_owned(), self.versioned(item)?))
            })
            .collect()
    }
}
