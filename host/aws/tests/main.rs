//! The stores on AWS against servers that speak its protocols on this machine.
//! `cargo xtask test` starts them; see `infra/local/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests"
)]

mod contract;
mod faults;
mod local;
mod proxy;
