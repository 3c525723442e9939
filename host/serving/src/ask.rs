//! What a release answers: the features of its view are looked up, and its model is called on them.
//!
//! Requests to an endpoint ([`Serving::infer`]) and the request log, for shadows, ask releases.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use wafer_catalog::{Readable, nulled};
use wafer_core::widen;
use wafer_runtime::{Function, Output};
use wafer_store::{Result, for_work};

use crate::call::{InferCall, Prediction, ReleaseAnswer};
use crate::found::RequestMemory;
use crate::ready::ReadyRelease;
use crate::served_view::{assemble, decode_rows};
use crate::service::Serving;

impl Serving {
    /// Asks a release for some rows of a request, with what the looked-up values may take.
    pub(crate) async fn ask(
        &self,
        ready: &Arc<ReadyRelease>,
        call: &InferCall,
        rows: &[usize],
        memory: RequestMemory,
    ) -> Result<ReleaseAnswer> {
        let InferCall { request, now, .. } = call;
        let view = ready.view.definition();
        let decoded = decode_rows(view, rows, |row, name| request.value(view, row, name))?;
        let work = format!("endpoint/{}", ready.endpoint);
        let read = self.look_up(&ready.view, decoded, *now, &memory);
        let read = for_work(work, read).await?;
        let ready = Arc::clone(ready);
        let predicted = self.context.components().guests.run(move || {
            let inputs = read.request.columns.clone();
            let (mut vectors, readable, mut size) = assemble(&ready.view, read, memory)?;
            let failures = vectors.failures();
            let prediction = predict(&ready.model, failures, &readable, |model, inputs| {
                size.invoke(model, inputs)
            })?;
            vectors.made_bytes = size.made();
            Ok(ReleaseAnswer {
                inputs,
                vectors,
                prediction,
            })
        });
        predicted.await?
    }
}

/// Asks a model with the columns of its view; `call` calls it. Runs guest code.
///
/// `failures` are the rows that an on-demand function failed on, with the name of the function
/// and the reason. They have no prediction, like the rows that the model fails on.
///
/// # Errors
/// Returns the errors of `call`.
pub fn predict<'a>(
    model: &Function,
    failures: impl Iterator<Item = (u32, &'a str, &'a str)>,
    readable: &Readable,
    call: impl FnOnce(&Function, &[ArrayRef]) -> Result<Output>,
) -> Result<Prediction> {
    let signature = model.signature();
    let fields = signature.inputs.fields().iter();
    let inputs: Vec<ArrayRef> = fields
        .map(|field| widen(&readable[&field.name], &field.data_type))
        .collect();
    let output = call(model, &inputs)?;
    let mut errors: HashMap<u32, String> = output.row_errors.into_iter().collect();
    // The model may have answered for a row whose features could not be computed. The row has
    // failed nevertheless.
    for (row, function, message) in failures {
        errors.insert(row, format!("function `{function}`: {message}"));
    }
    let mut errors: Vec<(u32, String)> = errors.into_iter().collect();
    errors.sort_unstable();
    let failed = |row: usize| {
        errors
            .binary_search_by_key(&(row as u32), |(row, _)| *row)
            .is_ok()
    };
    let outputs = output.columns.iter();
    let outputs = match errors.is_empty() {
        true => outputs.cloned().collect(),
        false => outputs.map(|column| nulled(column, &failed)).collect(),
    };
    Ok(Prediction { outputs, errors })
}
