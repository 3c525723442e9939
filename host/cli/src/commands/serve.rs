//! `wafer serve`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wafer_server::serve;

use super::Context;
use crate::app::{self, ClockOption};
use crate::output::say;

/// Answer requests and take events in over HTTP.
///
/// With --clock the server lives through history: START is its present, which
/// runs SPEED times as fast as the machine's (0: stands still), and
/// POST /v1/clock moves it on.
///
/// Examples:
///   wafer serve
///   wafer serve --listen 0.0.0.0:8080
///   wafer serve --clock 2013-01-02T05:00:00Z,0
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// The present to start with
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Serve {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = Arc::new(app::open(&project, self.clock).await?);
        if platform.context().definitions().views.is_empty()
            && platform.context().definitions().sources.is_empty()
        {
            say("nothing was applied yet; run `wafer apply`, the server takes it up");
        }
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        // Before anybody is told where to find the server, and could stop it.
        let stop = stop_signal()?;
        say(format!(
            "serving project `{}` on http://{}",
            project.name,
            listener.local_addr()?
        ));
        serve(platform, listener, stop).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Ends at the first SIGINT or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        say("stopping");
    })
}
