//! Slow lines, and connections that are reset or gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use url::Url;
use wafer_aws::{Bucket, Dynamo, DynamoConfig};
use wafer_core::SystemClock;
use wafer_store::{EventOutcome, Expect, MetadataStore as _, OnlineStore as _};

use crate::faults::{at, event};
use crate::local::{account, client, config, dynamos, folder, has, table};
use crate::relay::{Faults, Relay};

/// The rate of the slow line in KiB/s. `WAFER_TEST_LINE` sets another one, for an object that takes
/// longer than any timeout; `cargo xtask slow` does.
const RATE: u64 = 64 << 10;

/// Returns content of so many MiB and a bit.
fn content(mebibytes: usize) -> Bytes {
    let byte = |at: usize| (at / 1_000) as u8 ^ (at >> 20) as u8;
    (0..(mebibytes << 20) + 9)
        .map(byte)
        .collect::<Vec<_>>()
        .into()
}

/// Opens a folder of a bucket through a relay.
async fn bucket(url: &Url, faults: Faults) -> (Bucket, Relay) {
    let relay = Relay::new(&std::env::var("AWS_ENDPOINT_URL_S3").unwrap(), faults);
    let account = account().await.with_endpoint(&relay.url);
    (Bucket::open(&account, url).unwrap(), relay)
}

/// Writes and reads an object in all ways in which tables do, each through a relay of its own.
async fn large_object_round_trips(content: &Bytes, faults: Faults) {
    let url = folder();
    let [one, two] = ["one", "two"].map(Path::from);
    let (through, relay) = bucket(&url, faults).await;
    let payload = content.clone().into();
    through.folder().put(&one, payload).await.unwrap();
    assert!(relay.resets() >= faults.resets);

    let (through, relay) = bucket(&url, faults).await;
    let mut upload = through.folder().put_multipart(&two).await.unwrap();
    let starts = (0..content.len()).step_by(5 << 20);
    let parts = starts.map(|start| {
        let end = content.len().min(start + (5 << 20));
        upload.put_part(content.slice(start..end).into())
    });
    let sent: Result<Vec<()>, _> = join_all(parts).await.into_iter().collect();
    sent.unwrap();
    upload.complete().await.unwrap();
    assert!(relay.resets() >= faults.resets);

    for path in [one, two] {
        let (through, relay) = bucket(&url, faults).await;
        let found = through.folder().get(&path).await.unwrap();
        assert!(found.bytes().await.unwrap() == content, "{path}");
        assert!(relay.resets() >= faults.resets);

        let (through, relay) = bucket(&url, faults).await;
        let range = 1_000..(12 << 20) + 1;
        let found = through.folder().get_range(&path, range).await.unwrap();
        assert!(found == content[1_000..(12 << 20) + 1], "{path}");
        assert!(relay.resets() >= faults.resets);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_object_passes_a_slow_line() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let (rate, mebibytes) = match std::env::var("WAFER_TEST_LINE") {
        Ok(rate) => (rate.parse().unwrap(), 42),
        Err(_) => (RATE, 20),
    };
    let faults = Faults {
        bytes_per_second: Some(rate << 10),
        ..Faults::default()
    };
    large_object_round_trips(&content(mebibytes), faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_object_passes_connections_that_are_reset() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let faults = Faults {
        resets: 3,
        reset_after: 3 << 20,
        ..Faults::default()
    };
    large_object_round_trips(&content(20), faults).await;
}

/// All connections are gone at once, as many as there were calls at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_get_over_connections_that_are_gone() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    for server in dynamos() {
        let (bucket, s3) = bucket(&folder(), Faults::default()).await;
        let dynamodb = Relay::new(&server, Faults::default());
        let account = account().await.with_endpoint(&dynamodb.url);
        let config = DynamoConfig {
            grace: Duration::from_secs(30),
            ..config(&table(&client(&server)).await)
        };
        let clock = Arc::new(SystemClock::new());
        let store = Dynamo::open(&account, config, bucket.folder(), clock);
        let store = store.await.unwrap();
        let ways = [Relay::forget, Relay::reset, Relay::swallow, Relay::forget];
        for (round, lose) in ways.into_iter().enumerate() {
            let names: Vec<String> = (0..20).map(|n| format!("{round}/{n}")).collect();
            let puts = names.iter().map(|name| {
                let value = Bytes::from_static(b"value");
                store.put(name, value, Expect::Absent)
            });
            let put: Result<Vec<_>, _> = join_all(puts).await.into_iter().collect();
            put.unwrap();
            lose(&dynamodb);
            lose(&s3);
            // One call after the other meets them.
            assert!(store.get(&names[0]).await.unwrap().is_some());
            let id = round as i64;
            let outcomes = store.commit_events(vec![event(id)], at(0)).await.unwrap();
            assert!(matches!(outcomes[..], [EventOutcome::Committed { .. }]));
            lose(&dynamodb);
            lose(&s3);
            let again = store.commit_events(vec![event(id)], at(0)).await.unwrap();
            assert!(matches!(again[..], [EventOutcome::Duplicate]));
        }
        println!("{} and {} were reset", dynamodb.resets(), s3.resets());
    }
}
