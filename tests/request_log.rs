//! What endpoints log, and what comes of comparing it with the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::harness::{Project, Server, are_embedded};
use crate::models::{PUSHED, accounts, infer, released, released_whole, request};
use crate::training::{entry, lines};

/// The tables that the endpoint `line` logs to.
fn log_tables(project: &Project) -> Vec<String> {
    let tables = project.json(&["tables"]);
    let tables = tables.as_array().unwrap().iter();
    let names = tables.filter_map(|table| table["table"].as_str());
    let names = names.filter(|name| name.starts_with("line_log_"));
    names.map(str::to_owned).collect()
}

/// The only one of them.
fn log_table(project: &Project) -> String {
    let mut tables = log_tables(project);
    assert_eq!(tables.len(), 1, "{tables:?}");
    tables.remove(0)
}

/// The rows of the log, in the order of requests and rows.
fn logged(project: &Project) -> Vec<Json> {
    let tables = log_tables(project);
    let rows = tables.iter().flat_map(|table| project.offline_rows(table));
    let mut rows: Vec<Json> = rows.collect();
    rows.sort_by_key(|row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let number = row["log_row"].as_i64();
        (
            text("event_timestamp"),
            text("log_request"),
            number,
            text("log_release"),
        )
    });
    rows
}

/// How many rows of the endpoint `line` had an outcome, by the server's own numbers.
fn counted(server: &Server, outcome: &str) -> u64 {
    let label = format!("wafer_log_rows_total{{endpoint=\"line\",outcome=\"{outcome}\"}} ");
    let metrics = server.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Waits until so many rows were logged.
fn wait(server: &Server, rows: u64) {
    for _ in 0..200 {
        if counted(server, "written") >= rows {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{}", server.metrics());
}

/// A server at a time that stands still, with an event of each of some accounts before it.
fn served(project: &Project) -> Server {
    let server = project.serve(&["--clock", "2020-02-01T00:00:00Z,0"]);
    let entries: Vec<Json> = (0..20)
        .map(|n| entry(&format!("k{n:03}"), "2020-01-31T23:30:00Z", n, 0.1, "y"))
        .collect();
    let (status, answer) = server.events("entries", &lines(&entries));
    assert_eq!(status, 200, "{answer}");
    server
}

#[test]
fn requests_and_shadows_are_logged_and_compared() {
    let project = accounts(PUSHED);
    released(&project, 3);
    project.ok(&[
        "endpoints",
        "set",
        "line",
        "r1=50",
        "r2=50",
        "--shadow",
        "r3",
        "--key",
        "key_a",
        "--log",
        "100",
    ]);
    let server = served(&project);
    let keys: Vec<String> = (0..12).map(|n| format!("k{n:03}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.push("unknown");
    let mut asked = request(&keys);
    asked["id"] = json!("one");
    let (status, answer) = infer(&server, "line", &asked);
    assert_eq!(status, 200, "{answer}");
    let answered: Vec<&str> = answer["parameters"]["versions"]
        .as_str()
        .unwrap()
        .split(',')
        .collect();
    wait(&server, 2 * 13);
    // Later, with other windows and another event.
    server.set_clock("2020-02-01T00:25:00Z");
    let more = entry("k001", "2020-02-01T00:10:00Z", 99, 1e300, "z");
    assert_eq!(server.events("entries", &lines(&[more])).0, 200);
    asked["id"] = json!("two");
    assert_eq!(infer(&server, "line", &asked).0, 200);
    // One release is asked by its name: no shadows.
    asked["id"] = json!("three");
    assert_eq!(infer(&server, "line/versions/r2", &asked).0, 200);
    wait(&server, 5 * 13);
    server.stop();

    let rows = logged(&project);
    assert_eq!(rows.len(), 5 * 13);
    let of = |request: &str, release: &str| -> Vec<&Json> {
        let rows = rows.iter();
        rows.filter(|row| row["log_request"] == request && row["log_release"] == release)
            .collect()
    };
    for (number, release) in answered.iter().enumerate() {
        let row = of("one", release);
        let row = row.iter().find(|row| row["log_row"] == number).unwrap();
        assert_eq!(row["key_a"], keys[number]);
        assert_eq!(row["log_shadow"], false);
        assert_eq!(row["event_timestamp"], "2020-02-01T00:00:00Z");
        assert_eq!(row["prediction"], release[1..].parse::<f64>().unwrap());
        if keys[number] == "unknown" {
            assert_eq!(
                (&row["last_small"], &row["sums_identity"]),
                (&Json::Null, &Json::Null)
            );
        } else {
            assert_eq!(row["last_small"], number);
            assert_eq!(row["last_event_timestamp"], "2020-01-31T23:30:00Z");
            assert!(row["sums_identity"].is_string(), "{row}");
        }
    }
    assert_eq!(of("one", "r3").len(), 13);
    assert!(
        of("two", "r3")
            .iter()
            .all(|row| row["log_shadow"] == true && row["prediction"] == 3.0)
    );
    assert_eq!((of("three", "r2").len(), of("three", "r3").len()), (13, 0));

    // Nothing else is known now than was then.
    let report = project.json(&["skew", "line"]);
    assert_eq!(
        (&report["rows"], &report["mismatches"]),
        (&json!(65), &json!(0)),
        "{report}"
    );
    for release in report["releases"].as_array().unwrap() {
        for value in release["values"].as_array().unwrap() {
            assert_eq!(
                (&value["mismatches"], &value["timing"]),
                (&json!(0), &json!(0)),
                "{value}"
            );
        }
    }
    let report = project.json(&["skew", "line", "--from", "2020-02-01T00:01:00Z"]);
    assert_eq!(report["rows"], 39);
    let said = project.fails(&["skew", "line", "--to", "2020-01-01"]);
    assert!(
        said.contains("endpoint `line` has logged nothing in that time"),
        "{said}"
    );
    assert!(
        project
            .fails(&["skew", "lien"])
            .contains("did you mean `line`?")
    );
    let said = project.ok(&["skew", "line"]);
    assert!(
        said.contains("65 rows: no value differs that was made of the same"),
        "{said}"
    );
}

/// What came of it later is joined to what was logged, by whatever reads the table.
#[test]
fn labels_are_joined_to_what_was_logged() {
    let project = accounts(PUSHED);
    released(&project, 2);
    project.ok(&[
        "endpoints",
        "set",
        "line",
        "r1=50",
        "r2=50",
        "--key",
        "key_a",
        "--log",
        "100",
    ]);
    let server = served(&project);
    let keys: Vec<String> = (0..12).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut asked = request(&keys);
    asked["id"] = json!("one");
    assert_eq!(infer(&server, "line", &asked).0, 200);
    server.stop();
    // The log is a file of labels as any other: what is asked of the same accounts at the
    // same times is what was served.
    let out = project.at("logged.parquet");
    let columns = "event_timestamp,key_a,key_b,log_request,log_row,log_release,prediction";
    project.ok(&[
        "export",
        &log_table(&project),
        "--out",
        &out,
        "--columns",
        columns,
    ]);
    project.training_set("account", &out, "joined.parquet");
    let served: BTreeMap<String, Json> = logged(&project)
        .into_iter()
        .map(|row| (row["key_a"].as_str().unwrap().to_owned(), row))
        .collect();
    let joined = crate::harness::rows_of(&project.path().join("joined.parquet"));
    assert_eq!(joined.len(), 12);
    for row in &joined {
        let served = &served[row["key_a"].as_str().unwrap()];
        for column in [
            "prediction",
            "log_release",
            "last_small",
            "sums_count_1d",
            "sums_small_mean_1d",
        ] {
            assert!(row.get(column).is_some(), "{column}: {row}");
            assert_eq!(row[column], served[column], "{column}");
        }
    }
}

#[test]
fn what_is_known_later_is_a_difference_in_timing_and_what_was_altered_a_mismatch() {
    let project = accounts(PUSHED);
    released(&project, 1);
    project.ok(&["endpoints", "set", "line", "r1", "--log", "100"]);
    let server = served(&project);
    assert_eq!(infer(&server, "line", &request(&["k001", "k002"])).0, 200);
    wait(&server, 2);
    server.stop();
    // History that nobody had told the server, of before the request.
    let history = entry("k001", "2020-01-31T23:50:00Z", 50, 7.0, "z");
    let file = project.write("history.ndjson", lines(&[history]));
    let clock = "2020-02-01T01:00:00Z,0";
    let file = file.display().to_string();
    project.ok(&["push", "entries", &file, "--backfill", "--clock", clock]);
    let report = project.json(&["skew", "line"]);
    assert_eq!(report["mismatches"], 0, "{report}");
    let release = &report["releases"][0];
    assert_eq!(release["other_identity"], json!({"last": 1, "sums": 1}));
    let values = release["values"].as_array().unwrap();
    let value = |name: &str| values.iter().find(|value| value["name"] == name).unwrap();
    let last = value("last_small");
    assert_eq!(
        (&last["mismatches"], &last["timing"]),
        (&json!(0), &json!(1))
    );
    let example = &last["examples"][0];
    assert_eq!(
        (&example["logged"], &example["offline"]),
        (&json!(1), &json!(50))
    );
    assert_eq!(value("sums_count_lifetime")["timing"], 1);
    assert_eq!(value("prediction")["timing"], 0);

    if !are_embedded() {
        return;
    }
    // A value that is not what was served: the other account's, in the log itself.
    let table = project
        .path()
        .join(".wafer/offline")
        .join(log_table(&project));
    alter(&table, "last_small");
    let output = project
        .command(&["skew", "line", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mismatches"], 1, "{report}");
    let values = report["releases"][0]["values"].as_array().unwrap();
    let value = values
        .iter()
        .find(|value| value["name"] == "last_small")
        .unwrap();
    assert_eq!(
        (&value["mismatches"], &value["timing"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(value["examples"][0]["is_mismatch"], true);
    assert_eq!(value["examples"][0]["offline"], 2);
}

/// Writes a table's only file again, with one added to a column of integers.
fn alter(table: &std::path::Path, column: &str) {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    let mut open = vec![table.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("_delta_log") {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                files.push(path);
            }
        }
    }
    let [file] = files.as_slice() else {
        panic!("{files:?}");
    };
    let before = std::fs::metadata(file).unwrap().len();
    let reader = std::fs::File::open(file).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(reader);
    let batches: Vec<_> = reader
        .unwrap()
        .build()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let schema = batches[0].schema();
    let out = std::fs::File::create(file).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(out, Arc::clone(&schema), None).unwrap();
    for batch in batches {
        let place = schema.index_of(column).unwrap();
        let mut columns = batch.columns().to_vec();
        let altered = columns[place].as_primitive::<Int64Type>();
        let altered: arrow_array::Int64Array = altered.iter().map(|v| Some(v? + 1)).collect();
        columns[place] = Arc::new(altered);
        let batch = arrow_array::RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
    // The table's log says how long it is.
    let after = std::fs::metadata(file).unwrap().len();
    for entry in std::fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let size = |bytes| format!("\"size\":{bytes},");
        std::fs::write(path, text.replace(&size(before), &size(after))).unwrap();
    }
}

#[test]
fn a_sampled_key_is_logged_completely() {
    let project = accounts(PUSHED);
    released(&project, 1);
    project.ok(&["endpoints", "set", "line", "r1", "--log", "40"]);
    let server = project.serve(&[]);
    let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for part in [&keys[..], &keys[..50], &keys[50..], &keys[..1]] {
        assert_eq!(infer(&server, "line", &request(part)).0, 200);
    }
    server.stop();
    let rows = logged(&project);
    let count = |key: &str| rows.iter().filter(|row| row["key_a"] == key).count();
    let counts: Vec<usize> = keys.iter().skip(1).map(|key| count(key)).collect();
    assert!(
        counts.iter().all(|count| [0, 2].contains(count)),
        "{counts:?}"
    );
    let sampled = counts.iter().filter(|count| **count > 0).count();
    assert!((20..=60).contains(&sampled), "{sampled}");
    assert!([0, 3].contains(&count("k000")));
    // None at all, when it is said so.
    project.ok(&["endpoints", "set", "line", "r1", "--log", "0"]);
    let server = project.serve(&[]);
    assert_eq!(infer(&server, "line", &request(&keys)).0, 200);
    server.stop();
    assert_eq!(logged(&project).len(), rows.len());
}

#[test]
fn a_deleted_entity_is_in_no_log() {
    let project = accounts(PUSHED);
    released(&project, 1);
    project.ok(&["endpoints", "set", "line", "r1", "--log", "100"]);
    let clock = "2020-02-01T00:00:00Z,0";
    let server = project.serve(&["--clock", clock]);
    let ask = |keys: &[&str]| assert_eq!(infer(&server, "line", &request(keys)).0, 200);
    ask(&["k001", "k002", "k001"]);
    wait(&server, 3);
    let delete = [
        "delete",
        "account",
        "key_a=k001",
        "key_b=1",
        "--clock",
        clock,
    ];
    let deletion = project.json(&delete);
    assert_eq!(deletion["rows"][log_table(&project)], 2, "{deletion}");
    // What was asked no later than that and is still on its way.
    ask(&["k001", "k003"]);
    wait(&server, 5);
    server.stop();
    let rows = logged(&project);
    let mut keys: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["key_a"].as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["k002", "k003"]);
}

#[test]
fn shadows_that_fail_fail_alone() {
    let project = accounts(PUSHED);
    released(&project, 1);
    // Has a function that the first release has not, and that ends for one account.
    released_whole(&project, 2..=2);
    let shadowed = [
        "endpoints",
        "set",
        "line",
        "r1",
        "--shadow",
        "r2",
        "--log",
        "100",
    ];
    project.ok(&shadowed);
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
fn shadows_need_a_log() {
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
    project.ok(&["endpoints", "set", "line", "r1", "--log", "100"]);
    assert!(
        project
            .fails(&["skew", "line"])
            .contains("has logged nothing")
    );
}
