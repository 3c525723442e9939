//! Ingests events: rows that are pushed to a stream source and are readable online as soon as
//! the push is answered.
//!
//! 1. Each event of a push becomes a draft with its identity: the value of its identity field,
//!    its CloudEvents source and id, or the digest of its content (`draft.rs`).
//! 2. The rows of the push get numbers in the order in which they come in (`arrivals.rs`), which
//!    decide between rows of one entity and event time.
//! 3. All events go through the pipelines of the source (`routes.rs`, `route.rs`), with one call
//!    per function. Pipelines that share a function share its call. An event that makes the
//!    function trap is found by halving the batch, and is rejected alone. If functions return so
//!    much for all events that memory is too small for it, the events are taken in one half after
//!    the other.
//! 4. Everything that one event writes is one commit, which is encoded only when it is its turn: an
//!    event is held in each state of each window that it belongs to, so that all commits of a push
//!    would be many times as large as the push. If the event's identity is new, the commit
//!    contains the rows that are due (the newest row of an entity wins), the rows that are not due
//!    yet, the identity, and the rows for the outbox. The latter include the raw event with the
//!    names of the tables that it was written to.
//! 5. The online store makes the commits durable, as many at a time as take some MiB, in the order
//!    of the events, and the push is answered event by event.
//!
//! Whatever is committed was made by definitions that were applied at most [`DEFINITIONS_AGE`] ago:
//! the pointer to them is looked at when a push comes in, and before each commit, if the last look
//! was longer ago. A push that took so long that others are applied by then is refused, and is
//! pushed again. New versions of groups rely on it (`staging.rs`).
//!
//! [`DEFINITIONS_AGE`]: wafer_catalog::DEFINITIONS_AGE
//!
//! An event that is older than the source's `lateness` is written to the late table instead of
//! the group. Events that the function or an expectation refuses go to the quarantine table. A
//! row whose entity was deleted after the row's event time is left out, and its raw event is not
//! archived. The outbox is appended to the offline tables later (`wafer_tables::Tables::flush`).

pub(crate) mod arrivals;
pub(crate) mod draft;
pub(crate) mod event;
pub(crate) mod route;
pub(crate) mod routes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wafer_catalog::{
    Context, FIVE_MINUTES, LatelyApplied, SEVEN_DAYS, SourceDef, SourceKind, TableDef, get,
};
use wafer_core::{DataType, Duration, Field, IncomingEvent, Schema, Timestamp};
use wafer_files::ReadColumn;
use wafer_store::{
    EarlyWrite, Error, EventCommit, EventOutcome, Kind, OutboxRow, Result, for_work,
};
use wafer_tables::Tables;

use crate::counters::Counters;
use crate::events::arrivals::Arrivals;
use crate::events::draft::{Draft, IngestTerms, OverSize, Pending, WhenApplied};
use crate::events::event::{Delivery, EventResult, IngestReport};
use crate::events::route::{Made, Push, PushError, Route};
use crate::events::routes::RouteCache;
use crate::group_rows::{Columns, GroupRows, Standing, Target};
use crate::transform::Transform;

/// The size of the encoded rows of commits, in bytes, from which on no further ones are encoded and
/// committed together with them. A store has little time for a commit (`commits_within`), also on a
/// slow line.
const COMMIT_BYTES: u64 = 4 << 20;

/// The number of online rows from which on no further events are committed together with theirs. No
/// store divides so few into several commits, of which the later ones would begin later.
const COMMIT_ROWS: usize = 4_000;

/// Takes in events of stream sources, and rows that are written to groups directly.
#[derive(Debug)]
pub struct Events {
    context: Arc<Context>,
    tables: Arc<Tables>,
    routes: RouteCache,
    /// The latest event time of each source among the events that this process ingested.
    watermarks: Mutex<HashMap<String, Timestamp>>,
    /// The numbers of the rows that this process takes in.
    arrivals: Arc<Arrivals>,
    /// The counts of ingested events that [`Events::metrics`] reports.
    counters: Counters,
}

impl Events {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>, arrivals: Arc<Arrivals>) -> Self {
        Self {
            routes: RouteCache::new(Arc::clone(&context), Arc::clone(&tables)),
            context,
            tables,
            watermarks: Mutex::default(),
            arrivals,
            counters: Counters::default(),
        }
    }

    /// Ingests events of a stream source: each event goes through every pipeline of the source, and
    /// everything that it writes is committed atomically. Waits until the accepted events are
    /// durable and readable.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown source, [`Kind::Invalid`] for a source that takes
    /// no events or that no pipeline reads, [`Kind::Unavailable`] when too many pushes are waiting
    /// or other definitions were applied meanwhile, [`Kind::Function`] when a function fails on the
    /// whole batch, and the errors of the stores. Some of the events may be durable then; those do
    /// not count twice when all are pushed again.
    pub async fn ingest(
        &self,
        source: &str,
        events: Vec<IncomingEvent>,
        delivery: Delivery,
    ) -> Result<IngestReport> {
        let mut lately = self.context.lately_applied().await?;
        let definition = get(&lately.applied.live.sources, source, "source")?;
        let SourceKind::Stream { id, remember, .. } = &definition.kind else {
            let message = format!(
                "source `{source}` takes no events; only a source with `type = \"stream\"` does"
            );
            return Err(Error::invalid(message));
        };
        let now = self.context.now();
        let lateness = (delivery == Delivery::Now)
            .then_some(definition.lateness)
            .flatten();
        let push = Arc::new(Intake {
            source: source.to_owned(),
            id_field: id.clone(),
            until: now.plus(*remember),
            now,
            delivery,
            skew: definition.skew,
            delay: definition.delay,
            lateness,
            arrivals: self.begin_arrivals(),
            over_size: OverSize::default(),
        });
        // The parts of the push that are not taken in yet, the first of them last.
        let mut parts = vec![events];
        let mut report = IngestReport::default();
        while let Some(part) = parts.pop() {
            let taken_in = self.ingest_part(&push, part, &mut lately).await;
            match taken_in.map_err(|error| after_accepted(error, &report))? {
                Part::TooMuch(mut events) => {
                    let second = events.split_off(events.len() / 2);
                    parts.extend([second, events]);
                }
                Part::TakenIn(of_part) => report.extend(of_part),
            }
        }
        Ok(report)
    }

    /// Ingests some events of a push, unless the functions return too much for all of them at once.
    async fn ingest_part(
        &self,
        push: &Arc<Intake>,
        events: Vec<IncomingEvent>,
        lately: &mut LatelyApplied,
    ) -> Result<Part> {
        let source = &push.source;
        let definition = get(&lately.applied.live.sources, source, "source")?;
        let routes = self.routes.of(source, &lately.applied).await?;
        if routes.is_empty() {
            let message =
                format!("no pipeline reads source `{source}`: its events would go nowhere");
            return Err(Error::invalid(message));
        }
        let archive = archive_tables(source, definition, &routes);
        let watermark = self.watermark(source);
        let guests = &self.context.components().event_guests;
        let intake = Arc::clone(push);
        let drafted = guests.run(move || intake.draft(events, routes, archive, watermark));
        match drafted.await?? {
            Drafted::TooMuch(events) => Ok(Part::TooMuch(events)),
            Drafted::Push {
                commits,
                first,
                watermark,
            } => {
                self.raise_watermark(source, watermark);
                let report = self.commit(*commits, first, lately).await?;
                Ok(Part::TakenIn(report))
            }
        }
    }

    /// Writes events to a group directly, without the group's pipeline. The fields of an event
    /// are the group's join keys, event time and columns.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown group, [`Kind::Invalid`] for a group with
    /// windows, whose features are computed from events, and the errors of the stores.
    pub async fn write_group(
        &self,
        group: &str,
        events: Vec<IncomingEvent>,
    ) -> Result<IngestReport> {
        let mut lately = self.context.lately_applied().await?;
        let definition = get(&lately.applied.live.groups, group, "feature group")?;
        if !definition.aggregates.is_empty() {
            let message = format!(
                "the features of group `{group}` are computed over windows of events; push the events to its source"
            );
            return Err(Error::invalid(message));
        }
        let now = self.context.now();
        let terms = IngestTerms {
            now,
            delivery: Delivery::Now,
            skew: FIVE_MINUTES,
            delay: Duration::ZERO,
            lateness: None,
            arrivals: &self.begin_arrivals(),
            over_size: &OverSize::default(),
        };
        let time = Field::new(&definition.event_time, DataType::Timestamp, false);
        let keys = definition.keys.iter().cloned();
        let columns = keys.chain([time]).chain(definition.columns.iter().cloned());
        let columns = Schema::new(columns.collect())
            .map_err(|e| Error::caused(Kind::Internal, format!("columns of `{group}`"), e))?;
        let deletions = self.tables.deletions().await?;
        let route = Route {
            columns: columns
                .fields()
                .iter()
                .cloned()
                .map(ReadColumn::from)
                .collect(),
            transform: Transform::Columns(columns),
            targets: vec![Target::of(&self.context, definition.clone(), &deletions)],
        };
        let routes = Arc::new(vec![route]);
        // A name of a source contains no `/`, so no source shares these identities.
        let name = format!("group/{group}");
        let until = now.plus(SEVEN_DAYS);
        let push = draft_events(&events, &name, None, until, &routes, terms);
        let push = push.map_err(|error| match error {
            PushError::Failed(error) => error,
            PushError::TooMuch => unreachable!("columns that pass through are no function's"),
        })?;
        let mut commits = Commits::new(name, push, routes, (now, until));
        let first = commits.next_slice();
        self.commit(commits, first, &mut lately).await
    }

    /// Begins a push, whose rows get numbers in the order in which they come in.
    fn begin_arrivals(&self) -> Arc<Arrivals> {
        self.arrivals.begin(self.context.machine_now());
        Arc::clone(&self.arrivals)
    }

    /// Commits what a push writes, of which the first part is encoded, and reports what became of
    /// each event. Further parts are encoded on the threads of functions, since there may be many.
    /// `lately` are the definitions that it was made by.
    async fn commit(
        &self,
        mut commits: Commits,
        first: Vec<EventCommit>,
        lately: &mut LatelyApplied,
    ) -> Result<IngestReport> {
        let due = self.context.due_until();
        let components = self.context.components();
        let (mut slice, mut outcomes) = (first, Vec::new());
        while !slice.is_empty() {
            *lately = self.context.still_applied(lately.clone()).await?;
            let work = format!("source/{}", commits.source);
            let committed = components.stores.online.commit_events(slice, due);
            outcomes.extend(for_work(work, committed).await?);
            if commits.is_done() {
                break;
            }
            let encoded = components.event_guests.run(move || {
                let slice = commits.next_slice();
                (commits, slice)
            });
            (commits, slice) = encoded.await?;
        }
        let report = report_of(commits.push.drafts, outcomes);
        self.counters.add(&commits.source, &report);
        Ok(report)
    }
}

/// By what the events of a push to a source are taken in.
struct Intake {
    source: String,
    /// The field that has the identity of an event.
    id_field: Option<String>,
    /// Until when the identities of the events are remembered.
    until: Timestamp,
    /// When the push came in.
    now: Timestamp,
    delivery: Delivery,
    skew: Duration,
    delay: Duration,
    lateness: Option<Duration>,
    arrivals: Arc<Arrivals>,
    over_size: OverSize,
}

/// What became of a part of a push.
enum Part {
    TakenIn(IngestReport),
    /// The functions return too much for all of these events at once. There are two or more.
    TooMuch(Vec<IncomingEvent>),
}

/// What became of events that were put through the functions of their source.
enum Drafted {
    Push {
        /// What they write.
        commits: Box<Commits>,
        /// The first part of it.
        first: Vec<EventCommit>,
        /// The latest event time of the source after them.
        watermark: Timestamp,
    },
    /// As in [`Part`].
    TooMuch(Vec<IncomingEvent>),
}

impl Intake {
    /// Puts events through the functions of routes. `archive` are the archive of the source and the
    /// names of the tables that its events are written to, and `watermark` is the latest event time
    /// of the source before them.
    fn draft(
        &self,
        events: Vec<IncomingEvent>,
        routes: Arc<Vec<Route>>,
        archive: Option<(String, String)>,
        mut watermark: Timestamp,
    ) -> Result<Drafted> {
        let terms = IngestTerms {
            now: self.now,
            delivery: self.delivery,
            skew: self.skew,
            delay: self.delay,
            lateness: self.lateness,
            arrivals: &self.arrivals,
            over_size: &self.over_size,
        };
        let (source, id_field) = (&self.source, self.id_field.as_deref());
        let mut push = match draft_events(&events, source, id_field, self.until, &routes, terms) {
            Ok(push) => push,
            Err(PushError::TooMuch) => return Ok(Drafted::TooMuch(events)),
            Err(PushError::Failed(error)) => return Err(error),
        };
        for (draft, event) in push.drafts.iter_mut().zip(&events) {
            draft.archive(event, archive.as_ref(), terms);
            watermark = draft.compare_with_watermark(watermark);
        }
        let mut commits = Commits::new(source.clone(), push, routes, (self.now, self.until));
        let first = commits.next_slice();
        Ok(Drafted::Push {
            commits: Box::new(commits),
            first,
            watermark,
        })
    }
}

/// What a push writes, encoded some at a time.
struct Commits {
    source: String,
    push: Push,
    routes: Arc<Vec<Route>>,
    /// When the push came in.
    now: Timestamp,
    /// Until when the identities of its events are remembered.
    until: Timestamp,
    /// The number of drafts of which all was encoded.
    encoded: usize,
}

impl Commits {
    fn new(
        source: String,
        push: Push,
        routes: Arc<Vec<Route>>,
        (now, until): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            source,
            push,
            routes,
            now,
            until,
            encoded: 0,
        }
    }

    /// Returns whether nothing is left to be encoded.
    fn is_done(&self) -> bool {
        self.encoded == self.push.drafts.len()
    }

    /// Encodes what the next events commit, as many as are committed together. Returns nothing if
    /// no event is left that commits something.
    fn next_slice(&mut self) -> Vec<EventCommit> {
        let encoder = Encoder::new(&self.push.made, &self.routes, self.now);
        let mut taken = 0;
        let drafts = self.push.drafts[self.encoded..].iter();
        let drafts = drafts.inspect(|_| taken += 1);
        let mut commits =
            drafts.filter_map(|draft| encoder.commit_of(draft, &self.source, self.until));
        let slice = next_slice(&mut commits);
        self.encoded += taken;
        slice
    }
}

/// Encodes the rows of a push.
struct Encoder<'a> {
    /// The rows that the push made, each with its group and with its columns, prepared.
    made: Vec<(&'a Target, &'a GroupRows, Columns<'a>)>,
    /// When the push came in.
    now: Timestamp,
}

impl<'a> Encoder<'a> {
    fn new(made: &'a [Made], routes: &'a [Route], now: Timestamp) -> Self {
        let prepared = |made: &'a Made| {
            let target = &routes[made.route].targets[made.target];
            (target, &made.rows, made.rows.prepared())
        };
        Self {
            made: made.iter().map(prepared).collect(),
            now,
        }
    }

    /// Returns what the draft of an event commits: its rows if it is accepted, or the rows that it
    /// leaves in quarantine tables. Returns `None` if it commits nothing.
    fn commit_of(&self, draft: &Draft, source: &str, until: Timestamp) -> Option<EventCommit> {
        match &draft.commit {
            Ok(commit) => {
                let mut commit = commit.clone();
                for pending in &draft.pending {
                    self.add(&mut commit, *pending);
                }
                Some(commit)
            }
            Err(_) if draft.quarantine.is_empty() => None,
            // The identity of this commit makes sure that an event that is pushed and refused
            // repeatedly is quarantined once.
            Err(_) => Some(EventCommit {
                source: format!("quarantine/{source}"),
                id: draft.id.clone(),
                remember_until: until,
                writes: Vec::new(),
                early: Vec::new(),
                outbox: draft.quarantine.clone(),
            }),
        }
    }

    /// Adds a row to the commit of its event, online and for the offline table.
    fn add(&self, commit: &mut EventCommit, pending: Pending) {
        let Pending {
            made,
            row,
            available,
            applied,
        } = pending;
        let (target, rows, columns) = &self.made[made];
        let event = rows.events[row];
        let order = target.stored_order(rows.order(row));
        let write = || {
            let standing = Standing::new(event, self.now, order, &commit.id);
            rows.online_write(target, columns, row, standing)
        };
        let mut table = &target.table.name;
        let late;
        match applied {
            WhenApplied::Now => {
                let write = write();
                commit.writes.push(write);
            }
            WhenApplied::Later(due) => {
                let write = write();
                commit.early.push(EarlyWrite { due, write });
            }
            WhenApplied::WhenHealed => {
                late = target.group.late_table().name;
                table = &late;
            }
        }
        commit.outbox.push(OutboxRow {
            table: table.clone(),
            event,
            available,
            created: self.now,
            event_id: commit.id.clone(),
            values: rows.packed_row(row),
            order,
        });
    }
}

/// Takes the next commits, as many as are committed together.
fn next_slice(commits: &mut impl Iterator<Item = EventCommit>) -> Vec<EventCommit> {
    let (mut slice, mut bytes, mut rows) = (Vec::new(), 0, 0);
    while bytes < COMMIT_BYTES
        && rows < COMMIT_ROWS
        && let Some(commit) = commits.next()
    {
        bytes += encoded_bytes(&commit);
        rows += commit.writes.len() + commit.early.len();
        slice.push(commit);
    }
    slice
}

/// Returns the bytes of the encoded rows of a commit.
fn encoded_bytes(commit: &EventCommit) -> u64 {
    let writes = commit.writes.iter();
    let writes = writes.chain(commit.early.iter().map(|early| &early.write));
    let online: usize = writes.map(|write| write.row.values.len()).sum();
    let outbox: usize = commit.outbox.iter().map(|row| row.values.len()).sum();
    (online + outbox) as u64
}

/// Builds the report of a push. `outcomes` are those of what [`Encoder::commit_of`] returned for
/// the drafts, in the same order.
fn report_of(drafts: Vec<Draft>, outcomes: Vec<EventOutcome>) -> IngestReport {
    let mut outcomes = outcomes.into_iter();
    let mut report = IngestReport::default();
    for draft in drafts {
        let is_early = draft.is_early();
        let result = match draft.commit {
            Err(error) => {
                if !draft.quarantine.is_empty() {
                    let _ = outcomes.next();
                }
                EventResult::Rejected { error }
            }
            Ok(_) => match outcomes.next().expect("one outcome for each commit") {
                EventOutcome::Committed { older } => {
                    report.accepted += 1;
                    report.older += usize::from(older > 0);
                    report.early += usize::from(is_early);
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
    report
}

/// Makes a draft of each event, puts the events through all routes, and forgets what is about
/// deleted entities.
fn draft_events(
    events: &[IncomingEvent],
    source: &str,
    id_field: Option<&str>,
    until: Timestamp,
    routes: &[Route],
    terms: IngestTerms<'_>,
) -> Result<Push, PushError> {
    let drafts = events.iter();
    let drafts = drafts.map(|event| Draft::new(event, source, id_field, until));
    let mut push = Push::new(drafts.collect());
    for (number, route) in routes.iter().enumerate() {
        route.apply(number, events, &mut push, terms)?;
    }
    for draft in &mut push.drafts {
        draft.forget_deleted();
    }
    Ok(push)
}

/// Says in an error of a push how many of its events are durable, if some are.
fn after_accepted(error: Error, report: &IngestReport) -> Error {
    match report.accepted + report.duplicate {
        0 => error,
        count => {
            let message = format!("{count} of the events were accepted before: {error}");
            Error::caused(error.kind(), message, error)
        }
    }
}

/// Returns the archive table of a source, and the names of the tables that its events are
/// written to, separated by commas. Returns `None` if the source does not keep its raw events.
fn archive_tables(
    source: &str,
    definition: &SourceDef,
    routes: &[Route],
) -> Option<(String, String)> {
    if !definition.keeps_events() {
        return None;
    }
    let targets = routes.iter().flat_map(|route| &route.targets);
    let tables: Vec<&str> = targets.map(|target| target.table.name.as_str()).collect();
    Some((TableDef::archive(source).name, tables.join(",")))
}

impl Events {
    /// Returns the counts of the events that this process ingested, in the text format of
    /// Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub fn metrics(&self) -> String {
        self.counters.text()
    }

    /// Returns the latest event time of a source among the events that this process ingested.
    fn watermark(&self, source: &str) -> Timestamp {
        let watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watermarks.get(source).copied().unwrap_or(Timestamp::MIN)
    }

    /// Raises the latest event time of a source to `time`, if that is later.
    fn raise_watermark(&self, source: &str, time: Timestamp) {
        let mut watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stored = watermarks.entry(source.to_owned()).or_insert(time);
        *stored = time.max(*stored);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(100);

    /// Returns a draft that is accepted.
    fn accepted(id: &str) -> Draft {
        let event = IncomingEvent {
            id: Some(id.to_owned()),
            ..IncomingEvent::from_json(b"{}")
        };
        Draft::new(&event, "s", None, NOW)
    }

    /// Returns a draft that is refused, with or without a row in the quarantine table.
    fn refused(id: &str, is_quarantined: bool) -> Draft {
        let row = OutboxRow {
            table: "g_v1_quarantine".to_owned(),
            event: NOW,
            available: NOW,
            created: NOW,
            event_id: id.to_owned(),
            values: Bytes::new(),
            order: None,
        };
        Draft {
            commit: Err(format!("{id} is wrong")),
            quarantine: is_quarantined.then_some(row).into_iter().collect(),
            ..accepted(id)
        }
    }

    /// Returns a draft with a row that is not due yet.
    fn early(id: &str) -> Draft {
        Draft {
            pending: vec![Pending {
                made: 0,
                row: 0,
                available: NOW,
                applied: WhenApplied::Later(NOW),
            }],
            ..accepted(id)
        }
    }

    #[test]
    fn refused_events_commit_nothing_but_their_quarantined_rows() {
        let drafts = [
            accepted("a"),
            refused("b", false),
            refused("c", true),
            accepted("d"),
        ];
        let encoder = Encoder::new(&[], &[], NOW);
        let commits = drafts.iter();
        let commits = commits.filter_map(|draft| encoder.commit_of(draft, "s", NOW));
        let commits: Vec<EventCommit> = commits.collect();
        let found: Vec<(&str, &str, usize)> = commits
            .iter()
            .map(|commit| (&*commit.source, &*commit.id, commit.outbox.len()))
            .collect();
        let wanted = [("s", "a", 0), ("quarantine/s", "c", 1), ("s", "d", 0)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn commits_are_encoded_some_at_a_time_and_in_order() {
        let values = Bytes::from(vec![0; COMMIT_BYTES as usize / 2]);
        let commit = |(number, is_large): (usize, bool)| {
            let draft = match is_large {
                true => refused(&number.to_string(), true),
                false => accepted(&number.to_string()),
            };
            let mut commit = Encoder::new(&[], &[], NOW).commit_of(&draft, "s", NOW)?;
            for row in &mut commit.outbox {
                row.values = values.clone();
            }
            Some(commit)
        };
        for (large, wanted) in [
            (vec![], vec![]),
            (vec![false; 3], vec![3]),
            (vec![true; 5], vec![2, 2, 1]),
            (vec![true, false, true, false, true], vec![3, 2]),
        ] {
            let count = large.len();
            let mut commits = large.into_iter().enumerate().filter_map(commit);
            let mut slices = Vec::new();
            let mut ids = Vec::new();
            loop {
                let slice = next_slice(&mut commits);
                if slice.is_empty() {
                    break;
                }
                slices.push(slice.len());
                ids.extend(slice.into_iter().map(|commit| commit.id));
            }
            assert_eq!(slices, wanted);
            let in_order: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            assert_eq!(ids, in_order);
        }
    }

    #[test]
    fn report_counts_each_event_by_its_own_outcome() {
        let committed = |older| EventOutcome::Committed { older };
        let late = || Draft {
            late: true,
            ..accepted("a")
        };
        let too_late = || Draft {
            too_late: true,
            ..late()
        };
        let report = |events: Vec<EventResult>| IngestReport {
            events,
            ..IngestReport::default()
        };
        let rejected = |id: &str| EventResult::Rejected {
            error: format!("{id} is wrong"),
        };
        for (drafts, outcomes, wanted) in [
            (
                vec![accepted("a"), early("b"), late(), too_late()],
                vec![committed(0), committed(2), committed(0), committed(0)],
                IngestReport {
                    accepted: 4,
                    older: 1,
                    early: 1,
                    late: 2,
                    too_late: 1,
                    ..report(vec![
                        EventResult::Accepted,
                        EventResult::Accepted,
                        EventResult::Accepted,
                        EventResult::TooLate,
                    ])
                },
            ),
            // A duplicate counts as nothing else.
            (
                vec![too_late(), early("b")],
                vec![EventOutcome::Duplicate, EventOutcome::Duplicate],
                IngestReport {
                    duplicate: 2,
                    ..report(vec![EventResult::Duplicate, EventResult::Duplicate])
                },
            ),
            // The quarantined row has an outcome, and the event without such a row has none.
            (
                vec![refused("a", true), refused("b", false), accepted("c")],
                vec![EventOutcome::Duplicate, committed(0)],
                IngestReport {
                    accepted: 1,
                    rejected: 2,
                    ..report(vec![rejected("a"), rejected("b"), EventResult::Accepted])
                },
            ),
        ] {
            assert_eq!(report_of(drafts, outcomes), wanted);
        }
    }
}
