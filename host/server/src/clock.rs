//! `/v1/clock`: the time that the server's clock shows.
//!
//! A server that was started with `--clock` replays history. `POST {"now":
//! "2013-01-01T12:00:00Z"}` sets its clock forward, but never back. Because nobody can take that
//! back, only programs on the same machine may do it, and not to a time that is more than a day
//! ahead of the machine's clock.

use std::sync::Arc;

use axum::Extension;
use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use wafer_core::{Duration, Timestamp};
use wafer_platform::Platform;

use crate::connections::Peer;
use crate::error::Failure;
use crate::intake::Payload;
use crate::media_type::check_json;

/// How far ahead of the machine's clock a clock may be set.
const MOST_AHEAD: Duration = Duration::from_hours(24);

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
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<JsonBody<Now>, Failure> {
    // Behind a gateway the peer is unknown, and is not on this machine.
    if !peer.is_some_and(|Extension(Peer(address))| address.ip().to_canonical().is_loopback()) {
        let message = "the clock can only be set from the machine that the server runs on";
        return Err(Failure::forbidden(message));
    }
    check_json(&headers)?;
    let wanted: Now = serde_json::from_slice(&payload.bytes)
        .map_err(|e| Failure::invalid(format!("the body is not {{\"now\":\"…\"}}: {e}")))?;
    let clock = &platform.context().components().clock;
    let latest = platform.context().machine_now().plus(MOST_AHEAD);
    if wanted.now > latest.max(clock.now()) {
        let message = format!(
            "the clock cannot be set to {}: it never goes back, and may be at most a day ahead of the \
             machine's, which is until {latest}",
            wanted.now
        );
        return Err(Failure::invalid(message));
    }
    let now = clock.set(wanted.now).ok_or_else(|| {
        let message = "the clock cannot be set: start the server with --clock";
        Failure::new(StatusCode::CONFLICT, "conflict", message)
    })?;
    Ok(JsonBody(Now { now }))
}
