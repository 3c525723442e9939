//! Drafts: an event on its way to a commit.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use bytes::Bytes;
use serde_json::Value as Json;
use wafer_core::rules::{available_from_event, available_from_file};
use wafer_core::{Timestamp, encode_row};
use wafer_store::{EventCommit, OutboxRow, Result};

use crate::events::event::{Arrival, IncomingEvent};
use crate::group_rows::Target;

/// An event on its way.
pub(crate) struct Draft {
    /// What it writes; why it is refused.
    pub(crate) commit: Result<EventCommit, String>,
    /// Event time of its latest row.
    pub(crate) latest: Option<Timestamp>,
    pub(crate) late: bool,
    pub(crate) too_late: bool,
    /// Whether a row of it was left out, as its entity was deleted.
    pub(crate) is_forgotten: bool,
    /// Rows of quarantine tables, if it is refused.
    pub(crate) quarantine: Vec<OutboxRow>,
    /// What it is known by.
    pub(crate) id: String,
}

/// What decides about the events of one push.
#[derive(Clone, Copy)]
pub(crate) struct IngestTerms {
    pub(crate) now: Timestamp,
    pub(crate) arrival: Arrival,
    pub(crate) skew: i64,
    pub(crate) delay: i64,
    pub(crate) lateness: Option<i64>,
}

impl IngestTerms {
    pub(crate) fn available(self, event: Timestamp) -> Timestamp {
        match self.arrival {
            Arrival::Now => available_from_event(event, self.now),
            Arrival::Backfill => available_from_file(event, self.delay),
        }
    }
}

/// Texts, packed as a row of a table without keys.
fn packed_texts(texts: &[Option<&str>]) -> Bytes {
    let columns: Vec<ArrayRef> = texts
        .iter()
        .map(|text| Arc::new(StringArray::from(vec![*text])) as ArrayRef)
        .collect();
    let mut bytes = Vec::new();
    encode_row(&columns, 0, &mut bytes);
    bytes.into()
}

impl Draft {
    /// An event with its identity and no writes yet.
    pub(crate) fn new(
        event: &IncomingEvent,
        source: &str,
        id_field: Option<&str>,
        until: Timestamp,
    ) -> Self {
        let id = event_id(event, id_field);
        let commit = id.clone().map(|id| EventCommit {
            source: source.to_owned(),
            id,
            remember_until: until,
            writes: Vec::new(),
            early: Vec::new(),
            outbox: Vec::new(),
        });
        Self {
            commit,
            latest: None,
            late: false,
            too_late: false,
            is_forgotten: false,
            quarantine: Vec::new(),
            id: id.unwrap_or_else(|_| content_id(event)),
        }
    }

    /// Refuses the event; what of it can be read is set aside.
    pub(crate) fn refuse(
        &mut self,
        reason: String,
        target: &Target,
        event: &IncomingEvent,
        now: Timestamp,
    ) {
        if self.commit.is_err() {
            return;
        }
        if let Ok(payload) = &event.payload {
            let row = payload.to_string();
            let source = self.commit.as_ref().map_or("", |commit| &commit.source);
            let values = [Some(reason.as_str()), Some(source), Some(row.as_str())];
            self.quarantine.push(OutboxRow {
                table: target.group.quarantine_table().name,
                event: now,
                available: now,
                created: now,
                event_id: self.id.clone(),
                values: packed_texts(&values),
            });
        }
        self.commit = Err(reason);
    }

    /// Refuses an event of which nothing is left, without keeping what it says.
    pub(crate) fn forget(&mut self) {
        let is_empty = |commit: &EventCommit| commit.outbox.is_empty();
        if self.is_forgotten && self.commit.as_ref().is_ok_and(is_empty) {
            let reason =
                "its entity was deleted after it happened: facts of before are not taken in";
            self.commit = Err(reason.to_owned());
        }
    }

    /// Keeps the raw event.
    pub(crate) fn archive(
        &mut self,
        event: &IncomingEvent,
        archive: Option<&(String, String)>,
        terms: IngestTerms,
    ) {
        let now = terms.now;
        let (Ok(commit), Ok(payload), Some((table, tables))) =
            (&mut self.commit, &event.payload, archive)
        else {
            return;
        };
        if self.is_forgotten {
            return;
        }
        let payload = payload.to_string();
        // When it was first visible, as its rows are: of history not when it came in.
        let available = match terms.arrival {
            Arrival::Now => now,
            Arrival::Backfill => self.latest.map_or(now, |latest| terms.available(latest)),
        };
        commit.outbox.push(OutboxRow {
            table: table.clone(),
            event: now,
            available,
            created: now,
            event_id: commit.id.clone(),
            values: packed_texts(&[Some(&payload), Some(tables)]),
        });
    }

    /// Compares the event with the latest time that was seen before it, and
    /// returns the latest seen with it.
    pub(crate) fn mark(&mut self, watermark: Timestamp) -> Timestamp {
        let Some(latest) = self.latest else {
            return watermark;
        };
        self.late = latest < watermark;
        watermark.max(latest)
    }
}

fn content_id(event: &IncomingEvent) -> String {
    event.content.hex()[..32].to_owned()
}

pub(crate) fn event_id(event: &IncomingEvent, id_field: Option<&str>) -> Result<String, String> {
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
    Ok(id.unwrap_or_else(|| content_id(event)))
}
