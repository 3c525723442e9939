//! Predicts by an ONNX model, given as the asset `model`, with the operators that
//! [tract](https://github.com/sonos/tract) has.
//!
//! Each input of the graph is read from the column of its name: one number for each row (of
//! shape `[N]` or `[N, 1]`), or a vector of `k` (`[N, k]`, from a column `vector(k)`). A graph
//! with one input of shape `[N, k]` reads `k` columns of numbers instead when the parameter
//! `features` names them, separated by commas. A missing number is NaN; where the graph
//! takes integers or booleans, its row is an error.
//!
//! Each output of the graph becomes a column of its name: one number for each row, or a list.
//! Parameter `class`: of a classifier, whose probabilities are a list, the one of this class, from
//! 0, is the column `prediction`.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike as _, Factoid as _, bail, format_err};
use wafer::{Column, DataType, Describe, Field, Init};

/// A model, ready to run.
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<GraphInput>,
    outputs: Vec<GraphOutput>,
    /// An output that is a list, and the place in it that is the prediction.
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

/// An input of the graph, and where its numbers come from.
#[derive(Debug)]
struct GraphInput {
    /// Columns of numbers, side by side; or one column of vectors.
    columns: Vec<String>,
    /// Numbers of a row.
    width: usize,
    /// Whether it is one column of vectors.
    is_vector: bool,
    datum: DatumType,
    /// 1 or 2.
    rank: usize,
}

#[derive(Debug)]
struct GraphOutput {
    name: String,
    datum: DatumType,
    /// Numbers of a row; absent: one, without a list.
    width: Option<usize>,
}

/// Prediction by an ONNX model.
#[wafer::function(init = load)]
pub fn onnx(mut rows: wafer::Table, model: &Model) -> Result<wafer::Table, String> {
    let count = rows.len();
    let mut out = wafer::Table::new(count);
    let inputs: Vec<Vec<f64>> = model
        .inputs
        .iter()
        .map(|input| input.read(&mut rows, &mut out))
        .collect::<Result<_, _>>()?;
    let step = if model.is_single { 1 } else { count };
    let mut made: Vec<Vec<f64>> = vec![Vec::new(); model.outputs.len()];
    for start in (0..count).step_by(step.max(1)) {
        let tensors: TVec<TValue> = model
            .inputs
            .iter()
            .zip(&inputs)
            .map(|(input, values)| {
                let values = &values[start * input.width..][..step * input.width];
                input.tensor(values, step).map(Into::into)
            })
            .collect::<TractResult<_>>()
            .map_err(|e| format!("{e:#}"))?;
        let answers = model.plan.run(tensors).map_err(|e| format!("{e:#}"))?;
        for ((output, answer), made) in model.outputs.iter().zip(answers.iter()).zip(&mut made) {
            let numbers = output.numbers(answer).map_err(|e| format!("{e:#}"))?;
            if numbers.len() != step * output.width.unwrap_or(1) {
                let (found, name) = (numbers.len(), &output.name);
                return Err(format!(
                    "output `{name}` has {found} numbers for {step} rows"
                ));
            }
            made.extend(numbers);
        }
    }
    if let Some((output, class)) = model.class {
        let width = model.outputs[output].width.unwrap_or(1);
        let of_class = made[output].chunks_exact(width).map(|row| row[class]);
        out = out.with("prediction", Column::from(of_class.collect::<Vec<_>>()));
    }
    for (output, numbers) in model.outputs.iter().zip(made) {
        out = output.column(out, numbers);
    }
    Ok(out)
}

impl GraphInput {
    /// The numbers of all rows, one row after the other.
    fn read(&self, rows: &mut wafer::Table, out: &mut wafer::Table) -> Result<Vec<f64>, String> {
        let count = rows.len();
        if self.is_vector {
            let name = &self.columns[0];
            let (_, values) = rows.take_vectors(name)?;
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            for (row, vector) in values.chunks_exact(self.width).enumerate() {
                self.check(row, name, vector, out);
            }
            return Ok(values);
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
        Ok(values)
    }

    /// Fails a row that lacks a number where there is no NaN.
    fn check(&self, row: usize, name: &str, values: &[f64], out: &mut wafer::Table) {
        if !self.datum.is_float() && values.iter().any(|value| value.is_nan()) {
            let message = format!("column `{name}` is missing, and the model takes integers there");
            out.fail(row, message);
        }
    }

    fn tensor(&self, values: &[f64], rows: usize) -> TractResult<Tensor> {
        let shape: &[usize] = match self.rank {
            1 => &[rows],
            _ => &[rows, self.width],
        };
        match self.datum {
            DatumType::F32 => Tensor::from_shape(shape, &cast(values, |v| v as f32)),
            DatumType::F64 => Tensor::from_shape(shape, values),
            DatumType::I64 => Tensor::from_shape(shape, &cast(values, |v| v as i64)),
            DatumType::I32 => Tensor::from_shape(shape, &cast(values, |v| v as i32)),
            _ => Tensor::from_shape(shape, &cast(values, |v| v != 0.0)),
        }
    }
}

fn cast<T>(values: &[f64], cast: impl Fn(f64) -> T) -> Vec<T> {
    values.iter().map(|value| cast(*value)).collect()
}

impl GraphOutput {
    fn numbers(&self, tensor: &Tensor) -> TractResult<Vec<f64>> {
        let wide = tensor.cast_to::<f64>()?;
        Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
    }

    fn column(&self, table: wafer::Table, numbers: Vec<f64>) -> wafer::Table {
        match self.width {
            Some(width) => {
                let lists = numbers.chunks_exact(width).map(<[f64]>::to_vec);
                table.with(&self.name, lists.collect::<Column<Vec<f64>>>())
            }
            None if self.datum.is_float() => table.with(&self.name, Column::from(numbers)),
            None => {
                let integers = numbers.into_iter().map(|n| n as i64).collect::<Vec<_>>();
                table.with(&self.name, Column::from(integers))
            }
        }
    }
}

impl Describe for Model {
    fn inputs(&self) -> Vec<Field> {
        let fields = self.inputs.iter().flat_map(|input| {
            input.columns.iter().map(|name| match input.is_vector {
                true => Field::nullable(name, DataType::Vector(input.width as u32)),
                false => Field::nullable(name, DataType::Float64),
            })
        });
        fields.collect()
    }

    fn outputs(&self) -> Vec<Field> {
        let field = |output: &GraphOutput| {
            let data_type = match output.width {
                Some(_) => DataType::ListFloat64,
                None if output.datum.is_float() => DataType::Float64,
                None => DataType::Int64,
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
/// What is wrong with it.
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
    /// Runs it for a row of zeros: what cannot be run is to be known at registration.
    fn try_one(&self) -> Result<(), String> {
        let table = self
            .inputs
            .iter()
            .fold(wafer::Table::new(1), |table, input| {
                input.columns.iter().fold(table, |table, name| {
                    if input.is_vector {
                        table.with_vectors(name, input.width as u32, vec![0.0; input.width])
                    } else {
                        table.with(name, Column::from(vec![0.0]))
                    }
                })
            });
        let tried = onnx(table, self).map(drop);
        tried.map_err(|e| format!("asset `model`: it cannot be run for one row: {e}"))
    }
}

fn read(mut bytes: &[u8], features: &[String]) -> TractResult<Model> {
    let mut model = tract_onnx::onnx().model_for_read(&mut bytes)?;
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

/// A name that a column can have.
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
    fn what_is_no_model_is_refused() {
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
