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

/// Answer requests and accept events over HTTP.
///
/// With --clock the server replays history: its clock starts at START and runs SPEED
/// times as fast as the machine's (0 means that it stands still), and POST /v1/clock
/// sets it forward.
///
/// Examples:
///   wafer serve
///   wafer serve --listen 0.0.0.0:8080
///   wafer serve --clock 2013-01-02T05:00:00Z,0
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 chooses a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Clock to use instead of the machine's
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
            say("nothing was applied yet; run `wafer apply`, and the server will serve it");
        }
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| not_listening(self.listen))?;
        // Signals are handled before the address is printed, because whoever reads it may send one.
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

/// Says why a server could not listen, and what to do.
fn not_listening(address: SocketAddr) -> String {
    format!(
        "cannot listen on {address}; if another server does, stop it, or name another address with \
         --listen (port 0 chooses a free one)"
    )
}

/// Returns a future that completes at the first SIGINT or SIGTERM.
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
