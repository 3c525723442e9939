//! `[store]`: where a project keeps its data.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::values::size;

/// Where a project keeps what it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Folder of the embedded stores. Setting `store.path`, environment
    /// `WAFER_STORE_PATH`; default `.wafer` beside the file.
    pub path: PathBuf,
    /// Most bytes of the online store. Setting `store.map_size`, default 64 GiB.
    pub map_size: u64,
    /// The stores on AWS, in the place of the embedded ones. `path` is then only for
    /// copies and temporary files.
    pub cloud: Option<CloudStores>,
}

/// Where a project keeps what it makes on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudStores {
    /// The table, `dynamodb://TABLE[?region=REGION][&reads=eventual]`. Setting
    /// `store.online`, environment `WAFER_STORE_ONLINE`.
    pub online: Url,
    /// The folder of everything else, `s3://BUCKET/FOLDER`. Setting `store.objects`,
    /// environment `WAFER_STORE_OBJECTS`.
    pub objects: Url,
}

/// Settings that come before those of a project's file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `store.path`.
    pub path: Option<PathBuf>,
    /// `store.online`.
    pub online: Option<String>,
    /// `store.objects`.
    pub objects: Option<String>,
}

impl Overrides {
    /// Those of the environment.
    pub fn from_environment() -> Self {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|text: &String| !text.is_empty())
        };
        Self {
            path: std::env::var_os("WAFER_STORE_PATH").map(PathBuf::from),
            online: text("WAFER_STORE_ONLINE"),
            objects: text("WAFER_STORE_OBJECTS"),
        }
    }
}

/// The stores on AWS, if there are any; or the setting that is wrong, and how.
pub(crate) fn cloud_stores(
    online: Option<String>,
    objects: Option<String>,
) -> Result<Option<CloudStores>, (String, String)> {
    let url = |key: &str, text: &str, scheme: &str, form: &str| {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == scheme);
        let url = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
        url.ok_or_else(|| {
            let message = format!("`{text}` is not of the form {form}");
            (format!("store.{key}"), message)
        })
    };
    let other = |given: &str, missing: &str| {
        let message = format!(
            "the stores on AWS are two: set `store.{missing}` as well (or WAFER_STORE_{})",
            missing.to_uppercase()
        );
        (format!("store.{given}"), message)
    };
    match (online, objects) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(other("online", "objects")),
        (None, Some(_)) => Err(other("objects", "online")),
        (Some(online), Some(objects)) => Ok(Some(CloudStores {
            online: url("online", &online, "dynamodb", "dynamodb://TABLE")?,
            objects: url("objects", &objects, "s3", "s3://BUCKET/FOLDER")?,
        })),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreTable {
    pub(crate) path: Option<PathBuf>,
    #[serde(default, deserialize_with = "size")]
    pub(crate) map_size: Option<u64>,
    pub(crate) online: Option<String>,
    pub(crate) objects: Option<String>,
}
