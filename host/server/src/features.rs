//! `POST /v1/views/{view}/features`: feature vectors of a view.
//!
//! The request is `{"rows":[{…}]}`, with the join keys and request fields of each row. The answer
//! is `{"rows":[{"features":{…},"status":{…},"event_timestamp":{…}}]}`, in the order of the
//! request.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::Value as Json;
use wafer_platform::{Platform, Vectors};

use crate::MAX_ROWS;
use crate::error::Failure;
use crate::extract::Path;
use crate::intake::Payload;

/// The number of rows that are encoded together. The answer to a request with more rows is sent
/// piece by piece.
const PIECE_ROWS: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    rows: Vec<Json>,
}

/// Answers a request for feature vectors.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(view): Path<String>,
    payload: Payload,
) -> Result<Response, Failure> {
    payload.check_json()?;
    let request: Request = serde_json::from_slice(&payload.bytes)
        .map_err(|e| Failure::invalid(format!("the body is not {{\"rows\":[…]}}: {e}")))?;
    if request.rows.len() > MAX_ROWS {
        let message = format!(
            "{} rows are too many: a request has at most {MAX_ROWS}",
            request.rows.len()
        );
        return Err(Failure::invalid(message));
    }
    let vectors = platform.serving().features(&view, &request.rows).await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer(vectors)).into_response())
}

/// Returns the body of an answer, which is encoded as it is sent: the names of the features are
/// repeated for each row, so that the whole of it can be much larger than the vectors.
fn answer(vectors: Vectors) -> Body {
    if vectors.len() <= PIECE_ROWS {
        return piece(&vectors, 0).into();
    }
    let starts = stream::iter((0..vectors.len()).step_by(PIECE_ROWS));
    let pieces = starts.map(move |start| Ok::<Bytes, Infallible>(piece(&vectors, start).into()));
    Body::from_stream(pieces)
}

/// Encodes the rows from `start` on that are encoded together, with what comes before the first row
/// and after the last one.
fn piece(vectors: &Vectors, start: usize) -> Vec<u8> {
    let mut text = match start {
        0 => b"{\"rows\":[".to_vec(),
        _ => b",".to_vec(),
    };
    for (index, row) in vectors.rows().skip(start).take(PIECE_ROWS).enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &row).expect("vectors always serialise");
    }
    if start + PIECE_ROWS >= vectors.len() {
        text.extend_from_slice(b"]}");
    }
    text
}
