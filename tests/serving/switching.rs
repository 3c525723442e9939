//! Endpoints that are switched to another release while clients send requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};

use crate::harness::Project;
use crate::harness::accounts::{
    PUSHED, accounts, infer, line_and_classes, release_with_views, request,
};

/// Tells the clients to stop when this is dropped, also when the test fails.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Switches an endpoint between its releases `r1` and `r2` six times, the last time with a
/// rollback, while clients send requests for three accounts. `check` checks each answer, and
/// returns which of the two releases it comes from.
fn switch_under_load(project: &Project, endpoint: &'static str, check: fn(&Json) -> usize) {
    project.ok(&["endpoints", "set", endpoint, "r1"]);
    let server = Arc::new(project.serve(&[]));
    let over = Arc::new(AtomicBool::new(false));
    let ended = StopOnDrop(Arc::clone(&over));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, over) = (Arc::clone(&server), Arc::clone(&over));
            std::thread::spawn(move || {
                let request = request(&["k001", "k002", "k200"]);
                let mut seen = [0u64; 2];
                while !over.load(Ordering::Relaxed) {
                    let (status, answer) = infer(&server, endpoint, &request);
                    assert_eq!(status, 200, "{answer}");
                    seen[check(&answer)] += 1;
                }
                seen
            })
        })
        .collect();
    // A switch takes effect within a moment after the command has returned.
    for n in 0..6 {
        let release = if n % 2 == 0 { "r2" } else { "r1" };
        match n {
            5 => project.ok(&["endpoints", "rollback", endpoint]),
            _ => project.ok(&["endpoints", "set", endpoint, release]),
        };
        let switched = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            infer(&server, endpoint, &request(&["k001"])).1["model_version"] == release
        });
        assert!(switched, "to {release}");
    }
    drop(ended);
    let seen: Vec<[u64; 2]> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    for release in 0..2 {
        assert!(seen.iter().any(|seen| seen[release] > 0), "{seen:?}");
    }
    Arc::into_inner(server).unwrap().stop();
}

#[test]
fn switching_an_endpoint_under_load_drops_no_request_and_mixes_no_releases() {
    let project = accounts(PUSHED);
    release_with_views(&project, 1..=2);
    switch_under_load(&project, "line", |answer| {
        let (release, wanted) = match answer["model_version"].as_str().unwrap() {
            "r1" => (0, json!([11.0, 11.0, 11.0])),
            _ => (1, json!([22.0, 22.0, 22.0])),
        };
        assert_eq!(answer["outputs"][0]["data"], wanted);
        release
    });
}

/// Each answer comes from one release, even if the releases have different outputs.
#[test]
fn switching_an_endpoint_to_other_outputs_mixes_no_releases() {
    switch_under_load(&line_and_classes(), "any", |answer| {
        let outputs = answer["outputs"].as_array().unwrap().iter();
        let texts = outputs.map(|output| format!("{} {}", output["name"], output["datatype"]));
        let texts: Vec<String> = texts.collect();
        let (release, wanted) = match answer["model_version"].as_str().unwrap() {
            "r1" => (0, &[r#""prediction" "FP64""#][..]),
            _ => (
                1,
                &[r#""prediction" "INT64""#, r#""probabilities" "FP64""#][..],
            ),
        };
        assert_eq!(texts, wanted, "{answer}");
        release
    });
}
