//! Events that are pushed to a server.

use std::fs::File;
use std::io::Write as _;

use flate2::write::GzEncoder;
use serde_json::{Value as Json, json};
use wafer_core::{Clock as _, Duration, SystemClock};

use crate::harness::ledger::{event, ledger};
use crate::harness::pass::{Pass, case};
use crate::harness::{Project, are_embedded, misbehaving, text, wait_for};

const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/EWR","type":"report","data":{"origin":"EWR","time_hour":"2013-01-01T06:00:00Z","temp":50}}"#;

#[test]
fn pushed_events_are_readable_online_when_they_are_answered() {
    let project = Project::flights().applied();
    let server = project.serve(&["--clock", "2013-01-01T12:00:00Z,0"]);
    let request = json!([{
        "tailnum": "N1", "origin": "EWR", "dest": "LAX",
        "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
    }]);
    let weather = || {
        let row = server.features("arrival_delay", &request).remove(0);
        (
            row["features"]["weather_temperature_c"].clone(),
            row["status"]["weather_temperature_c"].clone(),
        )
    };
    let push = |hour: &str, temp: f64| {
        let event =
            json!({"origin": "EWR", "time_hour": format!("2013-01-01T{hour}:00Z"), "temp": temp});
        assert_eq!(server.events("weather_reports", &event.to_string()).0, 200);
    };
    assert_eq!(weather(), (json!(null), json!("not_found")));
    push("06:00", 50.0);
    assert_eq!(weather(), (json!(10.0), json!("present")));
    push("05:00", 14.0);
    assert_eq!(weather().0, 10.0, "an older report changes nothing online");
    push("07:00", 59.0);
    assert_eq!(weather().0, 15.0);
    // This event is early, but within the allowed five minutes, so that it is kept until it is due.
    push("12:03", 68.0);
    assert_eq!(weather().0, 15.0);
    server.set_clock("2013-01-01T12:03:00Z");
    assert_eq!(weather().0, 20.0);
    // Six hours later the row has expired.
    server.set_clock("2013-01-01T18:03:00Z");
    assert_eq!(weather(), (json!(20.0), json!("present")));
    server.set_clock("2013-01-01T18:03:00.000001Z");
    assert_eq!(weather(), (json!(null), json!("expired")));
    server.stop();
    let rows = project.offline_rows("airport_weather_v1");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let (event, available) = (
            row["event_timestamp"].as_str().unwrap(),
            row["available_timestamp"].as_str().unwrap(),
        );
        assert_eq!(
            available,
            event.max("2013-01-01T12:00:00Z"),
            "the later of the fact and its arrival"
        );
        assert_eq!(row["created_timestamp"], "2013-01-01T12:00:00Z");
    }
}

#[test]
fn cloud_events_are_accepted_in_every_http_binding() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let path = "/v1/sources/weather_reports/events";
    let (status, answer) = server.post(path, "application/cloudevents+json", CLOUD_EVENT);
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let again = format!(
        "[{CLOUD_EVENT},{}]",
        CLOUD_EVENT
            .replace("\"1\"", "\"2\"")
            .replace("06:00", "07:00")
    );
    let (_, answer) = server.post(path, "application/cloudevents-batch+json", again);
    assert_eq!(
        (&answer["duplicate"], &answer["accepted"]),
        (&json!(1), &json!(1))
    );
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "\"2\""),
        ("ce-source", "/E%57R"),
        ("ce-type", "report"),
    ];
    let (_, answer) = server.post_with(
        path,
        &headers,
        "{\"origin\":\"EWR\",\"time_hour\":\"2013-01-01T09:00:00Z\"}",
    );
    assert_eq!(
        answer["events"],
        json!([{"status": "duplicate"}]),
        "the same event in another binding"
    );
    // Sources and ids that read alike when they are joined are those of different events.
    let collision = |source: &str, id: &str, hour: u32| {
        json!({
            "specversion": "1.0", "id": id, "source": source, "type": "report",
            "data": {"origin": "EWR", "time_hour": format!("2013-01-01T{hour}:00:00Z"), "temp": 50},
        })
    };
    let both = json!([collision("a b", "c", 10), collision("a", "b c", 11)]);
    let (_, answer) = server.post(path, "application/cloudevents-batch+json", both.to_string());
    assert_eq!(answer["accepted"], 2, "{answer}");
    server.stop();
    assert_eq!(project.offline("airport_weather_v1").len(), 4);
}

#[test]
fn incomplete_events_are_rejected_one_by_one() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let good = json!({"origin": "EWR", "time_hour": "2013-01-01T06:00:00Z", "temp": 39.02});
    let lines = [
        good.to_string(),
        json!({"time_hour": "2013-01-01T06:00:00Z"}).to_string(),
        json!({"origin": null, "time_hour": "2013-01-01T06:00:00Z"}).to_string(),
        json!({"origin": "EWR", "time_hour": "2013-01-01T07:00:00Z", "temp": "warm"}).to_string(),
        "not json".to_owned(),
        json!({"origin": "EWR", "time_hour": "2999-01-01T07:00:00Z"}).to_string(),
        json!({"origin": "x".repeat(1_000), "time_hour": "2013-01-01T06:00:00Z"}).to_string(),
        json!({"origin": "EWR", "time_hour": i64::MIN}).to_string(),
    ];
    let (status, answer) = server.events("weather_reports", &lines.join("\n"));
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected"]),
        (422, &json!(1), &json!(7))
    );
    for (event, wanted) in answer["events"].as_array().unwrap().iter().zip([
        "",
        "field `origin`: is missing",
        "field `origin`: is null",
        "field `temp`: \"warm\" is not float64",
        "is not JSON",
        "is in the future",
        "entity key of 1002 bytes; at most 440 fit",
        "field `time_hour`: -9223372036854775808 is a number, and nothing says in which unit it counts",
    ]) {
        let error = event["error"].as_str().unwrap_or_default();
        assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
    }
    // Errors of events from a file name the line.
    let file = project.write("events.ndjson", lines.join("\n"));
    let output = project
        .command(&["push", "weather_reports", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(
        said.contains("events.ndjson:2: field `origin`: is missing")
            && said.contains("1 already known, 7 rejected"),
        "{said}"
    );
    // A file of another format has no events, and is refused as a whole.
    let said = project.fails(&["push", "weather_reports", &project.at("events.csv")]);
    assert!(
        said.contains("is Csv, and events are JSON objects"),
        "{said}"
    );
}

/// A project whose events are kept as they come.
fn things() -> Project {
    let project = misbehaving::project("well", "");
    let path = project.path().join("wafer.toml");
    let mut toml = std::fs::read_to_string(&path).unwrap();
    toml += "[views.kept]\nlookups = [{ group = \"thing\" }]\n";
    std::fs::write(path, toml).unwrap();
    project.applied()
}

#[test]
fn reading_at_a_later_time_changes_nothing_for_others() {
    let project = things();
    project.write(
        "events.ndjson",
        r#"{"id": 1, "at": "2013-01-01T12:03:00Z", "x": 1.5}"#,
    );
    let events = project.at("events.ndjson");
    let pushed = project.json(&[
        "push",
        "things",
        &events,
        "--clock",
        "2013-01-01T12:00:00Z,0",
    ]);
    assert_eq!(pushed["early"], 1);
    let get = |time: &str| {
        let clock = format!("2013-01-01T{time}Z,0");
        let vector = project.json(&["get", "kept", "id=1", "--clock", &clock]);
        vector["status"]["thing_y"].clone()
    };
    for (time, wanted) in [
        ("12:00:00", "not_found"),
        ("12:03:00", "present"),
        ("12:02:59", "not_found"),
        ("18:00:00", "present"),
        ("12:00:00", "not_found"),
    ] {
        assert_eq!(get(time), wanted, "{time}");
    }
}

#[test]
fn a_server_with_a_clock_in_the_future_changes_nothing_for_others() {
    let project = things();
    let now = SystemClock::new().now();
    let later = |minutes: i64| now.plus(Duration::from_mins(minutes)).to_string();
    project.write(
        "events.ndjson",
        json!({"id": 1, "at": later(4), "x": 1.5}).to_string(),
    );
    let pushed = project.json(&["push", "things", &project.at("events.ndjson")]);
    assert_eq!(pushed["early"], 1);
    let server = project.serve(&["--clock", &format!("{},0", later(3))]);
    let status = || {
        let row = server.features("kept", &json!([{ "id": 1 }])).remove(0);
        row["status"]["thing_y"].clone()
    };
    assert_eq!(status(), "not_found");
    server.set_clock(&later(60));
    assert_eq!(status(), "present");
    // Its background work has had the time to apply what is due.
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.stop();
    let vector = project.json(&["get", "kept", "id=1"]);
    assert_eq!(vector["status"]["thing_y"], "not_found");
}

#[test]
fn metrics_have_the_age_of_an_outbox_that_cannot_be_flushed() {
    // On AWS it goes by the machine's clock.
    if !are_embedded() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let log = ".wafer/offline/last_entry_v1/_delta_log/00000000000000000000.json";
    let whole = std::fs::read(project.path().join(log)).unwrap();
    project.write(log, "x");
    let server = project.serve(&["--clock", "2020-01-02T00:00:00Z,0"]);
    let age = || {
        let metrics = server.metrics();
        let mut lines = metrics.lines();
        let age = lines.find_map(|line| line.strip_prefix("wafer_outbox_age_seconds "));
        age.unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    assert_eq!(age(), "0");
    assert_eq!(server.events("entries", &event("a", 1)).0, 200);
    server.set_clock("2020-01-02T01:00:00Z");
    assert_eq!(age(), "3600");
    project.write(log, whole);
    wait_for("a flush", || age() == "0");
}

#[test]
fn files_that_are_pushed_are_decompressed_and_their_marks_skipped() {
    let bom = case("09-ndjson-shapes/bom.ndjson");
    let plain = bom.strip_prefix("\u{feff}".as_bytes()).unwrap().to_vec();
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&bom).unwrap();
    let zstd = zstd::stream::encode_all(&bom[..], 1).unwrap();
    let project = Pass {
        source: "type = \"stream\"",
        ..Pass::default()
    };
    let project = project.project().applied();
    let server = project.serve(&[]);
    let (status, answer) = server.post("/v1/sources/s/events", "application/x-ndjson", &bom);
    assert_eq!((status, &answer["accepted"]), (200, &json!(2)), "{answer}");
    // They are the same events, with or without the mark, however they come.
    for (name, content) in [
        ("plain.ndjson", plain),
        ("bom.ndjson", bom.clone()),
        ("bom.ndjson.gz", gzip.finish().unwrap()),
        ("bom.jsonl.zst", zstd),
    ] {
        project.write(name, content);
        for to in [&[][..], &["--server", &server.url]] {
            let file = project.at(name);
            let report = project.json(&[&["push", "s", &file], to].concat());
            assert_eq!(report["duplicate"], 2, "{name} {to:?}: {report}");
            assert_eq!(report["rejected"], 0, "{name} {to:?}: {report}");
        }
    }
    let mut piped = project.command(&["push", "s", "-", "--output", "json"]);
    let input = File::open(project.path().join("bom.ndjson")).unwrap();
    let piped = piped.stdin(input).output().unwrap();
    let report: Json = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(report["duplicate"], 2, "{report}");

    let body = "\u{feff}{\"rows\":[{\"id\":1}]}";
    let (status, answer) = server.post("/v1/views/v/features", "application/json", body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["rows"][0]["features"]["g_v"], 1.5);
}

#[test]
fn files_that_hold_no_lines_of_events_are_refused_by_what_they_are() {
    let project = Pass {
        source: "type = \"stream\"",
        ..Pass::default()
    };
    let project = project.project().applied();
    let event = "{\"id\":1,\"at\":\"2024-01-01T00:00:00Z\"}";
    let utf16: Vec<u8> = format!("\u{feff}{event}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let long = format!("{event}\n{}\n", "x".repeat(17 << 20));
    for (name, content, wanted) in [
        (
            "rows.csv.gz",
            b"id,at\n".to_vec(),
            "events are JSON objects",
        ),
        (
            "utf16.ndjson",
            utf16,
            "is UTF-16 by its byte-order mark; convert the file to UTF-8",
        ),
        (
            "events",
            zstd::stream::encode_all(event.as_bytes(), 1).unwrap(),
            "is compressed; give the file a name that says so (.gz, .zst)",
        ),
        (
            "long.ndjson",
            long.into_bytes(),
            "line 2: the line has more than 16 MiB",
        ),
    ] {
        project.write(name, content);
        let said = project.fails(&["push", "s", &project.at(name)]);
        assert!(said.contains(wanted), "{name}: {said}");
    }
}
