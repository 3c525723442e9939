//! A relay in front of a local server, which carries bytes as slow and broken lines do. Unlike the
//! proxy, it knows nothing of HTTP: connections stay open from one request to the next, and are
//! reset in the middle of whatever they carry, or carry nothing from then on.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, watch};
use url::Url;

/// How much is carried at once.
const CHUNK: usize = 64 << 10;
/// A program of the Berkeley Packet Filter that keeps no packet: it returns 0, the number of bytes
/// to keep.
const NO_PACKET: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// How much it carries in each direction, over all connections; anything if it is `None`.
    pub(crate) bytes_per_second: Option<u64>,
    /// How many connections are reset before they end by themselves.
    pub(crate) resets: u64,
    /// After how many bytes these are reset.
    pub(crate) reset_after: u64,
}

/// A running relay. It stops when it is dropped.
pub(crate) struct Relay {
    pub(crate) url: String,
    line: Arc<Line>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

struct Line {
    faults: Faults,
    /// How many connections there were.
    accepted: AtomicU64,
    /// Connections before this number are reset when the client sends something more.
    forgotten: AtomicU64,
    /// Connections before this number are reset at once.
    reset: watch::Sender<u64>,
    /// The ends of the clients' connections.
    clients: std::sync::Mutex<BTreeMap<u64, OwnedFd>>,
    /// Of those before this number nobody is told anything, not even their end.
    swallowed: AtomicU64,
    resets: AtomicU64,
    /// Held by what is carried to the server, and by what is carried to the client.
    directions: [Mutex<()>; 2],
}

/// How a connection ends.
enum End {
    Closed,
    Reset,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Relay {
    pub(crate) fn new(server: &str, faults: Faults) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Url::parse(server).unwrap().port().unwrap();
        let line = Arc::new(Line {
            faults,
            accepted: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            reset: watch::Sender::new(0),
            clients: Default::default(),
            swallowed: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            directions: Default::default(),
        });
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(accept(listener, server, Arc::clone(&line)));
        Self {
            url,
            line,
            runtime: Some(runtime),
        }
    }

    /// Forgets all connections, as servers and what is between do while a client is frozen. The
    /// client finds out when it sends something more: the connection is reset.
    pub(crate) fn forget(&self) {
        let accepted = self.line.accepted.load(Ordering::SeqCst);
        self.line.forgotten.store(accepted, Ordering::SeqCst);
    }

    /// Resets all connections at once.
    pub(crate) fn reset(&self) {
        let accepted = self.line.accepted.load(Ordering::SeqCst);
        self.line.reset.send_replace(accepted);
    }

    /// Loses all connections without a word, as what is between does that has forgotten them and
    /// drops whatever is sent. The client gets no acknowledgement, no answer and no reset.
    pub(crate) fn swallow(&self) {
        let accepted = self.line.accepted.load(Ordering::SeqCst);
        // A connection that ends from here on is not to tell its client either.
        self.line.swallowed.store(accepted, Ordering::SeqCst);
        let clients = self.line.clients.lock().unwrap();
        for (_, client) in clients.range(..accepted) {
            SockRef::from(client).attach_filter(&[NO_PACKET]).unwrap();
        }
    }

    /// Returns how many connections were reset so far.
    pub(crate) fn resets(&self) -> u64 {
        self.line.resets.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    server: u16,
    line: Arc<Line>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let number = line.accepted.load(Ordering::SeqCst);
        let end = client.as_fd().try_clone_to_owned()?;
        line.clients.lock().unwrap().insert(number, end);
        // Whoever counts the connections finds the ends of all that are counted.
        line.accepted.fetch_add(1, Ordering::SeqCst);
        let line = Arc::clone(&line);
        // Ignore I/O errors, such as a client that closed its connection.
        tokio::spawn(async move {
            let _ = serve(client, server, number, &line).await;
            line.clients.lock().unwrap().remove(&number);
        });
    }
}

async fn serve(
    mut client: TcpStream,
    server: u16,
    number: u64,
    line: &Line,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let end = carry(&mut client, &mut server, number, line).await;
    if number < line.swallowed.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    if let End::Reset = end? {
        client.set_zero_linger()?;
        line.resets.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Carries what comes from either end to the other one, until the connection ends.
async fn carry(
    client: &mut TcpStream,
    server: &mut TcpStream,
    number: u64,
    line: &Line,
) -> std::io::Result<End> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut carried, mut resets) = (0, line.reset.subscribe());
    let mut reset = std::pin::pin!(async move {
        let _ = resets.wait_for(|before| number < *before).await;
    });
    loop {
        let bytes = tokio::select! {
            read = from_client.read(&mut up) => {
                let bytes = read?;
                if bytes > 0 && number < line.forgotten.load(Ordering::SeqCst) {
                    return Ok(End::Reset);
                }
                line.take_time(0, bytes).await;
                to_server.write_all(&up[..bytes]).await?;
                bytes
            }
            read = from_server.read(&mut down) => {
                let bytes = read?;
                line.take_time(1, bytes).await;
                to_client.write_all(&down[..bytes]).await?;
                bytes
            }
            () = &mut reset => return Ok(End::Reset),
        };
        carried += bytes as u64;
        if bytes == 0 {
            return Ok(End::Closed);
        }
        if line.faults.resets > 0 && carried >= line.faults.reset_after && line.is_to_be_reset() {
            return Ok(End::Reset);
        }
    }
}

impl Line {
    /// Takes the time that bytes need, while nothing else is carried in the same direction.
    async fn take_time(&self, direction: usize, bytes: usize) {
        let Some(bytes_per_second) = self.faults.bytes_per_second else {
            return;
        };
        let _carrying = self.directions[direction].lock().await;
        let time = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        tokio::time::sleep(time).await;
    }

    /// Returns whether one more connection is to be reset.
    fn is_to_be_reset(&self) -> bool {
        self.resets.load(Ordering::SeqCst) < self.faults.resets
    }
}
