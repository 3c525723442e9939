//! Definitions, runs and leases: one item each, in the order of their names.

use async_trait::async_trait;
use bytes::Bytes;
use wafer_store::{Error, Expect, Kind, MetadataStore, Result, Versioned};

use crate::Dynamo;
use crate::table::{Condition, Item, Key, Written, bytes, bytes_of, number, number_of};

const PARTITION: &str = "m";
/// What the trait promises room for.
const MAX_NAME_BYTES: usize = 400;
const MAX_OBJECT_BYTES: usize = 256 << 10;

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

fn changed(name: &str) -> Error {
    Error::new(
        Kind::Conflict,
        format!("`{name}` was changed by somebody else"),
    )
}

impl Dynamo {
    fn versioned(&self, item: &Item) -> Result<Versioned> {
        let version = number_of(item, "n");
        let value = bytes_of(item, "d").map(Bytes::copy_from_slice);
        match (version, value) {
            (Some(version), Some(value)) => Ok(Versioned { version, value }),
            _ => Err(self.table.foreign("an object that cannot be read")),
        }
    }

    /// Writes one version of an object; `None` when the condition does not hold.
    async fn put_version(
        &self,
        name: &str,
        value: &Bytes,
        version: u64,
        condition: &Condition,
    ) -> Result<Option<u64>> {
        let mut item = key(name).item();
        let token = bytes(&self.table.random.next().to_be_bytes());
        item.insert("n".to_owned(), number(version));
        item.insert("d".to_owned(), bytes(value));
        // Tells this write from that of somebody else who wrote the same.
        item.insert("w".to_owned(), token.clone());
        match self.table.put(&item, Some(condition)).await? {
            Written::Done { .. } => Ok(Some(version)),
            // The first attempt was answered, but the answer was lost.
            Written::Held { stored, attempts }
                if attempts > 1
                    && stored.as_ref().and_then(|stored| stored.get("w")) == Some(&token) =>
            {
                Ok(Some(version))
            }
            Written::Held { .. } => Ok(None),
        }
    }
}

#[async_trait]
impl MetadataStore for Dynamo {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let item = self.table.get(&key(name)).await?;
        item.map(|item| self.versioned(&item)).transpose()
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let message = format!("a name has 1 to {MAX_NAME_BYTES} bytes, not {}", name.len());
            return Err(Error::new(Kind::Invalid, message));
        }
        if value.len() > MAX_OBJECT_BYTES {
            let message = format!(
                "`{name}` has {} bytes; an object has at most {MAX_OBJECT_BYTES}",
                value.len()
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        if let Some(condition) = condition(expect) {
            let version = match expect {
                Expect::Version(version) => version + 1,
                _ => 1,
            };
            let written = self.put_version(name, &value, version, &condition).await?;
            return written.ok_or_else(|| changed(name));
        }
        let mut patience = self.table.writing();
        loop {
            let stored = MetadataStore::get(self, name).await?.map(|s| s.version);
            let version = stored.unwrap_or(0) + 1;
            let condition = Condition::version(stored);
            if let Some(version) = self.put_version(name, &value, version, &condition).await? {
                return Ok(version);
            }
            if !patience.wait().await {
                return Err(changed(name));
            }
        }
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        let condition = condition(expect);
        match self.table.delete(&key(name), condition.as_ref()).await? {
            Written::Done { .. } => Ok(()),
            // The first attempt may have removed it.
            Written::Held {
                stored: None,
                attempts,
            } if attempts > 1 => Ok(()),
            Written::Held { .. } => Err(changed(name)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let items = self
            .table
            .query(PARTITION, prefix.as_bytes(), false)
            .await?;
        items
            .iter()
            .map(|item| {
                let name = bytes_of(item, "sk").and_then(|name| std::str::from_utf8(name).ok());
                let name = name.ok_or_else(|| self.table.foreign("an object without a name"))?;
                Ok((name.to_owned(), self.versioned(item)?))
            })
            .collect()
    }
}
