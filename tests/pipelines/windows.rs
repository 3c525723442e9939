//! Windows: values that are served at a time equal those of a training set as of that time.

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger, lines};
use crate::harness::{Project, Random, rows_of};

fn time(seconds: u64) -> String {
    wafer_core::Timestamp::from_micros(1_577_836_800_000_000 + seconds as i64 * 1_000_000)
        .to_string()
}

/// Returns random events in the order in which they are pushed: most are on time, some are late,
/// some come twice, and many have the same time or lie on the edge of a tile.
fn random_events(random: &mut Random, count: usize) -> Vec<(u64, Json)> {
    let mut now = 0;
    let mut events: Vec<(u64, Json)> = Vec::new();
    for _ in 0..count {
        now += random.below(900);
        if random.below(8) == 0 {
            now = now.div_ceil(300) * 300;
        }
        if random.below(10) == 0 && !events.is_empty() {
            let again = events[random.below(events.len() as u64) as usize].1.clone();
            events.push((now, again));
            continue;
        }
        let late = if random.below(4) == 0 {
            random.below(20_000)
        } else {
            0
        };
        let key = ["a", "b", "c"][random.below(3) as usize];
        let small = [1, 2, -3, (1 << 53) + 1][random.below(4) as usize];
        let amount = [0.1, 0.2, 1e16, -1e16, 1e-9][random.below(5) as usize];
        let text = ["x", "y", ""][random.below(3) as usize];
        events.push((
            now,
            entry(key, &time(now.saturating_sub(late)), small, amount, text),
        ));
    }
    events
}

fn request(key: &str) -> Json {
    json!({"key_a": key, "key_b": 1})
}

/// History is replayed: events are pushed, and requests are answered in between. Then the same
/// requests become labels, and the values in the training set must equal the answers bit for bit.
#[test]
fn windows_served_online_are_those_of_the_training_set() {
    let mut random = Random::new();
    let project = ledger("").applied_with("entries.ndjson", "");
    let server = project.serve(&["--clock", &format!("{},0", time(0))]);
    let mut labels = String::from("key_a,key_b,event_timestamp\n");
    let mut served: Vec<Json> = Vec::new();
    // The clock never goes back, and sometimes runs ahead of the events.
    let mut clock = 0;
    for (now, event) in random_events(&mut random, 250) {
        clock = clock.max(now);
        server.set_clock(&time(clock));
        assert_eq!(server.events("entries", &event.to_string()).0, 200);
        if random.below(2) == 0 {
            clock += [0, 1, 299, 300, 7_200][random.below(5) as usize];
            server.set_clock(&time(clock));
            for key in ["a", "b", "c", "d"] {
                let answer = server.features("account", &json!([request(key)])).remove(0);
                labels += &format!("{key},1,{}\n", time(clock));
                served.push(answer["features"].clone());
            }
            // Offline, an event that arrives at the very time of a request counts for the request.
            clock += 1;
        }
    }
    server.stop();
    project.write("labels.csv", labels);
    project.training_set("account", "labels.csv", "out.parquet");
    compare(&served, &rows_of(&project.path().join("out.parquet")));
}

fn compare(served: &[Json], trained: &[Json]) {
    assert_eq!(served.len(), trained.len());
    let mut values = 0;
    for (number, (served, trained)) in served.iter().zip(trained).enumerate() {
        for (feature, value) in served.as_object().unwrap() {
            assert_eq!(
                value, &trained[feature],
                "label {number}, {feature}: {trained}"
            );
            values += usize::from(!value.is_null());
        }
    }
    assert!(values > 1_000, "{values} values were compared");
}

/// The online values are the same for events that were pushed one by one, that were pushed in one
/// batch, that come from files, or that were rebuilt from the table.
#[test]
fn window_summaries_are_the_same_from_pushes_files_and_tables() {
    let mut random = Random::new();
    let events = random_events(&mut random, 120);
    let end = events.last().unwrap().0 + 1;
    let clock = format!("{},0", time(end));
    let request = |project: &Project| -> Vec<Json> {
        ["a", "b", "c"]
            .iter()
            .map(|key| {
                let key = format!("key_a={key}");
                project.json(&["get", "account", &key, "key_b=1", "--clock", &clock])["features"]
                    .clone()
            })
            .collect()
    };
    let all: Vec<Json> = events.iter().map(|(_, event)| event.clone()).collect();

    let pushed = ledger("").applied_with("entries.ndjson", "");
    for part in all.chunks(7) {
        let file = pushed.write("part.ndjson", lines(part));
        pushed.ok(&["push", "entries", file.to_str().unwrap(), "--clock", &clock]);
    }
    let wanted = request(&pushed);
    assert!(
        wanted
            .iter()
            .all(|row| row["sums_count_lifetime"].as_i64() > Some(5)),
        "{wanted:?}"
    );

    // The same events are pushed in reverse order in one batch, twice. Events of one time keep
    // their order, which decides between them.
    let reversed = ledger("").applied_with("entries.ndjson", "");
    let mut backwards = all.clone();
    backwards.sort_by(|a, b| b["happened_at"].as_str().cmp(&a["happened_at"].as_str()));
    let file = reversed.write("part.ndjson", lines(&backwards));
    for _ in 0..2 {
        reversed.ok(&["push", "entries", file.to_str().unwrap(), "--clock", &clock]);
    }
    assert_eq!(request(&reversed), wanted);

    // The groups are materialized from the tables.
    for group in ["sums", "last_entry"] {
        pushed.ok(&["materialize", group, "--clock", &clock]);
    }
    assert_eq!(request(&pushed), wanted);

    // A file must have each event once, because equal rows of a file are two events.
    let mut once = Vec::new();
    all.iter().for_each(|event| {
        if !once.contains(event) {
            once.push(event.clone());
        }
    });
    let batch = ledger("").applied_with("entries.ndjson", &lines(&once));
    for pipeline in ["sums", "last_entry"] {
        batch.ok(&[
            "backfill",
            pipeline,
            "--from",
            "2019-12-30",
            "--to",
            "2020-03-01",
            "--clock",
            &clock,
        ]);
    }
    let of_sums = |rows: Vec<Json>| -> Vec<Json> {
        rows.into_iter()
            .map(|row| {
                let mut row = row.as_object().unwrap().clone();
                // Events of one time are ordered by their arrival, and each is in the file once.
                row.retain(|name, _| {
                    name.starts_with("sums_") && !name.contains("first") && !name.contains("last_3")
                });
                Json::Object(row)
            })
            .collect()
    };
    assert_eq!(of_sums(request(&batch)), of_sums(wanted));
}

#[test]
fn windows_and_aggregates_that_do_not_fit_are_refused() {
    for (from, to, wanted) in [
        (
            r#"windows = ["3h"]"#,
            r#"windows = ["13h30m"]"#,
            "a window of 13h30m is not a multiple of its hop",
        ),
        (
            r#"windows = ["3h"]"#,
            r#"windows = ["soon"]"#,
            "`soon` is not a window",
        ),
        (r#"windows = ["3h"]"#, "windows = []", "windows: is empty"),
        (
            r#"["sum"], column = "amount""#,
            r#"["sum"], column = "label_text""#,
            "column `label_text`: sum is not defined for utf8",
        ),
        (
            r#"["sum"], column = "amount""#,
            r#"["sum"], column = "amont""#,
            "did you mean `amount`?",
        ),
        (
            r#"["sum"], column = "amount""#,
            r#"["avg"], column = "amount""#,
            "`avg` is not an aggregate function",
        ),
        ("k = 3,", "", "first_k needs `k`"),
        (
            r#""variance", "count_distinct""#,
            r#""variance", "variance""#,
            "`small_variance_20m` is there twice",
        ),
    ] {
        let project = ledger("");
        // An exact window would be allowed this width, but an aligned one is not.
        if to.contains("13h30m") {
            project.replace(", exact = true", "");
        }
        project.replace(from, to);
        project.write("entries.ndjson", "");
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
}
