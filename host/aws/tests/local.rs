//! Access to the local servers: endpoints, tables and buckets for tests and benches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;
use wafer_aws::{Account, Bucket, Dynamo, DynamoConfig};
use wafer_core::SystemClock;

/// Returns a number that no other test uses.
pub(crate) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos() as u64 ^ COUNT.fetch_add(1, Ordering::Relaxed) << 48
}

/// Returns whether the environment variable of a service's endpoint is set. Without it, tests are
/// skipped, except in CI, where they fail. Panics if the endpoint is on another machine.
pub(crate) fn has(variable: &str) -> bool {
    let Ok(endpoint) = std::env::var(variable) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{variable} is not set: run the tests by `cargo xtask test`"
        );
        eprintln!("skipped: {variable} is not set; `cargo xtask test` starts the servers");
        return false;
    };
    let host = Url::parse(&endpoint)
        .unwrap()
        .host_str()
        .unwrap()
        .to_owned();
    assert!(
        ["127.0.0.1", "[::1]", "localhost"].contains(&host.as_str()),
        "{variable} is {endpoint}: tests talk to this machine only"
    );
    true
}

/// Returns the endpoints of the available DynamoDB servers. Tests run on all of them, because each
/// deviates from AWS in different ways.
pub(crate) fn dynamos() -> Vec<String> {
    let mut found = Vec::new();
    for variable in ["AWS_ENDPOINT_URL_DYNAMODB", "WAFER_TEST_SECOND_DYNAMODB"] {
        if has(variable) {
            found.push(std::env::var(variable).unwrap());
        }
    }
    found
}

pub(crate) async fn account() -> Account {
    Account::from_environment(None).await.unwrap()
}

/// Creates a client of the DynamoDB server at an endpoint.
pub(crate) fn client(endpoint: &str) -> Client {
    let credentials = aws_sdk_dynamodb::config::Credentials::new("a", "b", None, None, "test");
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

/// Creates a table with a unique name, and returns the name.
pub(crate) async fn table(client: &Client) -> String {
    let name = format!("wafer-test-{:x}", unique());
    let attribute = |name, kind| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(kind)
            .build()
            .unwrap()
    };
    let key = |name, kind| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
            .unwrap()
    };
    client
        .create_table()
        .table_name(&name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::B))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .send()
        .await
        .unwrap();
    name
}

/// Returns settings with a short layout age and grace period, so that tests run fast.
pub(crate) fn config(table: &str) -> DynamoConfig {
    DynamoConfig {
        layout_age: Duration::from_millis(100),
        grace: Duration::from_millis(500),
        ..DynamoConfig::new(table, "test", unique())
    }
}

/// Opens an empty store, with its outbox in memory.
pub(crate) async fn dynamo(endpoint: &str) -> Dynamo {
    dynamo_on(endpoint, Arc::new(InMemory::new())).await
}

/// Opens an empty store, with its outbox in `objects`.
pub(crate) async fn dynamo_on(endpoint: &str, objects: Arc<dyn ObjectStore>) -> Dynamo {
    let table = table(&client(endpoint)).await;
    let account = account().await.with_endpoint(endpoint);
    Dynamo::open(
        &account,
        config(&table),
        objects,
        Arc::new(SystemClock::new()),
    )
    .await
    .unwrap()
}

/// Opens an empty folder; see [`folder`].
pub(crate) async fn bucket() -> Bucket {
    Bucket::open(&account().await, &folder()).unwrap()
}

/// Returns the URL of an empty folder: in a new bucket, or in the bucket that `WAFER_TEST_BUCKET`
/// names.
pub(crate) fn folder() -> Url {
    let name = format!("wafer-test-{:x}", unique());
    let url = match std::env::var("WAFER_TEST_BUCKET") {
        Ok(bucket) => format!("s3://{bucket}/{name}"),
        Err(_) => {
            let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
            let port = Url::parse(&endpoint).unwrap().port().unwrap();
            make_bucket(port, &name);
            format!("s3://{name}/folder")
        }
    };
    Url::parse(&url).unwrap()
}

fn make_bucket(port: u16, name: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
