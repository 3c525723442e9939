//! Pipelines: a source, a function or model, and the group that they fill.

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Field, Schema};

use crate::definitions::{ScheduleDef, VersionName};

/// The function, the model or the columns that a pipeline makes rows of its group with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// The function of this name.
    Function(String),
    /// A version of a model, which computes one prediction for each row.
    Model(VersionName),
    /// No computation: columns of the source are the columns of the group.
    Columns(Vec<PassedColumn>),
}

/// A column of a source that becomes a column of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedColumn {
    /// The name of the column in the source.
    pub from: String,
    /// The column of the group, and the type that the column of the source is read as.
    pub field: Field,
}

impl PassedColumn {
    /// Passes a column on under its own name.
    pub fn same(field: &Field) -> Self {
        Self {
            from: field.name.clone(),
            field: field.clone(),
        }
    }
}

impl MadeBy {
    /// Returns the name of the function, or `None` if no function computes the rows.
    pub fn function(&self) -> Option<&String> {
        match self {
            Self::Function(function) => Some(function),
            Self::Model(_) | Self::Columns(_) => None,
        }
    }

    /// Returns the columns that are read, by the names that they have in the source.
    pub fn source_fields(&self, inputs: &Schema) -> Vec<Field> {
        match self {
            Self::Function(_) | Self::Model(_) => inputs.fields().to_vec(),
            Self::Columns(columns) => columns.iter().map(PassedColumn::source_field).collect(),
        }
    }
}

impl PassedColumn {
    /// Returns the column, by the name that it has in the source.
    pub fn source_field(&self) -> Field {
        Field {
            name: self.from.clone(),
            ..self.field.clone()
        }
    }
}

impl std::fmt::Display for MadeBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function(function) => f.write_str(function),
            Self::Model(model) => model.fmt(f),
            Self::Columns(columns) => write!(f, "{} columns", columns.len()),
        }
    }
}

/// A pipeline: a source, a function or model, and a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineDef {
    /// The name of the source that rows are read from.
    pub source: String,
    /// The function or model that computes features from the rows.
    #[serde(flatten)]
    pub made_by: MadeBy,
    /// The name of the group that the features are written to.
    pub group: String,
    /// When the pipeline runs by itself. `None` means only by hand or on events.
    #[serde(default)]
    pub schedule: Option<ScheduleDef>,
    /// The greatest fraction of the rows of a run that may be rejected, from 0 to 1. A run that
    /// rejects more fails and changes nothing.
    #[serde(default = "default_max_rejects")]
    pub max_rejects: f64,
    /// The description of the pipeline.
    pub doc: String,
}

/// The default of a pipeline's `max_rejects`.
///
/// A few bad rows never fail a run. When most rows are bad, it is the format of the source, and
/// not single rows, that is not what the pipeline expects.
pub const HALF_OF_THE_ROWS: f64 = 0.5;

fn default_max_rejects() -> f64 {
    HALF_OF_THE_ROWS
}

/// The column of predictions in a group that a model fills.
pub const PREDICTION: &str = "prediction";

/// The column with the number of the model's version in a group that a model fills.
pub const MODEL_VERSION: &str = "model_version";

/// Returns the columns of predictions: the join keys, the event time, the prediction, and the
/// number of the model's version.
pub fn predicted(keys: &[Field], event_time: &str) -> Vec<Field> {
    let described = |field: Field, doc: &str| Field {
        doc: doc.to_owned(),
        ..field
    };
    let mut fields = keys.to_vec();
    fields.push(Field::new(event_time, DataType::Timestamp, true));
    fields.push(described(
        Field::new(PREDICTION, DataType::Float64, true),
        "What the model predicts.",
    ));
    fields.push(described(
        Field::new(MODEL_VERSION, DataType::Int64, false),
        "Number of the model's version.",
    ));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipeline_of_an_earlier_version_has_the_default_of_max_rejects() {
        let stored = r#"{"source":"s","function":"f","group":"g","schedule":null,"doc":""}"#;
        let pipeline: PipelineDef = serde_json::from_str(stored).unwrap();
        assert_eq!(pipeline.max_rejects, HALF_OF_THE_ROWS);
    }
}
