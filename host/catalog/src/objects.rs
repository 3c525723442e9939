//! Small objects of the metadata store, as JSON, below the project's name.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;

/// How often something is read again and changed when others write it meanwhile.
const ATTEMPTS: usize = 50;

impl Context {
    /// An object and its version.
    pub async fn object<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, u64)>> {
        let full = format!("{}/{name}", self.project());
        let stored = self.components().metadata.get(&full).await?;
        let read =
            |stored: wafer_store::Versioned| Ok((read(&full, &stored.value)?, stored.version));
        stored.map(read).transpose()
    }

    /// All objects below a name, by the rest of their names, in order.
    pub async fn objects<T: DeserializeOwned>(&self, below: &str) -> Result<Vec<(String, T)>> {
        let prefix = format!("{}/{below}/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        stored
            .into_iter()
            .map(|(name, object)| {
                Ok((name[prefix.len()..].to_owned(), read(&name, &object.value)?))
            })
            .collect()
    }

    /// Writes an object; its version.
    pub async fn put_object<T: Serialize>(
        &self,
        name: &str,
        object: &T,
        expect: Expect,
    ) -> Result<u64> {
        let json = serde_json::to_vec(object).expect("objects are plain data");
        let full = format!("{}/{name}", self.project());
        self.components()
            .metadata
            .put(&full, json.into(), expect)
            .await
    }

    /// Deletes an object that still has a version.
    pub async fn delete_object(&self, name: &str, version: u64) -> Result<()> {
        let full = format!("{}/{name}", self.project());
        let metadata = &self.components().metadata;
        let deleted = metadata.delete(&full, Expect::Version(version)).await;
        deleted.map_err(|e| match e {
            e if e.kind() == Kind::Conflict => {
                let message = format!("`{name}` was changed meanwhile; look at it again");
                Error::caused(Kind::Conflict, message, e)
            }
            e => e,
        })
    }

    /// Changes an object, which others may change at the same time: what `change` makes of
    /// what is there is written if it is still there, else `change` is asked again.
    pub async fn change_object<T, F>(&self, name: &str, mut change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> Result<T>,
    {
        for _ in 0..ATTEMPTS {
            let (before, expect) = match self.object(name).await? {
                Some((before, version)) => (Some(before), Expect::Version(version)),
                None => (None, Expect::Absent),
            };
            let after = change(before)?;
            match self.put_object(name, &after, expect).await {
                Err(e) if e.kind() == Kind::Conflict => {}
                written => return written.map(|_| after),
            }
        }
        let message = format!("`{name}` is changed by many at once; try again");
        Err(Error::new(Kind::Unavailable, message))
    }
}

/// Reads an object of that name.
pub fn read<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|e| {
        let message = format!("stored object `{name}` cannot be read");
        Error::caused(Kind::Internal, message, e)
    })
}
