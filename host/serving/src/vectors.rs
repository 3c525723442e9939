//! Feature vectors: the features of a view for the rows of a request, with a status for each
//! value.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use wafer_core::aggregate::ItemIdentity;
use wafer_core::{JsonCell, Timestamp, value_bytes};
use wafer_store::{OnlineRow, Result};

/// The status of one value of a feature vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The value is known.
    Present,
    /// The row was found, and its value is null.
    Null,
    /// The entity is unknown.
    NotFound,
    /// The row that was found is older than the group's `ttl`.
    Expired,
    /// The on-demand function failed for this row.
    Error,
}

/// The values of one feature for all rows.
#[derive(Clone, Debug)]
pub(crate) struct Feature {
    pub(crate) name: String,
    pub(crate) values: ArrayRef,
    pub(crate) status: Vec<Status>,
    /// The position of the lookup that found the feature; `None` if a function computed it.
    pub(crate) lookup: Option<usize>,
}

/// Feature vectors, in the order of the request's rows.
#[derive(Clone, Debug)]
pub struct Vectors {
    pub(crate) rows: usize,
    pub(crate) features: Vec<Feature>,
    pub(crate) lookups: Vec<LookupResult>,
    /// The name of each function that failed for some rows, and these rows, ascending, with the
    /// reason.
    pub(crate) errors: Vec<(String, Vec<(u32, String)>)>,
    /// What the looked-up values take of [`MAX_FOUND_BYTES`](crate::MAX_FOUND_BYTES).
    pub(crate) found_bytes: u64,
    /// What the outputs of functions take in memory, with those of a model that was asked.
    pub(crate) made_bytes: u64,
}

/// The rows that a lookup found.
#[derive(Clone, Debug)]
pub(crate) struct LookupResult {
    pub(crate) alias: String,
    /// For each row of the request the index of its entity in `rows`; `None` where a join key is
    /// null or too long.
    pub(crate) entity_indices: Vec<Option<u32>>,
    /// The stored row of each entity. It has no values any more, which are in the features.
    pub(crate) rows: Vec<Option<OnlineRow>>,
    /// The identity of the events of each present entity, in a group with windows.
    pub(crate) event_identities: Vec<Option<ItemIdentity>>,
    /// The status of each entity.
    pub(crate) status: Vec<Status>,
}

impl LookupResult {
    /// Returns the estimated bytes that the result takes in memory.
    fn bytes(&self) -> usize {
        let each = size_of::<Option<OnlineRow>>() + size_of::<Status>();
        let values = self.rows.iter().flatten().map(|row| row.values.len());
        let indices = self.entity_indices.len() * size_of::<Option<u32>>();
        let identities = self.event_identities.len() * size_of::<Option<ItemIdentity>>();
        let rows = self.rows.len() * each + values.sum::<usize>();
        self.alias.len() + indices + rows + identities
    }

    /// Returns the stored row for a row of the request.
    fn row(&self, row: usize) -> Option<&OnlineRow> {
        self.rows[self.entity_indices[row]? as usize].as_ref()
    }

    /// Returns the status of the entity of a row of the request.
    pub(crate) fn status(&self, row: usize) -> Status {
        self.entity_indices[row].map_or(Status::NotFound, |index| self.status[index as usize])
    }

    /// Turns a column with a value for each entity into one with a value for each row of the
    /// request.
    pub(crate) fn for_each_row(&self, column: &ArrayRef) -> ArrayRef {
        let entity_indices = self.entity_indices.iter().enumerate();
        // If each row has an entity of its own, the column can be used as it is.
        let is_same = |(row, index): (usize, &Option<u32>)| *index == Some(row as u32);
        if self.entity_indices.len() == column.len() && entity_indices.into_iter().all(is_same) {
            return Arc::clone(column);
        }
        let entity_indices = UInt32Array::from(self.entity_indices.clone());
        arrow_select::take::take(column, &entity_indices, None)
            .expect("each index is that of an entity")
    }

    /// Returns for each row the event time of the stored row that was found, expired or not.
    pub(crate) fn event_times(&self) -> Vec<Option<Timestamp>> {
        let time = |row| Some(self.row(row)?.version.event);
        (0..self.entity_indices.len()).map(time).collect()
    }

    /// Returns for each row the identity of the stored row, or of the events, that its features
    /// were read from; `None` if it has no features.
    pub(crate) fn identities(&self) -> Vec<Option<String>> {
        let identity = |index: usize| match (&self.rows[index], self.status[index]) {
            (Some(row), Status::Present) => {
                let of_events = self.event_identities.get(index).copied().flatten();
                Some(of_events.map_or_else(|| row.version.identity(), |id| id.to_string()))
            }
            _ => None,
        };
        let found: Vec<_> = (0..self.rows.len()).map(identity).collect();
        let entity_indices = self.entity_indices.iter();
        entity_indices
            .map(|index| found[(*index)? as usize].clone())
            .collect()
    }
}

/// One row of [`Vectors`].
///
/// It serialises as `{"features":{…},"status":{…},"event_timestamp":{…}}`. If functions failed for
/// the row, `"errors":{…}` has the reason by the name of the function.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    pub(crate) vectors: &'a Vectors,
    pub(crate) row: usize,
}

impl Vectors {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the rows, in the order of the request.
    pub fn rows(&self) -> impl Iterator<Item = FeatureRow<'_>> {
        (0..self.rows).map(|row| FeatureRow { vectors: self, row })
    }

    /// Returns the column of a feature, with one value for each row.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.features
            .iter()
            .find(|f| f.name == name)
            .map(|f| &f.values)
    }

    /// Returns the columns of all features, in the order of the view.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &ArrayRef> {
        self.features.iter().map(|feature| &feature.values)
    }

    /// Returns the names of all features, in the order of the view.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(|feature| feature.name.as_str())
    }

    /// Returns the event time of the stored row that a feature was read from, or `None` if
    /// nothing was found or a function computed the feature.
    pub fn event_time(&self, name: &str, row: usize) -> Option<Timestamp> {
        let feature = self.features.iter().find(|f| f.name == name)?;
        let found = self.lookups[feature.lookup?].row(row)?;
        Some(found.version.event)
    }

    /// Returns the bytes of the values of a row.
    pub fn row_bytes(&self, row: usize) -> u64 {
        let values = self.columns().map(|column| value_bytes(column, row));
        values.fold(0, u64::saturating_add)
    }

    /// Returns the estimated bytes that the vectors take in memory.
    pub fn bytes(&self) -> usize {
        let columns = self.features.iter();
        let columns =
            columns.map(|f| f.values.get_array_memory_size() + f.status.len() + f.name.len());
        let lookups = self.lookups.iter().map(LookupResult::bytes);
        let errors = self.errors.iter().flat_map(|(_, rows)| rows);
        let errors = errors.map(|(_, message)| size_of::<(u32, String)>() + message.len());
        columns.chain(lookups).chain(errors).sum()
    }

    /// Returns how much of [`MAX_FOUND_BYTES`](crate::MAX_FOUND_BYTES) the looked-up values take.
    pub fn found_bytes(&self) -> u64 {
        self.found_bytes
    }

    /// Returns the bytes that the outputs of functions take in memory.
    pub fn made_bytes(&self) -> u64 {
        self.made_bytes
    }

    /// Returns the result of each lookup.
    pub(crate) fn found(&self) -> &[LookupResult] {
        &self.lookups
    }

    /// Returns the rows that a function failed on, with the function's name and the reason.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        self.errors.iter().flat_map(|(function, rows)| {
            rows.iter()
                .map(move |(row, message)| (*row, function.as_str(), message.as_str()))
        })
    }

    /// Returns the statuses of a feature, one for each row.
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
            &Map(features().map(|f| (&*f.name, JsonCell::new(&f.values, row)))),
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
    /// Returns the functions that failed for this row, with the reasons.
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

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, new_null_array};
    use serde_json::json;
    use wafer_core::DataType;
    use wafer_core::rules::RowVersion;

    use super::*;

    fn version(event: i64) -> RowVersion {
        RowVersion {
            event: Timestamp::from_micros(event),
            created: Timestamp::from_micros(event + 1),
            order: 3,
        }
    }

    /// A lookup that found a row, an expired row, and nothing, for five rows of a request.
    fn found() -> LookupResult {
        let row = |event| OnlineRow {
            version: version(event),
            fingerprint: 0,
            values: Vec::<u8>::new().into(),
        };
        LookupResult {
            alias: "last".to_owned(),
            entity_indices: vec![Some(1), Some(0), None, Some(2), Some(0)],
            rows: vec![Some(row(10)), Some(row(20)), None],
            event_identities: Vec::new(),
            status: vec![Status::Present, Status::Expired, Status::NotFound],
        }
    }

    #[test]
    fn lookups_report_status_time_and_identity_for_each_row() {
        let found = found();
        let present = Some(version(10).identity());
        for (row, status, event, identity) in [
            // The row has expired. Its time is told, but no feature comes from it.
            (0, Status::Expired, Some(20), None),
            (1, Status::Present, Some(10), present.clone()),
            // A row without a key, and an entity that is not stored.
            (2, Status::NotFound, None, None),
            (3, Status::NotFound, None, None),
            (4, Status::Present, Some(10), present),
        ] {
            assert_eq!(found.status(row), status, "row {row}");
            let event = event.map(Timestamp::from_micros);
            assert_eq!(found.event_times()[row], event, "row {row}");
            assert_eq!(found.identities()[row], identity, "row {row}");
        }
    }

    #[test]
    fn features_over_windows_are_identified_by_their_events() {
        let identity = |item: &str| Some(ItemIdentity::of(item.as_bytes()));
        let text = |item: &str| identity(item).map(|id| id.to_string());
        let found = LookupResult {
            event_identities: vec![identity("a"), identity("b"), None],
            ..found()
        };
        // The first row of the request has expired.
        assert_eq!(found.identities(), [None, text("a"), None, None, text("a")]);
    }

    #[test]
    fn values_of_entities_are_repeated_for_the_rows_of_the_request() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        for (indices, wanted) in [
            (
                vec![Some(0), Some(1), Some(2)],
                vec![Some(1), None, Some(3)],
            ),
            (
                vec![Some(2), Some(0), Some(0)],
                vec![Some(3), Some(1), Some(1)],
            ),
            (vec![Some(0), None], vec![Some(1), None]),
            (vec![], vec![]),
        ] {
            let lookup = LookupResult {
                entity_indices: indices.clone(),
                ..found()
            };
            let values = lookup.for_each_row(&column);
            let values: Vec<_> = values.as_primitive::<Int64Type>().iter().collect();
            assert_eq!(values, wanted, "{indices:?}");
        }
    }

    #[test]
    fn a_row_is_serialised_with_the_errors_of_the_functions_that_failed_for_it() {
        let vectors = Vectors {
            rows: 2,
            features: vec![
                Feature {
                    name: "last_x".to_owned(),
                    values: Arc::new(Int64Array::from(vec![5, 5])),
                    status: vec![Status::Present, Status::Present],
                    lookup: Some(0),
                },
                Feature {
                    name: "y".to_owned(),
                    values: new_null_array(&DataType::Float64.to_arrow(), 2),
                    status: vec![Status::Null, Status::Error],
                    lookup: None,
                },
            ],
            lookups: vec![LookupResult {
                entity_indices: vec![Some(0), Some(2)],
                ..found()
            }],
            errors: vec![("f".to_owned(), vec![(1, "as asked".to_owned())])],
            found_bytes: 0,
            made_bytes: 0,
        };
        let rows: Vec<_> = vectors
            .rows()
            .map(|row| serde_json::to_value(row).unwrap())
            .collect();
        let event = Timestamp::from_micros(10).to_string();
        assert_eq!(
            rows[0],
            json!({
                "features": {"last_x": 5, "y": null},
                "status": {"last_x": "present", "y": "null"},
                "event_timestamp": {"last": event},
            })
        );
        assert_eq!(
            rows[1],
            json!({
                "features": {"last_x": 5, "y": null},
                "status": {"last_x": "present", "y": "error"},
                "event_timestamp": {"last": null},
                "errors": {"f": "as asked"},
            })
        );
        assert_eq!(
            vectors.event_time("last_x", 0),
            Some(Timestamp::from_micros(10))
        );
        assert_eq!(vectors.event_time("last_x", 1), None);
        assert_eq!(vectors.event_time("y", 0), None, "a function computed it");
        let failures: Vec<_> = vectors.failures().collect();
        assert_eq!(failures, [(1, "f", "as asked")]);
    }
}
