//! Inference: the answer of an endpoint to a request.
//!
//! [`Serving::infer`] goes through these steps:
//!
//! 1. Each row of the request is routed to a release by the endpoint's routing key, or all rows
//!    to one release by chance (module `routing`).
//! 2. For each of these releases, the features of its view are looked up and computed as for a
//!    feature vector (module `features`).
//! 3. On the same guest thread, the model is called last (module `ask`). A row that an on-demand
//!    function failed on has no prediction.
//! 4. The answers of the releases are put together in the order of the request's rows.
//! 5. The sampled rows, and the shadows to ask, are put into the queues of the request log (module
//!    `request_log`). The client does not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::ArrayRef;
use wafer_core::{Digest, Field};
use wafer_store::Result;

use crate::call::{InferCall, InferRequest, ReleaseAnswer};
use crate::found::RequestMemory;
use crate::ready::{EndpointServing, ReadyRelease};
use crate::request_log::queue::{Answered, Shadow};
use crate::request_log::sampled_rows;
use crate::routing::{encoded_row, point};
use crate::served_view::decode_column;
use crate::service::Serving;

/// The answer of an endpoint.
#[derive(Clone, Debug)]
pub struct Inference {
    /// Id of the request.
    pub id: String,
    /// Name of the release that answered, for each row.
    pub releases: Vec<String>,
    /// The outputs of the model, with one value for each row; null where the row failed.
    pub outputs: Vec<(Field, ArrayRef)>,
    /// The rows that failed, ascending, with the reason.
    pub errors: Vec<(u32, String)>,
}

/// The rows of a request that one release answers, and its answer.
struct Part {
    ready: Arc<ReadyRelease>,
    rows: Vec<usize>,
    answer: ReleaseAnswer,
}

impl Serving {
    /// Answers a request to an endpoint, or to one of its releases if `release` is named, with what
    /// the looked-up values may take. A named release is not routed to, and no shadows are asked.
    /// Runs guest code.
    ///
    /// # Errors
    /// Returns the errors of [`features_within`](Self::features_within), and
    /// [`Kind::NotFound`](wafer_store::Kind::NotFound) when the endpoint does not route to
    /// `release`.
    pub async fn infer(
        &self,
        serving: &EndpointServing,
        release: Option<&str>,
        request: InferRequest,
        memory: &RequestMemory,
    ) -> Result<Inference> {
        let unique_id = self.request_id();
        let call = Arc::new(InferCall {
            id: request.id.clone().unwrap_or_else(|| unique_id.clone()),
            unique_id,
            now: self.context.now(),
            request,
        });
        let mut parts = Vec::new();
        let mut memory = memory.clone();
        for (ready, rows) in route_rows(serving, release, &call)? {
            let answer = self.ask(&ready, &call, &rows, memory.clone()).await?;
            memory = memory.after(answer.vectors.found_bytes, answer.vectors.made_bytes);
            parts.push(Part {
                ready,
                rows,
                answer,
            });
        }
        let inference = merge_parts(serving.outputs(), &call, &parts);
        let shadows = release.is_none().then(|| serving.shadows());
        self.log_parts(serving, &call, parts, shadows.unwrap_or_default());
        Ok(inference)
    }

    /// Puts the sampled rows of the answers, and the shadows to ask for these rows, into the
    /// queues of the request log.
    fn log_parts(
        &self,
        serving: &EndpointServing,
        call: &Arc<InferCall>,
        parts: Vec<Part>,
        shadows: Vec<Arc<ReadyRelease>>,
    ) {
        let log = &self.request_log;
        let due = self.log_due(&serving.routing);
        let mut logged = Vec::new();
        for Part {
            ready,
            rows,
            answer,
        } in parts
        {
            let positions = sampled_rows(serving, &ready, call, &answer.inputs);
            if positions.is_empty() {
                continue;
            }
            logged.extend(positions.iter().map(|position| rows[*position]));
            log.push_answered(Answered {
                ready,
                call: Arc::clone(call),
                is_shadow: false,
                part: rows,
                rows: positions,
                answer,
                due,
            });
        }
        if logged.is_empty() {
            return;
        }
        logged.sort_unstable();
        for ready in shadows {
            log.push_shadow(Shadow {
                ready,
                call: Arc::clone(call),
                rows: logged.clone(),
                due,
            });
        }
    }

    /// Returns an id that no other request of this project has.
    fn request_id(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (holder, now) = (
            &self.context.components().holder,
            self.context.machine_now(),
        );
        Digest::of(format!("{holder} {now} {count}").as_bytes()).hex()[..32].to_owned()
    }
}

/// Returns the releases that answer a request, with the rows that each of them answers.
fn route_rows(
    serving: &EndpointServing,
    release: Option<&str>,
    InferCall {
        unique_id, request, ..
    }: &InferCall,
) -> Result<Vec<(Arc<ReadyRelease>, Vec<usize>)>> {
    let all = || (0..request.rows).collect::<Vec<usize>>();
    if let Some(release) = release {
        return Ok(vec![(Arc::clone(serving.release(release)?), all())]);
    }
    let Some(key) = serving.routing_key() else {
        let ready = serving.release_at(point("route", &serving.name, unique_id.as_bytes()));
        return Ok(vec![(Arc::clone(ready), all())]);
    };
    let view = serving.any_release().view.definition();
    // Keys are decoded before they are hashed, so that 1 and 1.0 are the same number.
    let keys = decode_column(&key, &all(), |row| request.value(view, row, &key.name))?;
    let mut parts: Vec<(Arc<ReadyRelease>, Vec<usize>)> = Vec::new();
    for row in 0..request.rows {
        let value = encoded_row(std::slice::from_ref(&keys), row);
        let ready = serving.release_at(point("route", &serving.name, &value));
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

/// Merges the answers of several releases in the order of the request's rows.
fn merge_parts(fields: &[Field], call: &InferCall, parts: &[Part]) -> Inference {
    let count = call.request.rows;
    let mut releases = vec![String::new(); count];
    // The part that answers each row of the request, and the position of the row in it.
    let mut positions: Vec<(usize, usize)> = vec![(0, 0); count];
    let mut errors = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let Part {
            ready,
            rows,
            answer,
        } = part;
        for (position, row) in rows.iter().enumerate() {
            releases[*row].clone_from(&ready.release.name);
            positions[*row] = (number, position);
        }
        let of_part = answer.prediction.errors.iter();
        errors.extend(of_part.map(|(row, m)| (rows[*row as usize] as u32, m.clone())));
    }
    errors.sort_unstable();
    let column = |index: usize| match parts {
        [only] => Arc::clone(&only.answer.prediction.outputs[index]),
        _ => {
            let columns: Vec<_> = parts
                .iter()
                .map(|part| part.answer.prediction.outputs[index].as_ref())
                .collect();
            arrow_select::interleave::interleave(&columns, &positions)
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
