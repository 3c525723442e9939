//! Training sets: labels joined with the features of a view as they were known at each label's
//! time.
//!
//! [`Training::training_set`] makes one in these steps:
//!
//! 1. It opens the file of labels and checks its columns against the inputs of the view.
//! 2. It flushes the outbox, unless a time was asked for, and fixes the version of every table
//!    that the view reads. A pin in the metadata store keeps compaction from removing the files
//!    of these versions while the training set is being made.
//! 3. [`Training::join`] looks up the features of each lookup. The labels are processed in bands
//!    that fit into the memory limit. The module `lookup` describes the join.
//! 4. `write` reads the labels again, puts the features beside them, calls the view's on-demand
//!    functions, and writes the file. The rows have the order of the labels.
//! 5. It records the versions of the tables, the definitions (a [`Recipe`]), the digest of the
//!    file and a copy of the labels, and removes the pin. The record keeps the versions from then
//!    on.
//!
//! If a step fails, or if nobody waits for the training set any more, the pin is removed, the work
//! stops, and no file and no copy of the labels is left.
//!
//! [`Training::recreate_training_set`] makes the same file again from such a record, and compares
//! its digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use futures::future::BoxFuture;
use wafer_catalog::{
    ColumnStatistics, Compression, DiskRoom, Format, LookupDef, ModelVersion, Progress, Recipe,
    Reject, Split, TrainingSet, blocking, call, ended, is_same_file, readable,
    remove_abandoned_folders,
};
use wafer_core::{DataType, Digest, Timestamp, Zone};
use wafer_runtime::{Function, failed_row};
use wafer_store::{AsOf, Error, Expect, Kind, Result, TableSnapshot, blob_name};

use crate::given_up::GivenUp;
use crate::hand_over::{Giver, hand_over};
use crate::labels::{LabelFile, LabelOptions};
use crate::lookup::found::JoinedFeatures;
use crate::lookup::{Band, LookupJoin};
use crate::rejoin::{Rejoined, RejoinedBatch};
use crate::service::Training;
use crate::splitter::Splitter;
use crate::spool::MemoryBudget;
use crate::training_rows::PART_COLUMN;
use wafer_files::{OutputFile, check_columns};

/// The number of rows with a failed function call that a record keeps as examples.
const KEPT_ERRORS: usize = 20;

/// The greatest size of the statistics in a record as JSON, in bytes. A record is one object of the
/// metadata store, and holds little else.
const MAX_STATISTICS_BYTES: usize = 200 << 10;

/// The description of a training set to make.
#[derive(Clone, Debug)]
pub struct TrainingSetRequest {
    /// Name of the view.
    pub view: String,
    /// Path of the file with the labels. It has the view's join keys and request fields, a time,
    /// and any other columns.
    pub labels: PathBuf,
    /// What the record calls the labels. `None` means by their path.
    pub labels_name: Option<String>,
    /// Name of the column of the labels that holds their time.
    pub time: String,
    /// The types of columns of labels in CSV or NDJSON that the view does not read. The types of
    /// others are guessed, so that their values are written as the same texts.
    pub types: BTreeMap<String, DataType>,
    /// The time zone of times of the labels that the view reads and that name none. `None` means
    /// that such times are refused.
    pub zone: Option<Zone>,
    /// Path of the file to write. Its extension decides the format.
    pub out: PathBuf,
    /// The time, by the machine's clock, as of which the offline tables are read. `None` means
    /// their latest versions.
    pub as_of: Option<Timestamp>,
    /// Bytes of memory that the join may use.
    pub memory: u64,
    /// The most bytes that the labels may take once they are read. `None` means no limit.
    pub most_label_bytes: Option<u64>,
    /// The room on the disk for the result and for what does not fit into the memory. `None` means
    /// no limit.
    pub room: Option<Arc<dyn DiskRoom>>,
    /// The split that assigns the rows to parts. `None` means no parts.
    pub split: Option<Split>,
}

impl TrainingSetRequest {
    fn labels_name(&self) -> String {
        let path = || self.labels.display().to_string();
        self.labels_name.clone().unwrap_or_else(path)
    }
}

/// Parses types of columns, such as `zip=utf8,delay=float64`.
///
/// # Errors
/// Returns a message that names what is not of this form, or no type.
pub fn column_types(text: &str) -> Result<BTreeMap<String, DataType>, String> {
    let mut types = BTreeMap::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (name, data_type) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not of the form COLUMN=TYPE"))?;
        let data_type = data_type.trim().parse();
        let data_type: DataType = data_type.map_err(|e| format!("column `{name}`: {e}"))?;
        if types.insert(name.trim().to_owned(), data_type).is_some() {
            return Err(format!("column `{name}` is given two types"));
        }
    }
    Ok(types)
}

/// The condition under which a training set is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteIf {
    /// No version of a model was trained on it.
    Unused,
    /// In any case. Versions that were trained on it cannot be evaluated on it again.
    Always,
}

/// The labels and everything else that a training set is joined from.
pub(crate) struct JoinPlan {
    pub(crate) recipe: Recipe,
    pub(crate) view: String,
    pub(crate) labels: LabelFile,
    pub(crate) split: Option<Split>,
    /// The snapshots to read, by the name of the table.
    pub(crate) snapshots: BTreeMap<String, TableSnapshot>,
    /// Whether each lookup also returns the identity of the row, or of the events, that it found.
    pub(crate) identities: bool,
    pub(crate) memory: u64,
    /// The room on the disk. `None` means no limit.
    pub(crate) room: Option<Arc<dyn DiskRoom>>,
    pub(crate) given_up: GivenUp,
}

impl JoinPlan {
    fn join_of(&self, lookup: &LookupDef) -> LookupJoin {
        let group = self.recipe.groups[&lookup.group].clone();
        LookupJoin {
            labels: self.labels.clone(),
            keys: lookup.keys.clone(),
            snapshot: self.snapshots[&group.table()].clone(),
            group,
            features: lookup.features.clone(),
            identities: self.identities,
            memory: self.memory,
            given_up: self.given_up.clone(),
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Counts and statistics of a training set that was written.
pub(crate) struct WrittenSet {
    rows: u64,
    /// Digest of the file.
    pub(crate) digest: Digest,
    columns: Vec<ColumnStatistics>,
    function_errors: u64,
    errors: Vec<Reject>,
    /// For each lookup, by its alias, the number of labels that have the time of an event that they
    /// were joined with. Lookups without such labels are left out.
    coincident: BTreeMap<String, u64>,
}

impl Training {
    /// Makes a training set, and records what it was made of.
    ///
    /// For each label it looks up in each group the row, or the events, that were visible at the
    /// label's time, and then calls the view's on-demand functions. The training set has one row
    /// for each label, in the order of the labels.
    ///
    /// If the future is dropped, work on other threads goes on until it finds out. It holds
    /// `progress` as long, with whatever that owns.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown view and [`Kind::Invalid`] for labels that do
    /// not fit it.
    pub fn training_set<'a>(
        &'a self,
        request: &'a TrainingSetRequest,
        progress: &'a Arc<dyn Progress>,
    ) -> BoxFuture<'a, Result<TrainingSet>> {
        Box::pin(async move {
            progress.stage("looking at the labels");
            let format = Format::of_output(&request.out)?;
            check_other_file(&request.labels, &request.out)?;
            remove_abandoned_folders();
            self.tables.remove_abandoned_pins().await?;
            let definitions = self.context.definitions();
            let recipe = Recipe::new(&definitions, &request.view)?;
            let labels = open_labels(request, &recipe).await?;
            let as_of = request.as_of.map_or(AsOf::Latest, AsOf::Time);
            if request.as_of.is_none() {
                // Rows that were just acknowledged may still be in the outbox.
                self.tables.flush_all().await?;
            }
            let snapshots = self.tables.snapshots(&recipe, as_of).await?;
            let mut set = self.begun_record(request, format, &recipe, &labels, &snapshots);
            let pin = self.tables.pin(&set.view, &set.versions).await?;
            let plan = JoinPlan {
                recipe: recipe.clone(),
                view: request.view.clone(),
                labels,
                split: request.split.clone(),
                snapshots,
                identities: false,
                memory: request.memory,
                room: request.room.clone(),
                given_up: GivenUp::new(progress),
            };
            let made = async {
                let (made, labels) = tokio::try_join!(
                    self.build(plan, &request.out, progress),
                    digest_of(&request.labels)
                )?;
                // The labels are kept only now, so that nothing of a failed training set is left.
                let artifacts = &self.context.components().stores.artifacts;
                artifacts
                    .put_file(&blob_name(labels), &request.labels)
                    .await?;
                set.labels = labels;
                set.id = set.identity();
                set.rows = made.rows;
                set.columns = recorded(made.columns);
                set.function_errors = made.function_errors;
                set.errors = made.errors;
                set.coincident = made.coincident;
                set.digest = made.digest;
                recipe.keep(&self.context, &set.view).await?;
                self.put_record(&set).await?;
                Ok::<_, Error>(set)
            };
            // If this is dropped, the pin is removed as well. After an error it is not left to
            // that, since the process may end before it has happened.
            let made = made.await;
            let removed = pin.remove().await;
            let set = made?;
            removed?;
            Ok(set)
        })
    }

    /// Returns the record of a training set that is about to be made: what it is made of. What is
    /// known only when it is written is empty.
    fn begun_record(
        &self,
        request: &TrainingSetRequest,
        format: Format,
        recipe: &Recipe,
        labels: &LabelFile,
        snapshots: &BTreeMap<String, TableSnapshot>,
    ) -> TrainingSet {
        let versions = snapshots.iter();
        let functions = recipe.functions.iter();
        TrainingSet {
            id: String::new(),
            created: self.context.machine_now(),
            view: request.view.clone(),
            view_version: recipe.version(),
            labels: Digest::of(&[]),
            labels_format: labels.format(),
            labels_name: request.labels_name(),
            time: request.time.clone(),
            types: labels.types(),
            zone: request.zone,
            has_empty_keys: true,
            is_cut_by_bytes: true,
            as_of: request.as_of,
            versions: versions.map(|(t, s)| (t.clone(), s.version())).collect(),
            functions: functions
                .map(|(n, f)| (n.clone(), f.registered.digest))
                .collect(),
            split: request.split.clone(),
            format,
            digest: Digest::of(&[]),
            rows: 0,
            columns: Vec::new(),
            function_errors: 0,
            errors: Vec::new(),
            coincident: BTreeMap::new(),
        }
    }

    /// Makes a recorded training set again, with the same bytes, whatever was written to the
    /// tables since.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown training set, [`Kind::Invalid`] when the
    /// extension of `out` stands for another format, [`Kind::Corrupt`] when the labels are gone
    /// from the artifacts, and [`Kind::Internal`] when the digest of the file differs from the
    /// recorded one.
    pub async fn recreate_training_set(
        &self,
        id: &str,
        out: &Path,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingSet> {
        let set = TrainingSet::read(&self.context, id).await?;
        if Format::of_output(out)? != set.format {
            let message = format!(
                "training set `{id}` was written as {:?}; name a file with the extension of that format",
                set.format
            );
            return Err(Error::invalid(message));
        }
        let digest = self.rebuild(&set, out, memory, progress).await?.digest;
        set.check_digest(digest)?;
        Ok(set)
    }

    /// Makes a recorded training set again, in the format that the extension of `out` names.
    pub(crate) async fn rebuild(
        &self,
        set: &TrainingSet,
        out: &Path,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<WrittenSet> {
        progress.stage("looking at the labels");
        let recipe = Recipe::read(&self.context, &set.view, &set.view_version).await?;
        let artifacts = &self.context.components().stores.artifacts;
        let path = artifacts.file(&blob_name(set.labels)).await?;
        let path = path.ok_or_else(|| {
            let message = format!("the labels of training set `{}` are gone", set.id);
            Error::new(Kind::Corrupt, message)
        })?;
        let labels = {
            let (format, time, view) = (set.labels_format, set.time.clone(), recipe.view.clone());
            let options = LabelOptions {
                types: set.types_of_labels(),
                has_empty_keys: set.has_empty_keys,
                zone: set.zone,
                // The file that is kept has a name of its own.
                compression: Compression::of_extension(Path::new(&set.labels_name)),
                most_bytes: None,
                cuts: set.cuts(),
            };
            blocking(move || LabelFile::open(&path, Some(format), &time, &view, &options)).await??
        };
        check_columns(out, &labels.fields())?;
        let snapshots = self.tables.snapshots_of(&set.versions).await?;
        let plan = JoinPlan {
            recipe,
            view: set.view.clone(),
            labels,
            split: set.split.clone(),
            snapshots,
            identities: false,
            memory,
            room: None,
            given_up: GivenUp::new(progress),
        };
        self.build(plan, out, progress).await
    }

    /// Deletes the record of a training set. Compaction may then remove the versions of the
    /// tables that it was made of. The file that was written stays.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown training set, and [`Kind::Conflict`] when versions
    /// of models were trained on it and it is deleted only if it is unused.
    pub async fn delete_training_set(&self, id: &str, condition: DeleteIf) -> Result<()> {
        TrainingSet::read(&self.context, id).await?;
        let mut versions = self
            .context
            .objects::<ModelVersion>("model_version")
            .await?;
        versions.retain(|(_, version)| version.training_set.as_deref() == Some(id));
        if !versions.is_empty() && condition == DeleteIf::Unused {
            let names: Vec<String> = versions.iter().map(|(_, v)| v.name()).collect();
            let message = format!(
                "training set `{id}` is what {} came of: without it nobody can evaluate them on it again, or \
                 train on the same rows; delete it all the same with --force",
                names.join(", ")
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        self.delete_record(id).await
    }

    async fn delete_record(&self, id: &str) -> Result<()> {
        self.context
            .remove_object(&format!("training_set/{id}"))
            .await
    }

    async fn put_record(&self, set: &TrainingSet) -> Result<()> {
        let name = format!("training_set/{}", set.id);
        self.context
            .put_object(&name, set, Expect::Anything)
            .await
            .map(drop)
    }

    /// Joins the labels, calls the functions and writes the file.
    async fn build(
        &self,
        plan: JoinPlan,
        out: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<WrittenSet> {
        let functions: Vec<Function> = plan
            .recipe
            .view
            .functions
            .iter()
            .map(|f| {
                self.context
                    .load_function(&f.function, &plan.recipe.functions[&f.function])
            })
            .collect::<Result<_>>()?;
        let plan = Arc::new(plan);
        let _waits = plan.given_up.when_dropped();
        let joined = self.join(&plan, progress).await?;
        let lookups = plan.recipe.view.lookups.iter().zip(&joined);
        let coincident = lookups.map(|(lookup, joined)| (lookup.alias.clone(), joined.coincident));
        let coincident = coincident.filter(|(_, labels)| *labels > 0).collect();
        progress.stage("writing");
        let (out, progress) = (out.to_owned(), Arc::clone(progress));
        let made = blocking(move || write(&plan, &functions, joined, &out, &progress)).await??;
        Ok(WrittenSet { coincident, ..made })
    }

    /// Looks up the features of all labels, one band of labels after the other. Returns the
    /// features of each lookup, in the order of the view's lookups.
    pub(crate) async fn join(
        &self,
        plan: &JoinPlan,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<JoinedFeatures>> {
        let lookups = &plan.recipe.view.lookups;
        let joins = lookups.iter().map(|lookup| Arc::new(plan.join_of(lookup)));
        let joins: Vec<Arc<LookupJoin>> = joins.collect();
        // The join takes somewhat more than half of the memory. Most of the rest holds the
        // features that wait to be written.
        let memory = usize::try_from(plan.memory / 10 * 3).unwrap_or(usize::MAX);
        let budget = MemoryBudget::with_room(memory, plan.room.clone());
        let mut joined: Vec<JoinedFeatures> =
            joins.iter().map(|join| join.new_result(&budget)).collect();
        let Some(rows) = joins.iter().map(|join| join.max_band_rows()).min() else {
            return Ok(joined);
        };
        let mut start = 0;
        // The next band of the first lookup is sorted while the present one is joined.
        let mut ahead = None;
        loop {
            // Consecutive lookups by the same keys share the sorted labels.
            let mut band: Option<(&[String], Arc<Band>)> = None;
            for (index, (join, joined)) in joins.iter().zip(&mut joined).enumerate() {
                progress.stage(&format!("joining `{}`", lookups[index].alias));
                let own = match band.take().filter(|(keys, _)| *keys == join.keys) {
                    Some((_, band)) => band,
                    None => match ahead.take_if(|_| index == 0) {
                        Some(sorting) => ended(sorting).await??,
                        None => join.load_band(start, rows).await?,
                    },
                };
                if index == 0 && own.len() == rows {
                    let (join, next) = (Arc::clone(join), start + rows as u64);
                    ahead = Some(tokio::spawn(
                        async move { join.load_band(next, rows).await },
                    ));
                }
                join.add(&own, joined).await.map_err(|e| {
                    let place = format!("views.{}.lookups[{index}]: {e}", plan.view);
                    Error::caused(e.kind(), place, e)
                })?;
                band = Some((&join.keys, own));
            }
            let count = band.map_or(0, |(_, band)| band.len());
            start += count as u64;
            if count < rows {
                return Ok(joined);
            }
        }
    }
}

/// Returns the statistics of columns as they are recorded. Those of very many columns are recorded
/// without their most frequent values or, if that is not enough, without their quantiles.
fn recorded(mut columns: Vec<ColumnStatistics>) -> Vec<ColumnStatistics> {
    let is_small = |columns: &[ColumnStatistics]| {
        let json = serde_json::to_vec(columns).expect("statistics are plain data");
        json.len() <= MAX_STATISTICS_BYTES
    };
    let lighten: [fn(&mut ColumnStatistics); 2] = [
        |column| column.top.clear(),
        |column| column.quantiles.clear(),
    ];
    for lighten in lighten {
        if is_small(&columns) {
            break;
        }
        columns.iter_mut().for_each(lighten);
    }
    columns
}

/// Puts the features beside the labels, calls the functions, and writes the training set.
fn write(
    plan: &JoinPlan,
    functions: &[Function],
    joined: Vec<JoinedFeatures>,
    out: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<WrittenSet> {
    let schema = output_schema(plan, functions)?;
    let splitter = match &plan.split {
        None => None,
        Some(split) => Some(Splitter::new(split, &plan.labels)?),
    };
    let cuts = plan.labels.cuts();
    let output = OutputFile::create_cut(out, &schema, cuts, plan.room.clone())?;
    // Encoding the file takes as long as everything else, so it has a thread of its own. The rows
    // that wait for it take a part of the memory that the join and the spooled features leave.
    let (giver, taker) = hand_over(plan.memory / 10);
    let writing = std::thread::spawn(move || {
        let mut output = output;
        for batch in taker {
            output.write(&batch)?;
        }
        Ok::<_, Error>(output)
    });
    let filled = fill(
        plan,
        functions,
        joined,
        (splitter, &schema),
        &giver,
        progress,
    );
    drop(giver);
    // The thread is waited for even after an error, so that no unfinished file stays behind.
    let written = match writing.join() {
        Ok(written) => written,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    // If writing failed, what went before stopped because of it.
    let output = written?;
    let mut made = filled?;
    plan.given_up.check()?;
    (made.columns, made.digest) = output.close()?;
    Ok(made)
}

/// Makes the rows of the training set and sends them to the thread that writes them.
fn fill(
    plan: &JoinPlan,
    functions: &[Function],
    joined: Vec<JoinedFeatures>,
    (mut splitter, schema): (Option<Splitter>, &Arc<ArrowSchema>),
    giver: &Giver,
    progress: &Arc<dyn Progress>,
) -> Result<WrittenSet> {
    let mut made = WrittenSet {
        rows: 0,
        digest: Digest::of(&[]),
        columns: Vec::new(),
        function_errors: 0,
        errors: Vec::new(),
        coincident: BTreeMap::new(),
    };
    for batch in Rejoined::new(plan.labels.clone(), joined)?.batches()? {
        plan.given_up.check()?;
        let RejoinedBatch {
            rows,
            first,
            inputs,
            lookups,
        } = batch?;
        let features = lookups.concat();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.extend(features.iter().cloned());
        let mut known = readable(&plan.recipe, &inputs, features);
        let called = call(functions, &mut known, |function, row, message| {
            made.record_failure(function, first + u64::from(row), message);
        });
        columns.extend(called.map_err(|e| match failed_row(&e) {
            Some(row) => Error::caused(e.kind(), format!("label {}: {e}", first + row as u64), e),
            None => e,
        })?);
        if let Some(splitter) = &mut splitter {
            columns.push(splitter.column(&rows, first)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(schema), columns)
            .map_err(|e| Error::caused(Kind::Internal, "columns of the training set", e))?;
        if !giver.give(batch) {
            // The writing thread failed, and says why.
            break;
        }
        made.rows = first + rows.num_rows() as u64;
        progress.read(made.rows, plan.labels.total_rows());
    }
    Ok(made)
}

/// Opens the labels of a request, and checks that they fit the view and the file to write.
async fn open_labels(request: &TrainingSetRequest, recipe: &Recipe) -> Result<LabelFile> {
    let (path, time, view) = (
        request.labels.clone(),
        request.time.clone(),
        recipe.view.clone(),
    );
    let options = LabelOptions {
        zone: request.zone,
        most_bytes: request.most_label_bytes,
        ..LabelOptions::new(request.types.clone())
    };
    let open = move || LabelFile::open(&path, None, &time, &view, &options);
    let labels = blocking(open).await??;
    labels.check_types(&request.types)?;
    check_columns(&request.out, &labels.fields())?;
    Ok(labels)
}

/// Checks that the file to write is not the file of the labels, under whatever name.
///
/// # Errors
/// Returns [`Kind::Invalid`] if it is.
fn check_other_file(labels: &Path, out: &Path) -> Result<()> {
    if !is_same_file(labels, out) {
        return Ok(());
    }
    let message = format!(
        "{} is the file of the labels: name another file to write, so that they stay",
        out.display()
    );
    Err(Error::invalid(message))
}

/// Returns the digest of the labels.
async fn digest_of(labels: &Path) -> Result<Digest> {
    let path = labels.to_owned();
    let digest = blocking(move || wafer_store::digest_file(&path)).await?;
    digest.map_err(|e| wafer_files::unreadable(labels, e))
}

impl WrittenSet {
    /// Counts a row that a function failed on, and keeps the first ones as examples.
    fn record_failure(&mut self, function: &str, row: u64, message: &str) {
        self.function_errors += 1;
        if self.errors.len() < KEPT_ERRORS {
            let place = format!("label {row}, function `{function}`");
            self.errors.push(Reject::new(place, message.to_owned()));
        }
    }
}

/// Returns the columns of the training set: those of the labels, the features in the order of
/// the view, and the part if there is a split.
///
/// # Errors
/// Returns [`Kind::Invalid`] when two of these columns have one name.
pub(crate) fn output_schema(plan: &JoinPlan, functions: &[Function]) -> Result<Arc<ArrowSchema>> {
    let mut fields: Vec<ArrowField> = plan.labels.fields();
    let mut add = |field: ArrowField| {
        if fields.iter().any(|other| other.name() == field.name()) {
            let message = format!(
                "the labels have a column `{0}`, and so has view `{1}`: rename the labels'",
                field.name(),
                plan.view
            );
            return Err(Error::invalid(message));
        }
        fields.push(field);
        Ok(())
    };
    for lookup in &plan.recipe.view.lookups {
        for field in plan.recipe.features_of(lookup) {
            add(ArrowField::new(
                &field.name,
                field.data_type.to_arrow(),
                true,
            ))?;
        }
    }
    for function in functions {
        for field in function.signature().outputs.fields() {
            add(ArrowField::new(
                &field.name,
                field.data_type.to_arrow(),
                true,
            ))?;
        }
    }
    if plan.split.is_some() {
        add(ArrowField::new(
            PART_COLUMN,
            DataType::Utf8.to_arrow(),
            false,
        ))?;
    }
    Ok(Arc::new(ArrowSchema::new(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_very_many_columns_are_recorded_without_details() {
        let column = |number: usize| ColumnStatistics {
            name: format!("column_{number:040}"),
            data_type: "Float64".to_owned(),
            nulls: 0,
            min: Some(0.125),
            max: Some(0.125),
            mean: Some(0.125),
            stddev: Some(0.125),
            quantiles: vec![
                (0.05, 0.125),
                (0.25, 0.125),
                (0.5, 0.125),
                (0.75, 0.125),
                (0.95, 0.125),
            ],
            distinct: Some(10),
            top: vec![("x".repeat(60), 1_000); 10],
        };
        for (columns, has_top, has_quantiles) in
            [(10, true, true), (500, false, true), (1_000, false, false)]
        {
            let recorded = recorded((0..columns).map(column).collect());
            assert_eq!(recorded.len(), columns);
            assert_eq!(!recorded[0].top.is_empty(), has_top, "{columns}");
            assert_eq!(
                !recorded[0].quantiles.is_empty(),
                has_quantiles,
                "{columns}"
            );
            let json = serde_json::to_vec(&recorded).unwrap();
            assert!(
                json.len() <= MAX_STATISTICS_BYTES,
                "{columns}: {}",
                json.len()
            );
        }
    }

    #[test]
    fn types_of_columns_are_pairs() {
        for (text, wanted) in [
            ("", Ok(vec![])),
            ("zip=utf8", Ok(vec![("zip", DataType::Utf8)])),
            (
                " zip = utf8, y=vector(3),",
                Ok(vec![("y", DataType::Vector(3)), ("zip", DataType::Utf8)]),
            ),
            ("zip", Err("`zip` is not of the form COLUMN=TYPE")),
            (
                "zip=text",
                Err("column `zip`: `text` is not a type; use boolean"),
            ),
            ("a=utf8,a=int64", Err("column `a` is given two types")),
        ] {
            match (column_types(text), wanted) {
                (Ok(types), Ok(wanted)) => {
                    let wanted = wanted.into_iter();
                    let wanted = wanted.map(|(name, data_type)| (name.to_owned(), data_type));
                    assert_eq!(types, wanted.collect(), "{text}");
                }
                (Err(message), Err(start)) => assert!(message.starts_with(start), "{message}"),
                (found, wanted) => panic!("{text}: {found:?}, wanted {wanted:?}"),
            }
        }
    }
}
