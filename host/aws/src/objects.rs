//! Folders of buckets, by `object_store`: for the offline tables, whose library uses it, and for
//! the outbox, whose objects are small.

mod create;
mod multipart;
mod resilient;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};
use url::Url;
use wafer_core::{Clock, without_userinfo};
use wafer_store::{Error, Expect, Kind, MetadataStore, Result};

use crate::account::{Account, S3_ATTEMPT_TIMEOUT};
use crate::page::{page, redirect};
use crate::s3::{BAD_CREDENTIALS, BucketClient, NO_BUCKET, OTHER_REGION, not_allowed};

use self::resilient::ResilientStore;

pub(crate) use self::create::Deadline;

/// What the library says of an answer that may be another one at the next attempt, as S3 answers
/// when it is busy or broken. It keeps the status in the text of its errors alone.
const PASSING_ANSWERS: [&str; 3] = [
    "non-2xx status code: 5",
    "non-2xx status code: 408",
    "non-2xx status code: 429",
];

/// What the library says of a redirect that leads nowhere, as S3 answers for a bucket of another
/// region. It leaves out the rest of the answer.
const NO_LOCATION: &str = "redirect without LOCATION";

/// A folder of an S3 bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    url: Url,
    /// Object store of the whole bucket.
    root: Arc<dyn ObjectStore>,
    /// Object store of the folder, whose paths are relative to it.
    folder: Arc<dyn ObjectStore>,
    /// Path of the folder in the bucket.
    prefix: Path,
    /// The objects of the whole bucket, by the AWS SDK.
    client: BucketClient,
}

/// Checks that a URL has a bucket and a folder alone. Nothing else of it would be used.
///
/// # Errors
/// Returns [`Kind::Invalid`] when it has a query, a fragment, a port, or a user.
pub(crate) fn check_folder(url: &Url) -> Result<()> {
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_options = url.query().is_some() || url.fragment().is_some();
    match has_user || has_options || url.port().is_some() {
        true => Err(Error::invalid(format!(
            "`{}` has more than a bucket and a folder, of which nothing would be used; write \
             s3://BUCKET/FOLDER",
            without_userinfo(url.as_str())
        ))),
        false => Ok(()),
    }
}

impl Bucket {
    /// Opens a folder such as `s3://BUCKET/FOLDER`, or the whole bucket `s3://BUCKET`. This makes
    /// no request to S3.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `url` is not an `s3://` URL, and when it has more than a
    /// bucket and a folder.
    pub fn open(account: &Account, url: &Url) -> Result<Self> {
        check_folder(url)?;
        let client = BucketClient::open(account, url)?;
        let root = ResilientStore::open(account, client.clone(), S3_ATTEMPT_TIMEOUT)
            .map_err(|e| failed(&format!("reach {url}"), e))?;
        let root: Arc<dyn ObjectStore> = Arc::new(root);
        let prefix = Path::from(url.path().trim_matches('/'));
        Ok(Self {
            url: url.clone(),
            folder: Arc::new(PrefixStore::new(Arc::clone(&root), prefix.clone())),
            root,
            prefix,
            client,
        })
    }

    /// Returns the object store of the whole bucket; paths start at the bucket.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.root)
    }

    /// Returns the object store of the folder; paths are relative to the folder.
    pub fn folder(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.folder)
    }

    /// Returns the objects of the whole bucket, by the AWS SDK.
    pub(crate) fn client(&self) -> &BucketClient {
        &self.client
    }

    /// Returns the key of an object in the bucket, from its path in this folder.
    pub(crate) fn key(&self, path: &Path) -> Path {
        self.prefix.parts().chain(path.parts()).collect()
    }

    /// Returns the URL of an object or folder within this folder.
    ///
    /// # Panics
    /// Panics when `name` cannot be part of a URL.
    pub fn url(&self, name: &str) -> Url {
        let base = format!("{}/{name}", self.url.as_str().trim_end_matches('/'));
        Url::parse(&base).expect("a name joined to a URL is one")
    }

    /// Runs [`probe`](Self::probe) unless `metadata` records that this folder passed it before,
    /// and records it then.
    pub(crate) async fn check(
        &self,
        metadata: &dyn MetadataStore,
        project: &str,
        clock: &dyn Clock,
    ) -> Result<()> {
        let name = format!("{project}/probed");
        let value = Bytes::from(self.url.to_string());
        let noted = metadata.get(&name).await?;
        if noted.is_some_and(|noted| noted.value == value) {
            return Ok(());
        }
        self.probe(clock).await?;
        metadata.put(&name, value, Expect::Anything).await?;
        Ok(())
    }

    /// Checks that the server honours conditional writes, which commits to tables rely on. Some
    /// servers accept the header `If-None-Match: *` and overwrite the object all the same.
    ///
    /// Also checks the permissions to list, write and delete, by using a temporary object below
    /// `probe/`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the server does not honour conditional writes, and the
    /// errors of S3, with the missing permissions.
    pub async fn probe(&self, clock: &dyn Clock) -> Result<()> {
        let path = Path::from(format!("probe/{}", clock.now().as_micros()));
        let put = |value: &'static [u8]| {
            let value = Bytes::from_static(value);
            self.folder
                .put_opts(&path, value.into(), PutMode::Create.into())
        };
        let about = |action: &str| format!("{action} {}", self.url);
        let listed = self.folder.list(Some(&path)).try_next().await;
        listed.map_err(|e| failed(&about("list"), e))?;
        put(b"1").await.map_err(|e| failed(&about("write to"), e))?;
        let second = put(b"2").await;
        let removed = self.folder.delete(&path).await;
        removed.map_err(|e| failed(&about("remove from"), e))?;
        match second {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(failed(&about("write to"), e)),
            Ok(_) => {
                let message = format!(
                    "{} writes over objects though it was asked not to (If-None-Match: *): two writers of \
                     a table would lose each other's commits. Use a store that honours it: AWS S3 does, \
                     MinIO and Ceph RADOS gateway do",
                    self.url
                );
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// Converts an error of `object_store`, with advice on how to fix it.
pub(crate) fn failed(action: &str, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    let text = error_chain(&error);
    if let Some((kind, said)) = page_in(&text) {
        // The error of the library has the whole page.
        return Error::new(kind, format!("cannot {action}: {said}"));
    }
    let is_denied =
        matches!(error, Store::PermissionDenied { .. }) || text.contains("AccessDenied");
    let (kind, advice) = match &error {
        _ if text.contains("NoSuchBucket") => (Kind::NotFound, NO_BUCKET.to_owned()),
        _ if is_denied => (Kind::Internal, format!(": {}", not_allowed(action))),
        Store::NotFound { .. } => (Kind::NotFound, String::new()),
        Store::AlreadyExists { .. } | Store::Precondition { .. } => (Kind::Conflict, String::new()),
        Store::Unauthenticated { .. } => (Kind::Internal, BAD_CREDENTIALS.to_owned()),
        _ if text.contains(NO_LOCATION) => (Kind::Invalid, OTHER_REGION.to_owned()),
        Store::Generic { .. } => (Kind::Unavailable, String::new()),
        _ => (Kind::Internal, String::new()),
    };
    Error::caused(kind, format!("cannot {action}{advice}"), error)
}

/// Says of the answer that an error is about that it is a page for people, or a redirect. The
/// library keeps the status and the body in the text of its errors alone, such as
/// `non-2xx status code: 403 Forbidden: <html>…`.
fn page_in(error: &str) -> Option<(Kind, String)> {
    let (_, answer) = error.split_once("non-2xx status code: ")?;
    let (status, body) = answer.split_once(": ")?;
    let status = status.split(' ').next()?.parse().ok()?;
    page(status, None, body.as_bytes()).or_else(|| redirect(status))
}

/// Returns whether another attempt may succeed: a connection broke, no answer came in time, or S3
/// was busy.
fn is_transient(error: &object_store::Error) -> bool {
    let object_store::Error::Generic { source, .. } = error else {
        return false;
    };
    let text = source.to_string();
    http_error(error).is_some() || PASSING_ANSWERS.iter().any(|answer| text.contains(answer))
}

/// Returns whether S3 may have done what an attempt asked for that failed with a transient error.
/// Without a connection, it was not asked.
fn leaves_doubt(error: &object_store::Error) -> bool {
    is_transient(error) && http_error(error).map(HttpError::kind) != Some(HttpErrorKind::Connect)
}

/// Returns the failure of a connection that is the cause of an error.
fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Joins the messages of an error and all of its causes.
fn error_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
