//! The request log of the endpoint `line` of the project `accounts`.

use serde_json::Value as Json;

use super::ledger::{entry, lines};
use super::{Project, Server};

/// Returns the tables that the endpoint `line` logs to.
fn log_tables(project: &Project) -> Vec<String> {
    let tables = project.json(&["tables"]);
    let tables = tables.as_array().unwrap().iter();
    let names = tables.filter_map(|table| table["table"].as_str());
    let names = names.filter(|name| name.starts_with("line_log_"));
    names.map(str::to_owned).collect()
}

/// Returns the table that the endpoint `line` logs to, which must be the only one.
pub(crate) fn log_table(project: &Project) -> String {
    let mut tables = log_tables(project);
    assert_eq!(tables.len(), 1, "{tables:?}");
    tables.remove(0)
}

/// Returns the rows of the log, in the order of requests and rows.
pub(crate) fn logged_rows(project: &Project) -> Vec<Json> {
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

/// Returns the number of logged rows of the endpoint `line` with an outcome, by the server's
/// metrics.
pub(crate) fn logged_row_count(server: &Server, outcome: &str) -> u64 {
    let label = format!("wafer_log_rows_total{{endpoint=\"line\",outcome=\"{outcome}\"}} ");
    let metrics = server.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Waits until a number of rows was logged.
pub(crate) fn wait(server: &Server, rows: u64) {
    for _ in 0..200 {
        if logged_row_count(server, "written") >= rows {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{}", server.metrics());
}

/// Starts a server whose clock stands still, and pushes an earlier event of some accounts.
pub(crate) fn served(project: &Project) -> Server {
    let server = project.serve(&["--clock", "2020-02-01T00:00:00Z,0"]);
    let entries: Vec<Json> = (0..20)
        .map(|n| entry(&format!("k{n:03}"), "2020-01-31T23:30:00Z", n, 0.1, "y"))
        .collect();
    let (status, answer) = server.events("entries", &lines(&entries));
    assert_eq!(status, 200, "{answer}");
    server
}
