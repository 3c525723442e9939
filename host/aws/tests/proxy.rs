//! A proxy in front of a local server, which injects the failures of AWS that the server does not
//! have.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use url::Url;

/// What the proxy does with a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// Forwards the call.
    Forwarded,
    /// Answers with this HTTP status and error type, without forwarding the call.
    Refused(u16, &'static str),
    /// Answers with this JSON, without forwarding the call.
    Answered(Json),
    /// Answers with a web page, without forwarding the call.
    Page,
    /// Keeps the connection without an answer, until the client closes it.
    Silent,
    /// Closes the connection without forwarding the call.
    Cut,
    /// Forwards the call, and closes the connection without returning the response.
    Lost,
    /// Forwards the call, and closes the connection after half of the response.
    Truncated,
    /// Forwards half of a batch, and reports the other half as unprocessed.
    Partial,
    /// Forwards the call without the header of this name.
    Without(&'static str),
}

/// A call that the proxy received.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Action of DynamoDB, such as `PutItem`, or the HTTP method for S3.
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A running proxy; stops when it is dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    calls: Arc<Mutex<BTreeMap<String, u64>>>,
    stopped: Arc<AtomicBool>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // A connection wakes up the listener, so that it sees the flag.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

impl Proxy {
    pub(crate) fn new(server: &str, fate: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(BTreeMap::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let server = Url::parse(server).unwrap();
        let server = format!("127.0.0.1:{}", server.port().unwrap());
        let fate: Arc<dyn Fn(&Call) -> Fate + Send + Sync> = Arc::new(fate);
        let (count, stop) = (Arc::clone(&calls), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (server, fate, count) = (server.clone(), Arc::clone(&fate), Arc::clone(&count));
                // Ignore I/O errors, such as a client that closed its connection.
                std::thread::spawn(move || {
                    let _ = relay(client?, &server, fate.as_ref(), &count);
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        Self {
            url,
            calls,
            stopped,
        }
    }

    /// Returns the number of calls of each action since this was last called.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

fn relay(
    mut client: TcpStream,
    server: &str,
    fate: &(dyn Fn(&Call) -> Fate + Send + Sync),
    count: &Mutex<BTreeMap<String, u64>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let Some(call) = read(&mut reader)? else {
        return Ok(());
    };
    *count
        .lock()
        .unwrap()
        .entry(call.action.clone())
        .or_default() += 1;
    let answer = match fate(&call) {
        Fate::Forwarded => forward(server, &call, None)?,
        Fate::Without(header) => forward(server, &call, Some(header))?,
        Fate::Cut => return Ok(()),
        Fate::Silent => {
            std::io::copy(&mut reader, &mut std::io::sink())?;
            return Ok(());
        }
        Fate::Page => {
            let page = "<!DOCTYPE html><html><body>Log in to this network</body></html>";
            let head = "HTTP/1.1 200 -\r\ncontent-type: text/html\r\nconnection: close";
            let length = page.len();
            format!("{head}\r\ncontent-length: {length}\r\n\r\n{page}").into_bytes()
        }
        Fate::Lost => {
            forward(server, &call, None)?;
            return Ok(());
        }
        Fate::Truncated => {
            let answer = forward(server, &call, None)?;
            answer[..answer.len() / 2].to_vec()
        }
        Fate::Refused(status, kind) => {
            let body =
                json!({"__type": format!("com.amazonaws#{kind}"), "message": "by the proxy"});
            response(status, body.to_string().as_bytes())
        }
        Fate::Answered(body) => response(200, body.to_string().as_bytes()),
        Fate::Partial => partial(server, call)?,
    };
    client.write_all(&answer)?;
    client.flush()?;
    // One call per connection: the server's response has `connection: close`.
    Ok(())
}

/// Reads the next call of a connection. Returns `None` at its end.
pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Call>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut parts = first.split_whitespace();
    let method = parts.next().unwrap_or_default().to_owned();
    let target = parts.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted);
    let length = header("content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let action = match header("x-amz-target") {
        Some((_, target)) => target.rsplit('.').next().unwrap().to_owned(),
        None => method,
    };
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Call {
        action,
        target,
        headers,
        body,
    }))
}

/// Returns a call as it is sent on, over a connection that is kept or not.
pub(crate) fn request(call: &Call, without: Option<&str>, is_kept: bool) -> Vec<u8> {
    let method = match call.headers.iter().any(|(name, _)| name == "x-amz-target") {
        true => "POST",
        false => &call.action,
    };
    let mut text = format!("{method} {} HTTP/1.1\r\n", call.target);
    for (name, value) in &call.headers {
        if name != "connection" && name != "content-length" && Some(name.as_str()) != without {
            text += &format!("{name}: {value}\r\n");
        }
    }
    let connection = if is_kept { "keep-alive" } else { "close" };
    text += &format!(
        "content-length: {}\r\nconnection: {connection}\r\n\r\n",
        call.body.len()
    );
    [text.as_bytes(), &call.body].concat()
}

/// Sends a call to a server, and returns its whole response.
pub(crate) fn forward(
    server: &str,
    call: &Call,
    without: Option<&str>,
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(&request(call, without, false))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Forwards half of a batch, and adds the other half to the response as unprocessed.
fn partial(server: &str, mut call: Call) -> std::io::Result<Vec<u8>> {
    let mut body: Json = serde_json::from_slice(&call.body).unwrap();
    let (left, keys) = match call.action.as_str() {
        "BatchGetItem" => ("UnprocessedKeys", true),
        "BatchWriteItem" => ("UnprocessedItems", false),
        _ => return forward(server, &call, None),
    };
    let (table, request) = body["RequestItems"]
        .as_object_mut()
        .unwrap()
        .iter_mut()
        .next()
        .unwrap();
    let table = table.clone();
    let list = match keys {
        true => request["Keys"].as_array_mut().unwrap(),
        false => request.as_array_mut().unwrap(),
    };
    let rest = list.split_off(list.len() / 2);
    if list.is_empty() {
        return forward(server, &call, None);
    }
    let rest = match keys {
        true => {
            let mut request = request.clone();
            request["Keys"] = rest.into();
            request
        }
        false => rest.into(),
    };
    call.body = body.to_string().into_bytes();
    let answer = forward(server, &call, None)?;
    let start = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let mut answer: Json = serde_json::from_slice(&answer[start..]).unwrap();
    answer[left] = json!({ table: rest });
    Ok(response(200, answer.to_string().as_bytes()))
}
