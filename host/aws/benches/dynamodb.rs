//! Compares the online store on DynamoDB with bare calls of the SDK on the same server and items,
//! in alternation: a feature lookup of 1 and of 100 entities, and filling a group. Needs the
//! environment that `cargo xtask aws` prints.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench"
)]

#[path = "../tests/local.rs"]
#[allow(dead_code, reason = "written for tests")]
mod local;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use wafer_aws::{Dynamo, DynamoConfig};
use wafer_core::rules::RowVersion;
use wafer_core::{SystemClock, Timestamp, entity_key};
use wafer_store::{GroupContent, OnlineKey, OnlineRow, OnlineStore as _, OnlineWrite};

/// Number of lookups of each kind.
const ROUNDS: usize = 2_000;
/// Number of rows of a group that is filled.
const LOADED: i64 = 20_000;
/// Number of groups that are filled.
const LOADS: usize = 5;
/// Size of a row in bytes: about ten features.
const ROW: usize = 100;

fn key(group: &str, id: i64) -> OnlineKey {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    OnlineKey {
        group: group.to_owned(),
        entity: entity_key(&[column], 0).unwrap(),
    }
}

fn write_to(group: &str, id: i64) -> OnlineWrite {
    OnlineWrite {
        key: key(group, id),
        row: OnlineRow {
            version: RowVersion {
                event: Timestamp::from_micros(id),
                created: Timestamp::from_micros(0),
                order: 0,
            },
            fingerprint: 1,
            values: Bytes::from(vec![7; ROW]),
        },
        keep_until: None,
    }
}

/// Returns the median and the 5th and 95th percentile.
fn median(mut times: Vec<Duration>) -> (Duration, Duration, Duration) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    (at(50), at(5), at(95))
}

fn text((median, low, high): (Duration, Duration, Duration)) -> String {
    format!("{median:.1?} ({low:.1?} to {high:.1?})")
}

type Item = HashMap<String, AttributeValue>;

/// Reads the items of all partitions whose key starts with a prefix.
async fn stored(client: &Client, table: &str, partitions: &str) -> Vec<Item> {
    let pages = client.scan().table_name(table).into_paginator().send();
    let pages: Vec<_> = pages.try_collect().await.unwrap();
    let items = pages
        .into_iter()
        .flat_map(|page| page.items.unwrap_or_default());
    items
        .filter(|item| item["pk"].as_s().unwrap().starts_with(partitions))
        .collect()
}

#[tokio::main]
async fn main() {
    if !local::has("AWS_ENDPOINT_URL_DYNAMODB") {
        return;
    }
    let endpoint = std::env::var("AWS_ENDPOINT_URL_DYNAMODB").unwrap();
    let client = local::client(&endpoint);
    let table = local::table(&client).await;
    let account = local::account().await.with_endpoint(&endpoint);
    let usual = DynamoConfig::new(&table, "bench", local::unique());
    let impatient = DynamoConfig {
        // No other process uses the table, so `replace_group` need not wait for layouts to be
        // read again.
        layout_age: Duration::from_millis(1),
        read_patience: Duration::from_millis(50),
        // The local server takes what it can, and the SDK beside it does not wait for turns.
        first_write_units: 1e9,
        ..DynamoConfig::new(&table, "bench", local::unique())
    };
    let open = async |config| {
        let objects = Arc::new(InMemory::new());
        let machine_clock = Arc::new(SystemClock::new());
        Dynamo::open(&account, config, objects, machine_clock)
            .await
            .unwrap()
    };
    let (store, filler) = (open(usual).await, open(impatient).await);
    store
        .put_many((0..100).map(|id| write_to("g", id)).collect())
        .await
        .unwrap();
    let items = stored(&client, &table, "o/g/").await;
    let keys: Vec<_> = items
        .iter()
        .map(|item| {
            let part = |name: &str| (name.to_owned(), item[name].clone());
            HashMap::from([part("pk"), part("sk")])
        })
        .collect();
    for count in [1usize, 100] {
        let ours: Vec<OnlineKey> = (0..count as i64).map(|id| key("g", id)).collect();
        let bare = KeysAndAttributes::builder()
            .set_keys(Some(keys[..count].to_vec()))
            .consistent_read(true)
            .build()
            .unwrap();
        let (mut of_store, mut of_sdk) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let rows = store
                .get_many(&ours, Timestamp::from_micros(1_000))
                .await
                .unwrap();
            of_store.push(began.elapsed());
            assert!(rows.iter().all(Option::is_some));
            let began = Instant::now();
            let call = client.batch_get_item().request_items(&table, bare.clone());
            let found = call.send().await.unwrap();
            of_sdk.push(began.elapsed());
            assert_eq!(found.responses.unwrap()[&table].len(), count);
        }
        let (of_store, of_sdk) = (median(of_store), median(of_sdk));
        let ratio = of_store.0.as_secs_f64() / of_sdk.0.as_secs_f64();
        println!(
            "lookup of {count}: {}; bare BatchGetItem {}: {ratio:.2} x",
            text(of_store),
            text(of_sdk)
        );
    }

    let (mut of_store, mut of_sdk) = (Vec::new(), Vec::new());
    for load in 0..LOADS {
        // The group is empty before, so all of the time is spent filling it.
        let group = format!("load{load}");
        let rows = (0..LOADED).map(|id| write_to(&group, id));
        let content = GroupContent {
            rows: rows.collect(),
            early: Vec::new(),
            outbox_after: u64::MAX >> 1,
            from_outbox: Arc::new(|_| unreachable!("the outbox is empty")),
            now: Timestamp::from_micros(1_000_000),
        };
        let began = Instant::now();
        filler.replace_group(&group, content).await.unwrap();
        of_store.push(began.elapsed());
        let items = stored(&client, &table, &format!("o/{group}/")).await;
        assert_eq!(items.len() as i64, LOADED);
        // The same items again, under other partition keys.
        let again = items.into_iter().map(|mut item| {
            let partition = item["pk"].as_s().unwrap().replace("o/", "bare/");
            item.insert("pk".to_owned(), AttributeValue::S(partition));
            let put = PutRequest::builder().set_item(Some(item)).build();
            WriteRequest::builder().put_request(put.unwrap()).build()
        });
        let again: Vec<WriteRequest> = again.collect();
        let began = Instant::now();
        let calls = again.chunks(25).map(|requests| {
            let call = client.batch_write_item();
            call.request_items(&table, requests.to_vec()).send()
        });
        let written = futures::stream::iter(calls).buffered(32);
        written.try_collect::<Vec<_>>().await.unwrap();
        of_sdk.push(began.elapsed());
    }
    let rate = |time: Duration| LOADED as f64 / time.as_secs_f64();
    let (of_store, of_sdk) = (median(of_store), median(of_sdk));
    println!(
        "filling a group with {LOADED} rows: {:.0} rows/s ({}); bare BatchWriteItem {:.0} rows/s ({})",
        rate(of_store.0),
        text(of_store),
        rate(of_sdk.0),
        text(of_sdk)
    );
}
