//! Source files on S3.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;
use url::Url;
use wafer_store::{Error, Kind, RemoteFile, RemoteFiles, Result};

use crate::account::Account;
use crate::objects::{Bucket, failed, upload};

/// Files in any bucket that the credentials of this process can access. Credentials are loaded
/// when they are first needed.
#[derive(Debug, Default)]
pub struct Files {
    account: OnceCell<Account>,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Files {
    async fn bucket(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let known = || self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = known().get(&name) {
            return Ok(Arc::clone(bucket));
        }
        let account = self
            .account
            .get_or_try_init(|| Account::from_environment(None))
            .await?;
        let bucket = Bucket::open(account, url)?.root();
        known().insert(name, Arc::clone(&bucket));
        Ok(bucket)
    }
}

fn file(url: &Url, meta: ObjectMeta) -> RemoteFile {
    let mut url = url.clone();
    url.set_path(&format!("/{}", meta.location));
    RemoteFile {
        url,
        bytes: meta.size,
        version: meta
            .e_tag
            .unwrap_or_else(|| meta.last_modified.to_rfc3339()),
    }
}

fn path(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path()).map_err(|e| {
        let message = format!("`{url}` is no path on S3");
        Error::caused(Kind::Invalid, message, e)
    })
}

#[async_trait]
impl RemoteFiles for Files {
    async fn list(&self, url: &Url) -> Result<Vec<RemoteFile>> {
        let bucket = self.bucket(url).await?;
        let path = path(url)?;
        let about = format!("list {url}");
        if !url.path().ends_with('/') {
            match bucket.head(&path).await {
                Ok(meta) => return Ok(vec![file(url, meta)]),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed(&about, e)),
            }
        }
        let listed = bucket.list_with_delimiter(Some(&path)).await;
        let mut files: Vec<RemoteFile> = listed
            .map_err(|e| failed(&about, e))?
            .objects
            .into_iter()
            .map(|meta| file(url, meta))
            .collect();
        files.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(files)
    }

    async fn fetch(&self, file: &RemoteFile, to: &FilePath) -> Result<()> {
        let bucket = self.bucket(&file.url).await?;
        let about = format!("read {}", file.url);
        let options = GetOptions {
            if_match: Some(file.version.clone()),
            ..GetOptions::default()
        };
        let found = match bucket.get_opts(&path(&file.url)?, options).await {
            Err(object_store::Error::Precondition { .. }) => {
                let message = format!("{} was changed while it was read; run again", file.url);
                return Err(Error::new(Kind::Conflict, message));
            }
            other => other.map_err(|e| failed(&about, e))?,
        };
        let copy_failed = |e| {
            let message = format!("cannot copy {} to {}", file.url, to.display());
            Error::caused(Kind::Unavailable, message, e)
        };
        let mut copy = tokio::fs::File::create(to).await.map_err(copy_failed)?;
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| failed(&about, e))?;
            copy.write_all(&piece).await.map_err(copy_failed)?;
        }
        copy.flush().await.map_err(copy_failed)
    }

    async fn put(&self, from: &FilePath, to: &Url) -> Result<()> {
        let bucket = self.bucket(to).await?;
        upload(bucket.as_ref(), &path(to)?, from, &format!("write {to}")).await
    }

    async fn remove(&self, url: &Url) -> Result<()> {
        match self.bucket(url).await?.delete(&path(url)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed(&format!("remove {url}"), e)),
        }
    }
}
