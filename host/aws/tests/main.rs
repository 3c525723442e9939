//! Tests of the AWS stores against local servers that speak AWS's protocols. `cargo xtask test`
//! starts the servers; see `infra/local/README.md`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests"
)]

mod capacity;
mod contract;
mod faults;
mod lines;
mod local;
mod meter;
mod objects;
mod preflight;
mod proxy;
mod relay;
mod tables;
