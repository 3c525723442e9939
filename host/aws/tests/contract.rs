//! The contract suites that every backend must pass, run on the AWS stores.

use wafer_aws::Artifacts;
use wafer_core::SystemClock;
use wafer_store_contract as contract;

use crate::local::{bucket, dynamo, dynamo_on, dynamos, has};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online_contract() {
    for endpoint in dynamos() {
        contract::online(&dynamo(&endpoint).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online_contract_with_outbox_on_s3() {
    if has("AWS_ENDPOINT_URL_S3") {
        let endpoint = dynamos().remove(0);
        let objects = bucket().await.folder();
        contract::online(&dynamo_on(&endpoint, objects).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_contract() {
    for endpoint in dynamos() {
        contract::metadata(&dynamo(&endpoint).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifact_contract() {
    if has("AWS_ENDPOINT_URL_S3") {
        let bucket = bucket().await;
        bucket.probe(&SystemClock::new()).await.unwrap();
        let copies = tempfile::tempdir().unwrap();
        contract::artifacts(&Artifacts::open(bucket, copies.path()).unwrap()).await;
    }
}
