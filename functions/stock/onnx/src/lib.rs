//! Predicts with an ONNX model, given as the asset `model`. It may use the operators that
//! [tract](https://github.com/sonos/tract) supports.
//!
//! Each input of the graph is read from the column of its name: one number for each row (shape
//! `[N]` or `[N, 1]`), or a vector of `k` numbers (shape `[N, k]`, from a column `vector(k)`). If
//! the graph has only one input, of shape `[N, k]`, the parameter `features` may instead name `k`
//! columns of numbers, separated by commas. Integers are read exactly, from `int64`, everything
//! else from `float64`. A missing number is NaN; where the graph takes integers or booleans, the
//! row is an error. So is a row for which the graph cannot be run.
//!
//! Each output of the graph becomes a column of its name, with one number or a list for each row.
//! For a classifier whose probabilities are a list, the parameter `class` is a class, from 0; its
//! probability is the column `prediction`.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike as _, Factoid as _, bail, format_err};
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

/// An input of the graph, and the columns from which it is read.
#[derive(Debug)]
struct GraphInput {
    /// Several columns of numbers, or one column of vectors.
    columns: Vec<String>,
    /// Number of numbers in a row.
    width: usize,
    /// Whether it is one column of vectors.
    is_vector: bool,
    datum: DatumType,
    /// Number of dimensions: 1 or 2.
    rank: usize,
}

#[derive(Debug)]
struct GraphOutput {
    name: String,
    datum: DatumType,
    /// Length of each row's list, or `None` if a row has a single number.
    width: Option<usize>,
}

/// The numbers of some rows, one row after the other.
#[derive(Clone, Debug)]
enum Values {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
}

impl Values {
    fn new(is_integers: bool) -> Self {
        match is_integers {
            true => Self::Integers(Vec::new()),
            false => Self::Floats(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
        }
    }

    /// Appends other values of the same kind.
    fn extend(&mut self, more: Self) {
        match (self, more) {
            (Self::Floats(values), Self::Floats(more)) => values.extend(more),
            (Self::Integers(values), Self::Integers(more)) => values.extend(more),
            _ => unreachable!("an output is of one kind"),
        }
    }

    /// Appends zeros.
    fn pad(&mut self, count: usize) {
        let length = self.len() + count;
        match self {
            Self::Floats(values) => values.resize(length, 0.0),
            Self::Integers(values) => values.resize(length, 0),
        }
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
        let kinds = self.outputs.iter().map(|o| Values::new(o.is_integers()));
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
                let numbers = output.numbers(answer).map_err(|e| format!("{e:#}"))?;
                let (found, name) = (numbers.len(), &output.name);
                match found == rows * output.width.unwrap_or(1) {
                    true => Ok(numbers),
                    false => Err(format!(
                        "output `{name}` has {found} numbers for {rows} rows"
                    )),
                }
            })
            .collect()
    }
}

impl GraphInput {
    /// Whether the input is read from columns of integers.
    fn is_integers(&self) -> bool {
        !self.is_vector && matches!(self.datum, DatumType::I64 | DatumType::I32)
    }

    /// Reads the numbers of all rows.
    fn read(&self, rows: &mut wafer::Table, out: &mut wafer::Table) -> Result<Values, String> {
        let count = rows.len();
        if self.is_integers() {
            return self.read_integers(rows, out);
        }
        if self.is_vector {
            let name = &self.columns[0];
            let (_, values) = rows.take_vectors(name)?;
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            for (row, vector) in values.chunks_exact(self.width).enumerate() {
                self.check(row, name, vector, out);
            }
            return Ok(Values::Floats(values));
        }
        let mut values = vec![0.0; count * self.width];
        for (place, name) in self.columns.iter().enumerate() {
            let column: Column<Option<f64>> = rows.take(name)?;
            for row in 0..count {
                let value = column.get(row).flatten().unwrap_or(f64::NAN);
                self.check(row, name, &[value], out);
                values[row * self.width + place] = value;
            }
        }
        Ok(Values::Floats(values))
    }

    fn read_integers(
        &self,
        rows: &mut wafer::Table,
        out: &mut wafer::Table,
    ) -> Result<Values, String> {
        let count = rows.len();
        let mut values = vec![0; count * self.width];
        for (place, name) in self.columns.iter().enumerate() {
            let column: Column<Option<i64>> = rows.take(name)?;
            for row in 0..count {
                let fits =
                    |value: &i64| self.datum == DatumType::I64 || i32::try_from(*value).is_ok();
                match column.get(row).flatten() {
                    Some(value) if fits(&value) => values[row * self.width + place] = value,
                    Some(value) => {
                        let message = format!(
                            "column `{name}` is {value}, and the model takes 32 bits there"
                        );
                        out.fail(row, message);
                    }
                    None => out.fail(row, missing(name)),
                }
            }
        }
        Ok(Values::Integers(values))
    }

    /// Marks a row as failed if the input is not a float and does not take the row's values.
    fn check(&self, row: usize, name: &str, values: &[f64], out: &mut wafer::Table) {
        if self.datum.is_float() {
            return;
        }
        if values.iter().any(|value| value.is_nan()) {
            out.fail(row, missing(name));
        } else if self.datum != DatumType::Bool
            && let Some(value) = values.iter().find(|value| value.fract() != 0.0)
        {
            let message =
                format!("column `{name}` has {value}, and the model takes integers there");
            out.fail(row, message);
        }
    }

    fn tensor(&self, values: &Values, start: usize, rows: usize) -> TractResult<Tensor> {
        let shape: &[usize] = match self.rank {
            1 => &[rows],
            _ => &[rows, self.width],
        };
        let range = start * self.width..(start + rows) * self.width;
        match (values, self.datum) {
            (Values::Integers(values), DatumType::I64) => Tensor::from_shape(shape, &values[range]),
            (Values::Integers(values), _) => {
                Tensor::from_shape(shape, &cast(&values[range], |v| v as i32))
            }
            (Values::Floats(values), datum) => {
                let values = &values[range];
                match datum {
                    DatumType::F32 => Tensor::from_shape(shape, &cast(values, |v| v as f32)),
                    DatumType::F64 => Tensor::from_shape(shape, values),
                    DatumType::I64 => Tensor::from_shape(shape, &cast(values, |v| v as i64)),
                    DatumType::I32 => Tensor::from_shape(shape, &cast(values, |v| v as i32)),
                    _ => Tensor::from_shape(shape, &cast(values, |v| v != 0.0)),
                }
            }
        }
    }
}

fn missing(name: &str) -> String {
    format!("column `{name}` is missing, and the model takes integers there")
}

fn cast<T, V: Copy>(values: &[V], cast: impl Fn(V) -> T) -> Vec<T> {
    values.iter().map(|value| cast(*value)).collect()
}

impl GraphOutput {
    fn is_integers(&self) -> bool {
        !self.datum.is_float()
    }

    fn numbers(&self, tensor: &Tensor) -> TractResult<Values> {
        if self.is_integers() {
            let wide = tensor.cast_to::<i64>()?;
            let values = wide.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
            return Ok(Values::Integers(values));
        }
        let wide = tensor.cast_to::<f64>()?;
        let values = wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
        Ok(Values::Floats(values))
    }

    fn column(&self, table: wafer::Table, numbers: Values) -> wafer::Table {
        match (self.width, numbers) {
            (None, Values::Floats(values)) => table.with(&self.name, Column::from(values)),
            (None, Values::Integers(values)) => table.with(&self.name, Column::from(values)),
            (Some(width), Values::Floats(values)) => {
                let lists = values.chunks_exact(width).map(<[f64]>::to_vec);
                table.with(&self.name, lists.collect::<Column<Vec<f64>>>())
            }
            (Some(width), Values::Integers(values)) => {
                let lists = values.chunks_exact(width).map(<[i64]>::to_vec);
                table.with(&self.name, lists.collect::<Column<Vec<i64>>>())
            }
        }
    }
}

impl Describe for Model {
    fn inputs(&self) -> Vec<Field> {
        let fields = self.inputs.iter().flat_map(|input| {
            input.columns.iter().map(|name| match input.is_vector {
                true => Field::nullable(name, DataType::Vector(input.width as u32)),
                false if input.is_integers() => Field::nullable(name, DataType::Int64),
                false => Field::nullable(name, DataType::Float64),
            })
        });
        fields.collect()
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |output: &GraphOutput| {
            let data_type = match (output.width, output.is_integers()) {
                (Some(_), false) => DataType::ListFloat64,
                (Some(_), true) => DataType::ListInt64,
                (None, false) => DataType::Float64,
                (None, true) => DataType::Int64,
            };
            Field::required(&output.name, data_type).with_doc("Output of the ONNX graph.")
        };
        let class = self.class.map(|(output, class)| {
            let doc = format!("Number {class} of `{}`.", self.outputs[output].name);
            Field::required("prediction", DataType::Float64).with_doc(doc)
        });
        class
            .into_iter()
            .chain(self.outputs.iter().map(field))
            .collect()
    }
}

/// Reads the model, when the function is registered.
///
/// # Errors
/// Returns a message that says what is wrong with the model.
pub fn load(init: &Init) -> Result<Model, String> {
    init.only_parameters(&["features", "class"])?;
    let mut model = read(init.asset("model")?, &init.list("features"))
        .map_err(|e| format!("asset `model` is no ONNX model that can be run: {e:#}"))?;
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
    let mut lists = model.outputs.iter().enumerate();
    let (output, width) = lists
        .find_map(|(place, output)| Some((place, output.width?)))
        .ok_or_else(|| wrong("no output of the graph is a list".to_owned()))?;
    let class = class.parse().ok().filter(|class| *class < width);
    let class = class.ok_or_else(|| wrong(format!("there are classes 0 to {}", width - 1)))?;
    model.class = Some((output, class));
    Ok(model)
}

impl Model {
    /// Runs the model for a row of zeros, so that a model that cannot be run is refused at
    /// registration.
    fn try_one(&self) -> Result<(), String> {
        let zeros = self.inputs.iter().map(|input| {
            let mut values = Values::new(input.is_integers());
            values.pad(input.width);
            values
        });
        let tried = self.run(&zeros.collect::<Vec<_>>(), 0, 1).map(drop);
        tried.map_err(|e| format!("asset `model`: it cannot be run for one row: {e}"))
    }
}

fn read(mut bytes: &[u8], features: &[String]) -> TractResult<Model> {
    // The file's types of intermediate values are ignored, because they may name the number of
    // rows, for which another symbol is used here.
    let framework = tract_onnx::onnx().with_ignore_value_info(true);
    let mut model = framework.model_for_read(&mut bytes)?;
    if model.input_outlets()?.is_empty() {
        bail!("it has no inputs");
    }
    let rows = model.symbols.new_with_prefix("rows");
    let (mut inputs, mut single) = (Vec::new(), false);
    let count = model.input_outlets()?.len();
    for index in 0..count {
        let outlet = model.input_outlets()?[index];
        let name = model.node(outlet.node).name.clone();
        let fact = model.input_fact(index)?.clone();
        let datum = fact
            .datum_type
            .concretize()
            .ok_or_else(|| format_err!("input `{name}` has no type"))?;
        let known = [
            DatumType::F32,
            DatumType::F64,
            DatumType::I64,
            DatumType::I32,
            DatumType::Bool,
        ];
        if !known.contains(&datum) {
            bail!("input `{name}` is of {datum:?}; only numbers and booleans are read");
        }
        let dims: Vec<Option<usize>> = fact
            .shape
            .dims()
            .map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()))
            .collect();
        if !(1..=2).contains(&dims.len()) {
            bail!(
                "input `{name}` has {} dimensions; only [N] and [N, k] are read",
                dims.len()
            );
        }
        match dims[0] {
            None => {}
            Some(1) => single = true,
            Some(rows) => bail!(
                "input `{name}` takes {rows} rows at a time; make the first dimension free, or 1"
            ),
        }
        let width = match dims.get(1) {
            None => 1,
            Some(Some(width)) if *width > 0 => *width,
            Some(_) if count == 1 && !features.is_empty() => features.len(),
            Some(_) => bail!("input `{name}` does not say how many numbers it takes"),
        };
        let by_columns = count == 1 && !features.is_empty();
        if by_columns && features.len() != width {
            bail!(
                "parameter `features` names {}, and input `{name}` takes {width}",
                features.len()
            );
        }
        let input = GraphInput {
            columns: if by_columns {
                features.to_vec()
            } else {
                vec![column_name(&name)]
            },
            width,
            is_vector: !by_columns && width > 1,
            datum,
            rank: dims.len(),
        };
        let first = if single { 1.to_dim() } else { rows.to_dim() };
        let shape: TVec<TDim> = match input.rank {
            1 => tvec!(first),
            _ => tvec!(first, width.to_dim()),
        };
        model.set_input_fact(index, InferenceFact::dt_shape(datum, shape))?;
        inputs.push(input);
    }
    let model = model.into_typed()?.into_decluttered()?;
    let mut outputs = Vec::new();
    for (index, outlet) in model.output_outlets()?.iter().enumerate() {
        let fact = model.output_fact(index)?;
        let label = model.outlet_label(*outlet).map(str::to_owned);
        let name = label.unwrap_or_else(|| model.node(outlet.node).name.clone());
        let first = fact.shape.first();
        if first.is_none_or(|dim| *dim != rows.to_dim() && !(single && dim.is_one())) {
            bail!("output `{name}` has not a row for each row of the inputs");
        }
        let width = match fact.shape.len() {
            1 => None,
            2 => match fact.shape[1].to_usize() {
                Ok(1) => None,
                Ok(0) => bail!("output `{name}` has no numbers"),
                Ok(width) => Some(width),
                Err(_) => bail!("output `{name}` does not say how many numbers it has"),
            },
            dims => {
                bail!("output `{name}` has {dims} dimensions; only [N] and [N, k] can be answered")
            }
        };
        outputs.push(GraphOutput {
            name: column_name(&name),
            datum: fact.datum_type,
            width,
        });
    }
    Ok(Model {
        plan: model.into_optimized()?.into_runnable()?,
        inputs,
        outputs,
        class: None,
        is_single: single,
    })
}

/// Turns a name of the graph into a valid column name.
fn column_name(name: &str) -> String {
    let word = |c: char| {
        if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(word).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
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
                message.starts_with("asset `model` is no ONNX model"),
                "{message}"
            );
        }
    }
}
