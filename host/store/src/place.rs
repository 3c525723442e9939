//! Where a file or a folder is that others write.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::path::Path;
use url::Url;

use wafer_core::without_userinfo;

use crate::{Error, RemoteFiles, RemoteFilesExt as _, Result};

/// A file or a folder: on this machine, or a remote one with what reads it.
#[derive(Clone, Debug)]
pub enum Place {
    /// A path on this machine.
    Here(PathBuf),
    /// A URL. Its path has no empty names, and each character in the one form that
    /// [`below`](Self::below) writes as well.
    Remote(Url, Arc<dyn RemoteFiles>),
}

impl Place {
    /// Creates the place that a URL names.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](crate::Kind::Invalid) when the text is not of the form that is
    /// read, or has no path.
    pub fn remote(text: &str, files: Arc<dyn RemoteFiles>) -> Result<Self> {
        let mut url = files.url(text)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let has_options = url.query().is_some() || url.fragment().is_some();
        if has_user || has_options || url.port().is_some() {
            return Err(Error::invalid(format!(
                "`{}` has more than a bucket and a path, of which nothing would be used; write {}",
                without_userinfo(text),
                files.form()
            )));
        }
        let path = Path::from_url_path(url.path()).map_err(|_| {
            Error::invalid(format!(
                "`{text}` is not of the form {}: a name in its path is empty, or cannot be one",
                files.form()
            ))
        })?;
        url.set_path(&format!("/{}", encoded(path.as_ref())));
        Ok(Self::Remote(url, files))
    }

    /// Returns the place of something below this folder. The names of `path` are as they are, not
    /// as a URL has them.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        match self {
            Self::Here(folder) => Self::Here(folder.join(path)),
            Self::Remote(folder, files) => {
                let mut url = folder.clone();
                let above = folder.path().trim_end_matches('/');
                url.set_path(&format!("{above}/{}", encoded(path)));
                Self::Remote(url, Arc::clone(files))
            }
        }
    }

    /// Returns the path or the URL, for messages.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Here(path) => path.clone(),
            Self::Remote(url, _) => PathBuf::from(url.as_str()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown().display())
    }
}

/// Encodes a path as far as setting it in a URL does not do that.
fn encoded(path: &str) -> String {
    path.replace('%', "%25")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, UnreachableFiles};

    #[test]
    fn places_below_a_folder_are_shown_as_paths_and_urls() {
        let files: Arc<dyn RemoteFiles> = Arc::new(UnreachableFiles {
            form: "s3://BUCKET/FOLDER",
            reason: "this is a test".to_owned(),
        });
        for (folder, path, wanted) in [
            ("s3://b/t", "a.parquet", Ok("s3://b/t/a.parquet")),
            ("s3://b/t/", "x=1/a", Ok("s3://b/t/x=1/a")),
            ("s3://b", "a", Ok("s3://b/a")),
            ("s3://b/a b", "c d%20?", Ok("s3://b/a%20b/c%20d%2520%3F")),
            ("s3://b/a%2Fb", "c", Ok("s3://b/a/b/c")),
            ("s3://b/a//b", "c", Err("`s3://b/a//b` is not of the form")),
            ("gs://b/a", "c", Err("`gs://b/a` is not of the form")),
            (
                "s3://b/t?versionId=3",
                "c",
                Err("`s3://b/t?versionId=3` has more"),
            ),
            (
                "s3://b/t#x",
                "c",
                Err("`s3://b/t#x` has more than a bucket"),
            ),
            (
                "s3://b:1/t",
                "c",
                Err("`s3://b:1/t` has more than a bucket"),
            ),
            ("s3://me:secret@b/t", "c", Err("`s3://b/t` has more")),
        ] {
            let place = Place::remote(folder, Arc::clone(&files));
            match (place, wanted) {
                (Ok(place), Ok(wanted)) => assert_eq!(place.below(path).to_string(), wanted),
                (Err(error), Err(wanted)) => {
                    assert_eq!(error.kind(), Kind::Invalid);
                    assert!(error.to_string().starts_with(wanted), "{error}");
                }
                (found, wanted) => panic!("{folder}: {found:?}, not {wanted:?}"),
            }
        }
        let here = Place::Here("/data/t".into()).below("x=1/a b");
        assert_eq!(here.to_string(), "/data/t/x=1/a b");
    }
}
