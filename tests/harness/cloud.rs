//! Stores on AWS for a project, on servers of this machine, and the outputs of Terraform.

use std::path::Path;

use serde_json::Value as Json;

use super::Project;
use super::server::{agent, answer};

/// Returns whether the tests run on the stores on AWS.
pub(super) fn is_cloud() -> bool {
    std::env::var("WAFER_TEST_STORES").is_ok_and(|stores| stores == "aws")
}

/// Returns whether the tests run on the embedded stores. Otherwise a test that looks at their
/// files, or at how they fail, is skipped.
pub(crate) fn are_embedded() -> bool {
    if is_cloud() {
        println!("skipped: it is about the files of the embedded stores");
    }
    !is_cloud()
}

/// Returns whether the tests run on the stores on AWS. Otherwise a test that needs them is skipped.
pub(crate) fn are_on_aws() -> bool {
    if !is_cloud() {
        println!("skipped: it is about the stores on AWS; `cargo xtask test` does both");
    }
    is_cloud()
}

/// Returns an output of the configuration in `infra/`, if `cargo xtask infra` has made it.
pub(crate) fn terraform(output: &str) -> Option<Json> {
    let Some(folder) = std::env::var_os("WAFER_TEST_TERRAFORM") else {
        println!("skipped: nothing was made of infra/; `cargo xtask infra` does, with terraform");
        return None;
    };
    let path = Path::new(&folder).join(format!("{output}.json"));
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// Returns the URL of a service of AWS, which a server on this machine stands in for.
pub(crate) fn endpoint(service: &str) -> String {
    let variable = format!("AWS_ENDPOINT_URL_{service}");
    let url = std::env::var(&variable);
    url.unwrap_or_else(|_| panic!("{variable} is not set: use `cargo xtask test`"))
}

/// A table and a bucket of a project.
pub(super) struct Cloud {
    pub(super) online: String,
    pub(super) objects: String,
}

impl Cloud {
    /// Makes a table and a bucket on the local servers.
    pub(super) fn new() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let name = format!("wafer-{}-{:x}", std::process::id(), since.as_nanos());
        let table = serde_json::json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "B"},
            ],
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
        });
        let signed = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/dynamodb/aws4_request, \
                      SignedHeaders=host, Signature=0";
        let made = agent()
            .post(endpoint("DYNAMODB"))
            .header("X-Amz-Target", "DynamoDB_20120810.CreateTable")
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Date", "20200101T000000Z")
            .header("Authorization", signed)
            .send(table.to_string());
        assert_eq!(answer(made).0, 200);
        let objects = match std::env::var("WAFER_TEST_BUCKET") {
            // This server accepts only signed requests.
            Ok(bucket) => format!("s3://{bucket}/{name}"),
            Err(_) => {
                let made = agent()
                    .put(format!("{}/{name}", endpoint("S3")))
                    .send_empty();
                assert_eq!(made.unwrap().status(), 200);
                format!("s3://{name}/project")
            }
        };
        Self {
            online: format!("dynamodb://{name}"),
            objects,
        }
    }
}

impl Project {
    /// Returns the URLs of the project's table and folder.
    pub(crate) fn cloud_urls(&self) -> (&str, &str) {
        let cloud = self.cloud.as_ref().expect("asked only for stores on AWS");
        (&cloud.online, &cloud.objects)
    }

    /// Returns the name of the project's bucket.
    pub(crate) fn bucket(&self) -> &str {
        let (_, objects) = self.cloud_urls();
        let path = objects.trim_start_matches("s3://");
        path.split('/').next().unwrap()
    }

    /// Writes an object to the project's bucket, and returns its URL.
    pub(crate) fn write_object(&self, key: &str, content: impl AsRef<[u8]>) -> String {
        let bucket = self.bucket();
        let s3 = endpoint("S3");
        let written = agent()
            .put(format!("{s3}/{bucket}/{key}"))
            .send(content.as_ref());
        assert_eq!(written.unwrap().status(), 200);
        format!("s3://{bucket}/{key}")
    }

    /// Returns the content of an object in the project's bucket.
    pub(crate) fn read_object(&self, key: &str) -> Vec<u8> {
        let url = format!("{}/{}/{key}", endpoint("S3"), self.bucket());
        let mut found = agent().get(url).call().unwrap();
        found.body_mut().read_to_vec().unwrap()
    }

    /// Returns the keys of the objects below a folder of the project's bucket, which has some.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<String> {
        let keys = self.keys(prefix);
        assert!(!keys.is_empty(), "there is nothing below {prefix}");
        keys
    }

    /// Returns the keys of the objects below a folder of the project's bucket, if there are any.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let bucket = self.bucket();
        let s3 = endpoint("S3");
        let list = format!("{s3}/{bucket}?list-type=2&prefix={prefix}");
        let mut listed = agent().get(list).call().unwrap();
        let listed = listed.body_mut().read_to_string().unwrap();
        let keys = listed.split("<Key>").skip(1);
        let keys = keys.filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    /// Returns the names of the artifacts that have native code.
    pub(crate) fn compiled_code(&self) -> Vec<String> {
        if self.cloud.is_some() {
            return self.keys("project/artifacts/compiled/");
        }
        let compiled = self.path().join(".wafer/artifacts/compiled");
        let machines = std::fs::read_dir(compiled).unwrap().flatten();
        let files = machines.flat_map(|machine| std::fs::read_dir(machine.path()).unwrap());
        let names = files.map(|file| file.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Removes the code that this version compiled, as if only another version had been used.
    pub(crate) fn remove_compiled_code(&self) {
        let s3 = endpoint("S3");
        let bucket = self.bucket();
        for key in self.objects("project/artifacts/compiled/") {
            let removed = agent().delete(format!("{s3}/{bucket}/{key}")).call();
            removed.unwrap();
        }
    }
}
