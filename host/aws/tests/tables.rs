//! Delta tables in a bucket, whose commits are objects that are created once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use wafer_aws::Bucket;
use wafer_store::{Follows, OfflineTables, Txn};

use crate::local::{account, folder, has};
use crate::proxy::{Fate, Proxy};

/// Returns rows with one column, or two.
fn rows(is_wide: bool) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
    let columns = [("n", n, false), ("text", text, true)];
    let columns = columns.into_iter().take(if is_wide { 2 } else { 1 });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// The answer to the first attempt to write each entry of the log is lost, so that the next attempt
/// finds the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answers_are_lost_count_once() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let lost: Mutex<BTreeSet<String>> = Mutex::default();
    let proxy = Proxy::new(
        &std::env::var("AWS_ENDPOINT_URL_S3").unwrap(),
        move |call| {
            let is_commit = call.action == "PUT" && call.target.ends_with(".json");
            match is_commit && lost.lock().unwrap().insert(call.target.clone()) {
                true => Fate::Lost,
                false => Fate::Forwarded,
            }
        },
    );
    let account = account().await.with_endpoint(&proxy.url);
    let bucket = Bucket::open(&account, &folder()).unwrap();
    let tables = OfflineTables::in_bucket(bucket.url("offline"), bucket.root()).unwrap();
    for version in 1..=2 {
        let rows = rows(version == 2);
        // The table is made, and then gets another column.
        tables.ensure("t", &rows.schema()).await.unwrap();
        let folder = format!("runs/a/{version}");
        let mut writer = tables.writer("t", &folder).await.unwrap();
        writer.write(&rows).await.unwrap();
        let txn = Txn {
            app_id: "a".to_owned(),
            version,
            follows: Follows::Anything,
        };
        writer.commit(&txn, None).await.unwrap();
        let info = tables.info("t").await.unwrap();
        assert_eq!(
            (info.files as i64, info.rows as i64),
            (version, 3 * version)
        );
    }
}
