//! Shadow releases of an endpoint.

use serde_json::{Value as Json, json};

use crate::harness::accounts::{
    PUSHED, accounts, infer, released, released_whole, request, route_and_log,
};
use crate::harness::request_log::{counted, logged, wait};

#[test]
fn shadow_releases_that_fail_fail_alone() {
    let project = accounts(PUSHED);
    released(&project, 1);
    // Has a function that the first release has not, and that ends for one account.
    released_whole(&project, 2..=2);
    route_and_log(&project, &["r1", "--shadow", "r2"]);
    let server = project.serve(&[]);
    for keys in [&["k001", "trap"][..], &["k002"]] {
        let (status, answer) = infer(&server, "line", &request(keys));
        assert_eq!(status, 200, "{answer}");
    }
    wait(&server, 4);
    assert_eq!(counted(&server, "failed"), 2);
    server.stop();
    let mut of: Vec<(Json, Json)> = logged(&project)
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
    released(&project, 2);
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
