//! Training of models in the sandbox, with `wafer train`.

use serde_json::json;

use crate::harness::accounts::{TRAINED, accounts};
use crate::harness::{Project, repository, text};

#[test]
fn a_model_is_trained_and_evaluated_and_has_a_lineage() {
    let project = accounts(TRAINED);
    let report = project.json(&["train", "high", "--doc", "first", "--tag", "by=tests"]);
    assert_eq!(
        (&report["passes"], &report["rows"], &report["left_out"]),
        (&json!(1), &json!(200), &json!(0))
    );
    let version = &report["version"];
    assert_eq!(version["version"], 1);
    assert_eq!(version["metrics"]["test_rows"], 100.0);
    assert!(
        version["metrics"]["test_auc"].as_f64().unwrap() > 0.99,
        "{version}"
    );
    assert_eq!(version["parameters"]["trees"], "20");
    assert_eq!(version["lineage"]["groups"]["last_entry"], "last_entry_v1");
    assert_eq!(version["lineage"]["sources"], json!(["entries"]));

    // Training again gives the same bytes, and other parameters give others.
    let again = project.json(&[
        "train",
        "high",
        "--training-set",
        version["training_set"].as_str().unwrap(),
    ]);
    assert_eq!(again["version"]["version"], 2);
    assert_eq!(again["version"]["artifacts"], version["artifacts"]);
    let other = project.json(&["train", "high", "--set", "trees=3"]);
    assert_ne!(other["version"]["artifacts"], version["artifacts"]);
    assert_eq!(other["version"]["training_set"], version["training_set"]);

    let shown = project.json(&["models", "show", "high@1"]);
    assert_eq!(
        (&shown["doc"], &shown["tags"]["by"]),
        (&json!("first"), &json!("tests"))
    );
    let models = project.json(&["models"]);
    assert_eq!(
        (&models[0]["latest"], &models[0]["owner"]),
        (&json!(3), &json!("tests"))
    );
    for (origin, name) in [
        ("group", "last_entry"),
        ("source", "entries"),
        ("function", "ledger"),
        ("view", "account"),
    ] {
        assert_eq!(
            project.json(&["lineage", origin, name]),
            json!(["high@1", "high@2", "high@3"]),
            "{origin}"
        );
    }
    assert!(
        project
            .fails(&["lineage", "group", "nothing"])
            .contains("there is no feature group `nothing`")
    );
    let from = project.json(&["lineage", "model", "high"]);
    assert_eq!(from["sources"], json!(["entries"]));

    // The artifacts can be written to files.
    let out = project.at("model.txt");
    project.ok(&["models", "get", "high@1", "--out", &out]);
    assert!(
        std::fs::read_to_string(&out)
            .unwrap()
            .starts_with("tree\nversion=v4\n")
    );
    let figures = project.json(&[
        "models",
        "evaluate",
        "high@1",
        "--training-set",
        version["training_set"].as_str().unwrap(),
        "--part",
        "test",
    ]);
    assert_eq!(figures["auc"], version["metrics"]["test_auc"]);
}

#[test]
fn a_training_says_what_the_model_learns_from_and_what_not_and_why() {
    let project = accounts(TRAINED);
    let output = project.command(&["train", "high"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "learns `y` (binary) from `last_amount`, `last_small`",
        "does not learn from `key_a`: `features` does not name it",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(
        !said.contains("does not learn from `amount_then`"),
        "columns that the labels alone have are not offered: {said}"
    );
}

#[test]
fn errors_of_a_model_that_cannot_be_trained_say_why() {
    let project = accounts(TRAINED);
    let said = project.fails(&["train", "hihg"]);
    assert!(
        said.contains("there is no model `hihg`; did you mean `high`?"),
        "{said}"
    );
    let said = project.fails(&["train", "high", "--set", "trees=none"]);
    assert!(
        said.contains("parameter `trees`: `none` is not a number from 1 to 100000"),
        "{said}"
    );
    let said = project.fails(&["train", "high", "--set", "features=amount_then"]);
    // The model cannot use a column that only the labels have, because requests do not have it.
    assert!(
        said.contains("parameter `features`: there is no column `amount_then`"),
        "{said}"
    );
    let (labels, elsewhere) = (
        project.path().join("labels.csv"),
        project.at("elsewhere.csv"),
    );
    std::fs::rename(&labels, &elsewhere).unwrap();
    let said = project.fails(&["train", "high"]);
    assert!(
        said.contains(
            "the labels of model `high` (setting models.high.training.labels) are not there"
        ),
        "{said}"
    );
    std::fs::rename(&elsewhere, &labels).unwrap();
    let said = project.fails(&["train", "high", "--training-set", "nothing"]);
    assert!(
        said.contains("there is no training set `nothing`"),
        "{said}"
    );
    project.write(
        "few.csv",
        "key_a,key_b,event_timestamp,y\nk001,1,2020-01-02T00:00:00Z,\n",
    );
    let said = project.fails(&["train", "high", "--labels", &project.at("few.csv")]);
    assert!(
        said.contains("has no row with a label `y` in a part `train`"),
        "{said}"
    );
    project.write(
        "none.csv",
        "key_a,key_b,event_timestamp,z\nk001,1,2020-01-02T00:00:00Z,1\n",
    );
    let said = project.fails(&["train", "high", "--labels", &project.at("none.csv")]);
    assert!(
        said.contains("has no column `y`, which the model is to predict"),
        "{said}"
    );
    assert!(
        project
            .fails(&["models", "show", "high"])
            .contains("has no version yet")
    );
    project.replace("function = \"trees\"", "function = \"train\"");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("models.high.trainer: function `train` cannot both train and predict"),
        "{said}"
    );
}

#[test]
fn a_trainer_is_fed_the_training_set_as_often_as_it_asks() {
    let model = r#"
[models.line]
view = "account"
label = "y"
task = "regression"
trainer = "passes"
function = "linear"
training = { labels = "labels.csv" }
"#;
    let project = accounts(model);
    let report = project.json(&["train", "line"]);
    assert_eq!(
        (&report["passes"], &report["rows"]),
        (&json!(3), &json!(300))
    );
    // Of the 300 labels, 159 are 1.
    let variance = report["version"]["metrics"]["variance"].as_f64().unwrap();
    assert!((variance - 0.53 * 0.47).abs() < 1e-12, "{variance}");
    let said = project.fails(&["train", "line", "--set", "passes=2"]);
    assert!(
        said.contains("parameter `passes`: there are none"),
        "{said}"
    );
}

#[test]
fn a_column_of_the_labels_called_split_makes_no_split() {
    let unsplit = TRAINED.replace(
        ", split = \"train<2020-01-03T00:00:00Z,validation<2020-01-04T00:00:00Z,test\"",
        "",
    );
    let project = accounts(&unsplit);
    let labels = std::fs::read_to_string(project.path().join("labels.csv")).unwrap();
    let mut rows = labels.lines();
    let mut with_split = format!("{},split\n", rows.next().unwrap());
    for (number, row) in rows.enumerate() {
        with_split += &format!("{row},{}\n", number % 2);
    }
    project.write("labels.csv", with_split);
    let report = project.json(&["train", "high"]);
    assert_eq!(report["rows"], 300);
}

#[test]
fn training_sets_of_models_are_not_deleted_by_mistake() {
    let project = accounts(TRAINED);
    let report = project.json(&["train", "high"]);
    let set = report["version"]["training_set"].as_str().unwrap();
    let said = project.fails(&["training-sets", "--delete", set]);
    assert!(
        said.contains("is what high@1 came of") && said.contains("--force"),
        "{said}"
    );
    project.ok(&["training-sets", "--delete", set, "--force"]);
    let evaluate = ["models", "evaluate", "high@1", "--training-set", set];
    assert!(
        project
            .fails(&evaluate)
            .contains("there is no training set")
    );
    // A part without rows cannot be trained on.
    project.replace("train<2020-01-03", "train<2019-01-03");
    project.ok(&["apply"]);
    let said = project.fails(&["train", "high"]);
    assert!(
        said.contains("has no row with a label `y` in a part `train`"),
        "{said}"
    );
}

/// On the real data, trees are trained in the sandbox, and they predict better than simple
/// baselines. They are released, asked and compared as in the README.
#[test]
fn a_model_trained_on_the_flights_beats_its_baselines() {
    let project = Project::flights().applied();
    project.run_flights();
    let labels = project.at("labels.parquet");
    let columns =
        "tailnum,carrier,flight,origin,dest,scheduled_departure,scheduled_arrival,arrived_late";
    project.ok(&[
        "export",
        "scheduled_flight_v1",
        "--out",
        &labels,
        "--columns",
        columns,
    ]);
    let trained = project.json(&[
        "train",
        "late_arrival",
        "--labels",
        &labels,
        "--set",
        "trees=40",
    ]);
    let version = &trained["version"];
    let metric =
        |version: &serde_json::Value, name: &str| version["metrics"][name].as_f64().unwrap();
    let auc = metric(version, "test_auc");
    assert!(auc > 0.70, "{auc}");
    let set = version["training_set"].as_str().unwrap();
    let baseline = |factor: f64| {
        let route = "route_arr_delay_minutes_mean_30d";
        let model = json!({"intercept": -1.5, "coefficients": {route: factor}, "missing": {route: 0}, "link": "logistic"});
        let file = project.write("line.json", model.to_string());
        let file = file.display().to_string();
        let version = project.json(&[
            "models",
            "push",
            "baseline",
            "--artifact",
            &file,
            "--training-set",
            set,
        ]);
        metric(&version, "test_auc")
    };
    let (constant, route) = (baseline(0.0), baseline(0.05));
    assert_eq!(constant, 0.5);
    assert!(constant < route && route + 0.05 < auc, "{route} {auc}");

    project.ok(&["release", "create", "--model", "late_arrival@1"]);
    project.ok(&["endpoints", "set", "late", "r1", "--log", "100"]);
    let server = project.serve(&[]);
    let request = std::fs::read(repository().join("functions/flights/infer.json")).unwrap();
    let (status, answer) = server.post("/v2/models/late/infer", "application/json", request);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["outputs"][0]["data"][0].is_f64(), "{answer}");
    server.stop();
    let said = project.ok(&["skew", "late"]);
    let wanted = "1 row compared: every value that was made of the same rows and events is equal";
    assert!(said.contains(wanted), "{said}");
}
