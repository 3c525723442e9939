//! Wafer on AWS Lambda. One program serves whatever a function is invoked by:
//! function URLs and API Gateway, SQS, Kinesis, DynamoDB Streams, S3
//! notifications, EventBridge Scheduler.
//!
//! Settings, from the environment:
//!
//! | variable | what |
//! | --- | --- |
//! | `WAFER_PROJECT` | name of the project |
//! | `WAFER_STORE_ONLINE` | its table, `dynamodb://TABLE` |
//! | `WAFER_STORE_OBJECTS` | its folder, `s3://BUCKET/FOLDER` |
//! | `WAFER_EVENT_SOURCES` | for queues and streams the source that their records are events of: `ARN=SOURCE`, several with `;` between |
//! | `LAMBDA_TASK_ROOT` | the package, set by Lambda; compiled code may be in its folder `artifacts` |
//! | `WAFER_LOG` | what is logged, such as `info` or `wafer=debug`; default `info` |
//!
//! There is no compiler in it: components were compiled when they were deployed.

mod app;
mod failure;
mod handler;
mod records;
mod task;

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value as Json;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let filter = EnvFilter::try_from_env("WAFER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // CloudWatch has its own.
        .without_time()
        .init();
    // What is wrong here is wrong with the deployment: Lambda shows it as such.
    let handler = Arc::new(app::open().await?);
    let handle = |event: LambdaEvent<Json>| {
        let handler = Arc::clone(&handler);
        async move { handler.handle(event).await }
    };
    lambda_runtime::run(service_fn(handle)).await
}
