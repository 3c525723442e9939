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

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, Service, service_fn};
use serde_json::Value as Json;
use tracing_subscriber::EnvFilter;

use handler::Handler;

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
    let after = layer_fn(|inner| Afterwards {
        handler: Arc::clone(&handler),
        inner,
    });
    Runtime::new(service_fn(handle))
        .layer(TracingLayer::new())
        .layer(after)
        .run()
        .await
}

/// Does what nobody waits for, between an answer that was sent and the next invocation: the
/// environment may be frozen then.
struct Afterwards<S> {
    handler: Arc<Handler>,
    inner: S,
}

impl<S> Service<LambdaInvocation> for Afterwards<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let (answered, handler) = (self.inner.call(invocation), Arc::clone(&self.handler));
        Box::pin(async move {
            let answered = answered.await;
            handler.after_answer().await;
            answered
        })
    }
}
