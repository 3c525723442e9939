//! Models: trained, registered, released, asked.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};

use crate::harness::{Project, Server, are_embedded, guest, repository, text};
use crate::training::{entry, ledger, lines};

/// Accounts whose last amount says what the label is, and a view that knows it.
pub(crate) fn accounts(models: &str) -> Project {
    let project = ledger(&models_of(models));
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

/// The ledger's file with models; `ledger` puts it below its source.
fn models_of(models: &str) -> String {
    let function = |name: &str, component: &str, rest: &str| {
        let component = guest(component);
        format!(
            "[functions.{name}]\ncomponent = \"{}\"\n{rest}\n",
            component.display()
        )
    };
    // Only those that are a model's: others would be registered as they are.
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

fn line(intercept: f64) -> String {
    json!({"intercept": intercept, "coefficients": {"last_amount": 0}, "missing": {"last_amount": 0}}).to_string()
}

/// Pushes versions of `line` that answer 1, 2, … whatever they are asked, and releases them.
pub(crate) fn released(project: &Project, count: u32) {
    for n in 1..=count {
        let file = project.write("line.json", line(f64::from(n)));
        project.ok(&[
            "models",
            "push",
            "line",
            "--artifact",
            &file.display().to_string(),
        ]);
        project.ok(&["release", "create", "--model", &format!("line@{n}")]);
    }
}

/// A request for some accounts.
pub(crate) fn request(keys: &[&str]) -> Json {
    let tensor = |name: &str, datatype: &str, data: Json| json!({"name": name, "datatype": datatype, "shape": [keys.len()], "data": data});
    json!({"inputs": [tensor("key_a", "BYTES", json!(keys)), tensor("key_b", "INT64", json!(vec![1; keys.len()]))]})
}

pub(crate) fn infer(server: &Server, path: &str, request: &Json) -> (u16, Json) {
    let path = format!("/v2/models/{path}/infer");
    server.post(&path, "application/json", request.to_string())
}

#[test]
fn a_model_is_trained_evaluated_and_traced() {
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

    // The same again is the same, bit by bit; other parameters are not.
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

    // What was made can be taken out.
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
fn what_cannot_be_trained_says_why() {
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
    // A column that only the labels have is not there when the model is asked.
    assert!(
        said.contains("parameter `features`: there is no column `amount_then`"),
        "{said}"
    );
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
fn a_model_that_was_trained_elsewhere_is_pushed_and_checked() {
    let project = accounts(PUSHED);
    let push = |content: &[u8], arguments: &[&str]| {
        let file = project.write("model", content).display().to_string();
        let all = [
            &["models", "push", "line", "--artifact", &file][..],
            arguments,
        ]
        .concat();
        project.command(&all).output().unwrap()
    };
    let refused = |content: &[u8], wanted: &str| {
        let said = crate::harness::text(&push(content, &[]));
        assert!(said.contains(wanted), "{said}");
    };
    refused(
        b"",
        "model `line` was not registered: function `linear` could not be initialised: asset `model` is no linear model",
    );
    refused(b"\xff\xfe", "asset `model` is no linear model");
    refused(
        br#"{"intercept": 1, "coefficients": {"last_amuont": 1, "key_a": 1, "last_small": 1}}"#,
        "model `line` does not fit view `account`: `key_a` is utf8 in the view, and the model reads float64; the view has no \
         `last_amuont` (float64); is `last_amount` meant?",
    );
    let said = project.fails(&["models", "push", "line", "--artifact", "nothing.json"]);
    assert!(
        said.contains("--artifact: cannot read nothing.json"),
        "{said}"
    );
    let named = format!("vocabulary={}", project.at("labels.csv"));
    let said = project.fails(&["models", "push", "line", "--artifact", &named]);
    assert!(
        said.contains("asset `model` is not given") && said.contains("given: vocabulary"),
        "{said}"
    );

    // Too large for its function, and for any.
    for (size, wanted) in [
        (
            1u64 << 30,
            "has 1 GiB, and function `linear` has 64 MiB of memory: raise its `memory`",
        ),
        (3 << 30, "a model has at most 2 GiB in each"),
    ] {
        let path = project.at("large");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let said = project.fails(&["models", "push", "line", "--artifact", &path]);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(
        project
            .fails(&["models", "show", "line"])
            .contains("has no version yet")
    );
    let said = project.fails(&["train", "line"]);
    assert!(
        said.contains("has no trainer: set models.line.trainer"),
        "{said}"
    );

    let good = line(2.5);
    let arguments = [
        "--metric",
        "rmse=0.5",
        "--parameter",
        "by=hand",
        "--output",
        "json",
    ];
    let output = push(good.as_bytes(), &arguments);
    let version: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&version["version"], &version["metrics"]["rmse"]),
        (&json!(1), &json!(0.5))
    );
    assert_eq!(version["trainer"], Json::Null);
    for number in ["high", "nan", "1e999"] {
        let said = project.fails(&[
            "models",
            "push",
            "line",
            "--artifact",
            &project.at("model"),
            "--metric",
            &format!("auc={number}"),
        ]);
        assert!(
            said.contains(&format!("metric `auc`: `{number}` is not a number")),
            "{said}"
        );
    }

    for (arguments, wanted) in [
        (
            &["models", "show", "line@champion"][..],
            "model `line` has no alias `champion` (it has: none)",
        ),
        (
            &["models", "show", "line@7"],
            "model `line` has no version 7; its newest is 1",
        ),
        (
            &["models", "show", "lien"],
            "there is no model `lien`; did you mean `line`?",
        ),
        (
            &["models", "alias", "line@1", "Champion"],
            "`Champion` is not an alias",
        ),
        (
            &["models", "alias", "line@2", "champion"],
            "has no version 2",
        ),
        (
            &["release", "create", "--model", "line@champion"],
            "has no alias `champion`",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{said}");
    }
    project.ok(&["models", "alias", "line@1", "champion"]);
    push(good.as_bytes(), &[]);
    let champion = project.json(&["models", "show", "line@champion"]);
    assert_eq!(
        (&champion["version"], &champion["aliases"]),
        (&json!(1), &json!(["champion"]))
    );
    assert_eq!(project.json(&["models", "show", "line"])["version"], 2);
    project.ok(&["models", "alias", "line", "champion"]);
    assert_eq!(
        project.json(&["models", "show", "line@champion"])["version"],
        2
    );
    project.ok(&["models", "alias", "line", "champion", "--remove"]);
    assert!(
        project
            .fails(&["models", "show", "line@champion"])
            .contains("has no alias")
    );
}

#[test]
fn of_two_who_write_at_once_neither_is_lost() {
    let project = Arc::new(accounts(PUSHED));
    project.write("line.json", line(1.0));
    let pushers: Vec<_> = (0..3)
        .map(|_| {
            let project = Arc::clone(&project);
            std::thread::spawn(move || {
                for _ in 0..2 {
                    project.ok(&[
                        "models",
                        "push",
                        "line",
                        "--artifact",
                        &project.at("line.json"),
                    ]);
                }
            })
        })
        .collect();
    pushers
        .into_iter()
        .for_each(|pusher| pusher.join().unwrap());
    let versions = project.json(&["models", "list", "line"]);
    let numbers: Vec<_> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);

    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let project = Arc::clone(&project);
            std::thread::spawn(move || {
                for n in 0..4 {
                    project.ok(&[
                        "models",
                        "note",
                        "line@1",
                        "--tag",
                        &format!("t{writer}{n}=x"),
                    ]);
                }
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    let tags = project.json(&["models", "show", "line@1"])["tags"]
        .as_object()
        .unwrap()
        .len();
    assert_eq!(tags, 12);
}

#[test]
fn releases_bind_and_refuse_what_is_gone() {
    let project = accounts(PUSHED);
    released(&project, 2);
    let names: Vec<_> = project
        .json(&["release"])
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].clone())
        .collect();
    assert_eq!(names, ["r1", "r2"]);
    for (arguments, wanted) in [
        (
            &["release", "create", "r1", "--model", "line"][..],
            "there is a release `r1` already; releases do not change",
        ),
        (
            &["release", "create", "R 1", "--model", "line"],
            "`R 1` is not a name",
        ),
        (
            &["release", "create", "--model", "line@@"],
            "names no version of a model",
        ),
        (
            &["release", "show", "r11"],
            "there is no release `r11`; did you mean `r1`?",
        ),
        (
            &["endpoints", "set", "line", "r1=90", "r2=20"],
            "endpoint `line`: the weights add up to 110, not to 100",
        ),
        (
            &["endpoints", "set", "line", "r1=90", "r2"],
            "`r2` has no weight",
        ),
        (
            &["endpoints", "set", "line", "r9"],
            "there is no release `r9`",
        ),
        (
            &["endpoints", "set", "line", "r1", "--shadow", "r1"],
            "release `r1` is there twice",
        ),
        (
            &["endpoints", "set", "line", "r1", "--key", "key_c"],
            "reads no field `key_c` to route by; is `key_a` meant?",
        ),
        (
            &["endpoints", "set", "line", "r1", "--log", "200"],
            "`200` is not a percentage",
        ),
        (
            &["endpoints", "rollback", "line"],
            "there is no endpoint `line`",
        ),
        (
            &["endpoints", "remove", "line"],
            "there is no endpoint `line`",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{said}");
    }
    project.ok(&["endpoints", "set", "line", "r1"]);
    assert!(
        project
            .fails(&["endpoints", "rollback", "line"])
            .contains("there is nothing to go back to")
    );

    // Another version of a group that the release's view reads.
    project.replace(
        "[groups.last_entry]\n",
        "[groups.last_entry]\nversion = 2\n",
    );
    let outdated = "release `r1` of endpoint `line` reads version 1 of group `last_entry`, which is written no longer";
    for arguments in [&["plan"][..], &["apply", "--now"], &["endpoints"]] {
        let said = text(&project.command(arguments).output().unwrap());
        assert!(said.contains(outdated), "{arguments:?}: {said}");
    }
    let said = project.fails(&["release", "create", "--model", "line@1"]);
    assert!(
        said.contains(
            "it reads version 1 of group `last_entry`, which is written no longer: version 2 is"
        ),
        "{said}"
    );
    project.ok(&["release", "create", "--model", "line@1", "--present-view"]);
    let routed = ["endpoints", "set", "line", "r3"];
    let said = text(&project.command(&routed).output().unwrap());
    assert!(!said.contains("written no longer"), "{said}");

    if are_embedded() {
        let version = project.json(&["models", "show", "line@1"]);
        let snapshot = version["function"]["registered"]["snapshot"]
            .as_str()
            .unwrap()
            .to_owned();
        let hex = snapshot.trim_start_matches("sha256:");
        let path = project
            .path()
            .join(format!(".wafer/artifacts/blobs/{}/{hex}", &hex[..2]));
        std::fs::remove_file(path).unwrap();
        let said = project.fails(&["release", "create", "--model", "line@1", "--present-view"]);
        assert!(
            said.contains("function `linear` (") && said.contains("is gone from"),
            "{said}"
        );
    }
}

#[test]
fn endpoints_answer_by_the_open_inference_protocol() {
    let project = accounts(PUSHED);
    released(&project, 2);
    project.ok(&["endpoints", "set", "line", "r1"]);
    let server = project.serve(&[]);
    for (path, wanted) in [
        (
            "/v2",
            json!({"name": "wafer", "version": "0.1.0", "extensions": ["binary_tensor_data"]}),
        ),
        ("/v2/health/live", json!({"live": true})),
        ("/v2/health/ready", json!({"live": true, "ready": true})),
        (
            "/v2/models/line/ready",
            json!({"name": "line", "ready": true}),
        ),
        (
            "/v2/models/line/versions/r1/ready",
            json!({"name": "line", "ready": true}),
        ),
        (
            "/v2/models/line",
            json!({"name": "line", "versions": ["r1"], "platform": "wafer",
            "inputs": [{"name": "key_a", "datatype": "BYTES", "shape": [-1]}, {"name": "key_b", "datatype": "INT64", "shape": [-1]}],
            "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]}),
        ),
    ] {
        assert_eq!(server.get(path), (200, wanted), "{path}");
    }
    let mut asked = request(&["k001", "unknown"]);
    asked["id"] = json!("42");
    let prediction = |data: Json| json!([{"name": "prediction", "datatype": "FP64", "shape": [2], "data": data}]);
    let wanted = json!({"model_name": "line", "model_version": "r1", "id": "42", "outputs": prediction(json!([1.0, 1.0]))});
    assert_eq!(infer(&server, "line", &asked), (200, wanted.clone()));
    assert_eq!(infer(&server, "line/versions/r1", &asked), (200, wanted));

    let with = |pointer: &str, value: Json| {
        let mut request = request(&["k001", "k002"]);
        *request.pointer_mut(pointer).unwrap() = value;
        infer(&server, "line", &request)
    };
    for ((status, answer), wanted) in [
        (
            with("/inputs/0/name", json!("key_c")),
            "there is no input `key_c`; there are key_a, key_b",
        ),
        (
            with("/inputs/0/name", json!("key_b")),
            "input `key_b` is BYTES, and int64 is read from INT64",
        ),
        (
            with("/inputs/0/shape", json!([3])),
            "input `key_b` has 2 rows, and `key_a` has 3",
        ),
        (
            with("/inputs/0/shape", json!([2, 2])),
            "utf8 has [rows] or [rows, 1]",
        ),
        (with("/inputs/0/shape", json!([])), "has no shape"),
        (
            with("/inputs/0/shape", json!([-1])),
            "the body is no inference request",
        ),
        (
            with("/inputs/0/data", json!(["k001"])),
            "has 1 elements, and shape [2] says 2",
        ),
        (
            with("/inputs/1/data", json!([1.5, 2])),
            "element 0 is 1.5, and not INT64",
        ),
        (
            with("/inputs/1/datatype", json!("INT7")),
            "datatype `INT7` is not taken",
        ),
        (with("/inputs", json!([])), "there are no inputs"),
        (
            with("/inputs", json!({})),
            "the body is no inference request",
        ),
        (
            with(
                "/inputs/1",
                json!({"name": "key_b", "datatype": "INT64", "shape": [2]}),
            ),
            "input `key_b` has no data",
        ),
    ] {
        assert_eq!(status, 400, "{answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    let mut partial = request(&["k001"]);
    partial["inputs"].as_array_mut().unwrap().pop();
    let (status, answer) = infer(&server, "line", &partial);
    assert_eq!(
        (status, answer),
        (
            400,
            json!({"error": "row 0: field `key_b` (int64): is missing"})
        )
    );
    let mut wrong = request(&["k001"]);
    wrong["outputs"] = json!([{"name": "score"}]);
    assert_eq!(
        infer(&server, "line", &wrong),
        (
            400,
            json!({"error": "there is no output `score`; there are prediction"})
        )
    );
    // A request that was answered above, but for a byte.
    let mut not_utf8 = request(&["k001"]).to_string().into_bytes();
    let place = not_utf8.windows(4).position(|w| w == b"k001").unwrap();
    not_utf8[place] = 0xff;
    let (status, answer) = server.post("/v2/models/line/infer", "application/json", not_utf8);
    assert_eq!(status, 400, "{answer}");
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("invalid unicode code point"), "{said}");
    for path in ["lien", "line/versions/r2"] {
        let (status, answer) = infer(&server, path, &request(&["k001"]));
        assert_eq!(status, 404, "{answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    let (status, answer) = server.get("/v2/nothing");
    assert_eq!(
        (status, answer),
        (404, json!({"error": "there is no /v2/nothing"}))
    );
    assert_eq!(
        server.get("/v2/models/line/infer"),
        (
            404,
            json!({"error": "/v2/models/line/infer does not take GET"})
        )
    );
    server.stop();
}

#[test]
fn rows_stay_with_their_release_by_key() {
    let project = accounts(PUSHED);
    released(&project, 2);
    project.ok(&[
        "endpoints",
        "set",
        "line",
        "r1=50",
        "r2=50",
        "--key",
        "key_a",
    ]);
    let server = project.serve(&[]);
    let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (status, answer) = infer(&server, "line", &request(&keys));
    assert_eq!(status, 200, "{answer}");
    let together: Vec<f64> = answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    let versions = answer["parameters"]["versions"].as_str().unwrap();
    let wanted: Vec<_> = together.iter().map(|v| format!("r{v}")).collect();
    assert_eq!(versions, wanted.join(","));
    let of_r1 = together.iter().filter(|v| **v == 1.0).count();
    assert!((25..=75).contains(&of_r1), "{of_r1}");
    for (key, wanted) in keys.iter().zip(&together).take(20) {
        let (_, answer) = infer(&server, "line", &request(&[key]));
        assert_eq!(answer["outputs"][0]["data"], json!([wanted]), "{key}");
    }
    server.stop();
}

/// Makes these versions of `line`, each with a version of the view that has a function of its
/// own, and releases them: the first answers 11, the second 22, the third 33, and anything else
/// would be of two at once. The function ends for the account `trap`.
pub(crate) fn released_whole(project: &Project, versions: RangeInclusive<u32>) {
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
        let file = project.write("line.json", model).display().to_string();
        project.ok(&["models", "push", "line", "--artifact", &file]);
        project.ok(&["release", "create", "--model", &format!("line@{n}")]);
    }
}

/// Ends what runs until it is over, also when a test fails.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Switches an endpoint between its releases `r1` and `r2` six times, the last time back, while
/// others ask it for three accounts; `check` looks at each answer and says of which of the
/// two it is.
fn switch_under_load(project: &Project, endpoint: &'static str, check: fn(&Json) -> usize) {
    project.ok(&["endpoints", "set", endpoint, "r1"]);
    let server = Arc::new(project.serve(&[]));
    let over = Arc::new(AtomicBool::new(false));
    let ended = Over(Arc::clone(&over));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, over) = (Arc::clone(&server), Arc::clone(&over));
            std::thread::spawn(move || {
                let request = request(&["k001", "k002", "k200"]);
                let mut seen = [0u64; 2];
                while !over.load(Ordering::Relaxed) {
                    let (status, answer) = infer(&server, endpoint, &request);
                    assert_eq!(status, 200, "{answer}");
                    seen[check(&answer)] += 1;
                }
                seen
            })
        })
        .collect();
    // What a switch that was answered says holds from a moment later on.
    for n in 0..6 {
        let release = if n % 2 == 0 { "r2" } else { "r1" };
        match n {
            5 => project.ok(&["endpoints", "rollback", endpoint]),
            _ => project.ok(&["endpoints", "set", endpoint, release]),
        };
        let switched = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            infer(&server, endpoint, &request(&["k001"])).1["model_version"] == release
        });
        assert!(switched, "to {release}");
    }
    drop(ended);
    let seen: Vec<[u64; 2]> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    for release in 0..2 {
        assert!(seen.iter().any(|seen| seen[release] > 0), "{seen:?}");
    }
    Arc::into_inner(server).unwrap().stop();
}

#[test]
fn switching_under_load_drops_and_mixes_nothing() {
    let project = accounts(PUSHED);
    released_whole(&project, 1..=2);
    switch_under_load(&project, "line", |answer| {
        let (release, wanted) = match answer["model_version"].as_str().unwrap() {
            "r1" => (0, json!([11.0, 11.0, 11.0])),
            _ => (1, json!([22.0, 22.0, 22.0])),
        };
        assert_eq!(answer["outputs"][0]["data"], wanted);
        release
    });
}

/// What is answered is of one release, also when the next one answers with other columns.
#[test]
fn a_switch_to_other_outputs_is_whole() {
    switch_under_load(&line_and_classes(), "any", |answer| {
        let outputs = answer["outputs"].as_array().unwrap().iter();
        let texts = outputs.map(|output| format!("{} {}", output["name"], output["datatype"]));
        let texts: Vec<String> = texts.collect();
        let (release, wanted) = match answer["model_version"].as_str().unwrap() {
            "r1" => (0, &[r#""prediction" "FP64""#][..]),
            _ => (
                1,
                &[r#""prediction" "INT64""#, r#""probabilities" "FP64""#][..],
            ),
        };
        assert_eq!(texts, wanted, "{answer}");
        release
    });
}

/// Two releases: `r1` answers with a number, `r2`, of three classes, with a class and
/// probabilities.
fn line_and_classes() -> Project {
    let other = r#"
[models.high]
view = "account"
label = "y"
function = "trees"
"#;
    let project = accounts(&format!("{PUSHED}{other}"));
    released(&project, 1);
    let text = std::fs::read_to_string(repository().join("tests/models/classes.txt")).unwrap();
    let file = project.write("classes.txt", text).display().to_string();
    project.ok(&["models", "push", "high", "--artifact", &file]);
    project.ok(&["release", "create", "--model", "high"]);
    project
}

#[test]
fn releases_of_an_endpoint_answer_alike() {
    let project = line_and_classes();
    let said = project.fails(&["endpoints", "set", "both", "r1=50", "r2=50"]);
    assert!(
        said.contains("releases `r1` and `r2` answer differently: prediction float64 and prediction int64, probabilities list<float64>"),
        "{said}"
    );
    // Only what is asked for is answered, in that order.
    project.ok(&["endpoints", "set", "classes", "r2"]);
    let server = project.serve(&[]);
    let asked = |outputs: &[&str]| {
        let mut request = request(&["k001", "k200"]);
        if !outputs.is_empty() {
            let outputs = outputs.iter().map(|name| json!({"name": name}));
            request["outputs"] = outputs.collect();
        }
        let (status, answer) = infer(&server, "classes", &request);
        assert_eq!(status, 200, "{answer}");
        let outputs = answer["outputs"].as_array().unwrap().iter();
        let names = outputs.map(|output| output["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(asked(&[]), ["prediction", "probabilities"]);
    assert_eq!(asked(&["probabilities"]), ["probabilities"]);
    assert_eq!(asked(&["prediction"]), ["prediction"]);
    assert_eq!(
        asked(&["probabilities", "prediction"]),
        ["probabilities", "prediction"]
    );
    server.stop();
}

#[test]
fn a_training_set_is_fed_as_often_as_it_is_asked_for() {
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
    // 159 of 300 labels are 1.
    let variance = report["version"]["metrics"]["variance"].as_f64().unwrap();
    assert!((variance - 0.53 * 0.47).abs() < 1e-12, "{variance}");
    let said = project.fails(&["train", "line", "--set", "passes=2"]);
    assert!(
        said.contains("parameter `passes`: there are none"),
        "{said}"
    );
}

#[test]
fn what_was_fitted_is_applied_in_training_and_serving() {
    let fit = guest("fit_preprocess");
    let preprocess = guest("preprocess");
    let functions = |assets: &str| {
        format!(
            r#"
[functions.fit]
component = "{fit}"
parameters = {{ scale = "last_small", mean = "last_label_text" }}

[functions.fitted]
component = "{preprocess}"

{assets}

[models.encoders]
view = "account"
label = "y"
trainer = "fit"
function = "fitted"
training = {{ labels = "labels.csv" }}
"#,
            fit = fit.display(),
            preprocess = preprocess.display()
        )
    };
    let project = accounts(&functions("# encode"));
    project.ok(&["train", "encoders"]);
    // The same component, with what the training made, in a view.
    let encode = |asset: &str| {
        format!(
            "[functions.encode]\ncomponent = \"{}\"\nassets = {{ fitted = \"{asset}\" }}\n\n[views.encoded]\n\
             lookups = [{{ group = \"last_entry\", as = \"last\" }}]\nfunctions = [\"encode\"]\n",
            preprocess.display()
        )
    };
    let mut before = "# encode".to_owned();
    for (asset, wanted) in [
        (
            "model:encoder@1",
            "functions.encode.assets.fitted: there is no model `encoder`; did you mean `encoders`?",
        ),
        (
            "model:encoders@@",
            "`encoders@@` names no version of a model",
        ),
        (
            "model:encoders@2",
            "functions.encode.assets.fitted: model `encoders` has no version 2; its newest is 1",
        ),
        (
            "model:encoders@1/fited",
            "functions.encode.assets.fitted: there is no artifact `fited`; did you mean `fitted`?",
        ),
    ] {
        let after = encode(asset);
        project.replace(&before, &after);
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
        before = after;
    }
    project.replace(&before, &encode("model:encoders"));
    project.ok(&["check"]);
    project.ok(&["apply"]);
    let view = project.json(&[
        "get",
        "encoded",
        "key_a=k000",
        "key_b=1",
        "--clock",
        "2020-01-05T00:00:00Z,0",
    ]);
    let encoded = &view["features"];
    // 0 to 299, each once: the mean is 149.5, the variance (300² - 1) / 12.
    let scaled = encoded["last_small_scaled"].as_f64().unwrap();
    let wanted = -149.5 / (89_999.0f64 / 12.0).sqrt();
    assert!((scaled - wanted).abs() < 1e-12, "{scaled}");
    let rate = encoded["last_label_text_mean"].as_f64().unwrap();
    assert!((rate - 159.0 / 300.0).abs() < 1e-9, "{rate}");
    // In a training set the same, to the last bit.
    project.write(
        "two.csv",
        "key_a,key_b,event_timestamp\nk000,1,2020-01-05T00:00:00Z\n",
    );
    project.training_set("encoded", "two.csv", "out.parquet");
    let rows = crate::harness::rows_of(&project.path().join("out.parquet"));
    assert_eq!(rows[0]["last_small_scaled"], encoded["last_small_scaled"]);
    assert_eq!(
        rows[0]["last_label_text_mean"],
        encoded["last_label_text_mean"]
    );
}

#[test]
fn trainers_that_misbehave_are_refused_with_the_reason() {
    let model = r#"
[models.line]
view = "account"
label = "y"
trainer = "mistrained"
function = "linear"
training = { labels = "labels.csv" }
"#;
    let project = accounts(model);
    let set = project.json(&["train", "line"]);
    assert_eq!(set["version"]["version"], 1);
    let set = set["version"]["training_set"].as_str().unwrap().to_owned();
    let train = |mode: &str| {
        let mode = format!("mode={mode}");
        let arguments = ["train", "line", "--training-set", &set, "--set", &mode];
        project.fails(&arguments)
    };
    for (mode, wanted) in [
        ("panic-in-begin", "`mistrained` trapped"),
        ("panic-in-feed", "`mistrained` trapped"),
        ("panic-in-next-pass", "`mistrained` trapped"),
        ("panic-in-finish", "`mistrained` trapped"),
        ("panic-in-read", "`mistrained` trapped"),
        (
            "refuse-in-begin",
            "`mistrained` could not be initialised: as asked",
        ),
        ("refuse-in-feed", "`mistrained` could not train: as asked"),
        (
            "refuse-in-next-pass",
            "`mistrained` could not train: as asked",
        ),
        ("refuse-in-finish", "`mistrained` could not train: as asked"),
        (
            "spin-in-begin",
            "took longer than 1s to initialise (setting `init_time`)",
        ),
        (
            "spin-in-feed",
            "trained longer than 1s in one call (setting `train_time`)",
        ),
        ("spin-in-finish", "(setting `train_time`)"),
        (
            "grow-in-begin",
            "needs more memory than 64 MiB (setting `memory`)",
        ),
        ("grow-in-feed", "(setting `memory`)"),
        (
            "endless-passes",
            "wish for another pass after 10000, which is the most",
        ),
        ("no-columns", "describes itself wrongly: columns"),
        (
            "unknown-column",
            "asks for column `last_smal` (int64), which there is not; is `last_small` meant?",
        ),
        (
            "other-type",
            "column `last_small` is int64, and function `mistrained` asks for utf8",
        ),
        ("no-artifact", "returned something invalid: no artifact"),
        ("artifact-name", "`../model` as the name of an artifact"),
        ("artifact-twice", "`model` as the name of an artifact"),
        (
            "many-artifacts",
            "100 artifacts and 0 metrics; there are at most 64 and 1000",
        ),
        ("huge-artifact", "each has at most 2 GiB"),
        (
            "huge-artifacts",
            "artifacts of 4 GiB, and it has 64 MiB of memory",
        ),
        ("metric-name", "xxx` as the name of a metric"),
        ("metric-twice", "`a` as the name of a metric"),
        (
            "reads-nothing",
            "0 bytes of artifact `model` from byte 0 on",
        ),
        ("reads-little", "1 bytes of artifact `model` from byte 0 on"),
        (
            "reads-much",
            "2097152 bytes of artifact `model` from byte 0 on",
        ),
    ] {
        let said = train(mode);
        assert!(
            said.contains(wanted) && said.len() < 4_000,
            "{mode}: {said}"
        );
    }
    // A number that is none is left out, with a word; what is kept can be read.
    let set = format!("--training-set={set}");
    let report = project.json(&["train", "line", &set, "--set", "mode=endless-metrics"]);
    assert_eq!(report["version"]["metrics"], json!({"c": 0.5}));
    assert_eq!(
        project.json(&["models", "show", "line@2"])["metrics"],
        json!({"c": 0.5})
    );
    project.ok(&["lineage", "function", "mistrained"]);
}

/// What a release reads may get columns that it does not know of.
#[test]
fn a_release_goes_on_when_its_group_gets_a_column() {
    let project = accounts(PUSHED);
    project.replace(
        "[groups.last_entry]\n",
        "[groups.last_entry]\nversion = 2\ncolumns = [\"small\", \"label_text\"]\n",
    );
    project.ok(&["apply", "--now"]);
    let model = json!({"intercept": 0, "coefficients": {"last_small": 1}}).to_string();
    let file = project.write("small.json", model).display().to_string();
    project.ok(&["models", "push", "line", "--artifact", &file]);
    project.ok(&["release", "create", "--model", "line"]);
    project.ok(&["endpoints", "set", "line", "r1", "--log", "100"]);
    let server = project.serve(&["--clock", "2020-02-01T00:00:00Z,0"]);
    let push = |small: i64, minute: u32| {
        let time = format!("2020-01-31T23:{minute:02}:00Z");
        let event = entry("k001", &time, small, 0.5, "x");
        assert_eq!(server.events("entries", &lines(&[event])).0, 200);
    };
    let predicted = || {
        let (status, answer) = infer(&server, "line", &request(&["k001"]));
        assert_eq!(status, 200, "{answer}");
        answer["outputs"][0]["data"][0].as_f64().unwrap()
    };
    push(5, 0);
    assert_eq!(predicted(), 5.0);
    project.replace(
        "columns = [\"small\", \"label_text\"]",
        "columns = [\"small\", \"label_text\", \"amount\"]",
    );
    project.ok(&["apply"]);
    let knows = || {
        let body = json!({"rows": [{"key_a": "k001", "key_b": 1}]}).to_string();
        let (_, answer) = server.post("/v1/views/account/features", "application/json", body);
        answer["rows"][0]["features"].get("last_amount").is_some()
    };
    assert!((0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        knows()
    }));
    push(6, 30);
    assert_eq!(predicted(), 6.0);
    server.stop();
    assert_eq!(project.json(&["skew", "line"])["mismatches"], 0);
}

#[test]
fn a_column_of_the_labels_called_split_shares_nothing_out() {
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
fn training_sets_that_models_came_of_are_not_deleted_by_mistake() {
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
    // Nobody learns from a part that has no rows.
    project.replace("train<2020-01-03", "train<2019-01-03");
    project.ok(&["apply"]);
    let said = project.fails(&["train", "high"]);
    assert!(
        said.contains("has no row with a label `y` in a part `train`"),
        "{said}"
    );
}
