//! Feature vectors: what a model reads at request time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use wafer_core::aggregate::{self, Layout};
use wafer_core::rules::is_expired;
use wafer_core::{
    ColumnBuilder, DamagedError, Timestamp, cell_to_json, decode_row, entity_key, packed_columns,
};
use wafer_runtime::{Deadline, Function};
use wafer_store::{OnlineKey, OnlineRow, for_work};

use crate::definition::{GroupDef, ViewDef, feature_name, fingerprint};
use crate::error::{Error, Kind, Result};
use crate::platform::{Platform, get};
use crate::project::nearest;

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
struct Feature {
    name: String,
    values: ArrayRef,
    status: Vec<Status>,
}

/// Feature vectors, in the order of the request's rows.
#[derive(Clone, Debug)]
pub struct Vectors {
    rows: usize,
    features: Vec<Feature>,
    /// For each lookup its alias, and for each row the event time of what it found.
    event_times: Vec<(String, Vec<Option<Timestamp>>)>,
    /// For each function its name, and the rows that failed, with the reason.
    errors: Vec<(String, Vec<(u32, String)>)>,
}

/// One row of [`Vectors`]; serialises as
/// `{"features":{…},"status":{…},"event_timestamp":{…}}`, with `"errors":{…}`
/// by function if there are any.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    vectors: &'a Vectors,
    row: usize,
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

    /// A feature's statuses, one for each row.
    pub fn status(&self, name: &str) -> Option<&[Status]> {
        self.features
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.status.as_slice())
    }
}

impl Serialize for FeatureRow<'_> {
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
        let times = vectors
            .event_times
            .iter()
            .map(|(alias, times)| (&**alias, times[row]));
        object.serialize_field("event_timestamp", &Map(times))?;
        if has_errors {
            object.serialize_field("errors", &Map(self.errors()))?;
        }
        object.end()
    }
}

impl<'a> FeatureRow<'a> {
    fn errors(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
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

/// What requests for a view need, worked out once.
#[derive(Debug)]
pub(crate) struct Serving {
    view: ViewDef,
    lookups: Vec<Lookup>,
    functions: Vec<Function>,
}

#[derive(Debug)]
struct Lookup {
    alias: String,
    group: GroupDef,
    table: String,
    /// How rows are stored.
    stored: Stored,
    /// Positions of the join keys among the view's inputs.
    keys: Vec<usize>,
    /// Positions of the taken features in the group, and their names in the view.
    features: Vec<(usize, String)>,
}

/// How the online store has a group.
#[derive(Debug)]
enum Stored {
    /// The newest row; for each number of columns that it may have the fingerprint
    /// of its schema.
    Row(Vec<u64>),
    /// A summary of its events.
    Item(Layout),
}

/// The request's rows as columns.
struct Request {
    rows: usize,
    /// In the order of the view's inputs.
    columns: Vec<ArrayRef>,
}

impl Platform {
    /// Feature vectors of a view for some rows, each an object with the view's
    /// join keys and request fields. Entities that are not known are no error:
    /// their features have the status `not_found`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown view, [`Kind::Invalid`] for a row that
    /// lacks a field or has one of another type, [`Kind::Function`] when an
    /// on-demand function fails on the whole request, [`Kind::Unavailable`] when
    /// too many requests are waiting.
    pub async fn features(&self, view: &str, rows: &[Json]) -> Result<Vectors> {
        let serving = self.serving(view)?;
        let request = decode(&serving.view, rows)?;
        let keys = online_keys(&serving, &request);
        let flat: Vec<OnlineKey> = keys.iter().flatten().flatten().cloned().collect();
        let now = self.now();
        let online = &self.components().online;
        let found = for_work(format!("view/{view}"), online.get_many(&flat, now)).await?;
        let work = move || assemble(&serving, &request, &keys, found, now);
        self.components().guests.run(work).await?
    }

    fn serving(&self, name: &str) -> Result<Arc<Serving>> {
        self.cached_serving(name, |definitions| {
            let view = get(&definitions.views, name, "feature view")?.clone();
            let lookups = view.lookups.iter().map(|lookup| {
                let group = definitions.groups[&lookup.group].clone();
                let place = |key: &String| view.inputs.iter().position(|f| f.name == *key);
                let place = |key| place(key).expect("the view was resolved with its keys");
                let all = group.features();
                let feature =
                    |index: &usize| (*index, feature_name(&lookup.alias, &all[*index].name));
                let prefix = |length| fingerprint(&group.columns[..length]);
                let stored = match group.layout() {
                    Some(layout) => Stored::Item(layout),
                    None => Stored::Row((0..=group.columns.len()).map(prefix).collect()),
                };
                Lookup {
                    alias: lookup.alias.clone(),
                    table: group.table(),
                    stored,
                    keys: lookup.keys.iter().map(place).collect(),
                    features: lookup.features.iter().map(feature).collect(),
                    group,
                }
            });
            let lookups = lookups.collect();
            let functions = view.functions.iter().map(|f| self.function(&f.function));
            Ok(Serving {
                functions: functions.collect::<Result<_>>()?,
                lookups,
                view,
            })
        })
    }
}

fn decode(view: &ViewDef, rows: &[Json]) -> Result<Request> {
    let mut builders: Vec<_> = view
        .inputs
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, rows.len()))
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let object = row
            .as_object()
            .ok_or_else(|| Error::invalid(format!("row {index} is not a JSON object")))?;
        for (field, builder) in view.inputs.iter().zip(&mut builders) {
            let wrong = |message: &str| {
                let what = &field.data_type;
                Error::invalid(format!(
                    "row {index}: field `{}` ({what}): {message}",
                    field.name
                ))
            };
            match object.get(&field.name) {
                None => return Err(wrong(&missing(view, object, &field.name))),
                Some(Json::Null) if !field.nullable => {
                    return Err(wrong("is null, and a function needs it"));
                }
                Some(value) => builder
                    .append_json(value)
                    .map_err(|message| wrong(&message))?,
            }
        }
    }
    let columns = builders.iter_mut().map(ColumnBuilder::finish).collect();
    Ok(Request {
        rows: rows.len(),
        columns,
    })
}

fn missing(view: &ViewDef, object: &serde_json::Map<String, Json>, name: &str) -> String {
    let unused = object
        .keys()
        .filter(|key| !view.inputs.iter().any(|f| f.name == **key));
    match nearest(name, unused.map(String::as_str)) {
        Some(nearest) => format!("is missing; is `{nearest}` meant?"),
        None => "is missing".to_owned(),
    }
}

/// For each lookup and row the key to read; none where a join key is null.
fn online_keys(serving: &Serving, request: &Request) -> Vec<Vec<Option<OnlineKey>>> {
    let of_lookup = |lookup: &Lookup| {
        let columns: Vec<ArrayRef> = lookup
            .keys
            .iter()
            .map(|key| Arc::clone(&request.columns[*key]))
            .collect();
        let of_row = |row| {
            // A null key matches nothing; neither does one too long to be stored.
            let entity = entity_key(&columns, row).ok()?;
            Some(OnlineKey {
                group: lookup.table.clone(),
                entity,
            })
        };
        (0..request.rows).map(of_row).collect()
    };
    serving.lookups.iter().map(of_lookup).collect()
}

fn assemble(
    serving: &Serving,
    request: &Request,
    keys: &[Vec<Option<OnlineKey>>],
    found: Vec<Option<OnlineRow>>,
    now: Timestamp,
) -> Result<Vectors> {
    let mut vectors = Vectors {
        rows: request.rows,
        features: Vec::new(),
        event_times: Vec::new(),
        errors: Vec::new(),
    };
    let mut found = found.into_iter();
    for (lookup, keys) in serving.lookups.iter().zip(keys) {
        let rows: Vec<Option<OnlineRow>> = keys
            .iter()
            .map(|key| {
                key.as_ref()
                    .and_then(|_| found.next().expect("one answer for each key"))
            })
            .collect();
        add_lookup(&mut vectors, lookup, &rows, now)?;
    }
    if serving.functions.is_empty() {
        return Ok(vectors);
    }
    let mut columns: HashMap<String, ArrayRef> = HashMap::new();
    for (field, column) in serving.view.inputs.iter().zip(&request.columns) {
        columns.insert(field.name.clone(), Arc::clone(column));
    }
    for feature in &vectors.features {
        // A field of the request of the same name is what functions read.
        columns
            .entry(feature.name.clone())
            .or_insert_with(|| Arc::clone(&feature.values));
    }
    for function in &serving.functions {
        add_function(&mut vectors, &mut columns, function)?;
    }
    Ok(vectors)
}

impl Lookup {
    /// Appends the features that a stored row holds.
    fn decode(
        &self,
        row: &OnlineRow,
        now: Timestamp,
        builders: &mut [ColumnBuilder],
    ) -> Result<()> {
        let damaged = |e: DamagedError| {
            Error::caused(Kind::Internal, format!("a row of `{}`", self.table), e)
        };
        match &self.stored {
            Stored::Row(fingerprints) => {
                let count = packed_columns(&row.values).map_err(damaged)?;
                if fingerprints.get(count) != Some(&row.fingerprint) {
                    let message =
                        format!("a row of `{}` was written with other columns", self.table);
                    return Err(Error::new(Kind::Internal, message));
                }
                decode_row(&row.values, builders).map_err(damaged)
            }
            Stored::Item(layout) => {
                let answers = aggregate::read(layout, &row.values, now).map_err(damaged)?;
                for (answer, builder) in answers.iter().zip(builders) {
                    builder.append_answer(answer);
                }
                Ok(())
            }
        }
    }
}

fn add_lookup(
    vectors: &mut Vectors,
    lookup: &Lookup,
    rows: &[Option<OnlineRow>],
    now: Timestamp,
) -> Result<()> {
    let group = &lookup.group;
    let mut builders: Vec<_> = group
        .features()
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, rows.len()))
        .collect();
    let mut statuses = Vec::with_capacity(rows.len());
    let mut times = Vec::with_capacity(rows.len());
    for row in rows {
        let status = match row {
            None => Status::NotFound,
            Some(row) if is_expired(row.version.event, group.ttl, now) => Status::Expired,
            Some(_) => Status::Present,
        };
        match (row, status) {
            (Some(row), Status::Present) => lookup.decode(row, now, &mut builders)?,
            _ => builders.iter_mut().for_each(ColumnBuilder::append_null),
        }
        statuses.push(status);
        times.push(row.as_ref().map(|row| row.version.event));
    }
    let columns: Vec<ArrayRef> = builders.iter_mut().map(ColumnBuilder::finish).collect();
    for (index, name) in &lookup.features {
        let values = Arc::clone(&columns[*index]);
        let status = statuses
            .iter()
            .enumerate()
            .map(|(row, status)| with_null(*status, &values, row));
        vectors.features.push(Feature {
            name: name.clone(),
            status: status.collect(),
            values,
        });
    }
    vectors.event_times.push((lookup.alias.clone(), times));
    Ok(())
}

fn with_null(status: Status, values: &ArrayRef, row: usize) -> Status {
    if status == Status::Present && values.is_null(row) {
        Status::Null
    } else {
        status
    }
}

fn add_function(
    vectors: &mut Vectors,
    columns: &mut HashMap<String, ArrayRef>,
    function: &Function,
) -> Result<()> {
    let signature = function.signature();
    let inputs: Vec<ArrayRef> = signature
        .inputs
        .fields()
        .iter()
        .map(|f| Arc::clone(&columns[&f.name]))
        .collect();
    let output = function.invoke(&inputs, Deadline::Request)?;
    let failed = |row: usize| {
        output
            .row_errors
            .binary_search_by_key(&(row as u32), |(row, _)| *row)
            .is_ok()
    };
    for (field, values) in signature.outputs.fields().iter().zip(&output.columns) {
        // What a failed row holds means nothing, and must not get out.
        let values = match output.row_errors.is_empty() {
            true => Arc::clone(values),
            false => nulled(values, &failed),
        };
        let status = (0..values.len())
            .map(|row| {
                if failed(row) {
                    Status::Error
                } else {
                    with_null(Status::Present, &values, row)
                }
            })
            .collect();
        columns
            .entry(field.name.clone())
            .or_insert_with(|| Arc::clone(&values));
        vectors.features.push(Feature {
            name: field.name.clone(),
            values,
            status,
        });
    }
    if !output.row_errors.is_empty() {
        vectors
            .errors
            .push((function.name().to_owned(), output.row_errors));
    }
    Ok(())
}

/// The column with nulls at some rows.
pub(crate) fn nulled(column: &ArrayRef, at: &impl Fn(usize) -> bool) -> ArrayRef {
    let rows: arrow_array::UInt32Array = (0..column.len())
        .map(|row| (!at(row)).then_some(row as u32))
        .collect();
    arrow_select::take::take(column, &rows, None).expect("the rows are the column's")
}
