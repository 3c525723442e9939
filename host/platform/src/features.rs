//! Feature vectors: what a model reads at request time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt32Array};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use wafer_core::aggregate::{self, Layout, is_item};
use wafer_core::rules::is_expired;
use wafer_core::{
    ColumnBuilder, DamagedError, EntityKey, Field, Timestamp, cell_to_json, decode_leading,
    entity_key, packed_columns, widen,
};
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::{OnlineKey, OnlineRow, for_work};

use crate::definition::{FunctionDef, GroupDef, ViewDef, feature_name, fingerprint};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use crate::project::nearest;
use crate::recipe::Recipe;

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
    /// The lookup that it is of; none of what functions computed.
    lookup: Option<usize>,
}

/// Feature vectors, in the order of the request's rows.
#[derive(Clone, Debug)]
pub struct Vectors {
    rows: usize,
    features: Vec<Feature>,
    lookups: Vec<Found>,
    /// For each function its name, and the rows that failed, with the reason.
    errors: Vec<(String, Vec<(u32, String)>)>,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    alias: String,
    /// For each row the place of its entity among those that were asked for; none where a
    /// join key is null.
    places: Vec<Option<u32>>,
    /// For each entity.
    rows: Vec<Option<OnlineRow>>,
    /// For each entity.
    status: Vec<Status>,
}

impl Found {
    fn row(&self, row: usize) -> Option<&OnlineRow> {
        self.rows[self.places[row]? as usize].as_ref()
    }

    fn status(&self, row: usize) -> Status {
        self.places[row].map_or(Status::NotFound, |place| self.status[place as usize])
    }

    /// A column with a value for each entity as one with a value for each row.
    fn for_each_row(&self, column: &ArrayRef) -> ArrayRef {
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
    pub(crate) fn found(&self) -> &[Found] {
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
        let time = |found: &'a Found| Some(found.row(row)?.version.event);
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
pub(crate) struct Request {
    pub(crate) rows: usize,
    /// In the order of the view's inputs.
    pub(crate) columns: Vec<ArrayRef>,
}

/// A request with what was looked up for it.
pub(crate) struct Read {
    pub(crate) request: Request,
    /// For each lookup and row the place of its entity among those that it asked for.
    places: Vec<Vec<Option<u32>>>,
    /// For each lookup and entity what was found.
    found: Vec<Vec<Option<OnlineRow>>>,
    now: Timestamp,
}

/// Columns by name, as functions and models read them.
pub(crate) type Readable = HashMap<String, ArrayRef>;

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
        self.vectors(serving, rows, &format!("view/{view}")).await
    }

    /// All features of a group for some entities, each an object with the group's join
    /// keys.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub async fn group_features(&self, group: &str, rows: &[Json]) -> Result<Vectors> {
        // No view has such a name.
        let name = format!("group/{group}");
        let serving = self.cached_serving(&name, |definitions| {
            let recipe = Recipe::of_group(definitions, group)?;
            Serving::new(recipe, |name, function| self.load_function(name, function))
        })?;
        self.vectors(serving, rows, &name).await
    }

    async fn vectors(&self, serving: Arc<Serving>, rows: &[Json], work: &str) -> Result<Vectors> {
        let request = decode(&serving.view, rows)?;
        let read = self.look_up(&serving, request, self.now(), work).await?;
        let work = move || assemble(&serving, read).map(|(vectors, _)| vectors);
        self.components().guests.run(work).await?
    }

    /// Reads what requests look up, as of a time; `work` is what for.
    pub(crate) async fn look_up(
        &self,
        serving: &Serving,
        request: Request,
        now: Timestamp,
        work: &str,
    ) -> Result<Read> {
        let (mut keys, mut places, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for lookup in &serving.lookups {
            let before = keys.len();
            places.push(entities(lookup, &request, &mut keys));
            counts.push(keys.len() - before);
        }
        let online = &self.components().online;
        let found = for_work(work.to_owned(), online.get_many(&keys, now)).await?;
        let mut found = found.into_iter();
        let of_lookups = counts
            .into_iter()
            .map(|count| found.by_ref().take(count).collect());
        Ok(Read {
            found: of_lookups.collect(),
            request,
            places,
            now,
        })
    }

    fn serving(&self, name: &str) -> Result<Arc<Serving>> {
        self.cached_serving(name, |definitions| {
            Serving::new(Recipe::new(definitions, name)?, |name, definition| {
                self.load_function(name, definition)
            })
        })
    }
}

impl Serving {
    /// Of a version of a view, whose functions `load` loads.
    pub(crate) fn new(
        recipe: Recipe,
        load: impl Fn(&str, &FunctionDef) -> Result<Function>,
    ) -> Result<Self> {
        let Recipe {
            view,
            groups,
            functions,
        } = recipe;
        let lookups = view.lookups.iter().map(|lookup| {
            let group = groups[&lookup.group].clone();
            let place = |key: &String| view.inputs.iter().position(|f| f.name == *key);
            let place = |key| place(key).expect("the view was resolved with its keys");
            let all = group.features();
            let feature = |index: &usize| (*index, feature_name(&lookup.alias, &all[*index].name));
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
        let called = view.functions.iter();
        let called = called.map(|f| load(&f.function, &functions[&f.function]));
        Ok(Self {
            functions: called.collect::<Result<_>>()?,
            lookups,
            view,
        })
    }

    /// The view that is served.
    pub(crate) fn view(&self) -> &ViewDef {
        &self.view
    }
}

fn decode(view: &ViewDef, rows: &[Json]) -> Result<Request> {
    let objects: Vec<&serde_json::Map<String, Json>> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let message = || Error::invalid(format!("row {index} is not a JSON object"));
            row.as_object().ok_or_else(message)
        })
        .collect::<Result<_>>()?;
    let numbers: Vec<usize> = (0..rows.len()).collect();
    decode_rows(view, &numbers, |row, name| {
        let object = objects[row];
        object
            .get(name)
            .ok_or_else(|| missing(view, object.keys(), name))
    })
}

/// Makes columns of the rows of these numbers, given the value of a row and field, or why
/// there is none.
pub(crate) fn decode_rows<'a>(
    view: &ViewDef,
    rows: &[usize],
    value: impl Fn(usize, &str) -> Result<&'a Json, String>,
) -> Result<Request> {
    let column = |field: &Field| decode_column(field, rows, |row| value(row, &field.name));
    Ok(Request {
        rows: rows.len(),
        columns: view.inputs.iter().map(column).collect::<Result<_>>()?,
    })
}

/// Makes a column of the rows of these numbers.
pub(crate) fn decode_column<'a>(
    field: &Field,
    rows: &[usize],
    value: impl Fn(usize) -> Result<&'a Json, String>,
) -> Result<ArrayRef> {
    let mut builder = ColumnBuilder::new(&field.data_type, rows.len());
    for row in rows {
        let appended = match value(*row) {
            Ok(Json::Null) if !field.nullable => Err("is null, and a function needs it".to_owned()),
            Ok(value) => builder.append_json(value),
            Err(message) => Err(message),
        };
        appended.map_err(|message| {
            let what = &field.data_type;
            Error::invalid(format!(
                "row {row}: field `{}` ({what}): {message}",
                field.name
            ))
        })?;
    }
    Ok(builder.finish())
}

/// What is said of a field that is not given.
pub(crate) fn missing<'a>(
    view: &ViewDef,
    given: impl Iterator<Item = &'a String>,
    name: &str,
) -> String {
    let unused = given.filter(|key| !view.inputs.iter().any(|f| f.name == **key));
    match nearest(name, unused.map(String::as_str)) {
        Some(nearest) => format!("is missing; is `{nearest}` meant?"),
        None => "is missing".to_owned(),
    }
}

/// Adds the keys of a lookup's entities, each once. For each row the place of its entity
/// among them; none where a join key is null.
fn entities(lookup: &Lookup, request: &Request, keys: &mut Vec<OnlineKey>) -> Vec<Option<u32>> {
    let columns = lookup.keys.iter();
    let columns: Vec<ArrayRef> = columns
        .map(|key| Arc::clone(&request.columns[*key]))
        .collect();
    let mut known: HashMap<EntityKey, u32> = HashMap::new();
    let mut place = |row| {
        // A null key matches nothing; neither does one too long to be stored.
        let entity = entity_key(&columns, row).ok()?;
        let next = known.len() as u32;
        let place = *known.entry(entity.clone()).or_insert(next);
        if place == next {
            keys.push(OnlineKey {
                group: lookup.table.clone(),
                entity,
            });
        }
        Some(place)
    };
    (0..request.rows).map(&mut place).collect()
}

/// Feature vectors, and all columns that there are then.
pub(crate) fn assemble(serving: &Serving, read: Read) -> Result<(Vectors, Readable)> {
    let Read {
        request,
        places,
        found,
        now,
    } = read;
    let mut vectors = Vectors {
        rows: request.rows,
        features: Vec::new(),
        lookups: Vec::new(),
        errors: Vec::new(),
    };
    for ((lookup, places), rows) in serving.lookups.iter().zip(places).zip(found) {
        add_lookup(&mut vectors, lookup, places, rows, now)?;
    }
    let mut columns = Readable::new();
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
    Ok((vectors, columns))
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
                // Columns may have been added since these were known; nothing else changes
                // within a version of a group.
                let known = fingerprints.get(count);
                if known.is_some_and(|known| *known != row.fingerprint) {
                    let message =
                        format!("a row of `{}` was written with other columns", self.table);
                    return Err(Error::new(Kind::Internal, message));
                }
                decode_leading(&row.values, builders).map_err(damaged)
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
    places: Vec<Option<u32>>,
    rows: Vec<Option<OnlineRow>>,
    now: Timestamp,
) -> Result<()> {
    let group = &lookup.group;
    let mut builders: Vec<_> = group
        .features()
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, rows.len()))
        .collect();
    let mut statuses = Vec::with_capacity(rows.len());
    for row in &rows {
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
    }
    let found = Found {
        alias: lookup.alias.clone(),
        places,
        rows,
        status: statuses,
    };
    let columns: Vec<ArrayRef> = builders.iter_mut().map(ColumnBuilder::finish).collect();
    for (index, name) in &lookup.features {
        let values = found.for_each_row(&columns[*index]);
        let status = (0..values.len()).map(|row| with_null(found.status(row), &values, row));
        vectors.features.push(Feature {
            name: name.clone(),
            status: status.collect(),
            lookup: Some(vectors.lookups.len()),
            values,
        });
    }
    vectors.lookups.push(found);
    Ok(())
}

fn with_null(status: Status, values: &ArrayRef, row: usize) -> Status {
    if status == Status::Present && values.is_null(row) {
        Status::Null
    } else {
        status
    }
}

fn add_function(vectors: &mut Vectors, columns: &mut Readable, function: &Function) -> Result<()> {
    let signature = function.signature();
    let inputs: Vec<ArrayRef> = signature
        .inputs
        .fields()
        .iter()
        .map(|f| widen(&columns[&f.name], &f.data_type))
        .collect();
    let output = function.invoke(&inputs, Deadline::Request)?;
    let fields = signature.outputs.fields().iter();
    for (field, values) in fields.zip(of_good_rows(&output)) {
        let status = (0..values.len())
            .map(|row| {
                if output.has_failed(row) {
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
            lookup: None,
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

/// What a function answered, with nulls for rows that failed: what these hold means nothing,
/// and must not get out.
pub(crate) fn of_good_rows(output: &Output) -> Vec<ArrayRef> {
    let columns = output.columns.iter();
    match output.row_errors.is_empty() {
        true => columns.cloned().collect(),
        false => columns
            .map(|column| nulled(column, &|row| output.has_failed(row)))
            .collect(),
    }
}

/// The column with nulls at some rows.
pub(crate) fn nulled(column: &ArrayRef, at: &impl Fn(usize) -> bool) -> ArrayRef {
    let rows: UInt32Array = (0..column.len())
        .map(|row| (!at(row)).then_some(row as u32))
        .collect();
    arrow_select::take::take(column, &rows, None).expect("the rows are the column's")
}
