//! The HTTP edge: it decodes requests, calls the platform, and encodes the answers.
//!
//! A handler holds no logic of its own. It reads the body, calls one method of [`Platform`] or of
//! one of its services, and writes what that returned. A request for features goes like this:
//! `features.rs` decodes the rows, the serving service reads all stored rows with one batch read
//! and calls the on-demand functions on a thread for guests, and the handler serialises the
//! vectors in the order of the request. Nothing is written.
//!
//! [`router`] has the routes alone, for a host that does its own background work, such as the
//! Lambda function. [`serve()`] also listens on a socket and does the background work.
//!
//! | route | what it does |
//! | --- | --- |
//! | `POST /v1/views/{view}/features` | returns feature vectors |
//! | `POST /v1/views/{view}/training-set` | joins labels with the features of a view |
//! | `POST /v1/sources/{source}/events` | accepts events |
//! | `POST /v2/models/{endpoint}/infer`, and all of `/v2` | speaks the Open Inference Protocol |
//! | `POST /get-online-features`, `/write-to-online-store`, `/push`, `GET /health` | speaks the protocol of Feast's feature server |
//! | `GET /v1/views`, `GET /v1/views/{view}` | lists the views, and the fields of one |
//! | `GET /v1/sources`, `/v1/groups` and `/v1/tables`, and `…/rows` of these and of views | lists what there is, and returns some of its rows |
//! | `GET`, `POST /v1/clock` | returns the clock's time; sets it, if it can be set |
//! | `GET /metrics` | returns metrics in the text format of Prometheus |
//! | `GET /healthz` | succeeds while the process runs |
//! | `GET /readyz` | succeeds while the stores answer and have room, and definitions can be read |
//!
//! Around the handlers, `connections.rs` bounds connections, `access.rs` refuses requests of other
//! sites, and `intake.rs` takes in bodies and bounds what is worked on and how much memory it
//! takes.
//!
//! Every error is `{"error": {"code": "…", "message": "…"}}`, with the status and the code that
//! `error.rs` assigns to its [`wafer_platform::Kind`]. Only the Open Inference Protocol has its
//! own form of errors.

mod access;
mod catalog;
mod clock;
mod connections;
mod encoding;
mod error;
mod events;
mod extract;
mod feast;
mod features;
#[doc(hidden)]
pub mod fuzzing;
mod inference;
mod intake;
mod json_size;
mod limits;
mod media_type;
mod occasional;
mod refusal;
mod serve;
mod stopping;
mod training_set;
mod views;
mod whole;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use wafer_platform::Platform;

pub use access::Hosts;
pub use connections::REFUSALS;
pub use limits::ServerLimits;
pub use serve::serve;

use intake::{Intake, WaitsFor, answered, compute, guard, work};

/// The greatest size of a request's body in bytes. Labels may be larger.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// The greatest number of rows in one request for features or for an inference.
pub const MAX_ROWS: usize = 10_000;
/// The greatest number of events, or of rows to write, in one request.
pub const MAX_EVENTS: usize = 100_000;

/// How a server treats what comes from outside.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The limits of connections and requests.
    pub limits: ServerLimits,
    /// The names by which the server may be asked.
    pub hosts: Hosts,
}

/// Returns the router with all routes, which call `platform`.
pub fn router(platform: Arc<Platform>, options: ServerOptions) -> Router {
    // A store that charges for calls is a service, whose answers are waited for.
    let stores = &platform.context().components().stores;
    let waits_for = match stores.metered.is_charged() {
        true => WaitsFor::Store,
        false => WaitsFor::Processors,
    };
    let intake = Intake::new(options, waits_for);
    let computing = Router::new()
        .route("/v1/views/{view}/features", post(features::post))
        .route("/get-online-features", post(feast::online_features))
        .nest("/v2", inference::router())
        .route("/v2/", get(inference::server))
        .layer(from_fn_with_state(Arc::clone(&intake), compute));
    let working = Router::new()
        .route("/v1/views", get(views::list))
        .route("/v1/views/{view}", get(views::one))
        .route("/v1/sources/{source}/events", post(events::post))
        .merge(catalog::router().layer(Extension(Arc::clone(&intake))))
        .merge(feast::router())
        .route("/v1/clock", get(clock::get).post(clock::post))
        .layer(from_fn_with_state(Arc::clone(&intake), work));
    // Labels are kept in a file. The route bounds by itself how many requests have one.
    let training = Router::new()
        .route("/v1/views/{view}/training-set", post(training_set::post))
        .layer(Extension(Arc::clone(&intake)));
    let guarded = Router::new()
        .merge(computing)
        .merge(working)
        .merge(training)
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(intake, guard));
    // Whoever watches over the server may know it by any name.
    Router::new()
        .merge(guarded)
        .route("/health", get(feast::health))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(serve::ready))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(from_fn(answered))
        .with_state(platform)
}

/// Answers `GET /metrics`.
async fn metrics(State(platform): State<Arc<Platform>>) -> impl IntoResponse {
    let text = platform.metrics().await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
