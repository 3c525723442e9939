//! The backends that open the stores of a project, chosen by the scheme of a URL.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use crate::{CheckedCode, Error, Lmdb, LmdbConfig, Result, Stores};

/// Where the stores of a project are.
#[derive(Clone, Debug)]
pub struct StoreLocation {
    /// Name of the project.
    pub project: String,
    /// URL of the online store (setting `store.online`). Its scheme chooses the backend.
    pub online: Url,
    /// URL of the folder with artifacts and offline tables (setting `store.objects`).
    pub objects: Url,
    /// Local folder for copies of artifacts (setting `store.path`).
    pub local: PathBuf,
    /// Maximum size in bytes of an embedded online store (setting `store.map_size`).
    pub map_size: u64,
}

/// Opens the stores of projects whose `store.online` is of one form.
#[async_trait]
pub trait Backend: Debug + Send + Sync {
    /// Returns the form of the URL in `store.online`, such as `dynamodb://TABLE`. What is before
    /// the colon is the scheme that chooses this backend; a host follows `//` unless the form
    /// has `///`.
    fn online_form(&self) -> &'static str;

    /// Returns the form of the URL in `store.objects`, such as `s3://BUCKET/FOLDER`.
    fn objects_form(&self) -> &'static str;

    /// Opens the stores. The URLs have the forms of this backend.
    ///
    /// # Errors
    /// Fails when a store cannot be reached or belongs to another project.
    async fn open(&self, location: &StoreLocation) -> Result<Stores>;
}

/// The backends that a program knows.
#[derive(Clone, Debug, Default)]
pub struct Backends(Vec<Arc<dyn Backend>>);

impl Backends {
    /// Adds a backend.
    #[must_use]
    pub fn with(mut self, backend: impl Backend + 'static) -> Self {
        self.0.push(Arc::new(backend));
        self
    }

    /// Returns the backend for a location.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](crate::Kind::Invalid) with the setting whose URL no backend
    /// opens.
    pub fn choose(&self, location: &StoreLocation) -> Result<&dyn Backend> {
        let refused = |setting: &str, url: &Url, forms: &[&str]| {
            let forms = forms.join(" or ");
            Error::invalid(format!(
                "store.{setting}: `{url}` is not of the form {forms}"
            ))
        };
        let mut backends = self.0.iter();
        let Some(backend) = backends.find(|b| fits(&location.online, b.online_form())) else {
            let forms: Vec<_> = self.0.iter().map(|backend| backend.online_form()).collect();
            return Err(refused("online", &location.online, &forms));
        };
        if !fits(&location.objects, backend.objects_form()) {
            let forms = [backend.objects_form()];
            return Err(refused("objects", &location.objects, &forms));
        }
        Ok(backend.as_ref())
    }

    /// Opens the stores at a location. Compiled code is [checked](CheckedCode) in all of them.
    ///
    /// # Errors
    /// Returns the errors of [`choose`](Self::choose) and of the backend.
    pub async fn open(&self, location: &StoreLocation) -> Result<Stores> {
        let stores = self.choose(location)?.open(location).await?;
        let metadata = Arc::clone(&stores.metadata);
        let artifacts = CheckedCode::new(stores.artifacts, metadata, &location.project);
        Ok(Stores {
            artifacts: Arc::new(artifacts),
            ..stores
        })
    }
}

/// Returns whether a URL has the scheme of a form, and a host if the form has one.
pub(crate) fn fits(url: &Url, form: &str) -> bool {
    let (scheme, rest) = form.split_once(':').unwrap_or((form, ""));
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let needs_host = rest.starts_with("//") && !rest.starts_with("///");
    url.scheme() == scheme && has_host == needs_host
}

/// The embedded backend: LMDB and folders on this machine.
///
/// The online store is in `online/` below `store.online`; artifacts and offline tables are in
/// `artifacts/` and `offline/` below `store.objects`.
#[derive(Clone, Copy, Debug)]
pub struct Embedded;

#[async_trait]
impl Backend for Embedded {
    fn online_form(&self) -> &'static str {
        "file:///FOLDER"
    }

    fn objects_form(&self) -> &'static str {
        "file:///FOLDER"
    }

    async fn open(&self, location: &StoreLocation) -> Result<Stores> {
        let online = Lmdb::open(&LmdbConfig {
            path: folder(&location.online)?.join("online"),
            map_size: location.map_size,
        })?;
        Stores::with_folder(Arc::new(online), &folder(&location.objects)?)
    }
}

fn folder(url: &Url) -> Result<PathBuf> {
    let path = url.to_file_path();
    path.map_err(|()| Error::invalid(format!("`{url}` does not name a folder of this machine")))
}

/// A backend that was left out when the program was compiled. It answers every attempt to open a
/// store with what to do.
#[derive(Clone, Debug)]
pub struct MissingBackend {
    /// The form of the URL in `store.online`.
    pub online_form: &'static str,
    /// The form of the URL in `store.objects`.
    pub objects_form: &'static str,
    /// What to do, such as the feature to enable.
    pub hint: String,
}

#[async_trait]
impl Backend for MissingBackend {
    fn online_form(&self) -> &'static str {
        self.online_form
    }

    fn objects_form(&self) -> &'static str {
        self.objects_form
    }

    async fn open(&self, location: &StoreLocation) -> Result<Stores> {
        Err(Error::invalid(format!(
            "{} and {}: {}",
            location.online, location.objects, self.hint
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Expect;

    fn location(online: &str, objects: &str) -> StoreLocation {
        StoreLocation {
            project: "p".to_owned(),
            online: Url::parse(online).unwrap(),
            objects: Url::parse(objects).unwrap(),
            local: PathBuf::new(),
            map_size: 1 << 20,
        }
    }

    fn backends() -> Backends {
        let missing = MissingBackend {
            online_form: "dynamodb://TABLE",
            objects_form: "s3://BUCKET/FOLDER",
            hint: "enable the feature `aws`".to_owned(),
        };
        Backends::default().with(missing).with(Embedded)
    }

    #[tokio::test]
    async fn backend_is_chosen_by_scheme_or_refused_by_setting() {
        for (online, objects, wanted) in [
            (
                "redis://t",
                "s3://b",
                "store.online: `redis://t` is not of the form dynamodb://TABLE or file:///FOLDER",
            ),
            (
                "dynamodb:t",
                "s3://b",
                "store.online: `dynamodb:t` is not of the form dynamodb://TABLE",
            ),
            (
                "dynamodb://t",
                "file:///tmp",
                "store.objects: `file:///tmp` is not of the form s3://BUCKET/FOLDER",
            ),
            (
                "dynamodb://t",
                "s3://b/f",
                "dynamodb://t and s3://b/f: enable the feature `aws`",
            ),
        ] {
            let error = backends().open(&location(online, objects)).await;
            let message = error.unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[tokio::test]
    async fn embedded_backend_opens_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(folder.path()).unwrap();
        let location = location(url.as_str(), url.as_str());
        let stores = backends().open(&location).await.unwrap();
        let metadata = stores.metadata;
        let value = bytes::Bytes::from_static(b"v");
        metadata
            .put("p/a", value.clone(), Expect::Absent)
            .await
            .unwrap();
        assert_eq!(metadata.get("p/a").await.unwrap().unwrap().value, value);
        for part in ["online/data.mdb", "artifacts", "offline"] {
            assert!(folder.path().join(part).exists(), "{part}");
        }
    }

    /// Returns the files and folders below a folder that others may read, write or list.
    fn open_to_others(folder: &Path) -> Vec<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let mut open = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.extend(open_to_others(&path));
            }
            if path.metadata().unwrap().permissions().mode() & 0o077 != 0 {
                open.push(path);
            }
        }
        open
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn embedded_stores_are_closed_to_others() {
        use arrow_schema::{DataType, Field, Schema};
        let folder = tempfile::tempdir().unwrap();
        // The folders of a store that an earlier version has made.
        for part in ["online", "artifacts", "offline"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let url = Url::from_directory_path(folder.path()).unwrap();
        let stores = backends().open(&location(url.as_str(), url.as_str())).await;
        let stores = stores.unwrap();
        let bytes = bytes::Bytes::from_static(b"code");
        for name in ["blobs/aa/bb", "compiled/here/cc.cwasm"] {
            stores.artifacts.put(name, bytes.clone()).await.unwrap();
        }
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        stores.offline.ensure("t", &schema).await.unwrap();
        assert!(folder.path().join("offline/t/_delta_log").is_dir());
        assert_eq!(open_to_others(folder.path()), Vec::<PathBuf>::new());
    }
}
