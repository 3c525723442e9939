//! The connections of a server: how many there are, how long they may take, and how they end.
//!
//! A client may close its side of a connection once its request is sent, as `nc -N` does, and read
//! the answer. A client that has left looks the same until something is written to it. So a request
//! is worked on for [`CLOSED_SIDE_TIME`] after its client has closed its side, and is given up
//! then; that a connection was reset is noticed at once. Whoever works longer, and would do so for
//! nobody, waits for [`Client::closed_its_side`]. Once an answer is being written, errors and the
//! time-out of writing tell that nobody reads it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use tower_service::Service as _;

use crate::limits::{Pace, ServerLimits};
use crate::occasional::Occasional;
use crate::stopping::Stopping;

/// The size of the buffers of a connection in bytes. A read may fill somewhat more.
const BUFFER: usize = 64 << 10;
/// The most bytes that the request line and the headers of a request have together, with the empty
/// line behind them. They may be at most 100 headers, which is what hyper parses without a list on
/// the heap. Beyond either, hyper answers 431.
const HEAD_BYTES: usize = 64 << 10;
/// The pause after a connection could not be accepted, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);
/// The number of refused connections, beyond those that are allowed, that are told why at the same
/// time. Each has a file descriptor and a few KiB for at most a second. Further ones are
/// dropped without an answer: whoever opens connections faster than that must not take what the
/// allowed ones need.
pub const REFUSALS: usize = 1_024;
/// The longest time in which the last answer of a connection is written, and what the client still
/// sends is discarded.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// The most bytes that are discarded then.
const CLOSING_BYTES: usize = 1 << 20;
/// The answer to a connection that is refused. It is the same for all requests, because none is
/// read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 142\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"unavailable\",\"message\":\"the server has as many connections as it may \
    have (setting `server.connections`); try again later\"}}";

/// The answer to a connection that begins with the preface of HTTP/2.
const OTHER_VERSION: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: application/json\r\n\
    content-length: 155\r\n\
    connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"unsupported_version\",\"message\":\"the server speaks HTTP/1.1 alone, and the \
    connection began with the preface of HTTP/2; ask by HTTP/1.1\"}}";
/// The answer to a request whose headers did not come in time.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/json\r\n\
    content-length: 137\r\n\
    connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"too_slow\",\"message\":\"the headers of the request came too slowly (setting \
    `server.header_timeout`); send them at once\"}}";
/// The answer to a request that ends within its headers.
const CUT_HEAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: application/json\r\n\
    content-length: 94\r\n\
    connection: close\r\n\
    \r\n\
    {\"error\":{\"code\":\"invalid\",\"message\":\"the request ended within its headers; send them \
    whole\"}}";

/// The longest time that a request is worked on after its client has closed its side of the
/// connection. Nearly every answer is there earlier.
const CLOSED_SIDE_TIME: Duration = Duration::from_secs(10);

/// The longest time in which what is left of a body is read after its request was answered.
const LEFT_TIME: Duration = Duration::from_secs(5);
/// The most bytes that are read then.
const LEFT_BYTES: usize = 512 << 20;

/// The lines about connections that were refused.
static REFUSED: Occasional = Occasional::new();
/// The lines about connections that could not be accepted.
static NOT_ACCEPTED: Occasional = Occasional::new();

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The client of a request, by what its connection tells about it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    stream: SharedStream,
    /// The time that a request is worked on after the client has closed its side.
    patience: Duration,
}

/// A connection that hyper reads and writes, and that is looked at while hyper does neither. It is
/// locked for one call that does not block.
type SharedStream = Arc<Mutex<TcpStream>>;

fn locked(stream: &SharedStream) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Waits until the client has closed its side of the connection or reset it, and all that it
    /// has sent was read. Returns the error of a connection that was reset.
    pub(crate) async fn closed_its_side(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_closed_its_side(context)).await
    }

    fn poll_closed_its_side(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        match ready!(locked(&self.stream).poll_peek(context, &mut byte)) {
            Ok(0) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
            // hyper reads a body, and then this is polled again. It does not read a next request,
            // and what comes behind that is not known.
            Ok(_) => Poll::Pending,
        }
    }

    /// Waits until the client must be taken to have left.
    pub(crate) async fn left(&self) {
        if self.closed_its_side().await.is_ok() {
            sleep(self.patience).await;
        }
    }
}

/// Answers the requests of all connections until `stop` completes, and then of those that have
/// begun, for as long as the limits say. Returns how long the rest may take.
pub(crate) async fn answer_connections(
    listener: TcpListener,
    router: Router,
    limits: &ServerLimits,
    stop: impl Future<Output = ()>,
) -> Stopping {
    let (stop_connections, stopped) = watch::channel(());
    let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        while connections.try_join_next().is_some() {}
        while refusals.try_join_next().is_some() {}
        if connections.len() < limits.connections {
            let connection = Connection {
                stream,
                peer,
                router: router.clone(),
                limits: limits.clone(),
                stopped: stopped.clone(),
            };
            connections.spawn(connection.answer());
            continue;
        }
        if let Some(held_back) = REFUSED.line() {
            let limit = limits.connections;
            tracing::warn!(
                limit,
                held_back,
                "a connection was refused: there are too many"
            );
        }
        if refusals.len() < REFUSALS {
            refusals.spawn(close_with(stream, REFUSAL));
        }
    }
    let stopping = Stopping::begin(limits.drain_timeout);
    drop(listener);
    drop(stop_connections);
    drain(connections, &stopping).await;
    stopping
}

/// Waits for the requests in progress, and then closes what is left.
async fn drain(mut connections: JoinSet<()>, stopping: &Stopping) {
    let open = AtomicUsize::new(connections.len());
    let all = async {
        while connections.join_next().await.is_some() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    };
    let waits_for = || format!("{} connections", open.load(Ordering::Relaxed));
    let end = stopping.end_of_requests();
    if stopping.wait(end, all, waits_for).await.is_none() {
        let count = connections.len();
        tracing::warn!(
            "{count} connections had not finished in time and were closed (setting \
             `server.drain_timeout`, of which requests have four fifths)"
        );
        // One that is in the middle of a long computation cannot be closed now.
        let _ = timeout(CLOSING_TIME, connections.shutdown()).await;
    }
}

/// Accepts a connection. Errors are logged, and the next connection is waited for.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client left before its connection was accepted.
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                if let Some(held_back) = NOT_ACCEPTED.line() {
                    tracing::error!(held_back, "a connection cannot be accepted: {error}");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

/// Writes the last answer of a connection, and closes it so that the client sees the answer: if
/// what the client has sent were not read, the system would reset the connection, and drop an
/// answer that is still on its way.
async fn close_with(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let closing = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let (mut rest, mut left) = ([0; 4096], CLOSING_BYTES);
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // A client that left, or does not read, misses the answer.
    let _ = timeout(CLOSING_TIME, closing).await;
}

/// Returns what is still to be answered on a connection that ended with an error of a request which
/// never got to a handler, or `None` if nothing is. `unread` is what was read and not understood.
fn last_answer(error: &hyper::Error, unread: &[u8]) -> Option<&'static [u8]> {
    if error.is_parse_version_h2() {
        return Some(OTHER_VERSION);
    }
    if error.is_parse() {
        // hyper has answered, without a body: 400 or 431. Of a target for which it answers 414, the
        // head is larger than it may be.
        return Some(b"");
    }
    // An idle connection is closed without an answer.
    match (error.is_timeout(), error.is_incomplete_message()) {
        _ if unread.is_empty() => None,
        (true, _) => Some(SLOW_HEAD),
        (_, true) => Some(CUT_HEAD),
        _ => None,
    }
}

/// A connection to a client.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ServerLimits,
    /// Closed when the server is being stopped.
    stopped: watch::Receiver<()>,
}

impl Connection {
    /// Answers all requests of the connection.
    async fn answer(self) {
        let Self {
            stream,
            peer,
            router,
            limits,
            mut stopped,
        } = self;
        // An answer is written as a whole, so that waiting for more of it would only delay it.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(Mutex::new(stream));
        let client = Client {
            stream: Arc::clone(&stream),
            patience: CLOSED_SIDE_TIME,
        };
        let stream = TokioIo::new(TimedStream {
            stream,
            timeout: limits.write_timeout,
            writing: None,
        });
        let has_asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&has_asked);
        let service = service_fn(move |request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            let mut request = request.map(|body| Body::new(RequestBody(Some(body))));
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(client.clone());
            router.clone().call(request)
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(BUFFER)
            .max_header_size(HEAD_BYTES)
            .half_close(true)
            .serve_connection(stream, service);
        let answered = tokio::select! {
            answered = &mut connection => answered,
            _ = stopped.changed() => {
                // hyper would wait for the first request of a connection.
                if !has_asked.load(Ordering::Relaxed) {
                    return;
                }
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        let Err(error) = answered else {
            return;
        };
        tracing::debug!("connection of {peer}: {error}");
        let Parts { io, read_buf, .. } = connection.into_parts();
        let stream = io.into_inner();
        // In the middle of another answer, nothing can be said.
        if stream.writing.is_none()
            && let Some(answer) = last_answer(&error, &read_buf)
        {
            close_with(stream, answer).await;
        }
    }
}

/// The body of a request, until it ends.
///
/// If the request was refused before its body was read, the rest of the body is read and discarded
/// when this is dropped. If the connection were closed instead, the system would reset it, and the
/// client might not see the answer.
struct RequestBody(Option<Incoming>);

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async { timeout(LEFT_TIME, discard(body)).await });
        }
    }
}

/// Reads and discards a body.
async fn discard(mut body: Incoming) {
    let mut left = LEFT_BYTES;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        left = left.saturating_sub(length);
        if left == 0 {
            return;
        }
    }
}

/// A stream whose writes fail when the other side reads too slowly.
struct TimedStream {
    stream: SharedStream,
    timeout: Duration,
    /// The pace of the current write and its timer, while the other side has not read all of it.
    writing: Option<(Pace, Pin<Box<Sleep>>)>,
}

impl TimedStream {
    /// Passes the result of a write on, unless the write has waited too long.
    fn timed(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Ok(bytes), Some((pace, _))) = (&written, &mut self.writing) {
                pace.advance(*bytes);
            }
            return Poll::Ready(written);
        }
        let limit = self.timeout;
        let (pace, timer) = self.writing.get_or_insert_with(|| {
            let pace = Pace::start(limit);
            let timer = Box::pin(sleep_until(pace.deadline().into()));
            (pace, timer)
        });
        timer.as_mut().reset(pace.deadline().into());
        ready!(timer.as_mut().poll(context));
        let message = "the client read the answer too slowly (setting `server.write_timeout`)";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *locked(&self.stream)).poll_read(context, buffer)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *locked(&self.stream)).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *locked(&self.stream)).poll_write_vectored(context, slices);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        locked(&self.stream).is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything before was written.
        self.writing = None;
        Pin::new(&mut *locked(&self.stream)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *locked(&self.stream)).poll_shutdown(context)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a client whose requests are worked on for `patience` after it has closed its side,
    /// and its end of the connection.
    pub(crate) async fn connected(patience: Duration) -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let end = TcpStream::connect(listener.local_addr().unwrap());
        let (end, accepted) = tokio::join!(end, listener.accept());
        let stream = Arc::new(Mutex::new(accepted.unwrap().0));
        (Client { stream, patience }, end.unwrap())
    }

    /// A time that no test waits for.
    const EVER: Duration = Duration::from_secs(3_600);
    /// A time after which something that is to happen at once has happened, or will not.
    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_client_that_closes_its_side_is_waited_for_and_a_reset_is_noticed_at_once() {
        let (client, mut end) = connected(EVER).await;
        assert!(timeout(MOMENT, client.closed_its_side()).await.is_err());
        end.write_all(b"x").await.unwrap();
        end.shutdown().await.unwrap();
        // What it has sent may be a part of its request.
        assert!(timeout(MOMENT, client.closed_its_side()).await.is_err());
        locked(&client.stream).try_read(&mut [0; 8]).unwrap();
        client.closed_its_side().await.unwrap();
        assert!(timeout(MOMENT, client.left()).await.is_err());
        let hasty = Client {
            patience: Duration::ZERO,
            ..client
        };
        hasty.left().await;

        let (client, end) = connected(EVER).await;
        let written = poll_fn(|context| {
            Pin::new(&mut *locked(&client.stream)).poll_write(context, b"unread")
        });
        assert_eq!(written.await.unwrap(), 6);
        end.readable().await.unwrap();
        // A connection that is closed with something unread is reset.
        drop(end);
        timeout(EVER / 60, client.left()).await.unwrap();
    }

    #[test]
    fn the_last_answers_have_the_lengths_that_they_state() {
        for (answer, status, code) in [
            (REFUSAL, "503", "unavailable"),
            (OTHER_VERSION, "505", "unsupported_version"),
            (SLOW_HEAD, "408", "too_slow"),
            (CUT_HEAD, "400", "invalid"),
        ] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(
                head.contains(&format!("content-length: {}\r\n", body.len())),
                "{status}: {}",
                body.len()
            );
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], code);
        }
    }

    #[tokio::test]
    async fn a_connection_is_closed_so_that_its_last_answer_arrives() {
        // A client that sends more than was read.
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let sending = async {
            let mut answer = Vec::new();
            client.write_all(&[b'x'; 100_000]).await.unwrap();
            client.read_to_end(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let ((), answer) = tokio::join!(close_with(server, REFUSAL), sending);
        assert_eq!(answer, REFUSAL);
        // A client that sends without an end is cut off.
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let sending = async {
            let mut sent = 0;
            while client.write_all(&[b'x'; 1_000]).await.is_ok() {
                sent += 1_000;
            }
            sent
        };
        let ((), sent) = tokio::join!(close_with(server, REFUSAL), sending);
        assert!(sent <= CLOSING_BYTES + (64 << 10) + 5_000, "{sent}");
    }
}
