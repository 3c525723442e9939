//! The project `ledger` with models of its accounts, their releases and endpoints, and requests.

use std::ops::RangeInclusive;

use serde_json::{Value as Json, json};

use super::ledger::{entry, ledger, lines};
use super::{Project, Server, guest, repository};

/// Makes a project with accounts whose label is their last amount, and with a view that has that
/// amount as a feature.
pub(crate) fn accounts(models: &str) -> Project {
    let project = ledger(&model_sections(models));
    let entries: Vec<Json> = (0..300)
        .map(|n| {
            let key = format!("k{n:03}");
            entry(
                &key,
                "2020-01-01T00:00:00Z",
                n,
                f64::from(n as i32) / 10.0,
                "x",
            )
        })
        .collect();
    project.write("entries.ndjson", lines(&entries));
    let mut labels = String::from("key_a,key_b,event_timestamp,y,amount_then\n");
    for n in 0..300 {
        let day = 2 + n % 3;
        labels += &format!(
            "k{n:03},1,2020-01-{day:02}T00:00:00Z,{},{n}\n",
            u8::from(n > 140)
        );
    }
    project.write("labels.csv", labels);
    let project = project.applied();
    project.ok(&["run", "last_entry"]);
    project
}

/// Returns the sections of the project file for models. `ledger` inserts them below its source.
fn model_sections(models: &str) -> String {
    let function = |name: &str, component: &str, rest: &str| {
        let component = guest(component);
        format!(
            "[functions.{name}]\ncomponent = \"{}\"\n{rest}\n",
            component.display()
        )
    };
    // Only functions that a model uses are declared. Others would be registered without a model.
    let is_used = |name: &str| models.contains(&format!("\"{name}\""));
    let learned = "parameters = { features = \"last_amount,last_small\", trees = 20 }";
    let mut text = String::new();
    for (name, component, rest) in [
        ("train", "train_trees", learned),
        ("trees", "lightgbm", ""),
        ("linear", "linear", "memory = \"64MiB\""),
        ("passes", "passes", ""),
        (
            "mistrained",
            "mistrained",
            "train_time = \"1s\"\ninit_time = \"1s\"\nmemory = \"64MiB\"",
        ),
    ] {
        if is_used(name) {
            text += &function(name, component, rest);
        }
    }
    text + models
}

pub(crate) const TRAINED: &str = r#"
[models.high]
doc = "Whether an account is high."
owner = "tests"
view = "account"
label = "y"
task = "binary"
trainer = "train"
function = "trees"
parameters = { objective = "binary" }
training = { labels = "labels.csv", split = "train<2020-01-03T00:00:00Z,validation<2020-01-04T00:00:00Z,test" }
"#;

pub(crate) const PUSHED: &str = r#"
[models.line]
view = "account"
label = "y"
task = "regression"
function = "linear"
"#;

/// The sections for a pipeline that predicts with the model `line` for the rows of `due.csv`.
pub(crate) const SCORES: &str = r#"
[sources.due]
type = "files"
path = "due.csv"

[groups.scores]
entity = "account"
event_time = "due_at"

[pipelines.scores]
source = "due"
model = "line"
group = "scores"

"#;

/// Makes a project with version 1 of a model whose function panics for the account `trap`, and a
/// pipeline that predicts with it.
pub(crate) fn trapping_model() -> Project {
    let project = accounts(&format!("{SCORES}{}", offset_model("regression")));
    project.push_model("line", "model", "no weights");
    project
}

/// The model `line` of a task, whose function panics for the account `trap` and needs no weights.
pub(crate) fn offset_model(task: &str) -> String {
    format!(
        r#"
[functions.offset]
component = "{}"
parameters = {{ offset = 1 }}

[models.line]
view = "account"
label = "y"
task = "{task}"
function = "offset"
"#,
        guest("offset").display()
    )
}

/// Returns the file of a linear model that predicts `intercept` for every row.
pub(crate) fn line(intercept: f64) -> String {
    json!({"intercept": intercept, "coefficients": {"last_amount": 0}, "missing": {"last_amount": 0}}).to_string()
}

/// Pushes versions of the model `line` that predict 1, 2, … for every row, and releases each.
pub(crate) fn push_and_release(project: &Project, count: u32) {
    for n in 1..=count {
        project.push_model("line", "line.json", line(f64::from(n)));
        project.ok(&["release", "create", "--model", &format!("line@{n}")]);
    }
}

/// Makes versions of the model `line`, each with a version of the view that has a function of its
/// own, and releases them. The first predicts 11, the second 22, the third 33. Any other answer
/// would mix two releases. The function traps for the account `trap`.
pub(crate) fn release_with_views(project: &Project, versions: RangeInclusive<u32>) {
    project.replace(
        "[views.account]\n",
        "[views.account]\nfunctions = [\"offset\"]\n",
    );
    let function = |offset: u32| {
        let component = guest("offset");
        format!(
            "[functions.offset]\ncomponent = \"{}\"\nparameters = {{ offset = {offset} }}\n\n[entities.account]\n",
            component.display()
        )
    };
    let mut before = "[entities.account]\n".to_owned();
    for n in versions {
        let now = function(10 * n);
        project.replace(&before, &now);
        before = now;
        project.ok(&["apply"]);
        let model = json!({"intercept": n, "coefficients": {"offset": 1}}).to_string();
        project.push_model("line", "line.json", model);
        project.ok(&["release", "create", "--model", &format!("line@{n}")]);
    }
}

/// Makes a project with two releases: `r1` predicts a number, and `r2`, which has three classes,
/// predicts a class and its probabilities.
pub(crate) fn line_and_classes() -> Project {
    let other = r#"
[models.high]
view = "account"
label = "y"
function = "trees"
"#;
    let project = accounts(&format!("{PUSHED}{other}"));
    push_and_release(&project, 1);
    let text = std::fs::read_to_string(repository().join("tests/models/classes.txt")).unwrap();
    project.push_model("high", "classes.txt", text);
    project.ok(&["release", "create", "--model", "high"]);
    project
}

/// Routes the endpoint `line` to releases, and logs all of its requests. Their rows do not wait,
/// whatever the stores are.
pub(crate) fn route_and_log(project: &Project, routes: &[&str]) {
    let fixed = ["endpoints", "set", "line"];
    let logged = ["--log", "100", "--log-within", "0s"];
    project.ok(&[&fixed[..], routes, &logged].concat());
}

/// Makes the project with the first versions of the model `line`, releases them, routes the
/// endpoint `line` to releases, and logs all of its requests.
pub(crate) fn logged(versions: u32, routes: &[&str]) -> Project {
    let project = accounts(PUSHED);
    push_and_release(&project, versions);
    route_and_log(&project, routes);
    project
}

/// Returns an inference request for some accounts.
pub(crate) fn request(keys: &[&str]) -> Json {
    let tensor = |name: &str, datatype: &str, data: Json| json!({"name": name, "datatype": datatype, "shape": [keys.len()], "data": data});
    json!({"inputs": [tensor("key_a", "BYTES", json!(keys)), tensor("key_b", "INT64", json!(vec![1; keys.len()]))]})
}

/// Sends an inference request to an endpoint, or to one of its releases by
/// `ENDPOINT/versions/RELEASE`, and returns the status and the answer.
pub(crate) fn infer(server: &Server, path: &str, request: &Json) -> (u16, Json) {
    let path = format!("/v2/models/{path}/infer");
    server.post(&path, "application/json", request.to_string())
}
