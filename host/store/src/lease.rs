//! Leases: exclusive claims on a piece of work that expire.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::{Duration, Timestamp};

use crate::{Error, Expect, Kind, MetadataStore, Result};

/// An exclusive claim on a name by one holder.
///
/// A lease ends when it is released or when it expires; after that another holder can acquire
/// it. It is stored as the object `lease/NAME` of a [`MetadataStore`].
///
/// All times must come from the machine's clock, which all holders share, and not from a
/// clock that can be set.
#[derive(Debug)]
pub struct Lease {
    name: String,
    holder: String,
    version: u64,
}

/// The outcome of an attempt to acquire a lease.
#[derive(Debug)]
pub enum Leased {
    /// The lease was acquired.
    Mine(Lease),
    /// Another holder, named here, has the lease.
    HeldBy(String),
}

#[derive(Serialize, Deserialize)]
struct Claim {
    holder: String,
    expires: Timestamp,
}

impl Lease {
    /// Acquires the lease on `name` for `duration` microseconds from `now`.
    ///
    /// A holder can acquire a lease again that it already has.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub async fn acquire(
        store: &dyn MetadataStore,
        name: &str,
        holder: &str,
        now: Timestamp,
        duration: Duration,
    ) -> Result<Leased> {
        let object = format!("lease/{name}");
        let expect = match store.get(&object).await? {
            None => Expect::Absent,
            Some(stored) => {
                let claim = read_claim(name, &stored.value)?;
                if claim.expires > now && claim.holder != holder {
                    return Ok(Leased::HeldBy(claim.holder));
                }
                Expect::Version(stored.version)
            }
        };
        match store
            .put(&object, claim(holder, now.plus(duration)), expect)
            .await
        {
            Ok(version) => Ok(Leased::Mine(Self {
                name: object,
                holder: holder.to_owned(),
                version,
            })),
            // Another process acquired it between the read and the write.
            Err(e) if e.kind() == Kind::Conflict => {
                Ok(Leased::HeldBy("another process".to_owned()))
            }
            Err(e) => Err(e),
        }
    }

    /// Extends the lease to `duration` microseconds from `now`.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the lease expired and another holder acquired it.
    pub async fn renew(
        &mut self,
        store: &dyn MetadataStore,
        now: Timestamp,
        duration: Duration,
    ) -> Result<()> {
        let value = claim(&self.holder, now.plus(duration));
        self.version = store
            .put(&self.name, value, Expect::Version(self.version))
            .await?;
        Ok(())
    }

    /// Transfers the lease to `holder`, for `duration` microseconds from `now`.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the lease expired and another holder acquired it.
    pub async fn hand_over(
        &mut self,
        store: &dyn MetadataStore,
        holder: &str,
        now: Timestamp,
        duration: Duration,
    ) -> Result<()> {
        holder.clone_into(&mut self.holder);
        self.renew(store, now, duration).await
    }

    /// Extends a holder's lease to `duration` microseconds from `now`, from any process.
    ///
    /// Nothing is written as long as more than two thirds of `duration` are left. Returns
    /// whether `holder` still has the lease.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub async fn keep(
        store: &dyn MetadataStore,
        name: &str,
        holder: &str,
        now: Timestamp,
        duration: Duration,
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
            if found.expires > now.plus(Duration::from_micros(duration.as_micros() / 3 * 2)) {
                return Ok(true);
            }
            let value = claim(holder, now.plus(duration));
            match store
                .put(&object, value, Expect::Version(stored.version))
                .await
            {
                // Another process extended or acquired the lease; read it again.
                Err(e) if e.kind() == Kind::Conflict => {}
                other => return other.map(|_| true),
            }
        }
    }

    /// Returns whether a holder has the lease on `name` at the time `now`.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub async fn is_held(store: &dyn MetadataStore, name: &str, now: Timestamp) -> Result<bool> {
        let Some(stored) = store.get(&format!("lease/{name}")).await? else {
            return Ok(false);
        };
        Ok(read_claim(name, &stored.value)?.expires > now)
    }

    /// Releases the lease. It is not an error if the lease was lost before.
    ///
    /// # Errors
    /// Returns the errors of the store.
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
