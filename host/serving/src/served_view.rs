//! Views that are resolved for serving, and the steps of a request that need no I/O: decoding the
//! request, encoding the keys, unpacking the stored rows, and calling the on-demand functions.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow_array::ArrayRef;
use serde_json::Value as Json;
use wafer_catalog::{
    Applied, FunctionDef, GroupDef, Readable, Recipe, ViewDef, feature_name, fingerprint, meant,
    of_good_rows,
};
use wafer_core::aggregate::{self, ItemIdentity, ItemLayout};
use wafer_core::rules::is_expired;
use wafer_core::{
    ColumnBuilder, DamagedError, DataType, Duration, EntityKey, Field, Timestamp, decode_leading,
    entity_key, packed_columns, widen,
};
use wafer_runtime::Function;
use wafer_store::{Error, Kind, OnlineKey, OnlineRow, Result};

use crate::found::{RequestMemory, RequestSize};
use crate::vectors::{Feature, LookupResult, Status, Vectors};

/// A version of a view, resolved once for all requests.
#[derive(Debug)]
pub(crate) struct ServedView {
    pub(crate) view: ViewDef,
    pub(crate) lookups: Vec<Lookup>,
    /// The on-demand functions, in the order in which they are called.
    pub(crate) functions: Vec<Function>,
}

/// A lookup of the view.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) alias: String,
    group: GroupDef,
    table: String,
    /// How the online store holds the group.
    form: OnlineForm,
    /// Positions of the join keys among the view's inputs.
    keys: Vec<usize>,
    /// Positions of the looked-up features in the group, and their names in the view.
    pub(crate) features: Vec<(usize, String)>,
}

/// The form in which the online store holds the entities of a group.
#[derive(Debug)]
enum OnlineForm {
    /// The newest row. The fingerprint at index `n` is that of the schema with the group's first
    /// `n` columns.
    Row(Vec<u64>),
    /// The summary of the events.
    Item(ItemLayout),
}

/// The rows of a request as columns.
pub(crate) struct RequestColumns {
    /// The number of rows.
    pub(crate) rows: usize,
    /// The columns in the order of the view's inputs.
    pub(crate) columns: Vec<ArrayRef>,
}

/// A request with the rows that were read for it.
pub(crate) struct LookedUpRequest {
    pub(crate) request: RequestColumns,
    /// For each lookup, and each row of the request, the index of the row's entity in `found`.
    pub(crate) entity_indices: Vec<Vec<Option<u32>>>,
    /// For each lookup, and each of its entities, the stored row.
    pub(crate) found: Vec<Vec<Option<OnlineRow>>>,
    pub(crate) now: Timestamp,
}

impl LookedUpRequest {
    /// Returns the bytes of the values that were read.
    fn stored_bytes(&self) -> u64 {
        let rows = self.found.iter().flatten().flatten();
        rows.map(|row| row.values.len() as u64).sum()
    }
}

impl ServedView {
    /// Resolves a version of a view. `load` loads its functions.
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
            let position = |key: &String| view.inputs.iter().position(|f| f.name == *key);
            let position = |key| position(key).expect("the view was resolved with its keys");
            let all = group.features();
            let feature = |index: &usize| (*index, feature_name(&lookup.alias, &all[*index].name));
            let prefix = |length| fingerprint(&group.columns[..length]);
            let form = match group.layout() {
                Some(layout) => OnlineForm::Item(layout),
                None => OnlineForm::Row((0..=group.columns.len()).map(prefix).collect()),
            };
            Lookup {
                alias: lookup.alias.clone(),
                table: group.table(),
                form,
                keys: lookup.keys.iter().map(position).collect(),
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

    /// Returns the definition of the view.
    pub(crate) fn definition(&self) -> &ViewDef {
        &self.view
    }
}

/// Decodes rows that are JSON objects.
pub(crate) fn decode(view: &ViewDef, rows: &[Json]) -> Result<RequestColumns> {
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
            .ok_or_else(|| missing_message(view, object.keys(), name))
    })
}

/// Decodes the rows with the numbers `rows`. `value` returns the value of a row and field, or the
/// reason why there is none.
pub(crate) fn decode_rows<'a>(
    view: &ViewDef,
    rows: &[usize],
    value: impl Fn(usize, &str) -> Result<&'a Json, String>,
) -> Result<RequestColumns> {
    let column = |field: &Field| decode_column(field, rows, |row| value(row, &field.name));
    Ok(RequestColumns {
        rows: rows.len(),
        columns: view.inputs.iter().map(column).collect::<Result<_>>()?,
    })
}

/// Decodes one field of the rows with the numbers `rows`.
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

/// Returns the message for a field that a request lacks. It suggests a similar name among the
/// given ones that the view does not use.
pub(crate) fn missing_message<'a>(
    view: &ViewDef,
    given: impl Iterator<Item = &'a String>,
    name: &str,
) -> String {
    let unused = given.filter(|key| !view.inputs.iter().any(|f| f.name == **key));
    format!("is missing{}", meant(name, unused.map(String::as_str)))
}

/// Appends the keys of a lookup's distinct entities to `keys`. Returns for each row of the request
/// the index of its entity, counted from the first appended key, or `None` if the row has no key
/// that can be looked up.
pub(crate) fn add_entity_keys(
    lookup: &Lookup,
    request: &RequestColumns,
    keys: &mut Vec<OnlineKey>,
) -> Vec<Option<u32>> {
    let columns = lookup.keys.iter();
    let columns: Vec<ArrayRef> = columns
        .map(|key| Arc::clone(&request.columns[*key]))
        .collect();
    let mut known: HashMap<EntityKey, u32> = HashMap::new();
    let mut index_of = |row| {
        // No entity has a null key, or one that is too long to be stored.
        let entity = entity_key(&columns, row).ok()?;
        let next = known.len() as u32;
        let index = *known.entry(entity.clone()).or_insert(next);
        if index == next {
            keys.push(OnlineKey {
                group: lookup.table.clone(),
                entity,
            });
        }
        Some(index)
    };
    (0..request.rows).map(&mut index_of).collect()
}

/// Unpacks the stored rows and calls the on-demand functions. Returns the feature vectors, all
/// columns that a model can read, and the size of all these. Runs guest code.
///
/// # Errors
/// Returns [`Kind::Invalid`] when the looked-up values take more than a request may look up, and
/// the error of `memory`, before there is a value for each row. Returns the errors of the calls.
pub(crate) fn assemble(
    served: &ServedView,
    read: LookedUpRequest,
    memory: RequestMemory,
) -> Result<(Vectors, Readable, RequestSize)> {
    let stored = read.stored_bytes();
    let LookedUpRequest {
        request,
        entity_indices,
        found,
        now,
    } = read;
    let mut vectors = Vectors {
        rows: request.rows,
        features: Vec::new(),
        lookups: Vec::new(),
        errors: Vec::new(),
        found_bytes: 0,
        made_bytes: 0,
    };
    let mut size = RequestSize::new(memory, stored, request.rows);
    for ((lookup, entity_indices), rows) in served.lookups.iter().zip(entity_indices).zip(found) {
        let entities = FoundEntities {
            indices: entity_indices,
            rows,
        };
        add_lookup(&mut vectors, lookup, entities, now, &mut size)?;
    }
    vectors.found_bytes = size.bytes();
    let mut columns = Readable::new();
    for (field, column) in served.view.inputs.iter().zip(&request.columns) {
        columns.insert(field.name.clone(), Arc::clone(column));
    }
    for feature in &vectors.features {
        // Functions read a field of the request, and not a feature, of the same name.
        columns
            .entry(feature.name.clone())
            .or_insert_with(|| Arc::clone(&feature.values));
    }
    for function in &served.functions {
        add_function(&mut vectors, &mut columns, function, &mut size)?;
    }
    vectors.made_bytes = size.made();
    Ok((vectors, columns, size))
}

impl Lookup {
    /// Appends the features of a stored row to the builders.
    fn decode(
        &self,
        row: &OnlineRow,
        now: Timestamp,
        builders: &mut [ColumnBuilder],
    ) -> Result<()> {
        let damaged = |e: DamagedError| {
            let message = format!("a stored row of `{}` cannot be read", self.table);
            Error::caused(Kind::Corrupt, message, e)
        };
        match &self.form {
            OnlineForm::Row(fingerprints) => {
                let count = packed_columns(&row.values).map_err(damaged)?;
                // A row with more columns than are known here was written by newer definitions.
                // Within a version of a group, columns are only added at the end, so the known
                // ones can still be read.
                let known = fingerprints.get(count);
                if known.is_some_and(|known| *known != row.fingerprint) {
                    let message =
                        format!("a row of `{}` was written with other columns", self.table);
                    return Err(Error::new(Kind::Internal, message));
                }
                decode_leading(&row.values, builders).map_err(damaged)
            }
            OnlineForm::Item(layout) => {
                let answers = aggregate::read(layout, &row.values, now).map_err(damaged)?;
                for (answer, builder) in answers.iter().zip(builders) {
                    builder.append_aggregate(answer);
                }
                Ok(())
            }
        }
    }
}

/// The entities that a lookup asked for, with their stored rows.
struct FoundEntities {
    /// For each row of the request, the index of its entity in `rows`.
    indices: Vec<Option<u32>>,
    rows: Vec<Option<OnlineRow>>,
}

impl FoundEntities {
    /// Returns for each entity the number of rows of the request that ask for it.
    fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.rows.len()];
        for index in self.indices.iter().flatten() {
            counts[*index as usize] += 1;
        }
        counts
    }
}

/// Adds the features of one lookup to the vectors.
fn add_lookup(
    vectors: &mut Vectors,
    lookup: &Lookup,
    mut entities: FoundEntities,
    now: Timestamp,
    size: &mut RequestSize,
) -> Result<()> {
    let group = &lookup.group;
    let fields = group.features();
    size.add(missing_bytes(lookup, &fields, &entities.indices))?;
    let counts = entities.counts();
    let rows = &mut entities.rows;
    let mut builders: Vec<_> = fields
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, rows.len()))
        .collect();
    let mut statuses = Vec::with_capacity(rows.len());
    let mut identities = Vec::new();
    let mut before = BuiltSize::default();
    for (row, count) in rows.iter_mut().zip(counts) {
        let status = entity_status(row.as_ref(), group.ttl, now);
        match (row.as_ref(), status) {
            (Some(row), Status::Present) => {
                size.unpack(row.values.len())?;
                lookup.decode(row, now, &mut builders)?;
            }
            _ => builders.iter_mut().for_each(ColumnBuilder::append_null),
        }
        // Its values are in the columns now, and only its version is read from here on.
        let stored = row.as_mut().map(|row| std::mem::take(&mut row.values));
        if let OnlineForm::Item(_) = &lookup.form {
            let item = stored.as_ref().filter(|_| status == Status::Present);
            identities.push(item.map(|item| ItemIdentity::of(item)));
        }
        size.unpacked(stored.map_or(0, |stored| stored.len()));
        let built = BuiltSize::of(lookup, &builders);
        size.add(built.since(before).repeated(count))?;
        before = built;
        statuses.push(status);
    }
    let found = LookupResult {
        alias: lookup.alias.clone(),
        entity_indices: entities.indices,
        rows: entities.rows,
        event_identities: identities,
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

/// Returns the bytes of the nulls of the rows of a request that have no entity. A null vector takes
/// as much as any other.
fn missing_bytes(lookup: &Lookup, fields: &[Field], entity_indices: &[Option<u32>]) -> u64 {
    let missing = entity_indices.iter().filter(|index| index.is_none());
    let wanted = lookup.features.iter();
    let null = wanted.map(|(index, _)| match fields[*index].data_type {
        DataType::Vector(n) => 4 * u64::from(n),
        _ => 0,
    });
    null.sum::<u64>() * missing.count() as u64
}

/// The size of the values of a lookup that were unpacked, with one row for each entity.
#[derive(Clone, Copy, Default)]
struct BuiltSize {
    /// The bytes of all columns of the group.
    all: u64,
    /// The bytes of the columns that the view looks up.
    wanted: u64,
}

impl BuiltSize {
    fn of(lookup: &Lookup, builders: &[ColumnBuilder]) -> Self {
        let wanted = lookup.features.iter();
        Self {
            all: builders.iter().map(ColumnBuilder::bytes).sum(),
            wanted: wanted.map(|(index, _)| builders[*index].bytes()).sum(),
        }
    }

    /// Returns what was unpacked since an earlier size.
    fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            wanted: self.wanted - before.wanted,
        }
    }

    /// Returns what an entity takes that so many rows of a request ask for.
    fn repeated(self, count: u64) -> u64 {
        let more = self.wanted.saturating_mul(count.saturating_sub(1));
        self.all.saturating_add(more)
    }
}

/// Returns the status of an entity whose stored row is `row`.
fn entity_status(row: Option<&OnlineRow>, ttl: Option<Duration>, now: Timestamp) -> Status {
    match row {
        None => Status::NotFound,
        Some(row) if is_expired(row.version.event, ttl, now) => Status::Expired,
        Some(_) => Status::Present,
    }
}

/// Returns [`Status::Null`] for a present value that is null, and otherwise the status itself.
fn with_null(status: Status, values: &ArrayRef, row: usize) -> Status {
    if status == Status::Present && values.is_null(row) {
        Status::Null
    } else {
        status
    }
}

/// Calls an on-demand function for all rows, and adds its outputs to the vectors and columns.
fn add_function(
    vectors: &mut Vectors,
    columns: &mut Readable,
    function: &Function,
    size: &mut RequestSize,
) -> Result<()> {
    let signature = function.signature();
    let inputs: Vec<ArrayRef> = signature
        .inputs
        .fields()
        .iter()
        .map(|f| widen(&columns[&f.name], &f.data_type))
        .collect();
    let output = size.invoke(function, &inputs)?;
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

/// A cache of resolved views, for one state of the applied definitions.
#[derive(Debug, Default)]
pub(crate) struct ViewCache(RwLock<CachedViews>);

#[derive(Debug, Default)]
struct CachedViews {
    /// The definitions that the views were resolved by.
    applied: Option<Arc<Applied>>,
    views: HashMap<String, Arc<ServedView>>,
}

impl CachedViews {
    /// Returns whether the views were resolved by these definitions.
    fn belong_to(&self, applied: &Arc<Applied>) -> bool {
        let own = self.applied.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, applied))
    }
}

impl ViewCache {
    /// Returns a view if it was resolved by these definitions.
    pub(crate) fn get(&self, applied: &Arc<Applied>, name: &str) -> Option<Arc<ServedView>> {
        let cached = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let view = cached.views.get(name).filter(|_| cached.belong_to(applied));
        view.cloned()
    }

    /// Caches a view, and drops the views of other definitions. If `applied` was replaced while
    /// the view was resolved, the next insertion drops the view.
    pub(crate) fn insert(&self, applied: &Arc<Applied>, name: &str, view: &Arc<ServedView>) {
        let mut cached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !cached.belong_to(applied) {
            *cached = CachedViews {
                applied: Some(Arc::clone(applied)),
                views: HashMap::new(),
            };
        }
        cached.views.insert(name.to_owned(), Arc::clone(view));
    }
}

#[cfg(test)]
mod tests;
