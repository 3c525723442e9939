//! `wafer doctor --aws`. What it finds wrong with a deployment is tested in `host/aws/tests`.

use serde_json::Value as Json;

use crate::harness::ledger::ledger;
use crate::harness::{are_on_aws, text};

/// An endpoint where nothing answers, with a password that nothing may print.
const NOWHERE: &str = "http://user:geheim@127.0.0.1:1";

#[test]
fn doctor_checks_what_a_project_has_on_aws() {
    let project = ledger("");
    let mut command = project.command(&["doctor", "--aws", "--output", "json"]);
    // An empty variable counts as not set.
    let output = command
        .env("AWS_ENDPOINT_URL", NOWHERE)
        .env("AWS_ENDPOINT_URL_LAMBDA", "")
        .env("AWS_ENDPOINT_URL_SQS", "")
        .output()
        .unwrap();
    let findings: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let of = |what: &str| {
        let mut findings = findings.as_array().into_iter().flatten();
        let finding = findings.find(|finding| finding["what"] == what);
        let finding = finding.unwrap_or_else(|| panic!("{what}: {}", text(&output)));
        (
            finding["ok"].as_bool().unwrap(),
            finding["detail"].as_str().unwrap(),
        )
    };
    assert!(!output.status.success(), "{}", text(&output));
    assert!(!text(&output).contains("geheim"), "{}", text(&output));
    if !are_on_aws() {
        let (ok, said) = of("aws");
        let wanted = match cfg!(feature = "aws") {
            true => "set WAFER_STORE_ONLINE and WAFER_STORE_OBJECTS",
            false => "built without AWS",
        };
        assert!(!ok && said.contains(wanted), "{said}");
        return;
    }
    // Whatever a service that hangs holds up, its name is there.
    let printed = text(&output);
    for wanted in [
        "checking stores …",
        "checking bucket …",
        "concurrency: FAIL",
    ] {
        assert!(printed.contains(wanted), "{wanted}: {printed}");
    }
    for what in ["credentials", "bucket"] {
        let (ok, said) = of(what);
        assert!(ok, "{what}: {said}");
    }
    for (what, wanted) in [
        ("concurrency", "lambda:GetAccountSettings"),
        ("wafer-ledger-events", "lambda:GetFunctionConfiguration"),
    ] {
        let (ok, said) = of(what);
        assert!(
            !ok && said.contains(wanted) && said.contains("could not be called"),
            "{said}"
        );
    }
}
