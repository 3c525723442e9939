//! Servers for a test, and requests to them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::Project;

/// A server. It is killed when this is dropped, unless it was stopped before.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// Reads what the server prints until it ends.
    said: Option<JoinHandle<String>>,
}

/// The status and the body of an answer.
pub(crate) type Answer = (u16, Json);

impl Project {
    /// Starts a server on a free port.
    #[allow(
        clippy::zombie_processes,
        reason = "a server that does not start fails its test"
    )]
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
                let url = url.to_owned();
                // The output must be read, or the pipe would fill. It is kept for messages of
                // failed tests.
                let said = std::thread::spawn(move || {
                    let mut said = Vec::new();
                    let _ = log.read_to_end(&mut said);
                    String::from_utf8_lossy(&said).into_owned()
                });
                return Server {
                    child,
                    url,
                    said: Some(said),
                };
            }
        }
    }
}

impl Server {
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

    pub(crate) fn set_clock(&self, now: &str) {
        let body = serde_json::json!({ "now": now }).to_string();
        assert_eq!(self.post("/v1/clock", "application/json", body).0, 200);
    }

    /// Stops the server in order, and waits until it has ended.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        let said = self.said.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {said}");
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
        .read_to_string()
        .unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Json::String(text)),
    )
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
