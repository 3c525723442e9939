//! Causes of metrics and training sets that look better than they are: labels that do not fit
//! their task, rows that a model has learned from, and events that tell the answer.

use serde_json::{Value as Json, json};

use crate::harness::accounts::{PUSHED, TRAINED, accounts, line, offset_model};
use crate::harness::pass::{COLUMNS, Pass, pass};
use crate::harness::{Project, text};

/// The labels of the accounts, with another column `y`.
fn write_labels(project: &Project, y: impl Fn(usize) -> String) {
    let mut labels = String::from("key_a,key_b,event_timestamp,y\n");
    for n in 0..300 {
        let day = 2 + n % 3;
        labels += &format!("k{n:03},1,2020-01-{day:02}T00:00:00Z,{}\n", y(n));
    }
    project.write("labels.csv", labels);
}

fn is_high(n: usize) -> bool {
    n > 140
}

#[test]
fn labels_are_checked_against_the_task() {
    let project = accounts(TRAINED);
    let fitting: [fn(usize) -> String; 4] = [
        |n| u8::from(is_high(n)).to_string(),
        |n| is_high(n).to_string(),
        |n| if is_high(n) { "TRUE" } else { "FALSE" }.to_owned(),
        |n| if is_high(n) { "1.0" } else { "0.0" }.to_owned(),
    ];
    for y in fitting {
        write_labels(&project, y);
        let report = project.json(&["train", "high"]);
        let auc = report["version"]["metrics"]["test_auc"].as_f64().unwrap();
        assert!(auc > 0.95, "{}: {report}", y(200));
    }
    type Label = fn(usize) -> String;
    let misfits: [(Label, &str); 3] = [
        (
            |n| (n % 3).to_string(),
            "row 2: 2 is not a label of the task `binary`",
        ),
        (
            |n| if n == 7 { "0.5" } else { "1.0" }.to_owned(),
            "row 7: 0.5 is not a label of the task `binary`",
        ),
        (
            |n| if n == 7 { "perhaps" } else { "true" }.to_owned(),
            "row 7: \"perhaps\" is not a label of",
        ),
    ];
    for (y, wanted) in misfits {
        write_labels(&project, y);
        let said = project.fails(&["train", "high"]);
        assert!(
            said.contains(wanted) && said.contains("whose labels are 0 or 1, or false or true"),
            "{said}"
        );
    }
}

#[test]
fn rows_that_a_model_learned_from_are_left_out_of_its_evaluation() {
    let project = accounts(TRAINED);
    let version = project.json(&["train", "high"])["version"].clone();
    let own = version["training_set"].as_str().unwrap();
    // The same rows, in another training set that has no parts.
    let other = project.training_set("account", "labels.csv", "other.parquet");
    let other = other["id"].as_str().unwrap();
    let evaluate = |set: &str, rest: &[&str]| {
        let mut arguments = vec!["models", "evaluate", "high@1", "--training-set", set];
        arguments.extend(rest);
        project.json(&arguments)
    };
    for set in [own, other] {
        let figures = evaluate(set, &[]);
        assert_eq!(
            (&figures["rows"], &figures["left_out"]),
            (&json!(100.0), &json!(200.0)),
            "{set}"
        );
        assert_eq!(figures["auc"], version["metrics"]["test_auc"], "{set}");
        let figures = evaluate(set, &["--with-training-rows"]);
        assert_eq!(
            (&figures["rows"], &figures["left_out"]),
            (&json!(300.0), &Json::Null),
            "{set}"
        );
    }
    let figures = evaluate(own, &["--part", "test"]);
    assert_eq!(
        (&figures["rows"], &figures["left_out"]),
        (&json!(100.0), &Json::Null)
    );
    let known = [
        "models",
        "evaluate",
        "high@1",
        "--training-set",
        own,
        "--part",
        "train",
    ];
    let said = project.fails(&known);
    assert!(
        said.contains("high@1 learned from all of these rows")
            && said.contains("--with-training-rows"),
        "{said}"
    );
    let figures = evaluate(own, &["--part", "train", "--with-training-rows"]);
    assert_eq!(figures["rows"], json!(100.0));

    // Versions are compared on the same rows.
    project.ok(&["train", "high", "--set", "trees=1"]);
    let compared = project.json(&[
        "models",
        "compare",
        "high@1",
        "high@2",
        "--training-set",
        own,
        "--part",
        "test",
    ]);
    assert_eq!(compared[0]["version"], "high@1");
    assert_eq!(
        compared[0]["evaluated"]["auc"],
        version["metrics"]["test_auc"]
    );
    assert_eq!(compared[1]["parameters"]["trees"], "1");
    let shown = project.ok(&["models", "compare", "high@1", "high"]);
    assert!(
        shown.contains("high@1") && shown.contains("high@2"),
        "{shown}"
    );
    let said = project.fails(&["models", "compare", "high@1"]);
    assert!(said.contains("2"), "{said}");
}

/// Rows of other parts and rows without a label do not matter: neither that the model's function
/// traps on them, nor that their labels do not fit the task.
#[test]
fn an_evaluation_calls_the_function_on_the_rows_that_it_scores_alone() {
    let project = accounts(&offset_model("binary"));
    let file = project.write("model", "no weights").display().to_string();
    let set = |labels: &str| {
        project.write(
            "parts.csv",
            format!("key_a,key_b,event_timestamp,y\n{labels}"),
        );
        let (labels, out) = (project.at("parts.csv"), project.at("parts.parquet"));
        let made = project.json(&[
            "training-set",
            "account",
            "--labels",
            &labels,
            "--out",
            &out,
            "--split",
            "train<2020-01-03T00:00:00Z,test",
        ]);
        made["id"].as_str().unwrap().to_owned()
    };
    let test_rows = "k002,1,2020-01-04T00:00:00Z,1\n\
                     trap,1,2020-01-04T00:00:00Z,\n\
                     k003,1,2020-01-04T00:00:00Z,0\n";
    let trap = "trap,1,2020-01-02T00:00:00Z,0\n";
    let misfit = "k001,1,2020-01-02T00:00:00Z,2\n";
    for (others, wanted) in [
        (
            format!("k001,1,2020-01-02T00:00:00Z,1\n{trap}"),
            "row 1: function `offset` trapped: ",
        ),
        (
            format!("{trap}{misfit}"),
            "row 1: 2 is not a label of the task `binary`",
        ),
    ] {
        let set = set(&format!("{others}{test_rows}"));
        let push = [
            "models",
            "push",
            "line",
            "--artifact",
            &file,
            "--training-set",
            &set,
        ];
        let pushed = project.json(&push);
        assert_eq!(pushed["metrics"]["test_rows"], json!(2.0), "{pushed}");
        assert_eq!(pushed["metrics"]["test_positives"], json!(0.5), "{pushed}");
        let evaluate = ["models", "evaluate", "line", "--training-set", &set];
        let figures = project.json(&[&evaluate[..], &["--part", "test"]].concat());
        assert_eq!(
            (&figures["rows"], &figures["positives"]),
            (&json!(2.0), &json!(0.5))
        );
        // The rows of the other part are wrong where they are asked for.
        let others = ["--part", "train", "--with-training-rows"];
        let arguments = [&evaluate[..], &others].concat();
        let output = project.command(&arguments).output().unwrap();
        let said = text(&output);
        assert!(!output.status.success() && said.contains(wanted), "{said}");
    }
}

#[test]
fn a_pushed_version_says_why_it_has_no_metrics_and_a_set_without_the_label_is_refused() {
    let project = accounts(PUSHED);
    let file = project.write("line.json", line(1.0)).display().to_string();
    let push = |set: &str| {
        let arguments = [
            "models",
            "push",
            "line",
            "--artifact",
            &file,
            "--training-set",
            set,
        ];
        project.command(&arguments).output().unwrap()
    };
    let without_split = project.training_set("account", "labels.csv", "a.parquet");
    let without_split = without_split["id"].as_str().unwrap();
    let pushed = push(without_split);
    let said = text(&pushed);
    assert!(pushed.status.success(), "{said}");
    assert!(
        said.contains("registered without metrics of a test part: training set")
            && said.contains("has no part `test`"),
        "{said}"
    );
    project.write(
        "keys.csv",
        "key_a,key_b,event_timestamp\nk001,1,2020-01-02T00:00:00Z\n",
    );
    let without_label = project.training_set("account", "keys.csv", "b.parquet");
    let pushed = push(without_label["id"].as_str().unwrap());
    let said = text(&pushed);
    assert!(!pushed.status.success(), "{said}");
    assert!(
        said.contains("has no column `y`, which model `line` predicts"),
        "{said}"
    );
}

/// An event that has the label's own time counts for the label, which is worth a warning.
#[test]
fn labels_that_have_the_time_of_an_event_are_counted_and_warned_of() {
    let newest = "";
    let windows = "aggregates = [{ function = \"count\", windows = [\"1d\"] }]";
    let labels = "id,event_timestamp,happy\n\
                  1,2024-01-01T00:00:00Z,yes\n\
                  2,2024-01-02T12:00:00Z,no\n\
                  3,2024-01-03T00:00:00Z,yes\n\
                  4,2024-01-03T00:00:00Z,yes\n";
    for (group, delay, wanted) in [
        (newest, "", 2),
        (windows, "", 2),
        (newest, "delay = \"1s\"", 0),
        (windows, "delay = \"1s\"", 0),
    ] {
        let project = Pass {
            source: &format!("type = \"files\"\npath = \"in.csv\"\n{delay}"),
            group,
            ..Pass::default()
        };
        let project = project.project();
        let row = |id: u32| format!("{id},2024-01-0{id}T00:00:00Z,1.5\n");
        let rows: String = (1..=3).map(row).collect();
        project.write("in.csv", format!("id,at,v\n{rows}"));
        project.write("labels.csv", labels);
        project.ok(&["apply"]);
        project.ok(&["run", "g"]);
        let arguments = [
            "training-set",
            "v",
            "--labels",
            &project.at("labels.csv"),
            "--out",
            &project.at("t.csv"),
        ];
        let output = project.command(&arguments).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let warning = "2 of 4 labels have the time of an event of `g`";
        assert_eq!(
            said.contains(warning),
            wanted > 0,
            "{group} {delay}: {said}"
        );
        let set = &project.json(&["training-sets"])[0];
        let counted = set["coincident"]["g"].as_u64().unwrap_or(0);
        assert_eq!(counted, wanted, "{group} {delay}");
    }
}

#[test]
fn statistics_of_a_training_set_have_quantiles_and_most_frequent_values() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", "id,at,v\n1,2023-01-01T00:00:00Z,0.5\n");
    let label = |id: usize| {
        let mood = if id.is_multiple_of(4) { "sad" } else { "glad" };
        format!("{id},2024-01-01T00:00:00Z,{mood}\n")
    };
    let labels: String = (1..=100).map(label).collect();
    project.write("labels.csv", format!("id,event_timestamp,mood\n{labels}"));
    project.ok(&["run", "g"]);
    let set = project.training_set("v", "labels.csv", "t.parquet");
    let column = |name: &str| {
        let mut columns = set["columns"].as_array().unwrap().iter();
        columns.find(|column| column["name"] == name).unwrap()
    };
    let quantiles = json!([
        [0.05, 5.0],
        [0.25, 25.0],
        [0.5, 50.0],
        [0.75, 75.0],
        [0.95, 95.0]
    ]);
    assert_eq!(column("id")["quantiles"], quantiles);
    assert_eq!(column("id")["distinct"], 100);
    assert_eq!(column("mood")["top"], json!([["glad", 75], ["sad", 25]]));
    assert_eq!(
        (&column("g_v")["nulls"], &column("g_v")["distinct"]),
        (&json!(99), &json!(1))
    );
    let id = set["id"].as_str().unwrap();
    let shown = project.ok(&["training-sets", id]);
    assert!(shown.contains("glad (75), sad (25)"), "{shown}");
    assert_eq!(project.json(&["training-sets", id])["id"], id);
    let said = project.fails(&["training-sets", "nothing"]);
    assert!(
        said.contains("there is no training set `nothing`"),
        "{said}"
    );
}
