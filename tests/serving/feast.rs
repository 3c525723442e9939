//! Writes by Feast's protocol, which its own client does not send.

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger};
use crate::harness::{Server, guest};

const EARLY: &str = "2020-01-01T00:00:00Z";
const LATE: &str = "2020-01-02T00:00:00Z";

/// Sends a data frame as rows of a group and as events of its source, with each key once.
fn sent(server: &Server, times: &Json) -> [(u16, Json); 2] {
    let mut frame = times.clone();
    frame["key_b"] = json!([1, 2]);
    frame["small"] = json!([1, 2]);
    let mut write = frame.clone();
    write["key_a"] = json!(["written", "written"]);
    let mut push = frame;
    push["key_a"] = json!(["pushed", "pushed"]);
    [
        (
            "/write-to-online-store",
            json!({"feature_view_name": "last_entry", "df": write}),
        ),
        ("/push", json!({"push_source_name": "entries", "df": push})),
    ]
    .map(|(path, body)| server.post(path, "application/json", body.to_string()))
}

#[test]
fn a_data_frame_with_two_different_event_times_is_refused_as_a_whole() {
    let project = ledger("").applied();
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let different = json!({"event_timestamp": [EARLY, EARLY], "happened_at": [EARLY, LATE]});
    for (status, answer) in sent(&server, &different) {
        assert_eq!(status, 400, "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        for wanted in [
            "row 1: `event_timestamp` is \"2020-01-01T00:00:00Z\"",
            "`happened_at` is \"2020-01-02T00:00:00Z\"",
            "send one of the two columns",
        ] {
            assert!(said.contains(wanted), "{said}");
        }
    }
    let keys = json!([{"key_a": "written", "key_b": 1}, {"key_a": "pushed", "key_b": 1}]);
    let times = || {
        let rows = server.features("account", &keys);
        let time = |row: &Json| row["event_timestamp"]["last"].clone();
        json!(rows.iter().map(time).collect::<Vec<Json>>())
    };
    assert_eq!(times(), json!([null, null]));
    // As Feast's client writes times.
    let equal = json!({
        "event_timestamp": ["2020-01-01 00:00:00", "2020-01-02"],
        "happened_at": [EARLY, LATE]
    });
    for times in [equal, json!({"happened_at": [EARLY, LATE]})] {
        for (status, answer) in sent(&server, &times) {
            assert_eq!(status, 200, "{answer}");
        }
    }
    assert_eq!(times(), json!([EARLY, EARLY]));
}

#[test]
fn rows_that_were_sent_before_are_answered_as_duplicates() {
    let project = ledger("").applied();
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    for (path, name, target) in [
        ("/write-to-online-store", "feature_view_name", "last_entry"),
        ("/push", "push_source_name", "entries"),
    ] {
        let send = |df: &Json| {
            let body = json!({ name: target, "df": df }).to_string();
            server.post(path, "application/json", body)
        };
        let frame = |values: Json, time: &str| {
            let count = values.as_array().unwrap().len();
            json!({
                "key_a": vec![path; count],
                "key_b": vec![1; count],
                "happened_at": vec![time; count],
                "small": values,
            })
        };
        let stored = || {
            let rows = server.features("account", &json!([{"key_a": path, "key_b": 1}]));
            rows[0]["features"]["last_small"].clone()
        };
        for (values, answer, value) in [
            (json!([1]), json!(null), 1),
            (json!([2]), json!(null), 2),
            // A row that is corrected back reads like the repetition of a request.
            (json!([1]), json!({"duplicate": 1}), 2),
            (json!([1, 3, 2]), json!({"duplicate": 2}), 3),
            (json!([1, 3, 2]), json!({"duplicate": 3}), 3),
        ] {
            assert_eq!(send(&frame(values, EARLY)), (200, answer), "{path}");
            assert_eq!(stored(), value, "{path}");
        }
        let (status, answer) = send(&frame(json!([1, "x"]), EARLY));
        assert_eq!(status, 400, "{path}: {answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        let wanted = "1 of 2 rows were refused, the others are stored (duplicates among them: 1); \
                      row 1: ";
        assert!(said.starts_with(wanted), "{path}: {said}");
        // It is another row with another `created`, or with a later event time.
        let mut again = frame(json!([1]), EARLY);
        again["created"] = json!([LATE]);
        assert_eq!(send(&again), (200, Json::Null), "{path}");
        assert_eq!(stored(), 1, "{path}");
        assert_eq!(send(&frame(json!([2]), LATE)), (200, Json::Null), "{path}");
        assert_eq!(stored(), 2, "{path}");
    }
}

#[test]
fn an_entity_with_a_null_join_key_is_not_found_unless_a_function_needs_the_key() {
    let project = ledger(&format!(
        r#"
[functions.offset]
component = "{}"
parameters = {{ offset = "1" }}

[views.offsets]
lookups = [{{ group = "last_entry", as = "last" }}]
functions = ["offset"]
"#,
        guest("offset").display()
    ))
    .applied();
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let event = entry("a", EARLY, 7, 1.0, "x").to_string();
    assert_eq!(server.events("entries", &event).0, 200);
    let ask = |mut request: Json, keys: Json| {
        request["entities"] = keys;
        server.post(
            "/get-online-features",
            "application/json",
            request.to_string(),
        )
    };
    let keys = json!({"key_a": ["a", null, "a", null], "key_b": [1, 1, null, null]});
    for feature in [
        "last_entry:small",
        "account:last_small",
        "sums:count_lifetime",
    ] {
        let (status, answer) = ask(json!({ "features": [feature] }), keys.clone());
        assert_eq!(status, 200, "{feature}: {answer}");
        let [key_a, _, found] = answer["results"].as_array().unwrap().as_slice() else {
            panic!("{feature}: {answer}");
        };
        assert_eq!(key_a["values"], keys["key_a"], "{feature}");
        let value = if feature.starts_with("sums") { 1 } else { 7 };
        let wanted = json!([value, null, null, null]);
        assert_eq!(found["values"], wanted, "{feature}");
        let wanted = json!(["PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]);
        assert_eq!(found["statuses"], wanted, "{feature}");
    }
    // The function `offset` needs `key_a`, and not `key_b`.
    let service = json!({"feature_service": "offsets"});
    let (status, answer) = ask(service.clone(), keys);
    assert_eq!(status, 400, "{answer}");
    assert_eq!(
        answer["error"]["message"],
        "row 1: field `key_a` (utf8): is null, and a function needs it"
    );
    let (status, answer) = ask(service, json!({"key_a": ["a"], "key_b": [null]}));
    assert_eq!(status, 200, "{answer}");
}
