//! What was applied: a project's definitions with everything resolved, each
//! stored as an object by itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Digest, Field, Schema};
use wafer_runtime::{Limits, Registered};

use crate::source::Format;

/// Everything that a project defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

/// Where raw rows come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDef {
    /// Files, or a stream of events.
    pub kind: SourceKind,
    /// Files, folder or pattern to read in batch runs; a stream may have none.
    pub files: Option<PathBuf>,
    /// Format of the files; absent: by their extension.
    pub format: Option<Format>,
    /// Microseconds between a fact and its arrival, for files.
    pub delay: i64,
    /// Microseconds that an event time may lie in the future.
    pub skew: i64,
    /// Description.
    pub doc: String,
}

/// How rows of a source arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// In files only.
    Files,
    /// As events, pushed in.
    Stream {
        /// Field that identifies an event.
        id: Option<String>,
        /// Microseconds that an event's identity is remembered.
        remember: i64,
    },
}

/// A function that was registered, with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A version of a stored, typed table of features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Features, in the order of the function's outputs.
    pub features: Vec<Field>,
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
        let columns: Vec<String> = self
            .features
            .iter()
            .map(|f| format!("{} {}", f.name, f.data_type))
            .collect();
        Digest::of(columns.join(",").as_bytes()).prefix()
    }

    /// Columns of the offline table: keys, times, identity, features.
    pub fn offline_schema(&self) -> Schema {
        let time = |name| Field::new(name, DataType::Timestamp, false);
        let system = [
            time("event_timestamp"),
            time("available_timestamp"),
            time("created_timestamp"),
            Field::new("event_id", DataType::Utf8, false),
        ];
        let fields = self
            .keys
            .iter()
            .cloned()
            .chain(system)
            .chain(self.features.iter().cloned());
        Schema::new(fields.collect()).expect("names were checked when the group was resolved")
    }
}

/// Names that the offline table has for itself.
pub(crate) const SYSTEM_COLUMNS: [&str; 4] = [
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
    "event_id",
];

/// Source, function and group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineDef {
    /// Where rows come from.
    pub source: String,
    /// What makes features of them.
    pub function: String,
    /// Where features go.
    pub group: String,
    /// Description.
    pub doc: String,
}

/// What a model reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl ViewDef {
    /// The features of the view, in the order in which they are answered.
    ///
    /// # Panics
    /// When the view is not of these definitions.
    pub fn outputs(&self, definitions: &Definitions) -> Vec<Field> {
        let mut fields = Vec::new();
        for lookup in &self.lookups {
            let group = &definitions.groups[&lookup.group];
            fields.extend(lookup.features.iter().map(|index| {
                let feature = &group.features[*index];
                // An entity that is not known has no value.
                Field {
                    name: feature_name(&lookup.alias, &feature.name),
                    nullable: true,
                    ..feature.clone()
                }
            }));
        }
        for function in &self.functions {
            let signature = &definitions.functions[&function.function]
                .registered
                .signature;
            fields.extend(signature.outputs.fields().iter().cloned());
        }
        fields
    }
}

/// A group that a view looks up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemandDef {
    /// The function. Its inputs are inputs of the view, looked-up features or
    /// outputs of earlier functions, by name.
    pub function: String,
}

/// Name of a looked-up feature in its view.
pub(crate) fn feature_name(alias: &str, feature: &str) -> String {
    format!("{alias}_{feature}")
}
