//! `wafer doctor`.

use std::borrow::Cow;
use std::process::{Command as Process, ExitCode};

use anyhow::Result;
use serde::Serialize;
use wafer_build::{ToolchainKind, Toolchains};
use wafer_config::Project;
use wafer_core::escaped;

use super::CommandContext;
use crate::output::{indented, say};
use crate::{app, build};

/// Check that this machine has what Wafer needs, and say what to do if not.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Install what the project needs and is missing: the WebAssembly target, with rustup or
    /// apt-get
    #[arg(long)]
    fix: bool,

    /// Accept the machine's clock, although the project was used at a later time before
    #[arg(long)]
    accept_clock: bool,

    /// Also check what the project has on AWS, before and after `terraform apply`: the
    /// credentials, the bucket, the account's concurrency, and its queues and streams
    #[arg(long)]
    aws: bool,
}

/// The result of one check.
#[derive(Serialize)]
struct Finding {
    what: Cow<'static, str>,
    ok: bool,
    detail: String,
}

impl Doctor {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let needed = needed(context);
        let mut findings = vec![cargo(needed.contains(&ToolchainKind::Crate))];
        findings.extend(self.toolchains(&needed));
        findings.push(sandbox());
        findings.extend(project(context, self.accept_clock).await);
        if self.aws {
            findings.extend(deployment(context).await);
        }
        let ok = findings.iter().all(|f| f.ok);
        context.format.print(&findings, || {
            let lines = findings.iter().map(|f| {
                format!(
                    "{} {:18} {}",
                    if f.ok { "ok  " } else { "FAIL" },
                    escaped(&f.what),
                    indented(&f.detail)
                )
            });
            lines.collect::<Vec<_>>().join("\n")
        });
        Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Checks every toolchain, of which some are needed.
    fn toolchains(&self, needed: &[ToolchainKind]) -> Vec<Finding> {
        let toolchains = Toolchains::default();
        let kinds = ToolchainKind::ALL.into_iter();
        let findings = kinds.map(|kind| self.toolchain(&toolchains, kind, needed.contains(&kind)));
        findings.flatten().collect()
    }

    /// Checks a toolchain, unless it needs nothing on this machine.
    fn toolchain(
        &self,
        toolchains: &Toolchains,
        kind: ToolchainKind,
        is_needed: bool,
    ) -> Option<Finding> {
        let toolchain = toolchains.of(kind);
        let found = if self.fix && is_needed {
            toolchain.find_or_install(&mut |step| say(step))
        } else {
            toolchain.find()
        };
        let (ok, detail) = match found {
            Ok(found) => (true, found?),
            Err(_) if !is_needed => (true, NOT_NEEDED.to_owned()),
            Err(error) => (false, error.to_string()),
        };
        Some(Finding {
            what: toolchain.name().into(),
            ok,
            detail,
        })
    }
}

/// What is said of something that is missing, and that no function of the project needs.
const NOT_NEEDED: &str = "not found, and no function of this project needs it";

/// Returns the kinds of toolchains that the project of this folder needs, or all where there is
/// none that can be read.
fn needed(context: &CommandContext) -> Vec<ToolchainKind> {
    match context.project() {
        Ok(project) => build::kinds(&project),
        Err(_) => ToolchainKind::ALL.to_vec(),
    }
}

fn cargo(is_needed: bool) -> Finding {
    let printed = Process::new("cargo").arg("--version").output();
    let found = match printed {
        Ok(done) if done.status.success() => {
            Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
        }
        _ => None,
    };
    let missing = match is_needed {
        true => {
            "not found; install Rust from https://rustup.rs to build functions; those in Python and \
             JavaScript need none"
        }
        false => NOT_NEEDED,
    };
    Finding {
        what: "cargo".into(),
        ok: found.is_some() || !is_needed,
        detail: found.unwrap_or_else(|| missing.to_owned()),
    }
}

fn sandbox() -> Finding {
    match app::runtime(None) {
        Ok(runtime) => {
            let allocation = if runtime.is_pooled() {
                "instances from a pool"
            } else {
                "no pool of instances, so that calls are slower: too little address space \
                 (ulimit -v)"
            };
            Finding {
                what: "sandbox".into(),
                ok: true,
                detail: allocation.to_owned(),
            }
        }
        Err(error) => Finding {
            what: "sandbox".into(),
            ok: false,
            detail: format!("{error:#}"),
        },
    }
}

/// Checks what the project of this folder has on AWS.
async fn deployment(context: &CommandContext) -> Vec<Finding> {
    let checks = match context.project() {
        Ok(project) => app::check_deployment(&project).await,
        Err(error) => Err(error),
    };
    match checks {
        Err(error) => vec![finding("aws", Err(error))],
        Ok(checks) => {
            let finding = |(what, result): (String, Result<String, String>)| Finding {
                what: what.into(),
                ok: result.is_ok(),
                detail: result.unwrap_or_else(|wrong| wrong),
            };
            checks.into_iter().map(finding).collect()
        }
    }
}

fn finding(what: &'static str, result: Result<String>) -> Finding {
    let (ok, detail) = match result {
        Ok(detail) => (true, detail),
        Err(error) => (false, format!("{error:#}")),
    };
    Finding {
        what: what.into(),
        ok,
        detail,
    }
}

/// Checks the project of this folder, its stores and the clock. A folder without a project is fine.
async fn project(context: &CommandContext, accept_clock: bool) -> Vec<Finding> {
    let project = match context.project() {
        Ok(project) => project,
        Err(error) => {
            let project_error = error.downcast_ref::<wafer_config::ProjectError>();
            if matches!(project_error, Some(wafer_config::ProjectError::Read { .. })) {
                let detail = "none in this folder; make one with `wafer new NAME`".to_owned();
                return vec![Finding {
                    what: "project".into(),
                    ok: true,
                    detail,
                }];
            }
            return vec![finding("project", Err(error))];
        }
    };
    let checked = in_time(&project, Box::pin(stores(&project, accept_clock)));
    let (stores, clock) = match checked.await {
        Ok((stores, clock)) => (Ok(stores), clock),
        Err(error) => (Err(error), Ok(())),
    };
    vec![
        finding("project", Ok(format!("`{}`", project.name))),
        finding("stores", stores),
        finding(
            "clock",
            clock.map(|()| "not behind the last use of the project".to_owned()),
        ),
    ]
}

/// Opens the stores of a project, and returns what they are, and whether the clock is right.
async fn stores(project: &Project, accept_clock: bool) -> Result<(String, Result<()>)> {
    let platform = app::open_at_any_time(project, None).await?;
    let checked = if accept_clock {
        platform.context().accept_clock().await
    } else {
        platform.context().check_clock().await
    };
    let components = platform.context().components();
    let outbox = match components.stores.outbox.has_rows().await {
        Ok(true) => "rows wait in the outbox",
        Ok(false) => "the outbox is empty",
        Err(_) => "the outbox cannot be read",
    };
    let stores = format!(
        "{}, {}; {outbox}",
        components.stores.online, components.stores.offline
    );
    Ok((stores, checked.map_err(anyhow::Error::from)))
}

/// Waits for the stores of a project, and says so if they are on other machines, for which it does
/// not wait longer than for any check.
async fn in_time<T>(project: &Project, work: impl Future<Output = Result<T>>) -> Result<T> {
    if project.store.cloud.is_none() {
        return work.await;
    }
    say("checking stores …");
    let done = tokio::time::timeout(app::CHECK_LIMIT, work).await;
    done.unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "they gave no answer within {} seconds: look at the network, at HTTPS_PROXY and at \
             AWS_ENDPOINT_URL; `wafer doctor --aws` asks the services one by one",
            app::CHECK_LIMIT.as_secs()
        ))
    })
}
