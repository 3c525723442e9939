//! Model files of other libraries: the stock functions must predict the same as the libraries.

use std::path::Path;
use std::process::Command;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use wafer_core::{DataType, coerce, widen};
use wafer_runtime::{Asset, CodeCache, Compiler, Deadline, FunctionSpec, Runtime, RuntimeConfig};
use wafer_store::ArtifactFolder;

use crate::harness::accounts::{TRAINED, accounts};
use crate::harness::{BINARY, CACHE, are_embedded, guest, repository, text, witness_python};

/// A model that a library made.
#[derive(Deserialize)]
struct Model {
    name: String,
    function: String,
    output: String,
    parameters: std::collections::BTreeMap<String, String>,
    tolerance: f64,
}

#[test]
fn model_files_predict_the_same_as_their_libraries() {
    // The test uses no stores, so that it need not run on those on AWS.
    let Some(python) = witness_python().filter(|_| are_embedded()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    run(&python, "train.py", folder.path(), &[]);
    assert!(check_all(folder.path()) > 45);
}

/// LightGBM makes the same predictions with models that Wafer trained.
#[test]
fn trained_models_predict_the_same_in_lightgbm() {
    let Some(python) = witness_python().filter(|_| are_embedded()) else {
        return;
    };
    let project = accounts(TRAINED);
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (n, rate) in ["0.1", "0.7"].into_iter().enumerate() {
        let set = format!("learning_rate={rate}");
        project.ok(&["train", "high", "--set", &set]);
        let (name, out) = (format!("high@{}", n + 1), project.at(&format!("{n}.txt")));
        project.ok(&["models", "get", &name, "--out", &out]);
        files.push(out);
    }
    let mut arguments = vec!["last_amount,last_small"];
    arguments.extend(files.iter().map(String::as_str));
    run(&python, "predict.py", folder.path(), &arguments);
    assert_eq!(check_all(folder.path()), 2);
}

/// Runs a script of `tests/models`, which must succeed.
fn run(python: &Path, script: &str, folder: &Path, arguments: &[&str]) {
    let script = repository().join("tests/models").join(script);
    let mut command = Command::new(python);
    let ran = command.arg(script).arg(folder).args(arguments).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
}

/// Compares the predictions of all models of a folder, and returns the number of models.
fn check_all(folder: &Path) -> usize {
    let models = std::fs::read(folder.join("models.json")).unwrap();
    let models: Vec<Model> = serde_json::from_slice(&models).unwrap();
    // Each model has the memory of the same few components, whose functions are compiled once.
    // Their code has a folder of its own, since it takes as much as all other code may.
    let kept = Path::new(CACHE).join("code-of-models");
    let runtime = Runtime::new(RuntimeConfig {
        instances: 8,
        compiler: Compiler::Child {
            program: BINARY.into(),
            arguments: vec!["compile-component".to_owned()],
        },
        code_cache: Some(CodeCache::open(&kept).unwrap()),
    });
    let runtime = runtime.unwrap();
    let artifacts = ArtifactFolder::open(folder.join("artifacts")).unwrap();
    let mut wrong = Vec::new();
    for model in &models {
        if let Err(message) = check(&runtime, &artifacts, folder, model) {
            wrong.push(format!("{}: {message}", model.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    models.len()
}

fn check(
    runtime: &Runtime,
    artifacts: &ArtifactFolder,
    folder: &Path,
    model: &Model,
) -> Result<(), String> {
    let file = |extension: &str| folder.join(format!("{}.{extension}", model.name));
    let spec = FunctionSpec {
        name: model.name.clone(),
        component: std::fs::read(guest(&model.function)).unwrap().into(),
        assets: [("model".to_owned(), Asset::file(&file("model")).unwrap())].into(),
        parameters: model.parameters.clone(),
        ..FunctionSpec::default()
    };
    let registered = runtime
        .register(&spec, artifacts)
        .map_err(|e| e.to_string())?;
    let function = runtime
        .load(&spec.name, &registered, &spec.limits, artifacts)
        .map_err(|e| e.to_string())?;
    let rows = rows(&file("parquet"));
    let inputs = function.signature().inputs.fields().iter().map(|field| {
        let column = rows
            .column_by_name(&field.name)
            .ok_or(format!("reads `{}`", field.name))?;
        let narrow = [DataType::Int64, DataType::Boolean]
            .iter()
            .find_map(|t| coerce(column, t).ok());
        coerce(column, &field.data_type)
            .or_else(|e| {
                narrow
                    .map(|column| widen(&column, &field.data_type))
                    .ok_or(e)
            })
            .map_err(|e| format!("`{}`: {e}", field.name))
    });
    let inputs: Vec<ArrayRef> = inputs.collect::<Result<_, _>>()?;
    let answer = function
        .invoke(&inputs, Deadline::Batch)
        .map_err(|e| e.to_string())?;
    if let Some((row, message)) = answer.row_errors.first() {
        return Err(format!("refuses row {row}: {message}"));
    }
    let place = function
        .signature()
        .outputs
        .index_of(&model.output)
        .ok_or("has not that output")?;
    let (found, wanted) = (
        &answer.columns[place],
        rows.column_by_name("expected").unwrap(),
    );
    let is_exact = *wanted.data_type() == arrow_schema::DataType::Int64
        && found.data_type() == wanted.data_type();
    if is_exact && found != wanted {
        return Err("integers differ".to_owned());
    }
    let (found, wanted) = (numbers(found), numbers(wanted));
    if found.len() != wanted.len() {
        return Err(format!(
            "{} numbers where there are {}",
            found.len(),
            wanted.len()
        ));
    }
    let off = |place: usize| (found[place] - wanted[place]).abs() / wanted[place].abs().max(1.0);
    // NaN is never near, so that it counts as wrong.
    let is_near = |place: &usize| off(*place) <= model.tolerance;
    let wrong = (0..found.len()).find(|place| !is_near(place));
    match wrong {
        None => Ok(()),
        Some(place) => Err(format!(
            "off by {:e} at {place}: {} instead of {}",
            off(place),
            found[place],
            wanted[place]
        )),
    }
}

fn rows(path: &Path) -> RecordBatch {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let mut batches = reader.with_batch_size(1 << 20).build().unwrap();
    batches.next().unwrap().unwrap()
}

fn numbers(column: &ArrayRef) -> Vec<f64> {
    assert_eq!(column.null_count(), 0);
    let column = match column.as_list_opt::<i32>() {
        Some(lists) => ArrayRef::clone(lists.values()),
        None => ArrayRef::clone(column),
    };
    match column.as_primitive_opt::<Int64Type>() {
        Some(integers) => integers.values().iter().map(|n| *n as f64).collect(),
        None => column.as_primitive::<Float64Type>().values().to_vec(),
    }
}
