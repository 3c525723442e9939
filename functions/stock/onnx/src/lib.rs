//! Predicts with an ONNX model, given as the asset `model`. It may use the operators of ONNX that
//! [tract](https://github.com/sonos/tract) supports, and those of `ai.onnx.ml` that scikit-learn's
//! pipelines are exported with.
//!
//! Each input of the graph is read from the column of its name: one value for each row (shape
//! `[N]` or `[N, 1]`), or a vector of `k` numbers (shape `[N, k]`, from a column `vector(k)`). If
//! the graph has only one input, of shape `[N, k]`, the parameter `features` may instead name `k`
//! columns, separated by commas. Integers are read exactly, from `int64`, texts from `utf8`,
//! everything else from `float64`. A missing number is NaN; where the graph takes integers,
//! booleans or texts, the row is an error. So is a row for which the graph cannot be run.
//!
//! Each output of the graph becomes a column of its name, with one value or a list for each row. A
//! map of probabilities (`ZipMap`) is the list of its values. For a classifier whose probabilities
//! are a list, the parameter `class` is a class, from 0; its probability is the column
//! `prediction`.

mod columns;
mod graph;
mod ml;

use std::sync::Arc;

use columns::{GraphInput, GraphOutput, Kind, Values};
use tract_onnx::prelude::*;
use wafer::{Column, DataType, Describe, Field, Init};

/// A model, ready to run.
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<GraphInput>,
    outputs: Vec<GraphOutput>,
    /// The index of an output that is a list, and the position in the list that is the prediction.
    class: Option<(usize, usize)>,
    /// Whether the graph takes one row at a time.
    is_single: bool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// Prediction of an ONNX model.
#[wafer::function(init = load)]
pub fn onnx(mut rows: wafer::Table, model: &Model) -> Result<wafer::Table, String> {
    let count = rows.len();
    let mut out = wafer::Table::new(count);
    let inputs: Vec<Values> = model
        .inputs
        .iter()
        .map(|input| input.read(&mut rows, &mut out))
        .collect::<Result<_, _>>()?;
    let outputs = model.answer(&inputs, count, &mut out);
    if let Some((output, class)) = model.class {
        let width = model.outputs[output].width.unwrap_or(1);
        let class_values: Vec<f64> = match &outputs[output] {
            Values::Floats(values) => values.chunks_exact(width).map(|row| row[class]).collect(),
            Values::Integers(values) => {
                let rows = values.chunks_exact(width);
                rows.map(|row| row[class] as f64).collect()
            }
            Values::Texts(_) => return Err("parameter `class`: a list of texts".to_owned()),
        };
        out = out.with("prediction", Column::from(class_values));
    }
    for (output, numbers) in model.outputs.iter().zip(outputs) {
        out = output.column(out, numbers);
    }
    Ok(out)
}

impl Model {
    /// The outputs for all rows. If the graph cannot be run for all of them at once, it is run row
    /// by row, so that only bad rows fail.
    fn answer(&self, inputs: &[Values], count: usize, out: &mut wafer::Table) -> Vec<Values> {
        if !self.is_single
            && let Ok(outputs) = self.run(inputs, 0, count)
        {
            return outputs;
        }
        let kinds = self.outputs.iter().map(|o| Values::new(o.kind()));
        let mut outputs: Vec<Values> = kinds.collect();
        for row in 0..count {
            match self.run(inputs, row, 1) {
                Ok(row_values) => {
                    let row_values = outputs.iter_mut().zip(row_values);
                    row_values.for_each(|(values, row_values)| values.extend(row_values));
                }
                Err(message) => {
                    out.fail(row, message);
                    let widths = self.outputs.iter().map(|o| o.width.unwrap_or(1));
                    let outputs = outputs.iter_mut().zip(widths);
                    outputs.for_each(|(values, width)| values.pad(width));
                }
            }
        }
        outputs
    }

    /// Runs the graph for some rows.
    fn run(&self, inputs: &[Values], start: usize, rows: usize) -> Result<Vec<Values>, String> {
        let tensors: TVec<TValue> = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(input, values)| input.tensor(values, start, rows).map(Into::into))
            .collect::<TractResult<_>>()
            .map_err(|e| format!("{e:#}"))?;
        let answers = self.plan.run(tensors).map_err(|e| format!("{e:#}"))?;
        let answers = self.outputs.iter().zip(answers.iter());
        answers
            .map(|(output, answer)| {
                let values = output.values(answer).map_err(|e| format!("{e:#}"))?;
                let (found, name) = (values.len(), &output.name);
                match found == rows * output.width.unwrap_or(1) {
                    true => Ok(values),
                    false => Err(format!(
                        "output `{name}` has {found} values for {rows} rows"
                    )),
                }
            })
            .collect()
    }
}

impl Describe for Model {
    fn inputs(&self) -> Vec<Field> {
        self.inputs.iter().flat_map(GraphInput::fields).collect()
    }

    fn outputs(&self) -> Vec<Field> {
        let class = self.class.map(|(output, class)| {
            let doc = format!("Number {class} of `{}`.", self.outputs[output].name);
            Field::required("prediction", DataType::Float64).with_doc(doc)
        });
        let outputs = self.outputs.iter().map(GraphOutput::field);
        class.into_iter().chain(outputs).collect()
    }
}

/// Reads the model, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the model.
pub fn load(init: &Init) -> Result<Model, String> {
    init.only_parameters(&["features", "class"])?;
    let mut model = graph::read(init.asset("model")?, &init.list("features"))
        .map_err(|e| format!("asset `model` is not an ONNX model that can be run: {e:#}"))?;
    model.try_one()?;
    let Some(class) = init.parameter("class") else {
        return Ok(model);
    };
    let wrong = |message: String| format!("parameter `class`: {message}");
    if model
        .outputs
        .iter()
        .any(|output| output.name == "prediction")
    {
        return Err(wrong("the graph has an output `prediction`".to_owned()));
    }
    let lists = model.outputs.iter().enumerate();
    let (output, width) = lists
        .filter(|(_, output)| output.kind() != Kind::Texts)
        .find_map(|(place, output)| Some((place, output.width?)))
        .ok_or_else(|| wrong("no output of the graph is a list of numbers".to_owned()))?;
    let class = class.parse().ok().filter(|class| *class < width);
    let class = class.ok_or_else(|| wrong(format!("there are classes 0 to {}", width - 1)))?;
    model.class = Some((output, class));
    Ok(model)
}

impl Model {
    /// Runs the model for a row of zeros and empty texts, so that a model that cannot be run is
    /// refused at registration.
    fn try_one(&self) -> Result<(), String> {
        let zeros = self.inputs.iter().map(|input| {
            let mut values = Values::new(input.kind());
            values.pad(input.width);
            values
        });
        match self.run(&zeros.collect::<Vec<_>>(), 0, 1) {
            // An encoder may refuse the zero and still know other values.
            Err(message) if !message.contains(ml::NO_CATEGORY) => Err(format!(
                "asset `model`: it cannot be run for one row: {message}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_onnx_models_are_rejected() {
        for bytes in [&b""[..], b"no model", b"{}"] {
            let init = Init::new().with_asset("model", bytes);
            let message = load(&init).unwrap_err();
            assert!(
                message.starts_with("asset `model` is not an ONNX model"),
                "{message}"
            );
        }
    }
}
