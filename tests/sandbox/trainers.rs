//! Trainers that misbehave are stopped, and the error says why.

use serde_json::json;

use crate::harness::accounts::accounts;

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
            "asks for column `last_smal` (int64), and the training set has no such column; is \
             `last_small` meant?",
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
    // A metric that is not a finite number is left out with a warning. The others can be read.
    let set = format!("--training-set={set}");
    let report = project.json(&["train", "line", &set, "--set", "mode=endless-metrics"]);
    assert_eq!(report["version"]["metrics"], json!({"c": 0.5}));
    assert_eq!(
        project.json(&["models", "show", "line@2"])["metrics"],
        json!({"c": 0.5})
    );
    project.ok(&["lineage", "function", "mistrained"]);
}
