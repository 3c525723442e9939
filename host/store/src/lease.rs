//! Leases: who may do a piece of work, until when.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;

use crate::{Error, Expect, Kind, MetadataStore, Result};

/// A claim on a name by one holder. It ends when it is released or when its time
/// is over; after that another holder may take it.
///
/// Times are of a clock that all holders share and that runs by itself (the
/// machine's), never of one that can be set.
#[derive(Debug)]
pub struct Lease {
    name: String,
    holder: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Claim {
    holder: String,
    expires: Timestamp,
}

impl Lease {
    /// Claims a name for `duration` microseconds, or returns who holds it.
    /// A holder may claim its own lease again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn acquire(
        store: &dyn MetadataStore,
        name: &str,
        holder: &str,
        now: Timestamp,
        duration: i64,
    ) -> Result<Result<Self, String>> {
        let object = format!("lease/{name}");
        let expect = match store.get(&object).await? {
            None => Expect::Absent,
            Some(stored) => {
                let claim: Claim = serde_json::from_slice(&stored.value).map_err(|e| {
                    Error::caused(Kind::Corrupt, format!("lease `{name}` cannot be read"), e)
                })?;
                if claim.expires > now && claim.holder != holder {
                    return Ok(Err(claim.holder));
                }
                Expect::Version(stored.version)
            }
        };
        match store
            .put(&object, claim(holder, now.plus_micros(duration)), expect)
            .await
        {
            Ok(version) => Ok(Ok(Self {
                name: object,
                holder: holder.to_owned(),
                version,
            })),
            // Somebody was faster.
            Err(e) if e.kind() == Kind::Conflict => Ok(Err("another process".to_owned())),
            Err(e) => Err(e),
        }
    }

    /// Extends the lease to `duration` microseconds from `now`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was lost: it ran out and somebody else took it.
    pub async fn renew(
        &mut self,
        store: &dyn MetadataStore,
        now: Timestamp,
        duration: i64,
    ) -> Result<()> {
        let value = claim(&self.holder, now.plus_micros(duration));
        self.version = store
            .put(&self.name, value, Expect::Version(self.version))
            .await?;
        Ok(())
    }

    /// Gives the lease up; losing it meanwhile is no error.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn release(self, store: &dyn MetadataStore) -> Result<()> {
        match store
            .delete(&self.name, Expect::Version(self.version))
            .await
        {
            Err(e) if e.kind() == Kind::Conflict => Ok(()),
            other => other,
        }
    }
}

fn claim(holder: &str, expires: Timestamp) -> Bytes {
    let claim = Claim {
        holder: holder.to_owned(),
        expires,
    };
    serde_json::to_vec(&claim)
        .expect("a claim is plain data")
        .into()
}
