//! Source files on S3.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use object_store::path::Path;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;
use url::Url;
use wafer_store::{Error, Kind, OfflineTables, RemoteFile, RemoteFiles, RemoteListing, Result};

use crate::account::Account;
use crate::objects::Bucket;
use crate::region::account_of_bucket;
use crate::s3::{BucketClient, Content, Existing, Listing, ObjectInfo};

/// Files in any bucket that the credentials of this process can access, in any region of their
/// partition. Credentials are loaded when they are first needed, and the region of a bucket is
/// asked for once.
#[derive(Debug, Default)]
pub struct Files {
    account: OnceCell<Account>,
    buckets: Mutex<HashMap<String, OpenedBucket>>,
}

/// A bucket whose region is known.
#[derive(Clone, Debug)]
struct OpenedBucket {
    /// The account in the region of the bucket.
    account: Account,
    client: BucketClient,
}

impl Files {
    async fn bucket(&self, url: &Url) -> Result<BucketClient> {
        Ok(self.opened(url).await?.client)
    }

    async fn opened(&self, url: &Url) -> Result<OpenedBucket> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let known = || self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = known().get(&name) {
            return Ok(bucket.clone());
        }
        let account = self
            .account
            .get_or_try_init(|| Account::from_environment(None))
            .await?;
        // A URL that is not of S3 is refused before S3 is asked about it.
        let bucket = BucketClient::open(account, url)?;
        let account = account_of_bucket(account, bucket.bucket()).await?;
        let client = BucketClient::open(&account, url)?;
        let bucket = OpenedBucket { account, client };
        known().insert(name, bucket.clone());
        Ok(bucket)
    }
}

fn file(url: &Url, object: ObjectInfo) -> RemoteFile {
    let mut url = url.clone();
    // All other characters that a URL encodes are encoded when the path is set.
    let key = object.key.to_string().replace('%', "%25");
    url.set_path(&format!("/{key}"));
    RemoteFile {
        url,
        bytes: object.bytes,
        version: object.entity_tag,
    }
}

fn path(url: &Url) -> Result<Path> {
    Path::from_url_path(url.path()).map_err(|e| {
        let message = format!("`{url}` is not a path on S3");
        Error::caused(Kind::Invalid, message, e)
    })
}

#[async_trait]
impl RemoteFiles for Files {
    fn form(&self) -> &'static str {
        "s3://BUCKET/FOLDER"
    }

    async fn list(&self, url: &Url) -> Result<RemoteListing> {
        let bucket = self.bucket(url).await?;
        let path = path(url)?;
        let about = format!("list {url}");
        // Without a path, the URL names the whole bucket, which is a folder.
        let is_folder = url.path().is_empty() || url.path().ends_with('/');
        if !is_folder && let Some(object) = bucket.head(&path, &about).await? {
            return Ok(RemoteListing {
                files: vec![file(url, object)],
                odd: Vec::new(),
            });
        }
        let Listing { objects, odd } = bucket.list(&path, &about).await?;
        let mut files: Vec<RemoteFile> = objects.into_iter().map(|o| file(url, o)).collect();
        files.sort_by(|a, b| a.url.cmp(&b.url));
        let name = |key: String| format!("s3://{}/{key}", bucket.bucket());
        let odd = odd.into_iter().map(name).collect();
        Ok(RemoteListing { files, odd })
    }

    async fn fetch(&self, file: &RemoteFile, to: &FilePath) -> Result<()> {
        let bucket = self.bucket(&file.url).await?;
        let (key, about) = (path(&file.url)?, format!("read {}", file.url));
        let changed = |e: Error| match e.kind() {
            Kind::Conflict => {
                let message = format!("{} was changed while it was read; run again", file.url);
                Error::new(Kind::Conflict, message)
            }
            _ => e,
        };
        let found = bucket.open_object(&key, Some(&file.version), &about).await;
        let found = found.map_err(changed)?.ok_or_else(|| {
            let message = format!("cannot {about}: there is no such file any more");
            Error::new(Kind::NotFound, message)
        })?;
        let copy_failed = |e| {
            let message = format!("cannot copy {} to {}", file.url, to.display());
            Error::caused(Kind::Unavailable, message, e)
        };
        let mut copy = tokio::fs::File::create(to).await.map_err(copy_failed)?;
        let mut pieces = pin!(found.pieces());
        while let Some(piece) = pieces.try_next().await.map_err(changed)? {
            copy.write_all(&piece).await.map_err(copy_failed)?;
        }
        copy.flush().await.map_err(copy_failed)
    }

    async fn put(&self, from: &FilePath, to: &Url) -> Result<()> {
        let (bucket, content) = (self.bucket(to).await?, Content::of_file(from).await?);
        let about = format!("write {to}");
        let existing = Existing::Replace;
        bucket.write(&path(to)?, &content, existing, &about).await
    }

    async fn remove(&self, url: &Url) -> Result<()> {
        let bucket = self.bucket(url).await?;
        bucket.delete(&path(url)?, &format!("remove {url}")).await
    }

    async fn tables(&self, url: &Url) -> Result<OfflineTables> {
        let account = self.opened(url).await?.account;
        let bucket = Bucket::open(&account, url)?;
        OfflineTables::in_bucket_of_others(url.clone(), bucket.root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_listed_files_lead_back_to_their_keys() {
        let bucket = Url::parse("s3://b/in/").unwrap();
        for (key, wanted) in [
            ("in/a b.csv", "s3://b/in/a%20b.csv"),
            ("in/a%20b.csv", "s3://b/in/a%2520b.csv"),
            ("in/100%.csv", "s3://b/in/100%25.csv"),
            ("in/a?b#c.csv", "s3://b/in/a%3Fb%23c.csv"),
        ] {
            let object = ObjectInfo {
                key: Path::parse(key).unwrap(),
                bytes: 1,
                entity_tag: String::new(),
            };
            let listed = file(&bucket, object).url;
            assert_eq!(listed.as_str(), wanted);
            assert_eq!(path(&listed).unwrap().to_string(), key);
        }
    }
}
