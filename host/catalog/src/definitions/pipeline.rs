//! Pipelines: what writes the rows of a group.

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Field};

use crate::definitions::{ScheduleDef, VersionName};

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

/// Columns of a group that a model fills, beside keys and event time.
pub const PREDICTION: &str = "prediction";

/// The output of a pipeline of a model that says which version predicted.
pub const MODEL_VERSION: &str = "model_version";

/// What is stored of predictions: join keys, event time, prediction, and the number of the
/// model's version.
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
