//! Calls to DynamoDB: which errors are retried, for how long, and the messages for those that are
//! not.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::time::Instant;
use wafer_store::{Error, Kind, Result};

use crate::account::{ATTEMPT_TIMEOUT, partition};
use crate::bulk::{Pacer, is_bulk};
use crate::page::page_of;
use crate::random::Random;

/// Upper bound of the first wait before a retry. It doubles with each further wait ("full
/// jitter", <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// Upper bound of all waits.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Maximum number of attempts of a call that are begun without a wait because a connection broke.
/// When a process is thawed, all connections that were idle may be gone
/// ([`IDLE_TIMEOUT`](crate::account::IDLE_TIMEOUT)), and each attempt finds out about one of them.
/// There are about as many as calls were made at a time: 32, by `run_concurrently` in `table.rs`.
/// Whoever gets no connection waits, as each further attempt would ask a server that is down, or
/// its name server, anew.
const BROKEN_CONNECTIONS: u32 = 40;

/// Codes of DynamoDB errors that may not recur when the call is retried.
const RETRYABLE_CODES: [&str; 9] = [
    "InternalFailure",
    "InternalServerError",
    "ItemCollectionSizeLimitExceededException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
];

/// Codes of DynamoDB errors for calls that exceed the throughput of the table or of the account.
const THROTTLE_CODES: [&str; 3] = [
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
];

/// How many times as long as another write a write of a bulk load is retried, without progress of
/// the load.
const BULK_PATIENCE: u32 = 6;

/// Exponential backoff with full jitter, until a deadline.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    random: &'a Random,
    /// The pacer that is told how a write went; `None` for reads.
    pacer: Option<&'a Pacer>,
    /// How long the call is retried.
    lasts: Duration,
    /// The deadline, unless a bulk load makes progress.
    until: Instant,
    /// Upper bound of the next wait.
    wait: Duration,
    /// Number of attempts that were begun.
    attempts: u32,
}

impl<'a> Backoff<'a> {
    /// Creates the backoff of a read.
    pub(crate) fn of_read(random: &'a Random, lasts: Duration) -> Self {
        Self {
            random,
            pacer: None,
            lasts,
            until: Instant::now() + lasts,
            wait: FIRST_WAIT,
            attempts: 0,
        }
    }

    /// Creates the backoff of a write.
    pub(crate) fn of_write(random: &'a Random, lasts: Duration, pacer: &'a Pacer) -> Self {
        let lasts = match is_bulk() {
            true => lasts * BULK_PATIENCE,
            false => lasts,
        };
        Self {
            pacer: Some(pacer),
            ..Self::of_read(random, lasts)
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns whether the deadline is over.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline()
    }

    /// Waits before another attempt. Returns false, without waiting, if there is no time left for
    /// one.
    pub(crate) async fn wait(&mut self) -> bool {
        let most = u64::try_from(self.wait.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(self.random.below(most + 1));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        if Instant::now() + wait >= self.deadline() {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// Returns the deadline. A bulk load does not fail as long as the table answers its writes.
    fn deadline(&self) -> Instant {
        let progress = self.pacer.filter(|_| is_bulk()).map(Pacer::last_progress);
        progress.map_or(self.until, |last| self.until.max(last + self.lasts))
    }

    /// Tells the pacer how an attempt went.
    fn note<T, E: ProvideErrorMetadata>(&self, done: &Result<T, SdkError<E, HttpResponse>>) {
        let Some(pacer) = self.pacer else { return };
        match done {
            Err(error) if is_throttled(error) => pacer.throttled(),
            Err(error) if is_retryable(error) => {}
            Ok(_) | Err(_) => pacer.answered(),
        }
    }
}

/// An operation on a table, for error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    /// Name of the IAM action, such as `dynamodb:PutItem`.
    pub(crate) action: &'a str,
    /// Name of the table.
    pub(crate) table: &'a str,
    /// Region of the table.
    pub(crate) region: &'a str,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallFailure<E> {
    /// The service answered with an error that is not retried. The caller may handle it.
    Refused(E),
    /// Any other failure.
    Failed(Error),
}

impl<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static> CallFailure<E> {
    /// Converts the failure into a store error.
    pub(crate) fn into_error(self, operation: Operation<'_>) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Refused(error) => refused(operation, error),
        }
    }
}

/// Calls `attempt` until it succeeds, fails with an error that is not retryable, or the time of
/// `backoff` is over. There are at least two attempts: the first may have spent all of the time
/// waiting for an answer on a connection that is gone.
pub(crate) async fn call<T, E, F>(
    operation: Operation<'_>,
    backoff: &mut Backoff<'_>,
    attempt: impl Fn() -> F,
) -> Result<T, CallFailure<E>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let mut broken = 0;
    loop {
        backoff.attempts += 1;
        let done = attempt().await;
        backoff.note(&done);
        let error = match done {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_retryable(&error) {
            let is_page = page_of(&error).is_some();
            return Err(match error {
                SdkError::ServiceError(error) if !is_page => CallFailure::Refused(error.into_err()),
                other => CallFailure::Failed(unreachable(operation, Kind::Internal, other)),
            });
        }
        if is_broken(&error) && broken < BROKEN_CONNECTIONS && !backoff.is_over() {
            broken += 1;
            continue;
        }
        if !backoff.wait().await && backoff.attempts > 1 {
            return Err(CallFailure::Failed(unreachable(
                operation,
                Kind::Unavailable,
                error,
            )));
        }
    }
}

/// Returns how long a call takes at most that is retried for so long. Its last attempt begins
/// before that time is over, or is its second one.
pub(crate) fn longest_call(lasts: Duration) -> Duration {
    lasts.max(ATTEMPT_TIMEOUT) + ATTEMPT_TIMEOUT
}

/// Returns whether the connection of a call broke, which says nothing about how busy the table is.
/// If there was none, because it was refused for example, the service may be down.
fn is_broken<E>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::DispatchFailure(failure) = error else {
        return false;
    };
    let may_be_gone = failure.is_io() || failure.as_other().is_some();
    may_be_gone && failure.as_connector_error().is_none_or(was_open)
}

/// Returns whether an error may be that of a connection that was open. An error of the HTTP client
/// that has no error of I/O as its cause may: the connection was closed before the answer.
fn was_open(error: &ConnectorError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let failed = error.downcast_ref::<io::Error>();
        if failed.is_some_and(|failed| !ends_connections(failed.kind())) {
            return false;
        }
        cause = error.source();
    }
    true
}

fn ends_connections(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

fn is_retryable<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(failure) => {
            failure.is_io() || failure.is_timeout() || failure.as_other().is_some()
        }
        SdkError::ServiceError(error) => {
            let status = error.raw().status().as_u16();
            let code = error.err().code();
            status >= 500
                || status == 429
                || code.is_some_and(|code| RETRYABLE_CODES.contains(&code))
        }
        _ => false,
    }
}

/// Returns whether a call exceeded the throughput of the table or of the account.
fn is_throttled<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.code();
    code.is_some_and(|code| THROTTLE_CODES.contains(&code))
}

/// Returns the error for a service that could not be reached, was too busy, did not answer in time,
/// or in whose place somebody else answered.
fn unreachable<E>(operation: Operation<'_>, kind: Kind, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Operation {
        action,
        table,
        region,
    } = operation;
    if let Some((_, said)) = page_of(&error) {
        let message = format!("{action} on DynamoDB table `{table}` in {region} failed: {said}");
        return Error::caused(kind, message, error);
    }
    let said = error.code().map(|code| format!(" ({code})"));
    let why = match &error {
        SdkError::ServiceError(_) => "is busy",
        SdkError::TimeoutError(_) => "did not answer in time",
        SdkError::ConstructionFailure(_) => "could not be called",
        _ => "could not be reached",
    };
    let message = format!(
        "DynamoDB table `{table}` in {region} {why} for {action}{}",
        said.unwrap_or_default()
    );
    Error::caused(kind, message, error)
}

/// Converts an error of the service, with advice on how to fix it.
fn refused<E>(operation: Operation<'_>, error: E) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Operation {
        action,
        table,
        region,
    } = operation;
    let said = error.message().unwrap_or_default().to_owned();
    let (kind, message) = match error.code() {
        Some("ResourceNotFoundException") => (
            Kind::NotFound,
            format!(
                "there is no DynamoDB table `{table}` in {region}: make it by `terraform apply` in \
                 infra/, or correct `store.online` or AWS_REGION"
            ),
        ),
        Some("AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation") => (
            Kind::Internal,
            format!(
                "{action} on DynamoDB table `{table}` in {region} is not allowed: {said}. The role needs \
                 {}",
                statement(
                    action,
                    &format!(
                        "arn:{}:dynamodb:{region}:*:table/{table}",
                        partition(region)
                    )
                )
            ),
        ),
        Some(
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "MissingAuthenticationToken",
        ) => (
            Kind::Internal,
            format!(
                "AWS does not accept the credentials that {action} was signed with: {said}. Look at \
                 AWS_PROFILE, AWS_ACCESS_KEY_ID or the role, and at this machine's clock"
            ),
        ),
        Some(code) => (
            Kind::Internal,
            format!("DynamoDB table `{table}` in {region} refused {action}: {code}: {said}"),
        ),
        None => (
            Kind::Internal,
            format!("DynamoDB table `{table}` in {region} refused {action}: {said}"),
        ),
    };
    Error::caused(kind, message, error)
}

/// Returns an IAM policy statement that allows an action on a resource.
pub(crate) fn statement(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}"#)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use aws_sdk_dynamodb::operation::get_item::GetItemError;

    use super::*;
    use crate::bulk::in_bulk;
    use crate::test_server::{answer, serve};

    const OPERATION: Operation<'_> = Operation {
        action: "dynamodb:GetItem",
        table: "t",
        region: "r",
    };

    /// Makes the error of an attempt.
    type Failing = fn() -> SdkError<GetItemError, HttpResponse>;

    /// Calls a service, and gives up after `patience`. `failing` says by which error the attempt of
    /// each number fails, from 1. Returns the answer, which is the number of the last attempt, and
    /// the number of attempts.
    async fn called(
        patience: Duration,
        failing: impl Fn(u32) -> Option<Failing>,
    ) -> (Result<u32, CallFailure<GetItemError>>, u32) {
        let (random, attempts) = (Random::new(1), Cell::new(0));
        let mut backoff = Backoff::of_read(&random, patience);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            let answer = match failing(attempts.get()) {
                None => Ok(attempts.get()),
                Some(error) => Err(error()),
            };
            std::future::ready(answer)
        };
        let answered = call(OPERATION, &mut backoff, attempt).await;
        assert_eq!(backoff.attempts(), attempts.get());
        (answered, attempts.get())
    }

    #[test]
    fn longest_call_has_two_attempts_at_least() {
        for (lasts, wanted) in [(0, 6), (2, 6), (3, 6), (10, 13)] {
            let longest = longest_call(Duration::from_secs(lasts));
            assert_eq!(longest, Duration::from_secs(wanted), "{lasts}");
        }
    }

    const RESET: Failing = || SdkError::dispatch_failure(ConnectorError::io("reset".into()));
    const REFUSED: Failing = || of_io(io::ErrorKind::ConnectionRefused);
    const LATE: Failing = || SdkError::timeout_error("no answer");

    /// Returns the error of a connection that failed by an error of I/O.
    fn of_io(kind: io::ErrorKind) -> SdkError<GetItemError, HttpResponse> {
        SdkError::dispatch_failure(ConnectorError::io(io::Error::from(kind).into()))
    }

    #[test]
    fn connection_that_was_open_is_told_from_one_that_was_not() {
        for (kind, is_open) in [
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::BrokenPipe, true),
            (io::ErrorKind::UnexpectedEof, true),
            (io::ErrorKind::ConnectionRefused, false),
            (io::ErrorKind::HostUnreachable, false),
            (io::ErrorKind::NetworkUnreachable, false),
            (io::ErrorKind::AddrNotAvailable, false),
            // A name that is not found.
            (io::ErrorKind::Other, false),
            // A certificate that is not accepted.
            (io::ErrorKind::InvalidData, false),
        ] {
            assert_eq!(is_broken(&of_io(kind)), is_open, "{kind}");
            assert!(is_retryable(&of_io(kind)), "{kind}");
        }
        assert!(is_broken(&RESET()) && !is_broken(&LATE()));
    }

    #[tokio::test]
    async fn connection_that_is_refused_is_tried_again_after_a_wait_until_the_deadline() {
        let failing = |attempt| (attempt <= 2).then_some(REFUSED);
        let (answered, _) = called(Duration::from_secs(20), failing).await;
        assert_eq!(answered.unwrap(), 3);
        // With its waits, so few attempts fit into the patience, however fast the machine is.
        let (answered, attempts) = called(Duration::from_millis(200), |_| Some(REFUSED)).await;
        assert!(matches!(answered, Err(CallFailure::Failed(e)) if e.kind() == Kind::Unavailable));
        assert!(attempts < BROKEN_CONNECTIONS / 2, "{attempts}");
    }

    /// With waits, which double, so many attempts would take longer than the patience.
    #[tokio::test]
    async fn connections_that_are_gone_are_got_over_without_waits() {
        let is_gone = |attempt| attempt <= BROKEN_CONNECTIONS;
        let failing = |attempt| is_gone(attempt).then_some(RESET);
        let (answered, _) = called(Duration::from_secs(20), failing).await;
        assert_eq!(answered.unwrap(), BROKEN_CONNECTIONS + 1);
    }

    #[tokio::test]
    async fn call_that_found_no_answer_in_its_time_is_attempted_again() {
        for error in [RESET, REFUSED, LATE] {
            let failing = |attempt| (attempt == 1).then_some(error);
            let (answered, _) = called(Duration::ZERO, failing).await;
            assert_eq!(answered.unwrap(), 2);
            let (answered, attempts) = called(Duration::ZERO, |_| Some(error)).await;
            assert!(
                matches!(answered, Err(CallFailure::Failed(e)) if e.kind() == Kind::Unavailable)
            );
            assert_eq!(attempts, 2);
        }
    }

    /// Returns what is said of an answer, when a call gives up.
    async fn said_of(status: u16, content_type: &str, body: &'static str) -> Error {
        let random = Random::new(1);
        let mut backoff = Backoff::of_read(&random, Duration::ZERO);
        let attempt = || {
            let headers = format!("content-type: {content_type}\r\n");
            let (account, _) = serve(move |_, _| answer(status, &headers, body));
            let client = account.dynamodb();
            async move { client.describe_table().table_name("t").send().await }
        };
        let answered = call(OPERATION, &mut backoff, attempt).await;
        answered.unwrap_err().into_error(OPERATION)
    }

    #[tokio::test]
    async fn page_in_the_place_of_an_answer_is_told_as_one() {
        let page = "<html>\n<title>Sign in</title>";
        for (status, kind) in [
            (200, Kind::Internal),
            (302, Kind::Internal),
            (403, Kind::Internal),
            (503, Kind::Unavailable),
        ] {
            let error = said_of(status, "text/html", page).await;
            assert_eq!(error.kind(), kind, "{error}");
            let wanted = format!(
                "failed: the answer is a page of HTML and not one of the service (status {status}, \
                 content type `text/html`, which begins with `<html>`)"
            );
            let said = error.chain();
            assert!(said.contains(&wanted), "{said}");
            assert!(!said.contains("Sign in"), "{said}");
        }
        let refusal = r#"{"__type": "com.amazonaws#ResourceNotFoundException"}"#;
        let error = said_of(400, "application/x-amz-json-1.0", refusal).await;
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }

    #[tokio::test]
    async fn write_of_a_bulk_load_is_retried_as_long_as_the_load_makes_progress() {
        let (random, pacer) = (Random::new(1), Pacer::new(1_000.0));
        let lasts = Duration::from_secs(10);
        let began = Instant::now();
        let of_event = Backoff::of_write(&random, lasts, &pacer);
        in_bulk(async {
            let of_load = Backoff::of_write(&random, lasts, &pacer);
            let deadline = of_load.deadline();
            assert!(deadline >= began + lasts * BULK_PATIENCE);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(of_load.deadline(), deadline);
            pacer.answered();
            assert!(of_load.deadline() > deadline);
        })
        .await;
        assert_eq!(of_event.deadline(), of_event.until);
        assert!(of_event.until < began + lasts * BULK_PATIENCE);
    }
}
