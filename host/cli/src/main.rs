//! The `wafer` command.
//!
//! `commands.rs` parses the arguments and dispatches to one file for each command; each opens the
//! project's platform through `app.rs`, calls it, and prints what it returned through `output.rs`.
//! The program also starts itself as a child process: to compile components apart from the
//! sandbox (`compile-component`), to decode Arrow and Parquet files (`decode-files`), and to work
//! on the partitions of a run (`partitions.rs`).
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own, and find the checkout"
    )
)]

mod allocator;
mod app;
mod build;
mod commands;
mod http;
mod named_values;
mod output;
mod partitions;
mod sdk;
mod stock;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

/// How long work on other threads is waited for when a command is done.
const SHUTDOWN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    let exit_code = match &arguments.command {
        commands::Command::CompileComponent {
            mode,
            target,
            function_code,
        } => {
            let function_code = function_code.as_deref();
            Some(wafer_runtime::compile_worker(mode, target, function_code))
        }
        commands::Command::DecodeFiles => Some(wafer_platform::decode_worker()),
        _ => None,
    };
    if let Some(code) = exit_code {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    if matches!(arguments.command, commands::Command::Serve(_)) {
        allocator::give_back_large_buffers();
    }
    let started = output::start_log(arguments.verbose);
    match started.and_then(|()| start(arguments)) {
        Ok(code) => code,
        Err(error) if output::has_no_reader(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs a command. What it reads of Arrow and Parquet files is decoded by children of this process.
fn start(arguments: commands::Arguments) -> anyhow::Result<ExitCode> {
    let program = wafer_platform::this_program()
        .context("cannot find the path of this program, to decode files by it")?;
    wafer_platform::decode_in_child(program, vec!["decode-files".to_owned()]);
    app::name_folder_for_temporary_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(wafer_runtime::THREAD_STACK_BYTES)
        .enable_all()
        .build()?;
    // As a trait object the commands are compiled once, and not for each way of blocking.
    let command: Pin<Box<dyn Future<Output = _>>> = Box::pin(commands::run(arguments));
    let result = runtime.block_on(command);
    // What still runs on other threads has no one to answer to: requests that were cut off when a
    // server was stopped, for example.
    runtime.shutdown_timeout(SHUTDOWN);
    result
}
