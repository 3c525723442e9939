//! Remote files, such as source files on S3, and the form of the URLs that they have.

use std::fmt::Debug;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::backend::fits;
use crate::{Error, Kind, OfflineTables, Result};

/// A remote file, as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// URL of the file.
    pub url: Url,
    /// Size in bytes.
    pub bytes: u64,
    /// Identifies the content, such as an entity tag: it changes when the content changes.
    pub version: String,
}

/// The files of a remote folder, and those of the folders below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteListing {
    /// The files, sorted by URL.
    pub files: Vec<RemoteFile>,
    /// The names of those that no URL stands for, such as `s3://b/in//a` or one with a line break,
    /// as the service has them. They cannot be read.
    pub odd: Vec<String>,
}

impl RemoteListing {
    /// Returns the files, if these are all that there are.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] with the first of the names that no URL stands for.
    pub fn all(self) -> Result<Vec<RemoteFile>> {
        match self.odd.first() {
            None => Ok(self.files),
            Some(name) => Err(Error::invalid(format!(
                "`{name}` cannot be read, because its name is not a path: give the file another name, or \
                 remove it"
            ))),
        }
    }
}

/// Reads and writes remote files.
#[async_trait]
pub trait RemoteFiles: Debug + Send + Sync + 'static {
    /// Returns the form of the URLs that are read, such as `s3://BUCKET/FOLDER`. What is before the
    /// colon is their scheme; a host follows `//` unless the form has `///`.
    fn form(&self) -> &'static str;

    /// Lists the file at `url`, or the files in the folder at `url` and in the folders below it.
    async fn list(&self, url: &Url) -> Result<RemoteListing>;

    /// Downloads a file to the local path `to`.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`](crate::Kind::Conflict) when the content changed since the
    /// file was listed.
    async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<()>;

    /// Uploads the local file `from`, replacing any file at `to`.
    async fn put(&self, from: &Path, to: &Url) -> Result<()>;

    /// Deletes a file. It is not an error if the file does not exist.
    async fn remove(&self, url: &Url) -> Result<()>;

    /// Returns the Delta tables in the folder at `url`, which others write. Their logs are read
    /// with the credentials, limits and attempts of the files.
    async fn tables(&self, url: &Url) -> Result<OfflineTables>;
}

/// Checks of URLs by any [`RemoteFiles`].
pub trait RemoteFilesExt: RemoteFiles {
    /// Parses the URL of a file or a folder.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the text is not of the [form](RemoteFiles::form) that is
    /// read.
    fn url(&self, text: &str) -> Result<Url> {
        let refused = || format!("`{text}` is not of the form {}", self.form());
        let url = Url::parse(text).map_err(|e| Error::caused(Kind::Invalid, refused(), e))?;
        match fits(&url, self.form()) {
            true => Ok(url),
            false => Err(Error::invalid(refused())),
        }
    }
}

impl<T: RemoteFiles + ?Sized> RemoteFilesExt for T {}

/// Remote files that this program cannot reach: every request fails, with the reason.
#[derive(Clone, Debug)]
pub struct UnreachableFiles {
    /// The form of their URLs.
    pub form: &'static str,
    /// Why they cannot be reached, and what to do about it.
    pub reason: String,
}

impl UnreachableFiles {
    fn error(&self, url: &Url) -> Error {
        Error::invalid(format!("{url} cannot be reached: {}", self.reason))
    }
}

#[async_trait]
impl RemoteFiles for UnreachableFiles {
    fn form(&self) -> &'static str {
        self.form
    }

    async fn list(&self, url: &Url) -> Result<RemoteListing> {
        Err(self.error(url))
    }

    async fn fetch(&self, file: &RemoteFile, _to: &Path) -> Result<()> {
        Err(self.error(&file.url))
    }

    async fn put(&self, _from: &Path, to: &Url) -> Result<()> {
        Err(self.error(to))
    }

    async fn remove(&self, url: &Url) -> Result<()> {
        Err(self.error(url))
    }

    async fn tables(&self, url: &Url) -> Result<OfflineTables> {
        Err(self.error(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_with_a_name_that_is_no_path_is_not_all() {
        let file = RemoteFile {
            url: Url::parse("s3://b/a").unwrap(),
            bytes: 1,
            version: String::new(),
        };
        let listing = RemoteListing {
            files: vec![file.clone()],
            odd: Vec::new(),
        };
        assert_eq!(listing.clone().all().unwrap(), [file]);
        let odd = vec!["s3://b//a".to_owned()];
        let error = RemoteListing { odd, ..listing }.all().unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.to_string().starts_with("`s3://b//a` cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn urls_are_of_the_form_that_is_read_or_refused() {
        let files = UnreachableFiles {
            form: "s3://BUCKET/FOLDER",
            reason: "this is a test".to_owned(),
        };
        for text in ["s3://b", "s3://b/f/a.csv", "s3://b/f/*.csv"] {
            assert_eq!(files.url(text).unwrap().host_str(), Some("b"), "{text}");
        }
        for text in ["http://b/f", "s3:///f", "s3:f", "f/a.csv", ""] {
            let error = files.url(text).unwrap_err().to_string();
            let wanted = format!("`{text}` is not of the form s3://BUCKET/FOLDER");
            assert!(error.starts_with(&wanted), "{error}");
        }
    }
}
