//! A server of packages, for tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the server answers under a path.
pub(super) struct Page {
    path: String,
    status: u16,
    body: Vec<u8>,
}

impl Page {
    pub(super) fn new(path: &str, body: impl AsRef<[u8]>) -> Self {
        Self {
            path: path.to_owned(),
            status: 200,
            body: body.as_ref().to_vec(),
        }
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// A server that runs as long as the test program.
pub(super) struct Server {
    /// Its address, without a slash at its end.
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Returns the heads of the requests so far.
    pub(super) fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap()
    }
}

/// Starts a server that has some pages, and answers 404 under all other paths.
pub(super) fn serve(pages: Vec<Page>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let server = Server {
        url,
        asked: Arc::clone(&asked),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = head(&stream);
            let path = head.split(' ').nth(1).unwrap_or_default();
            let page = pages.iter().find(|page| page.path == path);
            let (status, body) = page.map_or((404, &b""[..]), |page| (page.status, &page.body[..]));
            asked.lock().unwrap().push(head.clone());
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A client may have had enough.
            let _ = stream.write_all(&[answer.as_bytes(), body].concat());
        }
    });
    server
}

/// Reads the head of a request.
fn head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines();
    let lines = lines.map_while(std::result::Result::ok);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join("\n")
}
