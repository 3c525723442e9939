//! The `wafer` command.
//!
//! `commands.rs` parses the arguments and dispatches to one file for each command; each opens the
//! project's platform through `app.rs`, calls it, and prints what it returned through `output.rs`.
//! The program also starts itself as a child process: to compile components apart from the
//! sandbox (`compile-component`), and to work on the partitions of a run (`partitions.rs`).
#![allow(
    clippy::disallowed_methods,
    reason = "an edge: it reads the environment and hands in clocks and randomness"
)]

mod app;
mod build;
mod commands;
mod http;
mod output;
mod partitions;
mod sdk;
mod stock;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// How long work on other threads is waited for when a command is done.
const SHUTDOWN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    if let commands::Command::CompileComponent { mode, target } = &arguments.command {
        let code = wafer_runtime::compile_worker(mode, target);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    output::start_log(arguments.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(commands::run(arguments));
            // What still runs on other threads has no one to answer to: requests that were cut off
            // when a server was stopped, for example.
            runtime.shutdown_timeout(SHUTDOWN);
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::has_no_reader(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
