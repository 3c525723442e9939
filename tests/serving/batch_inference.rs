//! Batch inference: pipelines that predict with the features as of the time of each row.

use serde_json::{Value as Json, json};

use crate::harness::Project;
use crate::harness::accounts::{PUSHED, SCORES, accounts};
use crate::harness::ledger::{entry, lines};

const SCORED: &str = r#"
[views.scored]
lookups = [{ group = "scores" }]

"#;

/// Pushes a version of the model `line`, which multiplies the last amount by `factor`.
fn push(project: &Project, factor: f64) {
    let model = json!({"intercept": 0.5, "coefficients": {"last_amount": factor}, "missing": {"last_amount": -1}});
    project.push_model("line", "line.json", model.to_string());
}

/// Makes a project with accounts, a pipeline that predicts for the rows of `due.csv`, and a view of
/// the predictions.
fn scored_accounts(due: &str) -> Project {
    let project = accounts(&format!("{SCORES}{SCORED}{PUSHED}"));
    project.write("due.csv", due);
    project
}

/// Returns the predictions in the order of key and time.
fn predictions(project: &Project) -> Vec<Json> {
    let rows = project.offline("scores_v1").into_iter();
    let rows = rows.map(|row| serde_json::from_str::<Json>(&row).unwrap());
    rows.map(|row| {
        json!([
            row["key_a"],
            row["event_timestamp"],
            row["prediction"],
            row["model_version"]
        ])
    })
    .collect()
}

#[test]
fn batch_predictions_use_what_was_known_at_the_time_of_each_row() {
    let project = scored_accounts(
        "key_a,key_b,due_at\n\
         k003,1,2019-12-31T00:00:00Z\n\
         k003,1,2020-01-01T00:00:00Z\n\
         k005,1,2020-01-02T00:00:00Z\n\
         k005,,2020-01-02T00:00:00Z\n\
         k005,1,\n\
         nobody,1,2020-01-02T00:00:00Z\n",
    );
    let plan = project.json(&["plan"]);
    let warnings = plan["warnings"].to_string();
    assert!(
        warnings.contains("pipelines.scores.model: model `line` has no version"),
        "{warnings}"
    );
    let said = project.fails(&["run", "scores"]);
    assert!(said.contains("model `line` has no version"), "{said}");
    push(&project, 2.0);
    let record = project.json(&["run", "scores"]);
    assert_eq!(
        (&record["rows_written"], &record["rows_rejected"]),
        (&json!(4), &json!(2))
    );
    // The linear model uses -1 for an amount that is not known.
    let of = |factor: f64, version: u64| {
        vec![
            json!(["k003", "2019-12-31T00:00:00Z", 0.5 - factor, version]),
            json!([
                "k003",
                "2020-01-01T00:00:00Z",
                0.3f64.mul_add(factor, 0.5),
                version
            ]),
            json!([
                "k005",
                "2020-01-02T00:00:00Z",
                0.5f64.mul_add(factor, 0.5),
                version
            ]),
            json!(["nobody", "2020-01-02T00:00:00Z", 0.5 - factor, version]),
        ]
    };
    assert_eq!(predictions(&project), of(2.0, 1));
    assert_eq!(
        project.json(&["run", "scores"])["generation"],
        1,
        "nothing changed"
    );

    // The interval is run again with another version of the model, and after an earlier amount
    // became known.
    push(&project, 4.0);
    assert_eq!(project.json(&["run", "scores"])["generation"], 2);
    assert_eq!(predictions(&project), of(4.0, 2));
    let earlier = entry("nobody", "2020-01-01T12:00:00Z", 1, 10.0, "x");
    let mut entries = std::fs::read_to_string(project.at("entries.ndjson")).unwrap();
    entries += &lines(&[earlier]);
    project.write("entries.ndjson", entries);
    project.ok(&["run", "last_entry"]);
    assert_eq!(project.json(&["run", "scores"])["generation"], 3);
    let last = predictions(&project).pop();
    assert_eq!(
        last,
        Some(json!(["nobody", "2020-01-02T00:00:00Z", 40.5, 2]))
    );

    // Predictions are served like other features.
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let rows = json!([{"key_a": "nobody", "key_b": 1}, {"key_a": "k003", "key_b": 1}]);
    let answered = server.features("scored", &rows);
    assert_eq!(
        answered[0]["features"],
        json!({"scores_prediction": 40.5, "scores_model_version": 2})
    );
    assert_eq!(
        answered[1]["event_timestamp"]["scores"],
        "2020-01-01T00:00:00Z"
    );
    server.stop();
}

#[test]
fn errors_of_pipelines_that_cannot_predict_say_why() {
    let project = scored_accounts("key_a,key_b,due_at\n");
    for (from, to, wanted) in [
        (
            "model = \"line\"",
            "model = \"line\"\nfunction = \"ledger\"",
            "pipelines.scores.model: is beside `function`",
        ),
        (
            "model = \"line\"\n",
            "# no maker\n",
            "is text, whose columns have no types; declare them",
        ),
        (
            "model = \"line\"",
            "model = \"lien@2\"",
            "pipelines.scores.model: there is no model `lien`; did you mean `line`?",
        ),
        (
            "model = \"line\"",
            "model = \"line@@\"",
            "`line@@` names no version of a model",
        ),
        (
            "source = \"due\"",
            "source = \"entries\"",
            "pipelines.scores.model: predicts for the rows of files or of another group",
        ),
        (
            "event_time = \"due_at\"",
            "event_time = \"key_a\"",
            "groups.scores.event_time",
        ),
    ] {
        project.replace(from, to);
        let said = project.fails(&["plan"]);
        assert!(said.contains(wanted), "{said}");
        project.replace(to, from);
    }
    push(&project, 1.0);
    project.ok(&["models", "alias", "line@1", "champion"]);
    project.replace("model = \"line\"", "model = \"line@champoin\"");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "scores"]);
    assert!(said.contains("champoin"), "{said}");
    // The time must be a column of the file.
    project.replace("model = \"line@champoin\"", "model = \"line@champion\"");
    project.ok(&["apply"]);
    project.write("due.csv", "key_a,key_b,due\nk003,1,2020-01-02T00:00:00Z\n");
    let said = project.fails(&["run", "scores"]);
    assert!(said.contains("due_at"), "{said}");
}
