//! Training sets: they have what was known at each label, in the order of the labels, and can be
//! made again.

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger, lines, three_entries};
use crate::harness::{rows_of, write_parquet};

const LABELS: &str = "key_a,key_b,event_timestamp,label,note
a,1,2020-01-02T00:00:00Z,1,exactly then
a,1,2020-01-01T23:59:59.999999Z,2,just before
a,1,2020-01-02T00:00:00Z,1,exactly then
b,1,2020-01-01T11:59:59Z,3,before anything
,1,2020-01-05T00:00:00Z,4,no key
a,2,2020-01-05T00:00:00Z,5,unknown key
a,1,2020-01-12T00:00:00Z,6,last instant
a,1,2020-01-12T00:00:00.000001Z,7,expired
";

#[test]
fn a_training_set_has_what_was_known_in_the_order_of_the_labels() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.ok(&["run", "sums"]);
    project.write("labels.csv", LABELS);
    let set = project.training_set("account", "labels.csv", "out.parquet");
    assert_eq!(set["rows"], 8);
    let rows = rows_of(&project.path().join("out.parquet"));
    let column = |name: &str| -> Vec<Json> { rows.iter().map(|row| row[name].clone()).collect() };
    let none = Json::Null;
    let big = json!((1i64 << 53) + 1);
    assert_eq!(column("label"), [1, 2, 1, 3, 4, 5, 6, 7].map(|n| json!(n)));
    assert_eq!(column("note")[7], "expired");
    assert_eq!(
        column("last_small"),
        [
            big.clone(),
            json!(1),
            big.clone(),
            none.clone(),
            none.clone(),
            none.clone(),
            big,
            none.clone()
        ]
    );
    // The window of a day includes its end, and its start is rounded down to the hour.
    assert_eq!(
        column("sums_count_1d"),
        [
            json!(1),
            json!(1),
            json!(1),
            none.clone(),
            none.clone(),
            none.clone(),
            json!(0),
            json!(0)
        ]
    );
    assert_eq!(
        column("sums_count_lifetime"),
        [
            json!(2),
            json!(1),
            json!(2),
            none.clone(),
            none.clone(),
            none.clone(),
            json!(2),
            json!(2)
        ]
    );
    assert_eq!(
        column("sums_label_text_last_3_lifetime")[0],
        json!(["y", "x"])
    );
    assert_eq!(
        column("sums_small_sum_lifetime")[0],
        json!((1i64 << 53) + 2)
    );
}

#[test]
fn training_sets_of_every_format_have_the_same_rows() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.write("labels.csv", LABELS);
    let mut seen = Vec::new();
    let mut labels = "labels.csv";
    for out in ["one.parquet", "two.arrow", "three.csv", "four.parquet"] {
        project.training_set("account", labels, out);
        if out.ends_with(".parquet") {
            seen.push(rows_of(&project.path().join(out)));
        }
        // A training set without its features serves as labels again.
        let export = ["last_", "sums_"];
        labels = match out {
            "one.parquet" => {
                let kept = rows_of(&project.path().join(out)).into_iter().map(|row| {
                    let mut row = row.as_object().unwrap().clone();
                    row.retain(|name, _| !export.iter().any(|start| name.starts_with(start)));
                    Json::Object(row)
                });
                write_parquet(
                    &project.path().join("labels.parquet"),
                    &kept.collect::<Vec<_>>(),
                );
                "labels.parquet"
            }
            _ => labels,
        };
    }
    let values =
        |rows: &[Json]| -> Vec<Json> { rows.iter().map(|row| row["last_small"].clone()).collect() };
    assert_eq!(values(&seen[0]), values(&seen[1]));
    let csv = std::fs::read_to_string(project.path().join("three.csv")).unwrap();
    assert!(
        csv.starts_with("event_timestamp,key_a,key_b,label,note,last_small,"),
        "{csv}"
    );
    assert!(csv.contains("9007199254740993"), "{csv}");
}

#[test]
fn a_server_makes_training_sets() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.write("labels.csv", LABELS);
    project.training_set("account", "labels.csv", "local.arrows");
    let server = project.serve(&[]);
    let url = format!("{}/v1/views/account/training-set", server.url);
    let post = |accept: &str, body: &str| {
        let request = crate::harness::agent()
            .post(&url)
            .header("content-type", "text/csv");
        request.header("accept", accept).send(body).unwrap()
    };
    let mut answer = post("application/vnd.apache.arrow.stream", LABELS);
    assert_eq!(answer.status().as_u16(), 200);
    let id = answer.headers()["wafer-training-set"]
        .to_str()
        .unwrap()
        .to_owned();
    let bytes = answer.body_mut().read_to_vec().unwrap();
    assert_eq!(
        bytes,
        std::fs::read(project.path().join("local.arrows")).unwrap()
    );
    let listed = project.json(&["training-sets"]);
    assert_eq!(
        listed[0]["id"],
        id.as_str(),
        "the same labels and versions are the same set"
    );
    // The labels went through a temporary file, which no record names.
    assert_eq!(listed[0]["labels_name"], "request body (csv)");
    let temporary = std::env::temp_dir().display().to_string();
    for arguments in [&["training-sets"][..], &["training-sets", id.as_str()]] {
        let said = project.ok(arguments);
        assert!(said.contains("request body (csv)"), "{said}");
        let recorded = project.json(arguments).to_string();
        assert!(!(said + &recorded).contains(&temporary), "{recorded}");
    }
    for (accept, body, status, wanted) in [
        ("application/pdf", LABELS, 415, "rows are answered as"),
        ("text/csv", "key_a\na\n", 400, "has no column `key_b`"),
    ] {
        let mut answer = post(accept, body);
        assert_eq!(answer.status().as_u16(), status);
        let said = answer.body_mut().read_to_string().unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    let label = r#"{"key_a":"a","key_b":1,"event_timestamp":"2020-01-03T00:00:00Z"}"#;
    let mut answer = crate::harness::agent()
        .post(&url)
        .header("content-type", "application/x-ndjson")
        .header("accept", "application/x-ndjson")
        .send(label)
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let row: Json = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    // A value that a float could not hold.
    assert_eq!(row["last_small"], json!(9_007_199_254_740_993_u64));
    let id = answer.headers()["wafer-training-set"].to_str().unwrap();
    let set = project.json(&["training-sets", id]);
    assert_eq!(set["labels_name"], "request body (ndjson)");
    let again = ["training-set", "--recreate", id, "--out"];
    let out = project.at("again.ndjson");
    project.ok(&[&again[..], &[out.as_str()]].concat());
    server.stop();
}

#[test]
fn a_training_set_is_recreated_whatever_was_written_since() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.ok(&["run", "sums"]);
    project.write("labels.csv", LABELS);
    let set = project.json(&[
        "training-set",
        "account",
        "--labels",
        &project.at("labels.csv"),
        "--out",
        &project.at("first.parquet"),
        "--split",
        "train=0.5,test=0.5",
        "--seed",
        "7",
    ]);
    let id = set["id"].as_str().unwrap();
    // Rows are added, files are merged, old ones are removed, and so are the labels.
    let more = three_entries() + &lines(&[entry("a", "2020-01-01T06:00:00Z", 5, 9.0, "new")]);
    project.write("entries.ndjson", more);
    project.ok(&["run", "last_entry"]);
    project.ok(&["run", "sums"]);
    project.ok(&["compact", "--horizon", "0s"]);
    project.write("labels.csv", "other");
    project.ok(&[
        "training-set",
        "--recreate",
        id,
        "--out",
        &project.at("second.parquet"),
    ]);
    let read = |name: &str| std::fs::read(project.path().join(name)).unwrap();
    assert_eq!(read("first.parquet"), read("second.parquet"));
    let splits: Vec<Json> = rows_of(&project.path().join("second.parquet"))
        .into_iter()
        .map(|row| row["split"].clone())
        .collect();
    assert!(
        splits.contains(&json!("train")) && splits.contains(&json!("test")),
        "{splits:?}"
    );
    // Files that no training set pins are removed, and those of a deleted set are removed later.
    let listed = project.json(&["training-sets"]);
    assert_eq!(listed[0]["id"], id);
    project.ok(&["training-sets", "--delete", id]);
    project.ok(&["compact", "--horizon", "0s"]);
    let said = project.fails(&[
        "training-set",
        "--recreate",
        id,
        "--out",
        &project.at("third.parquet"),
    ]);
    assert!(said.contains("there is no training set"), "{said}");
}

#[test]
fn a_training_set_is_as_of_a_time() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.write("labels.csv", LABELS);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let then = chrono_now();
    std::thread::sleep(std::time::Duration::from_millis(20));
    project.write(
        "entries.ndjson",
        lines(&[entry("a", "2020-01-01T00:00:00Z", 99, 0.0, "")]),
    );
    project.ok(&["run", "last_entry"]);
    let first = |out: &str, as_of: &[&str]| {
        let (labels, out) = (project.at("labels.csv"), project.at(out));
        let mut arguments = vec![
            "training-set",
            "account",
            "--labels",
            &labels,
            "--out",
            &out,
        ];
        arguments.extend(as_of);
        project.ok(&arguments);
        rows_of(std::path::Path::new(&out))[1]["last_small"].clone()
    };
    assert_eq!(first("now.parquet", &[]), 99);
    assert_eq!(first("then.parquet", &["--as-of", &then]), 1);
    let said = project.fails(&[
        "training-set",
        "account",
        "--labels",
        &project.at("labels.csv"),
        "--out",
        &project.at("x.parquet"),
        "--as-of",
        "2001-01-01",
    ]);
    assert!(said.contains("was not there at 2001-01-01"), "{said}");
}

/// Returns the current time in the form of arguments.
fn chrono_now() -> String {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    wafer_core::Timestamp::from_micros(since.as_micros() as i64).to_string()
}

#[test]
fn a_training_set_names_a_damaged_file_of_a_table() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    if !crate::harness::are_embedded() {
        return;
    }
    project.ok(&["run", "last_entry"]);
    project.write("labels.csv", LABELS);
    let folder = project
        .path()
        .join(".wafer/offline/last_entry_v1/runs/all/1");
    let file = std::fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"not parquet"] {
        std::fs::write(&file, damaged).unwrap();
        let said = project.fails(&[
            "training-set",
            "account",
            "--labels",
            &project.at("labels.csv"),
            "--out",
            &project.at("x.parquet"),
        ]);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            said.contains(&name) && said.contains("damaged or gone"),
            "{said}"
        );
    }
    std::fs::write(&file, whole).unwrap();
    project.training_set("account", "labels.csv", "x.parquet");
}
