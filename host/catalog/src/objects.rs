//! Small objects in the metadata store. They are kept as JSON, under names that start with the
//! project's name.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wafer_store::{Error, Expect, Kind, Result};

use crate::context::Context;
use crate::stored::read;

/// How often a change is tried again when other processes write the object at the same time.
pub(crate) const ATTEMPTS: usize = 50;

impl Context {
    /// Reads an object and its version, or returns `None` if there is no object of that name.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when the object cannot be decoded, and the errors of the
    /// metadata store.
    pub async fn object<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, u64)>> {
        let full_name = format!("{}/{name}", self.project());
        let stored = self.components().stores.metadata.get(&full_name).await?;
        let read =
            |stored: wafer_store::Versioned| Ok((read(&full_name, &stored.value)?, stored.version));
        stored.map(read).transpose()
    }

    /// Reads all objects whose names start with `below` and a slash. Returns them in the order of
    /// their names, with the rest of each name.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when an object cannot be decoded, and the errors of the metadata
    /// store.
    pub async fn objects<T: DeserializeOwned>(&self, below: &str) -> Result<Vec<(String, T)>> {
        let prefix = format!("{}/{below}/", self.project());
        let stored = self.components().stores.metadata.list(&prefix).await?;
        stored
            .into_iter()
            .map(|(name, object)| {
                Ok((name[prefix.len()..].to_owned(), read(&name, &object.value)?))
            })
            .collect()
    }

    /// Writes an object and returns its new version.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the stored object is not what `expect` says, and the errors
    /// of the metadata store.
    pub async fn put_object<T: Serialize>(
        &self,
        name: &str,
        object: &T,
        expect: Expect,
    ) -> Result<u64> {
        let json = serde_json::to_vec(object).expect("objects are plain data");
        let full_name = format!("{}/{name}", self.project());
        self.components()
            .stores
            .metadata
            .put(&full_name, json.into(), expect)
            .await
    }

    /// Deletes an object if it still has this version.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the object has changed, and the errors of the metadata
    /// store.
    pub async fn delete_object(&self, name: &str, version: u64) -> Result<()> {
        let full_name = format!("{}/{name}", self.project());
        let metadata = &self.components().stores.metadata;
        let deleted = metadata.delete(&full_name, Expect::Version(version)).await;
        deleted.map_err(|e| match e {
            e if e.kind() == Kind::Conflict => {
                let message =
                    format!("another process changed `{name}` at the same time; look at it again");
                Error::caused(Kind::Conflict, message, e)
            }
            e => e,
        })
    }

    /// Deletes an object, whatever its version is. Does nothing if there is none.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn remove_object(&self, name: &str) -> Result<()> {
        let full_name = format!("{}/{name}", self.project());
        let metadata = &self.components().stores.metadata;
        metadata.delete(&full_name, Expect::Anything).await
    }

    /// Changes an object that other processes may change at the same time. `change` is called with
    /// the stored object and returns the new one. If the stored object has changed before the new
    /// one is written, `change` is called again.
    ///
    /// # Errors
    /// Returns the error of `change`, and [`Kind::Unavailable`] when too many others change the
    /// object.
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
        let message = format!("`{name}` is changed by too many processes at once; try again");
        Err(Error::new(Kind::Unavailable, message))
    }
}
