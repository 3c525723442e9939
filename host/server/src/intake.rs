//! Intake: the way of every request to its handler, and of its answer back.
//!
//! 1. A request of another site is refused ([`guard`]).
//! 2. The body comes in, within its time and its size, and is decompressed. What of it is held
//!    beyond 4 KiB, which every connection has room for, is charged to the budget of all requests
//!    until the handler has ended ([`work`]). So a request with a tiny body is served even when
//!    others take the whole budget, and what all bodies take is known.
//! 3. The request waits until fewer others are worked on, one with a large body for a thread first.
//!    Waiting costs nothing but the connection, the body and its charge, so that under any load the
//!    server does as much as it can. Where a request for features or predictions waits for nothing
//!    but a processor, few of them are worked on ([`compute`]): what has been made of a request
//!    would leave the caches of the processors while hundreds of others are worked on, and a burst
//!    of slow ones would wait for sandboxes without a bound in time.
//! 4. A handler with a small body runs on the threads that do I/O. One with a large body runs, from
//!    decoding to encoding, on a thread of its own, so that others do not wait for it.
//! 5. What a handler looks up and functions return, from 64 KiB on, and an answer of more than 64
//!    KiB are charged to the budget, the answer until it was sent ([`charged`]), however small the
//!    request was. Smaller answers take 64 KiB for each connection at most.
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
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};
use wafer_core::{bytes_text, check_json_text, without_mark};
use wafer_platform::{BoundedFile, DiskRoom, FoundMemory};

use crate::access::{Hosts, NamedHost};
use crate::connections::Client;
use crate::encoding::Encoding;
use crate::error::Failure;
use crate::json_size::parsed_size;
use crate::limits::{Budget, Charge, Disk, FoundCharge, Pace, ServerLimits, allowance};
use crate::refusal::Refusal;
use crate::{MAX_BODY_BYTES, ServerOptions};

/// The size in bytes from which on an answer is charged, and a request gets a thread of its own for
/// its body. Smaller answers take no more than the buffers of their connections.
pub(crate) const LARGE: usize = 64 << 10;
/// The size in bytes from which on a body is charged. Smaller ones take less than their connections
/// and the values of their headers.
const TINY: usize = 4 << 10;

/// How many requests that compute are worked on for each processor. It keeps the processors busy
/// while some wait for each other.
const COMPUTING_PER_PROCESSOR: usize = 4;

/// The state that all requests of a server share.
pub(crate) struct Intake {
    limits: ServerLimits,
    hosts: Hosts,
    /// The places of requests that are worked on.
    places: Places,
    /// Of these, the places of requests that compute, apart from those with large bodies, of which
    /// `threads` has few; `None` if there is no limit of their own.
    computing: Option<Places>,
    /// The places of requests with large bodies on threads of their own.
    threads: Places,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
}

/// Places of requests, of which a limited number does something at the same time.
struct Places {
    free: Arc<Semaphore>,
    /// What takes all places when none is free, for the message.
    taken_by: String,
}

impl Places {
    fn new(count: usize, taken_by: String) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            taken_by,
        }
    }
}

/// What a request holds while it is worked on.
type HeldPlaces = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Intake {
    /// Returns the intake of a server. `waits_for_store` says whether requests for features wait
    /// for the answers of a store, and not for processors alone.
    pub(crate) fn new(options: ServerOptions, waits_for_store: bool) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let requests = options.limits.requests;
        let places = format!("{requests} requests are worked on (setting `server.requests`)");
        let apart = format!("{threads} requests with large bodies are worked on");
        let computing = COMPUTING_PER_PROCESSOR * threads;
        let has_limit = !waits_for_store && computing < requests;
        let computing = has_limit.then(|| {
            let taken_by = format!(
                "{computing} requests for features and predictions are worked on, \
                 {COMPUTING_PER_PROCESSOR} for each processor"
            );
            Places::new(computing, taken_by)
        });
        Arc::new(Self {
            places: Places::new(requests, places),
            computing,
            threads: Places::new(threads, apart),
            memory: Budget::new(options.limits.memory),
            disk: Budget::of_disk(options.limits.disk),
            limits: options.limits,
            hosts: options.hosts,
        })
    }

    /// Returns a charge to the budget of all requests.
    pub(crate) fn charge(&self) -> Charge {
        self.memory.charge()
    }

    /// Returns a charge to the budget of the disk of all requests.
    pub(crate) fn charge_of_disk(&self) -> Charge {
        self.disk.charge()
    }

    /// Returns the disk of a request for a training set, of which it has taken nothing yet.
    pub(crate) fn disk(&self) -> Arc<Disk> {
        let disk = Disk::new(self.disk.charge(), self.limits.disk_per_set);
        Arc::new(disk)
    }

    /// Runs the handler of a request, with its body.
    async fn take(
        &self,
        request: Request,
        next: Next,
        computes: bool,
    ) -> Result<Response, Failure> {
        if is_probe(&request) {
            return Ok(next.run(request).await);
        }
        if request.method() != Method::POST {
            // It asks for a description, and computes nothing.
            let _place = self.place(&self.places, self.end_of_queue()).await?;
            return counted(next.run(request).await, &self.memory);
        }
        let (parts, body) = request.into_parts();
        let (payload, charge) = self.receive(&parts.headers, body).await?;
        let is_large = payload.bytes.len() > LARGE;
        let mut request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(payload);
        if is_large {
            return self.run_apart(request, next, charge).await;
        }
        let _places = self.places(computes).await?;
        let response = next.run(request).await;
        drop(charge);
        counted(response, &self.memory)
    }

    /// Waits for the places of a request. Whoever waits to compute leaves the other places to
    /// others.
    async fn places(&self, computes: bool) -> Result<HeldPlaces, Failure> {
        let until = self.end_of_queue();
        let computing = match self.computing.as_ref().filter(|_| computes) {
            Some(computing) => Some(self.place(computing, until).await?),
            None => None,
        };
        Ok((computing, self.place(&self.places, until).await?))
    }

    /// Waits for a place, until a time.
    async fn place(
        &self,
        places: &Places,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = Arc::clone(&places.free).try_acquire_owned() {
            return Ok(place);
        }
        match timeout_at(until, Arc::clone(&places.free).acquire_owned()).await {
            Ok(place) => Ok(place.expect("it is never closed")),
            Err(_) => Err(Failure::busy(format!(
                "the server has too much to do: {}, and this one waited for {:?} (setting \
                 `server.queue_timeout`); try again later",
                places.taken_by, self.limits.queue_timeout
            ))),
        }
    }

    /// The time until which a request waits that begins to wait now.
    fn end_of_queue(&self) -> Instant {
        Instant::now() + self.limits.queue_timeout
    }

    /// Waits for one of the places of a route for as long as a request may wait. Returns `None` if
    /// none becomes free.
    pub(crate) async fn place_of_route(
        &self,
        places: &'static Semaphore,
    ) -> Option<SemaphorePermit<'static>> {
        let place = timeout(self.limits.queue_timeout, places.acquire()).await;
        place.ok().map(|place| place.expect("it is never closed"))
    }

    /// Runs a handler on a thread of its own. If the client leaves, it runs to its end, and keeps
    /// its places and the charge until then.
    async fn run_apart(
        &self,
        request: Request,
        next: Next,
        charge: Charge,
    ) -> Result<Response, Failure> {
        // Whoever waits for a thread leaves the places to requests with small bodies.
        let until = self.end_of_queue();
        let thread = self.place(&self.threads, until).await?;
        let place = self.place(&self.places, until).await?;
        let (runtime, memory) = (Handle::current(), Arc::clone(&self.memory));
        let handler = move || -> Result<Response, Failure> {
            let _places = (thread, place);
            let response = counted(runtime.block_on(next.run(request)), &memory)?;
            Ok(charged(response, charge))
        };
        spawn_blocking(handler)
            .await
            .map_err(|_| Failure::panicked())?
    }

    /// Takes in and decompresses a body, and charges it.
    async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<(Payload, Charge), Failure> {
        let encoding = Encoding::of(headers)?;
        let mut charge = self.charge();
        let sent = self.collect(headers, body, &mut charge).await?;
        let allowance = allowance(sent.len());
        let (bytes, charge) = match encoding {
            None => (sent, charge),
            Some(encoding) => self.decode(encoding, sent, charge).await?,
        };
        let payload = Payload {
            bytes: bytes.slice_ref(without_mark(&bytes)),
            allowance,
            budget: Arc::clone(&self.memory),
        };
        Ok((payload, charge))
    }

    /// Collects a body in memory, and charges it as it comes in.
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
        raise_unless_tiny(charge, first.len())?;
        let Some(second) = incoming.next().await? else {
            return Ok(first);
        };
        raise_unless_tiny(charge, first.len() + second.len())?;
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = incoming.next().await? {
            raise_unless_tiny(charge, whole.len() + chunk.len())?;
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Decompresses a body in memory, and charges it. Half of what the request may take is left for
    /// what is made of it. If the client leaves, the charge is kept until the thread has ended.
    async fn decode(
        &self,
        encoding: Encoding,
        sent: Bytes,
        mut charge: Charge,
    ) -> Result<(Bytes, Charge), Failure> {
        let limit = (allowance(sent.len()) / 2).min(MAX_BODY_BYTES as u64);
        let thread = self.place(&self.threads, self.end_of_queue()).await?;
        let decode = move || -> Result<(Bytes, Charge), Failure> {
            let _thread = thread;
            let mut decoded = Vec::new();
            encoding.decode(&sent[..], &mut decoded, limit)?;
            raise_unless_tiny(&mut charge, decoded.len())?;
            Ok((decoded.into(), charge))
        };
        spawn_blocking(decode)
            .await
            .map_err(|_| Failure::panicked())?
    }

    /// Takes a body in to a file, which has the decompressed body in the end, within the disk of
    /// the request. Returns the number of bytes that came in.
    pub(crate) async fn receive_file(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
        path: &Path,
        disk: &Arc<Disk>,
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
            disk.raise_by(chunk.len() as u64)?;
            file.write_all(&chunk).await.map_err(temporary_file_error)?;
        }
        file.flush().await.map_err(temporary_file_error)?;
        if let Some(encoding) = encoding {
            let (path, disk) = (path.to_owned(), Arc::clone(disk));
            let decode = move || -> Result<(), Failure> {
                let sent = std::fs::File::open(&sent_path).map_err(temporary_file_error)?;
                let file = std::fs::File::create(&path).map_err(temporary_file_error)?;
                let room = Arc::clone(&disk) as Arc<dyn DiskRoom>;
                let mut file = BoundedFile::new(file, Some(room));
                let decoded = encoding.decode(BufReader::new(sent), &mut file, limit as u64);
                decoded.map_err(|failure| disk.take_refused().unwrap_or(failure))?;
                std::fs::remove_file(&sent_path).map_err(temporary_file_error)?;
                let decoded = std::fs::metadata(&path).map_err(temporary_file_error)?;
                disk.lower_to(decoded.len());
                Ok(())
            };
            spawn_blocking(decode)
                .await
                .map_err(|_| Failure::panicked())??;
        }
        Ok(incoming.length)
    }
}

/// Returns whether a request asks how the server is, which is answered however much it has to do.
fn is_probe(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() != Method::POST && ["/v2/health/live", "/v2/health/ready"].contains(&path)
}

/// Charges a body of which `length` bytes are there, unless it is tiny.
fn raise_unless_tiny(charge: &mut Charge, length: usize) -> Result<(), Failure> {
    match length > TINY {
        true => charge.raise_for_body(length),
        false => Ok(()),
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
    fn new(body: Body, limits: &ServerLimits, limit: usize) -> Self {
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

/// The body of a request, decompressed and without a byte-order mark before its JSON, with the
/// memory that the request may take.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    /// The memory that the request may take, with the body, in bytes.
    allowance: u64,
    /// The memory that all requests may take.
    budget: Arc<Budget>,
}

impl Payload {
    /// Returns a body outside of a server, with a budget of its own that has no end.
    pub(crate) fn new(bytes: Bytes, allowance: u64) -> Self {
        Self {
            bytes,
            allowance,
            budget: Budget::new(u64::MAX),
        }
    }

    /// Charges what an answer keeps in memory until it was sent, in bytes, to the budget of all
    /// requests. An answer that is in memory as a whole is charged without this.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn charge(&self, bytes: u64) -> Result<Charge, Failure> {
        let mut charge = self.budget.charge();
        charge.raise(bytes)?;
        Ok(charge)
    }

    /// Returns the charge of what the request looks up, and of what functions return. Little of it
    /// is not charged.
    pub(crate) fn found(&self) -> (FoundCharge, FoundMemory) {
        let charge = FoundCharge::new(self.budget.charge());
        let memory = charge.memory(LARGE as u64);
        (charge, memory)
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
        check_text(json)
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

/// Checks that the parser keeps all of a JSON text: each number exactly, and each value of an
/// object. What was parsed no longer tells that it was something else.
///
/// # Errors
/// Returns status 400 with the first number that would become another one, or the first name that
/// an object has twice.
pub(crate) fn check_text(json: &[u8]) -> Result<(), Failure> {
    check_json_text(json).map_err(|reason| Failure::invalid(format!("the body {reason}")))
}

/// Marks a response whose memory is charged.
#[derive(Clone, Copy, Debug)]
struct IsCharged;

/// Charges a response that is in memory as a whole, unless it is small or was charged already. Its
/// body is sent as fast as the client reads, when others are worked on.
fn counted(response: Response, budget: &Arc<Budget>) -> Result<Response, Failure> {
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    if bytes <= LARGE as u64 || response.extensions().get::<IsCharged>().is_some() {
        return Ok(response);
    }
    let mut charge = budget.charge();
    charge.raise(bytes)?;
    Ok(charged(response, charge))
}

/// Returns a response whose memory counts as taken until its body was read.
pub(crate) fn charged<C: Send + Unpin + 'static>(mut response: Response, charge: C) -> Response {
    response.extensions_mut().insert(IsCharged);
    response.map(|body| {
        Body::new(Charged {
            body,
            _charge: charge,
        })
    })
}

/// The body of an answer, during which the memory of its request counts as taken.
struct Charged<C> {
    body: Body,
    _charge: C,
}

impl<C: Unpin> hyper::body::Body for Charged<C> {
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

/// A layer that answers requests whose handler panicked, and gives up those whose client has left.
pub(crate) async fn answered(request: Request, next: Next) -> Response {
    let protocol = Protocol::of(&request);
    let client = request.extensions().get::<Client>().cloned();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind();
    tokio::select! {
        answered = answered => {
            answered.unwrap_or_else(|_| protocol.response(Failure::panicked()))
        }
        () = left(client) => protocol.response(Failure::given_up(
            "the client closed its side of the connection, and the answer took too long after that",
        )),
    }
}

/// Waits until a client has left. One that is not connected to this server never does.
async fn left(client: Option<Client>) {
    match client {
        Some(client) => client.left().await,
        None => std::future::pending().await,
    }
}

/// A layer that refuses requests that do not name one host, on any route. It keeps the host with
/// the request, for [`guard`].
pub(crate) async fn one_host(mut request: Request, next: Next) -> Response {
    let host = NamedHost::of(&request);
    match host {
        Ok(host) => {
            request.extensions_mut().insert(host);
            next.run(request).await
        }
        Err(failure) => Protocol::of(&request).response(failure),
    }
}

/// A layer that refuses requests of other sites.
pub(crate) async fn guard(
    State(intake): State<Arc<Intake>>,
    request: Request,
    next: Next,
) -> Response {
    let protocol = Protocol::of(&request);
    if let Err(failure) = intake.hosts.check(&request) {
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
    let answered = intake.take(request, next, false).await;
    answered.unwrap_or_else(|failure| protocol.response(failure))
}

/// A layer like [`work`], for requests that look features up and compute. Fewer of them are worked
/// on at once if they need not wait for a store.
pub(crate) async fn compute(
    State(intake): State<Arc<Intake>>,
    request: Request,
    next: Next,
) -> Response {
    let protocol = Protocol::of(&request);
    let answered = intake.take(request, next, true).await;
    answered.unwrap_or_else(|failure| protocol.response(failure))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::{from_fn, from_fn_with_state};
    use axum::routing::{MethodRouter, get, post};
    use tower_service::Service as _;

    use super::*;
    use crate::connections::tests::connected;

    fn intake(memory: u64, queue_timeout: Duration) -> Arc<Intake> {
        let options = ServerOptions {
            limits: ServerLimits {
                memory,
                queue_timeout,
                ..ServerLimits::default()
            },
            hosts: Hosts::Any,
        };
        Intake::new(options, true)
    }

    /// Returns a router whose only route, `/`, is worked on by an intake.
    fn working(intake: &Arc<Intake>, route: MethodRouter) -> Router {
        let layer = from_fn_with_state(Arc::clone(intake), work);
        Router::new().route("/", route).layer(layer)
    }

    async fn send(router: &Router, body_bytes: usize) -> Response {
        let request = axum::http::Request::post("/");
        let request = request.body(Body::from(vec![b' '; body_bytes])).unwrap();
        router.clone().call(request).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_charged_until_it_was_sent_however_small_its_request_is() {
        const MEMORY: u64 = 8 << 20;
        let intake = intake(MEMORY, Duration::ZERO);
        let large = || async { vec![0_u8; 3 << 20] };
        let router = working(&intake, get(large).post(large));
        let free = || intake.memory.free();
        let first = send(&router, 10).await;
        assert_eq!(
            (first.status(), free()),
            (StatusCode::OK, MEMORY - (3 << 20))
        );
        let get = axum::http::Request::get("/").body(Body::empty()).unwrap();
        let second = router.clone().call(get).await.unwrap();
        assert_eq!(free(), MEMORY - (6 << 20));
        let refused = send(&router, 10).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        assert_eq!(send(&router, 10).await.status(), StatusCode::OK);
        let body = axum::body::to_bytes(second.into_body(), usize::MAX).await;
        assert_eq!((body.unwrap().len(), free()), (3 << 20, MEMORY));
    }

    #[tokio::test]
    async fn byte_order_mark_before_a_body_is_skipped() {
        let intake = intake(8 << 20, Duration::ZERO);
        let echo = |payload: Payload| async move { payload.bytes };
        let router = working(&intake, post(echo));
        for (body, wanted) in [
            ("\u{feff}{}", "{}"),
            ("\u{feff}", ""),
            ("{}\u{feff}", "{}\u{feff}"),
            ("", ""),
        ] {
            let request = axum::http::Request::post("/").body(Body::from(body));
            let answer = router.clone().call(request.unwrap()).await.unwrap();
            let found = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
            assert_eq!(found.unwrap(), wanted.as_bytes());
        }
    }

    #[tokio::test]
    async fn small_answers_need_no_budget_and_charged_ones_are_charged_once() {
        const MEMORY: u64 = 8 << 20;
        let intake = intake(MEMORY, Duration::ZERO);
        let small = working(&intake, post(|| async { vec![0_u8; LARGE] }));
        let answer = send(&small, 10).await;
        assert_eq!(intake.memory.free(), MEMORY);
        drop(answer);
        let kept = |payload: Payload| async move {
            let charge = payload.charge(1 << 20)?;
            let response = vec![0_u8; 1 << 20].into_response();
            Ok::<_, Failure>(charged(response, charge))
        };
        let answer = send(&working(&intake, post(kept)), 10).await;
        assert_eq!(intake.memory.free(), MEMORY - (1 << 20));
        drop(answer);
        assert_eq!(intake.memory.free(), MEMORY);
    }

    /// Memory for as many large bodies as there are processors, and some more.
    const MANY: u64 = 1 << 30;
    /// What a body takes that is just large.
    const JUST_LARGE: u64 = 8 * (LARGE as u64 + 1);

    /// A request whose body has brought so many bytes, and brings no more.
    fn begun(router: &Router, body_bytes: usize) -> tokio::task::JoinHandle<StatusCode> {
        let mut router = router.clone();
        let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; body_bytes]));
        let pieces = futures::stream::iter([piece]).chain(futures::stream::pending());
        let request = axum::http::Request::post("/").body(Body::from_stream(pieces));
        tokio::spawn(async move { router.call(request.unwrap()).await.unwrap().status() })
    }

    #[tokio::test]
    async fn all_bodies_are_charged_together_while_they_come_in() {
        const BODY: usize = 60 << 10;
        const MEMORY: u64 = 20 * 8 * BODY as u64;
        let intake = intake(MEMORY, Duration::ZERO);
        let router = working(&intake, post(|| async {}));
        let others: Vec<_> = (0..20).map(|_| begun(&router, BODY)).collect();
        while intake.memory.free() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(begun(&router, BODY).await.unwrap(), refused);
        assert_eq!(send(&router, TINY + 1).await.status(), refused);
        assert_eq!(send(&router, TINY).await.status(), StatusCode::OK);
        others.iter().for_each(tokio::task::JoinHandle::abort);
        while intake.memory.free() < MEMORY {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(send(&router, BODY).await.status(), StatusCode::OK);
        assert_eq!(intake.memory.free(), MEMORY);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_that_is_not_large_is_charged_until_its_handler_has_ended() {
        let intake = intake(MANY, Duration::ZERO);
        let (route, starts, may_end) = waiting();
        let router = working(&intake, route);
        let sent = tokio::spawn(async move { send(&router, LARGE).await.status() });
        tokio::task::block_in_place(|| starts.recv().unwrap());
        assert_eq!(intake.memory.free(), MANY - 8 * LARGE as u64);
        may_end.store(true, Ordering::Release);
        assert_eq!(sent.await.unwrap(), StatusCode::OK);
        assert_eq!(intake.memory.free(), MANY);
    }

    /// A route that says when it is worked on, and works until it is told to end.
    fn waiting() -> (MethodRouter, mpsc::Receiver<()>, Arc<AtomicBool>) {
        let (started, starts) = mpsc::channel();
        let may_end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&may_end);
        let handler = move || {
            let (started, ends) = (started.clone(), Arc::clone(&ends));
            async move {
                let _ = started.send(());
                while !ends.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        (post(handler), starts, may_end)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_leaves_gives_nothing_back_while_its_handler_runs() {
        let intake = intake(MANY, Duration::ZERO);
        let (route, starts, may_end) = waiting();
        let router = working(&intake, route);
        let client = tokio::spawn(async move { send(&router, LARGE + 1).await });
        tokio::task::block_in_place(|| starts.recv().unwrap());
        let (places, threads) = (&intake.places.free, &intake.threads.free);
        let (all_places, all_threads) = (places.available_permits(), threads.available_permits());
        assert_eq!(intake.memory.free(), MANY - JUST_LARGE);
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
        assert_eq!(intake.memory.free(), MANY - JUST_LARGE);
        assert_eq!(places.available_permits(), all_places);
        assert_eq!(threads.available_permits(), all_threads);
        may_end.store(true, Ordering::Release);
        while intake.memory.free() < MANY {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_that_wait_for_a_thread_leave_the_places_to_small_ones() {
        let intake = intake(MANY, Duration::from_secs(3_600));
        let (route, starts, may_end) = waiting();
        let router = working(&intake, route);
        let threads = intake.threads.free.available_permits();
        let places = intake.places.free.available_permits();
        let large = || {
            let router = router.clone();
            tokio::spawn(async move { send(&router, LARGE + 1).await.status() })
        };
        let working_ones: Vec<_> = (0..threads).map(|_| large()).collect();
        tokio::task::block_in_place(|| (0..threads).for_each(|_| starts.recv().unwrap()));
        let waiting_ones: Vec<_> = (0..4).map(|_| large()).collect();
        let all = (threads + waiting_ones.len()) as u64;
        while intake.memory.free() > MANY - all * JUST_LARGE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Their bodies have come in. They would take their places now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(intake.places.free.available_permits(), places - threads);
        may_end.store(true, Ordering::Release);
        for answered in working_ones.into_iter().chain(waiting_ones) {
            assert_eq!(answered.await.unwrap(), StatusCode::OK);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_without_a_body_need_a_place_and_probes_do_not() {
        let options = ServerOptions {
            limits: ServerLimits {
                requests: 1,
                queue_timeout: Duration::ZERO,
                ..ServerLimits::default()
            },
            hosts: Hosts::Any,
        };
        let intake = Intake::new(options, true);
        let (route, starts, may_end) = waiting();
        let router = Router::new()
            .route("/", route)
            .route("/v1/tables", get(|| async {}))
            .route("/v2/health/ready", get(|| async {}))
            .layer(from_fn_with_state(Arc::clone(&intake), work));
        let status = |path: &'static str| {
            let mut router = router.clone();
            async move {
                let request = axum::http::Request::get(path).body(Body::empty());
                router.call(request.unwrap()).await.unwrap().status()
            }
        };
        let working = {
            let router = router.clone();
            tokio::spawn(async move { send(&router, 10).await.status() })
        };
        tokio::task::block_in_place(|| starts.recv().unwrap());
        assert_eq!(status("/v1/tables").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/v2/health/ready").await, StatusCode::OK);
        may_end.store(true, Ordering::Release);
        assert_eq!(working.await.unwrap(), StatusCode::OK);
        assert_eq!(status("/v1/tables").await, StatusCode::OK);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn few_requests_compute_at_once_if_they_wait_for_processors_alone() {
        for waits_for_store in [false, true] {
            let options = ServerOptions {
                limits: ServerLimits {
                    requests: 1_000,
                    queue_timeout: Duration::ZERO,
                    ..ServerLimits::default()
                },
                hosts: Hosts::Any,
            };
            let intake = Intake::new(options, waits_for_store);
            assert_eq!(intake.computing.is_none(), waits_for_store);
            let (route, starts, may_end) = waiting();
            let layer = from_fn_with_state(Arc::clone(&intake), compute);
            let route = route.get(|| async {});
            let computing = Router::new().route("/", route).layer(layer);
            let others = working(&intake, post(|| async {}));
            let count = intake
                .computing
                .as_ref()
                .map_or(100, |places| places.free.available_permits());
            let begin = |body_bytes: usize| {
                let router = computing.clone();
                tokio::spawn(async move { send(&router, body_bytes).await.status() })
            };
            let mut begun: Vec<_> = (0..count).map(|_| begin(10)).collect();
            tokio::task::block_in_place(|| (0..count).for_each(|_| starts.recv().unwrap()));
            if intake.computing.is_some() {
                let refused = StatusCode::SERVICE_UNAVAILABLE;
                assert_eq!(send(&computing, 10).await.status(), refused);
            }
            assert_eq!(send(&others, 10).await.status(), StatusCode::OK);
            let described = axum::http::Request::get("/").body(Body::empty()).unwrap();
            let described = computing.clone().call(described).await.unwrap();
            assert_eq!(described.status(), StatusCode::OK);
            // It has a thread of its own, which others with large bodies need.
            begun.push(begin(LARGE + 1));
            tokio::task::block_in_place(|| starts.recv().unwrap());
            may_end.store(true, Ordering::Release);
            for answered in begun {
                assert_eq!(answered.await.unwrap(), StatusCode::OK);
            }
            assert_eq!(send(&computing, 10).await.status(), StatusCode::OK);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_wait_for_a_thread_only_as_long_as_for_a_place() {
        let intake = intake(MANY, Duration::ZERO);
        let (route, starts, may_end) = waiting();
        let router = working(&intake, route);
        let threads = intake.threads.free.available_permits();
        let working_ones: Vec<_> = (0..threads)
            .map(|_| {
                let router = router.clone();
                tokio::spawn(async move { send(&router, LARGE + 1).await.status() })
            })
            .collect();
        tokio::task::block_in_place(|| (0..threads).for_each(|_| starts.recv().unwrap()));
        let refused = send(&router, LARGE + 1).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        may_end.store(true, Ordering::Release);
        for answered in working_ones {
            assert_eq!(answered.await.unwrap(), StatusCode::OK);
        }
        assert_eq!(send(&router, 10).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_request_is_given_up_when_its_client_has_left() {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let handler = move || {
            let ends = Arc::clone(&ends);
            async move {
                while !ends.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let router = Router::new()
            .route("/v1/views", get(handler.clone()))
            .route("/v2/models", get(handler))
            .layer(from_fn(answered));
        let ask = |client: Client, path: &str| {
            let request = axum::http::Request::get(path).extension(client);
            let mut router = router.clone();
            tokio::spawn(router.call(request.body(Body::empty()).unwrap()))
        };
        for (path, wanted) in [
            (
                "/v1/views",
                r#"{"error":{"code":"invalid","message":"the client closed"#,
            ),
            ("/v2/models", r#"{"error":"the client closed"#),
        ] {
            let (client, end) = connected(Duration::ZERO).await;
            let asked = ask(client, path);
            drop(end);
            let response = asked.await.unwrap().unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            let body = axum::body::to_bytes(response.into_body(), 4096).await;
            let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(body.starts_with(wanted), "{body}");
        }
        // One that has closed its side gets an answer that is there soon.
        let (client, end) = connected(Duration::from_secs(3_600)).await;
        let asked = ask(client, "/v1/views");
        drop(end);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!asked.is_finished());
        is_over.store(true, Ordering::Release);
        assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::OK);
    }

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
