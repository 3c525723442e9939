//! Batch inference: a pipeline that has a version of a model in the place of a function.
//!
//! A run of such a pipeline goes through the same steps as any run, and calls this module for
//! three of them:
//!
//! 1. [`Producer::table_versions`] fixes the versions of the tables that the model's view reads,
//!    once for all partitions of a divided run. They are part of the inputs of the run, so an
//!    interval is run again when features have changed.
//! 2. [`Producer::look_up`] reads the source's rows into a temporary file, and joins them with the
//!    features of the view as of the rows' times, by the code that makes training sets.
//! 3. [`Producer::produce`] is called with chunks of the source's rows, which are read once more,
//!    and the features that were found for them. It calls the view's on-demand functions and the
//!    model, and returns the predictions as rows of the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use wafer_catalog::{
    Context, GroupDef, MODEL_VERSION, ModelVersion, PREDICTION, Progress, Recipe, VersionName,
    blocking, call, predicted, prediction, readable, temporary_folder,
};
use wafer_core::{DataType, Digest, Field, Hasher, Schema, widen};
use wafer_files::OutputFile;
use wafer_pipelines::{Freshness, LookedUp, Predictors, Producer};
use wafer_registry::Registry;
use wafer_runtime::{Function, Output};
use wafer_serving::predict;
use wafer_store::{AsOf, Error, Kind, Result};
use wafer_tables::Tables;
use wafer_training::{RejoinRequest, Rejoined, Training};

/// Bytes of memory that the join may use. It is small, because a run may have a machine with little
/// memory.
const MEMORY: u64 = 256 << 20;

/// Opens versions of models as the producers of a pipeline's rows.
#[derive(Debug)]
pub(crate) struct ModelPredictors {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) training: Arc<Training>,
}

/// A version of a model with the functions of its view, which produces predictions.
#[derive(Debug)]
struct Predictor {
    tables: Arc<Tables>,
    training: Arc<Training>,
    version: ModelVersion,
    recipe: Recipe,
    functions: Vec<Function>,
    model: Function,
    /// The position of the model's output that is the prediction.
    prediction: usize,
    /// The name of the column with the time as of which features are looked up. It is the
    /// event time of the predictions.
    event_time: String,
    /// The inputs of the view, followed by those join keys and the event time of the group that
    /// the view does not read.
    inputs: Schema,
    /// The columns of the group.
    outputs: Schema,
    /// Digest of the model's version, the view's version and the function.
    code: Digest,
}

#[async_trait]
impl Predictors for ModelPredictors {
    async fn open(&self, model: &VersionName, group: &GroupDef) -> Result<Arc<dyn Producer>> {
        let version = self.registry.model_version(model).await?;
        let recipe = Recipe::read(&self.context, &version.view, &version.view_version).await?;
        let functions = recipe.view.functions.iter();
        let functions = functions.map(|f| {
            self.context
                .load_function(&f.function, &recipe.functions[&f.function])
        });
        let functions = functions.collect::<Result<Vec<_>>>()?;
        let model = self
            .context
            .load_function(&version.function_name, &version.function)?;
        let found = prediction(model.signature(), version.prediction.as_deref());
        let (prediction, _) = found.ok_or_else(|| {
            let name = version.name();
            Error::invalid(format!("model `{name}` has no output that is a number"))
        })?;
        let mut inputs = recipe.view.inputs.clone();
        let time = Field::new(&group.event_time, DataType::Timestamp, true);
        for field in group.keys.iter().chain([&time]) {
            match inputs.iter().find(|input| input.name == field.name) {
                None => inputs.push(Field {
                    nullable: true,
                    ..field.clone()
                }),
                Some(input) if input.data_type == field.data_type => {}
                Some(input) => {
                    return Err(Error::invalid(format!(
                        "group `{}` has `{}` as {}, and view `{}` as {}",
                        group.name, field.name, field.data_type, version.view, input.data_type
                    )));
                }
            }
        }
        let internal = |e| Error::caused(Kind::Internal, "the columns of predictions clash", e);
        let mut code = Hasher::new();
        code.part(version.name().as_bytes())
            .part(version.view_version.as_bytes())
            .part(version.function.registered.digest.as_bytes());
        Ok(Arc::new(Predictor {
            tables: Arc::clone(&self.tables),
            training: Arc::clone(&self.training),
            code: code.finish(),
            inputs: Schema::new(inputs).map_err(internal)?,
            outputs: Schema::new(predicted(&group.keys, &group.event_time)).map_err(internal)?,
            event_time: group.event_time.clone(),
            version,
            recipe,
            functions,
            model,
            prediction,
        }))
    }
}

#[async_trait]
impl Producer for Predictor {
    fn inputs(&self) -> &Schema {
        &self.inputs
    }

    fn outputs(&self) -> &Schema {
        &self.outputs
    }

    fn code(&self) -> Digest {
        self.code
    }

    async fn table_versions(&self, freshness: Freshness) -> Result<BTreeMap<String, u64>> {
        if freshness == Freshness::Flushed {
            // Rows that were just acknowledged may still be in the outbox.
            self.tables.flush_all().await?;
        }
        let snapshots = self.tables.snapshots(&self.recipe, AsOf::Latest).await?;
        let versions = snapshots.into_iter();
        Ok(versions
            .map(|(table, snapshot)| (table, snapshot.version()))
            .collect())
    }

    async fn look_up(
        &self,
        mut rows: BoxStream<'static, Result<Vec<ArrayRef>>>,
        versions: &BTreeMap<String, u64>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<Box<dyn LookedUp>>> {
        let folder = temporary_folder()?;
        let path = folder.path().join("rows.parquet");
        let fields = self.inputs.fields().iter();
        let fields = fields.map(|f| ArrowField::new(&f.name, f.data_type.to_arrow(), true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let mut output = OutputFile::create(&path, &schema)?;
        while let Some(columns) = rows.try_next().await? {
            let columns = self.with_times(&columns);
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
                .map_err(|e| Error::caused(Kind::Internal, "cannot assemble rows to join", e))?;
            output = blocking(move || output.write(&batch).map(|()| output)).await??;
        }
        blocking(move || output.close()).await??;
        let request = RejoinRequest {
            recipe: self.recipe.clone(),
            snapshots: self.tables.snapshots_of(versions).await?,
            view: &self.version.view,
            rows: &path,
            time: &self.event_time,
            identities: false,
            memory: MEMORY,
        };
        let joined = self.training.rejoin(request, progress).await?;
        Ok(Some(Box::new(JoinedRows(joined))))
    }

    fn produce(&self, columns: &[ArrayRef], looked_up: &[Vec<ArrayRef>]) -> Result<Output> {
        self.predict(columns, looked_up)
    }
}

/// The features that were looked up for the rows of a run.
struct JoinedRows(Rejoined);

impl LookedUp for JoinedRows {
    fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>> {
        self.0.take(rows)
    }
}

impl Predictor {
    /// Returns the column of an input.
    fn column(&self, columns: &[ArrayRef], name: &str) -> ArrayRef {
        let index = self.inputs.index_of(name);
        Arc::clone(&columns[index.expect("keys and times are inputs")])
    }

    /// Returns the columns without nulls in the event time. A row without an event time gets an
    /// arbitrary one, because the join needs a time for each row. The run rejects such a row later.
    fn with_times(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        let mut columns = columns.to_vec();
        let place = self.inputs.index_of(&self.event_time);
        let times = &mut columns[place.expect("the time is an input")];
        if times.null_count() > 0 {
            let data = times.to_data().into_builder().nulls(None);
            *times = arrow_array::make_array(data.build().expect("times without their nulls"));
        }
        columns
    }

    /// Calls the on-demand functions and the model for a chunk of rows. If the model fails because
    /// of a single row, the error names it ([`failed_row`](wafer_runtime::failed_row)).
    fn predict(&self, columns: &[ArrayRef], found: &[Vec<ArrayRef>]) -> Result<Output> {
        let rows = columns.first().map_or(0, |column| column.len());
        let inputs = self.recipe.view.inputs.iter();
        let inputs: Vec<ArrayRef> = inputs.map(|f| self.column(columns, &f.name)).collect();
        let mut known = readable(&self.recipe, &inputs, found.concat());
        let mut failures: BTreeMap<u32, (String, String)> = BTreeMap::new();
        call(&self.functions, &mut known, |function, row, message| {
            let failure = (function.to_owned(), message.to_owned());
            failures.entry(row).or_insert(failure);
        })?;
        let failures = failures.iter();
        let failures = failures.map(|(row, (f, message))| (*row, f.as_str(), message.as_str()));
        let answer = predict(&self.model, failures, &known, |model, inputs| {
            model.invoke_rows(inputs).map_err(Error::from)
        })?;
        let outputs = self
            .outputs
            .fields()
            .iter()
            .map(|field| match &*field.name {
                PREDICTION => widen(&answer.outputs[self.prediction], &DataType::Float64),
                MODEL_VERSION => {
                    let number = i64::try_from(self.version.version).unwrap_or(i64::MAX);
                    Arc::new(Int64Array::from(vec![number; rows]))
                }
                name => self.column(columns, name),
            });
        Ok(Output {
            columns: outputs.collect(),
            rows,
            source_rows: None,
            row_errors: answer.errors,
        })
    }
}
