//! Pipelines without a function: columns of the source are those of the group.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde_json::{Value as Json, json};

use crate::harness::pass::case;
use crate::harness::{Project, text, write_batch};

/// Makes a project whose source and pipeline have these settings.
fn project(source: &str, pipeline: &str) -> Project {
    Project::new(&format!(
        r#"
[project]
name = "passed"

[entities.e]
keys = {{ id = "int64" }}

[sources.s]
{source}

[groups.g]
entity = "e"
event_time = "at"

[pipelines.g]
source = "s"
group = "g"
{pipeline}

[views.v]
lookups = [{{ group = "g" }}]
"#
    ))
}

/// The rows of the group, as id and two columns, in the order of the ids.
fn rows(project: &Project, columns: [&str; 2]) -> Vec<Json> {
    let mut rows = project.offline_rows("g_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    rows.iter()
        .map(|row| json!([row["id"], row[columns[0]], row[columns[1]]]))
        .collect()
}

const CSV: &str = "Customer Id,at,Price (EUR),note\n\
                   1,2024-01-01T00:00:00Z,1.5,a\n\
                   2,2024-01-01T00:00:00Z,,\n\
                   ,2024-01-01T00:00:00Z,2,x\n\
                   4,2024-01-01T00:00:00Z,dear,x\n";

#[test]
fn columns_of_csv_are_passed_on_under_new_names_and_types() {
    let source = r#"
type = "files"
path = "in.csv"
columns = { "Customer Id" = "int64", at = "timestamp", "Price (EUR)" = "float64?", note = "utf8?" }
"#;
    let columns = r#"
columns = { id = "Customer Id", at = "at", price = { from = "Price (EUR)", type = "float32?" }, note = "note" }
"#;
    let project = project(source, columns).applied_with("in.csv", CSV);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("in.csv:5: field `Price (EUR)`: `dear` is not float32"),
        "{said}"
    );
    assert_eq!(
        rows(&project, ["price", "note"]),
        [json!([1, 1.5, "a"]), json!([2, null, null])]
    );
    let features = project.json(&["get", "v", "id=1"]);
    assert_eq!(features["features"]["g_price"], 1.5);
    // Another column of the source under the same name is read again.
    project.write(
        "in.csv",
        CSV.replace("note", "note,other")
            .replace(",a\n", ",a,b\n")
            .replace("x\n", "x,y\n")
            .replace(",,\n", ",,,c\n"),
    );
    project.replace(
        "note = \"utf8?\" }",
        "note = \"utf8?\", other = \"utf8?\" }",
    );
    project.replace("note = \"note\"", "note = \"other\"");
    project.ok(&["apply"]);
    project.ok(&["run", "g"]);
    assert_eq!(
        rows(&project, ["price", "note"]),
        [json!([1, 1.5, "b"]), json!([2, null, "c"])]
    );
}

#[test]
fn all_columns_of_typed_files_are_passed_on_by_their_own_names() {
    let project = project("type = \"files\"\npath = \"*.parquet\"", "");
    let times = || {
        let times = TimestampMicrosecondArray::from(vec![1_704_067_200_000_000]);
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let write = |name: &str, columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        write_batch(&project.path().join(name), &batch);
    };
    let ids = |id: i64| Arc::new(Int64Array::from(vec![id])) as ArrayRef;
    write(
        "a.parquet",
        vec![
            ("id", ids(1)),
            ("at", times()),
            ("n", Arc::new(Int32Array::from(vec![7])) as ArrayRef),
        ],
    );
    write(
        "b.parquet",
        vec![
            ("id", ids(2)),
            ("at", times()),
            ("n", Arc::new(Int32Array::from(vec![8])) as ArrayRef),
            ("note", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ],
    );
    project.ok(&["apply"]);
    project.ok(&["run", "g"]);
    assert_eq!(
        rows(&project, ["n", "note"]),
        [json!([1, 7, null]), json!([2, 8, "x"])]
    );
}

#[test]
fn events_pass_their_fields_on() {
    let source = r#"
type = "stream"
columns = { key = "int64", at = "timestamp", v = "float64?" }
zone = "UTC"
"#;
    let columns = "columns = { id = \"key\", at = \"at\", v = \"v\" }";
    let project = project(source, columns).applied();
    project.write(
        "events.ndjson",
        "{\"key\":1,\"at\":\"2024-01-01 00:00:00\",\"v\":2.5}\n{\"at\":\"2024-01-01T00:00:00Z\"}\n",
    );
    let file = project.at("events.ndjson");
    let output = project.command(&["push", "s", &file]).output().unwrap();
    let said = text(&output);
    assert!(said.contains("field `key`: is missing"), "{said}");
    let features = project.json(&["get", "v", "id=1"]);
    assert_eq!(features["features"]["g_v"], 2.5);
}

#[test]
fn pipelines_whose_columns_are_not_known_say_what_to_declare() {
    let csv = "type = \"files\"\npath = \"in.csv\"";
    let typed = "type = \"files\"\npath = \"in.csv\"\ncolumns = { id = \"int64\", at = \"timestamp\", price = \"float64?\" }";
    for (source, pipeline, wanted) in [
        (csv, "", "whose columns have no types; declare them"),
        (
            "type = \"stream\"",
            "",
            "their types are not known; declare them in the source",
        ),
        (
            "type = \"stream\"",
            "columns = { id = { type = \"int64\" }, at = \"at\" }",
            "the type of column `at` of source `s` is not known; write { from = \"at\", type = \"timestamp\" }",
        ),
        (
            "type = \"stream\"",
            "columns = { id = \"id\", at = \"at\" }",
            "{ from = \"id\", type = \"int64\" }, or declare",
        ),
        (
            "type = \"stream\"",
            "columns = { id = { type = \"int64\" }, at = { type = \"timestamp\" }, p = \"p\" }",
            "{ from = \"p\", type = … } with its type, or declare",
        ),
        (
            typed,
            "columns = { id = \"id\", at = \"at\", p = \"pric\" }",
            "pipelines.g.columns.p: source `s` has no column `pric`; did you mean `price`?",
        ),
        (
            typed,
            "columns = { id = \"id\", at = \"at\", p = { from = \"price\", type = \"float\" } }",
            "pipelines.g.columns.p: `float` is not a type",
        ),
        (
            typed,
            "columns = { id = \"id\", at = \"at\", p = 1 }",
            "pipelines.g.columns.p: is the name of a column in the source, or a table",
        ),
        (
            typed,
            "columns = { id = \"id\", at = \"at\", \"p q\" = \"price\" }",
            "`p q` is not a column name",
        ),
        (
            typed,
            "columns = { at = \"at\", p = \"price\" }",
            "has no output `id`, the join key of entity `e`",
        ),
    ] {
        let project = project(source, pipeline);
        project.write("in.csv", "id,at,price\n1,2024-01-01T00:00:00Z,1\n");
        let said = project.fails(&["plan"]);
        assert!(said.contains(wanted), "{pipeline}: {said}");
    }
}

#[test]
fn names_with_commas_and_texts_with_line_breaks_are_read_from_quotes() {
    let source = r#"
type = "files"
path = "in.csv"
columns = { id = "int64", at = "timestamp", "note, long" = "utf8?", v = "float64?" }
"#;
    let columns = r#"columns = { id = "id", at = "at", note = "note, long", v = "v" }"#;
    let project = project(source, columns).applied();
    project.write("in.csv", case("08-csv-bom-quotes/in.csv"));
    project.ok(&["run", "g"]);
    let wanted = [
        json!([1, "two\r\nlines, \"quoted\"", 1.5]),
        // The empty text in quotes is no null, and the empty line is no row.
        json!([2, "", null]),
        json!([3, "x", 2.0]),
    ];
    assert_eq!(rows(&project, ["note", "v"]), wanted);
    let mut rows = project.offline_rows("g_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    for (row, line) in rows.iter().zip([":2", ":4", ":6"]) {
        let id = row["event_id"].as_str().unwrap();
        assert!(id.ends_with(line), "{row}");
    }
}
