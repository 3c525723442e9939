//! `/v1/clock`: the present. A server that was started with a clock of its own
//! lives through history; `POST {"now": "2013-01-01T12:00:00Z"}` moves it on,
//! never back.

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Now {
    now: Timestamp,
}

pub(crate) async fn get(State(platform): State<Arc<Platform>>) -> JsonBody<Now> {
    JsonBody(Now {
        now: platform.context().now(),
    })
}

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
    // Rows that are due by now are readable from now on.
    platform
        .context()
        .components()
        .online
        .apply_due(now)
        .await?;
    Ok(JsonBody(Now { now }))
}
