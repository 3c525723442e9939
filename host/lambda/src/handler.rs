//! What an invocation is, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::LambdaEvent;
use serde_json::{Value as Json, json};
use tower_service::Service as _;
use url::Url;
use wafer_platform::{Arrival, Background, Moment, Platform};
use wafer_server::router;

use crate::failure::Failure;
use crate::records::{Batch, Record, Stored};
use crate::task::{Asked, Task};

/// How often a flush is tried while others are at it, and how long apart.
const FLUSHES: u32 = 100;
const BUSY: Duration = Duration::from_millis(200);

/// Answers invocations.
pub(crate) struct Handler {
    platform: Arc<Platform>,
    router: Router,
    /// For each queue and stream its source.
    sources: BTreeMap<String, String>,
    /// The project's folder on S3.
    objects: Url,
    background: Background,
}

/// What an invocation is.
enum Invocation {
    Request(Box<LambdaRequest>),
    Records(Batch),
    Task(Task),
}

impl Invocation {
    fn of(event: Json) -> Result<Self, Failure> {
        if event.get("wafer").is_some() {
            let asked: Asked = serde_json::from_value(event)
                .map_err(|e| Failure::invalid(format!("the task cannot be read: {e}")))?;
            return Ok(Self::Task(asked.wafer));
        }
        if event.get("Records").is_some() {
            let batch = serde_json::from_value(event).map_err(|e| {
                Failure::invalid(format!("the records of this event cannot be read: {e}"))
            })?;
            return Ok(Self::Records(batch));
        }
        if event.get("requestContext").is_none() {
            let fields = event
                .as_object()
                .map(|event| event.keys().cloned().collect::<Vec<_>>());
            return Err(Failure::invalid(format!(
                "an event with {} is nothing that this function knows: it answers function URLs, API \
                 Gateway, SQS, Kinesis, DynamoDB Streams, S3 notifications and {{\"wafer\": …}}",
                fields.unwrap_or_default().join(", ")
            )));
        }
        let request = serde_json::from_value(without_stage(event))
            .map_err(|e| Failure::invalid(format!("the request cannot be read: {e}")))?;
        Ok(Self::Request(Box::new(request)))
    }
}

/// A request without the stage of its gateway, which is no part of any route.
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
    pub(crate) fn new(
        platform: Arc<Platform>,
        sources: BTreeMap<String, String>,
        objects: Url,
    ) -> Self {
        Self {
            router: router(Arc::clone(&platform)),
            background: Background::new(Arc::clone(&platform)),
            platform,
            sources,
            objects,
        }
    }

    /// Answers one invocation.
    pub(crate) async fn handle(&self, event: LambdaEvent<Json>) -> Result<Json, Failure> {
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
                serde_json::to_value(answer).map_err(|e| Failure::invalid(e.to_string()))
            }
            Invocation::Records(batch) => self.records(&batch).await,
            Invocation::Task(task) => task.perform(&self.platform, context.deadline).await,
        }
    }

    /// Does what nobody waits for, after an answer was sent.
    pub(crate) async fn after_answer(&self) {
        if let Err(error) = self.background.run_at(Moment::AfterAnswer).await {
            tracing::warn!("{}", error.chain());
        }
    }

    /// Takes in a batch, and says which of its records are to be delivered again.
    async fn records(&self, batch: &Batch) -> Result<Json, Failure> {
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut by_source: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        let mut notified: Vec<(&Record, Vec<String>)> = Vec::new();
        for record in &batch.records {
            if let Some(source) = self.sources.get(record.arn()) {
                by_source.entry(source).or_default().push(record);
                continue;
            }
            match record.notification() {
                Some(stored) => {
                    let commits = stored.iter().filter_map(|stored| self.commit_of(stored));
                    notified.push((record, commits.collect()));
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
        notified.retain(|(_, commits)| !commits.is_empty());
        if !notified.is_empty() {
            // What is still being written is told of again; the rest is in the tables.
            let unfinished = self.flush().await?;
            let is_unfinished = |commits: &[String]| commits.iter().any(|c| unfinished.contains(c));
            notified.retain(|(_, commits)| is_unfinished(commits));
            if notified.iter().any(|(record, _)| record.s3.is_some()) {
                return Err(Failure::unavailable("what was written is not finished yet"));
            }
            failed.extend(notified.iter().map(|(record, _)| record.identifier()));
        }
        for (source, records) in by_source {
            self.take_in(source, &records, &mut failed).await?;
        }
        let failed = failed.iter().map(|id| json!({"itemIdentifier": id}));
        Ok(json!({"batchItemFailures": failed.collect::<Vec<_>>()}))
    }

    async fn take_in(
        &self,
        source: &str,
        records: &[&Record],
        failed: &mut BTreeSet<String>,
    ) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            let Some(event) = record.event() else {
                continue;
            };
            if let Err(reason) = &event.payload {
                // Redelivery does not mend it: it ends in the dead-letter queue, and is
                // lost to nobody. The others go on.
                tracing::warn!("record {} of `{source}` {reason}", record.identifier());
                failed.insert(record.identifier());
                continue;
            }
            events.push(event);
        }
        if events.is_empty() {
            return Ok(());
        }
        let report = self
            .platform
            .pipelines()
            .ingest(source, events, Arrival::Now)
            .await;
        let report = report?;
        tracing::info!(
            "`{source}`: {} accepted, {} known, {} set aside",
            report.accepted,
            report.duplicate,
            report.rejected
        );
        Ok(())
    }

    /// Appends the outbox to the tables, after whoever is at it; returns the commits that
    /// are still being written.
    async fn flush(&self) -> Result<Vec<String>, Failure> {
        for _ in 0..FLUSHES {
            let report = self.platform.tables().flush().await?;
            if !report.busy {
                return Ok(report.unfinished);
            }
            tokio::time::sleep(BUSY).await;
        }
        Err(Failure::unavailable("others are flushing all the time"))
    }

    /// The commit that was written, if it is one.
    fn commit_of(&self, stored: &Stored) -> Option<String> {
        let folder = format!("{}/outbox/", self.objects.path().trim_matches('/'));
        let key = stored.key();
        let name = key.strip_prefix(folder.trim_start_matches('/'))?;
        (Some(stored.bucket()) == self.objects.host_str()).then(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocations_are_told_apart() {
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
            (json!({"a": 1, "b": 2}), "an event with a, b is nothing"),
            (json!([1]), "is nothing that this function knows"),
            (json!({"Records": 1}), "cannot be read"),
        ] {
            let said = kind(event);
            assert!(said.contains(wanted), "{said}");
        }
    }
}
