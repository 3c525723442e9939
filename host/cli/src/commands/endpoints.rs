//! `wafer endpoints`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
use wafer_core::Duration;
use wafer_platform::{Endpoint, LOG_WITHIN, Routing, parse_log_within, parse_percent};

use super::CommandContext;
use super::apply::warn;
use crate::app;
use crate::output::table;

/// Manage endpoints: stable names that route requests to releases by weight.
///
/// A running server applies a change within a moment, and never in the middle of a request:
/// none is answered with the features of one release and the model of another.
///
/// Examples:
///   wafer endpoints set late_arrival r1
///   wafer endpoints set late_arrival r1=90 r2=10 --shadow r3 --key tailnum
///   wafer endpoints rollback late_arrival
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Endpoints {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the endpoints
    List,
    Set(Set),
    /// Restore the routing that the endpoint had before the last change
    Rollback {
        /// The endpoint
        name: String,
    },
    /// Remove an endpoint; its logged requests stay
    Remove {
        /// The endpoint
        name: String,
    },
}

/// Route an endpoint's requests to releases, from now on.
///
/// Examples:
///   wafer endpoints set late_arrival r1
///   wafer endpoints set late_arrival r1=90 r2=10 --key tailnum --log 100
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Set {
    /// The endpoint; it is made if there is none of this name
    name: String,

    /// Releases with their percentages, which must add up to 100; a single one gets all requests
    #[arg(value_name = "RELEASE[=PERCENT]", required = true)]
    routes: Vec<String>,

    /// Also ask this release, and only log its answers
    #[arg(long, value_name = "RELEASE")]
    shadow: Vec<String>,

    /// Route each row by the value of this field, so that equal values get the same release
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,

    /// Percentage of entities whose requests are logged; all requests of such an entity are
    /// logged
    #[arg(long, default_value = "10", value_name = "PERCENT", value_parser = parse_percent)]
    log: u32,

    /// With stores on AWS, how long logged rows wait so that many are written at once, which
    /// costs less; a process that is killed loses the rows of this time at most
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = parse_log_within)]
    log_within: Duration,
}

impl Endpoints {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, None).await?;
        let present = platform.context().definitions();
        match self.command.unwrap_or(Command::List) {
            Command::List => {
                let endpoints = platform.serving().endpoints().await?;
                context.format.print(&endpoints, || list_text(&endpoints));
            }
            Command::Set(set) => {
                let routing = Routing::parse(&set.routes, set.shadow, set.key, set.log);
                let routing =
                    routing.map_err(|e| anyhow::anyhow!("endpoint `{}`: {e}", set.name))?;
                let routing = Routing {
                    log_within: set.log_within,
                    ..routing
                };
                let endpoint = platform.serving().set_endpoint(&set.name, routing).await?;
                context
                    .format
                    .print(&endpoint, || text(&set.name, &endpoint));
            }
            Command::Rollback { name } => {
                let endpoint = platform.serving().rollback(&name).await?;
                context.format.print(&endpoint, || text(&name, &endpoint));
            }
            Command::Remove { name } => {
                platform.serving().remove_endpoint(&name).await?;
                let done = json!({ "endpoint": name });
                context
                    .format
                    .print(&done, || format!("endpoint {name} was removed"));
            }
        }
        warn(&platform.serving().outdated_endpoints(&present).await?);
        Ok(ExitCode::SUCCESS)
    }
}

fn list_text(endpoints: &BTreeMap<String, Endpoint>) -> String {
    if endpoints.is_empty() {
        return "no endpoints; make one with `wafer endpoints set NAME RELEASE`".to_owned();
    }
    let rows: Vec<_> = endpoints
        .iter()
        .map(|(name, endpoint)| {
            let routing = &endpoint.routing;
            vec![
                name.clone(),
                routes_text(routing),
                routing.shadow.join(" "),
                routing.key.clone().unwrap_or_default(),
                percent(routing.log),
                endpoint.since.to_string(),
            ]
        })
        .collect();
    table(
        &["endpoint", "releases", "shadow", "key", "logged", "since"],
        &rows,
    )
}

/// Formats hundredths of a percent.
fn percent(hundredths: u32) -> String {
    format!("{} %", f64::from(hundredths) / 100.0)
}

fn routes_text(routing: &Routing) -> String {
    let routes = routing.routes.iter();
    let texts = routes.map(|(release, weight)| format!("{release}={}", f64::from(*weight) / 100.0));
    texts.collect::<Vec<_>>().join(" ")
}

fn text(name: &str, endpoint: &Endpoint) -> String {
    let routing = &endpoint.routing;
    let mut text = format!("endpoint {name}: {}", routes_text(routing));
    if !routing.shadow.is_empty() {
        text += &format!(", shadowed by {}", routing.shadow.join(" "));
    }
    if let Some(key) = &routing.key {
        text += &format!(", by {key}");
    }
    text += &format!("; {} logged", percent(routing.log));
    if routing.log > 0 && routing.log_within != LOG_WITHIN {
        text += &format!(" within {}", routing.log_within);
    }
    text
}
