//! Invocations: what each kind of event is, and what is done with it.
//!
//! A *request* of a function URL or of API Gateway is answered by the router of `wafer-server`.
//!
//! A *batch of records* comes from a queue or stream, which `WAFER_EVENT_SOURCES` maps to a source,
//! or is a notification of S3. Records of a source are decoded ([`wafer_aws::records`]) and
//! ingested. Those that cannot be decoded are reported as failed one by one, so that Lambda
//! delivers only them again, and of a FIFO queue those behind them in their group. If the whole
//! batch is delivered again, its records have the same identities, and each counts once. A
//! notification that a commit was written to the outbox flushes the outbox, whose age is told then
//! (`metrics.rs`). If the commit is still being written, or if others are flushing, the
//! notification is reported as failed, and Lambda delivers it again.
//!
//! A *task* (`task.rs`) is sent by a schedule, a state machine or an operator.
//!
//! An environment of Lambda has no threads that run between invocations. The background work of the
//! platform is done instead before an invocation, before a request, after an answer was sent, and
//! when the environment ends (`end.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::LambdaEvent;
use serde_json::{Value as Json, json};
use tower_service::Service as _;
use url::Url;
use wafer_aws::EventSources;
use wafer_aws::records::{LambdaRecords, Record, WrittenObject};
use wafer_core::Timestamp;
use wafer_platform::{Background, Delivery, IncomingEvent, Moment, Platform};
use wafer_server::{Hosts, ServerLimits, ServerOptions, router};

use crate::failure::InvocationFailure;
use crate::metrics::write_outbox_age;
use crate::task::{TaskEvent, WaferTask};

/// Handles the invocations of a project.
pub(crate) struct Handler {
    platform: Arc<Platform>,
    router: Router,
    /// The source of each queue and stream.
    sources: EventSources,
    /// URL of the project's folder on S3.
    objects: Url,
    background: Background,
}

/// The kinds of invocations.
enum Invocation {
    /// An HTTP request.
    Request(Box<LambdaRequest>),
    /// A batch of records of a queue, of a stream or of S3.
    Records(LambdaRecords),
    /// A task of a schedule, a state machine or an operator.
    Task(WaferTask),
}

impl Invocation {
    /// Recognises the kind of an event by its fields, and decodes it.
    fn of(event: Json) -> Result<Self, InvocationFailure> {
        if event.get("wafer").is_some() {
            let task_event: TaskEvent = serde_json::from_value(event)
                .map_err(|e| InvocationFailure::invalid(format!("the task cannot be read: {e}")))?;
            return Ok(Self::Task(task_event.wafer));
        }
        if event.get("Records").is_some() {
            let batch = serde_json::from_value(event).map_err(|e| {
                InvocationFailure::invalid(format!("the records of this event cannot be read: {e}"))
            })?;
            return Ok(Self::Records(batch));
        }
        if event.get("requestContext").is_none() {
            let fields = event
                .as_object()
                .map(|event| event.keys().cloned().collect::<Vec<_>>());
            return Err(InvocationFailure::invalid(format!(
                "an event with {} is of a kind that this function does not know: it handles function \
                 URLs, API Gateway, SQS, Kinesis, DynamoDB Streams, S3 notifications and \
                 {{\"wafer\": …}}",
                fields.unwrap_or_default().join(", ")
            )));
        }
        let request = serde_json::from_value(without_stage(event))
            .map_err(|e| InvocationFailure::invalid(format!("the request cannot be read: {e}")))?;
        Ok(Self::Request(Box::new(request)))
    }
}

/// Removes the stage of the gateway from the path of a request, because routes do not have it.
fn without_stage(mut event: Json) -> Json {
    let stage = event["requestContext"]["stage"]
        .as_str()
        .unwrap_or_default();
    let prefix = format!("/{stage}/");
    if let Some(path) = event["rawPath"]
        .as_str()
        .and_then(|path| path.strip_prefix(&prefix))
    {
        event["rawPath"] = format!("/{path}").into();
    }
    event["requestContext"]["stage"] = "$default".into();
    event
}

impl Handler {
    /// Returns a handler. `sources` has the source of each queue and stream, `objects` is the
    /// folder of the project on S3.
    pub(crate) fn new(platform: Arc<Platform>, sources: EventSources, objects: Url) -> Self {
        // Function URLs and gateways have names of their own, and decide who may ask.
        let options = ServerOptions {
            limits: ServerLimits::default(),
            hosts: Hosts::Any,
        };
        Self {
            router: router(Arc::clone(&platform), options),
            background: Background::new(Arc::clone(&platform)),
            platform,
            sources,
            objects,
        }
    }

    /// Handles an invocation, and returns its answer.
    ///
    /// # Errors
    /// Returns an error when the event is unknown or malformed, and when its work fails.
    pub(crate) async fn handle(&self, event: LambdaEvent<Json>) -> Result<Json, InvocationFailure> {
        let (payload, context) = event.into_parts();
        let invocation = Invocation::of(payload)?;
        let is_request = matches!(invocation, Invocation::Request(_));
        self.background.run_at(Moment::BeforeInvocation).await?;
        if is_request {
            self.background.run_at(Moment::BeforeRequest).await?;
        }
        match invocation {
            Invocation::Request(request) => {
                let mut adapter = Adapter::from(self.router.clone());
                let Ok(answer) = adapter.call(LambdaEvent::new(*request, context)).await;
                serde_json::to_value(answer).map_err(|e| InvocationFailure::invalid(e.to_string()))
            }
            Invocation::Records(batch) => self.records(&batch).await,
            Invocation::Task(task) => {
                let deadline = i64::try_from(context.deadline).unwrap_or(i64::MAX);
                let deadline = Timestamp::from_millis(deadline);
                task.perform(&self.platform, &self.background, deadline)
                    .await
            }
        }
    }

    /// Does the background work that is due after an answer was sent. Errors are only logged.
    pub(crate) async fn after_answer(&self) {
        if let Err(error) = self.background.run_at(Moment::AfterAnswer).await {
            tracing::warn!("{}", error.chain());
        }
    }

    /// Does the background work that is left when the environment ends. Errors are only logged,
    /// where they happen.
    pub(crate) async fn finish(&self) {
        let _ = self.background.finish().await;
    }

    /// Returns the number of rows of requests that are lost if the program ends now.
    pub(crate) fn unwritten_log_rows(&self) -> u64 {
        self.platform.serving().unwritten_log_rows()
    }

    /// Handles a batch of records, and returns which of them Lambda must deliver again.
    ///
    /// # Errors
    /// Returns an error when the whole batch must be delivered again.
    async fn records(&self, batch: &LambdaRecords) -> Result<Json, InvocationFailure> {
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut by_source: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        let mut notifications: Vec<(&Record, Vec<String>)> = Vec::new();
        for record in &batch.records {
            if let Some(source) = self.sources.source(record.arn()) {
                by_source.entry(source).or_default().push(record);
                continue;
            }
            match record.notification() {
                Some(stored) => {
                    let commits = stored.iter().filter_map(|stored| self.commit_name(stored));
                    notifications.push((record, commits.collect()));
                }
                None => {
                    tracing::error!(
                        "no source takes records of {}: name it in WAFER_EVENT_SOURCES",
                        record.arn()
                    );
                    failed.insert(record.identifier());
                }
            }
        }
        notifications.retain(|(_, commits)| !commits.is_empty());
        if !notifications.is_empty() {
            // Commits that are finished are in the tables now. The notifications of those that are
            // still being written must come again.
            let flushed = self.background.flush().await;
            write_outbox_age(&self.platform).await;
            let unfinished = flushed?.unfinished;
            let is_unfinished = |commits: &[String]| commits.iter().any(|c| unfinished.contains(c));
            notifications.retain(|(_, commits)| is_unfinished(commits));
            if notifications.iter().any(|(record, _)| record.is_from_s3()) {
                return Err(InvocationFailure::unavailable(
                    "a commit in the outbox is not finished yet",
                ));
            }
            failed.extend(notifications.iter().map(|(record, _)| record.identifier()));
        }
        for (source, records) in by_source {
            self.ingest_records(source, &records, &mut failed).await?;
        }
        let failed = failed.iter().map(|id| json!({"itemIdentifier": id}));
        Ok(json!({"batchItemFailures": failed.collect::<Vec<_>>()}))
    }

    /// Ingests the records of a source as events, and adds those that must come again to `failed`.
    async fn ingest_records(
        &self,
        source: &str,
        records: &[&Record],
        failed: &mut BTreeSet<String>,
    ) -> Result<(), InvocationFailure> {
        let events = events_of(source, records, failed);
        if events.is_empty() {
            return Ok(());
        }
        let report = self
            .platform
            .pipelines()
            .events()
            .ingest(source, events, Delivery::Now)
            .await;
        let report = report?;
        tracing::info!(
            "`{source}`: {} accepted, {} duplicates, {} rejected",
            report.accepted,
            report.duplicate,
            report.rejected
        );
        Ok(())
    }

    /// Returns the name of the commit whose object was written to the outbox, or `None` for any
    /// other object.
    fn commit_name(&self, stored: &WrittenObject) -> Option<String> {
        let folder = format!("{}/outbox/", self.objects.path().trim_matches('/'));
        let key = stored.key();
        let name = key.strip_prefix(folder.trim_start_matches('/'))?;
        (Some(stored.bucket()) == self.objects.host_str()).then(|| name.to_owned())
    }
}

/// Decodes the records of a source as events, and adds those that must come again to `failed`:
/// those that cannot be decoded, and of a FIFO queue those behind them in their group. Lambda
/// deletes what is not reported, so that the group would lose its order:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
fn events_of(
    source: &str,
    records: &[&Record],
    failed: &mut BTreeSet<String>,
) -> Vec<IncomingEvent> {
    let mut events = Vec::with_capacity(records.len());
    let mut held_up: BTreeSet<&str> = BTreeSet::new();
    for record in records {
        let group = record.fifo_group();
        if group.is_some_and(|group| held_up.contains(group)) {
            failed.insert(record.identifier());
            continue;
        }
        let Some(event) = record.event() else {
            continue;
        };
        if let Err(reason) = &event.payload {
            // Delivering it again does not help, but after that the record goes to the dead-letter
            // queue, where it is not lost. Records of no group are not held up.
            tracing::warn!("record {} of `{source}` {reason}", record.identifier());
            failed.insert(record.identifier());
            held_up.extend(group);
            continue;
        }
        events.push(event);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_behind_a_failed_one_of_their_fifo_group_come_again() {
        for (queue, wanted, taken) in [("q.fifo", &["2", "4"][..], 3), ("q", &["2"][..], 4)] {
            let message = |id: &str, group: &str, body: &str| {
                json!({
                    "messageId": id, "body": body, "attributes": {"MessageGroupId": group},
                    "eventSource": "aws:sqs", "eventSourceARN": format!("arn:aws:sqs:r:1:{queue}"),
                })
            };
            let batch = json!({"Records": [
                message("1", "a", r#"{"n": 1}"#),
                message("2", "a", "{oops"),
                message("3", "b", r#"{"n": 3}"#),
                message("4", "a", r#"{"n": 4}"#),
                message("5", "b", r#"{"n": 5}"#),
            ]});
            let batch: LambdaRecords = serde_json::from_value(batch).unwrap();
            let records: Vec<&Record> = batch.records.iter().collect();
            let mut failed = BTreeSet::new();
            let events = events_of("s", &records, &mut failed);
            let failed: Vec<&str> = failed.iter().map(String::as_str).collect();
            assert_eq!((failed, events.len()), (wanted.to_vec(), taken), "{queue}");
        }
    }

    #[test]
    fn invocations_are_recognised_by_their_fields() {
        let kind = |event: Json| match Invocation::of(event) {
            Ok(Invocation::Request(_)) => "request".to_owned(),
            Ok(Invocation::Records(_)) => "records".to_owned(),
            Ok(Invocation::Task(task)) => format!("{task:?}"),
            Err(e) => e.to_string(),
        };
        assert_eq!(kind(json!({"Records": []})), "records");
        assert_eq!(kind(json!({"wafer": {"flush": {}}})), "Flush");
        let tick = json!({"wafer": {"tick": {"pipeline": "p"}}});
        let wanted = r#"Tick { pipeline: Some("p"), except: [] }"#;
        assert_eq!(kind(tick), wanted);
        for (event, wanted) in [
            (
                json!({"wafer": {"dance": {}}}),
                "unknown variant `dance`, expected one of `flush`",
            ),
            (
                json!({"wafer": {"tick": {"pipe": "p"}}}),
                "unknown field `pipe`",
            ),
            (json!({"a": 1, "b": 2}), "an event with a, b is of a kind"),
            (json!([1]), "is of a kind that this function does not know"),
            (json!({"Records": 1}), "cannot be read"),
        ] {
            let said = kind(event);
            assert!(said.contains(wanted), "{said}");
        }
    }
}
