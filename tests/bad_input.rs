//! Bad input gets a clear error, and nothing is lost.

use serde_json::json;

use crate::harness::{Project, repository, text};

#[test]
fn a_project_file_s_mistakes_are_named() {
    let project = Project::flights();
    project.replace("ttl = \"30d\"", "tll = \"30d\"");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("wafer.toml:") && said.contains("unknown key `tll`; did you mean `ttl`?"),
        "{said}"
    );
    let nowhere = Project::new("");
    std::fs::remove_file(nowhere.path().join("wafer.toml")).unwrap();
    let said = nowhere.fails(&["plan"]);
    assert!(
        said.contains("cannot read") && said.contains("wafer new"),
        "{said}"
    );
}

#[test]
fn unknown_names_suggest_known_ones() {
    let project = Project::flights().applied();
    assert!(
        project
            .fails(&["run", "plane_outcom"])
            .contains("there is no pipeline `plane_outcom`; did you mean `plane_outcome`?")
    );
    assert!(
        project
            .fails(&["get", "arrival_dela"])
            .contains("did you mean `arrival_delay`?")
    );
    project.write("e.ndjson", "{}");
    let file = project.path().join("e.ndjson");
    let file = file.to_str().unwrap();
    assert!(
        project
            .fails(&["push", "weather_report", file])
            .contains("did you mean `weather_reports`?")
    );
    assert!(
        project
            .fails(&["push", "airports", file])
            .contains("reads files and takes no events")
    );
    let fresh = Project::flights();
    assert!(
        fresh
            .fails(&["run", "airport"])
            .contains("run `wafer apply`")
    );
}

#[test]
fn a_source_that_does_not_fit_its_function_is_named() {
    let project = Project::flights();
    project.write("w.csv", "origin,time_hours\nEWR,2013-01-01T00:00:00Z\n");
    project.replace("data/weather.parquet", "w.csv");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "airport_weather"]);
    assert!(said.contains("w.csv has no column `time_hour` (timestamp), which the function reads; did you mean `time_hours`?"), "{said}");
    // A Parquet file with a column of another type.
    let project = Project::flights();
    project.replace("data/weather.parquet", "data/flights.parquet");
    project.ok(&["apply"]);
    assert!(
        project
            .fails(&["run", "airport_weather"])
            .contains("has no column `temp`")
    );
    let airports = Project::flights();
    let path = airports.path().join("typed.parquet");
    write_parquet(&path);
    airports.replace("data/airports.parquet", "typed.parquet");
    airports.ok(&["apply"]);
    let said = airports.fails(&["run", "airport"]);
    assert!(
        said.contains("typed.parquet: column `lat` is Utf8, and the function reads float64"),
        "{said}"
    );
}

fn write_parquet(path: &std::path::Path) {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    let names = ["faa", "name", "lat", "lon", "alt", "tz", "dst"];
    let column = || Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    let batch = RecordBatch::try_from_iter(names.map(|name| (name, column()))).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn bad_rows_are_set_aside_with_file_and_line() {
    let header =
        "origin,time_hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib";
    let good = |origin: &str, hour: u32| {
        format!("{origin},2013-01-01T{hour:02}:00:00Z,39,26,59,270,10,,0,1012,10")
    };
    let rows = [
        header.to_owned(),
        good("EWR", 1),
        good("EWR", 2).replace(",39,", ",warm,"),
        "EWR,2013-01-01T03:00:00Z,39".to_owned(),
        good("EWR", 4).replace("2013-01-01T04:00:00Z", "yesterday"),
        good("LGA", 5).replace("2013-", "2999-"),
        good("JFK", 6),
    ];
    let project = Project::flights();
    project.write("w.csv", rows.join("\n"));
    project.replace("data/weather.parquet", "w.csv");
    project.ok(&["apply"]);
    let output = project
        .command(&["run", "airport_weather"])
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "w.csv:3: field `temp`: `warm` is not float64",
        "w.csv:4: has 3 fields, the header 11",
        "w.csv:5: field `time_hour`: `yesterday` is not a time",
        "w.csv:6: event time 2999-01-01T05:00:00Z is in the future",
        "2 written, 4 rejected",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    assert_eq!(
        project.json(&["runs"])[0]["rejects"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn a_damaged_file_fails_the_run_and_the_table_stays() {
    let project = Project::flights().applied();
    project.ok(&["run", "airport"]);
    let before = project.offline("airport_v1");
    let mut bytes =
        std::fs::read(repository().join("functions/flights/data/airports.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[100..middle].fill(0xAA);
    project.write("airports.parquet", &bytes);
    project.replace("data/airports.parquet", "airports.parquet");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "airport"]);
    assert!(said.contains("airports.parquet cannot be read"), "{said}");
    assert_eq!(project.offline("airport_v1"), before);
    project.write("airports.parquet", &bytes[..1_000]);
    assert!(
        project
            .fails(&["run", "airport"])
            .contains("airports.parquet cannot be read")
    );
    assert_eq!(project.offline("airport_v1"), before);
}

#[test]
fn requests_that_lack_something_are_refused_by_row_and_field() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let post =
        |body: String| server.post("/v1/views/arrival_delay/features", "application/json", body);
    let good = json!({
        "tailnum": "N1", "origin": "JFK", "dest": "LAX",
        "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
    });
    assert_eq!(post(json!({ "rows": [good] }).to_string()).0, 200);
    let with = |name: &str, value: serde_json::Value| {
        let mut row = good.clone();
        row[name] = value;
        json!({ "rows": [good, row] }).to_string()
    };
    let mut lacking = good.clone();
    let value = lacking
        .as_object_mut()
        .unwrap()
        .remove("scheduled_arrival")
        .unwrap();
    let mut misspelt = lacking.clone();
    misspelt["scheduled_arival"] = value;
    for (body, wanted) in [
        (
            json!({ "rows": [good, lacking] }).to_string(),
            "row 1: field `scheduled_arrival` (timestamp): is missing",
        ),
        (
            json!({ "rows": [misspelt] }).to_string(),
            "is `scheduled_arival` meant?",
        ),
        (
            with("scheduled_arrival", json!("soon")),
            "row 1: field `scheduled_arrival` (timestamp): \"soon\" is not timestamp",
        ),
        (
            with("scheduled_arrival", json!(null)),
            "is null, and a function needs it",
        ),
        (
            with("tailnum", json!(7)),
            "row 1: field `tailnum` (utf8): 7 is not utf8",
        ),
        (
            json!({ "rows": [1] }).to_string(),
            "row 0 is not a JSON object",
        ),
        (json!({ "row": [] }).to_string(), "unknown field `row`"),
        ("{".to_owned(), "the body is not {\"rows\":[…]}"),
        (
            json!({ "rows": vec![1; 10_001] }).to_string(),
            "a request has at most 10000",
        ),
    ] {
        let (status, answer) = post(body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(message.contains(wanted), "{message}\n  wanted: {wanted}");
    }
}

#[test]
fn events_that_lack_something_are_rejected_one_by_one() {
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
        "field `time_hour`: -9223372036854775808 is not timestamp",
    ]) {
        let error = event["error"].as_str().unwrap_or_default();
        assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
    }
    // From a file, with the line.
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
}

/// A disk of its own that is full soon. Needs the right to mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|m| m.status.success())
            .then(|| Self(folder))
    }

    /// What is used of it.
    fn used_kib(&self) -> u64 {
        let mut used = std::process::Command::new("df");
        let used = used.args(["--output=used", "-k"]).arg(self.0.path());
        let said = text(&used.output().unwrap());
        said.lines().last().unwrap().trim().parse().unwrap()
    }

    fn resize(&self, kib: u64) {
        let resized = std::process::Command::new("mount")
            .args(["-o", &format!("remount,size={kib}k")])
            .arg(self.0.path())
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_fails_the_run_and_the_table_stays_readable() {
    if !crate::harness::are_embedded() {
        return;
    }
    let Some(disk) = SmallDisk::mount("64m") else {
        println!("skipped: no right to mount a small disk");
        return;
    };
    let project = Project::flights();
    let store = disk.0.path().join("store");
    project.replace(
        "name = \"flights\"\n",
        &format!(
            "name = \"flights\"\n[store]\npath = \"{}\"\n",
            store.display()
        ),
    );
    project.ok(&["apply"]);
    project.ok(&["run", "airport"]);
    disk.resize(disk.used_kib() + 1_024);
    let output = project.command(&["run", "plane_outcome"]).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("No space left on device") || said.contains("disk is full"),
        "{said}"
    );
    // What was there can be read, and the run repeated once there is room.
    assert!(project.ok(&["runs"]).contains("failed"));
    disk.resize(64 << 10);
    assert_eq!(
        project.json(&["run", "plane_outcome"])["rows_written"],
        328_063
    );
}

/// The same without the right to mount: files that may not grow beyond 2 MiB.
#[test]
fn files_that_cannot_grow_fail_the_run_and_it_can_be_repeated() {
    if !crate::harness::are_embedded() {
        return;
    }
    let project = Project::flights().applied();
    project.ok(&["run", "airport"]);
    let run = format!(
        "trap '' XFSZ; ulimit -f 2048; exec {} -C {} run plane_outcome",
        crate::harness::BINARY,
        project.path().display()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &run])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output).contains("File too large"),
        "{}",
        text(&output)
    );
    assert!(project.offline("plane_outcome_v1").is_empty());
    assert_eq!(project.offline("airport_v1").len(), 1_458);
    assert_eq!(
        project.json(&["run", "plane_outcome"])["rows_written"],
        328_063
    );
}
