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
use crate::{Error, Kind, Result};

/// The buckets that this process has opened, by name. `deltalake` looks object stores up by URL
/// in a registry that is global to the process.
#[derive(Debug, Default)]
struct Buckets(RwLock<HashMap<String, Arc<dyn ObjectStore>>>);

impl OfflineTables {
    /// Opens the tables below a URL such as `s3://BUCKET/offline`.
    ///
    /// `bucket` is the object store of the whole bucket. It must support conditional creation
    /// (`PutMode::Create`), because commits rely on it.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `root` is not an `s3://` URL.
    pub fn in_bucket(root: Url, bucket: Arc<dyn ObjectStore>) -> Result<Self> {
        let name = root.host_str().filter(|_| root.scheme() == "s3");
        let name = name.ok_or_else(|| {
            let message = format!("offline tables at `{root}`: write s3://BUCKET/FOLDER");
            Error::new(Kind::Invalid, message)
        })?;
        let buckets = Buckets::of_this_process();
        let mut known = buckets.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Arc::clone(&bucket));
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
        let log = format!("{}/_delta_log", self.location(table).path());
        let found = bucket.list(Some(&Path::from(log))).try_next().await;
        let found = found.map_err(|e| {
            let message = format!("tables below {} cannot be listed", self.root);
            Error::caused(Kind::Unavailable, message, e)
        })?;
        Ok(found.is_some())
    }
}

impl Buckets {
    fn of_this_process() -> Arc<Self> {
        static BUCKETS: OnceLock<Arc<Buckets>> = OnceLock::new();
        let buckets = BUCKETS.get_or_init(|| {
            let buckets = Arc::new(Self::default());
            let scheme = Url::parse("s3://").expect("`s3://` is a valid URL");
            object_store_factories().insert(scheme.clone(), Arc::clone(&buckets) as _);
            logstore_factories().insert(scheme, Arc::clone(&buckets) as _);
            buckets
        });
        Arc::clone(buckets)
    }
}

impl ObjectStoreFactory for Buckets {
    fn parse_url_opts(
        &self,
        url: &Url,
        _config: &StorageConfig,
    ) -> DeltaResult<(ObjectStoreRef, Path)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let bucket = url.host_str().and_then(|name| known.get(name));
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
