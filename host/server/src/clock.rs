//! `/v1/clock`: the time that the server's clock shows.
//!
//! A server that was started with `--clock` replays history. `POST {"now":
//! "2013-01-01T12:00:00Z"}` sets its clock forward, but never back.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;
use wafer_platform::Platform;

use crate::error::Failure;

/// The body of a request and of an answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Now {
    now: Timestamp,
}

/// Answers `GET /v1/clock` with the current time.
pub(crate) async fn get(State(platform): State<Arc<Platform>>) -> JsonBody<Now> {
    JsonBody(Now {
        now: platform.context().now(),
    })
}

/// Answers `POST /v1/clock`: sets the clock, and returns the time that it shows now.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<JsonBody<Now>, Failure> {
    let wanted: Now = serde_json::from_slice(&body?)
        .map_err(|e| Failure::invalid(format!("the body is not {{\"now\":\"…\"}}: {e}")))?;
    let now = platform
        .context()
        .components()
        .clock
        .set(wanted.now)
        .ok_or_else(|| {
            let message = "the clock cannot be set: start the server with --clock";
            Failure::new(StatusCode::CONFLICT, "conflict", message)
        })?;
    Ok(JsonBody(Now { now }))
}
