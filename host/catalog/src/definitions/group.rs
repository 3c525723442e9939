//! Feature groups: stored, versioned tables of features.

use serde::{Deserialize, Serialize};
use wafer_core::aggregate::{Aggregate, ItemLayout};
use wafer_core::expect::Expectation;
use wafer_core::{DataType, Digest, Duration, Field};

use crate::definitions::{LATE, TableDef};

/// The most bytes that the looked-up values of a request may take, those of all its lookups
/// together, each counted as often as the request asks for it. A row that takes more is rejected,
/// because no request could ever look it up.
pub const MAX_FOUND_BYTES: u64 = 32 << 20;

/// A version of a feature group: a stored, typed table of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDef {
    /// The name of the group.
    pub name: String,
    /// The number of the version, from 1.
    pub version: u32,
    /// The name of the entity that the features describe.
    pub entity: String,
    /// The join keys, in the order of the entity.
    pub keys: Vec<Field>,
    /// The name of the function's output that is the event time.
    pub event_time: String,
    /// The stored columns beside join keys and event time, in the order of the function's outputs.
    /// New columns of a version come last.
    pub columns: Vec<Field>,
    /// The features over windows of rows. If there are none, the columns of the newest row are the
    /// features.
    #[serde(default)]
    pub aggregates: Vec<AggregateDef>,
    /// The rules that rows must meet.
    #[serde(default)]
    pub expectations: Vec<Expectation>,
    /// How long a row is good for. `None` means forever.
    pub ttl: Option<Duration>,
    /// The description of the group.
    pub doc: String,
}

impl GroupDef {
    /// Returns version 1 of a group that has neither keys nor columns, and whose rows are good
    /// forever.
    pub fn new(name: &str, entity: &str, event_time: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 1,
            entity: entity.to_owned(),
            keys: Vec::new(),
            event_time: event_time.to_owned(),
            columns: Vec::new(),
            aggregates: Vec::new(),
            expectations: Vec::new(),
            ttl: None,
            doc: String::new(),
        }
    }

    /// Returns the name of the table of this version in both stores, such as `plane_outcome_v1`.
    pub fn table(&self) -> String {
        format!("{}_v{}", self.name, self.version)
    }

    /// Returns the fingerprint of the columns that online rows are packed with.
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.columns)
    }

    /// Returns the features that a view can use: the columns, or the aggregates over them.
    pub fn features(&self) -> Vec<Field> {
        if self.aggregates.is_empty() {
            return self.columns.clone();
        }
        self.aggregates.iter().map(|a| a.field.clone()).collect()
    }

    /// Returns the aggregates without the names of their features.
    pub fn aggregate_list(&self) -> Vec<Aggregate> {
        self.aggregates
            .iter()
            .map(|a| a.aggregate.clone())
            .collect()
    }

    /// Returns the types of the columns.
    pub(crate) fn column_types(&self) -> Vec<DataType> {
        self.columns.iter().map(|c| c.data_type.clone()).collect()
    }

    /// Returns how the group's events are summed up online, or `None` if the group has no
    /// aggregates.
    pub fn layout(&self) -> Option<ItemLayout> {
        let aggregates = self.aggregate_list();
        (!aggregates.is_empty()).then(|| ItemLayout::new(&aggregates, &self.column_types()))
    }

    /// Returns the offline table of the group's rows.
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

    /// Returns the late table, where rows that came too late wait to be healed.
    pub fn late_table(&self) -> TableDef {
        TableDef {
            name: format!("{}{LATE}", self.table()),
            ..self.rows_table()
        }
    }

    /// Returns the quarantine table, which holds rows that were rejected, with the reason.
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

/// Computes the fingerprint of the columns that a row is packed with, from their names and types.
pub fn fingerprint(columns: &[Field]) -> u64 {
    let columns: Vec<String> = columns
        .iter()
        .map(|f| format!("{} {}", f.name, f.data_type))
        .collect();
    Digest::of(columns.join(",").as_bytes()).prefix()
}

/// A feature over a window of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateDef {
    /// The name and type of the feature.
    pub field: Field,
    /// What is computed, over which column and window.
    pub aggregate: Aggregate,
}
