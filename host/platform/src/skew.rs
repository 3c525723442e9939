//! Training/serving skew: the values that an endpoint logged, compared with those that a training
//! set of the same requests would have.
//!
//! [`Platform::skew`] writes the logged rows of each release to a file, and joins them as labels,
//! by the code that makes training sets. For each lookup, the log says which row it found (event
//! time, created time and identity) or, for windows, a hash of the stored summary, which depends
//! only on the set of its events. The join returns the same identities, and each value is judged
//! by them:
//!
//! - If the identities are equal, the values must be equal in every bit. A value that differs is a
//!   mismatch.
//! - If they differ, as when an event reached the tables after the request, the values may differ.
//!   This is a difference in timing, which is counted apart.
//!
//! The on-demand functions and the model are called again on the logged values. An output that
//! differs is a mismatch. So is an output that the log has as failed and that does not fail now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use arrow_select::filter::filter_record_batch;
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value as Json;
use wafer_catalog::{
    Progress, Readable, Recipe, SYSTEM_COLUMNS, TableDef, blocking, call, nulled, of_good_rows,
    readable, temporary_folder,
};
use wafer_core::rules::Interval;
use wafer_core::{DataType, Field, Timestamp, cell_to_json, coerce, encode_row, widen};
use wafer_files::OutputFile;
use wafer_registry::BoundRelease;
use wafer_runtime::{Function, failed_row};
use wafer_serving::{LogTable, is_log_of};
use wafer_store::{AsOf, Error, Kind, Result, TableSnapshot};
use wafer_tables::stored_column;
use wafer_training::{RejoinRequest, Rejoined, RejoinedBatch};

use crate::Platform;

/// The number of differences that are kept as examples of each value.
const EXAMPLES: usize = 3;

/// Name of the column with the requests' times in the file that is joined. The names of all other
/// columns that are not inputs begin with `#` as well, because the name of an input cannot.
const TIME: &str = "#time";

/// The logged requests to compare.
#[derive(Clone, Debug)]
pub struct SkewRequest {
    /// Name of the endpoint.
    pub endpoint: String,
    /// The times of the requests to compare.
    pub interval: Interval,
    /// Bytes of memory that the join may use.
    pub memory: u64,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewReport {
    /// Name of the endpoint.
    pub endpoint: String,
    /// The number of logged rows that were compared.
    pub rows: u64,
    /// The number of values that differ although they were computed from the same rows or events.
    /// There should be none.
    pub mismatches: u64,
    /// The comparison of each release and log table.
    pub releases: Vec<ReleaseSkew>,
}

/// The comparison of what one release logged to one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReleaseSkew {
    /// Name of the release.
    pub release: String,
    /// Name of the table that it was logged to.
    pub table: String,
    /// The number of logged rows.
    pub rows: u64,
    /// Time of the first logged row.
    pub from: Timestamp,
    /// Time of the last logged row.
    pub to: Timestamp,
    /// For each lookup, by its alias, the number of rows for which another row, or other events,
    /// are found now.
    pub other_identity: BTreeMap<String, u64>,
    /// The features of the view, in its order, followed by the outputs of the model.
    pub values: Vec<ValueSkew>,
}

/// The comparison of a feature or of an output of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueSkew {
    /// Name of the feature or output.
    pub name: String,
    /// The number of rows whose values differ although they were computed from the same rows or
    /// events.
    pub mismatches: u64,
    /// The number of rows whose values differ because other rows or events are found now.
    pub timing: u64,
    /// Up to three of the differences, mismatches first.
    pub examples: Vec<SkewExample>,
}

/// A logged value that differs from the present one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewExample {
    /// Id of the request.
    pub request: String,
    /// Number of the row in the request, from 0.
    pub row: i64,
    /// Time of the request.
    pub time: Timestamp,
    /// Whether the difference is a mismatch, and not one in timing.
    pub is_mismatch: bool,
    /// The value that was logged.
    pub logged: Json,
    /// The value that is found or computed now.
    pub offline: Json,
}

impl Platform {
    /// Compares the values that an endpoint logged with those that a training set would have, bit
    /// by bit. Runs guest code.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown endpoint and for one that logged nothing in the
    /// interval, and [`Kind::Internal`] when a table of its view is gone.
    pub async fn skew(
        &self,
        request: &SkewRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<SkewReport> {
        let endpoint = &request.endpoint;
        self.tables.flush_all().await?;
        let tables = self.tables.known_tables().await?.into_iter();
        let tables: Vec<TableDef> = tables.filter(|t| is_log_of(t, endpoint)).collect();
        if tables.is_empty() {
            // This returns an error if there is no such endpoint.
            self.serving.endpoint(endpoint).await?;
        }
        let mut report = SkewReport {
            endpoint: endpoint.clone(),
            rows: 0,
            mismatches: 0,
            releases: Vec::new(),
        };
        for table in tables {
            let offline = &self.context.components().stores.offline;
            let snapshot = match offline.snapshot(&table.name, AsOf::Latest).await {
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            for release in releases(&table, &snapshot, request.interval).await? {
                progress.stage(&format!("reading what `{release}` logged"));
                let logged = Logged {
                    table: &table,
                    snapshot: &snapshot,
                    release: &release,
                };
                let skew = self.release_skew(logged, request, progress).await?;
                report.releases.extend((skew.rows > 0).then_some(skew));
            }
        }
        if report.releases.is_empty() {
            let message = format!(
                "endpoint `{endpoint}` has logged nothing in that time: either nobody asked it, or none of \
                 the keys are in the sample, which is a tenth of them by default; log more of them with \
                 `wafer endpoints set {endpoint} … --log PERCENT`"
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        for release in &report.releases {
            report.rows += release.rows;
            let values = release.values.iter();
            report.mismatches += values.map(|value| value.mismatches).sum::<u64>();
        }
        Ok(report)
    }

    /// Compares the rows that one release logged to one table.
    async fn release_skew(
        &self,
        logged: Logged<'_>,
        request: &SkewRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<ReleaseSkew> {
        let release = self.registry.release(logged.release).await?;
        let BoundRelease { recipe, model } = self.registry.bound(&release).await?;
        let log = LogTable::new(&request.endpoint, &recipe, model.outputs())?;
        let folder = temporary_folder()?;
        let path = folder.path().join("logged.parquet");
        let columns = log.inputs().iter().map(|field| field.name.clone());
        let inputs = recipe.view.inputs.iter().map(|field| field.name.clone());
        let inputs = columns.zip(inputs).collect();
        let mut skew = logged.write(&inputs, request.interval, &path).await?;
        let rejoin = RejoinRequest {
            snapshots: self.tables.snapshots(&recipe, AsOf::Latest).await?,
            recipe: recipe.clone(),
            view: &release.view,
            rows: &path,
            time: TIME,
            identities: true,
            memory: request.memory,
        };
        let rejoined = self.training.rejoin(rejoin, progress).await?;
        progress.stage("comparing");
        let functions = recipe.view.functions.iter();
        let functions = functions.map(|f| {
            self.context
                .load_function(&f.function, &recipe.functions[&f.function])
        });
        let comparison = Comparison {
            functions: functions.collect::<Result<_>>()?,
            model: self
                .context
                .load_function(&model.function_name, &model.function)?,
            recipe,
            log,
        };
        let progress = Arc::clone(progress);
        blocking(move || {
            comparison.compare_all(rejoined, &mut skew, &progress)?;
            Ok(skew)
        })
        .await?
    }
}

/// The rows that a release logged to a table.
struct Logged<'a> {
    table: &'a TableDef,
    snapshot: &'a TableSnapshot,
    release: &'a str,
}

/// Returns the names of the releases that logged to a table. Releases that logged to it outside of
/// the interval only may be among them.
async fn releases(
    table: &TableDef,
    snapshot: &TableSnapshot,
    interval: Interval,
) -> Result<BTreeSet<String>> {
    let column = Field::new("log_release", DataType::Utf8, true);
    let wanted = vec![SYSTEM_COLUMNS[0].to_owned(), column.name.clone()];
    let mut batches = snapshot.read_all(snapshot.files().to_vec(), wanted, interval);
    let mut releases = BTreeSet::new();
    while let Some(batch) = batches.try_next().await? {
        let names = stored_column(table, &batch, &column)?;
        let names = names.as_string::<i32>().iter().flatten();
        for name in names {
            if !releases.contains(name) {
                releases.insert(name.to_owned());
            }
        }
    }
    Ok(releases)
}

impl Logged<'_> {
    /// Writes the rows to a file that can be joined. Returns a comparison with their number and
    /// times, and without values.
    ///
    /// `inputs` has the names of the view's inputs by those of their columns in the log. In the
    /// file, inputs have their own names, the time is [`TIME`], and all other columns have a `#`
    /// before their names.
    async fn write(
        &self,
        inputs: &BTreeMap<String, String>,
        interval: Interval,
        path: &Path,
    ) -> Result<ReleaseSkew> {
        let schema = self.table.schema();
        let fields: Vec<&Field> = schema.fields().iter().collect();
        let name = |field: &Field| match inputs.get(&field.name) {
            Some(input) => input.clone(),
            None if field.name == SYSTEM_COLUMNS[0] => TIME.to_owned(),
            None => format!("#{}", field.name),
        };
        let arrow = fields
            .iter()
            .map(|f| ArrowField::new(name(f), f.data_type.to_arrow(), true));
        let arrow = Arc::new(ArrowSchema::new(arrow.collect::<Vec<_>>()));
        let mut output = OutputFile::create(path, &arrow)?;
        let mut files = self.snapshot.files().to_vec();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let columns = fields.iter().map(|f| f.name.clone()).collect();
        let mut batches = self.snapshot.read_all(files, columns, interval);
        let mut skew = ReleaseSkew {
            release: self.release.to_owned(),
            table: self.table.name.clone(),
            rows: 0,
            from: Timestamp::MAX,
            to: Timestamp::MIN,
            other_identity: BTreeMap::new(),
            values: Vec::new(),
        };
        while let Some(batch) = batches.try_next().await? {
            let columns = fields.iter();
            let columns = columns.map(|field| stored_column(self.table, &batch, field));
            let batch =
                RecordBatch::try_new(Arc::clone(&arrow), columns.collect::<Result<_>>()?)
                    .map_err(|e| Error::caused(Kind::Internal, "cannot assemble logged rows", e))?;
            let release = batch["#log_release"].as_string::<i32>();
            // Reading skips whole files by the interval, so single rows are filtered here.
            let own = release.iter().zip(times(&batch));
            let own: BooleanArray = own
                .map(|(release, time)| {
                    Some(release == Some(self.release) && interval.contains(time))
                })
                .collect();
            let batch = filter_record_batch(&batch, &own).expect("as many bits as rows");
            for time in times(&batch) {
                skew.from = skew.from.min(time);
                skew.to = skew.to.max(time);
            }
            skew.rows += batch.num_rows() as u64;
            tokio::task::block_in_place(|| output.write(&batch))?;
        }
        tokio::task::block_in_place(|| output.close())?;
        Ok(skew)
    }
}

/// Returns the times of the requests of logged rows.
fn times(batch: &RecordBatch) -> impl Iterator<Item = Timestamp> {
    let times = batch[TIME].as_primitive::<arrow_array::types::TimestampMicrosecondType>();
    times.values().iter().map(|t| Timestamp::from_micros(*t))
}

/// The definitions and functions that a release's logged values are compared by.
struct Comparison {
    recipe: Recipe,
    functions: Vec<Function>,
    model: Function,
    log: LogTable,
}

/// The result of calling functions again on logged features.
struct CalledAgain {
    /// The columns that the model reads.
    known: Readable,
    /// The rows that a function failed on.
    failed: BTreeSet<usize>,
}

impl Comparison {
    /// Compares all logged rows.
    fn compare_all(
        &self,
        rejoined: Rejoined,
        skew: &mut ReleaseSkew,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        let names = self.recipe.outputs().into_iter();
        let names = names.chain(self.model.signature().outputs.fields().iter().cloned());
        let values = names.map(|field| ValueSkew {
            name: field.name,
            mismatches: 0,
            timing: 0,
            examples: Vec::new(),
        });
        skew.values = values.collect();
        for batch in rejoined.batches()? {
            let batch = batch?;
            let read = batch.first + batch.rows.num_rows() as u64;
            self.compare(&batch, skew)?;
            progress.read(read, Some(skew.rows));
        }
        Ok(())
    }

    /// Compares a batch of logged rows with the features that were joined to them.
    fn compare(&self, batch: &RejoinedBatch, skew: &mut ReleaseSkew) -> Result<()> {
        let features = all_logged(&batch.rows, self.log.features())?;
        let (looked_up, computed) = features.split_at(self.looked_up_count());
        let (of_lookups, others) = skew.values.split_at_mut(looked_up.len());
        let (of_functions, of_model) = others.split_at_mut(computed.len());
        self.compare_lookups(batch, looked_up, of_lookups, &mut skew.other_identity)?;
        let again = self.compare_functions(batch, looked_up, computed, of_functions)?;
        self.compare_model(batch, &again, of_model)
    }

    /// Compares the logged features that were looked up with those that the join found, and counts
    /// the rows for which it found other ones than were served.
    fn compare_lookups(
        &self,
        batch: &RejoinedBatch,
        looked_up: &[ArrayRef],
        values: &mut [ValueSkew],
        other_identity: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        let found = all_logged(&batch.rows, self.log.lookups())?;
        let identities = found.iter().skip(1).step_by(2);
        let lookups = self.recipe.view.lookups.iter().zip(&batch.lookups);
        let mut values = looked_up.iter().zip(values);
        for ((lookup, columns), then) in lookups.zip(identities) {
            let (now, features) = columns.split_last().expect("an identity is there");
            let others = differing(then, now);
            let counted = other_identity.entry(lookup.alias.clone()).or_default();
            *counted += others.len() as u64;
            for feature in features {
                let (logged, value) = values.next().expect("one for each feature");
                for row in differing(logged, feature) {
                    let difference = match others.binary_search(&row) {
                        Ok(_) => Difference::Timing,
                        Err(_) => Difference::Mismatch,
                    };
                    value.note(&batch.rows, row, (logged, feature), difference);
                }
            }
        }
        Ok(())
    }

    /// Compares the logged outputs of functions. They are computed again from the logged features,
    /// where a difference is a mismatch, and from the features that the join found, where another
    /// difference is one in timing.
    fn compare_functions(
        &self,
        batch: &RejoinedBatch,
        looked_up: &[ArrayRef],
        computed: &[ArrayRef],
        values: &mut [ValueSkew],
    ) -> Result<CalledAgain> {
        let recipe = &self.recipe;
        let mut known = readable(recipe, &batch.inputs, looked_up.iter().cloned());
        let mut failed = BTreeSet::new();
        let again = call(&self.functions, &mut known, |_, row, _| {
            failed.insert(row as usize);
        });
        let again = again.map_err(|e| failure(&batch.rows, e))?;
        let found = batch.lookups.iter().flat_map(|columns| {
            let (_, features) = columns.split_last().expect("an identity is there");
            features.iter().cloned()
        });
        let mut offline = readable(recipe, &batch.inputs, found);
        let offline = call(&self.functions, &mut offline, |_, _, _| {});
        let offline = offline.map_err(|e| failure(&batch.rows, e))?;
        for (place, (logged, value)) in computed.iter().zip(values).enumerate() {
            let wrong = differing(logged, &again[place]);
            for row in &wrong {
                value.note(
                    &batch.rows,
                    *row,
                    (logged, &again[place]),
                    Difference::Mismatch,
                );
            }
            let others = differing(logged, &offline[place]).into_iter();
            for row in others.filter(|row| wrong.binary_search(row).is_err()) {
                value.note(
                    &batch.rows,
                    row,
                    (logged, &offline[place]),
                    Difference::Timing,
                );
            }
        }
        Ok(CalledAgain { known, failed })
    }

    /// Compares the logged outputs of the model with those that it has for the logged features. A
    /// difference is a mismatch.
    fn compare_model(
        &self,
        batch: &RejoinedBatch,
        again: &CalledAgain,
        values: &mut [ValueSkew],
    ) -> Result<()> {
        let fields = self.model.signature().inputs.fields().iter();
        let inputs = fields.map(|f| widen(&again.known[&f.name], &f.data_type));
        let answer = self.model.invoke_rows(&inputs.collect::<Vec<ArrayRef>>());
        let answer = answer.map_err(|e| failure(&batch.rows, e.into()))?;
        let errors = logged(&batch.rows, &Field::new("log_error", DataType::Utf8, true))?;
        let outputs = all_logged(&batch.rows, self.log.outputs())?;
        // Rows that the log has as failed, and for which neither a function nor the model fails
        // now.
        let is_other = |row: &usize| {
            errors.is_valid(*row) && !again.failed.contains(row) && !answer.has_failed(*row)
        };
        let others: Vec<usize> = (0..errors.len()).filter(is_other).collect();
        for ((logged, present), value) in outputs.iter().zip(of_good_rows(&answer)).zip(values) {
            // The log has no outputs for a row that failed. The present outputs are left out as
            // well, unless the row does not fail now, which is a mismatch.
            let is_left_out = |row| errors.is_valid(row) && others.binary_search(&row).is_err();
            let present = nulled(&present, &is_left_out);
            for row in differing(logged, &present) {
                value.note(&batch.rows, row, (logged, &present), Difference::Mismatch);
            }
        }
        Ok(())
    }

    /// Returns the number of looked-up features.
    fn looked_up_count(&self) -> usize {
        let lookups = self.recipe.view.lookups.iter();
        lookups.map(|lookup| lookup.features.len()).sum()
    }
}

/// Why a logged value and the present one differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// They were made of the same rows and events.
    Mismatch,
    /// Other rows or events were there when the request came.
    Timing,
}

impl ValueSkew {
    /// Counts a difference between a logged value and the present one, and keeps it as an
    /// example if there is room.
    fn note(
        &mut self,
        rows: &RecordBatch,
        row: usize,
        (logged, offline): (&ArrayRef, &ArrayRef),
        difference: Difference,
    ) {
        let is_mismatch = difference == Difference::Mismatch;
        match difference {
            Difference::Mismatch => self.mismatches += 1,
            Difference::Timing => self.timing += 1,
        }
        if self.examples.len() == EXAMPLES {
            // A mismatch takes the place of an example of a difference in timing.
            match self
                .examples
                .iter()
                .rposition(|example| !example.is_mismatch)
            {
                Some(place) if is_mismatch => drop(self.examples.remove(place)),
                _ => return,
            }
        }
        let example = SkewExample {
            request: request_of(rows, row).to_owned(),
            row: number_of(rows, row),
            time: times(rows).nth(row).expect("a row of the batch"),
            is_mismatch,
            logged: cell_to_json(logged, row),
            offline: cell_to_json(offline, row),
        };
        self.examples.push(example);
        self.examples.sort_by_key(|example| !example.is_mismatch);
    }
}

/// Returns the id of the request that a logged row belongs to.
fn request_of(rows: &RecordBatch, row: usize) -> &str {
    rows["#log_request"].as_string::<i32>().value(row)
}

/// Returns the number of a logged row in its request, from 0.
fn number_of(rows: &RecordBatch, row: usize) -> i64 {
    rows["#log_row"].as_primitive::<Int64Type>().value(row)
}

/// Returns the error of a call on a batch of logged rows, with the row that is to blame, or with
/// the first and the last row of the batch.
fn failure(rows: &RecordBatch, error: Error) -> Error {
    let place = |row| {
        format!(
            "row {} of request `{}`",
            number_of(rows, row),
            request_of(rows, row)
        )
    };
    let place = match (failed_row(&error), rows.num_rows()) {
        (Some(row), _) => format!("logged {}", place(row)),
        (None, 0) => "no logged rows".to_owned(),
        (None, count) => format!("logged rows from {} to {}", place(0), place(count - 1)),
    };
    Error::caused(error.kind(), format!("{place}: {error}"), error)
}

/// Returns the logged columns of these fields of a batch.
fn all_logged(rows: &RecordBatch, fields: &[Field]) -> Result<Vec<ArrayRef>> {
    fields.iter().map(|field| logged(rows, field)).collect()
}

/// Returns a logged column of a batch.
fn logged(rows: &RecordBatch, field: &Field) -> Result<ArrayRef> {
    let name = format!("#{}", field.name);
    let internal = || Error::new(Kind::Internal, format!("column `{name}` was not read"));
    let column = rows.column_by_name(&name).ok_or_else(internal)?;
    coerce(column, &field.data_type)
        .map_err(|e| Error::caused(Kind::Internal, format!("cannot convert column `{name}`"), e))
}

/// Returns the rows, ascending, in which two columns of one type differ in at least one bit.
fn differing(left: &ArrayRef, right: &ArrayRef) -> Vec<usize> {
    if left.to_data() == right.to_data() {
        return Vec::new();
    }
    let bytes = |column: &ArrayRef, row| {
        let mut bytes = Vec::new();
        encode_row(std::slice::from_ref(column), row, &mut bytes);
        bytes
    };
    let is_other = |row: &usize| bytes(left, *row) != bytes(right, *row);
    (0..left.len()).filter(is_other).collect()
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int64Array, StringArray};
    use wafer_runtime::{CallFailure, InvokeError};

    use super::*;

    #[test]
    fn a_failed_call_names_the_logged_row_or_all_rows_that_it_was_for() {
        let requests: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![0, 4, 2]));
        let columns = [("#log_request", requests), ("#log_row", numbers)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        for (row, wanted) in [
            (Some(1), "logged row 4 of request `a`: function `f` "),
            (
                None,
                "logged rows from row 0 of request `a` to row 2 of request `b`: function `f` ",
            ),
        ] {
            let error = InvokeError::Refused {
                function: "f".to_owned(),
                message: "no".to_owned(),
            };
            let found = failure(&rows, CallFailure { row, error }.into());
            assert_eq!(found.kind(), Kind::Function);
            assert!(found.to_string().starts_with(wanted), "{found}");
        }
    }

    #[test]
    fn differing_compares_values_bit_by_bit() {
        let column = |values: Vec<Option<f64>>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let left = column(vec![Some(0.0), None, Some(f64::NAN), Some(1.0), None]);
        let right = column(vec![Some(-0.0), None, Some(f64::NAN), Some(1.0), Some(0.0)]);
        assert_eq!(differing(&left, &right), [0, 4]);
        assert!(differing(&left, &Arc::clone(&left)).is_empty());
    }
}
