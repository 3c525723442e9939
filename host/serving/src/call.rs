//! A request to an endpoint while it is answered, and what a release makes of it.

use std::collections::HashMap;

use arrow_array::ArrayRef;
use serde_json::Value as Json;
use wafer_catalog::ViewDef;
use wafer_core::Timestamp;
use wafer_store::Result;

use crate::served_view::missing_message;
use crate::vectors::Vectors;

/// A request to an endpoint.
#[derive(Clone, Debug, Default)]
pub struct InferRequest {
    /// Id of the request, which the log has. `None` means that a unique one is made.
    pub id: Option<String>,
    /// The number of rows.
    pub rows: usize,
    /// Join keys and request fields by name, with one value for each row.
    pub columns: HashMap<String, Vec<Json>>,
}

impl InferRequest {
    /// Returns the estimated bytes that the request takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.values().flatten().map(json_bytes).sum()
    }

    /// Returns the value of a row and field, or the reason why there is none.
    pub(crate) fn value(&self, view: &ViewDef, row: usize, name: &str) -> Result<&Json, String> {
        let values = self.columns.get(name);
        let values = values.ok_or_else(|| missing_message(view, self.columns.keys(), name))?;
        values
            .get(row)
            .ok_or_else(|| "has no value for this row".to_owned())
    }
}

fn json_bytes(value: &Json) -> usize {
    let inner = match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(k, v)| k.len() + json_bytes(v)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    };
    size_of::<Json>() + inner
}

/// The predictions of a model for some rows.
#[derive(Debug)]
pub struct Prediction {
    /// A column for each output of the model.
    pub outputs: Vec<ArrayRef>,
    /// The rows that failed, ascending, with the reason.
    pub errors: Vec<(u32, String)>,
}

/// The inputs, features and predictions of one release for some rows of a request.
pub(crate) struct ReleaseAnswer {
    /// The columns of the request in the order of the view's inputs.
    pub(crate) inputs: Vec<ArrayRef>,
    pub(crate) vectors: Vectors,
    pub(crate) prediction: Prediction,
}

impl ReleaseAnswer {
    /// Returns the estimated bytes that the answer takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.inputs.iter().chain(&self.prediction.outputs);
        let columns = columns.map(|column| column.get_array_memory_size());
        columns.sum::<usize>() + self.vectors.bytes()
    }
}

/// A request that is being answered.
pub(crate) struct InferCall {
    /// Id of the request, given by the client or made here.
    pub(crate) id: String,
    /// An id that no other request has.
    pub(crate) unique_id: String,
    /// The time as of which features are read.
    pub(crate) now: Timestamp,
    pub(crate) request: InferRequest,
}
