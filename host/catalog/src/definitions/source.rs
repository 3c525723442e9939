//! Sources: where raw rows come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, DecimalReading, Duration, EpochUnit, Reading, TimeFormat, Zone};

use crate::definitions::{FileOptions, Format};

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
    /// The time zone of times that name none, in columns that declare no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// What decimals become, by the name of their column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decimals: BTreeMap<String, DecimalReading>,
    /// How the files are written.
    #[serde(default, skip_serializing_if = "FileOptions::is_default")]
    pub options: FileOptions,
    /// The description of the source.
    pub doc: String,
}

/// How a column of times is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeDef {
    /// The unit in which integers count from 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<EpochUnit>,
    /// How texts are written, where it is not RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TimeFormat>,
    /// The time zone of times that name none. `None` means that of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Whether digits beyond microseconds are cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
}

impl SourceDef {
    /// Returns a source of files of which nothing else is declared.
    pub fn of_files(files: Location) -> Self {
        Self {
            kind: SourceKind::Files,
            files: Some(files),
            format: None,
            delay: Duration::ZERO,
            lateness: None,
            skew: Duration::ZERO,
            times: BTreeMap::new(),
            zone: None,
            decimals: BTreeMap::new(),
            options: FileOptions::default(),
            doc: String::new(),
        }
    }

    /// Returns what is declared of a column.
    pub fn reading_of(&self, column: &str) -> Reading {
        let time = self.times.get(column).cloned().unwrap_or_default();
        Reading {
            unit: time.unit,
            format: time.format,
            zone: time.zone.or(self.zone),
            truncate: time.truncate,
            decimal: self.decimals.get(column).copied(),
        }
    }

    /// Returns the bytes of all that is declared of the columns and the files, or `None` if nothing
    /// is. Rows that were read by other declarations are read again.
    pub fn declared(&self) -> Option<Vec<u8>> {
        let is_nothing = self.times.is_empty()
            && self.zone.is_none()
            && self.decimals.is_empty()
            && self.options.is_default();
        let declared = (&self.times, self.zone, &self.decimals, &self.options);
        let bytes = || serde_json::to_vec(&declared).expect("declarations are plain data");
        (!is_nothing).then(bytes)
    }

    /// Returns whether the source keeps its raw events.
    pub fn keeps_events(&self) -> bool {
        self.kind.keeps_events()
    }

    /// Returns whether the source has files on this machine.
    pub fn is_here(&self) -> bool {
        matches!(self.files, Some(Location::Here(_)))
    }
}

/// A column that was found in the files of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundColumn {
    /// The name of the column.
    pub name: String,
    /// The type that it can be read as; `None` if it has nothing but nulls, which every type has.
    /// Or why it cannot be read, and what to do about it.
    pub data_type: Result<Option<DataType>, String>,
    /// Whether it may be null.
    pub nullable: bool,
}

/// Where the files of a source are: on this machine, or elsewhere.
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

/// What is different from one kind to the next. Each question is answered for every kind, so that
/// the compiler names what a new kind has to say.
impl SourceKind {
    /// Returns the name of the kind, which is the `type` in the project file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Delta { .. } => "delta",
            Self::Table { .. } => "table",
            Self::Stream { .. } => "stream",
        }
    }

    /// Returns what a source of the kind is, as messages say it.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Files => "a source of files",
            Self::Delta { .. } => "a Delta table",
            Self::Table { .. } => "the table of a group",
            Self::Stream { .. } => "a stream",
        }
    }

    /// Returns whether the files of the source, if it has any, hold its rows and are read one by
    /// one. Of a table, only the files that its log names count.
    pub fn reads_files_one_by_one(&self) -> bool {
        match self {
            Self::Files | Self::Stream { .. } => true,
            Self::Delta { .. } | Self::Table { .. } => false,
        }
    }

    /// Returns the other group of the project whose table is read, if it is one. Such a table has
    /// the rows of recent events only when they were flushed, and its changes make runs due.
    pub fn upstream(&self) -> Option<&str> {
        match self {
            Self::Table { group } => Some(group),
            Self::Files | Self::Delta { .. } | Self::Stream { .. } => None,
        }
    }

    /// Returns whether rows were admitted before they came into the source. They are selected by
    /// the times at which they were available then, not by their event times.
    pub fn is_admitted_upstream(&self) -> bool {
        match self {
            Self::Table { .. } => true,
            Self::Files | Self::Delta { .. } | Self::Stream { .. } => false,
        }
    }

    /// Returns whether events are pushed to the source.
    pub fn takes_events(&self) -> bool {
        match self {
            Self::Stream { .. } => true,
            Self::Files | Self::Delta { .. } | Self::Table { .. } => false,
        }
    }

    /// Returns whether raw events are kept in a table of their own.
    pub fn keeps_events(&self) -> bool {
        match self {
            Self::Stream { archive, .. } => *archive,
            Self::Files | Self::Delta { .. } | Self::Table { .. } => false,
        }
    }
}

/// The default of a source's `skew`.
pub const FIVE_MINUTES: Duration = Duration::from_mins(5);

/// The default of a stream's `remember`.
pub const SEVEN_DAYS: Duration = Duration::from_days(7);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_of_an_earlier_version_declares_nothing_and_is_stored_as_before() {
        let stored = r#"{"kind":"files","files":"a.csv","format":null,"delay":0,"lateness":null,"skew":0,"doc":""}"#;
        let source: SourceDef = serde_json::from_str(stored).unwrap();
        assert_eq!(source.reading_of("at"), Reading::default());
        assert!(source.options.is_default());
        let again: serde_json::Value = serde_json::to_value(&source).unwrap();
        let before: serde_json::Value = serde_json::from_str(stored).unwrap();
        assert_eq!(again, before);
    }
}
