//! Running a server: answering requests beside the background work, and stopping in order.

use std::future::Future;
use std::sync::Arc;

use axum::extract::State;
use axum::middleware::from_fn;
use tokio::net::TcpListener;
use wafer_platform::{Background, Error, Kind, Platform, Result};

use crate::connections::answer_connections;
use crate::error::Failure;
use crate::intake::one_host;
use crate::stopping::background_work;
use crate::{ServerOptions, router};

/// Answers the requests of a listener until `stop` completes.
///
/// The background work of the platform runs at the same time: it flushes the outbox, runs schedules
/// and looks for changed definitions and endpoints. After `stop`, the requests in progress are
/// finished, the rows that wait to be logged are written, the outbox is flushed, and the function
/// returns, after [`ServerLimits::drain_timeout`](crate::ServerLimits) at the latest.
///
/// # Errors
/// Returns an error when the background work fails at the end, or rows that were to be logged are
/// lost because it has not finished in time.
pub async fn serve(
    platform: Arc<Platform>,
    listener: TcpListener,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let background = Background::new(Arc::clone(&platform)).start();
    let limits = options.limits.clone();
    // Requests that come without a connection, such as those of Lambda, need not name a host.
    let router = router(Arc::clone(&platform), options).layer(from_fn(one_host));
    let stopping = answer_connections(listener, router, &limits, stop).await;
    let rows = || platform.serving().unwritten_log_rows();
    let waits_for = || background_work(rows());
    let finished = stopping.wait(stopping.end(), background.stop(), waits_for);
    match finished.await {
        Some(finished) => finished,
        None => stopping.given_up(rows()),
    }
}

/// Answers `GET /readyz`: succeeds if the stores answer and have room for more, and what is applied
/// can be read.
pub(crate) async fn ready(State(platform): State<Arc<Platform>>) -> Result<&'static str, Failure> {
    check_stores(&platform).await?;
    Ok("ready")
}

/// Checks that the stores answer, by reading a metadata object, and that they have room for more.
/// Whether the object exists does not matter. Then checks that events would be taken in: by the
/// definitions that are applied now.
pub(crate) async fn check_stores(platform: &Platform) -> Result<()> {
    let stores = &platform.context().components().stores;
    let name = format!("{}/ready", platform.context().project());
    stores.metadata.get(&name).await?;
    stores.upkeep.check_room().await?;
    stores.artifacts.check_room().await?;
    let lately = platform.context().lately_applied().await;
    lately.map(drop).map_err(|e| match e.kind() {
        Kind::Unavailable => Error::new(Kind::Unavailable, e.chain()),
        _ => e,
    })
}
