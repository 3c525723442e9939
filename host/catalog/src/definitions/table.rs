//! Offline tables: their columns, and the entities that their rows describe.

use serde::{Deserialize, Serialize};
use wafer_core::aggregate::Aggregate;
use wafer_core::{DataType, Field, Schema, SchemaError};

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
pub const LATE: &str = "_late";

impl TableDef {
    /// Whether it holds rows that wait to be healed.
    pub fn is_late(&self) -> bool {
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
    pub fn checked(keys: &[Field], columns: &[Field]) -> Result<Schema, SchemaError> {
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
