//! Connections of the AWS SDK, all of which are left when an answer does not come in time.
//!
//! A connection may be gone without a word: what is between has forgotten it while the process was
//! frozen, and drops whatever is sent. The client finds out by the timeout of an attempt alone. Its
//! pool may have as many such connections as calls were made at a time, and one attempt after the
//! other would wait for nothing. So when an answer does not come in time, the connections that are
//! there get no further calls. If the service was only slow, that costs new connections: calls that
//! are under way keep theirs, and those that wait on connections that were left leave none again.
//!
//! An attempt of S3 may take a minute, because its timeout includes what is sent. The answer to a
//! request that sends nothing, and lists nothing, has to begin within [`ANSWER_BEGINS`].
//!
//! Each service has connections of its own, as its answers may take another time, and one that is
//! slow must not cost the others theirs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::account::IDLE_TIMEOUT;

/// How much earlier than its call an attempt begins at most.
const BEFORE_CALL: Duration = Duration::from_secs(1);

/// How long it may take until the answer to a request without content begins. S3 says that this is
/// 100 to 200 ms
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html>).
const ANSWER_BEGINS: Duration = Duration::from_secs(10);

/// Makes a client for a service. `timeout` is that of an attempt of its calls.
pub(crate) fn client(timeout: Duration) -> SharedHttpClient {
    SharedHttpClient::new(Connections(Arc::new(Pool::new(
        open,
        late(timeout),
        ANSWER_BEGINS,
    ))))
}

/// Returns how long an answer was waited for at least if its call was given up because it came too
/// late, and not for another reason.
fn late(timeout: Duration) -> Duration {
    timeout.saturating_sub(BEFORE_CALL)
}

/// Opens a pool of connections.
fn open() -> SharedHttpClient {
    Builder::new()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https()
}

/// A client whose connections can be left for others.
#[derive(Debug)]
struct Connections(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    open: fn() -> SharedHttpClient,
    late: Duration,
    /// Within what time the answer to a request without content has to begin.
    answer_begins: Duration,
    current: Mutex<Current>,
}

/// The connections that calls get.
#[derive(Debug)]
struct Current {
    client: SharedHttpClient,
    /// How often connections were left before.
    number: u64,
}

impl Pool {
    fn new(open: fn() -> SharedHttpClient, late: Duration, answer_begins: Duration) -> Self {
        let current = Mutex::new(Current {
            client: open(),
            number: 0,
        });
        Self {
            open,
            late,
            answer_begins,
            current,
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the connections of this number for others, unless they were left before.
    fn leave(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            tracing::debug!("an answer did not come in time: other connections are opened");
            *current = Current {
                client: (self.open)(),
                number: number + 1,
            };
        }
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let current = self.0.current();
        let (client, number) = (current.client.clone(), current.number);
        drop(current);
        SharedHttpConnector::new(Connector {
            inner: client.http_connector(settings, components),
            pool: Arc::clone(&self.0),
            number,
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.current().client.connector_metadata()
    }
}

/// Makes calls on the connections of a number.
#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    pool: Arc<Pool>,
    number: u64,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let limit = match sends_content(&request) || lists(&request) {
            true => Duration::MAX,
            false => self.pool.answer_begins,
        };
        let call = tokio::time::timeout(limit, self.inner.call(request));
        let wait = Wait {
            pool: Arc::clone(&self.pool),
            number: self.number,
            begun: Instant::now(),
            is_over: false,
        };
        HttpConnectorFuture::new(async move {
            // The whole of it is moved here, so that it is dropped with the call.
            let mut wait = wait;
            let answer = call.await.map_err(|elapsed| {
                wait.pool.leave(wait.number);
                ConnectorError::timeout(elapsed.into())
            });
            wait.is_over = true;
            answer?
        })
    }
}

/// Returns whether a request has content, or may have some.
fn sends_content(request: &HttpRequest) -> bool {
    request.body().bytes().is_none_or(|bytes| !bytes.is_empty())
}

/// Returns whether a request lists objects. The answer may take long: what was deleted of a bucket
/// with versions is passed over.
fn lists(request: &HttpRequest) -> bool {
    let query = request.uri().split_once('?').map(|(_, query)| query);
    query.is_some_and(|query| query.split('&').any(|part| part == "list-type=2"))
}

/// The wait for an answer. If it is dropped before it is over, its call was given up.
struct Wait {
    pool: Arc<Pool>,
    number: u64,
    begun: Instant,
    is_over: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.is_over && self.begun.elapsed() >= self.pool.late {
            self.pool.leave(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;
    use futures::FutureExt as _;

    use super::*;
    use crate::account::{ATTEMPT_TIMEOUT, S3_ATTEMPT_TIMEOUT};

    /// Fails each call at once, or answers none.
    #[derive(Debug)]
    enum Service {
        Failing,
        Silent,
    }

    impl HttpConnector for Service {
        fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
            match self {
                Self::Failing => HttpConnectorFuture::ready(Err(ConnectorError::io("no".into()))),
                Self::Silent => HttpConnectorFuture::new(std::future::pending()),
            }
        }
    }

    /// A download that its caller gives up after a few seconds says nothing of its connection.
    #[test]
    fn what_is_late_follows_from_the_timeout_of_the_service() {
        for (timeout, wanted) in [(ATTEMPT_TIMEOUT, 2), (S3_ATTEMPT_TIMEOUT, 59)] {
            assert_eq!(late(timeout), Duration::from_secs(wanted));
        }
    }

    #[tokio::test]
    async fn connections_are_left_once_if_an_answer_does_not_come_in_time() {
        const AN_HOUR: Duration = Duration::from_secs(3_600);
        let open = || Builder::new().build_http();
        // What the service does, what is late, the number of the connections of two calls that are
        // given up at once, and the number of those that other calls get after them.
        for (service, late, number, wanted) in [
            (Service::Silent, Duration::ZERO, 0, 1),
            (Service::Silent, Duration::ZERO, 7, 0),
            (Service::Silent, AN_HOUR, 0, 0),
            (Service::Failing, Duration::ZERO, 0, 0),
        ] {
            let shown = format!("{service:?}, {late:?}, {number}");
            let pool = Arc::new(Pool::new(open, late, ANSWER_BEGINS));
            let connector = Connector {
                inner: SharedHttpConnector::new(service),
                pool: Arc::clone(&pool),
                number,
            };
            for _ in 0..2 {
                let call = connector.call(HttpRequest::empty());
                let is_answered = call.now_or_never().is_some_and(|done| done.is_ok());
                assert!(!is_answered, "{shown}");
            }
            assert_eq!(pool.current().number, wanted, "{shown}");
        }
    }

    #[tokio::test]
    async fn answer_to_a_request_without_content_has_to_begin_soon() {
        let open = || Builder::new().build_http();
        let filled = HttpRequest::new(SdkBody::from("content"));
        let mut listing = HttpRequest::empty();
        listing
            .set_uri("https://b.s3.amazonaws.com/?list-type=2&prefix=a")
            .unwrap();
        for (request, is_given_up) in [
            (HttpRequest::empty(), true),
            (filled, false),
            (listing, false),
        ] {
            let soon = Duration::from_millis(20);
            let pool = Arc::new(Pool::new(open, Duration::MAX, soon));
            let connector = Connector {
                inner: SharedHttpConnector::new(Service::Silent),
                pool: Arc::clone(&pool),
                number: 0,
            };
            let call = connector.call(request);
            let answer = tokio::time::timeout(10 * soon, call).await;
            let found = answer.map(|answer| answer.is_err_and(|error| error.is_timeout()));
            assert_eq!(found.unwrap_or(false), is_given_up);
            assert_eq!(pool.current().number, u64::from(is_given_up));
        }
    }
}
