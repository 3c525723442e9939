//! Events: rows that are pushed in, and readable online as soon as the push is
//! answered.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::rules::{
    Interval, Lateness, available_from_event, available_from_file, judge_lateness,
};
use wafer_core::{ColumnBuilder, DataType, Digest, Field, Schema, Timestamp, encode_row};
use wafer_runtime::{Deadline, Function, InvokeError, Output};
use wafer_store::{EarlyWrite, EventCommit, EventOutcome, OutboxRow, for_work};

use crate::definition::{SourceDef, SourceKind, TableDef};
use crate::deletion::Deletions;
use crate::error::{Error, Kind, Result};
use crate::group_rows::{Gate, GroupRows, Refused, Target};
use crate::plan::Applied;
use crate::platform::{Platform, get};
use crate::resolve::{FIVE_MINUTES, SEVEN_DAYS};
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

/// How events that come in are dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They come in now.
    Now,
    /// They are history: each came in when it happened, plus the source's delay.
    Backfill,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EventResult {
    /// It is durable, and readable online.
    Accepted,
    /// It is durable, and older than the source's `lateness` allows: it waits in
    /// the late table until it is healed.
    TooLate,
    /// It had been accepted before; nothing was changed.
    Duplicate,
    /// It was refused, and left nothing behind but a row in the quarantine table.
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
    /// Of the accepted ones, those that an event with a later time came before.
    pub late: usize,
    /// Of the accepted ones, those that wait in a late table.
    pub too_late: usize,
    /// Of the accepted ones, those that changed nothing online, as what was stored
    /// is newer.
    pub older: usize,
    /// Of the accepted ones, those that are applied online once they are due.
    pub early: usize,
    /// Each of them.
    pub events: Vec<EventResult>,
}

impl IngestReport {
    /// Adds another report's numbers, and its events after these.
    pub fn extend(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.late += other.late;
        self.too_late += other.too_late;
        self.older += other.older;
        self.early += other.early;
        self.events.extend(other.events);
    }
}

/// Where a source's events go, by the definitions and deletions of some time.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    applied: Arc<Applied>,
    deletions: Arc<Deletions>,
    routes: Arc<Vec<Route>>,
}

/// What a source's events go through, and the groups that it fills.
#[derive(Debug)]
pub(crate) struct Route {
    through: Through,
    targets: Vec<Target>,
}

/// What makes rows of events.
#[derive(Debug)]
enum Through {
    /// A function, known by its digest.
    Function(Function, Digest),
    /// Nothing: their fields are the group's columns.
    Columns(Schema),
}

impl Through {
    fn inputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().inputs,
            Self::Columns(columns) => columns,
        }
    }

    fn outputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().outputs,
            Self::Columns(columns) => columns,
        }
    }

    fn invoke(&self, columns: &[ArrayRef]) -> Result<Output, InvokeError> {
        match self {
            Self::Function(function, _) => function.invoke(columns, Deadline::Batch),
            Self::Columns(_) => Ok(Output {
                columns: columns.to_vec(),
                rows: columns.first().map_or(0, |column| column.len()),
                source_rows: None,
                row_errors: Vec::new(),
            }),
        }
    }
}

/// An event on its way.
struct Draft {
    /// What it writes; why it is refused.
    commit: Result<EventCommit, String>,
    /// Event time of its latest row.
    latest: Option<Timestamp>,
    late: bool,
    too_late: bool,
    /// Whether a row of it was left out, as its entity was deleted.
    is_forgotten: bool,
    /// Rows of quarantine tables, if it is refused.
    quarantine: Vec<OutboxRow>,
    /// What it is known by.
    id: String,
}

/// What decides about the events of one push.
#[derive(Clone, Copy)]
struct Terms {
    now: Timestamp,
    arrival: Arrival,
    skew: i64,
    delay: i64,
    lateness: Option<i64>,
}

impl Terms {
    fn available(self, event: Timestamp) -> Timestamp {
        match self.arrival {
            Arrival::Now => available_from_event(event, self.now),
            Arrival::Backfill => available_from_file(event, self.delay),
        }
    }
}

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
    pub async fn ingest(
        &self,
        source: &str,
        events: Vec<IncomingEvent>,
        arrival: Arrival,
    ) -> Result<IngestReport> {
        let definitions = self.definitions();
        let definition = get(&definitions.sources, source, "source")?;
        let SourceKind::Stream { id, remember, .. } = &definition.kind else {
            let message = format!(
                "source `{source}` reads files and takes no events; its `type` would be stream"
            );
            return Err(Error::invalid(message));
        };
        let routes = self.routes(source).await?;
        if routes.is_empty() {
            let message =
                format!("no pipeline reads source `{source}`: its events would go nowhere");
            return Err(Error::invalid(message));
        }
        let now = self.now();
        let terms = Terms {
            now,
            arrival,
            skew: definition.skew,
            delay: definition.delay,
            lateness: (arrival == Arrival::Now)
                .then_some(definition.lateness)
                .flatten(),
        };
        let watermark = self.watermark(source);
        let archive = archived(source, definition, &routes);
        let (name, id, until) = (source.to_owned(), id.clone(), now.plus_micros(*remember));
        let drafts = self.components().event_guests.run(move || {
            let mut drafts = drafted(&events, &name, id.as_deref(), until, &routes, terms)?;
            let mut watermark = watermark;
            for (draft, event) in drafts.iter_mut().zip(&events) {
                draft.forget();
                draft.archive(event, archive.as_ref(), terms);
                watermark = draft.mark(watermark);
            }
            Ok::<_, Error>((drafts, watermark))
        });
        let (drafts, watermark) = drafts.await??;
        self.raise_watermark(source, watermark);
        self.commit(source, drafts, now, until).await
    }

    /// Writes rows to a group as they are, past its pipeline: with join keys, event time and
    /// columns as fields.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) for an unknown group,
    /// [`Kind::Invalid`](crate::Kind::Invalid) for one of windows, whose features are made
    /// of events.
    pub async fn write_group(
        &self,
        group: &str,
        events: Vec<IncomingEvent>,
    ) -> Result<IngestReport> {
        let definitions = self.definitions();
        let definition = get(&definitions.groups, group, "feature group")?;
        if !definition.aggregates.is_empty() {
            let message = format!(
                "the features of group `{group}` are made of windows of events: push these to its source"
            );
            return Err(Error::invalid(message));
        }
        let now = self.now();
        let terms = Terms {
            now,
            arrival: Arrival::Now,
            skew: FIVE_MINUTES,
            delay: 0,
            lateness: None,
        };
        let time = Field::new(&definition.event_time, DataType::Timestamp, false);
        let keys = definition.keys.iter().cloned();
        let columns = keys.chain([time]).chain(definition.columns.iter().cloned());
        let columns = Schema::new(columns.collect())
            .map_err(|e| Error::caused(Kind::Internal, format!("columns of `{group}`"), e))?;
        let deletions = self.deletions().await?;
        let routes = [Route {
            through: Through::Columns(columns),
            targets: vec![Target::new(definition.clone(), &deletions)],
        }];
        // No source has such a name.
        let name = format!("group/{group}");
        let until = now.plus_micros(SEVEN_DAYS);
        let drafts = drafted(&events, &name, None, until, &routes, terms)?;
        self.commit(&name, drafts, now, until).await
    }

    /// The pipelines that a source's events go through, staged ones included; made
    /// once for the present definitions and deletions.
    async fn routes(&self, source: &str) -> Result<Arc<Vec<Route>>> {
        let (applied, deletions) = (self.applied(), self.deletions().await?);
        let is_present = |routes: &Routes| {
            Arc::ptr_eq(&routes.applied, &applied) && Arc::ptr_eq(&routes.deletions, &deletions)
        };
        if let Some(found) = self.known_routes(source).filter(is_present) {
            return Ok(found.routes);
        }
        let routes = Arc::new(self.make_routes(source, &applied, &deletions)?);
        let made = Routes {
            applied,
            deletions,
            routes: Arc::clone(&routes),
        };
        self.learn_routes(source, made);
        Ok(routes)
    }

    fn make_routes(
        &self,
        source: &str,
        applied: &Applied,
        deletions: &Deletions,
    ) -> Result<Vec<Route>> {
        let mut routes: Vec<Route> = Vec::new();
        for definitions in [Some(&applied.live), applied.staged.as_ref()]
            .into_iter()
            .flatten()
        {
            let pipelines = definitions.pipelines.values();
            for pipeline in pipelines.filter(|pipeline| pipeline.source == source) {
                let group = &definitions.groups[&pipeline.group];
                let mut targets = routes.iter().flat_map(|route| &route.targets);
                if targets.any(|target| target.table.name == group.table()) {
                    continue;
                }
                let target = Target::new(group.clone(), deletions);
                let function = pipeline.made_by.function();
                let function = function.expect("models are asked for files: it was checked");
                let code = definitions.functions[function].registered.digest;
                let is_same = |route: &&mut Route| matches!(&route.through, Through::Function(_, other) if *other == code);
                match routes.iter_mut().find(is_same) {
                    Some(route) => route.targets.push(target),
                    None => routes.push(Route {
                        through: Through::Function(self.function_of(definitions, function)?, code),
                        targets: vec![target],
                    }),
                }
            }
        }
        Ok(routes)
    }

    async fn commit(
        &self,
        source: &str,
        drafts: Vec<Draft>,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<IngestReport> {
        let mut commits: Vec<EventCommit> = Vec::new();
        for draft in &drafts {
            match &draft.commit {
                Ok(commit) => commits.push(commit.clone()),
                // Refused again and again, it is set aside once.
                Err(_) if !draft.quarantine.is_empty() => commits.push(EventCommit {
                    source: format!("quarantine/{source}"),
                    id: draft.id.clone(),
                    remember_until: until,
                    writes: Vec::new(),
                    early: Vec::new(),
                    outbox: draft.quarantine.clone(),
                }),
                Err(_) => {}
            }
        }
        let mut outcomes = match commits.is_empty() {
            true => Vec::new(),
            false => {
                let online = &self.components().online;
                let work = format!("source/{source}");
                for_work(work, online.commit_events(commits, now)).await?
            }
        }
        .into_iter();
        let mut report = IngestReport::default();
        for draft in drafts {
            let result = match draft.commit {
                Err(error) => {
                    if !draft.quarantine.is_empty() {
                        let _ = outcomes.next();
                    }
                    EventResult::Rejected { error }
                }
                Ok(commit) => match outcomes.next().expect("one outcome for each event") {
                    EventOutcome::Committed { older } => {
                        report.accepted += 1;
                        report.older += usize::from(older > 0);
                        report.early += usize::from(!commit.early.is_empty());
                        report.late += usize::from(draft.late);
                        report.too_late += usize::from(draft.too_late);
                        if draft.too_late {
                            EventResult::TooLate
                        } else {
                            EventResult::Accepted
                        }
                    }
                    EventOutcome::Duplicate => {
                        report.duplicate += 1;
                        EventResult::Duplicate
                    }
                },
            };
            report.rejected += usize::from(matches!(result, EventResult::Rejected { .. }));
            report.events.push(result);
        }
        self.counters().add(source, &report);
        Ok(report)
    }
}

/// What events write, as far as they are good.
fn drafted(
    events: &[IncomingEvent],
    source: &str,
    id_field: Option<&str>,
    until: Timestamp,
    routes: &[Route],
    terms: Terms,
) -> Result<Vec<Draft>> {
    let drafts = events.iter();
    let mut drafts: Vec<Draft> = drafts
        .map(|event| Draft::new(event, source, id_field, until))
        .collect();
    for route in routes {
        route.apply(events, &mut drafts, terms)?;
    }
    Ok(drafts)
}

/// Where a source's raw events are kept, and which tables they are written to.
fn archived(source: &str, definition: &SourceDef, routes: &[Route]) -> Option<(String, String)> {
    if !definition.keeps_events() {
        return None;
    }
    let targets = routes.iter().flat_map(|route| &route.targets);
    let tables: Vec<&str> = targets.map(|target| target.table.name.as_str()).collect();
    Some((TableDef::archive(source).name, tables.join(",")))
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
    fn new(event: &IncomingEvent, source: &str, id_field: Option<&str>, until: Timestamp) -> Self {
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
    fn refuse(&mut self, reason: String, target: &Target, event: &IncomingEvent, now: Timestamp) {
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
    fn forget(&mut self) {
        let is_empty = |commit: &EventCommit| commit.outbox.is_empty();
        if self.is_forgotten && self.commit.as_ref().is_ok_and(is_empty) {
            let reason =
                "its entity was deleted after it happened: facts of before are not taken in";
            self.commit = Err(reason.to_owned());
        }
    }

    /// Keeps the raw event.
    fn archive(&mut self, event: &IncomingEvent, archive: Option<&(String, String)>, terms: Terms) {
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
    fn mark(&mut self, watermark: Timestamp) -> Timestamp {
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

fn event_id(event: &IncomingEvent, id_field: Option<&str>) -> Result<String, String> {
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

impl Route {
    /// Puts the events that are still good through the pipeline.
    fn apply(&self, events: &[IncomingEvent], drafts: &mut [Draft], terms: Terms) -> Result<()> {
        let fields: Vec<_> = self.through.inputs().fields().iter().collect();
        let mut builders: Vec<ColumnBuilder> = fields
            .iter()
            .map(|f| ColumnBuilder::new(&f.data_type, events.len()))
            .collect();
        // Rows of the batch, as indices of events.
        let mut rows = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let (Ok(payload), Ok(_)) = (&event.payload, &drafts[index].commit) else {
                continue;
            };
            // A bad row stays in the batch and is left out after the call, so
            // that good ones need not be copied.
            if let Err(message) = json_row(payload, &fields, &mut builders) {
                drafts[index].refuse(message, &self.targets[0], event, terms.now);
            }
            rows.push(index);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let good: Vec<bool> = rows
            .iter()
            .map(|index| drafts[*index].commit.is_ok())
            .collect();
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
        self.apply_rows(&columns, &rows, events, drafts, terms)
    }

    /// Puts rows through the function; `rows` are the events they belong to. A row
    /// that traps the function fails alone: it is found by halving.
    fn apply_rows(
        &self,
        columns: &[ArrayRef],
        rows: &[usize],
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        terms: Terms,
    ) -> Result<()> {
        let gate = Gate {
            interval: Interval::ALL,
            now: terms.now,
            skew: terms.skew,
        };
        let output = match self.through.invoke(columns) {
            Ok(output) => output,
            Err(error) if is_of_a_row(&error) && rows.len() == 1 => {
                let index = rows[0];
                let reason = Error::from(error).to_string();
                drafts[index].refuse(reason, &self.targets[0], &events[index], terms.now);
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
                let rest = rows.len() - half;
                self.apply_rows(&part(0, half), &rows[..half], events, drafts, terms)?;
                return self.apply_rows(&part(half, rest), &rows[half..], events, drafts, terms);
            }
            Err(error) => return Err(error.into()),
        };
        for target in &self.targets {
            let made = target.rows_of(self.through.outputs(), &output, gate);
            for Refused { row, reason, .. } in &made.rejects {
                let index = rows[*row];
                drafts[index].refuse(reason.clone(), target, &events[index], terms.now);
            }
            for row in &made.deleted {
                drafts[rows[*row]].is_forgotten = true;
            }
            add_writes(target, &made, rows, drafts, terms);
        }
        Ok(())
    }
}

/// Adds what rows of a group write to the events that they belong to.
fn add_writes(
    target: &Target,
    made: &GroupRows,
    rows: &[usize],
    drafts: &mut [Draft],
    terms: Terms,
) {
    let (now, columns) = (terms.now, made.prepared());
    for (row, source) in made.sources.iter().enumerate() {
        let draft = &mut drafts[rows[*source]];
        let Ok(commit) = &mut draft.commit else {
            continue;
        };
        let (event, available) = (made.events[row], terms.available(made.events[row]));
        draft.latest = draft.latest.max(Some(event));
        let mut outbox = OutboxRow {
            table: target.table.name.clone(),
            event,
            available,
            created: now,
            event_id: commit.id.clone(),
            values: made.packed_row(row),
        };
        if judge_lateness(event, now, terms.lateness) == Lateness::TooLate {
            outbox.table = target.group.late_table().name;
            draft.too_late = true;
        } else {
            let write = made.online_write(target, &columns, row, now, &commit.id);
            let due = event.max(available);
            if due > now {
                commit.early.push(EarlyWrite { due, write });
            } else {
                commit.writes.push(write);
            }
        }
        commit.outbox.push(outbox);
    }
}

/// Whether a single row may be what a function failed on: it trapped or broke the
/// contract. One that refuses, or runs out of time or memory, would do so again.
fn is_of_a_row(error: &InvokeError) -> bool {
    matches!(
        error,
        InvokeError::Trapped { .. } | InvokeError::Output { .. }
    )
}
