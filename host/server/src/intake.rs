//! Intake: the way of every request to its handler, and of its answer back.
//!
//! 1. A request of another site is refused ([`guard`]).
//! 2. The body comes in, within its time and its size, and is decompressed. From 64 KiB on, it is
//!    charged to the budget of all requests ([`work`]).
//! 3. The request waits until fewer others are worked on. Waiting costs nothing but the connection
//!    and the body, so that under any load the server does as much as it can.
//! 4. A handler with a small body runs on the threads that do I/O. One with a large body runs, from
//!    decoding to encoding, on a thread of its own, so that others do not wait for it.
//!
//! A handler takes its body as a [`Payload`], which knows how much memory the request may take:
//! what is made of a body can be much larger than the body, and is counted before it is made.

use std::io::BufReader;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};
use hyper::body::{Frame, SizeHint};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{timeout, timeout_at};
use wafer_core::{bytes_text, cut_to, lost_number};

use crate::access::Hosts;
use crate::encoding::Encoding;
use crate::error::Failure;
use crate::json_size::parsed_size;
use crate::limits::{Budget, Charge, Limits, Pace, allowance};
use crate::refusal::Refusal;
use crate::{MAX_BODY_BYTES, ServerOptions};

/// The size in bytes from which on a body is charged, and its request gets a thread of its own.
const LARGE: usize = 64 << 10;
/// The greatest size of a number in an error, in bytes.
const SHOWN_NUMBER: usize = 60;

/// The state that all requests of a server share.
pub(crate) struct Intake {
    limits: Limits,
    hosts: Hosts,
    /// The places of requests that are worked on.
    places: Semaphore,
    /// The places of requests with large bodies on threads of their own.
    threads: Arc<Semaphore>,
    memory: Arc<Budget>,
}

impl Intake {
    pub(crate) fn new(options: ServerOptions) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Arc::new(Self {
            places: Semaphore::new(options.limits.requests),
            threads: Arc::new(Semaphore::new(threads)),
            memory: Budget::new(options.limits.memory),
            limits: options.limits,
            hosts: options.hosts,
        })
    }

    /// Returns a charge to the budget of all requests.
    pub(crate) fn charge(&self) -> Charge {
        self.memory.charge()
    }

    /// Runs the handler of a request, with its body.
    async fn take(&self, request: Request, next: Next) -> Result<Response, Failure> {
        if request.method() != Method::POST {
            return Ok(next.run(request).await);
        }
        let (parts, body) = request.into_parts();
        let mut charge = self.charge();
        let payload = self.receive(&parts.headers, body, &mut charge).await?;
        let is_large = payload.bytes.len() > LARGE;
        let mut request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(payload);
        let _place = self.place().await?;
        if !is_large {
            return Ok(next.run(request).await);
        }
        let response = self.run_apart(request, next).await?;
        Ok(charged(response, charge))
    }

    /// Waits until the request may be worked on.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        match timeout(self.limits.queue_timeout, self.places.acquire()).await {
            Ok(place) => Ok(place.expect("it is never closed")),
            Err(_) => Err(Failure::busy(format!(
                "the server has too much to do: {} requests are worked on (setting \
                 `server.requests`), and this one waited for {:?} (setting `server.queue_timeout`); \
                 try again later",
                self.limits.requests, self.limits.queue_timeout
            ))),
        }
    }

    /// Runs a handler on a thread of its own. If the client leaves, it runs to its end.
    async fn run_apart(&self, request: Request, next: Next) -> Result<Response, Failure> {
        let threads = Arc::clone(&self.threads);
        let place = threads.acquire_owned().await.expect("it is never closed");
        let runtime = Handle::current();
        let handler = move || {
            let _place = place;
            runtime.block_on(next.run(request))
        };
        spawn_blocking(handler)
            .await
            .map_err(|_| Failure::panicked())
    }

    /// Takes in and decompresses a body, and charges it.
    async fn receive(
        &self,
        headers: &HeaderMap,
        body: Body,
        charge: &mut Charge,
    ) -> Result<Payload, Failure> {
        let encoding = Encoding::of(headers)?;
        let sent = self.collect(headers, body, charge).await?;
        let allowance = allowance(sent.len());
        let bytes = match encoding {
            None => sent,
            Some(encoding) => self.decode(encoding, sent).await?,
        };
        if bytes.len() > LARGE {
            charge.raise_for_body(bytes.len())?;
        }
        Ok(Payload::new(bytes, allowance))
    }

    /// Collects a body in memory.
    async fn collect(
        &self,
        headers: &HeaderMap,
        body: Body,
        charge: &mut Charge,
    ) -> Result<Bytes, Failure> {
        check_declared(headers, MAX_BODY_BYTES)?;
        let mut incoming = Incoming::new(body, &self.limits, MAX_BODY_BYTES);
        let Some(first) = incoming.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = incoming.next().await? else {
            return Ok(first);
        };
        let mut whole = BytesMut::with_capacity(LARGE);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = incoming.next().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > LARGE {
                charge.raise_for_body(whole.len())?;
            }
        }
        Ok(whole.freeze())
    }

    /// Decompresses a body in memory. Half of what the request may take is left for what is made of
    /// it.
    async fn decode(&self, encoding: Encoding, sent: Bytes) -> Result<Bytes, Failure> {
        let limit = (allowance(sent.len()) / 2).min(MAX_BODY_BYTES as u64);
        let threads = Arc::clone(&self.threads);
        let place = threads.acquire_owned().await.expect("it is never closed");
        let decode = move || -> Result<Bytes, Failure> {
            let _place = place;
            let mut decoded = Vec::new();
            encoding.decode(&sent[..], &mut decoded, limit)?;
            Ok(decoded.into())
        };
        spawn_blocking(decode)
            .await
            .map_err(|_| Failure::panicked())?
    }

    /// Takes a body in to a file, which has the decompressed body in the end. Returns the number of
    /// bytes that came in.
    pub(crate) async fn receive_file(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
        path: &Path,
    ) -> Result<usize, Failure> {
        let encoding = Encoding::of(headers)?;
        check_declared(headers, limit)?;
        let sent_path = match encoding {
            None => path.to_owned(),
            Some(_) => path.with_extension("sent"),
        };
        let mut incoming = Incoming::new(body, &self.limits, limit);
        let mut file = tokio::fs::File::create(&sent_path)
            .await
            .map_err(temporary_file_error)?;
        while let Some(chunk) = incoming.next().await? {
            file.write_all(&chunk).await.map_err(temporary_file_error)?;
        }
        file.flush().await.map_err(temporary_file_error)?;
        if let Some(encoding) = encoding {
            let path = path.to_owned();
            let decode = move || -> Result<(), Failure> {
                let sent = std::fs::File::open(&sent_path).map_err(temporary_file_error)?;
                let mut file = std::fs::File::create(&path).map_err(temporary_file_error)?;
                encoding.decode(BufReader::new(sent), &mut file, limit as u64)?;
                std::fs::remove_file(&sent_path).map_err(temporary_file_error)
            };
            spawn_blocking(decode)
                .await
                .map_err(|_| Failure::panicked())??;
        }
        Ok(incoming.length)
    }
}

/// Returns the error for a temporary file that cannot be written or read.
pub(crate) fn temporary_file_error(error: std::io::Error) -> Failure {
    Failure::busy(format!("a temporary file cannot be used: {error}"))
}

/// Checks the length that a body has by its header, before any of it comes in.
fn check_declared(headers: &HeaderMap, limit: usize) -> Result<(), Failure> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let declared = declared.and_then(|length| length.parse::<u64>().ok());
    match declared.is_some_and(|length| length > limit as u64) {
        true => Err(larger_than(limit)),
        false => Ok(()),
    }
}

fn larger_than(limit: usize) -> Failure {
    let limit = bytes_text(limit as u64);
    Failure::too_large(format!("the body is larger than {limit}; send it in parts"))
}

/// A body that comes in, within its time and its size.
struct Incoming {
    chunks: BodyDataStream,
    pace: Pace,
    limit: usize,
    /// The number of bytes that have come in.
    length: usize,
}

impl Incoming {
    fn new(body: Body, limits: &Limits, limit: usize) -> Self {
        Self {
            chunks: body.into_data_stream(),
            pace: Pace::start(limits.body_timeout),
            limit,
            length: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let deadline = self.pace.deadline().into();
        let Ok(chunk) = timeout_at(deadline, self.chunks.next()).await else {
            return Err(Failure::too_slow(format!(
                "the body came too slowly: {} within the time that it had (setting \
                 `server.body_timeout`)",
                bytes_text(self.length as u64)
            )));
        };
        let Some(chunk) = chunk else {
            return Ok(None);
        };
        let chunk = chunk.map_err(|e| Failure::invalid(format!("the body cannot be read: {e}")))?;
        self.pace.advance(chunk.len());
        self.length += chunk.len();
        match self.length > self.limit {
            true => Err(larger_than(self.limit)),
            false => Ok(Some(chunk)),
        }
    }
}

/// The body of a request, decompressed, with the memory that the request may take.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    /// The memory that the request may take, with the body, in bytes.
    allowance: u64,
}

impl Payload {
    pub(crate) fn new(bytes: Bytes, allowance: u64) -> Self {
        Self { bytes, allowance }
    }

    /// Checks that the request may take `bytes` of memory beside its body.
    ///
    /// # Errors
    /// Returns status 413 if it may not.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Failure> {
        if bytes <= self.left() {
            return Ok(());
        }
        Err(Failure::too_large(format!(
            "the body of {} has so many values that the request would take {} of memory, and it may \
             take {}; send fewer rows at once",
            bytes_text(self.bytes.len() as u64),
            bytes_text(bytes.saturating_add(self.bytes.len() as u64)),
            bytes_text(self.allowance)
        )))
    }

    /// Checks a JSON body before it is parsed: that the request may take the memory of what is
    /// parsed, and that the parser keeps each number exactly.
    ///
    /// # Errors
    /// Returns status 413 or 400 if not.
    pub(crate) fn check_json(&self) -> Result<(), Failure> {
        self.check_json_part(&self.bytes)
    }

    /// Checks a part of the body like [`Self::check_json`], in a body of which only a part is JSON.
    ///
    /// # Errors
    /// Returns status 413 or 400 if it may not be parsed.
    pub(crate) fn check_json_part(&self, json: &[u8]) -> Result<(), Failure> {
        self.check(parsed_size(json, self.left()))?;
        check_numbers(json)
    }

    /// Returns how much memory the request may take beside its body, in bytes.
    pub(crate) fn left(&self) -> u64 {
        self.allowance.saturating_sub(self.bytes.len() as u64)
    }
}

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = Failure;

    async fn from_request(mut request: Request, _state: &S) -> Result<Self, Failure> {
        let payload = request.extensions_mut().remove();
        payload.ok_or_else(|| Failure::invalid("the route takes no body"))
    }
}

/// Checks that the parser keeps each number of a JSON text exactly. A parsed number no longer tells
/// that it was another one.
///
/// # Errors
/// Returns status 400 with the first number that would become another one.
pub(crate) fn check_numbers(json: &[u8]) -> Result<(), Failure> {
    match lost_number(json) {
        None => Ok(()),
        Some(number) => Err(Failure::invalid(format!(
            "the body has the number {}, which is not kept exactly: write an integer of at most 64 \
             bits without a decimal point and without an exponent, and another number with no more \
             digits than a float64 keeps",
            cut_to(number, SHOWN_NUMBER)
        ))),
    }
}

/// Returns a response whose memory counts as taken until its body was read.
pub(crate) fn charged(response: Response, charge: Charge) -> Response {
    response.map(|body| {
        Body::new(Charged {
            body,
            _charge: charge,
        })
    })
}

/// The body of an answer, during which the memory of its request counts as taken.
struct Charged {
    body: Body,
    _charge: Charge,
}

impl hyper::body::Body for Charged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The form in which a protocol writes errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Wafer's own, and Feast's.
    Wafer,
    /// The Open Inference Protocol.
    OpenInference,
}

impl Protocol {
    fn of(request: &Request) -> Self {
        let path = request.uri().path();
        match path == "/v2" || path.starts_with("/v2/") {
            true => Self::OpenInference,
            false => Self::Wafer,
        }
    }

    fn response(self, failure: Failure) -> Response {
        match self {
            Self::Wafer => failure.into_response(),
            Self::OpenInference => Refusal::from(failure).into_response(),
        }
    }
}

/// A layer that answers requests whose handler panicked.
pub(crate) async fn answered(request: Request, next: Next) -> Response {
    let protocol = Protocol::of(&request);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answered.unwrap_or_else(|_| protocol.response(Failure::panicked()))
}

/// A layer that refuses requests of other sites.
pub(crate) async fn guard(
    State(intake): State<Arc<Intake>>,
    request: Request,
    next: Next,
) -> Response {
    let protocol = Protocol::of(&request);
    if let Err(failure) = intake.hosts.check(request.uri(), request.headers()) {
        return protocol.response(failure);
    }
    next.run(request).await
}

/// A layer that takes in the bodies of requests, and works on a limited number of them at once.
pub(crate) async fn work(
    State(intake): State<Arc<Intake>>,
    request: Request,
    next: Next,
) -> Response {
    let protocol = Protocol::of(&request);
    let answered = intake.take(request, next).await;
    answered.unwrap_or_else(|failure| protocol.response(failure))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower_service::Service as _;

    use super::*;

    #[test]
    fn numbers_that_a_parser_makes_others_of_are_refused_by_name() {
        let long = "7".repeat(10_000);
        for (json, wanted) in [
            (r#"{"rows":[{"id":9007199254740993,"v":0.1}]}"#, None),
            (r#"{"rows":[{"id":7.0,"v":1e23,"w":-0.0}]}"#, None),
            (r#"{"rows":[{"id":18446744073709551615}]}"#, None),
            (r#"{"rows":[{"name":"9007199254740993.0"}]}"#, None),
            (
                r#"{"rows":[{"id":9007199254740993.0}]}"#,
                Some("has the number 9007199254740993.0, which"),
            ),
            (
                r#"{"rows":[{"id":123456789012345678901234567890}]}"#,
                Some("has the number 123456789012345678901234567890, which"),
            ),
            (
                r#"{"rows":[{"v":1e400}]}"#,
                Some("has the number 1e400, which"),
            ),
            (
                r#"{"rows":[{"v":1e-400}]}"#,
                Some("has the number 1e-400, which"),
            ),
            (&long, Some("has the number 7777")),
        ] {
            let payload = Payload::new(json.to_owned().into(), 1 << 20);
            match (payload.check_json(), wanted) {
                (Ok(()), None) => {}
                (Err(failure), Some(part)) => {
                    assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
                    let message = failure.into_message();
                    assert!(message.contains(part) && message.len() < 400, "{message}");
                }
                (found, wanted) => panic!("{json}: {found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_the_form_of_the_protocol() {
        let panics = || async {
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
        };
        let mut router = Router::new()
            .route("/v1/views", get(panics))
            .route("/v2/models", get(panics))
            .layer(from_fn(answered));
        for (path, wanted) in [
            ("/v1/views", r#"{"error":{"code":"internal","#),
            ("/v2/models", r#"{"error":"internal error"#),
        ] {
            let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = axum::body::to_bytes(response.into_body(), 4096).await;
            let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(body.starts_with(wanted), "{body}");
        }
    }
}
