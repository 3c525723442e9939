//! `POST /v1/views/{view}/features`: feature vectors of a view.
//!
//! The request is `{"rows":[{…}]}`, with the join keys and request fields of each row. The answer
//! is `{"rows":[{"features":{…},"status":{…},"event_timestamp":{…}}]}`, in the order of the
//! request.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value as Json;
use wafer_platform::{Platform, Vectors};

use crate::MAX_ROWS;
use crate::error::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    rows: Vec<Json>,
}

/// Answers a request for feature vectors.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(view): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let request: Request = serde_json::from_slice(&body?)
        .map_err(|e| Failure::invalid(format!("the body is not {{\"rows\":[…]}}: {e}")))?;
    if request.rows.len() > MAX_ROWS {
        let message = format!(
            "{} rows are too many: a request has at most {MAX_ROWS}",
            request.rows.len()
        );
        return Err(Failure::invalid(message));
    }
    let vectors = platform.serving().features(&view, &request.rows).await?;
    let body = serde_json::to_vec(&Answer {
        rows: Rows(&vectors),
    })
    .expect("vectors always serialise");
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

#[derive(Serialize)]
struct Answer<'a> {
    rows: Rows<'a>,
}

/// Serialises the vectors row by row, without a copy of them all.
struct Rows<'a>(&'a Vectors);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows())
    }
}
