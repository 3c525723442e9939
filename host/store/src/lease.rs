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
                let claim = read_claim(name, &stored.value)?;
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

    /// Makes it another holder's, for `duration` microseconds from `now`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was lost.
    pub async fn hand_over(
        &mut self,
        store: &dyn MetadataStore,
        holder: &str,
        now: Timestamp,
        duration: i64,
    ) -> Result<()> {
        holder.clone_into(&mut self.holder);
        self.renew(store, now, duration).await
    }

    /// Extends a holder's lease, from whichever process, to `duration` microseconds
    /// from `now` when a third of that is over; says whether it still has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keep(
        store: &dyn MetadataStore,
        name: &str,
        holder: &str,
        now: Timestamp,
        duration: i64,
    ) -> Result<bool> {
        let object = format!("lease/{name}");
        loop {
            let Some(stored) = store.get(&object).await? else {
                return Ok(false);
            };
            let found = read_claim(name, &stored.value)?;
            if found.holder != holder {
                return Ok(false);
            }
            if found.expires > now.plus_micros(duration / 3 * 2) {
                return Ok(true);
            }
            let value = claim(holder, now.plus_micros(duration));
            match store
                .put(&object, value, Expect::Version(stored.version))
                .await
            {
                // Somebody else extended or took it: looked at again.
                Err(e) if e.kind() == Kind::Conflict => {}
                other => return other.map(|_| true),
            }
        }
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

fn read_claim(name: &str, value: &[u8]) -> Result<Claim> {
    serde_json::from_slice(value)
        .map_err(|e| Error::caused(Kind::Corrupt, format!("lease `{name}` cannot be read"), e))
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
