//! `[entities]` and `[sources]`: what features describe, and where raw rows come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wafer_catalog::{Compression, Encoding, Format};
use wafer_core::{DecimalReading, Duration, Zone};
use wafer_store::{RemoteFiles, RemoteFilesExt as _};

use crate::error::BrokenRule;
use crate::file_options::{TimeConfig, file_options};
use crate::values::{duration, nullable_fields, size};

/// The table `[entities.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityConfig {
    /// The join keys and their types, in the order of the file.
    pub keys: toml::Table,
    /// The description of the entity.
    #[serde(default)]
    pub doc: String,
}

/// The table `[sources.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// How the rows arrive.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// The group whose rows are read, for a source of type `table`.
    pub group: Option<String>,
    /// A file, a folder, or a pattern with `*` in the file name. A source of type `files` reads
    /// its rows there; for a `stream`, it is what batch runs read, if anything; for `delta`, it is
    /// the folder of the table.
    pub path: Option<PathBuf>,
    /// The version of a `delta` table. The default is the newest one.
    pub version: Option<u64>,
    /// The format of the files. The default is the format that their extension stands for.
    pub format: Option<Format>,
    /// The time between a fact and its arrival in files. The default is 0.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<Duration>,
    /// How old an event may be when it comes in. Older ones wait in the group's
    /// late table until they are healed. By default, no event is too old.
    #[serde(default, deserialize_with = "duration")]
    pub lateness: Option<Duration>,
    /// How far in the future an event time may lie. The default is 5 minutes.
    #[serde(default, deserialize_with = "duration")]
    pub skew: Option<Duration>,
    /// The columns and their types, for pipelines without a function. A type with `?` after it
    /// allows nulls. The default is the columns of the files, if those have types.
    pub columns: Option<toml::Table>,
    /// How columns of times are written, by name.
    #[serde(default)]
    pub times: BTreeMap<String, TimeConfig>,
    /// The time zone of times that name none: a name of the IANA database, or an offset such as
    /// `+01:00`. By default, such times are refused.
    pub zone: Option<Zone>,
    /// What decimals of Parquet and Arrow become, by column: `float64` or `text`. By default, they
    /// are refused.
    #[serde(default)]
    pub decimals: BTreeMap<String, DecimalReading>,
    /// How text files are compressed: `gzip`, `zstd` or `none`. The default is what their extension
    /// says.
    pub compression: Option<Compression>,
    /// The largest size that a compressed file may decompress to. The default is 256 times its own
    /// size, and at least 64 MiB.
    #[serde(default, deserialize_with = "size")]
    pub max_decompressed: Option<u64>,
    /// The encoding of text files. The default is `utf-8`.
    pub encoding: Option<Encoding>,
    /// The character between the fields of CSV files. The default is a comma.
    pub delimiter: Option<String>,
    /// The character around fields of CSV files. The default is `"`; an empty text means that
    /// nothing is quoted.
    pub quote: Option<String>,
    /// The names of the columns of CSV files that have no header.
    pub header: Option<Vec<String>>,
    /// The texts of CSV files that stand for null, beside the empty one.
    pub nulls: Option<Vec<String>>,
    /// The field that identifies an event of a `stream`. The default is the CloudEvents id, or
    /// else the digest of the event's content.
    pub id: Option<String>,
    /// Whether the raw events of a `stream` are kept, so that later versions of a group can be
    /// filled from them. The default is yes.
    pub archive: Option<bool>,
    /// How long the identity of an event is remembered. The default is 7 days.
    #[serde(default, deserialize_with = "duration")]
    pub remember: Option<Duration>,
    /// The description of the source.
    #[serde(default)]
    pub doc: String,
}

/// The `type` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    /// Rows in files.
    Files,
    /// Rows of a Delta table that others write.
    Delta,
    /// Events that are pushed to the source.
    Stream,
    /// Rows of another group.
    Table,
}

impl SourceType {
    /// Returns whether events are pushed to sources of the type.
    pub fn takes_events(self) -> bool {
        match self {
            Self::Stream => true,
            Self::Files | Self::Delta | Self::Table => false,
        }
    }
}

/// Checks that what reads remote files reads the `path` of a source, if that is a URL. The key of a
/// returned error is relative to the source.
pub(crate) fn check_url(source: &SourceConfig, remote: &dyn RemoteFiles) -> Result<(), BrokenRule> {
    match url(source) {
        Some(url) if remote.url(url).is_err() => {
            let form = remote.form();
            let message = format!("`{url}` is neither a path nor of the form {form}");
            Err(BrokenRule::new("path", message))
        }
        _ => Ok(()),
    }
}

/// Returns the `path` of a source if it is a URL.
fn url(source: &SourceConfig) -> Option<&str> {
    let path = source.path.as_ref()?.to_str();
    path.filter(|path| path.contains("://"))
}

/// Checks that a source has the keys of its type. The key of a returned error is relative to
/// the source.
pub(crate) fn check_source(source: &SourceConfig) -> Result<(), BrokenRule> {
    file_options(source)?;
    if let Some(columns) = &source.columns {
        nullable_fields(columns, "columns")?;
    }
    let wrong = |key: &str, message: &str| Err(BrokenRule::new(key, message));
    let stream_only = |key: &str| wrong(key, "is for sources of type `stream`");
    match source.kind {
        SourceType::Delta if source.path.is_none() => {
            wrong("path", "is missing: name the folder of the Delta table")
        }
        SourceType::Delta if source.format.is_some() => {
            wrong("format", "is for sources of type `files` or `stream`")
        }
        _ if source.version.is_some() && source.kind != SourceType::Delta => {
            wrong("version", "is for sources of type `delta`")
        }
        SourceType::Table if source.group.is_none() => {
            wrong("group", "is missing: name the group whose rows are read")
        }
        SourceType::Table if source.path.is_some() => {
            wrong("path", "is for sources of type `files` or `stream`")
        }
        SourceType::Table if source.format.is_some() => {
            wrong("format", "is for sources of type `files` or `stream`")
        }
        SourceType::Table if source.skew.is_some() => wrong(
            "skew",
            "is for sources of type `files` or `stream`: the rows of a group were admitted there",
        ),
        SourceType::Stream if source.format.is_some() && source.path.is_none() => wrong(
            "format",
            "is that of the files at `path`, and the source has none",
        ),
        SourceType::Files | SourceType::Stream | SourceType::Delta if source.group.is_some() => {
            wrong("group", "is for sources of type `table`")
        }
        SourceType::Files if source.path.is_none() => wrong(
            "path",
            "is missing: name a file, a folder, or a pattern such as data/*.csv",
        ),
        SourceType::Stream => Ok(()),
        _ if source.id.is_some() => stream_only("id"),
        _ if source.remember.is_some() => stream_only("remember"),
        _ if source.archive.is_some() => stream_only("archive"),
        _ if source.lateness.is_some() => stream_only("lateness"),
        _ => Ok(()),
    }
}
