//! What the tests have in common: projects in folders of their own, the binary,
//! and servers that end with their test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;

use futures::TryStreamExt as _;
use serde_json::Value as Json;
use url::Url;
use wafer_core::{DataType, Digest, cell_to_json, coerce};
use wafer_store::{AsOf, OfflineTables};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_wafer");

pub(crate) fn repository() -> PathBuf {
    // Not the one it was compiled in: checkouts may share a target folder.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Folder with the components of `functions/flights`, built once.
pub(crate) fn flights_components() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| built("functions/flights"));
    &FOLDER
}

/// The component that misbehaves on demand, built once.
pub(crate) fn misbehaving_component() -> PathBuf {
    guest("misbehaving")
}

/// A component of `tests/guests`, built once.
pub(crate) fn guest(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| built("tests/guests"));
    FOLDER.join(format!("{name}.wasm"))
}

fn built(project: &str) -> PathBuf {
    let folder = repository().join(project);
    let status = Command::new(BINARY)
        .arg("-C")
        .arg(&folder)
        .arg("build")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{project} cannot be built; what does `wafer doctor` say?"
    );
    folder.join(".wafer/build")
}

/// A project in a folder of its own, removed in the end.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    /// Stores on AWS, with `WAFER_TEST_STORES=aws`: a table and a bucket of its own.
    cloud: Option<Cloud>,
}

pub(crate) fn is_cloud() -> bool {
    std::env::var("WAFER_TEST_STORES").is_ok_and(|stores| stores == "aws")
}

/// Whether projects' stores are the embedded ones: a test that looks at their files,
/// or at how they fail, is skipped otherwise.
pub(crate) fn are_embedded() -> bool {
    if is_cloud() {
        println!("skipped: it is about the files of the embedded stores");
    }
    !is_cloud()
}

/// An output of the configuration in `infra/`, if Terraform made it.
pub(crate) fn terraform(output: &str) -> Option<Json> {
    let Some(folder) = std::env::var_os("WAFER_TEST_TERRAFORM") else {
        println!("skipped: nothing was made of infra/; `cargo xtask infra` does, with terraform");
        return None;
    };
    let path = Path::new(&folder).join(format!("{output}.json"));
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

struct Cloud {
    online: String,
    objects: String,
}

impl Cloud {
    /// A table and a bucket at the local servers.
    fn new() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let name = format!("wafer-{}-{:x}", std::process::id(), since.as_nanos());
        let at = |service: &str| {
            let variable = format!("AWS_ENDPOINT_URL_{service}");
            let url = std::env::var(&variable);
            url.unwrap_or_else(|_| panic!("{variable} is not set: use `cargo xtask test`"))
        };
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
            .post(at("DYNAMODB"))
            .header("X-Amz-Target", "DynamoDB_20120810.CreateTable")
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Date", "20200101T000000Z")
            .header("Authorization", signed)
            .send(table.to_string());
        assert_eq!(answer(made).0, 200);
        let objects = match std::env::var("WAFER_TEST_BUCKET") {
            // A server that wants requests to be signed.
            Ok(bucket) => format!("s3://{bucket}/{name}"),
            Err(_) => {
                let made = agent().put(format!("{}/{name}", at("S3"))).send_empty();
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
    /// A project with this file.
    pub(crate) fn new(wafer_toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wafer.toml"), wafer_toml).unwrap();
        Self {
            folder,
            cloud: is_cloud().then(Cloud::new),
        }
    }

    /// The flights project, with its data and components.
    pub(crate) fn flights() -> Self {
        let source = repository().join("functions/flights");
        let mut text = std::fs::read_to_string(source.join("wafer.toml")).unwrap();
        for (name, krate) in [
            ("flight_outcome", "flight-outcomes"),
            ("scheduled_flight", "scheduled-flights"),
            ("hourly_weather", "hourly-weather"),
            ("airport_profile", "airport-profile"),
            ("departure_features", "departure-features"),
            ("train_trees", "train_trees"),
            ("trees", "lightgbm"),
            ("simple", "linear"),
        ] {
            let component = flights_components().join(format!("{name}.wasm"));
            let lines = ["crate", "stock"].map(|kind| format!("{kind} = \"{krate}\""));
            let line = lines.iter().find(|line| text.contains(*line)).unwrap();
            text = text.replace(line, &format!("component = \"{}\"", component.display()));
        }
        let project = Self::new(&text);
        std::os::unix::fs::symlink(source.join("data"), project.path().join("data")).unwrap();
        project
    }

    pub(crate) fn applied(self) -> Self {
        self.ok(&["apply"]);
        self
    }

    /// With a file, applied.
    pub(crate) fn applied_with(self, name: &str, content: &str) -> Self {
        self.write(name, content);
        self.applied()
    }

    /// A path below the project, as an argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Makes a training set from labels below the project, and returns its record.
    pub(crate) fn training_set(&self, view: &str, labels: &str, out: &str) -> Json {
        self.json(&[
            "training-set",
            view,
            "--labels",
            &self.at(labels),
            "--out",
            &self.at(out),
        ])
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn replace(&self, from: &str, to: &str) {
        let path = self.path().join("wafer.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("-C")
            .arg(self.path())
            .args(arguments)
            .env_remove("WAFER_STORE_PATH")
            .env_remove("RUST_LOG");
        if let Some(Cloud { online, objects }) = &self.cloud {
            command
                .env("WAFER_STORE_ONLINE", online)
                .env("WAFER_STORE_OBJECTS", objects);
        }
        command
    }

    /// URLs of its stores on AWS.
    pub(crate) fn cloud_urls(&self) -> (&str, &str) {
        let cloud = self.cloud.as_ref().expect("asked only for stores on AWS");
        (&cloud.online, &cloud.objects)
    }

    /// The bucket of its stores.
    pub(crate) fn bucket(&self) -> &str {
        let (_, objects) = self.cloud_urls();
        let path = objects.trim_start_matches("s3://");
        path.split('/').next().unwrap()
    }

    /// Writes an object into the bucket of its stores, and returns its URL.
    pub(crate) fn write_object(&self, key: &str, content: &str) -> String {
        let bucket = self.bucket();
        let s3 = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
        let written = agent().put(format!("{s3}/{bucket}/{key}")).send(content);
        assert_eq!(written.unwrap().status(), 200);
        format!("s3://{bucket}/{key}")
    }

    /// Keys of the objects below a folder of the bucket of its stores.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<String> {
        let bucket = self.bucket();
        let s3 = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
        let list = format!("{s3}/{bucket}?list-type=2&prefix={prefix}");
        let mut listed = agent().get(list).call().unwrap();
        let listed = listed.body_mut().read_to_string().unwrap();
        let keys = listed.split("<Key>").skip(1);
        let keys = keys.filter_map(|rest| rest.split("</Key>").next());
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        assert!(!keys.is_empty(), "{listed}");
        keys
    }

    /// Removes what was compiled for this version, as if there were only code of
    /// another one.
    pub(crate) fn remove_compiled_code(&self) {
        let s3 = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
        let bucket = self.bucket();
        for key in self.objects("project/artifacts/compiled/") {
            let removed = agent().delete(format!("{s3}/{bucket}/{key}")).call();
            removed.unwrap();
        }
    }

    #[cfg(feature = "aws")]
    async fn offline_tables(&self) -> OfflineTables {
        let Some(Cloud { objects, .. }) = &self.cloud else {
            return self.embedded_tables();
        };
        let account = wafer_aws::Account::from_environment(None).await.unwrap();
        let bucket = wafer_aws::Bucket::open(&account, &Url::parse(objects).unwrap()).unwrap();
        OfflineTables::in_bucket(bucket.url("offline"), bucket.root()).unwrap()
    }

    #[cfg(not(feature = "aws"))]
    #[allow(clippy::unused_async, reason = "as with the feature")]
    async fn offline_tables(&self) -> OfflineTables {
        self.embedded_tables()
    }

    fn embedded_tables(&self) -> OfflineTables {
        let url = Url::from_directory_path(self.path().join(".wafer/offline")).unwrap();
        OfflineTables::open(url).unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, and returns its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "json"]);
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// Runs a command that must fail, and returns what it says.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            !output.status.success(),
            "{arguments:?} should fail: {}",
            text(&output)
        );
        let said = text(&output);
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Starts a server on a free port.
    #[allow(
        clippy::zombie_processes,
        reason = "a server that does not start fails its test"
    )]
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the server ended: {said}"
            );
            said += &line;
            if let Some((_, url)) = line.trim().rsplit_once(" on ") {
                let url = url.to_owned();
                // Keeps the pipe from filling, and what was said for a failure.
                let said = std::thread::spawn(move || {
                    let mut said = Vec::new();
                    let _ = log.read_to_end(&mut said);
                    String::from_utf8_lossy(&said).into_owned()
                });
                return Server {
                    child,
                    url,
                    said: Some(said),
                };
            }
        }
    }

    /// All rows of an offline table as JSON objects, sorted; without the columns
    /// that say when and whence a row was written.
    pub(crate) fn offline(&self, table: &str) -> Vec<String> {
        let rows = self.offline_rows(table).into_iter().map(|mut row| {
            let object = row.as_object_mut().unwrap();
            for column in ["available_timestamp", "created_timestamp", "event_id"] {
                assert!(object.remove(column).is_some());
            }
            row.to_string()
        });
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        rows
    }

    /// All rows of an offline table as JSON objects.
    pub(crate) fn offline_rows(&self, table: &str) -> Vec<Json> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let batches: Vec<_> = runtime.block_on(async {
            let tables = self.offline_tables().await;
            let snapshot = tables.snapshot(table, AsOf::Latest).await.unwrap();
            snapshot.rows().try_collect().await.unwrap()
        });
        batches.iter().flat_map(json_rows).collect()
    }

    /// Digest of an offline table's rows, for comparing large tables.
    pub(crate) fn offline_digest(&self, table: &str) -> (usize, Digest) {
        let rows = self.offline(table);
        (rows.len(), Digest::of(rows.join("\n").as_bytes()))
    }
}

/// The rows of a Parquet file as JSON objects.
pub(crate) fn rows_of(path: &Path) -> Vec<Json> {
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let batches = reader.unwrap().build().unwrap();
    batches
        .flat_map(|batch| json_rows(&batch.unwrap()))
        .collect()
}

/// Writes rows of texts and integers as Parquet; other values as texts.
pub(crate) fn write_parquet(path: &Path, rows: &[Json]) {
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    let names = rows[0].as_object().unwrap().keys().cloned();
    let columns = names.map(|name| {
        let values = || rows.iter().map(|row| &row[&name]);
        let column: ArrayRef = if values().any(Json::is_i64) {
            std::sync::Arc::new(values().map(Json::as_i64).collect::<Int64Array>())
        } else if name == "event_timestamp" {
            let times = values().map(|time| time.as_str()?.parse::<wafer_core::Timestamp>().ok());
            let times = times.map(|time| time.map(|time| time.as_micros()));
            let times: arrow_array::TimestampMicrosecondArray = times.collect();
            std::sync::Arc::new(times.with_timezone("UTC"))
        } else {
            std::sync::Arc::new(values().map(Json::as_str).collect::<StringArray>())
        };
        (name, column)
    });
    let batch = arrow_array::RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn json_rows(batch: &arrow_array::RecordBatch) -> Vec<Json> {
    let schema = batch.schema();
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let plain = match field.data_type() {
                arrow_schema::DataType::Timestamp(..) => {
                    coerce(column, &DataType::Timestamp).unwrap()
                }
                _ => std::sync::Arc::clone(column),
            };
            (field.name().clone(), plain)
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells = columns
                .iter()
                .map(|(name, column)| (name.clone(), cell_to_json(column, row)));
            Json::Object(cells.collect())
        })
        .collect()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A server, killed with its test if it has not ended before.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// What it says until it ends.
    said: Option<JoinHandle<String>>,
}

/// Status and body of an answer.
pub(crate) type Answer = (u16, Json);

impl Server {
    pub(crate) fn get(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.url)).call())
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_with(path, &[("content-type", content_type)], body)
    }

    pub(crate) fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = agent().post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body.as_ref()))
    }

    pub(crate) fn events(&self, source: &str, lines: &str) -> Answer {
        self.post(
            &format!("/v1/sources/{source}/events"),
            "application/x-ndjson",
            lines,
        )
    }

    /// What `/metrics` says.
    pub(crate) fn metrics(&self) -> String {
        let mut answer = agent().get(format!("{}/metrics", self.url)).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// Feature vectors of a view, of a request that must succeed.
    pub(crate) fn features(&self, view: &str, rows: &Json) -> Vec<Json> {
        let body = serde_json::json!({ "rows": rows }).to_string();
        let (status, answer) = self.post(
            &format!("/v1/views/{view}/features"),
            "application/json",
            body,
        );
        assert_eq!(status, 200, "{answer}");
        answer["rows"].as_array().unwrap().clone()
    }

    pub(crate) fn set_clock(&self, now: &str) {
        let body = serde_json::json!({ "now": now }).to_string();
        assert_eq!(self.post("/v1/clock", "application/json", body).0, 200);
    }

    /// Ends it in order and waits.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        let said = self.said.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {said}");
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Json::String(text)),
    )
}

/// Numbers from a seed: a linear congruential generator (D. Knuth, MMIX).
pub(crate) struct Random(u64);

impl Random {
    /// From the environment variable `WAFER_TEST_SEED`, so that a failure can be
    /// replayed; else from the clock. Says which.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("WAFER_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            u64::from(since.subsec_nanos())
        });
        println!("WAFER_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
