//! The end of an environment.
//!
//! Lambda removes an environment that it does not need any longer, without a word unless an
//! extension is registered. With one in the program itself, the program gets the signal TERM and is
//! killed 500 ms later
//! (<https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>,
//! <https://github.com/aws-samples/graceful-shutdown-with-aws-lambda>). So an extension is
//! registered that wants no events, and what is left is done at the signal. An environment that
//! fails, or takes longer, is killed nevertheless.
//!
//! `lambda_runtime` can do the same (`spawn_graceful_shutdown_handler`), but panics if it cannot
//! register its extension, and needs another crate for two requests.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::handler::Handler;

/// The name of the extension, which must be unique within the function.
const EXTENSION: &str = "wafer";
/// The header that an extension is known by.
const IDENTIFIER: &str = "lambda-extension-identifier";
/// The time after which the log says what is still left, because Lambda is about to kill the
/// program.
const LATE: Duration = Duration::from_millis(400);
/// The most time for what is left then. Lambda kills the program before.
const MOST: Duration = Duration::from_secs(10);

/// Prepares the program for the end of its environment. `api` is the address of Lambda's API. This
/// must be called before the first invocation is asked for, because the list of extensions is
/// closed then.
///
/// # Errors
/// Returns an error when the signal cannot be waited for, or the extension is not registered. The
/// environment ends without a word then.
pub(crate) async fn prepare(api: &str, handler: Arc<Handler>) -> Result<()> {
    let ended = signal(SignalKind::terminate())?;
    let identifier = register(api).await?;
    tokio::spawn(wait_for_events(api.to_owned(), identifier));
    tokio::spawn(finish_at(ended, handler));
    Ok(())
}

/// Registers the extension, and returns its identifier.
async fn register(api: &str) -> Result<HeaderValue> {
    let request = Request::post("/2020-01-01/extension/register")
        .header(HOST, api)
        .header(CONTENT_TYPE, "application/json")
        .header("lambda-extension-name", EXTENSION)
        .body(r#"{"events":[]}"#.to_owned())?;
    let answer = send(api, request).await?;
    let status = answer.status();
    ensure!(status.is_success(), "the extension is refused: {status}");
    let identifier = answer.headers().get(IDENTIFIER);
    let identifier = identifier.context("the extension got no identifier")?;
    Ok(identifier.clone())
}

/// Asks for the events of the extension. There are none, but until an extension asks, it counts as
/// not initialised.
async fn wait_for_events(api: String, identifier: HeaderValue) {
    let request = Request::get("/2020-01-01/extension/event/next")
        .header(HOST, api.as_str())
        .header(IDENTIFIER, identifier)
        .body(String::new());
    let answered = match request {
        Ok(request) => send(&api, request).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = answered {
        tracing::warn!("the extension waits for no events: {error:#}");
    }
}

/// Sends a request on a connection of its own.
async fn send(api: &str, request: Request<String>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(api).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Does what is left when the signal comes, and ends the program.
async fn finish_at(mut ended: Signal, handler: Arc<Handler>) {
    ended.recv().await;
    let mut finishing = pin!(handler.finish());
    let mut in_time = timeout(LATE, &mut finishing).await.is_ok();
    if !in_time {
        tracing::warn!(
            "the environment ends, and the stores have not confirmed {} rows of the request log: \
             unless they do at once, these rows are lost",
            handler.unwritten_log_rows()
        );
        in_time = timeout(MOST, finishing).await.is_ok();
    }
    std::process::exit(i32::from(!in_time));
}
