//! The wire format of Feast's feature server, as the remote online store of Feast 0.67 speaks it:
//! <https://docs.feast.dev/reference/online-stores/remote>. A client of Feast uses this server when
//! its configuration has `online_store: {type: remote, path: URL}`.
//!
//! Feast's terms map to Wafer's as follows. A feature view of Feast is a feature group, or a
//! feature view with its request fields and functions. A feature service is a feature view; its
//! lookups take the place of the feature views of a service. A push source is a stream source.
//! Among values, times are whole seconds since 1970; event timestamps are written as in RFC 3339.
//! Times that come in are in UTC unless they name a zone, except in columns of which a source
//! declares something else.
//!
//! Rows of a group have their event times as `event_timestamp` or in the column that the group has
//! them in, and rows of a source in the source's own column. If a data frame has both columns and
//! they differ in a row, the request is refused.
//!
//! Rows that are written to a group bypass its pipeline: they are stored in the same way as events,
//! but no function is called.
//!
//! A row whose content was sent before is a duplicate and changes nothing, so that a request may be
//! repeated. The answer to a write is `null`, or `{"duplicate": 2}` if rows of it were duplicates:
//! a client that meant to correct a row back to an earlier value learns of it. Feast's clients look
//! at the status alone.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::iter::{from_fn, once};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef};
use axum::Json as Body;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures::stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use wafer_core::{
    ColumnBuilder, DataType, Digest, Field, JsonCell, Reading, Timestamp, cell_to_json, cut_to,
    value_bytes,
};
use wafer_platform::{
    Definitions, Delivery, EventResult, FoundMemory, GroupDef, IncomingEvent, IngestReport, MadeBy,
    Platform, Status, Vectors,
};

use crate::MAX_ROWS;
use crate::error::Failure;
use crate::events::{check_count, ingest_slices};
use crate::features::ENCODED_BYTES;
use crate::intake::{Payload, charged};
use crate::json_size::parsed_size;
use crate::limits::FoundCharge;
use crate::media_type::check_json;
use crate::whole::{Length, WholeAnswer};

/// The event timestamp of a value that has none, such as a join key.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// The number of values up to which an answer is encoded as a whole.
const WHOLE_CELLS: usize = 4_096;
/// The size of the vectors, in bytes, up to which an answer is encoded as a whole.
const WHOLE_BYTES: u64 = 1 << 20;
/// The size in bytes from which on no further values are encoded together with others.
const PIECE_BYTES: usize = 1 << 20;
/// Room for the characters that follow the last value of a piece.
const AFTER_A_VALUE: usize = 16;

/// Columns that a data frame of Feast may have beside those of the group.
const EVENT_TIME: &str = "event_timestamp";
const CREATED_TIME: &str = "created";
/// The greatest size of a value in an error, in bytes.
const SHOWN: usize = 60;

/// Returns the routes of Feast's feature server that write.
pub(crate) fn router() -> Router<Arc<Platform>> {
    Router::new()
        .route("/write-to-online-store", post(write))
        .route("/push", post(push))
}

/// Answers `GET /health`.
pub(crate) async fn health() -> StatusCode {
    StatusCode::OK
}

/// The body of a request for features.
#[derive(Deserialize)]
struct OnlineFeaturesRequest {
    entities: Map<String, Json>,
    #[serde(default)]
    features: Vec<String>,
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

#[derive(Serialize)]
struct Metadata {
    feature_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    feature_view_metadata: Vec<Json>,
}

/// The values of one feature or join key, for all entities of the request.
enum Column<'a> {
    /// A join key or request field of the request.
    Entity(&'a [Json]),
    /// A feature of a group or view.
    Feature {
        vectors: &'a Vectors,
        /// Name of the feature in the vectors.
        name: String,
        values: &'a ArrayRef,
        statuses: &'a [Status],
    },
}

/// A list of a column. In the answer, a column is an object of its lists, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    Values,
    Statuses,
    EventTimestamps,
}

/// The place in an answer up to which it is encoded.
#[derive(Debug, Default)]
struct Place {
    column: usize,
    list: List,
    row: usize,
}

/// A feature that the request names.
struct Wanted {
    /// The group or view that the feature is taken from.
    set: SetName,
    /// Name of the feature in its group or view.
    feature: String,
    /// Name of the feature in the answer.
    answered: String,
}

/// The name of a group or view that features are taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SetName {
    /// The name of a group, or of a view if no group has the name.
    Any(String),
    /// The name of a view.
    View(String),
}

impl SetName {
    fn as_str(&self) -> &str {
        match self {
            Self::Any(name) | Self::View(name) => name,
        }
    }
}

/// The vectors of a group or view for all entities of the request.
struct Set {
    vectors: Vectors,
    /// The prefix of the features' names in the vectors.
    prefix: String,
    /// Names of the join keys and request fields that were read.
    inputs: Vec<String>,
    /// Version of the group; 0 for a view.
    version: u32,
}

/// The answer to a request for features: a column for each name in the metadata. Their values are
/// encoded piece by piece as the answer is sent, because together they can be much larger than what
/// was looked up.
struct FeastVectors {
    metadata: Metadata,
    /// What each column is made of, in the order of the names in the metadata.
    columns: Vec<Origin>,
    /// The join keys and request fields that were read.
    entities: Map<String, Json>,
    sets: BTreeMap<SetName, Set>,
}

/// What a column of an answer is made of.
enum Origin {
    /// A join key or request field of the request.
    Entity(String),
    /// A feature of a group or view.
    Feature(SetName, String),
}

/// Answers `POST /get-online-features`.
pub(crate) async fn online_features(
    State(platform): State<Arc<Platform>>,
    payload: Payload,
) -> Result<Response, Failure> {
    payload.check_json()?;
    let mut request: OnlineFeaturesRequest = read(&payload.bytes)?;
    let count = count_rows(&request.entities, "entities")?;
    if count > MAX_ROWS {
        let message = format!("{count} rows are too many: a request has at most {MAX_ROWS}");
        return Err(Failure::invalid(message));
    }
    let wanted = wanted(&platform, &request)?;
    check_names(&wanted, request.full_feature_names)?;
    let mut sets: BTreeMap<SetName, Set> = BTreeMap::new();
    let (charge, mut memory) = payload.found();
    for Wanted { set, .. } in &wanted {
        if !sets.contains_key(set) {
            let entities = &request.entities;
            let held = memory.clone();
            let looked_up = Set::look_up(&platform, set, entities, (count, held)).await?;
            let vectors = &looked_up.vectors;
            memory = memory.after(vectors.found_bytes(), vectors.made_bytes());
            sets.insert(set.clone(), looked_up);
        }
    }
    let read: BTreeSet<&String> = sets.values().flat_map(|set| &set.inputs).collect();
    request.entities.retain(|name, _| read.contains(name));
    let mut answer = FeastVectors {
        metadata: Metadata {
            feature_names: Vec::new(),
            feature_view_metadata: Vec::new(),
        },
        columns: Vec::new(),
        entities: request.entities,
        sets,
    };
    for name in answer.entities.keys().cloned().collect::<Vec<_>>() {
        answer.add(name.clone(), Origin::Entity(name));
    }
    for Wanted {
        set,
        feature,
        answered,
    } in wanted
    {
        if !answer.sets[&set].has(&feature) {
            let message = format!("`{}` has no feature `{feature}`", set.as_str());
            return Err(Failure::new(StatusCode::NOT_FOUND, "not_found", message));
        }
        if answer.entities.contains_key(&answered) {
            let message = format!(
                "feature `{}:{feature}` has the name of a join key or request field of the request; \
                 set full_feature_names",
                set.as_str()
            );
            return Err(Failure::invalid(message));
        }
        answer.add(answered, Origin::Feature(set, feature));
    }
    if request.include_feature_view_version_metadata {
        let versions = answer.sets.iter();
        answer.metadata.feature_view_metadata = versions
            .map(|(name, set)| json!({ "name": name.as_str(), "version": set.version }))
            .collect();
    }
    answer.into_response(count, charge, &payload)
}

/// Returns the features that the request names, by themselves or by a feature service.
fn wanted(platform: &Platform, request: &OnlineFeaturesRequest) -> Result<Vec<Wanted>, Failure> {
    let answered = |set: &str, feature: &str| match request.full_feature_names {
        true => format!("{set}__{feature}"),
        false => feature.to_owned(),
    };
    match (&request.feature_service, request.features.as_slice()) {
        (Some(view), []) => {
            let recipe = platform.context().view(view)?;
            let features = recipe.outputs().into_iter().zip(recipe.aliases());
            let features = features.map(|(field, alias)| {
                let set = alias.unwrap_or(view);
                let own = alias.and_then(|alias| field.name.strip_prefix(alias)?.strip_prefix('_'));
                Wanted {
                    answered: answered(set, own.unwrap_or(&field.name)),
                    set: SetName::View(view.clone()),
                    feature: field.name,
                }
            });
            Ok(features.collect())
        }
        (None, []) => Err(Failure::invalid(
            "the request names neither `features` nor a `feature_service`",
        )),
        (None, features) => features
            .iter()
            .map(|feature| match feature.split_once(':') {
                Some((set, feature)) => Ok(Wanted {
                    set: SetName::Any(set.to_owned()),
                    feature: feature.to_owned(),
                    answered: answered(set, feature),
                }),
                None => {
                    let message = format!("feature `{feature}` is not GROUP:FEATURE");
                    Err(Failure::invalid(message))
                }
            })
            .collect(),
        (Some(_), _) => Err(Failure::invalid(
            "the request names both `features` and a `feature_service`",
        )),
    }
}

/// Checks that each feature has a name of its own in the answer, before any of them is looked up.
/// Feast refuses such a request as well, with its `FeatureNameCollisionError`: its clients know the
/// columns of an answer by their names.
fn check_names(wanted: &[Wanted], are_full: bool) -> Result<(), Failure> {
    let mut names: BTreeMap<&str, &Wanted> = BTreeMap::new();
    for feature in wanted {
        let Some(other) = names.insert(&feature.answered, feature) else {
            continue;
        };
        let is_same = other.set == feature.set && other.feature == feature.feature;
        let (set, name) = (feature.set.as_str(), &feature.feature);
        let called = &feature.answered;
        return Err(Failure::invalid(match (is_same, are_full) {
            (true, _) => format!("feature `{set}:{name}` is named twice; name it once"),
            (false, false) => {
                format!("two features are called `{called}`; set full_feature_names")
            }
            (false, true) => format!(
                "two features are called `{called}` by their full names; ask for them one by one"
            ),
        }));
    }
    Ok(())
}

impl Set {
    /// Looks up the features of all entities of a request in a group or view, with what the
    /// looked-up values may take.
    async fn look_up(
        platform: &Platform,
        set: &SetName,
        entities: &Map<String, Json>,
        (count, memory): (usize, FoundMemory),
    ) -> Result<Self, Failure> {
        let definitions = platform.context().definitions();
        let names = |fields: &[Field]| fields.iter().map(|f| f.name.clone()).collect();
        let name = set.as_str();
        let group = definitions.groups.get(name);
        if let (SetName::Any(_), Some(group)) = (set, group) {
            let rows = rows_of(entities, &group.keys, count);
            let serving = platform.serving();
            return Ok(Self {
                vectors: serving.group_features(name, &rows, memory).await?,
                prefix: format!("{name}_"),
                inputs: names(&group.keys),
                version: group.version,
            });
        }
        if matches!(set, SetName::Any(_)) && !definitions.views.contains_key(name) {
            // There is neither a group nor a view. This fails with a list of the groups.
            let memory = memory.clone();
            platform.serving().group_features(name, &[], memory).await?;
        }
        let recipe = platform.context().view(name)?;
        let rows = rows_of(entities, &recipe.view.inputs, count);
        let serving = platform.serving();
        Ok(Self {
            vectors: serving.features_within(name, &rows, memory).await?,
            prefix: String::new(),
            inputs: names(&recipe.view.inputs),
            version: 0,
        })
    }

    /// Returns whether there is a feature of this name.
    fn has(&self, feature: &str) -> bool {
        let name = format!("{}{feature}", self.prefix);
        self.vectors.column(&name).is_some()
    }

    /// Returns a feature as a column of the answer, or `None` if there is no such feature.
    fn column(&self, feature: &str) -> Option<Column<'_>> {
        let name = format!("{}{feature}", self.prefix);
        let values = self.vectors.column(&name)?;
        let statuses = self.vectors.status(&name)?;
        Some(Column::Feature {
            vectors: &self.vectors,
            name,
            values,
            statuses,
        })
    }
}

impl FeastVectors {
    /// Adds a column, whose name no other one has.
    fn add(&mut self, name: String, origin: Origin) {
        self.metadata.feature_names.push(name);
        self.columns.push(origin);
    }

    /// Returns the response: `{"metadata":{…},"results":[{…}],"status":true}`. If it is not short,
    /// it is encoded as it is sent, and what it is made of is charged until then.
    fn into_response(
        self,
        rows: usize,
        charge: FoundCharge,
        payload: &Payload,
    ) -> Result<Response, Failure> {
        let metadata = serde_json::to_string(&self.metadata).expect("names always serialise");
        let start = Bytes::from(format!("{{\"metadata\":{metadata},\"results\":["));
        let end = Bytes::from_static(b"],\"status\":true}");
        let media_type = [(CONTENT_TYPE, "application/json")];
        let count = self.columns.len();
        let vectors = self.sets.values().map(|set| set.vectors.bytes() as u64);
        let vectors: u64 = vectors.sum();
        let longest = (0..count).map(|index| self.column(index).longest());
        let longest = longest.max().unwrap_or(0);
        let mut place = Place::default();
        let columns = from_fn(move || self.piece(&mut place, rows));
        let pieces = once(start).chain(columns).chain(once(end));
        if count * rows <= WHOLE_CELLS && vectors <= WHOLE_BYTES {
            let mut whole = WholeAnswer::new(payload.charge(0)?);
            for piece in pieces {
                whole.append(&piece)?;
            }
            return Ok((media_type, whole.into_response()).into_response());
        }
        // Join keys and request fields are kept as well.
        let kept = vectors + parsed_size(&payload.bytes, 0);
        let piece = 2 * PIECE_BYTES as u64 + ENCODED_BYTES * longest;
        charge.raise(kept + piece)?;
        let pieces = stream::iter(pieces.map(Ok::<Bytes, Infallible>));
        let body = axum::body::Body::from_stream(pieces);
        Ok(charged((media_type, body).into_response(), charge))
    }

    /// Encodes what follows a place, up to about [`PIECE_BYTES`], and moves the place on. Returns
    /// `None` if all columns are encoded.
    fn piece(&self, place: &mut Place, rows: usize) -> Option<Bytes> {
        if place.column == self.columns.len() {
            return None;
        }
        let mut text = Vec::new();
        while place.column < self.columns.len() && text.len() < PIECE_BYTES {
            self.encode_list(place, rows, &mut text);
        }
        Some(text.into())
    }

    /// Encodes the list at a place, or as much of it as a piece has room for, and moves the place
    /// on.
    fn encode_list(&self, place: &mut Place, rows: usize, text: &mut Vec<u8>) {
        let column = self.column(place.column);
        if place.row == 0 {
            let start: &[u8] = match place.list {
                List::Values if place.column == 0 => b"{\"values\":[",
                List::Values => b",{\"values\":[",
                List::Statuses => b",\"statuses\":[",
                List::EventTimestamps => b",\"event_timestamps\":[",
            };
            text.extend_from_slice(start);
        }
        while place.row < rows {
            if place.row > 0 {
                text.push(b',');
            }
            column.encode(place.list, place.row, text);
            place.row += 1;
            if place.row < rows && text.len() >= PIECE_BYTES {
                return;
            }
        }
        text.push(b']');
        place.row = 0;
        place.list = match place.list {
            List::Values => List::Statuses,
            List::Statuses => List::EventTimestamps,
            List::EventTimestamps => {
                text.push(b'}');
                place.column += 1;
                List::Values
            }
        };
    }

    /// Returns a column.
    fn column(&self, index: usize) -> Column<'_> {
        let column = match &self.columns[index] {
            Origin::Entity(name) => {
                let values = self.entities.get(name).and_then(Json::as_array);
                values.map(|values| Column::Entity(values))
            }
            Origin::Feature(set, feature) => self.sets[set].column(feature),
        };
        column.expect("it was found before the answer began")
    }
}

impl Column<'_> {
    /// Encodes a row of one of the lists.
    fn encode(&self, list: List, row: usize, text: &mut Vec<u8>) {
        let encoded = match list {
            List::Values => self.encode_value(row, text),
            List::Statuses => serde_json::to_writer(text, self.status(row)),
            List::EventTimestamps => serde_json::to_writer(text, &self.event_time(row)),
        };
        encoded.expect("values always serialise");
    }

    /// Encodes a value. A large one is measured first, so that its text does not take its memory
    /// twice while it grows.
    fn encode_value(&self, row: usize, text: &mut Vec<u8>) -> serde_json::Result<()> {
        if self.size(row) > PIECE_BYTES as u64 {
            let mut length = Length::default();
            self.write_value(row, &mut length)?;
            text.reserve(length.0 + AFTER_A_VALUE);
        }
        self.write_value(row, text)
    }

    fn write_value(&self, row: usize, out: impl io::Write) -> serde_json::Result<()> {
        match self {
            Self::Entity(values) => serde_json::to_writer(out, &values[row]),
            Self::Feature { values, .. } => {
                let is_time = DataType::Timestamp.to_arrow() == *values.data_type();
                match is_time.then(|| cell_to_json(values, row)) {
                    Some(Json::String(time)) => serde_json::to_writer(out, &seconds(&time)),
                    _ => serde_json::to_writer(out, &JsonCell::new(values, row)),
                }
            }
        }
    }

    fn status(&self, row: usize) -> &'static str {
        match self {
            Self::Entity(_) => "PRESENT",
            Self::Feature { statuses, .. } => status_text(statuses[row]),
        }
    }

    fn event_time(&self, row: usize) -> String {
        let time = match self {
            Self::Entity(_) => None,
            Self::Feature { vectors, name, .. } => vectors.event_time(name, row),
        };
        time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
    }

    /// Returns the size of the longest value that was looked up, in bytes. The values of a request
    /// are no longer than its body.
    fn longest(&self) -> u64 {
        let rows = match self {
            Self::Entity(_) => 0,
            Self::Feature { values, .. } => values.len(),
        };
        (0..rows).map(|row| self.size(row)).max().unwrap_or(0)
    }

    /// Returns the size of a value that was looked up, in bytes, and 0 of one of the request.
    fn size(&self, row: usize) -> u64 {
        match self {
            Self::Entity(_) => 0,
            Self::Feature { values, .. } => value_bytes(values, row),
        }
    }
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::Present => "PRESENT",
        Status::Null => "NULL_VALUE",
        Status::NotFound => "NOT_FOUND",
        Status::Expired => "OUTSIDE_MAX_AGE",
        Status::Error => "INVALID",
    }
}

/// Converts a time to the form that Feast uses for values: whole seconds since 1970.
fn seconds(time: &str) -> Json {
    let time: Result<Timestamp, _> = time.parse();
    time.map_or(Json::Null, |time| {
        time.as_micros().div_euclid(1_000_000).into()
    })
}

/// The body of a request that writes rows.
#[derive(Deserialize)]
struct Write {
    feature_view_name: String,
    df: Map<String, Json>,
}

/// Answers `POST /write-to-online-store`: writes rows of a group, given as columns with its join
/// keys, its features and `event_timestamp`.
async fn write(
    State(platform): State<Arc<Platform>>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Body<Json>, Failure> {
    check_json(&headers)?;
    payload.check_json()?;
    let Write {
        feature_view_name: group,
        df,
    } = read(&payload.bytes)?;
    let count = count_rows(&df, "df")?;
    check_count(count)?;
    let mut times = BTreeSet::new();
    let mut event_time = None;
    if let Some(definition) = platform.context().definitions().groups.get(&group) {
        check_columns(definition, &df)?;
        let own = OwnTime {
            name: definition.event_time.clone(),
            declared: None,
        };
        own.check(&df)?;
        times = timestamps(definition.columns.iter().chain(&definition.keys));
        times.insert(definition.event_time.clone());
        event_time = Some(definition.event_time.clone());
    }
    let events = (0..count).map(|index| {
        let mut row = row(&df, index);
        if let Some(event_time) = &event_time
            && let Some(time) = row.remove(EVENT_TIME)
        {
            row.insert(event_time.clone(), time);
        }
        event(row, &times)
    });
    let pipelines = platform.pipelines();
    let write = |events| pipelines.write_group(&group, events);
    written(&ingest_slices(events, write).await?)
}

/// Checks that the group has all columns of a data frame. Values of other columns would be lost
/// without notice.
fn check_columns(group: &GroupDef, df: &Map<String, Json>) -> Result<(), Failure> {
    let fields = group.keys.iter().chain(&group.columns);
    let mut known: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
    known.extend([group.event_time.as_str(), EVENT_TIME, CREATED_TIME]);
    let Some(column) = df.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let message = format!(
        "group `{}` has no column `{column}`; it has {}",
        group.name,
        known.join(", ")
    );
    Err(Failure::invalid(message))
}

/// The body of a request that pushes events.
#[derive(Deserialize)]
struct Push {
    push_source_name: String,
    df: Map<String, Json>,
    to: Option<String>,
}

/// Answers `POST /push`: accepts events of a stream source.
async fn push(
    State(platform): State<Arc<Platform>>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Body<Json>, Failure> {
    check_json(&headers)?;
    payload.check_json()?;
    let Push {
        push_source_name: source,
        df,
        to,
    } = read(&payload.bytes)?;
    // Events are always written to both stores, so all values of `to` have the same effect. Only
    // unknown ones are refused.
    let known = ["online", "offline", "online_and_offline"];
    if let Some(to) = to.filter(|to| !known.contains(&to.as_str())) {
        let message = format!("`to` is `{to}`; it is one of {}", known.join(", "));
        return Err(Failure::invalid(message));
    }
    let count = count_rows(&df, "df")?;
    check_count(count)?;
    let definitions = platform.context().definitions();
    let read = fields_of(&definitions, &source);
    for own in own_times(&definitions, &source, &read) {
        own.check(&df)?;
    }
    let is_declared = |field: &Field| declared(&definitions, &source, &field.name).is_some();
    let times = timestamps(read.iter().filter(|field| !is_declared(field)));
    let events = (0..count).map(|index| event(row(&df, index), &times));
    let pipelines = platform.pipelines();
    let ingest = |events| pipelines.ingest(&source, events, Delivery::Now);
    written(&ingest_slices(events, ingest).await?)
}

/// Returns the fields that the pipelines of a source read.
fn fields_of(definitions: &Definitions, source: &str) -> Vec<Field> {
    let pipelines = definitions.pipelines.values();
    let pipelines = pipelines.filter(|pipeline| pipeline.source == source);
    let fields = pipelines.filter_map(|pipeline| definitions.source_fields(&pipeline.made_by));
    fields.flatten().collect()
}

/// Returns what a source declares of the times in a column, which goes before the conventions of
/// Feast, or `None` if it declares nothing.
fn declared(definitions: &Definitions, source: &str, column: &str) -> Option<Reading> {
    let reading = definitions.sources.get(source)?.reading_of(column);
    let is_declared = reading.unit.is_some() || reading.format.is_some() || reading.zone.is_some();
    is_declared.then_some(reading)
}

/// Returns the columns of a source that its pipelines read as the event times of their groups.
/// There are none if a pipeline reads `event_timestamp`: that is a column of its own then.
fn own_times(definitions: &Definitions, source: &str, read: &[Field]) -> Vec<OwnTime> {
    let times = timestamps(read);
    if times.contains(EVENT_TIME) {
        return Vec::new();
    }
    let pipelines = definitions.pipelines.values();
    let pipelines = pipelines.filter(|pipeline| pipeline.source == source);
    let name = |group: &str, made_by: &MadeBy| -> Option<String> {
        let event_time = &definitions.groups.get(group)?.event_time;
        match made_by {
            MadeBy::Columns(columns) => {
                let passed = columns.iter().find(|c| c.field.name == *event_time);
                passed.map(|column| column.from.clone())
            }
            MadeBy::Function(_) | MadeBy::Model(_) => Some(event_time.clone()),
        }
    };
    let names = pipelines.filter_map(|pipeline| name(&pipeline.group, &pipeline.made_by));
    let names: BTreeSet<String> = names.filter(|name| times.contains(name)).collect();
    let own = |name: String| OwnTime {
        declared: declared(definitions, source, &name),
        name,
    };
    names.into_iter().map(own).collect()
}

/// A column with the event times of a group, which a data frame may have beside `event_timestamp`.
struct OwnTime {
    name: String,
    /// What the source declares of the column. Without it, times are read as Feast writes them.
    declared: Option<Reading>,
}

impl OwnTime {
    /// Checks that a data frame with this column and `event_timestamp` has the same times in both.
    /// Those of one column would be lost without notice.
    fn check(&self, df: &Map<String, Json>) -> Result<(), Failure> {
        let list = |name: &str| df.get(name).and_then(Json::as_array);
        let (Some(times), Some(own)) = (list(EVENT_TIME), list(&self.name)) else {
            return Ok(());
        };
        let mut rows = times.iter().zip(own).enumerate();
        let Some((row, (time, own))) = rows.find(|(_, (time, own))| !self.is_same(time, own))
        else {
            return Ok(());
        };
        Err(Failure::invalid(format!(
            "row {row}: `{EVENT_TIME}` is {}, and `{}` is {}, and a row has one event time; send one \
             of the two columns, or the same times in both",
            cut_to(time, SHOWN),
            self.name,
            cut_to(own, SHOWN)
        )))
    }

    /// Returns whether a value of `event_timestamp` is the same as one of this column.
    fn is_same(&self, time: &Json, own: &Json) -> bool {
        match (feast_time(time), self.time(own)) {
            (Some(time), Some(own)) => time == own,
            // What is no time is refused with its row, like that of other events.
            _ => time == own,
        }
    }

    /// Returns the time that a value of the column stands for, or `None` if it is no time.
    fn time(&self, value: &Json) -> Option<Timestamp> {
        let Some(reading) = &self.declared else {
            return feast_time(value);
        };
        let mut column = ColumnBuilder::new(&DataType::Timestamp, 1).with_reading(reading.clone());
        column.append_json(value).ok()?;
        let column = column.finish();
        let times = column.as_primitive::<TimestampMicrosecondType>();
        times
            .is_valid(0)
            .then(|| Timestamp::from_micros(times.value(0)))
    }
}

/// Parses a body as each request of the protocol. Returns the rows of a write as events.
pub(crate) fn parsed(body: &[u8]) -> Result<Vec<IncomingEvent>, Failure> {
    if let Ok(OnlineFeaturesRequest { entities, .. }) = read(body) {
        let count = count_rows(&entities, "entities")?;
        let times = [Field::new(EVENT_TIME, DataType::Timestamp, true)];
        assert_eq!(rows_of(&entities, &times, count).len(), count);
        return Ok(Vec::new());
    }
    let df = match read(body) {
        Ok(Write { df, .. }) => df,
        Err(_) => read::<Push>(body)?.df,
    };
    let count = count_rows(&df, "df")?;
    let times = BTreeSet::from([EVENT_TIME.to_owned()]);
    let events = (0..count).map(|index| event(row(&df, index), &times));
    Ok(events.map(|(_, event)| event).collect())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::invalid(format!("the body is not a valid request: {e}")))
}

/// Returns the number of rows in columns.
///
/// # Errors
/// Returns an error when a column is not a list, or when the lists differ in length.
fn count_rows(columns: &Map<String, Json>, what: &str) -> Result<usize, Failure> {
    let mut count = None;
    for (name, values) in columns {
        let values = values.as_array().ok_or_else(|| {
            Failure::invalid(format!(
                "`{what}.{name}` is not a list with a value for each row"
            ))
        })?;
        let (first, rows) = *count.get_or_insert((name, values.len()));
        if rows != values.len() {
            return Err(Failure::invalid(format!(
                "`{what}.{name}` has {} values, and `{what}.{first}` has {rows}",
                values.len()
            )));
        }
    }
    Ok(count.map_or(0, |(_, rows)| rows))
}

/// Returns a row of columns that [`count_rows`] has counted.
fn row(columns: &Map<String, Json>, row: usize) -> Map<String, Json> {
    let cells = columns.iter();
    cells
        .map(|(name, values)| (name.clone(), values[row].clone()))
        .collect()
}

/// Returns rows with the given fields of columns, as far as there are such columns.
fn rows_of(columns: &Map<String, Json>, fields: &[Field], count: usize) -> Vec<Json> {
    let times = timestamps(fields);
    let columns = fields
        .iter()
        .filter_map(|field| columns.get_key_value(&field.name));
    let columns: Vec<(&String, &Json)> = columns.collect();
    let row = |row: usize| {
        let cells = columns.iter();
        let cells = cells.map(|(name, values)| ((*name).clone(), values[row].clone()));
        let mut cells: Map<String, Json> = cells.collect();
        normalize_times(&mut cells, &times);
        Json::Object(cells)
    };
    (0..count).map(row).collect()
}

/// Returns the names of the fields that hold times.
fn timestamps<'a>(fields: impl IntoIterator<Item = &'a Field>) -> BTreeSet<String> {
    let fields = fields.into_iter();
    let times = fields.filter(|field| field.data_type == DataType::Timestamp);
    times.map(|field| field.name.clone()).collect()
}

/// Converts the times in a row to RFC 3339. Feast sends times without a zone, which are in UTC, or
/// as whole seconds. What is no time stays as it is, to be refused like that of other events.
fn normalize_times(row: &mut Map<String, Json>, times: &BTreeSet<String>) {
    for (_, value) in row.iter_mut().filter(|(name, _)| times.contains(*name)) {
        let is_converted =
            matches!(&*value, Json::String(text) if text.parse::<Timestamp>().is_ok());
        if !is_converted && let Some(time) = feast_time(value) {
            *value = Json::String(time.to_string());
        }
    }
}

/// Returns the time that a value stands for, or `None` if it is no time, or is outside of the
/// years 1 to 9999, as milliseconds are that are read as seconds.
fn feast_time(value: &Json) -> Option<Timestamp> {
    let time: Option<Timestamp> = match value {
        Json::String(text) => {
            let time = text.parse().ok();
            // A column of midnights is written as dates.
            let time = time.or_else(|| format!("{text}T00:00:00Z").parse().ok());
            time.or_else(|| format!("{}Z", text.replacen(' ', "T", 1)).parse().ok())
        }
        Json::Number(seconds) => {
            let micros = seconds.as_i64()?.checked_mul(1_000_000)?;
            Some(Timestamp::from_micros(micros))
        }
        _ => None,
    };
    time.filter(|time| time.is_storable())
}

/// Returns the event of a row, whose times are converted, with the memory that it takes in bytes.
fn event(mut row: Map<String, Json>, times: &BTreeSet<String>) -> (u64, IncomingEvent) {
    normalize_times(&mut row, times);
    let row = Json::Object(row);
    let text = row.to_string();
    let event = IncomingEvent {
        payload: Ok(row),
        id: None,
        content: Digest::of(text.as_bytes()),
    };
    (parsed_size(text.as_bytes(), 0), event)
}

/// Returns the answer to a write: `null`, or the number of its rows that were duplicates.
///
/// # Errors
/// Returns an error when a row was rejected. The other rows are stored nevertheless.
fn written(report: &IngestReport) -> Result<Body<Json>, Failure> {
    let refused = report.events.iter().enumerate();
    let refused: Vec<String> = refused
        .filter_map(|(row, event)| match event {
            EventResult::Rejected { error } => Some(format!("row {row}: {error}")),
            _ => None,
        })
        .collect();
    match (refused.first(), report.duplicate) {
        (None, 0) => Ok(Body(Json::Null)),
        (None, duplicate) => Ok(Body(json!({ "duplicate": duplicate }))),
        (Some(first), duplicate) => {
            let known = match duplicate {
                0 => String::new(),
                count => format!(" (duplicates among them: {count})"),
            };
            Err(Failure::invalid(format!(
                "{} of {} rows were refused, the others are stored{known}; {first}",
                refused.len(),
                report.events.len()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Zone;

    use super::*;

    #[test]
    fn times_are_converted_and_what_is_no_time_stays_as_it_was_sent() {
        for (sent, wanted) in [
            (json!(1_700_000_000), json!("2023-11-14T22:13:20Z")),
            (json!("2023-11-14 22:13:20"), json!("2023-11-14T22:13:20Z")),
            (json!(1_700_000_000_000_i64), json!(1_700_000_000_000_i64)),
            (json!(i64::MAX), json!(i64::MAX)),
            (json!("soon"), json!("soon")),
        ] {
            let mut row = Map::from_iter([(EVENT_TIME.to_owned(), sent)]);
            normalize_times(&mut row, &BTreeSet::from([EVENT_TIME.to_owned()]));
            assert_eq!(row[EVENT_TIME], wanted);
        }
    }

    #[test]
    fn features_of_the_same_name_are_refused_by_it() {
        let twice = "feature `profile:age` is named twice; name it once";
        for (features, are_full, wanted) in [
            (&["profile:age", "profile:city"][..], false, None),
            (
                &["profile:age", "profile:city", "profile:age"],
                false,
                Some(twice),
            ),
            (
                &["profile:age", "profile:city", "profile:age"],
                true,
                Some(twice),
            ),
            (
                &["profile:age", "pet:age"],
                false,
                Some("two features are called `age`; set full_feature_names"),
            ),
            (&["profile:age", "pet:age"], true, None),
            (
                &["a:b__c", "a__b:c"],
                true,
                Some("two features are called `a__b__c` by their full names"),
            ),
        ] {
            let named = features.iter().map(|feature| {
                let (set, feature) = feature.split_once(':').unwrap();
                Wanted {
                    set: SetName::Any(set.to_owned()),
                    feature: feature.to_owned(),
                    answered: match are_full {
                        true => format!("{set}__{feature}"),
                        false => feature.to_owned(),
                    },
                }
            });
            let named: Vec<Wanted> = named.collect();
            let refused = check_names(&named, are_full)
                .err()
                .map(Failure::into_message);
            match (&refused, wanted) {
                (None, None) => {}
                (Some(refused), Some(wanted)) if refused.contains(wanted) => {}
                _ => panic!("{features:?}: {refused:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_data_frame_has_one_event_time_in_each_row() {
        const NOON: &str = "2020-06-01T12:00:00Z";
        let seconds = NOON.parse::<Timestamp>().unwrap().as_micros() / 1_000_000;
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        for (zone, general, own, is_same) in [
            (None, json!([NOON]), json!([NOON]), true),
            (None, json!([NOON]), json!(["2020-06-01 12:00:00"]), true),
            (None, json!([seconds]), json!([NOON]), true),
            (
                None,
                json!([NOON]),
                json!(["2020-06-01T14:00:00+02:00"]),
                true,
            ),
            (
                None,
                json!(["2020-06-01"]),
                json!(["2020-06-01T00:00:00Z"]),
                true,
            ),
            (
                None,
                json!([NOON]),
                json!(["2020-06-01T12:00:00.000001Z"]),
                false,
            ),
            (None, json!([NOON]), json!([null]), false),
            (None, json!([null]), json!([NOON]), false),
            (None, json!([null]), json!([null]), true),
            (None, json!(["soon"]), json!(["soon"]), true),
            (None, json!([NOON]), json!(["soon"]), false),
            (
                Some(berlin),
                json!([NOON]),
                json!(["2020-06-01T14:00:00"]),
                true,
            ),
            (
                Some(berlin),
                json!([NOON]),
                json!(["2020-06-01T12:00:00"]),
                false,
            ),
        ] {
            let own_time = OwnTime {
                name: "at".to_owned(),
                declared: zone.map(|zone| Reading {
                    zone: Some(zone),
                    ..Reading::default()
                }),
            };
            let frame = |columns: Json| columns.as_object().cloned().unwrap();
            for alone in [json!({"event_timestamp": general}), json!({"at": own})] {
                assert!(own_time.check(&frame(alone)).is_ok());
            }
            let both = json!({"event_timestamp": general, "at": own});
            let refused = own_time.check(&frame(both)).err();
            let message = refused.map(Failure::into_message);
            assert_eq!(message.is_none(), is_same, "{general} {own}");
            if let Some(message) = message {
                assert!(
                    message.starts_with("row 0: `event_timestamp` is "),
                    "{message}"
                );
                assert!(message.contains("and `at` is "), "{message}");
            }
        }
    }
}
