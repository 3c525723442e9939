//! `[store]`: where a project stores its data.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::environment::{check_url, path_variable, url_variable};
use crate::error::{BrokenRule, ProjectError};
use crate::values::size;

/// What the URLs of stores on AWS look like, for error messages.
const ONLINE_FORM: &str = "dynamodb://TABLE";
const OBJECTS_FORM: &str = "s3://BUCKET/FOLDER";

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
    ///
    /// # Errors
    /// Returns a [`ProjectError`] that names the variable whose value is not a URL.
    pub fn from_environment() -> Result<Self, ProjectError> {
        Ok(Self {
            path: path_variable("WAFER_STORE_PATH"),
            online: url_variable("WAFER_STORE_ONLINE", ONLINE_FORM)?,
            objects: url_variable("WAFER_STORE_OBJECTS", OBJECTS_FORM)?,
        })
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
    let url = |key: &str, text: &str, form: &str| {
        check_url(text, form).map_err(|message| BrokenRule::new(format!("store.{key}"), message))
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
            online: url("online", &online, ONLINE_FORM)?,
            objects: url("objects", &objects, OBJECTS_FORM)?,
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
