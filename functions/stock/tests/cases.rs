//! Model files with the answers of their own libraries: a folder has the files, and in
//! `models.jsonl` a line for each with its name, the parameters of the stock function, the rows by
//! column, and the outputs. Scripts in `tests/models` of the repository make them.
#![allow(clippy::unwrap_used, reason = "a test suite")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;
use wafer::{Column, DataType, Describe, Field, Init, Table};

/// The greatest difference to the library, relative to values above 1, if a model names no other.
const TOLERANCE: f64 = 1e-6;

/// A model with the rows to ask it for and the answers of its library.
struct Case {
    name: String,
    parameters: BTreeMap<String, String>,
    columns: BTreeMap<String, Vec<Json>>,
    outputs: BTreeMap<String, Vec<Json>>,
    tolerance: f64,
}

fn cases(folder: &Path) -> Vec<Case> {
    let path = folder.join("models.jsonl");
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|e| panic!("{} cannot be read: {e}", path.display()));
    let lists = |json: &Json| -> BTreeMap<String, Vec<Json>> {
        let columns = json.as_object().unwrap().iter();
        let list = |values: &Json| values.as_array().unwrap().clone();
        columns
            .map(|(name, values)| (name.clone(), list(values)))
            .collect()
    };
    let case = |line: &str| {
        let json: Json = serde_json::from_str(line).unwrap();
        let parameters = json["parameters"].as_object().unwrap().iter();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        Case {
            name: text(&json["name"]),
            parameters: parameters
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            columns: lists(&json["columns"]),
            outputs: lists(&json["outputs"]),
            tolerance: json["tolerance"].as_f64().unwrap_or(TOLERANCE),
        }
    };
    text.lines().map(case).collect()
}

/// Checks all models of a folder, whose files end in `ending`, and returns their number.
pub(crate) fn check<M: Describe>(
    folder: &Path,
    ending: &str,
    load: impl Fn(&Init) -> Result<M, String>,
    predict: impl Fn(Table, &M) -> Result<Table, String>,
) -> usize {
    let cases = cases(folder);
    let unnamed = unnamed(folder, ending, &cases);
    assert!(
        unnamed.is_empty(),
        "models.jsonl has no line for {unnamed:?}"
    );
    let check = |case: &Case| {
        let file = folder.join(format!("{}{ending}", case.name));
        let parameters = case.parameters.iter();
        let init = Init::new().with_asset("model", std::fs::read(file).unwrap());
        let init = parameters.fold(init, |init, (k, v)| init.with_parameter(k, v));
        let model = load(&init)?;
        let answer = predict(case.table(&model.inputs()), &model)?;
        case.compare(answer, &model.outputs())
    };
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?)))
        .collect();
    assert!(!cases.is_empty());
    let (count, of) = (failed.len(), cases.len());
    assert!(failed.is_empty(), "{count} of {of}:\n{}", failed.join("\n"));
    of
}

/// The files of models in a folder that no case names, and that would not be tested.
fn unnamed(folder: &Path, ending: &str, cases: &[Case]) -> Vec<String> {
    let is_unnamed = |file: &String| {
        let name = file.strip_suffix(ending);
        name.is_some_and(|name| cases.iter().all(|case| case.name != name))
    };
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    files.filter(is_unnamed).collect()
}

impl Case {
    /// The rows, with the types that the model reads.
    fn table(&self, fields: &[Field]) -> Table {
        let rows = self.columns.values().next().unwrap().len();
        fields.iter().fold(Table::new(rows), |table, field| {
            let (name, values) = (&field.name, self.columns[&field.name].iter());
            // As in the host, booleans may be read as numbers.
            let number = |value: &Json| {
                value
                    .as_f64()
                    .or(value.as_bool().map(|b| f64::from(u8::from(b))))
            };
            match field.data_type {
                DataType::Utf8 => {
                    let texts = values.map(|value| value.as_str().map(str::to_owned));
                    table.with(name, texts.collect::<Column<_>>())
                }
                DataType::Int64 => {
                    table.with(name, values.map(Json::as_i64).collect::<Column<_>>())
                }
                _ => table.with(name, values.map(number).collect::<Column<_>>()),
            }
        })
    }

    fn compare(&self, mut answer: Table, fields: &[Field]) -> Result<(), String> {
        let errors: Vec<_> = answer
            .errors()
            .map(|(row, text)| format!("row {row}: {text}"))
            .collect();
        if !errors.is_empty() {
            return Err(errors.join("; "));
        }
        for (output, wanted) in &self.outputs {
            let field = fields.iter().find(|field| field.name == *output);
            let field = field.ok_or_else(|| format!("there is no output `{output}`"))?;
            let found = answers(&mut answer, output, &field.data_type);
            let mut rows = found.iter().zip(wanted).enumerate();
            let off = rows.find(|(_, (found, wanted))| !is_near(found, wanted, self.tolerance));
            if let Some((row, (found, wanted))) = off {
                return Err(format!(
                    "`{output}`, row {row}: {found} instead of {wanted}"
                ));
            }
            assert_eq!(found.len(), wanted.len());
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
fn is_near(found: &Json, wanted: &Json, tolerance: f64) -> bool {
    match (found, wanted) {
        (Json::Array(found), Json::Array(wanted)) => {
            let mut items = found.iter().zip(wanted);
            found.len() == wanted.len() && items.all(|(f, w)| is_near(f, w, tolerance))
        }
        (Json::Number(found), Json::Number(wanted)) => {
            let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
            (found - wanted).abs() <= tolerance * wanted.abs().max(1.0)
        }
        (found, wanted) => found == wanted,
    }
}
