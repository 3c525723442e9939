//! Sources: where raw rows come from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::definitions::Format;

/// Where raw rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceDef {
    /// Files, or a stream of events.
    pub kind: SourceKind,
    /// Files, folder or pattern to read in batch runs; a stream may have none.
    pub files: Option<Location>,
    /// Format of the files; absent: by their extension.
    pub format: Option<Format>,
    /// Microseconds between a fact and its arrival, for files.
    pub delay: i64,
    /// Microseconds that an event may be old when it comes in.
    #[serde(default)]
    pub lateness: Option<i64>,
    /// Microseconds that an event time may lie in the future.
    pub skew: i64,
    /// Description.
    pub doc: String,
}

impl SourceDef {
    /// Whether its raw events are kept.
    pub fn keeps_events(&self) -> bool {
        matches!(self.kind, SourceKind::Stream { archive: true, .. })
    }
}

impl SourceDef {
    /// Whether it has files on this machine.
    pub fn is_here(&self) -> bool {
        matches!(self.files, Some(Location::Here(_)))
    }
}

/// Where files are: on this machine, or on S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Location {
    /// A path.
    Here(PathBuf),
    /// A URL, `s3://BUCKET/…`.
    Remote(String),
}

impl Location {
    /// From a setting; a path that is not whole starts at `folder`.
    pub fn of(folder: &Path, setting: &Path) -> Self {
        match setting.to_str() {
            Some(url) if url.contains("://") => Self::Remote(url.to_owned()),
            _ => Self::Here(folder.join(setting)),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Here(path)
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self::of(Path::new(""), Path::new(&text))
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        match location {
            Location::Here(path) => path.display().to_string(),
            Location::Remote(url) => url,
        }
    }
}

/// How rows of a source arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// In files only.
    Files,
    /// As rows of another group.
    Table {
        /// The group.
        group: String,
    },
    /// As events, pushed in.
    Stream {
        /// Field that identifies an event.
        id: Option<String>,
        /// Microseconds that an event's identity is remembered.
        remember: i64,
        /// Whether raw events are kept.
        archive: bool,
    },
}

/// How far in the future event times may lie, unless it is said otherwise.
pub const FIVE_MINUTES: i64 = 300_000_000;

/// How long events' identities are remembered, unless it is said otherwise.
pub const SEVEN_DAYS: i64 = 7 * 86_400_000_000;
