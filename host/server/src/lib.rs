//! The HTTP edge: translates requests, calls the platform, translates answers.
//!
//! | route | what it does |
//! | --- | --- |
//! | `POST /v1/views/{view}/features` | feature vectors |
//! | `POST /v1/views/{view}/training-set` | labels in, training set out |
//! | `POST /v1/sources/{source}/events` | takes events in |
//! | `POST /v2/models/{endpoint}/infer`, and all of `/v2` | the Open Inference Protocol |
//! | `POST /get-online-features`, `/write-to-online-store`, `/push`, `GET /health` | as Feast's feature server |
//! | `GET /v1/views`, `GET /v1/views/{view}` | which views there are, and their fields |
//! | `GET`, `POST /v1/clock` | the present; sets it, when the server was started with a clock |
//! | `GET /metrics` | numbers in Prometheus' text format |
//! | `GET /healthz` | the process answers |
//! | `GET /readyz` | the stores answer |
//!
//! Every error is `{"error": {"code": "…", "message": "…"}}` with a fitting
//! status; the kinds are those of [`wafer_platform::Kind`].

mod clock;
mod error;
mod events;
mod feast;
mod features;
mod inference;
mod serve;
mod training;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use wafer_platform::Platform;

pub use serve::serve;

/// Largest body of a request.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// Most rows of one request for features.
pub const MAX_ROWS: usize = 10_000;

/// All routes, over a platform.
pub fn router(platform: Arc<Platform>) -> Router {
    Router::new()
        .route("/v1/views", get(views::list))
        .route("/v1/views/{view}", get(views::one))
        .route("/v1/views/{view}/features", post(features::post))
        .route(
            "/v1/views/{view}/training-set",
            post(training::post).layer(DefaultBodyLimit::max(training::MAX_LABEL_BYTES)),
        )
        .route("/v1/sources/{source}/events", post(events::post))
        .nest("/v2", inference::router())
        .route("/v2/", get(inference::server))
        .merge(feast::router())
        .route("/v1/clock", get(clock::get).post(clock::post))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(serve::ready))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(platform)
}

async fn metrics(State(platform): State<Arc<Platform>>) -> impl IntoResponse {
    let text = platform.metrics();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
