//! Servers for a test, and requests to them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::Project;

/// A server. It is killed when this is dropped, unless it was stopped before.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// What the server printed before it took requests, with the line that says that it does.
    pub(crate) greeting: String,
    /// Reads what the server prints until it ends.
    said: Option<JoinHandle<String>>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// The status and the body of an answer.
pub(crate) type Answer = (u16, Json);

impl Project {
    /// Starts a server on a free port.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_at("127.0.0.1:0", arguments)
    }

    /// Starts a server at an address.
    pub(crate) fn serve_at(&self, listen: &str, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--listen", listen]);
        command.args(arguments);
        Server::start(&mut command)
    }

    /// Starts a server with more environment variables.
    pub(crate) fn serve_with(&self, variables: &[(&str, &str)]) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        Server::start(&mut command)
    }

    /// Starts a server that keeps its temporary files in a folder.
    pub(crate) fn serve_with_temporary_files_in(&self, folder: &Path) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("TMPDIR", folder);
        Server::start(&mut command)
    }
}

impl Server {
    #[allow(
        clippy::zombie_processes,
        reason = "a server that does not start fails its test"
    )]
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the server ended: {said}"
            );
            said += &line;
            if let Some((_, url)) = line.trim().rsplit_once(" on ") {
                let (url, greeting) = (url.to_owned(), said.clone());
                // The output must be read, or the pipe would fill. It is kept for messages of
                // failed tests.
                let said = std::thread::spawn(move || {
                    let mut said = Vec::new();
                    let _ = log.read_to_end(&mut said);
                    String::from_utf8_lossy(&said).into_owned()
                });
                return Self {
                    child,
                    url,
                    greeting,
                    said: Some(said),
                };
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.url)).call())
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_with(path, &[("content-type", content_type)], body)
    }

    pub(crate) fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = agent().post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body.as_ref()))
    }

    pub(crate) fn events(&self, source: &str, lines: &str) -> Answer {
        self.post(
            &format!("/v1/sources/{source}/events"),
            "application/x-ndjson",
            lines,
        )
    }

    /// Returns the text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut answer = agent().get(format!("{}/metrics", self.url)).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// Returns the feature vectors of a view for some rows. The request must succeed.
    pub(crate) fn features(&self, view: &str, rows: &Json) -> Vec<Json> {
        let body = serde_json::json!({ "rows": rows }).to_string();
        let (status, answer) = self.post(
            &format!("/v1/views/{view}/features"),
            "application/json",
            body,
        );
        assert_eq!(status, 200, "{answer}");
        answer["rows"].as_array().unwrap().clone()
    }

    /// Opens a connection, on which reads and writes fail after a minute.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(MINUTE)).unwrap();
        stream.set_write_timeout(Some(MINUTE)).unwrap();
        stream
    }

    /// Sends a request as it is, and returns the status and the body of the answer. The request
    /// must ask for the connection to be closed.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read_answer(&mut stream)
    }

    /// Returns how many bytes of memory the server takes at most while `work` is done, beyond what
    /// it has before. Pages of files that it maps, such as those of the store, are not counted: the
    /// system takes them back when it needs memory.
    pub(crate) fn memory_for(&self, work: impl FnOnce()) -> u64 {
        let process = format!("/proc/{}", self.child.id());
        // This sets the peak (VmHWM) to the present value.
        std::fs::write(format!("{process}/clear_refs"), "5").unwrap();
        let kib = |name: &str| -> u64 {
            let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let (before, mapped) = (kib("VmRSS:"), kib("RssFile:"));
        work();
        let mapped = kib("RssFile:").saturating_sub(mapped);
        kib("VmHWM:").saturating_sub(before + mapped) << 10
    }

    /// Waits until what was pushed is in the tables, which is work of its own that takes memory.
    pub(crate) fn wait_for_flush(&self) {
        let is_flushed = |metrics: &str| {
            let mut lines = metrics.lines();
            lines.any(|line| line == "wafer_outbox_age_seconds 0")
        };
        wait_for("a flush", || is_flushed(&self.metrics()));
    }

    /// Sends the signal TERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Returns the exit code, once the server has ended by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap()?.code()
    }

    pub(crate) fn set_clock(&self, now: &str) {
        let body = serde_json::json!({ "now": now }).to_string();
        assert_eq!(self.post("/v1/clock", "application/json", body).0, 200);
    }

    /// Stops the server in order, and waits until it has ended, which must succeed.
    pub(crate) fn stop(self) {
        let (code, said) = self.stopped();
        assert_eq!(code, Some(0), "{said}");
    }

    /// Stops the server in order, and waits until it has ended. Returns its exit code, and what it
    /// has said.
    pub(crate) fn stopped(mut self) -> (Option<i32>, String) {
        self.terminate();
        let status = self.child.wait().unwrap();
        let said = self.said.take().unwrap().join().unwrap();
        (status.code(), said)
    }

    /// Kills the server without notice, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a client that does not treat any status as an error.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

/// Returns the status and the body, as JSON if it is that.
pub(super) fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_vec()
        .unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Json::String(text)),
    )
}

/// Reads an answer up to the end of the connection, and returns its status and its body, as JSON if
/// it is that.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is closed in the middle of a request may be reset after the answer.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or_else(|_| Json::String(body.to_owned()));
    (status.unwrap_or_else(|| panic!("no answer: {text}")), body)
}

/// Waits until a condition holds, for at most a minute.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
