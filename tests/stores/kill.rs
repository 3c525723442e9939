//! Processes that are killed at any moment: nothing that was acknowledged is lost, and nothing is
//! counted twice.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{count_of, entry, ledger, lines, sums};
use crate::harness::{Project, Random};

#[test]
fn a_killed_run_is_taken_up_again() {
    let mut random = Random::new();
    let whole = Project::flights().applied();
    let expected = whole.json(&["run", "plane_outcome"]);
    let digest = whole.offline_digest("plane_outcome_v1");
    let vector = feature_vector(&whole);

    let project = Project::flights().applied();
    let mut killed = 0;
    // The time until the kill grows, so that kills hit every part of a run.
    for attempt in 1..=12 {
        let mut run = project
            .command(&["run", "plane_outcome"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(110 * attempt)));
        killed += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
        // The table must be readable, and have all rows of the run or none.
        let rows = project.offline("plane_outcome_v1").len();
        assert!(rows == 0 || rows == digest.0, "{rows} rows");
    }
    println!("{killed} of 12 runs were killed");
    let record = project.json(&["run", "plane_outcome"]);
    assert_eq!(record["rows_written"], expected["rows_written"]);
    assert_eq!(record["generation"], 1, "the inputs never changed");
    assert_eq!(project.offline_digest("plane_outcome_v1"), digest);
    assert_eq!(feature_vector(&project), vector);
}

fn feature_vector(project: &Project) -> Json {
    project.json(&[
        "get",
        "arrival_delay",
        "--clock",
        "2014-01-01T00:00:00Z,0",
        "tailnum=N725MQ",
        "origin=LGA",
        "dest=ORD",
        "scheduled_departure=2014-01-01T00:00:00Z",
        "scheduled_arrival=2014-01-01T02:00:00Z",
    ])["features"]
        .clone()
}

/// A run that adds events to summaries in the online store adds each event once, wherever it is
/// killed.
#[test]
fn a_killed_run_counts_every_event_once() {
    let mut random = Random::new();
    let many: String = (0..20_000)
        .map(|n| {
            entry(
                ["a", "b"][n % 2],
                &format!(
                    "2020-01-01T{:02}:{:02}:{:02}Z",
                    n / 3_600,
                    n / 60 % 60,
                    n % 60
                ),
                1,
                0.5,
                "x",
            )
            .to_string()
                + "\n"
        })
        .collect();
    let project = ledger("").applied_with("entries.ndjson", &many);
    let mut killed = 0;
    for attempt in 1..=12 {
        let mut run = project
            .command(&["run", "sums"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(25 * attempt)));
        killed += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    println!("{killed} of 12 runs were killed");
    project.ok(&["run", "sums"]);
    assert_eq!(project.offline("sums_v1").len(), 20_000);
    assert_eq!(
        (count_of(&project, "a"), count_of(&project, "b")),
        (json!(10_000), json!(10_000))
    );
}

fn report(n: usize) -> Json {
    let (day, hour) = (n / 24 % 28 + 1, n % 24);
    let station = ["EWR", "JFK", "LGA"][n / 672 % 3];
    json!({"origin": station, "time_hour": format!("2013-01-{day:02}T{hour:02}:00:00Z"), "temp": n as f64})
}

/// A server is killed again and again while events are pushed and flushed. Clients push again what
/// was not acknowledged.
#[test]
fn acknowledged_events_survive_a_killed_server() {
    let mut random = Random::new();
    let project = Project::flights().applied();
    let reports: Vec<Json> = (0..900).map(report).collect();
    let mut next = 0;
    let mut kills = 0;
    while next < reports.len() {
        let server = project.serve(&[]);
        let url = format!("{}/v1/sources/weather_reports/events", server.url);
        let pause = Duration::from_millis(200 + random.below(600));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(pause);
            server.kill();
        });
        while next < reports.len() {
            let end = (next + 1 + random.below(12) as usize).min(reports.len());
            let lines: Vec<String> = reports[next..end].iter().map(Json::to_string).collect();
            let answer = crate::harness::agent()
                .post(&url)
                .header("content-type", "application/x-ndjson")
                .send(lines.join("\n"));
            match answer {
                // The event was acknowledged, so that it must be stored once in the end.
                Ok(answer) => assert_eq!(answer.status().as_u16(), 200),
                // Without an answer the event may be stored or not, so that it is pushed again.
                Err(_) => break,
            }
            next = end;
            std::thread::sleep(Duration::from_millis(random.below(40)));
        }
        killer.join().unwrap();
        kills += 1;
    }
    println!("{kills} servers were killed");
    // A server that is stopped in order flushes the outbox.
    project.serve(&[]).stop();
    let rows = project.offline_rows("airport_weather_v1");
    let mut seen: Vec<f64> = rows
        .iter()
        .map(|r| r["temperature_c"].as_f64().unwrap())
        .collect();
    seen.sort_by(f64::total_cmp);
    let mut expected: Vec<f64> = (0..900)
        .map(|n| (f64::from(n) - 32.0) * 5.0 / 9.0)
        .collect();
    expected.sort_by(f64::total_cmp);
    assert_eq!(seen, expected, "every event once");
    // Pushing all events again changes nothing.
    let lines: Vec<String> = reports.iter().map(Json::to_string).collect();
    let file = project.write("again.ndjson", lines.join("\n"));
    let summary = project.json(&["push", "weather_reports", file.to_str().unwrap()]);
    assert_eq!(
        (&summary["accepted"], &summary["duplicate"]),
        (&json!(0), &json!(900))
    );
    assert_eq!(project.offline_rows("airport_weather_v1").len(), 900);
}

/// One function is used in a run, on events and in requests, on one store, and the server is killed
/// in between.
#[test]
fn one_function_serves_runs_events_and_requests_through_a_kill() {
    let project = Project::flights().applied();
    project.ok(&["run", "airport_weather", "--to", "2013-01-02"]);
    let batch_rows = project.offline("airport_weather_v1").len();
    let server = project.serve(&[]);
    let event =
        json!({"origin": "EWR", "time_hour": "2013-12-30T18:00:00Z", "temp": 50.0}).to_string();
    assert_eq!(server.events("weather_reports", &event).0, 200);
    let request = json!([{
        "tailnum": "N1", "origin": "EWR", "dest": "LAX",
        "scheduled_departure": "2013-12-30T18:30:00Z", "scheduled_arrival": "2013-12-30T23:00:00Z",
    }]);
    let weather = |rows: &[Json]| rows[0]["event_timestamp"]["weather"].clone();
    assert_eq!(
        weather(&server.features("arrival_delay", &request)),
        "2013-12-30T18:00:00Z"
    );
    server.kill();
    let server = project.serve(&["--clock", "2013-12-30T18:30:00Z,0"]);
    let rows = server.features("arrival_delay", &request);
    assert_eq!(
        (
            &rows[0]["features"]["weather_temperature_c"],
            weather(&rows)
        ),
        (&json!(10.0), json!("2013-12-30T18:00:00Z"))
    );
    assert_eq!(server.events("weather_reports", &event).1["duplicate"], 1);
    server.stop();
    assert_eq!(project.offline("airport_weather_v1").len(), batch_rows + 1);
}

/// Every event counts once, whichever commands are killed and repeated.
#[test]
fn killed_upkeep_commands_lose_nothing_and_count_nothing_twice() {
    let mut random = Random::new();
    let event =
        |id: i64, time: String| entry(&format!("k{}", id % 5), &time, id, 1.0, &id.to_string());
    let history: Vec<Json> = (0..400)
        .map(|id| {
            event(
                id,
                format!("2019-12-{:02}T{:02}:00:00Z", 1 + id % 28, id % 24),
            )
        })
        .collect();
    // Every fourth event is too late.
    let pushed: Vec<Json> = (400..800)
        .map(|id| {
            event(
                id,
                format!(
                    "2020-01-{:02}T{:02}:30:{:02}Z",
                    2 - i64::from(id % 4 == 0),
                    11,
                    id % 60
                ),
            )
        })
        .collect();
    let project = ledger("lateness = \"1h\"").applied_with("entries.ndjson", &lines(&history));
    let file = project.write("push.ndjson", lines(&pushed));
    let commands: [&[&str]; 6] = [
        &[
            "push",
            "entries",
            file.to_str().unwrap(),
            "--clock",
            "2020-01-02T12:00:00Z,0",
        ],
        // The clock is of the same day, because a store forgets identities that are long past by
        // the clock of a run.
        &[
            "run",
            "sums",
            "--to",
            "2020-01-01",
            "--clock",
            "2020-01-02T12:00:00Z,0",
        ],
        &["heal", "sums", "--clock", "2020-01-03T00:00:00Z,0"],
        &["compact", "--horizon", "0s"],
        &["materialize", "sums"],
        &[
            "delete",
            "account",
            "key_a=k3",
            "key_b=1",
            "--clock",
            "2020-01-04T00:00:00Z,0",
        ],
    ];
    let mut kill = |command: &[&str]| {
        let mut run = project
            .command(command)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(120)));
        let _ = run.kill();
        run.wait().unwrap();
        random.below(commands.len() as u64 - 1) as usize
    };
    let mut next = 0;
    for _ in 0..40 {
        next = kill(commands[next]);
    }
    // In this order each command has something to do. Repeated once more, none of them has.
    for command in [0, 1, 2, 3, 0, 1, 2, 3] {
        project.ok(commands[command]);
    }
    let found = |key: i64| {
        let features = sums(&project, &format!("k{key}"), "2020-01-05T00:00:00Z");
        (
            features["sums_count_lifetime"].clone(),
            features["sums_small_sum_lifetime"].clone(),
        )
    };
    let of_key = |key: i64| (0..800).filter(move |id| id % 5 == key);
    let wanted = |key: i64| (json!(160), json!(of_key(key).sum::<i64>()));
    for key in 0..5 {
        assert_eq!(found(key), wanted(key), "k{key}");
    }
    let values = || -> Vec<i64> {
        let rows = project.offline_rows("sums_v1").into_iter();
        let mut values: Vec<i64> = rows.map(|row| row["small"].as_i64().unwrap()).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(), (0..800).collect::<Vec<_>>());
    for _ in 0..4 {
        kill(commands[5]);
    }
    project.ok(commands[5]);
    project.ok(commands[4]);
    assert_eq!(found(3), (Json::Null, Json::Null));
    for key in [0, 1, 2, 4] {
        assert_eq!(
            found(key),
            wanted(key),
            "k{key}, of which nothing was deleted"
        );
    }
    assert_eq!(
        values(),
        (0..800).filter(|id| id % 5 != 3).collect::<Vec<_>>()
    );
    let raw = project.offline_rows("entries_events");
    assert!(
        raw.iter()
            .all(|row| !row["payload"].as_str().unwrap().contains("\"k3\""))
    );
    assert_eq!(raw.len(), 320);
}
