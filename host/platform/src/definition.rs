//! What was applied: a project's definitions with everything resolved, each
//! stored as an object by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wafer_core::aggregate::{Aggregate, Layout};
use wafer_core::expect::Expectation;
use wafer_core::{DataType, Digest, Field, Schema, SchemaError, Task};
use wafer_runtime::{Limits, Registered};

use crate::models::VersionName;
use crate::source::Format;
use crate::training::Split;

/// Everything that a project defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Sources by name.
    pub sources: BTreeMap<String, SourceDef>,
    /// Functions by name.
    pub functions: BTreeMap<String, FunctionDef>,
    /// Groups by name.
    pub groups: BTreeMap<String, GroupDef>,
    /// Pipelines by name.
    pub pipelines: BTreeMap<String, PipelineDef>,
    /// Views by name.
    pub views: BTreeMap<String, ViewDef>,
    /// Models by name.
    pub models: BTreeMap<String, ModelDef>,
}

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
    pub(crate) fn keeps_events(&self) -> bool {
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
    pub(crate) fn of(folder: &Path, setting: &Path) -> Self {
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

/// A function that was registered, with its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionDef {
    /// Identity, signature and snapshot.
    pub registered: Registered,
    /// How much it may use.
    pub limits: Limits,
    /// Digests of its assets.
    pub assets: BTreeMap<String, Digest>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
}

/// A component that is kept to be loaded with what a training makes, or to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentDef {
    /// Name of the function.
    pub name: String,
    /// Digest of the component's bytes, an artifact.
    pub component: Digest,
    /// Digests of its own assets, artifacts.
    pub assets: BTreeMap<String, Digest>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// How much it may use.
    pub limits: Limits,
    /// How it is compiled.
    pub strict_nan: bool,
}

/// A model: what its versions have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDef {
    /// View that it reads.
    pub view: String,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// What it predicts.
    pub task: Option<Task>,
    /// Output of its function that is the prediction; absent: the first number.
    pub prediction: Option<String>,
    /// Function that predicts, once it is loaded with a version's artifacts.
    pub function: ComponentDef,
    /// Function that trains.
    pub trainer: Option<ComponentDef>,
    /// Parameters of trainings, in addition to the trainer's.
    pub parameters: BTreeMap<String, String>,
    /// Where trainings take their rows from.
    pub training: TrainingDef,
    /// Who answers for it.
    pub owner: String,
    /// Whatever else there is to say.
    pub tags: BTreeMap<String, String>,
    /// Description.
    pub doc: String,
}

/// What a training is made of unless it is said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingDef {
    /// File of labels.
    pub labels: Option<PathBuf>,
    /// Column of the labels' time.
    pub time: Option<String>,
    /// Parts that rows are shared out to.
    pub split: Option<Split>,
}

/// A version of a stored, typed table of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDef {
    /// Name of the group.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// Entity that the features describe.
    pub entity: String,
    /// Join keys, in the entity's order.
    pub keys: Vec<Field>,
    /// Output of the function that is the event time.
    pub event_time: String,
    /// What is stored of each row, in the order of the function's outputs.
    pub columns: Vec<Field>,
    /// Features over windows of rows; none: the columns of the newest row are the
    /// features.
    #[serde(default)]
    pub aggregates: Vec<AggregateDef>,
    /// What rows must be like.
    #[serde(default)]
    pub expectations: Vec<Expectation>,
    /// Microseconds that a row is good for.
    pub ttl: Option<i64>,
    /// Description.
    pub doc: String,
}

impl GroupDef {
    /// Name of this version in both stores: `plane_outcome_v1`.
    pub fn table(&self) -> String {
        format!("{}_v{}", self.name, self.version)
    }

    /// Says by which columns rows of the online store are packed.
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.columns)
    }

    /// What a view can take: the columns, or the aggregates over them.
    pub fn features(&self) -> Vec<Field> {
        if self.aggregates.is_empty() {
            return self.columns.clone();
        }
        self.aggregates.iter().map(|a| a.field.clone()).collect()
    }

    /// The aggregates, without their names.
    pub(crate) fn aggregate_list(&self) -> Vec<Aggregate> {
        self.aggregates
            .iter()
            .map(|a| a.aggregate.clone())
            .collect()
    }

    /// Types of the columns.
    pub(crate) fn column_types(&self) -> Vec<DataType> {
        self.columns.iter().map(|c| c.data_type.clone()).collect()
    }

    /// How its events are summed up online, if they are.
    pub(crate) fn layout(&self) -> Option<Layout> {
        let aggregates = self.aggregate_list();
        (!aggregates.is_empty()).then(|| Layout::new(&aggregates, &self.column_types()))
    }

    /// The table of its rows.
    pub fn rows_table(&self) -> TableDef {
        TableDef {
            name: self.table(),
            entity: self.entity.clone(),
            keys: self.keys.clone(),
            columns: self.columns.clone(),
            aggregates: self.aggregate_list(),
            subjects: Vec::new(),
        }
    }

    /// The table of rows that came too late, to be healed.
    pub fn late_table(&self) -> TableDef {
        TableDef {
            name: format!("{}{LATE}", self.table()),
            ..self.rows_table()
        }
    }

    /// The table of rows that were set aside.
    pub fn quarantine_table(&self) -> TableDef {
        let field = |name, doc: &str, nullable| Field {
            doc: doc.to_owned(),
            ..Field::new(name, DataType::Utf8, nullable)
        };
        TableDef {
            name: format!("{}_quarantine", self.table()),
            entity: self.entity.clone(),
            keys: Vec::new(),
            columns: vec![
                field("reason", "Why the row was set aside.", false),
                field(
                    "place",
                    "Where it came from: a file and its row, or a source.",
                    false,
                ),
                field("row", "What was read, as JSON.", true),
            ],
            aggregates: Vec::new(),
            subjects: Vec::new(),
        }
    }
}

/// Says by which columns a row is packed.
pub(crate) fn fingerprint(columns: &[Field]) -> u64 {
    let columns: Vec<String> = columns
        .iter()
        .map(|f| format!("{} {}", f.name, f.data_type))
        .collect();
    Digest::of(columns.join(",").as_bytes()).prefix()
}

/// A feature over a window of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateDef {
    /// Name and type of the feature.
    pub field: Field,
    /// What it is.
    pub aggregate: Aggregate,
}

/// A table of the offline store. All have the columns of [`SYSTEM_COLUMNS`]
/// between their keys and their other columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    /// Its name.
    pub name: String,
    /// The kind of entity that its rows describe, or were to describe; none for raw
    /// events.
    #[serde(default)]
    pub entity: String,
    /// Columns that name the entity.
    pub keys: Vec<Field>,
    /// All others.
    pub columns: Vec<Field>,
    /// How its rows are summed up online, if they are: this never changes.
    #[serde(default)]
    pub aggregates: Vec<Aggregate>,
    /// Entities that its rows are about, without being their features: deleted with them.
    #[serde(default)]
    pub subjects: Vec<Subject>,
}

/// An entity that rows of a table are about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The kind of entity.
    pub entity: String,
    /// Its join keys.
    pub keys: Vec<Field>,
    /// For each of them the table's column that holds it.
    pub columns: Vec<String>,
}

/// How the names of tables of late rows end.
pub(crate) const LATE: &str = "_late";

impl TableDef {
    /// Whether it holds rows that wait to be healed.
    pub(crate) fn is_late(&self) -> bool {
        !self.keys.is_empty() && self.name.ends_with(LATE)
    }

    /// Its columns: keys, times, identity, others.
    pub fn schema(&self) -> Schema {
        Self::checked(&self.keys, &self.columns)
            .expect("names were checked when the table was made up")
    }

    /// The columns of a table with these.
    ///
    /// # Errors
    /// When they are too many, or their names are not what names of columns are.
    pub(crate) fn checked(keys: &[Field], columns: &[Field]) -> Result<Schema, SchemaError> {
        let time = |name| Field::new(name, DataType::Timestamp, false);
        let [event, available, created, id] = SYSTEM_COLUMNS;
        let system = [
            time(event),
            time(available),
            time(created),
            Field::new(id, DataType::Utf8, false),
        ];
        let fields = keys.iter().cloned().chain(system);
        Schema::new(fields.chain(columns.iter().cloned()).collect())
    }

    /// The raw events of a stream: what came in, when, and which tables it was
    /// written to. Their event time is when they came in.
    pub fn archive(source: &str) -> Self {
        let field = |name, doc: &str| Field {
            doc: doc.to_owned(),
            ..Field::new(name, DataType::Utf8, false)
        };
        Self {
            name: format!("{source}_events"),
            entity: String::new(),
            keys: Vec::new(),
            columns: vec![
                field("payload", "The event as it came in, JSON."),
                field(
                    "tables",
                    "Tables that it was written to, separated by commas.",
                ),
            ],
            aggregates: Vec::new(),
            subjects: Vec::new(),
        }
    }
}

/// Columns that every offline table has for itself.
pub const SYSTEM_COLUMNS: [&str; 4] = [
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
    "event_id",
];

/// What makes rows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// A function.
    Function(String),
    /// A version of a model: a row for each prediction.
    Model(VersionName),
}

impl MadeBy {
    /// The function, if it is one.
    pub fn function(&self) -> Option<&String> {
        match self {
            Self::Function(function) => Some(function),
            Self::Model(_) => None,
        }
    }
}

impl std::fmt::Display for MadeBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function(function) => f.write_str(function),
            Self::Model(model) => model.fmt(f),
        }
    }
}

/// Source, function or model, and group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineDef {
    /// Where rows come from.
    pub source: String,
    /// What makes features of them.
    #[serde(flatten)]
    pub made_by: MadeBy,
    /// Where features go.
    pub group: String,
    /// When it runs by itself.
    #[serde(default)]
    pub schedule: Option<ScheduleDef>,
    /// Description.
    pub doc: String,
}

/// When a pipeline runs by itself, and what happens when it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleDef {
    /// When, as five fields of cron: each time ends one data interval and begins
    /// the next.
    pub cron: String,
    /// Whose clock, by its IANA name.
    pub timezone: String,
    /// Microseconds after the end of an interval from which on requests see its rows:
    /// what it is waited for its data and what the run takes.
    pub delay: i64,
    /// Microseconds after the end of an interval until it is run: what it is waited for
    /// its data.
    pub start_after: i64,
    /// Intervals that are made up for after a pause; older ones are left out.
    pub catch_up: u32,
    /// What happens when an interval is due while another is still run.
    pub overlap: Overlap,
    /// How often a failed run is repeated.
    pub retries: u32,
    /// Microseconds until the first repetition; doubled for each further one.
    pub backoff: i64,
    /// Microseconds that a run may take.
    pub time_limit: Option<i64>,
}

/// What happens when an interval is due while another is still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is run afterwards.
    Wait,
    /// It is left out.
    Skip,
}

/// What a model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    /// Fields that a request row has: join keys, then request fields.
    pub inputs: Vec<Field>,
    /// Groups that are looked up.
    pub lookups: Vec<LookupDef>,
    /// Functions that are called, in order.
    pub functions: Vec<OnDemandDef>,
    /// Description.
    pub doc: String,
}

/// A group that a view looks up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupDef {
    /// The group.
    pub group: String,
    /// Prefix of its features.
    pub alias: String,
    /// For each join key, the input of the view that holds it.
    pub keys: Vec<String>,
    /// Positions of the taken features in the group.
    pub features: Vec<usize>,
}

/// A function that a view calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDemandDef {
    /// The function. Its inputs are inputs of the view, looked-up features or
    /// outputs of earlier functions, by name.
    pub function: String,
}

/// Name of a looked-up feature in its view.
pub(crate) fn feature_name(alias: &str, feature: &str) -> String {
    format!("{alias}_{feature}")
}
