//! The stores on AWS: sources on S3, artifacts, capacity units, and wrong settings.

use serde_json::json;

use crate::harness::lambda::{Lambda, request_v2};
use crate::harness::ledger::{entry, ledger, lines};
use crate::harness::{Project, are_on_aws};

#[test]
fn sources_are_read_from_s3() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("");
    let day = |id: i64| entry("a", &format!("2020-01-0{id}T00:00:00Z"), id, 1.0, "x");
    project.write_object("in/b.ndjson", lines(&[day(2)]));
    let first = project.write_object("in/a.ndjson", lines(&[day(1)]));
    project.write_object("in/c.csv", "no,such,columns\n");
    project.write_object("in/deeper/d.ndjson", lines(&[day(4)]));
    let pattern = first.replace("a.ndjson", "*.ndjson");
    project.replace(
        "path = \"entries.ndjson\"",
        &format!("path = \"{pattern}\""),
    );
    project.ok(&["apply"]);
    let run = project.json(&["run", "sums"]);
    assert_eq!(run["rows_written"], 2, "{run}");
    // With the same files there is nothing to do. With other content, the interval is replaced.
    assert_eq!(project.json(&["run", "sums"])["generation"], 1);
    project.write_object("in/a.ndjson", lines(&[day(1), day(3)]));
    let run = project.json(&["run", "sums"]);
    assert_eq!(
        (&run["generation"], &run["rows_written"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(project.offline_rows("sums_v1").len(), 3);
    // A row that cannot be read is reported with the URL of the object and the line.
    project.write_object("in/b.ndjson", "{oops\n");
    let run = project.json(&["run", "sums"]);
    let place = run["rejects"][0]["place"].as_str().unwrap();
    assert!(
        place.ends_with("/in/b.ndjson:1") && place.starts_with("s3://"),
        "{run}"
    );
    project.replace("*.ndjson", "*.parquet");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "sums"]);
    assert!(said.contains("there are no files s3://"), "{said}");
}

/// Artifacts from S3 are compared with the digest in their name. Damaged code is compiled again
/// where there is a compiler, and refused where there is none. Damaged components and definitions
/// are refused.
#[test]
fn damaged_artifacts_are_not_used() {
    if !are_on_aws() {
        return;
    }
    let content = lines(&[entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x")]);
    let project = ledger("").applied_with("entries.ndjson", &content);
    let forget_copies =
        || std::fs::remove_dir_all(project.path().join(".wafer/artifacts")).unwrap();
    let damage = |keys: Vec<String>| {
        for key in keys {
            project.write_object(&key, "x");
        }
    };
    let code = || project.objects("project/artifacts/compiled/");
    let blobs = project.objects("project/artifacts/blobs/").into_iter();
    let is_component = |key: &String| project.read_object(key).starts_with(b"\0asm");
    let (components, definitions): (Vec<_>, Vec<_>) = blobs.partition(is_component);
    damage(code());
    let lambda = Lambda::start(&project, &[]);
    let event = entry("b", "2020-01-01T00:00:00Z", 1, 1.0, "x").to_string();
    let push = || lambda.ok(request_v2("POST", "/v1/sources/entries/events", &event));
    let answer = push();
    assert_eq!(answer["statusCode"], 500, "{answer}");
    forget_copies();
    project.ok(&["run", "sums"]);
    damage(code());
    damage(components);
    forget_copies();
    let refused = |what: &str| {
        let said = project.fails(&["run", "last_entry"]);
        for part in [what, "is damaged: it is not what its name says"] {
            assert!(said.contains(part), "{said}");
        }
    };
    refused("artifact");
    damage(definitions);
    forget_copies();
    refused("generation 1 of the definitions of `ledger`");
}

#[test]
fn capacity_units_of_dynamodb_are_counted() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let server = project.serve(&[]);
    server.events(
        "entries",
        &lines(&[entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x")]),
    );
    for _ in 0..3 {
        server.features("account", &json!([{"key_a": "a", "key_b": 1}]));
    }
    let metrics = server.metrics();
    let value = |start: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("{start} is not in {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // A feature vector over two groups takes one call, and a unit for each small item.
    let of_view = r#"{work="view/account",action="BatchGetItem"}"#;
    assert_eq!(value(&format!("wafer_store_calls_total{of_view}")), 3.0);
    assert!(value(&format!("wafer_store_capacity_units_total{of_view}")) >= 6.0);
    let of_source = r#"{work="source/entries",action="PutItem"}"#;
    assert!(value(&format!("wafer_store_calls_total{of_source}")) >= 2.0);
}

#[test]
fn errors_of_wrong_store_settings_say_what_to_do() {
    let project = Project::new("[project]\nname = \"p\"\n");
    let apply = |settings: &[(&str, &str)]| {
        let mut command = project.command(&["apply"]);
        command
            .env_remove("WAFER_STORE_ONLINE")
            .env_remove("WAFER_STORE_OBJECTS")
            .envs(settings.iter().copied());
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{settings:?}");
        crate::harness::text(&output)
    };
    let (online, objects) = ("WAFER_STORE_ONLINE", "WAFER_STORE_OBJECTS");
    for (settings, wanted) in [
        (
            vec![(online, "dynamodb://t")],
            "set `store.objects` as well",
        ),
        (vec![(objects, "s3://b")], "set `store.online` as well"),
        (
            vec![(online, "redis://t"), (objects, "s3://b")],
            "store.online: `redis://t` is not of the form dynamodb://TABLE",
        ),
        (
            vec![(online, "dynamodb://t"), (objects, "/tmp")],
            "WAFER_STORE_OBJECTS: `/tmp` is not a URL such as s3://BUCKET/FOLDER",
        ),
        (
            vec![(online, "dynamodb://t\u{1b}[2J"), (objects, "s3://b")],
            "WAFER_STORE_ONLINE: its value has the control character U+001B",
        ),
    ] {
        let said = apply(&settings);
        assert!(said.contains(wanted), "{said}");
    }
    let both = [(online, "dynamodb://t?reads=never"), (objects, "s3://b/f")];
    let said = apply(&both);
    if cfg!(feature = "aws") {
        assert!(
            said.contains("write region=REGION, reads=consistent"),
            "{said}"
        );
        let said = apply(&[(online, "dynamodb://t"), (objects, "s3://b/f?x=1")]);
        let wanted = "`s3://b/f?x=1` has more than a bucket and a folder";
        assert!(said.contains(wanted), "{said}");
        let missing = [
            (online, "dynamodb://t"),
            (objects, "s3://b/f"),
            ("AWS_REGION", ""),
        ];
        let said = apply(
            &[
                &missing[..],
                &[("AWS_CONFIG_FILE", "/dev/null"), ("AWS_PROFILE", "")],
            ]
            .concat(),
        );
        assert!(said.contains("no AWS region: set AWS_REGION"), "{said}");
        let nobody = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let said = apply(&[&missing[..2], &nobody].concat());
        assert!(
            said.contains("no AWS credentials: set AWS_PROFILE"),
            "{said}"
        );
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "a\nb"),
            ("AWS_SECRET_ACCESS_KEY", "a\u{7f}"),
            ("AWS_SESSION_TOKEN", "a b"),
            ("AWS_REGION", "us-east-1\t"),
            ("AWS_ENDPOINT_URL", "http://a b"),
            ("AWS_ENDPOINT_URL_S3", "localhost:9000"),
            ("AWS_ENDPOINT_URL_STS", "http://\u{1b}[2J"),
        ] {
            let said = apply(&[&missing[..2], &[(name, value)]].concat());
            let is_named = said.contains(&format!("{name}: "));
            assert!(is_named && !said.contains("panicked"), "{said}");
        }
    } else {
        assert!(said.contains("built without AWS"), "{said}");
    }
}
