//! Set-up that several tests share, in one file for each subject.

pub(crate) mod accounts;
mod cloud;
mod components;
mod flights;
mod guests;
pub(crate) mod interpreted;
pub(crate) mod interpreter;
pub(crate) mod lambda;
pub(crate) mod ledger;
pub(crate) mod misbehaving;
pub(crate) mod package_index;
pub(crate) mod pass;
mod project;
#[allow(dead_code, reason = "written for tests of the stores")]
#[path = "../../host/aws/tests/proxy.rs"]
pub(crate) mod proxy;
mod python;
mod random;
#[path = "../../host/aws/tests/relay.rs"]
pub(crate) mod relay;
pub(crate) mod request_log;
mod rows;
mod server;
pub(crate) mod values;
pub(crate) mod wasi;

pub(crate) use cloud::{are_embedded, are_on_aws, endpoint, terraform};
pub(crate) use guests::{flights_components, guest};
pub(crate) use project::{BINARY, CACHE, Project, repository, run_in, text, wafer};
pub(crate) use python::{client_program, witness_python};
pub(crate) use random::Random;
pub(crate) use rows::{objects, rows_of, write_arrow, write_batch, write_parquet};
pub(crate) use server::{Server, agent, read_answer, wait_for};
