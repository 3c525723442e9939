//! CSV files whose quotes are not closed, line ends of every kind, and lines before the header.

use serde_json::Value as Json;

use crate::harness::pass::{COLUMNS, Pass, case, pass};
use crate::harness::{Project, text};

const NOTES: &str = "id:int64, at:timestamp, note:utf8?";

/// The lines that the rows of a table came from, which their identities end with.
fn lines(project: &Project, table: &str) -> Vec<String> {
    let rows = project.offline_rows(table);
    let line = |row: &Json| {
        let id = row["event_id"].as_str().unwrap();
        id.rsplit_once(':').unwrap().1.to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_quote_that_is_not_closed_fails_the_run_at_its_line() {
    let good = "id,at,note\n1,2024-01-01T00:00:00Z,fine\n";
    let project = pass(NOTES, "in.csv");
    project.write("in.csv", good);
    project.ok(&["run", "g"]);
    let before = project.offline("g_v1");
    let rows = |rows: &str| format!("{good}{rows}").into_bytes();
    let swallowed: String = (5..500)
        .map(|id| format!("{id},2024-01-01T00:00:00Z,n\n"))
        .collect();
    for (content, wanted) in [
        (
            case("34-csv-broken/unclosed.csv"),
            "in.csv:3: a quote opens here and is not closed before the end of the file",
        ),
        // The next quote opens a field of a later row.
        (
            rows(&format!(
                "3,2024-01-01T00:00:00Z,\"19 inch\n{swallowed}500,2024-01-01T00:00:00Z,\"x\"\n"
            )),
            "in.csv:3: a quote opens here, and text follows a later quote, in line 499",
        ),
        // The quotes of a later row fit, and its commas do not.
        (
            rows(&format!(
                "3,2024-01-01T00:00:00Z,\"19 inch\n{swallowed}500,2024-01-01T00:00:00Z,\",\"\n"
            )),
            "in.csv:3: a quote opens here",
        ),
        (
            b"id,at,\"note\n1,2024-01-01T00:00:00Z,fine\n".to_vec(),
            "in.csv:1: a quote opens here",
        ),
    ] {
        for end in ["\n", "\r\n", "\r"] {
            let content = String::from_utf8(content.clone()).unwrap();
            project.write("in.csv", content.replace('\n', end));
            let said = project.fails(&["run", "g"]);
            assert!(said.contains(wanted), "{end:?}: {said}");
            assert_eq!(project.offline("g_v1"), before, "{end:?}");
        }
    }
}

#[test]
fn text_after_a_closing_quote_rejects_its_row_alone() {
    let project = pass(NOTES, "in.csv");
    project.write(
        "in.csv",
        "id,at,note\n1,2024-01-01T00:00:00Z,5\" disk\n2,2024-01-01T00:00:00Z,\"19\" rack\n3,2024-01-01T00:00:00Z,\"19\"\" rack\"\n",
    );
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(
        said.contains("in.csv:3: a field has text after its closing quote"),
        "{said}"
    );
    let mut notes: Vec<Json> = project
        .offline_rows("g_v1")
        .into_iter()
        .map(|row| row["note"].clone())
        .collect();
    notes.sort_by_key(Json::to_string);
    assert_eq!(notes, ["19\" rack", "5\" disk"]);
}

#[test]
fn rows_have_the_line_that_they_begin_in_whatever_ends_the_lines() {
    let columns = "id:int64, at:timestamp, note:utf8?, v:float64?";
    let crlf = String::from_utf8(case("08-csv-bom-quotes/plain.csv")).unwrap();
    assert!(crlf.contains("\r\n"));
    for end in ["\n", "\r\n", "\r"] {
        let project = pass(columns, "in.csv");
        // The last row has a value that cannot be read.
        let content = crlf.replace("x,2\r\n", "x,warm\r\n").replace("\r\n", end);
        project.write("in.csv", &content);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{end:?}: {said}");
        assert!(
            said.contains("in.csv:6: field `v`: `warm` is not float64"),
            "{end:?}: {said}"
        );
        assert_eq!(lines(&project, "g_v1"), ["2", "4"], "{end:?}");
    }
}

#[test]
fn line_ends_of_old_macs_and_of_windows_are_read() {
    let project = pass(NOTES, "in.csv");
    project.write("in.csv", case("34-csv-broken/cr.csv"));
    project.ok(&["run", "g"]);
    let mut rows = project.offline_rows("g_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    let notes: Vec<&Json> = rows.iter().map(|row| &row["note"]).collect();
    assert_eq!(notes, ["x", "y"]);
    assert_eq!(lines(&project, "g_v1"), ["2", "3"]);

    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", case("34-csv-broken/crlf.csv"));
    let said = text(&project.command(&["run", "g"]).output().unwrap());
    let wanted = "in.csv:3: field `v`: `warm` is not float64";
    assert!(said.contains(wanted), "{said}");
    assert_eq!(lines(&project, "g_v1"), ["2", "4"]);
}

#[test]
fn lines_before_the_header_refuse_the_file_with_what_it_begins_with() {
    for (file, wanted) in [
        ("sep", "it has sep="),
        ("comment", "it has # exported by x"),
    ] {
        let project = pass(NOTES, "in.csv");
        project.write("in.csv", case(&format!("34-csv-broken/{file}.csv")));
        let said = project.fails(&["run", "g"]);
        let lacks = "in.csv has no column `id` (int64)";
        assert!(
            said.contains(lacks) && said.contains(wanted),
            "{file}: {said}"
        );
        assert!(project.offline("g_v1").is_empty(), "{file}");
    }
}

#[test]
fn rows_of_a_file_with_carriage_returns_are_events_of_their_own() {
    for file in ["cr2", "cr3"] {
        let project = Pass {
            group: "aggregates = [{ function = [\"count\", \"sum\"], column = \"v\", windows = [\"lifetime\"] }]",
            ..Pass::default()
        };
        let project = project.project().applied();
        project.write("in.csv", case(&format!("34-csv-broken/{file}.csv")));
        project.ok(&["run", "g"]);
        assert_eq!(lines(&project, "g_v1"), ["2", "3", "4", "5", "6"], "{file}");
        let features = &project.json(&["get", "v", "id=1"])["features"];
        assert_eq!(features["g_v_count_lifetime"], 5, "{file}: {features}");
        assert_eq!(features["g_v_sum_lifetime"], 10.0, "{file}: {features}");
    }
}
