//! Shadow releases of an endpoint.

use serde_json::{Value as Json, json};

use crate::harness::accounts::{
    PUSHED, accounts, infer, push_and_release, release_with_views, request, route_and_log,
};
use crate::harness::request_log::{logged_row_count, logged_rows, wait};

#[test]
fn failing_shadow_releases_do_not_fail_requests() {
    let project = accounts(PUSHED);
    push_and_release(&project, 1);
    // The second release has a function that the first one does not have, and that traps for one
    // account.
    release_with_views(&project, 2..=2);
    route_and_log(&project, &["r1", "--shadow", "r2"]);
    let server = project.serve(&[]);
    for keys in [&["k001", "trap"][..], &["k002"]] {
        let (status, answer) = infer(&server, "line", &request(keys));
        assert_eq!(status, 200, "{answer}");
    }
    wait(&server, 4);
    assert_eq!(logged_row_count(&server, "failed"), 2);
    server.stop();
    let mut of: Vec<(Json, Json)> = logged_rows(&project)
        .into_iter()
        .map(|row| (row["log_release"].clone(), row["key_a"].clone()))
        .collect();
    of.sort_by_key(|row| format!("{row:?}"));
    let wanted = [
        ("r1", "k001"),
        ("r1", "k002"),
        ("r1", "trap"),
        ("r2", "k002"),
    ];
    assert_eq!(
        of,
        wanted.map(|(release, key)| (json!(release), json!(key)))
    );
}

#[test]
fn shadow_releases_need_a_request_log() {
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
    let said = project.fails(&[
        "endpoints",
        "set",
        "line",
        "r1",
        "--shadow",
        "r2",
        "--log",
        "0",
    ]);
    assert!(
        said.contains("shadows are asked for what is logged, and nothing is"),
        "{said}"
    );
    route_and_log(&project, &["r1"]);
    assert!(
        project
            .fails(&["skew", "line"])
            .contains("has logged nothing")
    );
}
