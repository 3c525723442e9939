//! What a server does with the rows of the request log that wait when it is stopped.

use crate::harness::accounts::{PUSHED, accounts, infer, push_and_release, request};
use crate::harness::relay::{Faults, Relay};
use crate::harness::request_log::logged_rows;
use crate::harness::{Project, are_on_aws, endpoint};

/// Makes a project whose endpoint logs all requests within an hour where rows wait, and whose
/// server has `time` to stop.
fn project(time: &str) -> Project {
    let project = accounts(PUSHED);
    project.replace(
        "[entities.account]",
        &format!("[server]\ndrain_timeout = \"{time}\"\n\n[entities.account]"),
    );
    push_and_release(&project, 1);
    let logged = ["--log", "100", "--log-within", "1h"];
    let fixed = ["endpoints", "set", "line", "r1"];
    project.ok(&[&fixed[..], &logged].concat());
    project
}

#[test]
fn rows_that_wait_to_be_logged_are_written_when_the_server_is_stopped() {
    let project = project("1h");
    let server = project.serve(&[]);
    assert_eq!(
        infer(&server, "line", &request(&["k001", "k002", "nobody"])).0,
        200
    );
    server.stop();
    assert_eq!(logged_rows(&project).len(), 3);
}

/// A server that stops must have ended before whoever stops it kills it, also when S3 is gone.
#[test]
fn a_stopped_server_ends_in_time_and_says_how_many_logged_rows_are_lost_if_s3_is_gone() {
    if !are_on_aws() {
        return;
    }
    let project = project("6s");
    let s3 = Relay::new(&endpoint("S3"), Faults::default());
    let server = project.serve_with(&[("AWS_ENDPOINT_URL_S3", &s3.url)]);
    assert_eq!(
        infer(&server, "line", &request(&["k001", "k002", "nobody"])).0,
        200
    );
    drop(s3);
    let (code, said) = server.stopped();
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "stopping within 6s",
        "stopping waits for 3 rows of the request log",
        "3 rows of the request log were not written, and are lost",
        "server.drain_timeout",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(logged_rows(&project).is_empty());
}
