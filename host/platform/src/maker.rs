//! What makes rows of a group out of a source's rows: a function, or a model with the
//! features of its view.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use futures::TryStreamExt as _;
use wafer_core::{DataType, Digest, Field, Hasher, Schema, widen};
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::AsOf;

use crate::definition::{Definitions, GroupDef, MadeBy, PipelineDef};
use crate::error::{Error, Kind, Result};
use crate::infer::predict;
use crate::input::{Input, Only};
use crate::models::{ModelVersion, VersionName, prediction};
use crate::platform::Platform;
use crate::recipe::Recipe;
use crate::run::{Progress, blocking, temporary_folder};
use crate::training::{Output as FileOutput, RejoinRequest, Rejoined, call, readable};

/// Columns of a group that a model fills, beside keys and event time.
const PREDICTION: &str = "prediction";
const MODEL_VERSION: &str = "model_version";

/// Bytes that the join of a batch of predictions may use: there may be little.
const MEMORY: u64 = 256 << 20;

/// What makes rows of a group.
#[derive(Clone)]
pub(crate) enum Maker {
    /// A function.
    Function(Function),
    /// A version of a model.
    Model(Arc<Predictor>),
}

/// A version of a model, with the functions of its view.
pub(crate) struct Predictor {
    version: ModelVersion,
    recipe: Recipe,
    functions: Vec<Function>,
    model: Function,
    /// Output of the model that is the prediction.
    prediction: usize,
    /// Name of the time that features are of, which is that of what comes out.
    event_time: String,
    inputs: Schema,
    outputs: Schema,
}

/// What is stored of predictions: join keys, event time, prediction, and the number of the
/// model's version.
pub(crate) fn predicted(keys: &[Field], event_time: &str) -> Vec<Field> {
    let described = |field: Field, doc: &str| Field {
        doc: doc.to_owned(),
        ..field
    };
    let mut fields = keys.to_vec();
    fields.push(Field::new(event_time, DataType::Timestamp, true));
    fields.push(described(
        Field::new(PREDICTION, DataType::Float64, true),
        "What the model predicts.",
    ));
    fields.push(described(
        Field::new(MODEL_VERSION, DataType::Int64, false),
        "Number of the model's version.",
    ));
    fields
}

impl Platform {
    /// What a pipeline makes rows with, and what decides what it makes.
    pub(crate) async fn maker(
        &self,
        definitions: &Definitions,
        pipeline: &PipelineDef,
        group: &GroupDef,
    ) -> Result<(Maker, Digest)> {
        match &pipeline.made_by {
            MadeBy::Function(name) => {
                let code = definitions.functions[name].registered.digest;
                Ok((Maker::Function(self.function_of(definitions, name)?), code))
            }
            MadeBy::Model(name) => self.predictor(name, group).await,
        }
    }

    async fn predictor(&self, name: &VersionName, group: &GroupDef) -> Result<(Maker, Digest)> {
        let version = self.model_version(name).await?;
        let recipe = self.recipe(&version.view, &version.view_version).await?;
        let functions = recipe.view.functions.iter();
        let functions =
            functions.map(|f| self.load_function(&f.function, &recipe.functions[&f.function]));
        let functions = functions.collect::<Result<Vec<_>>>()?;
        let model = self.load_function(&version.function_name, &version.function)?;
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
        let internal = |e| Error::caused(Kind::Internal, "columns of predictions", e);
        let mut code = Hasher::new();
        code.part(version.name().as_bytes())
            .part(version.view_version.as_bytes())
            .part(version.function.registered.digest.as_bytes());
        let predictor = Predictor {
            inputs: Schema::new(inputs).map_err(internal)?,
            outputs: Schema::new(predicted(&group.keys, &group.event_time)).map_err(internal)?,
            event_time: group.event_time.clone(),
            version,
            recipe,
            functions,
            model,
            prediction,
        };
        Ok((Maker::Model(Arc::new(predictor)), code.finish()))
    }

    /// The versions of the tables that a maker would look features up in now; none if it
    /// looks up nothing.
    pub(crate) async fn looked_up(&self, maker: &Maker) -> Result<BTreeMap<String, u64>> {
        let Maker::Model(predictor) = maker else {
            return Ok(BTreeMap::new());
        };
        // What came in a moment ago counts as well.
        self.flush_all().await?;
        let snapshots = self.snapshots(&predictor.recipe, AsOf::Latest).await?;
        let versions = snapshots.into_iter();
        Ok(versions
            .map(|(table, snapshot)| (table, snapshot.version()))
            .collect())
    }

    /// Looks up the features of all rows that are read, in some versions of tables, for a
    /// maker that needs them.
    pub(crate) async fn look_ahead(
        &self,
        maker: &Maker,
        versions: &BTreeMap<String, u64>,
        input: &Input,
        only: &Only,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<Rejoined>> {
        let Maker::Model(predictor) = maker else {
            return Ok(None);
        };
        let folder = temporary_folder()?;
        let path = folder.path().join("rows.parquet");
        let fields = predictor.inputs.fields().iter();
        let fields = fields.map(|f| ArrowField::new(&f.name, f.data_type.to_arrow(), true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let mut output = FileOutput::create(&path, &schema)?;
        let mut chunks = input.chunks(only);
        while let Some(chunk) = chunks.try_next().await? {
            let columns = predictor.with_times(&chunk.columns);
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
                .map_err(|e| Error::caused(Kind::Internal, "rows to be joined", e))?;
            output = blocking(move || output.write(&batch).map(|()| output)).await??;
        }
        blocking(move || output.close()).await??;
        let request = RejoinRequest {
            recipe: predictor.recipe.clone(),
            snapshots: self.snapshots_of(versions).await?,
            view: &predictor.version.view,
            rows: &path,
            time: &predictor.event_time,
            identities: false,
            memory: MEMORY,
        };
        Ok(Some(self.rejoin(request, progress).await?))
    }
}

impl Maker {
    /// What it reads.
    pub(crate) fn inputs(&self) -> &Schema {
        match self {
            Self::Function(function) => &function.signature().inputs,
            Self::Model(predictor) => &predictor.inputs,
        }
    }

    /// What it makes.
    pub(crate) fn outputs(&self) -> &Schema {
        match self {
            Self::Function(function) => &function.signature().outputs,
            Self::Model(predictor) => &predictor.outputs,
        }
    }

    /// Makes rows of a source's rows, and of what was looked up for them.
    pub(crate) fn make(&self, columns: &[ArrayRef], found: &[Vec<ArrayRef>]) -> Result<Output> {
        match self {
            Self::Function(function) => Ok(function.invoke(columns, Deadline::Batch)?),
            Self::Model(predictor) => predictor.predict(columns, found),
        }
    }
}

impl Predictor {
    fn column(&self, columns: &[ArrayRef], name: &str) -> ArrayRef {
        let index = self.inputs.index_of(name);
        Arc::clone(&columns[index.expect("keys and times are inputs")])
    }

    /// The columns, with some time where there is none: such rows are refused later.
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
        let answer = predict(&self.model, failures, &known, Deadline::Batch)?;
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
