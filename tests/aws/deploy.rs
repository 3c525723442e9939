//! `wafer deploy`: what it copies and compiles for AWS, and what it writes for Terraform.

use serde_json::{Value as Json, json};

use crate::harness::accounts::{PUSHED, accounts, release_with_views};
use crate::harness::lambda::{Lambda, request_v2};
use crate::harness::ledger::{event, ledger};
use crate::harness::{Project, are_on_aws};

const STORES: [(&str, &str); 3] = [
    ("WAFER_STORE_ONLINE", "dynamodb://flights?region=eu-west-1"),
    ("WAFER_STORE_OBJECTS", "s3://bucket/some/folder"),
    ("AWS_REGION", ""),
];

/// Returns the variables that were written for Terraform.
fn variables(project: &Project, file: &str) -> Json {
    let path = project.path().join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn deploy_writes_the_variables_of_terraform_without_aws() {
    let project = ledger("");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\nschedule = { cron = \"0 6 * * 1-5\", timezone = \"Europe/Berlin\" }",
    );
    let deploy = |more: &[&str], settings: &[(&str, &str)]| {
        let mut command = project.command(&[&["deploy", "--prepare"], more].concat());
        command
            .env_remove("WAFER_STORE_ONLINE")
            .env_remove("WAFER_STORE_OBJECTS");
        let output = command.envs(settings.iter().copied()).output().unwrap();
        (output.status.success(), crate::harness::text(&output))
    };
    let (is_ok, said) = deploy(&[], &[]);
    assert!(
        !is_ok && said.contains("nothing says where to deploy to"),
        "{said}"
    );
    let (is_ok, said) = deploy(&["--arch", "arm64"], &STORES);
    if !cfg!(feature = "aws") {
        assert!(!is_ok && said.contains("built without AWS"), "{said}");
        return;
    }
    assert!(is_ok && said.contains("run `terraform apply`"), "{said}");
    let wanted = json!({
        "project": "ledger", "region": "eu-west-1", "table": "flights", "bucket": "bucket", "folder": "some/folder",
        "architecture": "arm64", "streams": ["entries"],
        "schedules": {"sums": {"expressions": ["cron(0 6 ? * 2,3,4,5,6 *)"], "timezone": "Europe/Berlin"}},
    });
    assert_eq!(variables(&project, "infra/terraform.tfvars.json"), wanted);
    let (is_ok, said) = deploy(&["--arch", "arm64"], &STORES);
    assert!(is_ok && said.contains("is as it was"), "{said}");
    let file = project.at("other.json");
    let (is_ok, _) = deploy(&["--tfvars", &file], &STORES);
    assert!(is_ok);
    assert_eq!(variables(&project, "other.json")["architecture"], "x86_64");
    let nowhere = [
        STORES[1],
        STORES[2],
        ("WAFER_STORE_ONLINE", "dynamodb://flights"),
    ];
    let (is_ok, said) = deploy(&[], &[&nowhere[..], &[("AWS_DEFAULT_REGION", "")]].concat());
    assert!(!is_ok && said.contains("no AWS region"), "{said}");
    for (setting, value, wanted) in [
        (0, "dynamodb://t", "no table on DynamoDB can be called `t`"),
        (
            1,
            "s3://MY-BUCKET/flights",
            "no bucket on S3 can be called `MY-BUCKET`: it has `M`",
        ),
        (1, "s3://bucket/some/folder?x", "has more than a bucket"),
    ] {
        let mut stores = STORES;
        stores[setting].1 = value;
        stores[2].1 = "eu-west-1";
        let file = project.at("refused.json");
        let (is_ok, said) = deploy(&["--tfvars", &file], &stores);
        assert!(!is_ok && said.contains(wanted), "{value}: {said}");
        assert!(!std::fs::exists(&file).unwrap(), "{value}");
    }
    let long = "ledger".repeat(8);
    project.replace("name = \"ledger\"", &format!("name = \"{long}\""));
    let (is_ok, said) = deploy(&[], &STORES);
    assert!(
        !is_ok && said.contains("has 48 characters, and on AWS it may have 42"),
        "{said}"
    );
    project.replace(&long, "ledger");
    project.replace("cron = \"0 6 * * 1-5\"", "cron = \"sometimes\"");
    let (is_ok, said) = deploy(&[], &STORES);
    assert!(
        !is_ok && said.contains("`sometimes` is not a cron expression"),
        "{said}"
    );
}

#[test]
fn deploy_copies_compiles_and_applies_a_project() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("");
    std::fs::create_dir(project.path().join("in")).unwrap();
    let write = |file: &str, n: i64| {
        project.write(
            &format!("in/{file}"),
            format!("{}\n", event(&format!("k{n}"), n)),
        )
    };
    write("a b.ndjson", 1);
    let gone = write("b.ndjson", 2);
    project.replace("path = \"entries.ndjson\"", "path = \"in/*.ndjson\"");
    // Functions on AWS could not read these files where they are.
    let output = project.command(&["apply"]).output().unwrap();
    let said = crate::harness::text(&output);
    assert!(
        said.contains("the files of entries are on this machine"),
        "{said}"
    );
    let report = project.json(&["deploy"]);
    let copied: Vec<&str> = report["copied"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Json::as_str)
        .collect();
    let (_, objects) = project.cloud_urls();
    let at = |file: &str| format!("{objects}/sources/entries/{file}");
    assert_eq!(copied, [at("a%20b.ndjson"), at("b.ndjson")]);
    // After the deployment the local files are not needed any more.
    std::fs::remove_file(&gone).unwrap();
    let lambda = Lambda::start(&project, &[]);
    let run = |lambda: &Lambda| {
        let task = |name: &str, more: Json| lambda.task(name, more);
        let planned = task("plan", json!({"pipeline": "sums"}));
        let run = &planned["run"];
        task("partition", json!({"run": run, "partition": 0}));
        task("commit", json!({"run": run}));
        task("finish", json!({"run": run}))["ran"]["rows_written"].clone()
    };
    assert_eq!(run(&lambda), 2);
    // Files that did not change are not copied again, and files that were removed are removed
    // there.
    write("c.ndjson", 3);
    let report = project.json(&["deploy"]);
    assert_eq!(report["copied"], json!([at("c.ndjson")]));
    assert_eq!(report["tfvars_changed"], false);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(run(&lambda), 2);
    let ids: Vec<Json> = project
        .offline_rows("sums_v1")
        .iter()
        .map(|row| row["key_a"].clone())
        .collect();
    assert!(
        ids.contains(&json!("k3")) && !ids.contains(&json!("k2")),
        "{ids:?}"
    );
    // A deployment replaces code that another version compiled, and functions find the new code.
    project.remove_compiled_code();
    let lambda = Lambda::start(&project, &[("WAFER_COPIES", &project.at("other"))]);
    let push = || {
        lambda.ok(request_v2(
            "POST",
            "/v1/sources/entries/events",
            &event("p", 1),
        ))
    };
    assert_eq!(push()["statusCode"], 500);
    assert_eq!(project.json(&["deploy"])["compiled"], json!(["ledger"]));
    assert_eq!(push()["statusCode"], 200);
    // The same holds for other processors.
    let report = project.json(&["deploy", "--arch", "arm64"]);
    assert_eq!(report["compiled"], json!(["ledger"]));
    assert_eq!(
        variables(&project, "infra/terraform.tfvars.json")["architecture"],
        "arm64"
    );
}

/// A release that is made after the deployment is compiled for the processors of Lambda as well,
/// because functions there have no compiler.
#[test]
fn releases_are_compiled_for_the_processors_of_the_deployment() {
    if !are_on_aws() {
        return;
    }
    let project = accounts(PUSHED);
    let deploy = || project.json(&["deploy", "--arch", "arm64"])["compiled"].clone();
    // This version is registered before the project was deployed, and has a function of the view.
    release_with_views(&project, 1..=1);
    assert_eq!(deploy(), json!(["ledger", "offset"]));
    project.ok(&["endpoints", "set", "line", "r1"]);
    assert_eq!(deploy(), json!([]));
    let model = json!({"intercept": 2, "coefficients": {"offset": 1}});
    project.push_model("line", "line.json", model.to_string());
    project.ok(&["release", "create", "--model", "line@2"]);
    project.ok(&["endpoints", "set", "line", "r2"]);
    assert_eq!(deploy(), json!([]));
    // A deployment replaces code of another version, for the releases that endpoints route to and
    // for those that they routed to before.
    project.remove_compiled_code();
    let compiled = deploy();
    let mut compiled: Vec<_> = compiled.as_array().unwrap().iter().collect();
    compiled.sort_by_key(|name| name.to_string());
    assert_eq!(compiled, ["ledger", "linear", "linear", "offset"]);
}
