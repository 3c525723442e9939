//! Columns of a table as inputs of a graph, and outputs of a graph as columns.

use tract_onnx::prelude::*;
use wafer::{Column, DataType, Field};

use crate::ml::tensor;

/// An input of the graph, and the columns from which it is read.
#[derive(Debug)]
pub(crate) struct GraphInput {
    /// Several columns, or one column of vectors.
    pub(crate) columns: Vec<String>,
    /// Number of values in a row.
    pub(crate) width: usize,
    /// Whether it is one column of vectors.
    pub(crate) is_vector: bool,
    pub(crate) datum: DatumType,
    /// Number of dimensions: 1 or 2.
    pub(crate) rank: usize,
}

/// An output of the graph, which becomes a column.
#[derive(Debug)]
pub(crate) struct GraphOutput {
    pub(crate) name: String,
    pub(crate) datum: DatumType,
    /// Length of each row's list, or `None` if a row has a single value.
    pub(crate) width: Option<usize>,
    pub(crate) doc: String,
}

/// How values are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Floats,
    Integers,
    Texts,
}

/// The values of some rows, one row after the other.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
    Texts(Vec<String>),
}

impl Values {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Floats => Self::Floats(Vec::new()),
            Kind::Integers => Self::Integers(Vec::new()),
            Kind::Texts => Self::Texts(Vec::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// Appends other values of the same kind.
    pub(crate) fn extend(&mut self, more: Self) {
        match (self, more) {
            (Self::Floats(values), Self::Floats(more)) => values.extend(more),
            (Self::Integers(values), Self::Integers(more)) => values.extend(more),
            (Self::Texts(values), Self::Texts(more)) => values.extend(more),
            _ => unreachable!("an output is of one kind"),
        }
    }

    /// Appends zeros, or empty texts.
    pub(crate) fn pad(&mut self, count: usize) {
        let length = self.len() + count;
        match self {
            Self::Floats(values) => values.resize(length, 0.0),
            Self::Integers(values) => values.resize(length, 0),
            Self::Texts(values) => values.resize(length, String::new()),
        }
    }
}

impl GraphInput {
    pub(crate) fn kind(&self) -> Kind {
        match self.datum {
            DatumType::String => Kind::Texts,
            DatumType::I64 | DatumType::I32 if !self.is_vector => Kind::Integers,
            _ => Kind::Floats,
        }
    }

    /// The columns that it is read from.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let data_type = match self.kind() {
            _ if self.is_vector => DataType::Vector(self.width as u32),
            Kind::Floats => DataType::Float64,
            Kind::Integers => DataType::Int64,
            Kind::Texts => DataType::Utf8,
        };
        let columns = self.columns.iter();
        columns
            .map(|name| Field::nullable(name, data_type.clone()))
            .collect()
    }

    /// Reads the values of all rows.
    pub(crate) fn read(
        &self,
        rows: &mut wafer::Table,
        out: &mut wafer::Table,
    ) -> Result<Values, String> {
        match self.kind() {
            Kind::Texts => self.read_texts(rows, out),
            Kind::Integers => self.read_integers(rows, out),
            Kind::Floats if self.is_vector => self.read_vectors(rows, out),
            Kind::Floats => self.read_floats(rows, out),
        }
    }

    fn read_vectors(
        &self,
        rows: &mut wafer::Table,
        out: &mut wafer::Table,
    ) -> Result<Values, String> {
        let name = &self.columns[0];
        let (_, values) = rows.take_vectors(name)?;
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        for (row, vector) in values.chunks_exact(self.width).enumerate() {
            self.check(row, name, vector, out);
        }
        Ok(Values::Floats(values))
    }

    fn read_floats(
        &self,
        rows: &mut wafer::Table,
        out: &mut wafer::Table,
    ) -> Result<Values, String> {
        let mut values = vec![0.0; rows.len() * self.width];
        for (place, name) in self.columns.iter().enumerate() {
            let column: Column<Option<f64>> = rows.take(name)?;
            for row in 0..rows.len() {
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
        let mut values = vec![0; rows.len() * self.width];
        let fits = |value: &i64| self.datum == DatumType::I64 || i32::try_from(*value).is_ok();
        for (place, name) in self.columns.iter().enumerate() {
            let column: Column<Option<i64>> = rows.take(name)?;
            for row in 0..rows.len() {
                match column.get(row).flatten() {
                    Some(value) if fits(&value) => values[row * self.width + place] = value,
                    Some(value) => {
                        let message = format!(
                            "column `{name}` is {value}, and the model takes 32 bits there"
                        );
                        out.fail(row, message);
                    }
                    None => out.fail(row, missing(name, "integers")),
                }
            }
        }
        Ok(Values::Integers(values))
    }

    fn read_texts(
        &self,
        rows: &mut wafer::Table,
        out: &mut wafer::Table,
    ) -> Result<Values, String> {
        let mut values = vec![String::new(); rows.len() * self.width];
        for (place, name) in self.columns.iter().enumerate() {
            let column: Column<Option<String>> = rows.take(name)?;
            for row in 0..rows.len() {
                match column.get(row).flatten() {
                    Some(text) => values[row * self.width + place] = text,
                    None => out.fail(row, missing(name, "texts")),
                }
            }
        }
        Ok(Values::Texts(values))
    }

    /// Marks a row as failed if the input is not a float and does not take the row's values.
    fn check(&self, row: usize, name: &str, values: &[f64], out: &mut wafer::Table) {
        if self.datum.is_float() {
            return;
        }
        if values.iter().any(|value| value.is_nan()) {
            out.fail(row, missing(name, "integers"));
        } else if self.datum != DatumType::Bool
            && let Some(value) = values.iter().find(|value| value.fract() != 0.0)
        {
            let message =
                format!("column `{name}` has {value}, and the model takes integers there");
            out.fail(row, message);
        }
    }

    /// The tensor of some rows.
    pub(crate) fn tensor(&self, values: &Values, start: usize, rows: usize) -> TractResult<Tensor> {
        let shape: &[usize] = match self.rank {
            1 => &[rows],
            _ => &[rows, self.width],
        };
        let range = start * self.width..(start + rows) * self.width;
        match (values, self.datum) {
            (Values::Texts(values), _) => tensor(shape, values[range].to_vec()),
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

fn missing(name: &str, wanted: &str) -> String {
    format!("column `{name}` is missing, and the model takes {wanted} there")
}

fn cast<T, V: Copy>(values: &[V], cast: impl Fn(V) -> T) -> Vec<T> {
    values.iter().map(|value| cast(*value)).collect()
}

impl GraphOutput {
    pub(crate) fn kind(&self) -> Kind {
        match self.datum {
            DatumType::String => Kind::Texts,
            datum if datum.is_float() => Kind::Floats,
            _ => Kind::Integers,
        }
    }

    /// The column that it becomes.
    pub(crate) fn field(&self) -> Field {
        let data_type = match (self.width.is_some(), self.kind()) {
            (true, Kind::Floats) => DataType::ListFloat64,
            (true, Kind::Integers) => DataType::ListInt64,
            (true, Kind::Texts) => DataType::ListUtf8,
            (false, Kind::Floats) => DataType::Float64,
            (false, Kind::Integers) => DataType::Int64,
            (false, Kind::Texts) => DataType::Utf8,
        };
        Field::required(&self.name, data_type).with_doc(&self.doc)
    }

    /// The values of a tensor.
    pub(crate) fn values(&self, tensor: &Tensor) -> TractResult<Values> {
        Ok(match self.kind() {
            Kind::Texts => {
                let texts = tensor.try_as_plain_ram()?.as_slice::<String>()?;
                Values::Texts(texts.to_vec())
            }
            Kind::Integers => {
                let wide = tensor.cast_to::<i64>()?;
                Values::Integers(wide.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
            }
            Kind::Floats => {
                let wide = tensor.cast_to::<f64>()?;
                Values::Floats(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
            }
        })
    }

    /// Adds the column to a table.
    pub(crate) fn column(&self, table: wafer::Table, values: Values) -> wafer::Table {
        let name = &self.name;
        match (self.width, values) {
            (None, Values::Floats(values)) => table.with(name, Column::from(values)),
            (None, Values::Integers(values)) => table.with(name, Column::from(values)),
            (None, Values::Texts(values)) => {
                table.with(name, values.into_iter().collect::<Column<String>>())
            }
            (Some(width), Values::Floats(values)) => {
                let lists = values.chunks_exact(width).map(<[f64]>::to_vec);
                table.with(name, lists.collect::<Column<Vec<f64>>>())
            }
            (Some(width), Values::Integers(values)) => {
                let lists = values.chunks_exact(width).map(<[i64]>::to_vec);
                table.with(name, lists.collect::<Column<Vec<i64>>>())
            }
            (Some(width), Values::Texts(values)) => {
                let lists = values.chunks_exact(width).map(<[String]>::to_vec);
                table.with(name, lists.collect::<Column<Vec<String>>>())
            }
        }
    }
}
