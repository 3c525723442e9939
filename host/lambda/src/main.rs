//! Wafer on AWS Lambda.
//!
//! One program handles every kind of invocation: requests from function URLs and API Gateway,
//! records from SQS, Kinesis and DynamoDB Streams, notifications from S3, and tasks from
//! EventBridge Scheduler and Step Functions. `handler.rs` tells them apart and describes what
//! happens to each.
//!
//! The program also starts itself as a child process, to decode Arrow and Parquet files.
//!
//! The program contains no compiler. Components are compiled when the project is deployed, and it
//! loads the native code.
//!
//! It is configured by environment variables:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `WAFER_PROJECT` | Name of the project |
//! | `WAFER_STORE_ONLINE` | URL of the project's table: `dynamodb://TABLE` |
//! | `WAFER_STORE_OBJECTS` | URL of the project's folder: `s3://BUCKET/FOLDER` |
//! | `WAFER_EVENT_SOURCES` | The source of the events of each queue and stream: `ARN=SOURCE`, separated by `;`; default: none |
//! | `WAFER_COPIES` | Folder for local copies of artifacts, in `artifacts` below it; default: `/tmp/wafer` |
//! | `TMPDIR` | Folder for temporary files; default: `/tmp` |
//! | `AWS_LAMBDA_RUNTIME_API` | Address of Lambda's API, set by Lambda |
//! | `LAMBDA_TASK_ROOT` | Folder of the package, set by Lambda; its folder `artifacts` may contain compiled code |
//! | `WAFER_LOG` | Filter of the log, such as `info` or `debug,hyper=info`; default: `info` |

mod app;
mod end;
mod environment;
mod failure;
mod handler;
mod metrics;
mod task;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, Service, service_fn};
use serde_json::Value as Json;
use wafer_log::Destination;

use handler::Handler;

/// A fifth of the time of a small request was spent in glibc's allocator (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument with which the program starts itself to decode Arrow and Parquet files.
const DECODE_FILES: &str = "decode-files";

fn main() -> Result<(), Error> {
    if std::env::args().nth(1).as_deref() == Some(DECODE_FILES) {
        std::process::exit(wafer_platform::decode_worker());
    }
    let program = wafer_platform::this_program()?;
    wafer_platform::decode_in_child(program, vec![DECODE_FILES.to_owned()]);
    app::name_folder_for_temporary_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(wafer_runtime::THREAD_STACK_BYTES)
        .enable_all()
        .build()?;
    runtime.block_on(handle_invocations())
}

async fn handle_invocations() -> Result<(), Error> {
    let filter = environment::variable("WAFER_LOG")?;
    wafer_log::start(Destination::Collector, filter.as_deref(), "info");
    // An error here is an error of the deployment. It ends the program before the first
    // invocation, which Lambda reports as a failed initialisation.
    let handler = Arc::new(app::open().await?);
    let api = environment::variable("AWS_LAMBDA_RUNTIME_API")?.unwrap_or_default();
    if let Err(error) = end::prepare(&api, Arc::clone(&handler)).await {
        tracing::warn!("what waits is lost when the environment ends: {error:#}");
    }
    let handle = |event: LambdaEvent<Json>| {
        let handler = Arc::clone(&handler);
        async move { handler.handle(event).await }
    };
    let after = layer_fn(|inner| BackgroundAfterAnswer {
        handler: Arc::clone(&handler),
        inner,
    });
    Runtime::new(service_fn(handle))
        .layer(TracingLayer::new())
        .layer(after)
        .run()
        .await
}

/// A layer that does background work after an answer was sent, and before it asks for the next
/// invocation. While the program waits for an invocation, Lambda may freeze it.
struct BackgroundAfterAnswer<S> {
    handler: Arc<Handler>,
    inner: S,
}

impl<S> Service<LambdaInvocation> for BackgroundAfterAnswer<S>
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
