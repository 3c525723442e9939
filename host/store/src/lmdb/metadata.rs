//! Metadata objects.

use async_trait::async_trait;
use bytes::Bytes;
use heed::RwTxn;

use super::encoding::damaged;
use super::error::{self, LmdbError};
use super::{Lmdb, Tables};
use crate::metadata::check_object;
use crate::{Error, Expect, Kind, MetadataStore, Result, Versioned};

fn versioned(stored: &[u8]) -> Option<Versioned> {
    let (version, value) = stored.split_first_chunk::<8>()?;
    Some(Versioned {
        version: u64::from_le_bytes(*version),
        value: Bytes::copy_from_slice(value),
    })
}

/// Returns the version of an object, or 0 if it does not exist. If `expect` does not hold, the
/// write is refused with [`Kind::Conflict`].
fn expected(txn: &RwTxn<'_>, tables: &Tables, name: &str, expect: Expect) -> error::Result<u64> {
    let stored = tables
        .metadata
        .get(txn, name.as_bytes())?
        .and_then(versioned);
    let version = stored.map_or(0, |stored| stored.version);
    let holds = match expect {
        Expect::Absent => version == 0,
        Expect::Version(wanted) => version == wanted,
        Expect::Anything => true,
    };
    if !holds {
        let message = format!("`{name}` was changed by somebody else");
        return Err(LmdbError::Refused(Error::new(Kind::Conflict, message)));
    }
    Ok(version)
}

#[async_trait]
impl MetadataStore for Lmdb {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        self.files.check()?;
        let stored =
            self.read(|txn, tables| Ok(tables.metadata.get(txn, name.as_bytes())?.map(versioned)))?;
        stored
            .map(|object| object.ok_or_else(|| damaged("object")))
            .transpose()
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        check_object(name, &value)?;
        let name = name.to_owned();
        self.write(move |txn, tables| {
            let version = expected(txn, tables, &name, expect)? + 1;
            let stored = [&version.to_le_bytes()[..], &value].concat();
            tables.metadata.put(txn, name.as_bytes(), &stored)?;
            Ok(version)
        })
        .await
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        let name = name.to_owned();
        self.write(move |txn, tables| {
            expected(txn, tables, &name, expect)?;
            tables.metadata.delete(txn, name.as_bytes())?;
            Ok(())
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        self.files.check()?;
        let found = self.read(|txn, tables| {
            tables
                .metadata
                .prefix_iter(txn, prefix.as_bytes())?
                .map(|entry| {
                    let (name, stored) = entry?;
                    Ok((
                        String::from_utf8_lossy(name).into_owned(),
                        versioned(stored),
                    ))
                })
                .collect::<error::Result<Vec<_>>>()
        })?;
        found
            .into_iter()
            .map(|(name, object)| Ok((name, object.ok_or_else(|| damaged("object"))?)))
            .collect()
    }
}
