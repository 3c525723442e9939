//! Tables in a bucket: registers the bucket's object store with `deltalake`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore,
    logstore_factories, object_store_factories,
};
use deltalake::{DeltaResult, DeltaTableError};
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use super::OfflineTables;
use super::library::LibraryError;
use crate::{Error, Kind, Result};

/// The buckets that this process has opened, by the scheme and the host of their URLs. `deltalake`
/// looks object stores up by URL in a registry that is global to the process.
#[derive(Debug, Default)]
struct Buckets(RwLock<HashMap<String, Arc<dyn ObjectStore>>>);

impl OfflineTables {
    /// Opens the tables below the URL of a folder in a bucket, such as `s3://BUCKET/offline`. Its
    /// scheme may be any but those of this machine and of the web.
    ///
    /// `bucket` is the object store of the whole bucket. It must support conditional creation
    /// (`PutMode::Create`), because commits rely on it.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `root` is not the URL of a folder in a bucket.
    pub fn in_bucket(root: Url, bucket: Arc<dyn ObjectStore>) -> Result<Self> {
        let (buckets, name) = Buckets::named(&root)?;
        let mut known = buckets.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name, Arc::clone(&bucket));
        drop(known);
        Ok(Self {
            bucket: Some(bucket),
            ..Self::below(root)
        })
    }

    /// Opens tables that others write, like [`in_bucket`](Self::in_bucket). If tables of the bucket
    /// were opened before, they are reached as these are.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `root` is not the URL of a folder in a bucket.
    pub fn in_bucket_of_others(root: Url, bucket: Arc<dyn ObjectStore>) -> Result<Self> {
        let (buckets, name) = Buckets::named(&root)?;
        let mut known = buckets.0.write().unwrap_or_else(PoisonError::into_inner);
        let bucket = Arc::clone(known.entry(name).or_insert(bucket));
        drop(known);
        Ok(Self {
            bucket: Some(bucket),
            ..Self::below(root)
        })
    }

    /// Returns whether a table has a log in the bucket; always true if the tables are not in a
    /// bucket.
    pub(super) async fn is_in_bucket(&self, table: &str) -> Result<bool> {
        let Some(bucket) = &self.bucket else {
            return Ok(true);
        };
        let location = self.location(table);
        let log = format!("{}/_delta_log", location.path().trim_end_matches('/'));
        let log = Path::from_url_path(log).map_err(|e| {
            let message = format!("{location} is not a folder in a bucket");
            Error::caused(Kind::Invalid, message, LibraryError::new(&e))
        })?;
        let found = bucket.list(Some(&log)).try_next().await;
        let found = found.map_err(|e| {
            let message = format!("tables below {} cannot be listed", self.root);
            Error::caused(Kind::Unavailable, message, LibraryError::new(&e))
        })?;
        Ok(found.is_some())
    }
}

impl Buckets {
    fn of_this_process() -> Arc<Self> {
        static BUCKETS: OnceLock<Arc<Buckets>> = OnceLock::new();
        Arc::clone(BUCKETS.get_or_init(Arc::default))
    }

    /// Returns the buckets of this process, and the name among them of the one that a URL is in.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when it is not the URL of a folder in a bucket.
    fn named(root: &Url) -> Result<(Arc<Self>, String)> {
        let buckets = Self::of_this_process();
        let name = bucket_of(root).filter(|_| buckets.serve(root.scheme()));
        let name = name.ok_or_else(|| {
            Error::invalid(format!(
                "offline tables at `{root}`: write the URL of a folder in a bucket, \
                 SCHEME://BUCKET/FOLDER"
            ))
        })?;
        Ok((buckets, name))
    }

    /// Registers these buckets for URLs of a scheme. Returns whether buckets can have it: not if
    /// `deltalake` opens such URLs by itself, nor if there is no URL of the scheme alone, by which
    /// `deltalake` looks it up.
    fn serve(self: &Arc<Self>, scheme: &str) -> bool {
        match Url::parse(&format!("{scheme}://")) {
            Ok(url) if !matches!(scheme, "file" | "memory") => {
                object_store_factories().insert(url.clone(), Arc::clone(self) as _);
                logstore_factories().insert(url, Arc::clone(self) as _);
                true
            }
            _ => false,
        }
    }
}

/// Returns the part of a URL that names a bucket, if it names one.
fn bucket_of(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(format!("{}://{host}", url.scheme()))
}

impl ObjectStoreFactory for Buckets {
    fn parse_url_opts(
        &self,
        url: &Url,
        _config: &StorageConfig,
    ) -> DeltaResult<(ObjectStoreRef, Path)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket_of(url).and_then(|name| known.get(&name));
        let bucket =
            bucket.ok_or_else(|| DeltaTableError::InvalidTableLocation(url.to_string()))?;
        Ok((Arc::clone(bucket), Path::from_url_path(url.path())?))
    }
}

impl LogStoreFactory for Buckets {
    /// Uses the default log store, in which each commit is an object that is created only if
    /// there is none of that version.
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(
            prefixed_store,
            root_store,
            location,
            options,
        ))
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};
    use object_store::memory::InMemory;

    use super::*;

    fn in_bucket(root: &str) -> Result<OfflineTables> {
        OfflineTables::in_bucket(Url::parse(root).unwrap(), Arc::new(InMemory::new()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tables_are_in_the_bucket_of_their_scheme_and_name() {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        for root in ["s3://bucket/p/offline", "gs://bucket/p/offline"] {
            let tables = in_bucket(root).unwrap();
            assert!(!tables.is_in_bucket("t").await.unwrap(), "{root}");
            tables.ensure("t", &schema).await.unwrap();
            assert!(tables.is_in_bucket("t").await.unwrap(), "{root}");
            assert_eq!(tables.info("t").await.unwrap().files, 0);
        }
        for root in ["s3:///p", "file://h/p", "memory://h/p", "https://h/p"] {
            let error = in_bucket(root).unwrap_err().to_string();
            assert!(error.contains("SCHEME://BUCKET/FOLDER"), "{error}");
        }
    }
}
