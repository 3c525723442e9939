//! A server's life: listen, keep the tables up, stop in order.

use std::future::Future;
use std::sync::Arc;

use axum::extract::State;
use tokio::net::TcpListener;
use wafer_platform::{Background, Error, Kind, Platform, Result};

use crate::error::Failure;
use crate::router;

/// Answers requests until `stop` ends; then finishes those under way, appends
/// what is in the outbox, and returns.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    platform: Arc<Platform>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let background = Background::new(Arc::clone(&platform)).start();
    let served = axum::serve(listener, router(platform))
        .with_graceful_shutdown(stop)
        .await
        .map_err(|e| Error::caused(Kind::Internal, "the server stopped", e));
    background.stop().await?;
    served
}

/// `GET /readyz`: whether the stores answer.
pub(crate) async fn ready(State(platform): State<Arc<Platform>>) -> Result<&'static str, Failure> {
    check_stores(&platform).await?;
    Ok("ready")
}

/// Whether the stores answer.
pub(crate) async fn check_stores(platform: &Platform) -> Result<()> {
    let metadata = &platform.context().components().metadata;
    let name = format!("{}/ready", platform.context().project());
    metadata.get(&name).await?;
    Ok(())
}
