//! Training/serving skew: what endpoints looked up and computed, beside what a training set
//! of the same requests would have.
//!
//! Each logged value is judged by the identity of what it was made of. If the offline join
//! finds the same row, or the same events, all values must be the same to the last bit: one
//! that differs is a mismatch. If it finds others, as when an event reached the tables after
//! the request, values may differ: that is a difference in timing. What functions and models
//! computed is computed again from the logged values.

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
    Progress, Recipe, SYSTEM_COLUMNS, TableDef, blocking, call, nulled, of_good_rows, readable,
    temporary_folder,
};
use wafer_core::rules::Interval;
use wafer_core::{DataType, Field, Timestamp, cell_to_json, coerce, encode_row, widen};
use wafer_files::Output;
use wafer_registry::BoundRelease;
use wafer_runtime::{Deadline, Function};
use wafer_serving::{LogTable, is_log_of};
use wafer_store::{AsOf, Error, Kind, Result, TableSnapshot};
use wafer_tables::stored_column;
use wafer_training::{RejoinRequest, Rejoined, RejoinedBatch};

use crate::Platform;

/// Differences that are kept as examples, of each value.
const EXAMPLES: usize = 3;

/// Column of the time in the file that is joined; the others' names begin like it, as no
/// input's can.
const TIME: &str = "#time";

/// What to compare.
#[derive(Clone, Debug)]
pub struct SkewRequest {
    /// The endpoint.
    pub endpoint: String,
    /// Requests of which time.
    pub interval: Interval,
    /// Bytes that the join may use.
    pub memory: u64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewReport {
    /// The endpoint.
    pub endpoint: String,
    /// Logged rows that were compared.
    pub rows: u64,
    /// Values that differ although they were made of the same: there should be none.
    pub mismatches: u64,
    /// By release.
    pub releases: Vec<ReleaseSkew>,
}

/// What a release logged, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReleaseSkew {
    /// The release.
    pub release: String,
    /// Where it was logged.
    pub table: String,
    /// Logged rows.
    pub rows: u64,
    /// Time of the first and of the last one.
    pub from: Timestamp,
    /// See `from`.
    pub to: Timestamp,
    /// For each lookup, by its alias, the rows for which another row, or other events, are
    /// found now.
    pub other_identity: BTreeMap<String, u64>,
    /// The view's features, in its order, then what the model answered.
    pub values: Vec<ValueSkew>,
}

/// A feature or a prediction, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueSkew {
    /// Its name.
    pub name: String,
    /// Rows for which it differs although it was made of the same.
    pub mismatches: u64,
    /// Rows for which it differs as what it is made of does.
    pub timing: u64,
    /// Some of them, mismatches first.
    pub examples: Vec<SkewExample>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewExample {
    /// Name of the request.
    pub request: String,
    /// Row of the request.
    pub row: i64,
    /// When it was asked.
    pub time: Timestamp,
    /// Whether it is a mismatch.
    pub is_mismatch: bool,
    /// What was logged.
    pub logged: Json,
    /// What comes out now.
    pub offline: Json,
}

impl Platform {
    /// Compares what an endpoint logged with what a training set would have, bit by bit.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an endpoint that logged nothing; [`Kind::Internal`] when a
    /// table of its view is gone.
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
            // Says so if there is no such endpoint.
            self.serving.endpoint(endpoint).await?;
        }
        let mut report = SkewReport {
            endpoint: endpoint.clone(),
            rows: 0,
            mismatches: 0,
            releases: Vec::new(),
        };
        for table in tables {
            let offline = &self.context.components().offline;
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
                "endpoint `{endpoint}` has logged nothing in that time; say how much it logs with `wafer \
                 endpoints set {endpoint} … --log PERCENT`"
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

/// What a release logged to a table.
struct Logged<'a> {
    table: &'a TableDef,
    snapshot: &'a TableSnapshot,
    release: &'a str,
}

/// The releases that logged to a table.
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
    /// Writes the rows as a file that can be joined: inputs under their names, given by
    /// those of their columns, the time, and all else with a `#` before its name.
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
        let mut output = Output::create(path, &arrow)?;
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
            let batch = RecordBatch::try_new(Arc::clone(&arrow), columns.collect::<Result<_>>()?)
                .map_err(|e| Error::caused(Kind::Internal, "logged rows", e))?;
            let release = batch["#log_release"].as_string::<i32>();
            // Files were chosen by their times; these are of rows.
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

fn times(batch: &RecordBatch) -> impl Iterator<Item = Timestamp> {
    let times = batch[TIME].as_primitive::<arrow_array::types::TimestampMicrosecondType>();
    times.values().iter().map(|t| Timestamp::from_micros(*t))
}

/// What logged values are compared with.
struct Comparison {
    recipe: Recipe,
    functions: Vec<Function>,
    model: Function,
    log: LogTable,
}

impl Comparison {
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

    fn compare(&self, batch: &RejoinedBatch, skew: &mut ReleaseSkew) -> Result<()> {
        let of_log = |fields: &[Field]| -> Result<Vec<ArrayRef>> {
            fields
                .iter()
                .map(|field| logged(&batch.rows, field))
                .collect()
        };
        let features = of_log(self.log.features())?;
        let (looked_up, computed) = features.split_at(self.looked_up());
        let (of_lookups, others) = skew.values.split_at_mut(looked_up.len());
        let (of_functions, of_model) = others.split_at_mut(computed.len());
        // What is found now, beside what was found then.
        let found = of_log(self.log.lookups())?;
        let identities = found.iter().skip(1).step_by(2);
        let mut values = looked_up.iter().zip(of_lookups);
        for ((lookup, columns), then) in self
            .recipe
            .view
            .lookups
            .iter()
            .zip(&batch.lookups)
            .zip(identities)
        {
            let (now, features) = columns.split_last().expect("an identity is there");
            let others = differing(then, now);
            let counted = skew.other_identity.entry(lookup.alias.clone()).or_default();
            *counted += others.len() as u64;
            for feature in features {
                let (logged, value) = values.next().expect("one for each feature");
                for row in differing(logged, feature) {
                    let is_mismatch = others.binary_search(&row).is_err();
                    value.note(&batch.rows, row, (logged, feature), is_mismatch);
                }
            }
        }
        // What was computed, from what was logged and from what is found now.
        let recipe = &self.recipe;
        let mut known = readable(recipe, &batch.inputs, looked_up.iter().cloned());
        let mut failed = BTreeSet::new();
        let again = call(&self.functions, &mut known, |_, row, _| {
            failed.insert(row as usize);
        })?;
        let found = batch.lookups.iter().flat_map(|columns| {
            let (_, features) = columns.split_last().expect("an identity is there");
            features.iter().cloned()
        });
        let mut offline = readable(recipe, &batch.inputs, found);
        let offline = call(&self.functions, &mut offline, |_, _, _| {})?;
        for (place, (logged, value)) in computed.iter().zip(of_functions).enumerate() {
            let wrong = differing(logged, &again[place]);
            for row in &wrong {
                value.note(&batch.rows, *row, (logged, &again[place]), true);
            }
            let others = differing(logged, &offline[place]).into_iter();
            for row in others.filter(|row| wrong.binary_search(row).is_err()) {
                value.note(&batch.rows, row, (logged, &offline[place]), false);
            }
        }
        let fields = self.model.signature().inputs.fields().iter();
        let inputs = fields.map(|f| widen(&known[&f.name], &f.data_type));
        let answer = self
            .model
            .invoke(&inputs.collect::<Vec<ArrayRef>>(), Deadline::Batch)?;
        let errors = logged(&batch.rows, &Field::new("log_error", DataType::Utf8, true))?;
        let outputs = of_log(self.log.outputs())?;
        // A row that lacked a feature failed whatever the model says of it.
        let is_other = |row: &usize| {
            errors.is_valid(*row) && !failed.contains(row) && !answer.has_failed(*row)
        };
        let others: Vec<usize> = (0..errors.len()).filter(is_other).collect();
        for ((logged, again), value) in outputs.iter().zip(of_good_rows(&answer)).zip(of_model) {
            // Of a row that failed nothing was answered; one that does not fail now differs.
            let is_left_out = |row| errors.is_valid(row) && others.binary_search(&row).is_err();
            let again = nulled(&again, &is_left_out);
            for row in differing(logged, &again) {
                value.note(&batch.rows, row, (logged, &again), true);
            }
        }
        Ok(())
    }

    /// Number of features that are looked up.
    fn looked_up(&self) -> usize {
        let lookups = self.recipe.view.lookups.iter();
        lookups.map(|lookup| lookup.features.len()).sum()
    }
}

impl ValueSkew {
    /// Counts a value that was logged and another that comes out now.
    fn note(
        &mut self,
        rows: &RecordBatch,
        row: usize,
        (logged, offline): (&ArrayRef, &ArrayRef),
        is_mismatch: bool,
    ) {
        match is_mismatch {
            true => self.mismatches += 1,
            false => self.timing += 1,
        }
        if self.examples.len() == EXAMPLES {
            // Mismatches count for more.
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
            request: rows["#log_request"]
                .as_string::<i32>()
                .value(row)
                .to_owned(),
            row: rows["#log_row"].as_primitive::<Int64Type>().value(row),
            time: times(rows).nth(row).expect("a row of the batch"),
            is_mismatch,
            logged: cell_to_json(logged, row),
            offline: cell_to_json(offline, row),
        };
        self.examples.push(example);
        self.examples.sort_by_key(|example| !example.is_mismatch);
    }
}

/// A column as it was logged.
fn logged(rows: &RecordBatch, field: &Field) -> Result<ArrayRef> {
    let name = format!("#{}", field.name);
    let internal = || Error::new(Kind::Internal, format!("column `{name}` was not read"));
    let column = rows.column_by_name(&name).ok_or_else(internal)?;
    coerce(column, &field.data_type)
        .map_err(|e| Error::caused(Kind::Internal, format!("column `{name}`"), e))
}

/// The rows, ascending, in which two columns of one type differ, be it in a bit.
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
    use arrow_array::Float64Array;

    use super::*;

    #[test]
    fn columns_differ_in_bits() {
        let column = |values: Vec<Option<f64>>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let left = column(vec![Some(0.0), None, Some(f64::NAN), Some(1.0), None]);
        let right = column(vec![Some(-0.0), None, Some(f64::NAN), Some(1.0), Some(0.0)]);
        assert_eq!(differing(&left, &right), [0, 4]);
        assert!(differing(&left, &Arc::clone(&left)).is_empty());
    }
}
