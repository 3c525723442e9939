//! Runs of a pipeline over files, and the intervals that they cover.

use serde_json::json;

use crate::harness::Project;
use crate::harness::pass::{COLUMNS, Pass, pass};

#[test]
fn all_pipelines_run_on_the_flights_data() {
    let project = Project::flights().applied();
    let run = |pipeline| project.json(&["run", pipeline]);

    let record = run("plane_outcome");
    assert_eq!(record["rows_read"], 336_776);
    assert_eq!(record["rows_written"], 328_063, "every flight that arrived");
    assert_eq!(
        (&record["rows_rejected"], &record["state"]),
        (&json!(0), &json!("succeeded"))
    );
    assert_eq!(run("airport_weather")["rows_written"], 26_115);
    assert_eq!(run("airport")["rows_written"], 1_458);

    let at = "2013-07-01T13:00:00Z,0";
    let vector = project.json(&[
        "get",
        "arrival_delay",
        "--clock",
        at,
        "tailnum=N14228",
        "origin=JFK",
        "dest=LAX",
        "scheduled_departure=2013-07-01T13:00:00Z",
        "scheduled_arrival=2013-07-01T19:00:00Z",
    ]);
    assert_eq!(vector["features"]["local_hour"], 9);
    assert_eq!(vector["features"]["origin_name"], "John F Kennedy Intl");
    assert_eq!(vector["status"]["distance_km"], "present");
    // The newest row is of December, which is in the future in July: a batch run over all time does
    // not replay history.
    assert_eq!(vector["event_timestamp"]["origin"], "2013-01-01T00:00:00Z");
}

#[test]
fn a_run_writes_the_known_values_of_known_flights() {
    let project = Project::flights().applied();
    project.ok(&[
        "run",
        "plane_outcome",
        "--from",
        "2013-01-01",
        "--to",
        "2013-01-02",
    ]);
    let rows = project.offline_rows("plane_outcome_v1");
    // UA 1545 of 1 January, from Newark to Houston, left the gate at 5:17 Eastern and arrived at
    // the gate at 8:30 Central, 11 minutes late.
    let flight = rows.iter().find(|r| r["tailnum"] == "N14228").unwrap();
    assert_eq!(flight["event_timestamp"], "2013-01-01T14:30:00Z");
    assert_eq!(flight["departed_at"], "2013-01-01T10:17:00Z");
    assert_eq!(
        (&flight["arr_delay_minutes"], &flight["recovered_minutes"]),
        (&json!(11), &json!(-9))
    );
    assert_eq!(
        flight["available_timestamp"], flight["event_timestamp"],
        "the source has no delay"
    );
    assert!(
        rows.iter()
            .all(|r| r["event_timestamp"].as_str().unwrap() < "2013-01-02")
    );
}

#[test]
fn a_run_is_repeated_only_when_its_inputs_changed() {
    let project = Project::flights().applied();
    let first = project.json(&["run", "airport"]);
    let table = project.offline_rows("airport_v1");
    assert!(project.ok(&["run", "airport"]).contains("nothing to do"));
    assert_eq!(project.json(&["run", "airport"])["id"], first["id"]);
    assert_eq!(project.offline_rows("airport_v1").len(), table.len());
    assert_eq!(project.json(&["runs"]).as_array().unwrap().len(), 1);

    // Other inputs replace the rows of the interval.
    project.replace(
        "valid_from_seconds = 1356998400",
        "valid_from_seconds = 1356998401",
    );
    project.ok(&["apply"]);
    let second = project.json(&["run", "airport"]);
    assert_eq!(second["generation"], 2);
    let rows = project.offline_rows("airport_v1");
    assert_eq!(rows.len(), table.len());
    assert!(
        rows.iter()
            .all(|r| r["event_timestamp"] == "2013-01-01T00:00:01Z")
    );
    assert_eq!(
        project.json(&["runs", "airport"]).as_array().unwrap().len(),
        2
    );
}

/// What a source accepts, and how its files are read, decides what a run writes.
#[test]
fn a_run_is_repeated_when_the_format_or_the_skew_of_its_source_changed() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", "id,at,v\n1,2024-01-01T00:00:00Z,1.5\n");
    let generation = || project.json(&["run", "g"])["generation"].clone();
    assert_eq!((generation(), generation()), (json!(1), json!(1)));
    for (setting, wanted) in [("skew = \"1h\"", 2), ("skew = \"1h\"\nformat = \"csv\"", 3)] {
        project.replace(
            "path = \"in.csv\"\n",
            &format!("path = \"in.csv\"\n{setting}\n"),
        );
        project.ok(&["apply"]);
        assert_eq!(
            (generation(), generation()),
            (json!(wanted), json!(wanted)),
            "{setting}"
        );
        project.replace(&format!("{setting}\n"), "");
    }
}

/// What a group stores of the rows decides what a run writes, although the function is the same.
#[test]
fn a_run_is_repeated_when_the_columns_or_the_event_time_of_its_group_changed() {
    let project = Pass {
        columns: "id:int64, at:timestamp, later:timestamp?, v:float64?, w:float64?",
        group: "columns = [\"v\"]",
        ..Pass::default()
    };
    let rows = "id,at,later,v,w\n\
                1,2024-01-01T00:00:00Z,2024-01-02T00:00:00Z,1.5,2.5\n\
                2,2024-01-01T00:00:00Z,,3.5,4.5\n\
                3,2024-01-01T00:00:00Z,2024-01-03T00:00:00Z,5.5,\n";
    let project = project.project().applied_with("in.csv", rows);
    let generation = || project.json(&["run", "g"])["generation"].clone();
    assert_eq!((generation(), generation()), (json!(1), json!(1)));
    let changed = |from: &str, to: &str| {
        project.replace(from, to);
        project.ok(&["apply"]);
    };
    changed("columns = [\"v\"]", "columns = [\"v\", \"w\"]");
    assert_eq!((generation(), generation()), (json!(2), json!(2)));
    let mut values: Vec<_> = project
        .offline_rows("g_v1")
        .iter()
        .map(|row| json!([row["id"], row["v"], row["w"]]))
        .collect();
    values.sort_by_key(|row| row[0].as_i64());
    let wanted = [
        json!([1, 1.5, 2.5]),
        json!([2, 3.5, 4.5]),
        json!([3, 5.5, null]),
    ];
    assert_eq!(values, wanted);

    changed("event_time = \"at\"", "event_time = \"later\"");
    assert_eq!((generation(), generation()), (json!(3), json!(3)));
    let rows = project.offline_rows("g_v1");
    let times = rows.iter().map(|row| row["event_timestamp"].as_str());
    let mut times: Vec<&str> = times.map(Option::unwrap).collect();
    times.sort_unstable();
    assert_eq!(times, ["2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"]);
    // The other row has no time now, and is set aside.
    let rejected = project.offline_rows("g_v1_quarantine");
    assert_eq!(rejected.len(), 1);
    let reason = rejected[0]["reason"].as_str().unwrap();
    assert!(reason.contains("event time `later` is null"), "{reason}");
}

#[test]
fn intervals_of_runs_may_touch_but_not_overlap() {
    let project = Project::flights().applied();
    let run = |from, to| ["run", "airport_weather", "--from", from, "--to", to];
    project.ok(&run("2013-01-01", "2013-01-02"));
    project.ok(&run("2013-01-02", "2013-01-03"));
    let said = project.fails(&run("2013-01-02T12:00:00Z", "2013-01-04"));
    assert!(
        said.contains("overlaps") && said.contains("2013-01-02"),
        "{said}"
    );
    let whole = Project::flights().applied();
    whole.ok(&[
        "run",
        "airport_weather",
        "--from",
        "2013-01-01",
        "--to",
        "2013-01-03",
    ]);
    assert_eq!(
        project.offline("airport_weather_v1"),
        whole.offline("airport_weather_v1")
    );
}

/// A failed run leaves the rows of the earlier run in place. An overlapping interval must still be
/// refused then, because it would write these rows twice.
#[test]
fn a_failed_run_still_guards_the_interval_of_the_run_before() {
    let project = Project::flights();
    let good = "faa,name,lat,lon,alt,tz,dst\nJFK,Kennedy,40.6,-73.8,13,-5,A\n";
    project.write("airports.csv", good);
    project.replace("data/airports.parquet", "airports.csv");
    project.ok(&["apply"]);
    project.ok(&["run", "airport"]);
    project.write("airports.csv", "faa\nJFK\n");
    project.fails(&["run", "airport"]);
    project.write("airports.csv", good.replace("Kennedy", "John F. Kennedy"));
    let said = project.fails(&[
        "run",
        "airport",
        "--from",
        "2013-01-01",
        "--to",
        "2013-02-01",
    ]);
    assert!(said.contains("overlaps"), "{said}");
    let record = project.json(&["run", "airport"]);
    assert_eq!(
        (&record["generation"], &record["error"]),
        (&json!(3), &json!(null))
    );
    assert_eq!(project.offline("airport_v1").len(), 1);
}
