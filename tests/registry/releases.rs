//! Releases: what they bind, and which ones are refused.

use serde_json::json;

use crate::harness::accounts::{PUSHED, accounts, infer, push_and_release, request, route_and_log};
use crate::harness::ledger::{entry, lines};
use crate::harness::{are_embedded, text};

#[test]
fn releases_do_not_change_and_need_everything_that_they_bind() {
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
    let names: Vec<_> = project
        .json(&["release"])
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].clone())
        .collect();
    assert_eq!(names, ["r1", "r2"]);
    for (arguments, wanted) in [
        (
            &["release", "create", "r1", "--model", "line"][..],
            "there is a release `r1` already; releases do not change",
        ),
        (
            &["release", "create", "R 1", "--model", "line"],
            "`R 1` is not a name",
        ),
        (
            &["release", "create", "--model", "line@@"],
            "names no version of a model",
        ),
        (
            &["release", "show", "r11"],
            "there is no release `r11`; did you mean `r1`?",
        ),
        (
            &["endpoints", "set", "line", "r1=90", "r2=20"],
            "endpoint `line`: the weights add up to 110, not to 100",
        ),
        (
            &["endpoints", "set", "line", "r1=90", "r2"],
            "`r2` has no weight",
        ),
        (
            &["endpoints", "set", "line", "r9"],
            "there is no release `r9`",
        ),
        (
            &["endpoints", "set", "line", "r1", "--shadow", "r1"],
            "release `r1` is there twice",
        ),
        (
            &["endpoints", "set", "line", "r1", "--key", "key_c"],
            "reads no field `key_c` to route by; is `key_a` meant?",
        ),
        (
            &["endpoints", "set", "line", "r1", "--log", "200"],
            "`200` is not a percentage",
        ),
        (
            &["endpoints", "rollback", "line"],
            "there is no endpoint `line`",
        ),
        (
            &["endpoints", "remove", "line"],
            "there is no endpoint `line`",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{said}");
    }
    project.ok(&["endpoints", "set", "line", "r1"]);
    assert!(
        project
            .fails(&["endpoints", "rollback", "line"])
            .contains("there is nothing to go back to")
    );

    // A group that the view of the release reads gets another version.
    project.replace(
        "[groups.last_entry]\n",
        "[groups.last_entry]\nversion = 2\n",
    );
    let outdated = "release `r1` of endpoint `line` reads version 1 of group `last_entry`, which is no longer written";
    for arguments in [&["plan"][..], &["apply", "--now"], &["endpoints"]] {
        let said = text(&project.command(arguments).output().unwrap());
        assert!(said.contains(outdated), "{arguments:?}: {said}");
    }
    let said = project.fails(&["release", "create", "--model", "line@1"]);
    assert!(
        said.contains(
            "it reads version 1 of group `last_entry`, which is no longer written: version 2 is"
        ),
        "{said}"
    );
    project.ok(&["release", "create", "--model", "line@1", "--present-view"]);
    let routed = ["endpoints", "set", "line", "r3"];
    let said = text(&project.command(&routed).output().unwrap());
    assert!(!said.contains("no longer written"), "{said}");

    if are_embedded() {
        let version = project.json(&["models", "show", "line@1"]);
        let snapshot = version["function"]["registered"]["snapshot"]
            .as_str()
            .unwrap()
            .to_owned();
        let hex = snapshot.trim_start_matches("sha256:");
        let path = project
            .path()
            .join(format!(".wafer/artifacts/blobs/{}/{hex}", &hex[..2]));
        std::fs::remove_file(path).unwrap();
        let said = project.fails(&["release", "create", "--model", "line@1", "--present-view"]);
        assert!(
            said.contains("function `linear` (") && said.contains("is gone from"),
            "{said}"
        );
    }
}

/// A group that a release reads may get more columns.
#[test]
fn a_release_still_serves_when_its_group_gets_a_column() {
    let project = accounts(PUSHED);
    project.replace(
        "[groups.last_entry]\n",
        "[groups.last_entry]\nversion = 2\ncolumns = [\"small\", \"label_text\"]\n",
    );
    project.ok(&["apply", "--now"]);
    let model = json!({"intercept": 0, "coefficients": {"last_small": 1}}).to_string();
    project.push_model("line", "small.json", model);
    project.ok(&["release", "create", "--model", "line"]);
    route_and_log(&project, &["r1"]);
    let server = project.serve(&["--clock", "2020-02-01T00:00:00Z,0"]);
    let push = |small: i64, minute: u32| {
        let time = format!("2020-01-31T23:{minute:02}:00Z");
        let event = entry("k001", &time, small, 0.5, "x");
        assert_eq!(server.events("entries", &lines(&[event])).0, 200);
    };
    let predicted = || {
        let (status, answer) = infer(&server, "line", &request(&["k001"]));
        assert_eq!(status, 200, "{answer}");
        answer["outputs"][0]["data"][0].as_f64().unwrap()
    };
    push(5, 0);
    assert_eq!(predicted(), 5.0);
    project.replace(
        "columns = [\"small\", \"label_text\"]",
        "columns = [\"small\", \"label_text\", \"amount\"]",
    );
    project.ok(&["apply"]);
    let knows = || {
        let body = json!({"rows": [{"key_a": "k001", "key_b": 1}]}).to_string();
        let (_, answer) = server.post("/v1/views/account/features", "application/json", body);
        answer["rows"][0]["features"].get("last_amount").is_some()
    };
    assert!((0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        knows()
    }));
    push(6, 30);
    assert_eq!(predicted(), 6.0);
    server.stop();
    assert_eq!(project.json(&["skew", "line"])["mismatches"], 0);
}
