//! `[entities]` and `[sources]`.

use std::path::PathBuf;

use serde::Deserialize;
use wafer_catalog::Format;

use crate::values::duration;

/// `[entities.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityConfig {
    /// Join keys and their types, in the order of the file.
    pub keys: toml::Table,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `[sources.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// How rows arrive.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Group whose rows are read, of a source of type `table`.
    pub group: Option<String>,
    /// A file, a folder, or a pattern with `*` in the file name: the rows of a
    /// `files` source; for a `stream` what batch runs read, if anything.
    pub path: Option<PathBuf>,
    /// `parquet`, `csv` or `ndjson`; default by the files' extension.
    pub format: Option<Format>,
    /// Between a fact and its arrival, for files; default none.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<i64>,
    /// How old an event may be when it comes in: older ones wait in the group's late
    /// table until they are healed; default: none is too old.
    #[serde(default, deserialize_with = "duration")]
    pub lateness: Option<i64>,
    /// How far in the future an event time may lie; default 5 minutes.
    #[serde(default, deserialize_with = "duration")]
    pub skew: Option<i64>,
    /// Field that identifies an event of a `stream`; default: the CloudEvents
    /// id, or the hash of the event's content.
    pub id: Option<String>,
    /// Whether the raw events of a `stream` are kept, for functions of later
    /// versions; default yes.
    pub archive: Option<bool>,
    /// How long the identity of an event is remembered; default 7 days.
    #[serde(default, deserialize_with = "duration")]
    pub remember: Option<i64>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `type` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    /// Rows in files.
    Files,
    /// Events, pushed in.
    Stream,
    /// Rows of another group.
    Table,
}

pub(crate) fn check_source(source: &SourceConfig) -> Result<(), (&'static str, String)> {
    let url = source.path.as_ref().and_then(|path| path.to_str());
    if let Some(url) = url.filter(|url| url.contains("://") && !url.starts_with("s3://")) {
        let message = format!("`{url}` is neither a path nor of the form s3://BUCKET/FOLDER");
        return Err(("path", message));
    }
    let stream_only = |key| Err((key, "is for sources of type `stream`".to_owned()));
    match source.kind {
        SourceType::Table if source.group.is_none() => Err((
            "group",
            "is missing: name the group whose rows are read".to_owned(),
        )),
        SourceType::Table if source.path.is_some() => Err((
            "path",
            "is for sources of type `files` or `stream`".to_owned(),
        )),
        SourceType::Files | SourceType::Stream if source.group.is_some() => {
            Err(("group", "is for sources of type `table`".to_owned()))
        }
        SourceType::Files if source.path.is_none() => Err((
            "path",
            "is missing: name a file, a folder, or a pattern such as data/*.csv".to_owned(),
        )),
        SourceType::Stream => Ok(()),
        _ if source.id.is_some() => stream_only("id"),
        _ if source.remember.is_some() => stream_only("remember"),
        _ if source.archive.is_some() => stream_only("archive"),
        _ if source.lateness.is_some() => stream_only("lateness"),
        _ => Ok(()),
    }
}
