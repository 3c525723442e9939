//! Feature vectors: what a model reads at request time.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use wafer_core::aggregate::{self, is_item};
use wafer_core::{Timestamp, cell_to_json};
use wafer_store::{OnlineRow, Result};

/// What is known of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is a value.
    Present,
    /// The row is there, and its value is null.
    Null,
    /// The entity is not known.
    NotFound,
    /// The row is older than the group's `ttl`.
    Expired,
    /// The function could not compute it for this row.
    Error,
}

/// One feature of all rows.
#[derive(Clone, Debug)]
pub(crate) struct Feature {
    pub(crate) name: String,
    pub(crate) values: ArrayRef,
    pub(crate) status: Vec<Status>,
    /// The lookup that it is of; none of what functions computed.
    pub(crate) lookup: Option<usize>,
}

/// Feature vectors, in the order of the request's rows.
#[derive(Clone, Debug)]
pub struct Vectors {
    pub(crate) rows: usize,
    pub(crate) features: Vec<Feature>,
    pub(crate) lookups: Vec<LookupResult>,
    /// For each function its name, and the rows that failed, with the reason.
    pub(crate) errors: Vec<(String, Vec<(u32, String)>)>,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub(crate) struct LookupResult {
    pub(crate) alias: String,
    /// For each row the place of its entity among those that were asked for; none where a
    /// join key is null.
    pub(crate) places: Vec<Option<u32>>,
    /// For each entity.
    pub(crate) rows: Vec<Option<OnlineRow>>,
    /// For each entity.
    pub(crate) status: Vec<Status>,
}

impl LookupResult {
    fn row(&self, row: usize) -> Option<&OnlineRow> {
        self.rows[self.places[row]? as usize].as_ref()
    }

    pub(crate) fn status(&self, row: usize) -> Status {
        self.places[row].map_or(Status::NotFound, |place| self.status[place as usize])
    }

    /// A column with a value for each entity as one with a value for each row.
    pub(crate) fn for_each_row(&self, column: &ArrayRef) -> ArrayRef {
        let places = self.places.iter().enumerate();
        let is_same = |(row, place): (usize, &Option<u32>)| *place == Some(row as u32);
        if self.places.len() == column.len() && places.into_iter().all(is_same) {
            return Arc::clone(column);
        }
        let places = UInt32Array::from(self.places.clone());
        arrow_select::take::take(column, &places, None).expect("places are of entities")
    }

    /// For each row the event time of what was found, expired or not.
    pub(crate) fn event_times(&self) -> Vec<Option<Timestamp>> {
        let time = |row| Some(self.row(row)?.version.event);
        (0..self.places.len()).map(time).collect()
    }

    /// For each row which row, or which events, its features are of; nothing when there are
    /// none.
    pub(crate) fn identities(&self) -> Vec<Option<String>> {
        let identity = |(row, status): (&Option<OnlineRow>, &Status)| match (row, status) {
            (Some(row), Status::Present) if is_item(&row.values) => {
                Some(aggregate::item_identity(&row.values))
            }
            (Some(row), Status::Present) => Some(row.version.identity()),
            _ => None,
        };
        let found: Vec<_> = self.rows.iter().zip(&self.status).map(identity).collect();
        let places = self.places.iter();
        places
            .map(|place| found[(*place)? as usize].clone())
            .collect()
    }
}

/// One row of [`Vectors`]; serialises as
/// `{"features":{…},"status":{…},"event_timestamp":{…}}`, with `"errors":{…}`
/// by function if there are any.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    pub(crate) vectors: &'a Vectors,
    pub(crate) row: usize,
}

impl Vectors {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = FeatureRow<'_>> {
        (0..self.rows).map(|row| FeatureRow { vectors: self, row })
    }

    /// A feature's column, with one value for each row.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.features
            .iter()
            .find(|f| f.name == name)
            .map(|f| &f.values)
    }

    /// All features, in the view's order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &ArrayRef> {
        self.features.iter().map(|feature| &feature.values)
    }

    /// Names of all features, in the view's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(|feature| feature.name.as_str())
    }

    /// Event time of the row that a feature was found in; none of what functions computed.
    pub fn event_time(&self, name: &str, row: usize) -> Option<Timestamp> {
        let feature = self.features.iter().find(|f| f.name == name)?;
        let found = self.lookups[feature.lookup?].row(row)?;
        Some(found.version.event)
    }

    /// About how many bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.columns().map(|column| column.get_array_memory_size());
        let rows = self.lookups.iter().flat_map(|found| &found.rows);
        let rows = rows.flatten().map(|row| row.values.len());
        columns.chain(rows).sum()
    }

    /// What each lookup found.
    pub(crate) fn found(&self) -> &[LookupResult] {
        &self.lookups
    }

    /// Rows that a function failed on, with the function's name and the reason.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        self.errors.iter().flat_map(|(function, rows)| {
            rows.iter()
                .map(move |(row, message)| (*row, function.as_str(), message.as_str()))
        })
    }

    /// A feature's statuses, one for each row.
    pub fn status(&self, name: &str) -> Option<&[Status]> {
        self.features
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.status.as_slice())
    }
}

impl<'a> Serialize for FeatureRow<'a> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { vectors, row } = *self;
        let has_errors = self.errors().next().is_some();
        let mut object = serializer.serialize_struct("row", 3 + usize::from(has_errors))?;
        let features = || vectors.features.iter();
        object.serialize_field(
            "features",
            &Map(features().map(|f| (&*f.name, cell_to_json(&f.values, row)))),
        )?;
        object.serialize_field(
            "status",
            &Map(features().map(|f| (&*f.name, f.status[row]))),
        )?;
        let time = |found: &'a LookupResult| Some(found.row(row)?.version.event);
        let times = vectors.lookups.iter();
        let times = times.map(|found| (found.alias.as_str(), time(found)));
        object.serialize_field("event_timestamp", &Map(times))?;
        if has_errors {
            object.serialize_field("errors", &Map(self.errors()))?;
        }
        object.end()
    }
}

impl<'a> FeatureRow<'a> {
    pub(crate) fn errors(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.vectors
            .errors
            .iter()
            .filter_map(move |(function, rows)| {
                let found = rows
                    .binary_search_by_key(&(self.row as u32), |(row, _)| *row)
                    .ok()?;
                Some((function.as_str(), rows[found].1.as_str()))
            })
    }
}

/// Serialises names and values as a map, in their order.
struct Map<I>(I);

impl<'a, I, V> Serialize for Map<I>
where
    I: Iterator<Item = (&'a str, V)> + Clone,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.clone() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}
