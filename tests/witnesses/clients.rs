//! Clients of other systems that use a server: the SDK of Feast, NVIDIA's client of the Open
//! Inference Protocol, and a fuzzer that reads the description of the protocol.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::accounts::{PUSHED, accounts, push_and_release};
use crate::harness::{Project, Server, client_program, guest, repository, text};

/// Runs a command that must succeed.
fn run_successfully(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Returns the folder with the programs that use the clients.
fn clients() -> PathBuf {
    repository().join("tests/clients")
}

/// Starts a server with the endpoint `line`, which predicts 1.
fn line() -> (Project, Server) {
    let project = accounts(PUSHED);
    push_and_release(&project, 1);
    project.ok(&["endpoints", "set", "line", "r1"]);
    let server = project.serve(&[]);
    (project, server)
}

#[test]
fn feast_s_sdk_reads_writes_and_pushes() {
    let Some(python) = client_program("python") else {
        return;
    };
    let project = Project::new(&format!(
        r#"
[project]
name = "ledger"

[entities.customer]
keys = {{ customer = "utf8" }}

[sources.visits]
type = "stream"

[functions.visits]
component = "{}"

[groups.profile]
entity = "customer"
event_time = "at"
ttl = "10d"

[groups.visit_counts]
entity = "customer"
event_time = "at"
aggregates = [{{ function = "count", windows = ["1d"] }}]

[pipelines.profile]
source = "visits"
function = "visits"
group = "profile"

[pipelines.visit_counts]
source = "visits"
function = "visits"
group = "visit_counts"

[views.customer_view]
lookups = [{{ group = "profile" }}]
"#,
        guest("visits").display()
    ))
    .applied();
    let server = project.serve(&["--clock", "2020-02-03T00:00:00Z,0"]);
    let folder = tempfile::tempdir().unwrap();
    run_successfully(
        Command::new(python)
            .arg(clients().join("feast_store.py"))
            .arg(&server.url)
            .arg(folder.path())
            .env("FEAST_USAGE", "False")
            .env("NO_PROXY", "127.0.0.1"),
    );
    server.stop();
    // Rows that were written without the pipeline are in the offline table as well.
    let rows = project.offline("profile_v1");
    assert!(rows.iter().any(|row| row.contains("Zürich")), "{rows:?}");
}

#[test]
fn triton_s_client_is_answered() {
    let Some(python) = client_program("python") else {
        return;
    };
    let (_project, server) = line();
    let address = server.url.trim_start_matches("http://");
    run_successfully(
        Command::new(python)
            .arg(clients().join("triton.py"))
            .arg(address),
    );
    server.stop();
}

#[test]
fn a_fuzzer_finds_no_answer_that_breaks_the_protocol() {
    let Some(fuzzer) = client_program("st") else {
        return;
    };
    let (_project, server) = line();
    let folder = tempfile::tempdir().unwrap();
    run_successfully(
        Command::new(fuzzer)
            .current_dir(folder.path())
            .args(["--no-color", "run"])
            .arg(clients().join("oip.yaml"))
            .args(["--url", &server.url])
            .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
            .args(["--phases", "examples,fuzzing", "--max-examples", "150", "--seed", "2013"]),
    );
    server.stop();
}
