//! The `wafer` command: what a person types.

mod app;
mod build;
mod commands;
mod http;
mod output;
mod partitions;
mod sdk;

use std::process::ExitCode;

use clap::Parser;

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
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
