//! Runs on AWS: the command that starts one, the state machine that Terraform makes, and the Lambda
//! function, all on a server of this machine.

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::harness::lambda::bootstrap;
use crate::harness::ledger::{entries_on_s3, entry, event, ledger};
use crate::harness::{Project, agent, are_on_aws, endpoint, terraform};

const ROLE: &str = "arn:aws:iam::000000000000:role/wafer";

/// Sends a request to a service of the local server, which must succeed.
fn call_service(service: &str, path: &str, target: Option<&str>, body: &Json) -> Json {
    let scope = service.to_lowercase();
    let signed = format!(
        "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/{scope}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let mut request = agent()
        .post(format!("{}{path}", endpoint(service)))
        .header("X-Amz-Date", "20200101T000000Z")
        .header("Authorization", &signed);
    let mut content_type = "application/json";
    if let Some(target) = target {
        request = request.header("X-Amz-Target", target);
        content_type = "application/x-amz-json-1.0";
    }
    let answer = request
        .header("Content-Type", content_type)
        .send(body.to_string());
    let mut answer = answer.unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    assert!(answer.status().is_success(), "{path}: {text}");
    serde_json::from_str(&text).unwrap_or(Json::Null)
}

/// Makes a Lambda function of the program that was built, for a project, and returns its ARN.
fn function(project: &Project, name: &str) -> String {
    let script = format!("#!/bin/sh\nexec '{}'\n", bootstrap().display());
    let path = project.write("bootstrap", script);
    let zip = project.path().join("bootstrap.zip");
    let pack = "import sys, zipfile, base64\n\
                path, out = sys.argv[1:]\n\
                info = zipfile.ZipInfo('bootstrap')\n\
                info.external_attr = 0o755 << 16\n\
                with zipfile.ZipFile(out, 'w') as zip: zip.writestr(info, open(path).read())\n\
                print(base64.b64encode(open(out, 'rb').read()).decode(), end='')\n";
    let packed = Command::new("python3")
        .args(["-c", pack])
        .args([&path, &zip])
        .output()
        .unwrap();
    assert!(packed.status.success());
    let (online, objects) = project.cloud_urls();
    let mut variables = json!({
        "WAFER_PROJECT": "ledger", "WAFER_STORE_ONLINE": online, "WAFER_STORE_OBJECTS": objects,
        "WAFER_COPIES": project.at("copies"), "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
    });
    for service in ["DYNAMODB", "S3"] {
        variables[format!("AWS_ENDPOINT_URL_{service}")] = endpoint(service).into();
    }
    let made = call_service(
        "LAMBDA",
        "/2015-03-31/functions",
        None,
        &json!({
            "FunctionName": name, "Runtime": "provided.al2023", "Role": ROLE, "Handler": "bootstrap", "Timeout": 60,
            "MemorySize": 512, "Code": {"ZipFile": String::from_utf8(packed.stdout).unwrap()},
            "Environment": {"Variables": variables},
        }),
    );
    made["FunctionArn"].as_str().unwrap().to_owned()
}

/// Makes the state machine that Terraform defines, but with another function, and returns its ARN.
fn state_machine(definition: &Json, name: &str, function: &str) -> String {
    let text = definition.to_string();
    let arn = definition["States"]["Plan"]["Parameters"]["FunctionName"]
        .as_str()
        .unwrap();
    let definition = text.replace(arn, function);
    let target = Some("AWSStepFunctions.CreateStateMachine");
    let made = call_service(
        "SFN",
        "/",
        target,
        &json!({"name": name, "definition": definition, "roleArn": ROLE}),
    );
    made["stateMachineArn"].as_str().unwrap().to_owned()
}

#[test]
fn runs_are_distributed_by_the_state_machine() {
    if !are_on_aws() {
        return;
    }
    let Some(definition) = terraform("definition") else {
        return;
    };
    let (divided, whole) = (ledger(""), ledger(""));
    let entries = |file: u32| -> String {
        let rows = (0..30).map(|n| {
            let time = format!("2020-01-{:02}T{file:02}:00:00Z", n % 28 + 1);
            format!("{}\n", entry(&format!("k{}", n % 5), &time, n, 0.5, "x"))
        });
        rows.chain(["{oops\n".to_owned()]).collect()
    };
    for project in [&divided, &whole] {
        entries_on_s3(project, "in", (0..4).map(entries));
        project.ok(&["apply"]);
    }
    let name = divided
        .cloud_urls()
        .0
        .trim_start_matches("dynamodb://")
        .to_owned();
    let function = function(&divided, &name);
    let machine = state_machine(&definition, &name, &function);
    let run = |arguments: &[&str]| {
        let mut command = divided.command(&[&["run"], arguments].concat());
        let output = command
            .env("WAFER_STATE_MACHINE", &machine)
            .output()
            .unwrap();
        (output.status.success(), crate::harness::text(&output))
    };
    for pipeline in ["sums", "last_entry"] {
        let (is_ok, said) = run(&[pipeline, "--on", "aws", "--partition-size", "1KiB"]);
        assert!(is_ok, "{said}");
        assert!(said.contains("120 written, 4 rejected"), "{said}");
        whole.ok(&["run", pipeline]);
    }
    assert_eq!(divided.offline("sums_v1"), whole.offline("sums_v1"));
    let vector = |project: &Project| {
        let clock = ["--clock", "2020-01-30T00:00:00Z,0"];
        project.json(&[&["get", "account", "key_a=k1", "key_b=1"], &clock[..]].concat())["features"]
            .clone()
    };
    assert_eq!(vector(&divided), vector(&whole));
    let (is_ok, said) = run(&["sums", "--on", "aws"]);
    assert!(is_ok && said.contains("nothing to do"), "{said}");
    // The error of a failed run is printed by the command, and is in the record of the run.
    let (is_ok, said) = run(&["sum", "--on", "aws"]);
    assert!(!is_ok && said.contains("did you mean `sums`"), "{said}");
    divided.replace(
        "[groups.last_entry]",
        "[groups.last_entry]\nexpectations = [{ column = \"small\", min = 0, policy = \"fail\" }]",
    );
    divided.ok(&["apply"]);
    divided.write_object("in/2.ndjson", format!("{}\n", event("bad", -1)));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (is_ok, said) = run(&["last_entry", "--on", "aws", "--partition-size", "1KiB"]);
    assert!(!is_ok && said.contains("/in/2.ndjson:1"), "{said}");
    let runs = divided.json(&["runs"]);
    assert_eq!(runs[0]["state"], "failed", "{}", runs[0]);
    assert!(
        runs[0]["error"]
            .as_str()
            .unwrap()
            .contains("/in/2.ndjson:1"),
        "{}",
        runs[0]
    );
    let (is_ok, said) = run(&[
        "sums",
        "--on",
        "aws",
        "--from",
        "2020-01-02",
        "--to",
        "2020-01-01",
    ]);
    assert!(!is_ok && said.contains("is not before"), "{said}");
}

#[test]
fn a_run_on_aws_names_missing_settings() {
    let project = Project::new("[project]\nname = \"p\"\n");
    let fails = |machine: &str| {
        let mut command = project.command(&["run", "x", "--on", "aws"]);
        let output = command
            .env("WAFER_STATE_MACHINE", machine)
            .output()
            .unwrap();
        assert!(!output.status.success());
        crate::harness::text(&output)
    };
    if cfg!(feature = "aws") {
        assert!(fails("").contains("WAFER_STATE_MACHINE is not set"));
        assert!(fails("flights").contains("`flights` is not a state machine"));
    } else {
        assert!(fails("").contains("built without AWS"));
    }
}
