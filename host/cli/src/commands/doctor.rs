//! `wafer doctor`.

use std::process::{Command as Process, ExitCode};

use anyhow::Result;
use serde::Serialize;
use wafer_build::Toolchain;

use super::Context;
use crate::app;
use crate::output::say;

/// Look whether this machine has what it takes, and say what to do if not.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Install what is missing: the WebAssembly target, by rustup or by apt-get
    #[arg(long)]
    fix: bool,

    /// Take the machine's clock as right, though the project was used at a later time
    #[arg(long)]
    accept_clock: bool,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    detail: String,
}

impl Doctor {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut findings = vec![cargo(), self.toolchain(), sandbox()];
        findings.extend(project(context, self.accept_clock).await);
        let ok = findings.iter().all(|f| f.ok);
        context.format.print(&findings, || {
            let lines = findings.iter().map(|f| {
                format!(
                    "{} {:18} {}",
                    if f.ok { "ok  " } else { "FAIL" },
                    f.what,
                    f.detail
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

    fn toolchain(&self) -> Finding {
        let found = if self.fix {
            Toolchain::find_or_install(&mut |step| say(step))
        } else {
            Toolchain::find()
        };
        match found {
            Ok(toolchain) => Finding {
                what: "WebAssembly",
                ok: true,
                detail: toolchain.to_string(),
            },
            Err(error) => Finding {
                what: "WebAssembly",
                ok: false,
                detail: error.to_string(),
            },
        }
    }
}

fn cargo() -> Finding {
    let printed = Process::new("cargo").arg("--version").output();
    match printed {
        Ok(done) if done.status.success() => {
            let detail = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            Finding {
                what: "cargo",
                ok: true,
                detail,
            }
        }
        _ => {
            let detail =
                "not found; install Rust from https://rustup.rs to build functions".to_owned();
            Finding {
                what: "cargo",
                ok: false,
                detail,
            }
        }
    }
}

fn sandbox() -> Finding {
    match app::runtime() {
        Ok(runtime) => {
            let allocation = if runtime.is_pooled() {
                "instances from a pool"
            } else {
                "instances one by one: too little address space for a pool (ulimit -v), calls are slower"
            };
            Finding {
                what: "sandbox",
                ok: true,
                detail: allocation.to_owned(),
            }
        }
        Err(error) => Finding {
            what: "sandbox",
            ok: false,
            detail: format!("{error:#}"),
        },
    }
}

/// The project of this folder, if there is one.
async fn project(context: &Context, accept_clock: bool) -> Vec<Finding> {
    let finding = |what, result: Result<String>| match result {
        Ok(detail) => Finding {
            what,
            ok: true,
            detail,
        },
        Err(error) => Finding {
            what,
            ok: false,
            detail: format!("{error:#}"),
        },
    };
    let project = match context.project() {
        Ok(project) => project,
        Err(error) => {
            let unread = error.downcast_ref::<wafer_config::ProjectError>();
            if matches!(unread, Some(wafer_config::ProjectError::Read { .. })) {
                let detail = "none in this folder; make one with `wafer new NAME`".to_owned();
                return vec![Finding {
                    what: "project",
                    ok: true,
                    detail,
                }];
            }
            return vec![finding("project", Err(error))];
        }
    };
    let mut clock = Ok(());
    let stores = match app::open_at_any_time(&project, None).await {
        Ok(platform) => {
            let checked = if accept_clock {
                platform.context().accept_clock().await
            } else {
                platform.context().check_clock().await
            };
            clock = checked.map_err(anyhow::Error::from);
            let components = platform.context().components();
            let outbox = match components.online.has_outbox().await {
                Ok(true) => "rows wait in the outbox",
                Ok(false) => "the outbox is empty",
                Err(_) => "the outbox cannot be read",
            };
            Ok(format!(
                "{}, {}; {outbox}",
                components.online, components.offline
            ))
        }
        Err(error) => Err(error),
    };
    vec![
        finding("project", Ok(format!("`{}`", project.name))),
        finding("stores", stores),
        finding(
            "clock",
            clock.map(|()| "not before the last use".to_owned()),
        ),
    ]
}
