//! Functions that misbehave when they are called. The error says who is to blame and which limit or
//! rule was broken, and others are not affected.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::misbehaving::{ROWS, project, request};
use crate::harness::{Project, guest, text};

#[test]
fn runs_of_a_function_that_misbehaves_fail_with_the_reason_and_leave_nothing() {
    for (mode, settings, wanted) in [
        (
            "spin-in-call",
            "batch_time = \"200ms\"",
            "ran longer than 200ms (setting `batch_time`)",
        ),
        ("panic-in-call", "", "function `bad` trapped"),
        (
            "grow-in-call",
            "memory = \"32 MiB\"",
            "needs more memory than 32 MiB (setting `memory`)",
        ),
        ("recurse-in-call", "", "function `bad`"),
        (
            "refuse-call",
            "",
            "function `bad` refused the batch: not this batch",
        ),
        ("bad-utf8", "", "column `text`: row 2 is not valid UTF-8"),
        (
            "too-much-output",
            "output = \"2 MiB\"",
            "returned more than 2 MiB (setting `output`)",
        ),
        ("wrong-length", "", "column `y`: 4 values for 3 rows"),
        (
            "wrong-type",
            "",
            "column `y`: int64 where the signature has float64",
        ),
        ("wrong-columns", "", "3 columns where the signature has 4"),
        ("wrong-rows", "", "4 rows where 3 went in"),
        (
            "decreasing-offsets",
            "",
            "column `text`: the first offset is 3, not 0",
        ),
        (
            "offsets-past-the-end",
            "",
            "column `text`: the last offset is 3000, and there are 3 values",
        ),
        (
            "short-bitmap",
            "",
            "column `y`: a bit map of 0 bytes for 3 rows",
        ),
        (
            "null-in-required",
            "",
            "column `y`: row 0 is null, and the column is not nullable",
        ),
        ("error-out-of-range", "", "a row error for row 3 of 3"),
        (
            "errors-unsorted",
            "",
            "row errors are not in ascending order at row 0",
        ),
        ("large-refusal", "", "function `bad` refused the batch: xx"),
        ("large-panic", "", "function `bad` trapped: "),
    ] {
        let project = project(mode, settings);
        project.write("things.csv", ROWS);
        project.ok(&["apply"]);
        let said = project.fails(&["run", "thing"]);
        assert!(said.contains(wanted), "{mode}: {said}");
        // A trap of a single row names it; other errors name the rows of the call.
        assert!(
            said.contains("things.csv, rows 2 to 4") || said.contains("things.csv:2: "),
            "{mode} names the rows: {said}"
        );
        assert!(project.offline("thing_v1").is_empty(), "{mode}");
        let runs = project.json(&["runs"]);
        assert_eq!(runs[0]["state"], "failed", "{mode}");
        assert!(
            runs[0]["error"].as_str().unwrap().contains(wanted),
            "{mode}"
        );
    }
}

#[test]
fn limit_of_output_holds_for_all_calls_of_a_request_together() {
    let project = project(
        "texts-as-asked",
        "output = \"2 MiB\"\nrequest_time = \"10s\"",
    );
    // A call has at most 8,192 rows. Those of 8,192 rows return less than 2 MiB.
    let csv: String = (0..10_000)
        .map(|id| format!("{id},2013-01-01T00:00:00Z,200\n"))
        .collect();
    project.write("things.csv", format!("id,at,x\n{csv}"));
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    let ask = |rows: usize| {
        let rows: Vec<_> = (0..rows)
            .map(|id| json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": 200}))
            .collect();
        let body = json!({ "rows": rows }).to_string();
        server.post("/v1/views/thing/features", "application/json", body)
    };
    assert_eq!(ask(8_000).0, 200);
    let (status, answer) = ask(10_000);
    assert_eq!(status, 500, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    let wanted = "returned more than 2 MiB (setting `output`)";
    assert!(message.contains(wanted), "{message}");
    server.stop();
    // In a run, it is the limit of each call.
    assert_eq!(project.json(&["run", "thing"])["rows_written"], 10_000);
}

#[test]
fn wrong_source_rows_of_a_function_are_refused() {
    let bad = project("bad-sources", "");
    bad.replace("[views.thing]\nrequest = { id = \"int64\", at = \"timestamp\", x = \"float64\" }\nfunctions = [\"bad\"]\n", "");
    bad.write("things.csv", ROWS);
    bad.ok(&["apply"]);
    assert!(
        bad.fails(&["run", "thing"])
            .contains("source-rows decrease at row 1")
    );
    // As an on-demand function it could not even be applied.
    let said = project("bad-sources", "").fails(&["apply"]);
    assert!(said.contains("does not map rows one to one"), "{said}");
}

#[test]
fn a_row_that_the_function_rejects_goes_to_quarantine() {
    let project = project("one-bad-row", "");
    project.write("things.csv", ROWS);
    project.ok(&["apply"]);
    let output = project.command(&["run", "thing"]).output().unwrap();
    assert!(output.status.success());
    let said = text(&output);
    assert!(
        said.contains("things.csv:2: this one is bad") && said.contains("2 written, 1 rejected"),
        "{said}"
    );
    let server = project.serve(&[]);
    let (status, answer) = request(&server, 2);
    assert_eq!(status, 200);
    assert_eq!(
        (
            &answer["rows"][0]["status"]["y"],
            &answer["rows"][0]["features"]["y"]
        ),
        (&json!("error"), &json!(null))
    );
    assert_eq!(answer["rows"][0]["errors"]["bad"], "this one is bad");
    assert_eq!(answer["rows"][1]["status"]["y"], "present");
    let (status, answer) = server.events("things", "{\"id\":1,\"at\":\"2013-01-01T00:00:00Z\",\"x\":1}\n{\"id\":2,\"at\":\"2013-01-01T00:00:00Z\",\"x\":1}");
    assert_eq!(status, 422);
    assert_eq!(
        answer["events"][0],
        json!({"status": "rejected", "error": "this one is bad"})
    );
    assert_eq!(answer["events"][1]["status"], "accepted");
}

#[test]
fn requests_over_the_time_limit_fail_with_it_and_others_go_on() {
    let project = project("spin-in-call", "request_time = \"300ms\"").applied();
    let server = project.serve(&[]);
    let (status, answer) = request(&server, 1);
    assert_eq!(status, 500);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("ran longer than 300ms (setting `request_time`)"),
        "{message}"
    );

    // While every sandbox is busy, the server still answers requests that need none.
    std::thread::scope(|scope| {
        let spinning: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| request(&server, 1)))
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let started = Instant::now();
        assert_eq!(server.get("/healthz").0, 200);
        assert_eq!(server.get("/v1/clock").0, 200);
        let unfinished = spinning.iter().filter(|s| !s.is_finished()).count();
        assert!(
            unfinished > 0,
            "answered in {:?}, while none was spinning",
            started.elapsed()
        );
        for spin in spinning {
            assert_eq!(spin.join().unwrap().0, 500);
        }
    });
}

#[test]
fn an_instance_keeps_no_state_from_one_call_to_the_next() {
    let project = project("count-calls", "").applied();
    let server = project.serve(&[]);
    for _ in 0..5 {
        assert_eq!(request(&server, 1).1["rows"][0]["features"]["y"], 1.0);
    }
}

#[test]
fn strange_nans_and_floods_of_log_lines_do_no_harm() {
    let nan = project("nan", "").applied();
    let (status, answer) = request(&nan.serve(&[]), 2);
    assert_eq!(
        (status, &answer["rows"][1]["features"]["y"]),
        (200, &json!("NaN"))
    );
    let flood = project("log-flood", "").applied();
    assert_eq!(request(&flood.serve(&[]), 1).0, 200);
}

/// Maximum length of an error.
const MAX_ERROR_BYTES: usize = 4 << 10;

#[test]
fn errors_of_functions_are_cut_wherever_they_are_shown_recorded_and_sent() {
    for mode in ["large-refusal", "large-panic"] {
        let project = project(mode, "request_time = \"10s\"");
        project.write("things.csv", ROWS);
        project.ok(&["apply"]);
        let said = project.fails(&["run", "thing"]);
        assert!(said.len() < 2 * MAX_ERROR_BYTES, "{mode}: {}", said.len());
        let runs = project.json(&["runs"]);
        assert_eq!(runs[0]["state"], "failed", "{mode}");
        let server = project.serve(&[]);
        let (status, answer) = request(&server, 1);
        assert_eq!(status, 500, "{mode}");
        for error in [&runs[0]["error"], &answer["error"]["message"]] {
            let error = error.as_str().unwrap();
            assert!(error.len() <= MAX_ERROR_BYTES, "{mode}: {}", error.len());
            // The function that panics has no hook that logs the message of the panic.
            let is_cut = error.ends_with(" more bytes)");
            assert_eq!(is_cut, mode == "large-refusal", "{mode}: {error}");
        }
    }
    let row_errors = project("large-row-errors", "request_time = \"10s\"").applied();
    let (status, answer) = request(&row_errors.serve(&[]), 1);
    let error = answer["rows"][0]["errors"]["bad"].as_str().unwrap();
    assert_eq!((status, error.len() <= 1_024), (200, true));
    assert!(error.ends_with(" more bytes)"), "{error}");
}

#[test]
fn empty_and_large_log_messages_are_counted_and_dropped() {
    // The log has 64 KiB for each call, of which a message takes 64 bytes beside its text.
    for (mode, most_lines) in [("empty-log-flood", 1_024), ("large-log-flood", 16)] {
        let project = project(mode, "");
        project.write("things.csv", ROWS);
        project.ok(&["apply"]);
        let output = project.command(&["run", "thing"]).output().unwrap();
        assert!(output.status.success(), "{mode}: {}", text(&output));
        let log = String::from_utf8(output.stderr).unwrap();
        let lines = log
            .lines()
            .filter(|line| line.contains("function="))
            .count();
        // One more line says how many messages were dropped.
        assert!((2..=most_lines + 1).contains(&lines), "{mode}: {lines}");
        assert!(log.contains("too many log messages in one call"), "{mode}");
        assert!(log.len() < 1 << 20, "{mode}: {}", log.len());
    }
}

#[test]
fn an_event_that_the_function_cannot_take_fails_alone() {
    // The mode of the function, its limits, the field `x` of event 7, and what is said of it.
    for (mode, limits, x, wanted) in [
        ("panic-on-seven", "", 1, "function `bad` trapped"),
        // The stack in its memory, whose end is a trap, may end before the call stack does.
        ("recurse-on-seven", "", 1, "function `bad` "),
        (
            "texts-as-asked",
            "memory = \"8 MiB\"",
            16 << 20,
            "needs more memory than 8 MiB (setting `memory`)",
        ),
        (
            "texts-as-asked",
            "output = \"1 MiB\"",
            2 << 20,
            "returned more than 1 MiB (setting `output`)",
        ),
    ] {
        let project = project(mode, limits).applied();
        let server = project.serve(&[]);
        let event =
            |id| json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": if id == 7 { x } else { 1 }});
        let lines: Vec<String> = (0..20).map(|id| event(id).to_string()).collect();
        let (status, answer) = server.events("things", &lines.join("\n"));
        assert_eq!(
            (status, &answer["accepted"], &answer["rejected"]),
            (422, &json!(19), &json!(1)),
            "{mode} {limits}"
        );
        let error = answer["events"][7]["error"].as_str().unwrap();
        assert!(error.contains(wanted), "{mode} {limits}: {error}");
    }
}

#[test]
fn a_push_fails_as_a_whole_if_its_function_takes_too_much_memory_for_each_event() {
    let project = project("grow-in-call", "memory = \"8 MiB\"").applied();
    let server = project.serve(&[]);
    let event = |id| json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": 1}).to_string();
    let lines: Vec<String> = (0..1_000).map(event).collect();
    let (status, answer) = server.events("things", &lines.join("\n"));
    let message = answer["error"]["message"].as_str().unwrap();
    let wanted = "function `bad` needs more memory than 8 MiB (setting `memory`)";
    assert_eq!(status, 500, "{message}");
    assert!(message.contains(wanted), "{message}");
}

#[test]
fn a_push_whose_functions_return_too_much_at_once_is_taken_in_by_parts() {
    let component = guest("misbehaving");
    let component = component.display();
    let mut toml = r#"
[project]
name = "bad"
[entities.thing]
keys = { id = "int64" }
[sources.things]
type = "stream"
path = "things.csv"
[views.first]
lookups = [{ group = "thing0", as = "first" }]
"#
    .to_owned();
    // They are functions of their own, so each is called, and returns less than its limit, 64 MiB.
    for n in 0..10 {
        toml += &format!(
            r#"
[functions.bad{n}]
component = "{component}"
parameters = {{ mode = "texts-as-asked", number = "{n}" }}
memory = "256 MiB"
[groups.thing{n}]
entity = "thing"
event_time = "at"
columns = ["y"]
[pipelines.thing{n}]
source = "things"
function = "bad{n}"
group = "thing{n}"
"#
        );
    }
    let project = Project::new(&toml);
    project.write("things.csv", "id,at,x\n");
    let project = project.applied();
    let server = project.serve(&[]);
    let push = |texts: &[usize]| {
        let line = |(id, x): (usize, &usize)| {
            json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": x}).to_string()
        };
        let lines: Vec<String> = texts.iter().enumerate().map(line).collect();
        server.events("things", &lines.join("\n"))
    };
    let status_of = |id: usize| {
        let row = server.features("first", &json!([{ "id": id }])).remove(0);
        row["status"]["first_y"].clone()
    };
    // The functions return 560 MB for all of the events.
    let (status, answer) = push(&[14_000; 4_000]);
    assert_eq!((status, &answer["accepted"]), (200, &json!(4_000)));
    assert_eq!(
        (status_of(0), status_of(3_999)),
        (json!("present"), json!("present"))
    );
    // They return 620 MB for the second event alone.
    let (status, answer) = push(&[1, 62_000_000, 2]);
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected"]),
        (422, &json!(2), &json!(1))
    );
    let error = answer["events"][1]["error"].as_str().unwrap();
    let wanted =
        "what the functions of its source return for this event takes more than 512 MiB of memory";
    assert!(error.contains(wanted), "{error}");
}
