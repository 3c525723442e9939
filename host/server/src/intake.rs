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
use wafer_platform::{BoundedFile, DiskRoom, RequestMemory};

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
    /// The places among these for requests that compute, except those with large bodies, which
    /// `threads` limits. `None` if requests that compute have no limit of their own.
    computing: Option<Places>,
    /// The places of requests with large bodies on threads of their own.
    threads: Places,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
}

/// Places of requests, of which a limited number does something at the same time.
struct Places {
    free: Arc<Semaphore>,
    /// Which requests take all places when none is free, for the message.
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

/// What requests for features wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// Processors alone: the stores are embedded, and answer at once.
    Processors,
    /// The answers of a service that holds the store.
    Store,
}

/// What a request does while it is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkKind {
    /// It looks features up and computes.
    Computes,
    /// It does something else.
    Other,
}

/// What a request holds while it is worked on.
type HeldPlaces = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Intake {
    /// Returns the intake of a server whose requests for features wait for this.
    pub(crate) fn new(options: ServerOptions, waits_for: WaitsFor) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let requests = options.limits.requests;
        let places = format!("{requests} requests are worked on (setting `server.requests`)");
        let apart = format!("{threads} requests with large bodies are worked on");
        let computing = COMPUTING_PER_PROCESSOR * threads;
        let has_limit = waits_for == WaitsFor::Processors && computing < requests;
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
        work: WorkKind,
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
        let _places = self.places(work).await?;
        let response = next.run(request).await;
        drop(charge);
        counted(response, &self.memory)
    }

    /// Waits for the places of a request. Whoever waits to compute leaves the other places to
    /// others.
    async fn places(&self, work: WorkKind) -> Result<HeldPlaces, Failure> {
        let until = self.end_of_queue();
        let computing = match self
            .computing
            .as_ref()
            .filter(|_| work == WorkKind::Computes)
        {
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
        let payload = Payload::received(bytes, allowance, Arc::clone(&self.memory));
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
    /// The number of bytes of the mark that was there.
    mark: usize,
    /// The memory that the request may take, with the body, in bytes.
    allowance: u64,
    /// The memory that all requests may take.
    budget: Arc<Budget>,
}

impl Payload {
    /// Returns a body outside of a server, with a budget of its own that has no end.
    pub(crate) fn new(bytes: Bytes, allowance: u64) -> Self {
        Self::received(bytes, allowance, Budget::new(u64::MAX))
    }

    /// Returns a body as it came in, but for a byte-order mark.
    fn received(mut sent: Bytes, allowance: u64, budget: Arc<Budget>) -> Self {
        let mark = sent.len() - without_mark(&sent).len();
        Self {
            bytes: sent.split_off(mark),
            mark,
            allowance,
            budget,
        }
    }

    /// Splits the body into its JSON and what follows. Whoever sent it counted `length` bytes of
    /// JSON, with a byte-order mark. Returns `None` if there are fewer.
    pub(crate) fn split(&self, length: usize) -> Option<(&[u8], &[u8])> {
        self.bytes.split_at_checked(length.checked_sub(self.mark)?)
    }

    /// Returns the number of bytes of the body, with a byte-order mark.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.mark + self.bytes.len()
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
    pub(crate) fn found(&self) -> (FoundCharge, RequestMemory) {
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
    let answered = intake.take(request, next, WorkKind::Other).await;
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
    let answered = intake.take(request, next, WorkKind::Computes).await;
    answered.unwrap_or_else(|failure| protocol.response(failure))
}

#[cfg(test)]
mod tests;
