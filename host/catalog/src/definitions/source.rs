//! Sources: where raw rows come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wafer_core::{Duration, EpochUnit};

use crate::definitions::Format;

/// Where raw rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceDef {
    /// How the rows arrive: in files, as events, or as rows of a table.
    pub kind: SourceKind,
    /// The file, folder or pattern that batch runs read. A stream may have none.
    pub files: Option<Location>,
    /// The format of the files. `None` means the format that their extension stands for.
    pub format: Option<Format>,
    /// The time between a fact and its arrival in files.
    pub delay: Duration,
    /// How old an event may be when it comes in. `None` means any age.
    #[serde(default)]
    pub lateness: Option<Duration>,
    /// How far in the future an event time may lie.
    pub skew: Duration,
    /// How the columns of times are written, by name, where the values alone do not say it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<String, TimeDef>,
    /// The description of the source.
    pub doc: String,
}

/// How a column of times is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeDef {
    /// The unit in which integers count from 1970.
    pub unit: EpochUnit,
}

impl SourceDef {
    /// Returns the unit of the integers in a column of times, if it is declared.
    pub fn unit_of(&self, column: &str) -> Option<EpochUnit> {
        self.times.get(column).map(|time| time.unit)
    }

    /// Returns whether the source keeps its raw events.
    pub fn keeps_events(&self) -> bool {
        matches!(self.kind, SourceKind::Stream { archive: true, .. })
    }
}

impl SourceDef {
    /// Returns whether the source has files on this machine.
    pub fn is_here(&self) -> bool {
        matches!(self.files, Some(Location::Here(_)))
    }
}

/// Where the files of a source are: on this machine, or on S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Location {
    /// A path on this machine.
    Here(PathBuf),
    /// A URL such as `s3://BUCKET/FOLDER`.
    Remote(String),
}

impl Location {
    /// Creates the location that a setting stands for. A relative path starts at `folder`.
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

/// How the rows of a source arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// In files only.
    Files,
    /// As rows of a Delta table that others write, in the folder `files`.
    Delta {
        /// The version that is read. `None` means the newest one.
        version: Option<u64>,
    },
    /// As rows of another group.
    Table {
        /// The name of the other group.
        group: String,
    },
    /// As events that are pushed to the source.
    Stream {
        /// The field that identifies an event. `None` means the CloudEvents id, or else the digest
        /// of the event's content.
        id: Option<String>,
        /// How long the identity of an event is remembered.
        remember: Duration,
        /// Whether raw events are kept.
        archive: bool,
    },
}

/// The default of a source's `skew`.
pub const FIVE_MINUTES: Duration = Duration::from_mins(5);

/// The default of a stream's `remember`.
pub const SEVEN_DAYS: Duration = Duration::from_days(7);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_of_an_earlier_version_declares_no_times_and_is_stored_as_before() {
        let stored = r#"{"kind":"files","files":"a.csv","format":null,"delay":0,"lateness":null,"skew":0,"doc":""}"#;
        let source: SourceDef = serde_json::from_str(stored).unwrap();
        assert_eq!(source.unit_of("at"), None);
        let again: serde_json::Value = serde_json::to_value(&source).unwrap();
        assert!(again.get("times").is_none(), "{again}");
    }
}
