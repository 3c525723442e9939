//! `[store]`: where a project stores its data.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::error::BrokenRule;
use crate::values::size;

/// Where a project stores its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The folder of the embedded stores. It is set by `store.path` or the environment variable
    /// `WAFER_STORE_PATH`. The default is `.wafer` beside the project file.
    pub path: PathBuf,
    /// The maximum size of the embedded online store in bytes, set by `store.map_size`. The
    /// default is 64 GiB.
    pub map_size: u64,
    /// The stores elsewhere, which replace the embedded ones. `path` then only holds copies and
    /// temporary files.
    pub cloud: Option<CloudStores>,
}

/// Where a project stores its data, if not on this machine. The schemes of the URLs choose a
/// [`Backend`](wafer_store::Backend).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudStores {
    /// The online store, such as `dynamodb://TABLE?region=REGION`. It is set by `store.online` or the
    /// environment variable `WAFER_STORE_ONLINE`.
    pub online: Url,
    /// The folder of everything else, such as `s3://BUCKET/FOLDER`. It is set by `store.objects` or
    /// the environment variable `WAFER_STORE_OBJECTS`.
    pub objects: Url,
}

/// Settings that override those of the project file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Overrides `store.path`.
    pub path: Option<PathBuf>,
    /// Overrides `store.online`.
    pub online: Option<String>,
    /// Overrides `store.objects`.
    pub objects: Option<String>,
}

impl Overrides {
    /// Reads the overrides from the environment variables `WAFER_STORE_PATH`, `WAFER_STORE_ONLINE`
    /// and `WAFER_STORE_OBJECTS`.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads settings from the environment"
    )]
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

/// Returns the stores elsewhere, or `None` if neither setting is given.
///
/// # Errors
/// Returns the key that is wrong. The two settings are required together.
pub(crate) fn cloud_stores(
    online: Option<String>,
    objects: Option<String>,
) -> Result<Option<CloudStores>, BrokenRule> {
    let url = |key: &str, text: &str, example: &str| {
        Url::parse(text).map_err(|error| {
            let message = format!("`{text}` is not a URL such as {example}: {error}");
            BrokenRule::new(format!("store.{key}"), message)
        })
    };
    let other = |given: &str, missing: &str| {
        let message = format!(
            "the two stores belong together: set `store.{missing}` as well (or WAFER_STORE_{})",
            missing.to_uppercase()
        );
        BrokenRule::new(format!("store.{given}"), message)
    };
    match (online, objects) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(other("online", "objects")),
        (None, Some(_)) => Err(other("objects", "online")),
        (Some(online), Some(objects)) => Ok(Some(CloudStores {
            online: url("online", &online, "dynamodb://TABLE")?,
            objects: url("objects", &objects, "s3://BUCKET/FOLDER")?,
        })),
    }
}

/// The table `[store]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreTable {
    pub(crate) path: Option<PathBuf>,
    #[serde(default, deserialize_with = "size")]
    pub(crate) map_size: Option<u64>,
    pub(crate) online: Option<String>,
    pub(crate) objects: Option<String>,
}
