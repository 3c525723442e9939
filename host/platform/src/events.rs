//! Events: rows that are pushed in, and readable online as soon as the push is
//! answered.

use arrow_array::ArrayRef;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::rules::{Interval, available_from_event};
use wafer_core::{ColumnBuilder, Digest, Timestamp};
use wafer_runtime::InvokeError;
use wafer_store::{EventCommit, EventOutcome, OutboxRow};

use crate::definition::{GroupDef, SourceKind};
use crate::error::{Error, Result};
use crate::group_rows::{Gate, GroupRows, group_rows};
use crate::platform::{Platform, get};
use crate::source::json_row;

/// An event as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingEvent {
    /// Its fields; or why it could not be read.
    pub payload: Result<Json, String>,
    /// Its identity, if it came with one.
    pub id: Option<String>,
    /// Digest of its content as it came, its identity when it has no other.
    pub content: Digest,
}

impl IncomingEvent {
    /// An event from the text of a JSON object.
    pub fn from_json(text: &[u8]) -> Self {
        let payload = serde_json::from_slice(text).map_err(|e| format!("is not JSON: {e}"));
        Self {
            payload,
            id: None,
            content: Digest::of(text),
        }
    }
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EventResult {
    /// It is durable, and readable online.
    Accepted,
    /// It had been accepted before; nothing was changed.
    Duplicate,
    /// It was refused, and left nothing behind.
    Rejected {
        /// Why.
        error: String,
    },
}

/// What became of the events of one push, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// Events that are durable now.
    pub accepted: usize,
    /// Events that were durable before.
    pub duplicate: usize,
    /// Events that were refused.
    pub rejected: usize,
    /// Each of them.
    pub events: Vec<EventResult>,
}

/// A pipeline that a source's events go through.
struct Route {
    function: wafer_runtime::Function,
    group: GroupDef,
}

/// An event on its way: what it writes, or why it is refused.
type Draft = Result<EventCommit, String>;

impl Platform {
    /// Takes in events of a stream source: each goes through every pipeline of
    /// the source, and all it writes is committed at once. Returns when accepted
    /// events are durable and readable.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) for an unknown source,
    /// [`Kind::Invalid`](crate::Kind::Invalid) for one that takes no events,
    /// [`Kind::Function`](crate::Kind::Function) when a function fails on the
    /// whole batch. Nothing was accepted then.
    pub async fn ingest(&self, source: &str, events: Vec<IncomingEvent>) -> Result<IngestReport> {
        let definitions = self.definitions();
        let definition = get(&definitions.sources, source, "source")?;
        let SourceKind::Stream { id, remember } = &definition.kind else {
            let message = format!(
                "source `{source}` reads files and takes no events; its `type` would be stream"
            );
            return Err(Error::invalid(message));
        };
        let routes: Vec<Route> = definitions
            .pipelines
            .values()
            .filter(|pipeline| pipeline.source == source)
            .map(|pipeline| {
                let function = self.function(&pipeline.function)?;
                Ok(Route {
                    function,
                    group: definitions.groups[&pipeline.group].clone(),
                })
            })
            .collect::<Result<_>>()?;
        if routes.is_empty() {
            let message =
                format!("no pipeline reads source `{source}`: its events would go nowhere");
            return Err(Error::invalid(message));
        }
        let now = self.now();
        let (source, id, until) = (source.to_owned(), id.clone(), now.plus_micros(*remember));
        let skew = definition.skew;
        let drafts = self.components().event_guests.run(move || {
            let mut drafts: Vec<Draft> = events
                .iter()
                .map(|event| draft(event, &source, id.as_deref(), until))
                .collect();
            for route in &routes {
                route.apply(&events, &mut drafts, now, skew)?;
            }
            Ok::<_, Error>(drafts)
        });
        let drafts = drafts.await??;
        self.commit(drafts, now).await
    }

    async fn commit(&self, drafts: Vec<Draft>, now: Timestamp) -> Result<IngestReport> {
        let commits: Vec<EventCommit> = drafts
            .iter()
            .filter_map(|d| d.as_ref().ok().cloned())
            .collect();
        let mut outcomes = match commits.is_empty() {
            true => Vec::new(),
            false => self.components().online.commit_events(commits, now).await?,
        }
        .into_iter();
        let mut report = IngestReport::default();
        for draft in drafts {
            let result = match draft {
                Err(error) => EventResult::Rejected { error },
                Ok(_) => match outcomes.next().expect("one outcome for each event") {
                    EventOutcome::Committed => EventResult::Accepted,
                    EventOutcome::Duplicate => EventResult::Duplicate,
                },
            };
            match result {
                EventResult::Accepted => report.accepted += 1,
                EventResult::Duplicate => report.duplicate += 1,
                EventResult::Rejected { .. } => report.rejected += 1,
            }
            report.events.push(result);
        }
        Ok(report)
    }
}

/// An event with its identity and no writes yet.
fn draft(event: &IncomingEvent, source: &str, id_field: Option<&str>, until: Timestamp) -> Draft {
    let payload = event.payload.as_ref().map_err(Clone::clone)?;
    let id = match id_field {
        None => event.id.clone(),
        Some(field) => match payload.get(field) {
            Some(Json::String(id)) => Some(id.clone()),
            Some(Json::Number(id)) => Some(id.to_string()),
            _ => {
                return Err(format!(
                    "field `{field}`, its identity, is missing or neither text nor number"
                ));
            }
        },
    };
    Ok(EventCommit {
        source: source.to_owned(),
        id: id.unwrap_or_else(|| event.content.hex()[..32].to_owned()),
        remember_until: until,
        writes: Vec::new(),
        early: Vec::new(),
        outbox: Vec::new(),
    })
}

impl Route {
    /// Puts the events that are still good through the pipeline.
    fn apply(
        &self,
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        now: Timestamp,
        skew: i64,
    ) -> Result<()> {
        let fields: Vec<_> = self.function.signature().inputs.fields().iter().collect();
        let mut builders: Vec<ColumnBuilder> = fields
            .iter()
            .map(|f| ColumnBuilder::new(&f.data_type, events.len()))
            .collect();
        // Rows of the batch, as indices of events.
        let mut rows = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let (Ok(payload), Ok(_)) = (&event.payload, &drafts[index]) else {
                continue;
            };
            // A bad row stays in the batch and is left out after the call, so
            // that good ones need not be copied.
            if let Err(message) = json_row(payload, &fields, &mut builders) {
                drafts[index] = Err(message);
            }
            rows.push(index);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let good: Vec<bool> = rows.iter().map(|index| drafts[*index].is_ok()).collect();
        let columns: Vec<_> = builders.iter_mut().map(ColumnBuilder::finish).collect();
        let mask = arrow_array::BooleanArray::from(good.clone());
        let columns: Vec<_> = columns
            .iter()
            .map(|c| arrow_select::filter::filter(c, &mask).expect("as many bits as rows"))
            .collect();
        let rows: Vec<usize> = rows
            .into_iter()
            .zip(good)
            .filter_map(|(index, good)| good.then_some(index))
            .collect();
        let gate = Gate {
            interval: Interval::ALL,
            now,
            skew,
        };
        self.apply_rows(&columns, &rows, drafts, gate)
    }

    /// Puts rows through the function; `rows` are the events they belong to. A row
    /// that traps the function fails alone: it is found by halving.
    fn apply_rows(
        &self,
        columns: &[ArrayRef],
        rows: &[usize],
        drafts: &mut [Draft],
        gate: Gate,
    ) -> Result<()> {
        let made = match group_rows(&self.function, &self.group, columns, gate) {
            Ok(made) => made,
            Err(error) if is_of_a_row(&error) && rows.len() == 1 => {
                drafts[rows[0]] = Err(error.to_string());
                return Ok(());
            }
            Err(error) if is_of_a_row(&error) => {
                let half = rows.len() / 2;
                let part = |from, length| -> Vec<ArrayRef> {
                    columns
                        .iter()
                        .map(|column| column.slice(from, length))
                        .collect()
                };
                self.apply_rows(&part(0, half), &rows[..half], drafts, gate)?;
                let rest = rows.len() - half;
                return self.apply_rows(&part(half, rest), &rows[half..], drafts, gate);
            }
            Err(error) => return Err(error),
        };
        for (row, message) in &made.rejects {
            drafts[rows[*row]] = Err(message.clone());
        }
        self.add_writes(&made, rows, drafts, gate.now);
        Ok(())
    }

    fn add_writes(&self, made: &GroupRows, rows: &[usize], drafts: &mut [Draft], now: Timestamp) {
        let (table, fingerprint) = (self.group.table(), self.group.fingerprint());
        for (row, source) in made.sources.iter().enumerate() {
            let Ok(commit) = &mut drafts[rows[*source]] else {
                continue;
            };
            let event = made.events[row];
            let write = made.online_write(&self.group, fingerprint, row, now);
            if event > now {
                commit.early.push(write)
            } else {
                commit.writes.push(write)
            }
            commit.outbox.push(OutboxRow {
                table: table.clone(),
                event,
                available: available_from_event(event, now),
                created: now,
                event_id: commit.id.clone(),
                values: made.packed_row(row),
            });
        }
    }
}

/// Whether a single row may be what a function failed on: it trapped or broke the
/// contract. One that refuses, or runs out of time or memory, would do so again.
fn is_of_a_row(error: &Error) -> bool {
    let invoke = std::error::Error::source(error).and_then(|e| e.downcast_ref::<InvokeError>());
    matches!(
        invoke,
        Some(InvokeError::Trapped { .. } | InvokeError::Output { .. })
    )
}
