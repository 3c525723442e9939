//! Feature groups: stored, versioned tables of features.

use serde::{Deserialize, Serialize};
use wafer_core::aggregate::{Aggregate, Layout};
use wafer_core::expect::Expectation;
use wafer_core::{DataType, Digest, Field};

use crate::definitions::{LATE, TableDef};

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
    pub fn aggregate_list(&self) -> Vec<Aggregate> {
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
    pub fn layout(&self) -> Option<Layout> {
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
    /// Name and type of the feature.
    pub field: Field,
    /// What it is.
    pub aggregate: Aggregate,
}
