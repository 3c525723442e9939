//! `POST /get-online-features`: features of groups and views, encoded piece by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::iter::{from_fn, once};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use wafer_core::{DataType, Field, JsonCell, Timestamp, cell_to_json, value_bytes};
use wafer_platform::{Platform, Recipe, RequestMemory, Status, Vectors};

use super::frame::{count_rows, read, rows_of};
use crate::MAX_ROWS;
use crate::error::Failure;
use crate::features::ENCODED_BYTES;
use crate::intake::{Payload, charged};
use crate::json_size::parsed_size;
use crate::limits::FoundCharge;
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

/// The body of a request for features.
#[derive(Deserialize)]
pub(super) struct OnlineFeaturesRequest {
    pub(super) entities: Map<String, Json>,
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
struct RequestedFeature {
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
    let (charge, memory) = payload.found();
    let sets = look_up(&platform, &wanted, &request.entities, (count, memory)).await?;
    let read: BTreeSet<&String> = sets.values().flat_map(|set| &set.inputs).collect();
    request.entities.retain(|name, _| read.contains(name));
    let mut answer = FeastVectors::new(request.entities, sets);
    for feature in wanted {
        answer.add_feature(feature)?;
    }
    if request.include_feature_view_version_metadata {
        let versions = answer.sets.iter();
        answer.metadata.feature_view_metadata = versions
            .map(|(name, set)| json!({ "name": name.as_str(), "version": set.version }))
            .collect();
    }
    answer.into_response(count, charge, &payload)
}

/// Looks up all groups and views that the wanted features are of, each once.
async fn look_up(
    platform: &Platform,
    wanted: &[RequestedFeature],
    entities: &Map<String, Json>,
    (count, mut memory): (usize, RequestMemory),
) -> Result<BTreeMap<SetName, Set>, Failure> {
    let mut sets: BTreeMap<SetName, Set> = BTreeMap::new();
    for RequestedFeature { set, .. } in wanted {
        if !sets.contains_key(set) {
            let held = memory.clone();
            let looked_up = Set::look_up(platform, set, entities, (count, held)).await?;
            let vectors = &looked_up.vectors;
            memory = memory.after(vectors.found_bytes(), vectors.made_bytes());
            sets.insert(set.clone(), looked_up);
        }
    }
    Ok(sets)
}

/// Returns the features that the request names, by themselves or by a feature service.
fn wanted(
    platform: &Platform,
    request: &OnlineFeaturesRequest,
) -> Result<Vec<RequestedFeature>, Failure> {
    let answered = |set: &str, feature: &str| match request.full_feature_names {
        true => format!("{set}__{feature}"),
        false => feature.to_owned(),
    };
    match (&request.feature_service, request.features.as_slice()) {
        (Some(view), []) => {
            let recipe = Recipe::new(&platform.context().definitions(), view)?;
            let features = recipe.outputs().into_iter().zip(recipe.aliases());
            let features = features.map(|(field, alias)| {
                let set = alias.unwrap_or(view);
                let own = alias.and_then(|alias| field.name.strip_prefix(alias)?.strip_prefix('_'));
                RequestedFeature {
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
                Some((set, feature)) => Ok(RequestedFeature {
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
fn check_names(wanted: &[RequestedFeature], are_full: bool) -> Result<(), Failure> {
    let mut names: BTreeMap<&str, &RequestedFeature> = BTreeMap::new();
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
        (count, memory): (usize, RequestMemory),
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
        let recipe = Recipe::new(&platform.context().definitions(), name)?;
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
    /// Returns an answer with the join keys and request fields that were read.
    fn new(entities: Map<String, Json>, sets: BTreeMap<SetName, Set>) -> Self {
        let names: Vec<String> = entities.keys().cloned().collect();
        Self {
            columns: names.iter().cloned().map(Origin::Entity).collect(),
            metadata: Metadata {
                feature_names: names,
                feature_view_metadata: Vec::new(),
            },
            entities,
            sets,
        }
    }

    /// Adds a feature, whose name no other one has.
    fn add_feature(&mut self, wanted: RequestedFeature) -> Result<(), Failure> {
        let RequestedFeature {
            set,
            feature,
            answered,
        } = wanted;
        if !self.sets[&set].has(&feature) {
            let message = format!("`{}` has no feature `{feature}`", set.as_str());
            return Err(Failure::new(StatusCode::NOT_FOUND, "not_found", message));
        }
        if self.entities.contains_key(&answered) {
            let message = format!(
                "feature `{}:{feature}` has the name of a join key or request field of the request; \
                 set full_feature_names",
                set.as_str()
            );
            return Err(Failure::invalid(message));
        }
        self.metadata.feature_names.push(answered);
        self.columns.push(Origin::Feature(set, feature));
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
                RequestedFeature {
                    set: SetName::Any(set.to_owned()),
                    feature: feature.to_owned(),
                    answered: match are_full {
                        true => format!("{set}__{feature}"),
                        false => feature.to_owned(),
                    },
                }
            });
            let named: Vec<RequestedFeature> = named.collect();
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
}
