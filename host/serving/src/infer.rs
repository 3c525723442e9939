//! Inference: features, then the model, of one release, in one go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::ArrayRef;
use serde_json::Value as Json;
use wafer_catalog::{Readable, ViewDef, nulled};
use wafer_core::{Digest, Field, Timestamp, encode_row, widen};
use wafer_runtime::{Deadline, Function};
use wafer_store::Result;

use crate::ready::{EndpointServing, ReadyRelease};
use crate::request_log::queue::{Answered, Shadow};
use crate::request_log::sampled;
use crate::routing::point;
use crate::served_view::{assemble, decode_column, decode_rows, missing};
use crate::service::Serving;
use crate::vectors::Vectors;

/// What an endpoint is asked.
#[derive(Clone, Debug, Default)]
pub struct InferRequest {
    /// Name of the request, for the log; absent: one is made up.
    pub id: Option<String>,
    /// Number of rows.
    pub rows: usize,
    /// Join keys and request fields by name, a value for each row.
    pub columns: HashMap<String, Vec<Json>>,
}

impl ReleaseAnswer {
    /// About how many bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.inputs.iter().chain(&self.answer.outputs);
        let columns = columns.map(|column| column.get_array_memory_size());
        columns.sum::<usize>() + self.vectors.bytes()
    }
}

impl InferRequest {
    /// About how many bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.values().flatten().map(json_bytes).sum()
    }

    fn value(&self, view: &ViewDef, row: usize, name: &str) -> Result<&Json, String> {
        let values = self.columns.get(name);
        let values = values.ok_or_else(|| missing(view, self.columns.keys(), name))?;
        values
            .get(row)
            .ok_or_else(|| "has no value for it".to_owned())
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Inference {
    /// Name of the request.
    pub id: String,
    /// For each row the release that answered.
    pub releases: Vec<String>,
    /// What the model predicts, one value for each row; null where it failed.
    pub outputs: Vec<(Field, ArrayRef)>,
    /// Rows that failed, ascending, with the reason.
    pub errors: Vec<(u32, String)>,
}

/// What one release made of some rows.
#[derive(Debug)]
pub struct Prediction {
    /// A column for each output of the model.
    pub outputs: Vec<ArrayRef>,
    /// Rows that failed, ascending.
    pub errors: Vec<(u32, String)>,
}

/// What one release was asked, looked up, computed and answered.
pub(crate) struct ReleaseAnswer {
    /// In the order of the view's inputs.
    pub(crate) inputs: Vec<ArrayRef>,
    pub(crate) vectors: Vectors,
    pub(crate) answer: Prediction,
}

/// A request under way.
pub(crate) struct InferCall {
    /// Its name, as its sender knows it.
    pub(crate) id: String,
    /// Its name that no other request has.
    pub(crate) own_id: String,
    /// The time that features are of.
    pub(crate) now: Timestamp,
    pub(crate) request: InferRequest,
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

/// Some rows of a request, for one release.
struct Part {
    ready: Arc<ReadyRelease>,
    rows: Vec<usize>,
    asked: ReleaseAnswer,
}

impl Serving {
    /// Asks an endpoint, or one of its releases, as it was when it was looked up. Rows are
    /// routed by the endpoint's key, or all alike.
    ///
    /// # Errors
    /// As [`features`](Self::features), and [`Kind::NotFound`] for a
    /// release that the endpoint has not.
    pub async fn infer(
        &self,
        serving: &EndpointServing,
        release: Option<&str>,
        request: InferRequest,
    ) -> Result<Inference> {
        let own_id = self.request_id();
        let call = Arc::new(InferCall {
            id: request.id.clone().unwrap_or_else(|| own_id.clone()),
            own_id,
            now: self.context.now(),
            request,
        });
        let mut parts = Vec::new();
        for (ready, rows) in routed(serving, release, &call)? {
            let asked = self.ask(&ready, &call, &rows).await?;
            parts.push(Part { ready, rows, asked });
        }
        let answer = together(serving.outputs(), &call, &parts);
        let shadows = release.is_none().then(|| serving.shadows());
        self.log_parts(serving, &call, parts, shadows.unwrap_or_default());
        Ok(answer)
    }

    /// Queues what is to be logged, and the shadows that are to be asked.
    fn log_parts(
        &self,
        serving: &EndpointServing,
        call: &Arc<InferCall>,
        parts: Vec<Part>,
        shadows: Vec<Arc<ReadyRelease>>,
    ) {
        let log = &self.request_log;
        let mut logged = Vec::new();
        for Part { ready, rows, asked } in parts {
            let places = sampled(serving, &ready, call, &asked.inputs);
            if places.is_empty() {
                continue;
            }
            logged.extend(places.iter().map(|place| rows[*place]));
            log.answered(Answered {
                ready,
                call: Arc::clone(call),
                is_shadow: false,
                part: rows,
                rows: places,
                asked,
            });
        }
        if logged.is_empty() {
            return;
        }
        logged.sort_unstable();
        for ready in shadows {
            log.shadow(Shadow {
                ready,
                call: Arc::clone(call),
                rows: logged.clone(),
            });
        }
    }

    /// A name that no other request of this project has.
    fn request_id(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (holder, now) = (
            &self.context.components().holder,
            self.context.machine_now(),
        );
        Digest::of(format!("{holder} {now} {count}").as_bytes()).hex()[..32].to_owned()
    }

    /// Has a release answer some rows of a request.
    pub(crate) async fn ask(
        &self,
        ready: &Arc<ReadyRelease>,
        call: &InferCall,
        rows: &[usize],
    ) -> Result<ReleaseAnswer> {
        let InferCall { request, now, .. } = call;
        let view = ready.view.definition();
        let decoded = decode_rows(view, rows, |row, name| request.value(view, row, name))?;
        let work = format!("endpoint/{}", ready.endpoint);
        let read = self.look_up(&ready.view, decoded, *now, &work).await?;
        let ready = Arc::clone(ready);
        let predicted = self.context.components().guests.run(move || {
            let inputs = read.request.columns.clone();
            let (vectors, readable) = assemble(&ready.view, read)?;
            let answer = predict(
                &ready.model,
                vectors.failures(),
                &readable,
                Deadline::Request,
            )?;
            Ok(ReleaseAnswer {
                inputs,
                vectors,
                answer,
            })
        });
        predicted.await?
    }
}

/// Which release answers which rows.
fn routed(
    serving: &EndpointServing,
    release: Option<&str>,
    InferCall {
        own_id, request, ..
    }: &InferCall,
) -> Result<Vec<(Arc<ReadyRelease>, Vec<usize>)>> {
    let all = || (0..request.rows).collect::<Vec<usize>>();
    if let Some(release) = release {
        return Ok(vec![(Arc::clone(serving.release(release)?), all())]);
    }
    let Some(key) = serving.routing_key() else {
        let ready = serving.at(point("route", &serving.name, own_id.as_bytes()));
        return Ok(vec![(Arc::clone(ready), all())]);
    };
    let view = serving.any().view.definition();
    // As it was meant, however it was written: 1 and 1.0 are one number.
    let keys = decode_column(&key, &all(), |row| request.value(view, row, &key.name))?;
    let mut parts: Vec<(Arc<ReadyRelease>, Vec<usize>)> = Vec::new();
    for row in 0..request.rows {
        let value = encoded(std::slice::from_ref(&keys), row);
        let ready = serving.at(point("route", &serving.name, &value));
        match parts
            .iter_mut()
            .find(|(other, _)| Arc::ptr_eq(other, ready))
        {
            Some((_, rows)) => rows.push(row),
            None => parts.push((Arc::clone(ready), vec![row])),
        }
    }
    Ok(parts)
}

/// Values of a row, as bytes that only equal values share.
pub(crate) fn encoded(columns: &[ArrayRef], row: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(columns, row, &mut bytes);
    bytes
}

/// Calls the model on what was looked up and computed; with the rows that a function of the
/// view failed on, and why.
pub fn predict<'a>(
    model: &Function,
    failures: impl Iterator<Item = (u32, &'a str, &'a str)>,
    readable: &Readable,
    deadline: Deadline,
) -> Result<Prediction> {
    let signature = model.signature();
    let fields = signature.inputs.fields().iter();
    let inputs: Vec<ArrayRef> = fields
        .map(|field| widen(&readable[&field.name], &field.data_type))
        .collect();
    let output = model.invoke(&inputs, deadline)?;
    let mut errors: HashMap<u32, String> = output.row_errors.into_iter().collect();
    // A row without its features has no prediction, whatever the model says.
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

/// The answers of several releases, in the order of the request's rows.
fn together(fields: &[Field], call: &InferCall, parts: &[Part]) -> Inference {
    let count = call.request.rows;
    let mut releases = vec![String::new(); count];
    // For each row of the request where its answer is.
    let mut places: Vec<(usize, usize)> = vec![(0, 0); count];
    let mut errors = Vec::new();
    for (number, Part { ready, rows, asked }) in parts.iter().enumerate() {
        for (place, row) in rows.iter().enumerate() {
            releases[*row].clone_from(&ready.release.name);
            places[*row] = (number, place);
        }
        let of_part = asked.answer.errors.iter();
        errors.extend(of_part.map(|(row, m)| (rows[*row as usize] as u32, m.clone())));
    }
    errors.sort_unstable();
    let column = |index: usize| match parts {
        [only] => Arc::clone(&only.asked.answer.outputs[index]),
        _ => {
            let columns: Vec<_> = parts
                .iter()
                .map(|part| part.asked.answer.outputs[index].as_ref())
                .collect();
            arrow_select::interleave::interleave(&columns, &places)
                .expect("releases of one endpoint answer with the same types")
        }
    };
    let outputs = fields.iter().enumerate();
    Inference {
        id: call.id.clone(),
        releases,
        outputs: outputs
            .map(|(index, field)| (field.clone(), column(index)))
            .collect(),
        errors,
    }
}
