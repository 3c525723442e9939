//! Training sets: what was known when, in the labels' order, and again.

use serde_json::{Value as Json, json};

use crate::harness::{Project, guest, rows_of, write_parquet};

/// Events of two keys, summed up and as they are.
pub(crate) fn ledger(extra: &str) -> Project {
    Project::new(&format!(
        r#"
[project]
name = "ledger"

[entities.account]
keys = {{ key_a = "utf8", key_b = "int64" }}

[sources.entries]
type = "stream"
path = "entries.ndjson"
{extra}

[functions.ledger]
component = "{}"

[groups.last_entry]
entity = "account"
event_time = "happened_at"
ttl = "10d"

[groups.sums]
entity = "account"
event_time = "happened_at"
aggregates = [
  {{ function = "count", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["count", "sum", "mean", "min", "max", "first", "last", "stddev", "variance", "count_distinct", "approx_count_distinct"], column = "small", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["sum", "mean", "min", "max", "stddev"], column = "amount", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["sum"], column = "amount", windows = ["3h"], exact = true }},
  {{ function = ["first_k", "last_k", "top_k"], k = 3, column = "label_text", windows = ["2h", "lifetime"] }},
  {{ function = "approx_quantile", quantile = 0.5, column = "amount", windows = ["2h", "1d"] }},
]

[pipelines.last_entry]
source = "entries"
function = "ledger"
group = "last_entry"

[pipelines.sums]
source = "entries"
function = "ledger"
group = "sums"

[views.account]
lookups = [{{ group = "last_entry", as = "last" }}, {{ group = "sums" }}]
"#,
        guest("ledger").display()
    ))
}

/// An event as a line of JSON.
pub(crate) fn entry(key: &str, happened_at: &str, small: i64, amount: f64, text: &str) -> Json {
    json!({"key_a": key, "key_b": 1, "happened_at": happened_at, "small": small, "amount": amount, "wild": null, "label_text": text})
}

pub(crate) fn lines(entries: &[Json]) -> String {
    entries.iter().map(|e| format!("{e}\n")).collect()
}

fn three_entries() -> String {
    lines(&[
        entry("a", "2020-01-01T00:00:00Z", 1, 0.1, "x"),
        entry("a", "2020-01-02T00:00:00Z", (1 << 53) + 1, 0.2, "y"),
        entry("b", "2020-01-01T12:00:00Z", 7, 1.5, "z"),
    ])
}

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
fn labels_get_what_was_known_in_their_order() {
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
    // The day's window is right-closed, and its tail aligned to the hour.
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
fn formats_carry_the_same_rows() {
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
        // What came out are labels again, without the features.
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
fn a_server_makes_training_sets_too() {
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
    for (accept, body, status, wanted) in [
        (
            "application/pdf",
            LABELS,
            415,
            "labels and training sets are",
        ),
        ("text/csv", "key_a\na\n", 400, "has no column `key_b`"),
    ] {
        let mut answer = post(accept, body);
        assert_eq!(answer.status().as_u16(), status);
        let said = answer.body_mut().read_to_string().unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    server.stop();
}

#[test]
fn a_training_set_is_made_again_whatever_was_written_since() {
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
    // Other rows, other files, old ones removed, the labels gone.
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
    // What was not pinned is gone: once the set is deleted, its files go as well.
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

/// The present, as it is written in arguments.
fn chrono_now() -> String {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    wafer_core::Timestamp::from_micros(since.as_micros() as i64).to_string()
}

#[test]
fn labels_that_do_not_fit_are_named() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    let said = |name: &str, content: &str| {
        project.write(name, content);
        project.fails(&[
            "training-set",
            "account",
            "--labels",
            &project.at(name),
            "--out",
            &project.at("x.parquet"),
        ])
    };
    for (content, wanted) in [
        (
            "key_aa,key_b,event_timestamp\na,1,2020-01-01T00:00:00Z\n",
            "no column `key_a` (utf8), which the view reads; is `key_aa` meant?",
        ),
        (
            "key_a,key_b,time\na,1,2020-01-01T00:00:00Z\n",
            "no column `event_timestamp` (timestamp), the labels' time; another column is named with --time",
        ),
        (
            "key_a,key_b,event_timestamp\na,1,2020-01-01 00:00\n",
            "labels.csv:2: column `event_timestamp`: `2020-01-01 00:00` is not a time",
        ),
        (
            "key_a,key_b,event_timestamp\na,one,2020-01-01T00:00:00Z\n",
            "labels.csv:2: column `key_b`: `one` is not int64",
        ),
        (
            "key_a,key_b,event_timestamp\na,1,\n",
            "column `event_timestamp`, row 0: is null; every label has a time",
        ),
        (
            "key_a,key_b,event_timestamp,last_small\na,1,2020-01-01T00:00:00Z,1\n",
            "the labels have a column `last_small`, and so has view `account`",
        ),
    ] {
        let said = said("labels.csv", content);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(said("labels.txt", "").contains("cannot tell the format"));
    assert!(said("labels.parquet", "no").contains("labels.parquet cannot be read"));
    let missing = project.fails(&[
        "training-set",
        "account",
        "--labels",
        "nowhere.csv",
        "--out",
        &project.at("x.csv"),
    ]);
    assert!(missing.contains("nowhere.csv cannot be read"), "{missing}");
    let unknown = project.fails(&[
        "training-set",
        "acount",
        "--labels",
        "nowhere.csv",
        "--out",
        &project.at("x.csv"),
    ]);
    assert!(unknown.contains("did you mean `account`?"), "{unknown}");
    assert!(
        !project.path().join("x.parquet").exists(),
        "nothing is left behind"
    );
}

/// Times of other units are the same instants; numbers are not taken for times.
#[test]
fn times_of_every_unit_are_instants_and_numbers_are_not() {
    use arrow_array::{
        ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray,
    };
    use std::sync::Arc;
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    // 2020-01-01T12:00:00Z
    let seconds = 1_577_880_000i64;
    let times: [(&str, ArrayRef); 4] = [
        ("s", Arc::new(TimestampSecondArray::from(vec![seconds]))),
        (
            "ms",
            Arc::new(
                TimestampMillisecondArray::from(vec![seconds * 1_000])
                    .with_timezone("America/New_York"),
            ),
        ),
        (
            "ns",
            Arc::new(TimestampNanosecondArray::from(vec![
                seconds * 1_000_000_000,
            ])),
        ),
        ("number", Arc::new(Int64Array::from(vec![seconds]))),
    ];
    for (name, times) in times {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key_a", Arc::new(StringArray::from(vec!["b"]))),
            ("key_b", Arc::new(Int64Array::from(vec![1]))),
            ("event_timestamp", times),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let path = project.path().join(format!("{name}.parquet"));
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let (labels, out) = (path.display().to_string(), project.at("out.parquet"));
        let arguments = [
            "training-set",
            "account",
            "--labels",
            &labels,
            "--out",
            &out,
        ];
        if name == "number" {
            let said = project.fails(&arguments);
            assert!(said.contains("column `event_timestamp` is Int64, and the view needs timestamp: convert it before"), "{said}");
        } else {
            project.ok(&arguments);
            assert_eq!(
                rows_of(std::path::Path::new(&out))[0]["last_small"],
                7,
                "{name}"
            );
        }
    }
}

#[test]
fn a_damaged_file_of_a_table_is_named() {
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
