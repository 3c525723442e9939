//! Deployments of the Lambda function with wrong settings or outdated code.

use std::io::Read as _;

use serde_json::json;

use crate::harness::are_on_aws;
use crate::harness::lambda::{Lambda, request_v2};
use crate::harness::ledger::{event, ledger};

#[test]
fn a_function_reports_errors_of_its_deployment() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    for (setting, value, wanted) in [
        ("WAFER_PROJECT", "", "WAFER_PROJECT is not set"),
        (
            "WAFER_PROJECT",
            "other",
            "belongs to project `ledger`, not to `other`",
        ),
        (
            "WAFER_STORE_ONLINE",
            "dynamodb://nothing",
            "there is no DynamoDB table `nothing`",
        ),
        ("WAFER_STORE_ONLINE", "nothing", "which is not a URL"),
        ("WAFER_EVENT_SOURCES", "queue", "write ARN=SOURCE"),
    ] {
        let mut lambda = Lambda::start(&project, &[(setting, value)]);
        assert!(!lambda.child.wait().unwrap().success());
        let mut said = String::new();
        let mut log = lambda.child.stderr.take().unwrap();
        log.read_to_string(&mut said).unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    // Code that another version compiled is not run, and the error says what to do.
    project.remove_compiled_code();
    let lambda = Lambda::start(&project, &[]);
    let body = json!({"rows": [{"key_a": "a", "key_b": 1}]}).to_string();
    for _ in 0..2 {
        let answer = lambda.ok(request_v2(
            "POST",
            "/v1/sources/entries/events",
            &event("a", 1),
        ));
        assert_eq!(answer["statusCode"], 500, "{answer}");
        let said = answer["body"].as_str().unwrap();
        assert!(
            said.contains("this program has no compiler: run `wafer deploy`"),
            "{said}"
        );
    }
    // Views without functions are answered nevertheless.
    let answer = lambda.ok(request_v2("POST", "/v1/views/account/features", &body));
    assert_eq!(answer["statusCode"], 200, "{answer}");
}
