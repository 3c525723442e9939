//! Versions of models: how they are pushed, checked, annotated and found.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::harness::accounts::{PUSHED, accounts, line};

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
        "model `line` was not registered: function `linear` could not be initialised: asset `model` is not a linear model",
    );
    refused(b"\xff\xfe", "asset `model` is not a linear model");
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

    // These artifacts are too large, for this function and for any.
    for (size, wanted) in [
        (
            1u64 << 30,
            "has 1 GiB, and function `linear` has 64 MiB of memory: raise its `memory`",
        ),
        (3 << 30, "an artifact has at most 2 GiB"),
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
fn model_versions_and_tags_written_at_once_are_all_kept() {
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
