//! The log of requests: what endpoints were asked, what was looked up and computed for it,
//! and what they answered, as rows of offline tables.
//!
//! Nobody waits for it: what is to be logged is queued, and written by whoever looks after
//! the queue. What the queue has no room for is dropped and counted. Shadow releases are
//! asked from the same queue, as all that comes of them is logged.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use futures::StreamExt as _;
use wafer_core::{DataType, Digest, Field, Timestamp, encode_row};
use wafer_store::{EventCommit, OutboxRow, for_work};

use crate::definition::{SYSTEM_COLUMNS, Subject, TableDef};
use crate::endpoints::{EndpointServing, Ready, WHOLE, point};
use crate::error::{Error, Result};
use crate::group_rows::timestamps;
use crate::infer::{Asked, Call, encoded};
use crate::platform::Platform;
use crate::recipe::Recipe;
use crate::run::blocking;

/// What may wait to be logged.
const ROOM: Size = Size {
    rows: 16_384,
    bytes: 64 << 20,
};
/// Rows that are written at once.
const TOGETHER: usize = 4_096;
/// Shadows that are asked at once.
const SHADOWS: usize = 16;
/// How often writing is tried, and the pause before the second time.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// Under which name of a source what is logged is committed; no source can have it.
const SOURCE: &str = "requests/log";

/// Columns that every log begins with.
const COLUMNS: [(&str, DataType, &str); 5] = [
    ("log_request", DataType::Utf8, "Name of the request."),
    ("log_row", DataType::Int64, "Row of the request, from 0."),
    ("log_release", DataType::Utf8, "Release that answered."),
    (
        "log_shadow",
        DataType::Boolean,
        "Whether it was asked as a shadow: nobody was told its answer.",
    ),
    (
        "log_error",
        DataType::Utf8,
        "Why there is no prediction, if there is none.",
    ),
];

/// The table that a release's answers are logged to: one for each endpoint and set of
/// columns, which are those of every log, inputs, features and outputs of the release, and
/// for each lookup the event time and identity of what was found.
#[derive(Debug)]
pub(crate) struct LogTable {
    definition: TableDef,
    inputs: usize,
    features: usize,
    outputs: usize,
    /// Inputs of the view that are join keys.
    keys: Vec<String>,
}

impl LogTable {
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when there are more columns than a table has, or
    /// a name is too long.
    pub(crate) fn new(endpoint: &str, recipe: &Recipe, outputs: &[Field]) -> Result<Self> {
        let view = &recipe.view;
        let mut columns = Columns::default();
        for (name, data_type, doc) in COLUMNS {
            columns.add("", name.to_owned(), data_type, doc);
        }
        let features = recipe.outputs();
        for (fields, prefix) in [
            (view.inputs.as_slice(), "input_"),
            (&features, "feature_"),
            (outputs, "output_"),
        ] {
            for field in fields {
                let (name, data_type) = (field.name.clone(), field.data_type.clone());
                columns.add(prefix, name, data_type, &field.doc);
            }
        }
        for lookup in &view.lookups {
            let time = format!("{}_event_timestamp", lookup.alias);
            let doc = "Event time of what was found.";
            columns.add("log_", time, DataType::Timestamp, doc);
            let identity = format!("{}_identity", lookup.alias);
            let doc = "Which row or events were read.";
            columns.add("log_", identity, DataType::Utf8, doc);
        }
        let columns = columns.0;
        TableDef::checked(&[], &columns).map_err(|error| {
            Error::invalid(format!(
                "what endpoint `{endpoint}` answers cannot be logged: {error}; log nothing with --log 0, or have \
                 the view take fewer features, under shorter names"
            ))
        })?;
        let is_key = |field: &&Field| view.lookups.iter().any(|l| l.keys.contains(&field.name));
        let keys = view.inputs.iter().filter(is_key);
        let json = serde_json::to_vec(&columns).expect("fields are plain data");
        Ok(Self {
            inputs: view.inputs.len(),
            features: features.len(),
            outputs: outputs.len(),
            keys: keys.map(|field| field.name.clone()).collect(),
            definition: TableDef {
                name: format!("{endpoint}_log_{}", &Digest::of(&json).hex()[..8]),
                entity: String::new(),
                keys: Vec::new(),
                subjects: subjects(recipe, &columns[COLUMNS.len()..]),
                columns,
                aggregates: Vec::new(),
            },
        })
    }

    /// The names of the view's inputs that are join keys.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// What it holds.
    pub(crate) fn definition(&self) -> &TableDef {
        &self.definition
    }

    /// The columns of the view's inputs.
    pub(crate) fn inputs(&self) -> &[Field] {
        &self.values()[..self.inputs]
    }

    /// The columns of the view's features.
    pub(crate) fn features(&self) -> &[Field] {
        &self.values()[self.inputs..][..self.features]
    }

    /// The columns of what the model answers.
    pub(crate) fn outputs(&self) -> &[Field] {
        &self.values()[self.inputs + self.features..][..self.outputs]
    }

    /// For each lookup the columns of the event time and of the identity.
    pub(crate) fn lookups(&self) -> &[Field] {
        &self.values()[self.inputs + self.features + self.outputs..]
    }

    fn values(&self) -> &[Field] {
        &self.definition.columns[COLUMNS.len()..]
    }

    /// The rows of an answer that are to be logged.
    fn rows(&self, answered: &Answered) -> Vec<OutboxRow> {
        let Answered { call, rows, .. } = answered;
        let columns = self.columns(answered);
        let logged = rows.iter().map(|place| {
            let mut values = Vec::new();
            encode_row(&columns, *place, &mut values);
            let number = answered.part[*place];
            OutboxRow {
                table: self.definition.name.clone(),
                event: call.now,
                available: call.now,
                created: call.now,
                event_id: format!("{}-{}-{number}", call.own_id, answered.release()),
                values: values.into(),
            }
        });
        logged.collect()
    }

    /// All columns of an answer, those of rows that are not to be logged included.
    fn columns(&self, answered: &Answered) -> Vec<ArrayRef> {
        let (asked, count) = (&answered.asked, answered.part.len());
        let error = |row: usize| {
            let found = asked
                .answer
                .errors
                .binary_search_by_key(&(row as u32), |(row, _)| *row);
            Some(asked.answer.errors[found.ok()?].1.as_str())
        };
        let numbers = answered.part.iter().map(|row| *row as i64);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![answered.call.id.as_str(); count])),
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(StringArray::from(vec![answered.release(); count])),
            Arc::new(BooleanArray::from(vec![answered.is_shadow; count])),
            Arc::new((0..count).map(error).collect::<StringArray>()),
        ];
        columns.extend(asked.inputs.iter().cloned());
        columns.extend(asked.vectors.columns().cloned());
        columns.extend(asked.answer.outputs.iter().cloned());
        for found in asked.vectors.found() {
            columns.push(timestamps_or_null(&found.event_times()));
            columns.push(Arc::new(StringArray::from_iter(found.identities())));
        }
        columns
    }
}

/// The entities that rows are about: what is deleted with them.
fn subjects(recipe: &Recipe, inputs: &[Field]) -> Vec<Subject> {
    let view = &recipe.view;
    let column_of = |input: &String| {
        let place = view.inputs.iter().position(|field| field.name == *input);
        inputs[place.expect("the view was resolved with its keys")]
            .name
            .clone()
    };
    let mut subjects: Vec<Subject> = Vec::new();
    for lookup in &view.lookups {
        let group = &recipe.groups[&lookup.group];
        let subject = Subject {
            entity: group.entity.clone(),
            keys: group.keys.clone(),
            columns: lookup.keys.iter().map(column_of).collect(),
        };
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    subjects
}

/// Whether a table is one that an endpoint logs to.
pub(crate) fn is_log_of(table: &TableDef, endpoint: &str) -> bool {
    let digest = table.name.strip_prefix(endpoint);
    let digest = digest.and_then(|rest| rest.strip_prefix("_log_"));
    table
        .columns
        .first()
        .is_some_and(|field| field.name == COLUMNS[0].0)
        && digest.is_some_and(|digest| digest.len() == 8 && !digest.contains('_'))
}

/// Columns, whose names are made different from one another and from those that every table
/// has.
#[derive(Default)]
struct Columns(Vec<Field>);

impl Columns {
    fn add(&mut self, prefix: &str, mut name: String, data_type: DataType, doc: &str) {
        let is_taken = |name: &str| {
            SYSTEM_COLUMNS.contains(&name) || self.0.iter().any(|field| field.name == name)
        };
        while is_taken(&name) {
            name.insert_str(0, prefix);
        }
        self.0.push(Field {
            doc: doc.to_owned(),
            ..Field::new(name, data_type, true)
        });
    }
}

fn timestamps_or_null(times: &[Option<Timestamp>]) -> ArrayRef {
    let known: Vec<Timestamp> = times.iter().map(|t| t.unwrap_or(Timestamp::MIN)).collect();
    crate::features::nulled(&timestamps(&known), &|row| times[row].is_none())
}

/// Some rows of a request, and what a release made of them.
pub(crate) struct Answered {
    pub(crate) ready: Arc<Ready>,
    pub(crate) call: Arc<Call>,
    pub(crate) is_shadow: bool,
    /// The rows of the request that the release was asked for.
    pub(crate) part: Vec<usize>,
    /// Places in `part` of those that are to be logged.
    pub(crate) rows: Vec<usize>,
    pub(crate) asked: Asked,
}

impl Answered {
    fn release(&self) -> &str {
        &self.ready.release.name
    }
}

/// A release that is still to be asked for some rows of a request.
pub(crate) struct Shadow {
    pub(crate) ready: Arc<Ready>,
    pub(crate) call: Arc<Call>,
    /// The rows of the request that it is asked for.
    pub(crate) rows: Vec<usize>,
}

enum Entry {
    Answered(Answered),
    Shadow(Shadow),
}

impl Entry {
    /// What it keeps in memory.
    fn size(&self) -> Size {
        match self {
            Self::Answered(answered) => Size {
                rows: answered.part.len(),
                bytes: answered.call.request.bytes() + answered.asked.bytes(),
            },
            Self::Shadow(shadow) => Size {
                rows: shadow.call.request.rows,
                bytes: shadow.call.request.bytes(),
            },
        }
    }

    fn ready(&self) -> &Ready {
        match self {
            Self::Answered(answered) => &answered.ready,
            Self::Shadow(shadow) => &shadow.ready,
        }
    }

    fn logged(&self) -> usize {
        match self {
            Self::Answered(answered) => answered.rows.len(),
            Self::Shadow(shadow) => shadow.rows.len(),
        }
    }
}

/// What waits to be logged.
#[derive(Default)]
pub(crate) struct RequestLog {
    queue: Mutex<Queue<Entry>>,
    /// Held by who writes.
    writing: tokio::sync::Mutex<()>,
    counts: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    rows: usize,
    /// About so many; what several entries share counts for each.
    bytes: usize,
}

impl Size {
    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Entries, each with what it keeps in memory.
struct Queue<T> {
    entries: VecDeque<(T, Size)>,
    size: Size,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: Size::default(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds an entry if there is room; one that is alone may be larger than the room. Gives
    /// it back if there is none.
    fn push(&mut self, entry: T, own: Size) -> Result<(), T> {
        let size = self.size.plus(own);
        if (size.rows > ROOM.rows || size.bytes > ROOM.bytes) && !self.entries.is_empty() {
            return Err(entry);
        }
        self.size = size;
        self.entries.push_back((entry, own));
        Ok(())
    }

    /// The next entries, oldest first, up to about so many rows.
    fn take(&mut self, limit: usize) -> Vec<T> {
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < limit
            && let Some((entry, own)) = self.entries.pop_front()
        {
            rows += own.rows;
            self.size.rows -= own.rows;
            self.size.bytes -= own.bytes;
            taken.push(entry);
        }
        taken
    }
}

impl std::fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLog").finish_non_exhaustive()
    }
}

impl RequestLog {
    pub(crate) fn answered(&self, answered: Answered) {
        self.push(Entry::Answered(answered));
    }

    pub(crate) fn shadow(&self, shadow: Shadow) {
        self.push(Entry::Shadow(shadow));
    }

    fn push(&self, entry: Entry) {
        let size = entry.size();
        let pushed = self.queue().push(entry, size);
        if let Err(entry) = pushed {
            self.count(&entry.ready().endpoint, "dropped", entry.logged());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, endpoint: &str, outcome: &'static str, rows: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((endpoint.to_owned(), outcome)).or_default() += rows as u64;
    }

    /// Its numbers, in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from(
            "# HELP wafer_log_rows_total Rows of requests that were to be logged, by endpoint and outcome: dropped for lack of room, failed when the store or a shadow did.\n\
             # TYPE wafer_log_rows_total counter\n",
        );
        for ((endpoint, outcome), rows) in counts.iter() {
            let _ = writeln!(
                text,
                "wafer_log_rows_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}} {rows}"
            );
        }
        text
    }
}

/// Rows that are to be logged, of those that a release was asked for, by their places. All
/// rows of one key are, or none, whichever release answers: by the field that the endpoint
/// routes by, else by the join keys that all its releases have, else by the request.
pub(crate) fn sampled(
    serving: &EndpointServing,
    ready: &Ready,
    call: &Call,
    inputs: &[ArrayRef],
) -> Vec<usize> {
    let rows = 0..inputs
        .first()
        .map_or(call.request.rows, |column| column.len());
    match serving.routing.log {
        0 => return Vec::new(),
        WHOLE => return rows.collect(),
        _ => {}
    }
    let view = ready.serving.view();
    let keys = serving.sampled_by().iter();
    let keys = keys.filter_map(|key| view.inputs.iter().position(|field| field.name == *key));
    let keys: Vec<ArrayRef> = keys.map(|place| Arc::clone(&inputs[place])).collect();
    let is_logged = |row: &usize| {
        let key = match keys.is_empty() {
            true => call.own_id.as_bytes().to_vec(),
            false => encoded(&keys, *row),
        };
        point("log", &serving.name, &key) < serving.routing.log
    };
    rows.filter(is_logged).collect()
}

impl Platform {
    /// Writes what waits now to be logged, after shadows were asked: to be called again and
    /// again by who answers requests, and before it ends. What cannot be written is
    /// counted, and the reason is in the program's own log.
    pub async fn write_log(&self) {
        let log = self.request_log();
        let _alone = log.writing.lock().await;
        // What comes in meanwhile is for the next time: else a few rows at a time would be
        // written, each time with a wait for the disk.
        let mut waiting = log.queue().entries.len();
        while waiting > 0 {
            let entries = log.queue().take(TOGETHER);
            waiting = waiting.saturating_sub(entries.len());
            let (mut answers, mut shadows) = (Vec::new(), Vec::new());
            for entry in entries {
                match entry {
                    Entry::Answered(answered) => answers.push(answered),
                    Entry::Shadow(shadow) => shadows.push(shadow),
                }
            }
            let asked = futures::stream::iter(shadows).map(|shadow| self.ask_shadow(shadow));
            let asked: Vec<Option<Answered>> = asked.buffer_unordered(SHADOWS).collect().await;
            answers.extend(asked.into_iter().flatten());
            self.write_answers(answers).await;
        }
    }

    async fn ask_shadow(&self, shadow: Shadow) -> Option<Answered> {
        let Shadow { ready, call, rows } = shadow;
        let endpoint = ready.endpoint.clone();
        match self.ask(&ready, &call, &rows).await {
            Ok(asked) => Some(Answered {
                rows: (0..rows.len()).collect(),
                part: rows,
                is_shadow: true,
                ready,
                call,
                asked,
            }),
            Err(error) => {
                let release = &ready.release.name;
                tracing::warn!("shadow `{release}` of `{endpoint}`: {}", error.chain());
                self.request_log().count(&endpoint, "failed", rows.len());
                None
            }
        }
    }

    async fn write_answers(&self, answers: Vec<Answered>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answered in &answers {
            *counts.entry(answered.ready.endpoint.clone()).or_default() += answered.rows.len();
        }
        let Some(id) = answers.first().map(|first| first.call.own_id.clone()) else {
            return;
        };
        let packed = blocking(move || {
            let rows = answers
                .iter()
                .map(|answered| answered.ready.log.rows(answered));
            rows.flatten().collect::<Vec<_>>()
        });
        let written = match packed.await {
            Ok(rows) => self.commit_log(id, rows).await,
            Err(error) => Err(error),
        };
        let outcome = match written {
            Ok(()) => "written",
            Err(error) => {
                tracing::error!("requests were not logged: {}", error.chain());
                "failed"
            }
        };
        for (endpoint, rows) in counts {
            self.request_log().count(&endpoint, outcome, rows);
        }
    }

    async fn commit_log(&self, id: String, rows: Vec<OutboxRow>) -> Result<()> {
        let now = self.now();
        let commit = EventCommit {
            source: SOURCE.to_owned(),
            id,
            // Only what is tried again below could come twice.
            remember_until: now.plus_micros(60_000_000),
            writes: Vec::new(),
            early: Vec::new(),
            outbox: rows,
        };
        let mut pause = PAUSE;
        for attempt in 1.. {
            let online = &self.components().online;
            let committed = online.commit_events(vec![commit.clone()], now);
            match for_work("log".to_owned(), committed).await {
                Ok(_) => break,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_has_room_for_so_many_rows() {
        let rows = |rows| Size { rows, bytes: 0 };
        let mut queue = Queue::default();
        let most = ROOM.rows;
        assert_eq!(queue.push("larger than the room", rows(most + 1)), Ok(()));
        assert_eq!(queue.push("too many", rows(1)), Err("too many"));
        assert_eq!(queue.take(TOGETHER), ["larger than the room"]);
        assert_eq!(queue.push("a", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("b", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("c", rows(1)), Err("c"));
        assert_eq!(queue.take(1), ["a"]);
        assert_eq!(queue.push("c", rows(1)), Ok(()));
        let large = Size {
            rows: 1,
            bytes: ROOM.bytes + 1,
        };
        assert_eq!(queue.push("d", large), Err("d"));
        assert_eq!(queue.take(most), ["b", "c"]);
        assert_eq!((queue.size, queue.take(1).len()), (Size::default(), 0));
        assert_eq!(queue.push("d", large), Ok(()));
        assert_eq!(queue.push("e", rows(1)), Err("e"));
    }

    #[test]
    fn names_of_columns_differ() {
        let mut columns = Columns::default();
        for (prefix, name) in [
            ("", "a"),
            ("feature_", "a"),
            ("output_", "a"),
            ("output_", "feature_a"),
            ("input_", "event_timestamp"),
        ] {
            columns.add(prefix, name.to_owned(), DataType::Int64, "");
        }
        let names: Vec<&str> = columns.0.iter().map(|field| field.name.as_str()).collect();
        let wanted = [
            "a",
            "feature_a",
            "output_a",
            "output_feature_a",
            "input_event_timestamp",
        ];
        assert_eq!(names, wanted);
    }
}
