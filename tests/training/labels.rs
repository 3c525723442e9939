//! Labels of a training set: which ones are accepted, and which are refused.

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::write_batch;

#[test]
fn errors_of_labels_that_do_not_fit_say_why() {
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
            "labels.csv:2: field `event_timestamp`: `2020-01-01 00:00` names no time zone",
        ),
        (
            "key_a,key_b,event_timestamp\na,one,2020-01-01T00:00:00Z\n",
            "labels.csv:2: field `key_b`: `one` is not int64",
        ),
        (
            "key_a,key_b,event_timestamp\na,1,\n",
            "column `event_timestamp`, row 0: is null; every label has a time",
        ),
        (
            "key_a,key_b,event_timestamp,last_small\na,1,2020-01-01T00:00:00Z,1\n",
            "the labels have a column `last_small`, and so has view `account`",
        ),
        (
            "",
            "no column `key_a` (utf8), which the view reads; it has no columns: it is empty",
        ),
    ] {
        let said = said("labels.csv", content);
        assert!(said.contains(wanted), "{said}");
    }
    for (content, wanted) in [
        ("", "it has no columns: it is empty"),
        ("7\n", "labels.ndjson:1: is not a JSON object"),
        ("{\"key_a\":NaN}\n", "labels.ndjson:1: is not JSON"),
    ] {
        let said = said("labels.ndjson", content);
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

/// Times are accepted in every unit, if their zone is known. Numbers are not accepted as times.
#[test]
fn label_times_of_every_unit_are_instants_and_numbers_are_not() {
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
        write_batch(&path, &batch);
        let (labels, out) = (path.display().to_string(), project.at("out.ndjson"));
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
            if name != "ms" {
                let said = project.fails(&arguments);
                assert!(said.contains("its times name no time zone"), "{said}");
            }
            let in_utc = [&arguments[..], &["--zone", "UTC"]].concat();
            project.ok(&in_utc);
            let rows = std::fs::read_to_string(&out).unwrap();
            assert!(rows.contains("\"last_small\":7"), "{name}: {rows}");
        }
    }
}
