//! Rows of one entity and event time, of which the one that came in last counts: in files, in
//! pushes and in heals, in lookups and in windows, online and offline.

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger, lines, push, sums};
use crate::harness::pass::{Pass, case, pass};
use crate::harness::{Project, rows_of};

const TIME: &str = "2020-01-01T00:00:00Z";
const LATER: &str = "2020-01-01T00:10:00Z";

/// An event of the key `a` at the one time of these tests.
fn tied(small: i64) -> Json {
    entry("a", TIME, small, 1.0, &format!("t{small}"))
}

/// Checks which of the events of the key `a` are the first and the last, and which three texts are
/// at the ends, online and in a training set.
fn check(what: &str, project: &Project, first: i64, last: i64, texts: [&str; 2]) {
    let list = |text: &str| -> Json { text.split(' ').collect() };
    let wanted = [
        ("last_small", json!(last)),
        ("sums_small_first_lifetime", json!(first)),
        ("sums_small_last_lifetime", json!(last)),
        ("sums_small_first_20m", json!(first)),
        ("sums_small_last_20m", json!(last)),
        ("sums_small_last_2h", json!(last)),
        ("sums_label_text_first_3_2h", list(texts[0])),
        ("sums_label_text_first_3_lifetime", list(texts[0])),
        ("sums_label_text_last_3_2h", list(texts[1])),
        ("sums_label_text_last_3_lifetime", list(texts[1])),
    ];
    let online = sums(project, "a", LATER);
    project.write(
        "labels.csv",
        format!("key_a,key_b,event_timestamp\na,1,{LATER}\n"),
    );
    project.training_set("account", "labels.csv", "out.parquet");
    let offline = &rows_of(&project.path().join("out.parquet"))[0];
    for (feature, wanted) in wanted {
        assert_eq!(
            online[feature], wanted,
            "{what}: online {feature}: {online}"
        );
        assert_eq!(
            offline[feature], wanted,
            "{what}: offline {feature}: {offline}"
        );
    }
}

#[test]
fn last_row_of_a_file_counts_whatever_other_rows_there_are() {
    for name in ["a", "b", "c"] {
        let project = pass("id:utf8, at:timestamp, v:int64?", "in.csv");
        project.write("in.csv", case(&format!("31-ties/{name}.csv")));
        project.ok(&["run", "g"]);
        let online = project.json(&["get", "v", "id=k"]);
        assert_eq!(online["features"]["g_v"], 3, "{name}");
        project.write("labels.csv", "id,event_timestamp\nk,2020-01-02T00:00:00Z\n");
        project.training_set("v", "labels.csv", "out.parquet");
        let offline = &rows_of(&project.path().join("out.parquet"))[0];
        assert_eq!(offline["g_v"], 3, "{name}");
    }
}

/// Three files of many rows of one time, in which the key `a` has a row in each. Files come in the
/// order of their names.
fn files(project: &Project) {
    std::fs::create_dir(project.path().join("in")).unwrap();
    for (number, name) in ["1", "10", "2"].into_iter().enumerate() {
        let filler = |n: i64| entry("filler", TIME, n, 1.0, "f");
        let mut rows: Vec<Json> = (0..300).map(filler).collect();
        let place = [299, 7, 150][number];
        let number = i64::try_from(number).unwrap();
        let own = [tied(2 * number + 1), tied(2 * number + 2)];
        drop(rows.splice(place..place, own));
        project.write(&format!("in/{name}.ndjson"), lines(&rows));
    }
}

fn project_of_files() -> Project {
    let project = ledger("");
    files(&project);
    project.replace("path = \"entries.ndjson\"", "path = \"in/*.ndjson\"");
    project.applied()
}

const IN_FILES: (i64, i64, [&str; 2]) = (1, 6, ["t1 t2 t3", "t6 t5 t4"]);

#[test]
fn files_come_in_the_order_of_their_names_and_rows_as_they_are_in_them() {
    let (first, last, texts) = IN_FILES;
    for (what, more) in [
        ("one process", &[][..]),
        (
            "divided",
            &["--processes", "3", "--partition-size", "20KiB"],
        ),
    ] {
        let project = project_of_files();
        for pipeline in ["sums", "last_entry"] {
            // The rows are created before the events that are pushed below.
            let clock = ["--clock", "2020-01-01T00:02:00Z,0"];
            project.ok(&[&["run", pipeline], &clock[..], more].concat());
        }
        check(what, &project, first, last, texts);
        // As of today the rows have expired, and stores need not keep those.
        let clock = ["--clock", "2020-01-01T00:03:00Z,0"];
        for group in ["sums", "last_entry"] {
            project.ok(&[&["materialize", group][..], &clock].concat());
        }
        check("materialized", &project, first, last, texts);
        project.ok(&["compact", "--horizon", "0s"]);
        check("compacted", &project, first, last, texts);
        // Events that are pushed afterwards come after the rows of files.
        let pushed = push(&project, &[tied(8), tied(7)], "2020-01-01T00:05:00Z");
        assert_eq!(pushed["accepted"], 2, "{pushed}");
        check("pushed", &project, first, 7, [texts[0], "t7 t8 t6"]);
    }
}

#[test]
fn a_backfill_keeps_the_order_of_files() {
    let (first, last, texts) = IN_FILES;
    let project = project_of_files();
    for pipeline in ["sums", "last_entry"] {
        let span = ["--from", "2019-12-30", "--to", "2020-01-03"];
        let interval = ["--interval", "12h"];
        let clock = ["--clock", "2020-01-03T00:00:00Z,0"];
        project.ok(&[&["backfill", pipeline], &span[..], &interval, &clock].concat());
    }
    check("backfilled", &project, first, last, texts);
}

#[test]
fn events_count_in_the_order_of_their_pushes() {
    let project = ledger("").applied_with("entries.ndjson", "");
    // The clock stands still, so that all events have one creation time, and each push is another
    // process. The numbers of one push do not rise, and neither do their hashes.
    let now = "2020-01-01T00:05:00Z";
    push(&project, &[tied(5), tied(9), tied(1)], now);
    check("one push", &project, 5, 1, ["t5 t9 t1", "t1 t9 t5"]);
    push(&project, &[tied(7)], now);
    push(&project, &[tied(2), tied(3)], now);
    let texts = ["t5 t9 t1", "t3 t2 t7"];
    check("three pushes", &project, 5, 3, texts);
    // An event that is pushed again does not come in again.
    let again = push(&project, &[tied(9)], now);
    assert_eq!(again["duplicate"], 1, "{again}");
    check("pushed again", &project, 5, 3, texts);
    for group in ["sums", "last_entry"] {
        project.ok(&["materialize", group, "--clock", &format!("{now},0")]);
    }
    check("materialized", &project, 5, 3, texts);
    project.ok(&["compact", "--horizon", "0s"]);
    check("compacted", &project, 5, 3, texts);

    // A new version is filled from the archive in the same order.
    project.replace("[groups.sums]\n", "[groups.sums]\nversion = 2\n");
    project.replace(
        r#"windows = ["20m", "2h", "1d", "lifetime"] },"#,
        r#"windows = ["20m", "2h", "1d", "3d", "lifetime"] },"#,
    );
    project.ok(&["apply"]);
    let report = project.json(&[
        "backfill",
        "sums",
        "--from",
        "2019-12-31",
        "--to",
        "2020-01-02",
        "--clock",
        "2020-01-03T00:00:00Z,0",
    ]);
    assert_eq!(report["became_live"], true, "{report}");
    check("from the archive", &project, 5, 3, texts);
}

#[test]
fn healed_events_come_after_those_that_were_in_time_and_keep_their_order() {
    let project = ledger("lateness = \"1h\"").applied_with("entries.ndjson", "");
    push(&project, &[tied(4)], "2020-01-01T00:05:00Z");
    let too_late = "2020-01-01T02:00:00Z";
    let pushed = push(&project, &[tied(9), tied(1)], too_late);
    assert_eq!(pushed["too_late"], 2, "{pushed}");
    push(&project, &[tied(6)], too_late);
    for group in ["sums", "last_entry"] {
        let healed = project.json(&["heal", group, "--clock", &format!("{too_late},0")]);
        assert_eq!(healed["healed"], 3, "{group}: {healed}");
    }
    let at = "2020-01-01T02:00:00Z";
    let online = sums(&project, "a", at);
    project.write(
        "labels.csv",
        format!("key_a,key_b,event_timestamp\na,1,{at}\n"),
    );
    project.training_set("account", "labels.csv", "out.parquet");
    let offline = &rows_of(&project.path().join("out.parquet"))[0];
    for (feature, wanted) in [
        ("last_small", json!(6)),
        ("sums_small_first_lifetime", json!(4)),
        ("sums_small_last_lifetime", json!(6)),
        ("sums_label_text_last_3_lifetime", json!(["t6", "t1", "t9"])),
    ] {
        assert_eq!(online[feature], wanted, "online {feature}: {online}");
        assert_eq!(offline[feature], wanted, "offline {feature}: {offline}");
    }
}

#[test]
fn ties_are_decided_alike_after_rows_were_deleted_and_files_were_merged() {
    let project = project_of_files();
    for pipeline in ["sums", "last_entry"] {
        let divided = ["--processes", "3", "--partition-size", "20KiB"];
        let clock = ["--clock", "2020-01-01T00:02:00Z,0"];
        project.ok(&[&["run", pipeline][..], &divided, &clock].concat());
    }
    // Rows of the entity that is deleted are around those of the other one.
    let filler = |n: i64| entry("filler", TIME, n, 1.0, "f");
    let events = [filler(901), tied(8), filler(902), tied(7), filler(903)];
    push(&project, &events, "2020-01-01T00:05:00Z");
    let (first, last, texts) = (1, 7, ["t1 t2 t3", "t7 t8 t6"]);
    check("as they came in", &project, first, last, texts);
    let clock = ["--clock", "2020-01-01T00:06:00Z,0"];
    let filler = ["delete", "account", "key_a=filler", "key_b=1"];
    project.ok(&[&filler[..], &clock].concat());
    check("deleted", &project, first, last, texts);
    project.ok(&["compact", "--horizon", "0s"]);
    check("compacted", &project, first, last, texts);
    for group in ["sums", "last_entry"] {
        project.ok(&[&["materialize", group][..], &clock].concat());
    }
    check("materialized", &project, first, last, texts);
}

/// Adds a group that a chained pipeline fills from the group `g` of a project with the function
/// `pass`. Its key is the column `v`, and it has the key of the other group as its column.
fn chain(project: &Project) {
    let toml = std::fs::read_to_string(project.path().join("wafer.toml")).unwrap();
    let chained = r#"
[entities.value]
keys = { v = "int64" }

[sources.chained]
type = "table"
group = "g"

[functions.pairs]
component = "COMPONENT"
parameters = { columns = "v:int64, at:timestamp, id:utf8?" }

[groups.h]
entity = "value"
event_time = "at"

[pipelines.h]
source = "chained"
function = "pairs"
group = "h"

[views.w]
lookups = [{ group = "h", as = "h" }]
"#;
    let component = toml
        .lines()
        .find_map(|line| line.strip_prefix("component = "))
        .unwrap();
    let chained = chained.replace("\"COMPONENT\"", component);
    project.write("wafer.toml", toml + &chained);
    project.ok(&["apply"]);
}

/// Returns which row of the chained group counts.
fn last_of_chain(project: &Project) -> Json {
    project.json(&["get", "w", "v=1"])["features"]["h_id"].clone()
}

#[test]
fn a_chained_pipeline_keeps_the_order_of_the_group_that_it_reads() {
    let project = pass("id:utf8, at:timestamp, v:int64", "in.csv");
    // The key of the second group is the same for all rows.
    chain(&project);
    let row = |id: &str| format!("{id},2020-01-01T00:00:00Z,1\n");
    let rows = ["z", "m", "q", "b"].map(row).concat();
    project.write("in.csv", format!("id,at,v\n{rows}"));
    project.ok(&["run", "g"]);
    project.ok(&["run", "h"]);
    assert_eq!(last_of_chain(&project), "b");
}

#[test]
fn a_chained_pipeline_keeps_the_order_after_rows_were_deleted_and_files_were_merged() {
    let project = Pass {
        columns: "id:utf8, at:timestamp, v:int64",
        source: "type = \"stream\"",
        group: "",
        pipeline: "",
    };
    let project = project.project().applied();
    chain(&project);
    for id in ["z", "m", "q", "b"] {
        let event = json!({"id": id, "at": TIME, "v": 1});
        let file = project.write("push.ndjson", lines(&[event]));
        project.ok(&["push", "s", file.to_str().unwrap()]);
        // Each event gets into the table before the next one, and so into a file of its own.
        project.ok(&["heal", "g"]);
    }
    // The rows of the merged file are sorted by their keys, so that `z` is the last one of it.
    project.ok(&["compact", "--horizon", "0s"]);
    let tables = project.json(&["tables"]);
    let mut tables = tables.as_array().unwrap().iter();
    let table = tables.find(|table| table["table"] == "g_v1").unwrap();
    assert_eq!(table["files"], 1, "{table}");
    project.ok(&["run", "h"]);
    assert_eq!(last_of_chain(&project), "b");
    // Rows were removed, so that all others are read again.
    project.ok(&["delete", "e", "id=m"]);
    assert_eq!(project.json(&["run", "h"])["rows_read"], 3);
    assert_eq!(last_of_chain(&project), "b");
}
