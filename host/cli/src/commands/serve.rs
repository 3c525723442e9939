//! `wafer serve`.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wafer_config::ServerConfig;
use wafer_server::{Hosts, REFUSALS, ServerLimits, ServerOptions, serve};

use super::CommandContext;
use crate::allocator::give_back_what_is_freed;
use crate::app::{self, ClockOption};
use crate::output::say;

/// The number of connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// The number of files that the server has open beside its connections, those that it refuses
/// included.
const OTHER_FILES: usize = 512 + REFUSALS;

/// Answer requests and accept events over HTTP.
///
/// Requests are taken for localhost, for IP addresses and for the names that --host and
/// `hosts` in [server] of wafer.toml list, and not from pages of other sites. There is no
/// other access control: whoever can reach the server may read and write everything.
///
/// The first SIGTERM or SIGINT lets requests in progress finish, and what waits to be
/// logged be written, for `drain_timeout` in [server] of wafer.toml at most; the second
/// ends the server at once. Nothing that was acknowledged is lost by either.
///
/// With --clock the server replays history: its clock starts at START and runs SPEED
/// times as fast as the machine's (0 means that it stands still), and POST /v1/clock
/// sets it forward.
///
/// Examples:
///   wafer serve
///   wafer serve --listen 0.0.0.0:8080 --host features.example.com
///   wafer serve --clock 2013-01-02T05:00:00Z,0
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 chooses a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Name by which the server may be asked; may be given several times
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// Clock to use instead of the machine's
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Serve {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = Arc::new(app::open(&project, self.clock).await?);
        if platform.context().definitions().views.is_empty()
            && platform.context().definitions().sources.is_empty()
        {
            say("nothing was applied yet; run `wafer apply`, and the server will serve it");
        }
        let options = options(&project.server, self.host);
        let listener = listen(self.listen).with_context(|| not_listening(self.listen))?;
        // Signals are handled before the address is printed, because whoever reads it may send one.
        let stop = stop_signal(options.limits.drain_timeout)?;
        if !self.listen.ip().to_canonical().is_loopback() {
            say(
                "warning: other machines can reach this server, and whoever reaches it may read and \
                 write everything; put a gateway with access control in front of it, or listen at \
                 127.0.0.1",
            );
        }
        say(format!(
            "serving project `{}` on http://{}",
            project.name,
            listener.local_addr()?
        ));
        tokio::spawn(give_back_what_is_freed());
        serve(platform, listener, options, stop).await?;
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

/// Returns how the server treats what comes from outside, by the settings of the project.
fn options(config: &ServerConfig, hosts: Vec<String>) -> ServerOptions {
    let default = ServerLimits::default();
    let time = |set: Option<wafer_core::Duration>, default: Duration| {
        set.map_or(default, |time| {
            Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(0))
        })
    };
    let count = |set: Option<u32>, default: usize| set.map_or(default, |count| count as usize);
    let limits = ServerLimits {
        connections: possible_connections(count(config.connections, default.connections)),
        requests: count(config.requests, default.requests),
        queue_timeout: time(config.queue_timeout, default.queue_timeout),
        header_timeout: time(config.header_timeout, default.header_timeout),
        body_timeout: time(config.body_timeout, default.body_timeout),
        write_timeout: time(config.write_timeout, default.write_timeout),
        drain_timeout: time(config.drain_timeout, default.drain_timeout),
        memory: config.memory.unwrap_or(default.memory),
        disk: config.disk.unwrap_or(default.disk),
        disk_per_set: config.disk_per_set.unwrap_or(default.disk_per_set),
    };
    let hosts = config.hosts.iter().cloned().chain(hosts).collect();
    ServerOptions {
        limits,
        hosts: Hosts::Named(hosts),
    }
}

/// Returns how many of `wanted` connections the system allows, after asking it to allow them all.
fn possible_connections(wanted: usize) -> usize {
    let needed = (wanted + OTHER_FILES) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|files| files >= needed) {
        return wanted;
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(needed, |most| most.min(needed))),
        ..limit
    };
    // Where it may not be raised, the present limit stays.
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let possible = files.saturating_sub(OTHER_FILES).max(files / 2).max(1);
    if possible < wanted {
        say(format!(
            "the system allows this process {files} open files, so that it takes {possible} \
             connections and not {wanted} (setting `server.connections`); raise `ulimit -n`"
        ));
    }
    wanted.min(possible)
}

/// Listens at an address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that was just stopped leaves connections that are closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The signals that stop the server.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Waits for the next one, and returns its number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
        }
    }
}

/// Returns a future that completes at the first SIGINT or SIGTERM. The second one ends the process.
/// `limit` is the time that the server may take after the first one.
fn stop_signal(limit: Duration) -> Result<impl Future<Output = ()>> {
    let mut signals = StopSignals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    Ok(async move {
        signals.next().await;
        say(format!(
            "stopping within {limit:?}, once the requests in progress are finished and what waits is \
             written; a second signal ends the server at once"
        ));
        tokio::spawn(async move {
            let number = signals.next().await;
            say("stopped at once");
            // The status that a shell gives to a process that a signal ended.
            std::process::exit(128 + number);
        });
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_setting_that_is_left_out_means_the_default_of_the_reference() {
        // The folder is found at run time, because checkouts may share a target folder.
        let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
        let reference = std::fs::read_to_string(folder.join("../../docs/wafer-toml.md")).unwrap();
        let mut sections = reference.split("\n## ");
        let section = sections.find(|section| section.starts_with("[server]"));
        let rows = section.unwrap().lines();
        let limits = |config: &ServerConfig| format!("{:?}", options(config, Vec::new()).limits);
        let absent = limits(&ServerConfig::default());
        let mut compared = Vec::new();
        for row in rows.filter(|row| row.starts_with("| `")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let key = cells[0].trim_matches(['|', ' ', '`']);
            let literal = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
            let Some(default) = literal(cells[2]) else {
                continue;
            };
            let value = match default.parse::<u64>() {
                Ok(_) => default,
                Err(_) => format!("\"{default}\""),
            };
            let set: ServerConfig = toml::from_str(&format!("{key} = {value}")).unwrap();
            assert_eq!(limits(&set), absent, "{key} = {value}");
            compared.push(key);
        }
        assert_eq!(
            compared,
            [
                "connections",
                "requests",
                "queue_timeout",
                "header_timeout",
                "body_timeout",
                "write_timeout",
                "drain_timeout",
                "memory",
                "disk",
                "disk_per_set"
            ]
        );
    }
}
