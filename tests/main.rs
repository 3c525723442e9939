//! Behaviour seen from outside, mostly through the real binary: one file for
//! each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod backfill;
mod bad_guests;
mod bad_input;
mod batch_inference;
mod chains;
mod clients;
mod cloud;
mod deploy;
mod distributed;
mod flights;
mod harness;
mod iam;
mod kill;
mod lambda;
mod model_files;
mod models;

mod new_project;
mod on_aws;
mod oracle;
mod processes;
#[allow(dead_code, reason = "written for tests of the stores")]
#[path = "../host/aws/tests/proxy.rs"]
mod proxy;
mod request_log;
mod same_bytes;
mod server;
mod training;
mod upkeep;
mod windows;
