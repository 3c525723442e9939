//! Models that scikit-learn's pipelines were exported to, and operators by themselves: every output
//! must be onnxruntime's. The models in `models` were made by `tests/models/onnx_pipelines.py` of
//! the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use wafer::{Column, DataType, Describe as _, Init, Table};

/// The greatest difference to onnxruntime, relative to values above 1.
const TOLERANCE: f64 = 1e-6;

/// A model with the rows to ask it for and the answers of onnxruntime.
struct Case {
    name: String,
    parameters: BTreeMap<String, String>,
    columns: BTreeMap<String, Vec<Json>>,
    outputs: BTreeMap<String, Vec<Json>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}

fn cases(folder: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(folder.join("models.jsonl")).unwrap();
    let lists = |json: &Json| -> BTreeMap<String, Vec<Json>> {
        let columns = json.as_object().unwrap().iter();
        let list = |values: &Json| values.as_array().unwrap().clone();
        columns.map(|(name, values)| (name.clone(), list(values))).collect()
    };
    let case = |line: &str| {
        let json: Json = serde_json::from_str(line).unwrap();
        let parameters = json["parameters"].as_object().unwrap().iter();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        Case {
            name: text(&json["name"]),
            parameters: parameters.map(|(name, value)| (name.clone(), text(value))).collect(),
            columns: lists(&json["columns"]),
            outputs: lists(&json["outputs"]),
        }
    };
    text.lines().map(case).collect()
}

impl Case {
    /// The rows, with the types that the model reads.
    fn table(&self, model: &stock_onnx::Model) -> Table {
        let rows = self.columns.values().next().unwrap().len();
        let fields = model.inputs();
        fields.iter().fold(Table::new(rows), |table, field| {
            let values = self.columns[&field.name].iter();
            let name = &field.name;
            match field.data_type {
                DataType::Utf8 => {
                    let texts = values.map(|value| value.as_str().map(str::to_owned));
                    table.with(name, texts.collect::<Column<_>>())
                }
                DataType::Int64 => {
                    table.with(name, values.map(Json::as_i64).collect::<Column<_>>())
                }
                _ => table.with(name, values.map(Json::as_f64).collect::<Column<_>>()),
            }
        })
    }

    fn check(&self, folder: &Path) -> Result<(), String> {
        let bytes = std::fs::read(folder.join(format!("{}.onnx", self.name))).unwrap();
        let parameters = self.parameters.iter();
        let init = parameters.fold(Init::new().with_asset("model", bytes), |init, (k, v)| {
            init.with_parameter(k, v)
        });
        let model = stock_onnx::load(&init)?;
        let mut answer = stock_onnx::onnx(self.table(&model), &model)?;
        let fields = model.outputs();
        for (output, wanted) in &self.outputs {
            let field = fields.iter().find(|field| field.name == *output);
            let field = field.ok_or_else(|| format!("there is no output `{output}`"))?;
            let found = answers(&mut answer, output, &field.data_type);
            for (row, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                if !is_near(found, wanted) {
                    return Err(format!("`{output}`, row {row}: {found} instead of {wanted}"));
                }
            }
        }
        Ok(())
    }
}

/// The values of a column as JSON.
fn answers(table: &mut Table, name: &str, data_type: &DataType) -> Vec<Json> {
    fn all<C: wafer::Cell>(table: &mut Table, name: &str, json: impl Fn(C) -> Json) -> Vec<Json> {
        let column: Column<C> = table.take(name).unwrap();
        let rows = (0..column.len()).map(|row| json(column.get(row).unwrap()));
        rows.collect()
    }
    match data_type {
        DataType::Utf8 => all(table, name, |text: String| Json::from(text)),
        DataType::Int64 => all(table, name, |number: i64| Json::from(number)),
        DataType::Float64 => all(table, name, |number: f64| Json::from(number)),
        DataType::ListFloat64 => all(table, name, |list: Vec<f64>| Json::from(list)),
        DataType::ListInt64 => all(table, name, |list: Vec<i64>| Json::from(list)),
        other => panic!("`{name}` is {other:?}"),
    }
}

/// Whether two values are equal but for rounding. A number that is not finite is null in JSON.
fn is_near(found: &Json, wanted: &Json) -> bool {
    match (found, wanted) {
        (Json::Array(found), Json::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| is_near(f, w))
        }
        (Json::Number(found), Json::Number(wanted)) => {
            let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
            (found - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0)
        }
        (found, wanted) => found == wanted,
    }
}

#[test]
fn exported_pipelines_and_operators_answer_as_onnxruntime() {
    // Another folder may be given, to try more models or more rows.
    let folder = std::env::var_os("ONNX_MODELS").map_or_else(folder, PathBuf::from);
    let cases = cases(&folder);
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, case.check(&folder).err()?)))
        .collect();
    assert!(!cases.is_empty());
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn maps_of_probabilities_are_lists_whose_classes_are_described() {
    let bytes = std::fs::read(folder().join("logistic_map_texts.onnx")).unwrap();
    let init = Init::new().with_asset("model", bytes);
    let model = stock_onnx::load(&init.with_parameter("class", "1")).unwrap();
    let outputs = model.outputs();
    let names: Vec<&str> = outputs.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["prediction", "output_label", "output_probability"]);
    assert_eq!(outputs[1].data_type, DataType::Utf8);
    assert_eq!(outputs[2].doc, "Probabilities of the classes no, yes.");
}

#[test]
fn missing_and_unknown_texts_fail_alone() {
    let bytes = std::fs::read(folder().join("text.onnx")).unwrap();
    let model = stock_onnx::load(&Init::new().with_asset("model", bytes)).unwrap();
    let cities = [Some("Oslo"), None].map(|text| text.map(str::to_owned));
    let rows = Table::new(2)
        .with("city", cities.into_iter().collect::<Column<_>>())
        .with("x0", [Some(0.5), Some(0.5)].into_iter().collect::<Column<_>>());
    let out = stock_onnx::onnx(rows, &model).unwrap();
    let errors: Vec<_> = out.errors().collect();
    let message = "column `city` is missing, and the model takes texts there";
    assert_eq!(errors, [(1, message)]);
}
