//! A server's life: listen, keep the tables up, stop in order.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wafer_platform::{Error, Kind, Platform, Result};

use crate::error::Failure;
use crate::router;

/// Settings of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Pause between two appends to the offline tables.
    pub flush_every: Duration,
    /// Pause between two looks for rows that have become due, and for newly
    /// applied definitions.
    pub look_every: Duration,
    /// Pause between two looks for requests that are to be logged.
    pub log_every: Duration,
    /// Pause between two looks for intervals that are due.
    pub schedule_every: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            flush_every: Duration::from_secs(1),
            look_every: Duration::from_millis(100),
            log_every: Duration::from_millis(100),
            schedule_every: Duration::from_millis(500),
        }
    }
}

/// Answers requests until `stop` ends; then finishes those under way, appends
/// what is in the outbox, and returns.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    platform: Arc<Platform>,
    listener: TcpListener,
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stopping, stopped) = watch::channel(false);
    let flusher = tokio::spawn(every(options.flush_every, stopped.clone(), {
        let platform = Arc::clone(&platform);
        move || {
            let platform = Arc::clone(&platform);
            async move {
                // A task of its own: whatever happens to it, the next one is tried.
                let flush = tokio::spawn(async move { platform.flush().await });
                match flush.await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!("rows stay in the outbox for now: {}", error.chain());
                    }
                    Err(failure) => tracing::error!("appending to the tables failed: {failure}"),
                }
            }
        }
    }));
    let scheduler = tokio::spawn(every(options.schedule_every, stopped.clone(), {
        let platform = Arc::clone(&platform);
        let running = Arc::new(Mutex::new(HashSet::new()));
        move || start_due(Arc::clone(&platform), Arc::clone(&running))
    }));
    let logger = tokio::spawn(every(options.log_every, stopped.clone(), {
        let platform = Arc::clone(&platform);
        move || {
            let platform = Arc::clone(&platform);
            async move {
                // A task of its own, as above.
                let written = tokio::spawn(async move { platform.write_log().await });
                if let Err(failure) = written.await {
                    tracing::error!("logging requests failed: {failure}");
                }
            }
        }
    }));
    // Apart from the rest, since a large model takes a while.
    let endpoints = tokio::spawn(every(options.look_every, stopped.clone(), {
        let platform = Arc::clone(&platform);
        move || {
            let platform = Arc::clone(&platform);
            async move {
                if let Err(error) = platform.refresh_endpoints().await {
                    tracing::warn!("endpoints could not be read: {}", error.chain());
                }
            }
        }
    }));
    let watcher = tokio::spawn(every(options.look_every, stopped, {
        let platform = Arc::clone(&platform);
        move || look(Arc::clone(&platform))
    }));
    let served = axum::serve(listener, router(Arc::clone(&platform)))
        .with_graceful_shutdown(stop)
        .await
        .map_err(|e| Error::caused(Kind::Internal, "the server stopped", e));
    let _ = stopping.send(true);
    // They end by themselves at the latest after one round.
    let _ = tokio::join!(flusher, watcher, endpoints, scheduler, logger);
    platform.write_log().await;
    platform.flush().await?;
    served
}

/// Applies what is due, and takes up what was applied by another process.
async fn look(platform: Arc<Platform>) {
    let now = platform.now();
    if let Err(error) = platform.components().online.apply_due(now).await {
        tracing::warn!("rows that are due were not applied: {error}");
    }
    // It stands still in this process if it was set back; noted for the next one.
    if let Err(error) = platform.check_clock().await {
        tracing::warn!("{error}");
    }
    match platform.refresh().await {
        Ok(true) => tracing::info!("definitions were applied anew"),
        Ok(false) => {}
        Err(error) => tracing::warn!("definitions could not be read: {}", error.chain()),
    }
}

/// Starts the runs that are due, one for each pipeline at a time. A run that is
/// under way when the server stops is taken up by the next one.
async fn start_due(platform: Arc<Platform>, running: Arc<Mutex<HashSet<String>>>) {
    for pipeline in platform.scheduled() {
        let mut started = running.lock().unwrap_or_else(PoisonError::into_inner);
        if !started.insert(pipeline.clone()) {
            continue;
        }
        drop(started);
        let (platform, running) = (Arc::clone(&platform), Arc::clone(&running));
        tokio::spawn(async move {
            let (name, own) = (pipeline.clone(), Arc::clone(&platform));
            // A task of its own: whatever happens to it, the schedule goes on.
            let run = tokio::spawn(async move { own.run_due(&name).await });
            match run.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!("pipeline `{pipeline}` was not run: {}", error.chain());
                }
                Err(failure) => tracing::error!("running `{pipeline}` failed: {failure}"),
            }
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            running.remove(&pipeline);
        });
    }
}

/// Does something again and again, with a pause between, until told to stop.
async fn every<F, Fut>(pause: Duration, mut stopped: watch::Receiver<bool>, work: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = ()>,
{
    while !*stopped.borrow() {
        work().await;
        let _ = tokio::time::timeout(pause, stopped.changed()).await;
    }
}

/// `GET /readyz`: whether the stores answer.
pub(crate) async fn ready(State(platform): State<Arc<Platform>>) -> Result<&'static str, Failure> {
    check_stores(&platform).await?;
    Ok("ready")
}

/// Whether the stores answer.
pub(crate) async fn check_stores(platform: &Platform) -> Result<()> {
    let metadata = &platform.components().metadata;
    let name = format!("{}/ready", platform.project());
    metadata.get(&name).await?;
    Ok(())
}
