//! A server for unit tests, with answers that the local servers do not give, and connections that
//! stall and break.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::account::Account;

/// An answer of the server.
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    fault: Option<Fault>,
}

/// What goes wrong while an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Half of the body is sent, and then nothing, while the connection stays open.
    Stall,
    /// Half of the body is sent, and then the connection is closed.
    Break,
    /// The connection is closed before anything is sent.
    Close,
    /// The connection is reset before anything is sent.
    Reset,
}

impl Answer {
    pub(crate) fn with_fault(self, fault: impl Into<Option<Fault>>) -> Self {
        let fault = fault.into();
        Self { fault, ..self }
    }

    /// Returns the answer with another header.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }
}

pub(crate) fn answer(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        headers: headers.to_owned(),
        body: body.into(),
        fault: None,
    }
}

pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>by the test</Message></Error>");
    answer(status, "content-type: application/xml\r\n", body)
}

/// Answers a request for an object with this content, or for a range of it.
pub(crate) fn object(head: &str, content: &[u8], tag: &str) -> Answer {
    let tag = format!("etag: \"{tag}\"\r\n");
    let Some((start, end)) = range(head) else {
        return answer(200, &tag, content);
    };
    if start >= content.len() {
        return refusal(416, "InvalidRange");
    }
    let (end, total) = (end.min(content.len() - 1), content.len());
    let headers = format!("{tag}content-range: bytes {start}-{end}/{total}\r\n");
    answer(206, &headers, &content[start..=end])
}

/// Returns the first and the last byte of the range that a request is for.
pub(crate) fn range(head: &str) -> Option<(usize, usize)> {
    let (_, range) = head.split_once("range: bytes=")?;
    let (start, end) = range.lines().next()?.split_once('-')?;
    Some((start.parse().unwrap(), end.parse().unwrap()))
}

/// Starts a server that answers the request of each number, from 0, by a function of its number and
/// of its head, which is in lower case. Connections stay open for further requests. Returns an
/// account whose services are all there, and the number of requests so far.
pub(crate) fn serve(
    answers: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
) -> (Account, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let account = Account::local(&format!("http://{}", listener.local_addr().unwrap()));
    let (requests, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
    let (counted, runtime) = (Arc::clone(&requests), Handle::current());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (answers, counted) = (Arc::clone(&answers), Arc::clone(&counted));
            let runtime = runtime.clone();
            // Ignore I/O errors, such as a client that closed its connection.
            std::thread::spawn(move || converse(stream?, &runtime, &counted, answers.as_ref()));
        }
    });
    (account, requests)
}

/// Answers the requests of a connection, until one of them ends it.
fn converse(
    mut stream: TcpStream,
    runtime: &Handle,
    requests: &AtomicUsize,
    answers: &(dyn Fn(usize, &str) -> Answer + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = read(&mut reader)? {
        let mut answer = answers(requests.fetch_add(1, Ordering::Relaxed), &head);
        let length = answer.body.len();
        let text = format!(
            "HTTP/1.1 {} -\r\n{}content-length: {length}\r\n\r\n",
            answer.status, answer.headers
        );
        match answer.fault {
            None if head.starts_with("head ") => answer.body.clear(),
            None => {}
            Some(Fault::Stall | Fault::Break) => answer.body.truncate(length / 2),
            Some(Fault::Close) => return Ok(()),
            Some(Fault::Reset) => return reset(stream, runtime),
        }
        stream.write_all(text.as_bytes())?;
        stream.write_all(&answer.body)?;
        stream.flush()?;
        match answer.fault {
            Some(Fault::Stall) => std::thread::sleep(Duration::from_secs(5)),
            Some(Fault::Break) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Closes a connection by a reset.
fn reset(stream: TcpStream, runtime: &Handle) -> std::io::Result<()> {
    let _entered = runtime.enter();
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)?.set_zero_linger()
}

/// Reads a request, and returns its head, or `None` if the connection was closed.
fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(Some(head))
}
