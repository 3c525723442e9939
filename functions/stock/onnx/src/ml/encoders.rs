//! Operators that prepare columns: scalers, imputers, encoders and those that select and join
//! columns.

use std::collections::BTreeMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::{Fact, Kernel, List, Matrix, list, only, rows, tensor};

/// What `OneHotEncoder` says of a value that is not one of its categories, if it refuses those.
pub(crate) const NO_CATEGORY: &str = "not one of the encoder's categories";

fn last(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// The value for a place in a row: of a list with one value for each place, or with one for all.
fn at<T: Copy>(values: &[T], place: usize) -> T {
    match values {
        [value] => *value,
        values => values[place % values.len()],
    }
}

/// `(x - offset) * scale`
#[derive(Debug)]
pub(super) struct Scaler {
    offsets: Vec<f32>,
    scales: Vec<f32>,
}

impl Scaler {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let (offsets, scales): (Vec<f32>, Vec<f32>) = (list(node, "offset")?, list(node, "scale")?);
        if offsets.is_empty() || offsets.len() != scales.len() {
            return node.bail(&format!(
                "{} offsets and {} scales",
                offsets.len(),
                scales.len()
            ));
        }
        Ok(Self { offsets, scales })
    }
}

impl Kernel for Scaler {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![(DatumType::F32, only(inputs)?.1.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?;
        let width = last(input.shape());
        ensure!(
            [1, width].contains(&self.offsets.len()),
            "it is made for {} numbers in a row, and gets {width}",
            self.offsets.len()
        );
        let at = |place: usize| (at(&self.offsets, place), at(&self.scales, place));
        let scaled: Vec<f32> = if input.datum_type() == DatumType::F64 {
            let values = input.try_as_plain_ram()?;
            let values = values.as_slice::<f64>()?.iter().enumerate();
            let scale = |(place, value): (usize, &f64)| {
                let (offset, scale) = at(place % width);
                ((value - f64::from(offset)) * f64::from(scale)) as f32
            };
            values.map(scale).collect()
        } else {
            let narrow = input.cast_to::<f32>()?;
            let values = narrow.try_as_plain_ram()?;
            let values = values.as_slice::<f32>()?.iter().enumerate();
            let scale = |(place, value): (usize, &f32)| {
                let (offset, scale) = at(place % width);
                (value - offset) * scale
            };
            values.map(scale).collect()
        };
        Ok(vec![Tensor::from_shape(input.shape(), &scaled)?])
    }
}

/// Replaces a value, usually NaN.
#[derive(Debug)]
pub(super) enum Imputer {
    Floats { replaced: f32, by: Vec<f32> },
    Integers { replaced: i64, by: Vec<i64> },
}

impl Imputer {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let floats: Vec<f32> = list(node, "imputed_value_floats")?;
        let integers: Vec<i64> = list(node, "imputed_value_int64s")?;
        match (floats.is_empty(), integers.is_empty()) {
            (false, true) => Ok(Self::Floats {
                replaced: node.get_attr_opt("replaced_value_float")?.unwrap_or(0.0),
                by: floats,
            }),
            (true, false) => Ok(Self::Integers {
                replaced: node.get_attr_opt("replaced_value_int64")?.unwrap_or(0),
                by: integers,
            }),
            _ => node.bail("it has no values to impute, or values of two types"),
        }
    }
}

/// Replaces the values that are to be replaced.
fn imputed<T: Datum + Copy>(
    input: &Tensor,
    by: &[T],
    is_replaced: impl Fn(T) -> bool,
) -> TractResult<Tensor> {
    let width = last(input.shape());
    ensure!(
        [1, width].contains(&by.len()),
        "it is made for {} values in a row, and gets {width}",
        by.len()
    );
    let values = input.try_as_plain_ram()?;
    let values = values.as_slice::<T>()?.iter().enumerate();
    let impute = |(place, value): (usize, &T)| match is_replaced(*value) {
        true => at(by, place % width),
        false => *value,
    };
    let imputed: Vec<T> = values.map(impute).collect();
    Tensor::from_shape(input.shape(), &imputed)
}

impl Kernel for Imputer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = only(inputs)?;
        match (self, input.0) {
            (Self::Floats { .. }, DatumType::F32 | DatumType::F64)
            | (Self::Integers { .. }, DatumType::I64) => Ok(vec![input.clone()]),
            (_, found) => bail!("it imputes values of another type than it gets, {found:?}"),
        }
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?;
        let output = match self {
            Self::Integers { replaced, by } => imputed(input, by, |v: i64| v == *replaced)?,
            Self::Floats { replaced, by } if input.datum_type() == DatumType::F64 => {
                let by: Vec<f64> = by.iter().map(|value| f64::from(*value)).collect();
                let replaced = f64::from(*replaced);
                let is_nan = replaced.is_nan();
                imputed(input, &by, |v: f64| v == replaced || is_nan && v.is_nan())?
            }
            Self::Floats { replaced, by } => {
                let is_nan = replaced.is_nan();
                imputed(input, by, |v: f32| v == *replaced || is_nan && v.is_nan())?
            }
        };
        Ok(vec![output])
    }
}

/// A value that is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Text(String),
    Integer(i64),
    /// The bits of a number of 64 bits. All NaN are one, and so are 0 and -0.
    Number(u64),
}

impl Key {
    fn number(value: f64) -> Self {
        match value {
            _ if value.is_nan() => Self::Number(f64::NAN.to_bits()),
            _ if value == 0.0 => Self::Number(0.0f64.to_bits()),
            _ => Self::Number(value.to_bits()),
        }
    }

    fn all(list: &List) -> Vec<Self> {
        match list {
            List::Texts(values) => values.iter().cloned().map(Self::Text).collect(),
            List::Integers(values) => values.iter().copied().map(Self::Integer).collect(),
            List::Floats(values) => values.iter().map(|v| Self::number(f64::from(*v))).collect(),
            List::Doubles(values) => values.iter().copied().map(Self::number).collect(),
        }
    }

    /// The place of each key; the last one counts.
    fn places(list: &List) -> BTreeMap<Self, usize> {
        Self::all(list).into_iter().zip(0..).collect()
    }
}

/// A column of 0 and 1 for each category.
#[derive(Debug)]
pub(super) struct OneHotEncoder {
    places: BTreeMap<Key, usize>,
    count: usize,
    is_text: bool,
    /// Whether other values become zeros. Otherwise their rows fail.
    zeros: bool,
}

impl OneHotEncoder {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let categories = List::classes(node, "cats_int64s", "cats_strings")?;
        Ok(Self {
            places: Key::places(&categories),
            count: categories.len(),
            is_text: matches!(categories, List::Texts(_)),
            zeros: node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0,
        })
    }
}

impl Kernel for OneHotEncoder {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (datum, shape) = only(inputs)?;
        ensure!(
            self.is_text == (*datum == DatumType::String),
            "its categories are of another type than it gets, {datum:?}"
        );
        let mut shape = shape.clone();
        shape.push(self.count.to_dim());
        Ok(vec![(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?;
        // Numbers become integers, without what is behind the point.
        let values = match self.is_text {
            true => List::from_tensor(input)?,
            false => {
                let integers = input.cast_to::<i64>()?;
                List::from_tensor(&integers)?
            }
        };
        let mut output = vec![0.0f32; values.len() * self.count];
        let rows = output.chunks_exact_mut(self.count);
        for (row, key) in rows.zip(Key::all(&values)) {
            match self.places.get(&key) {
                Some(place) => row[*place] = 1.0,
                None => ensure!(self.zeros, "{key:?} is {NO_CATEGORY}"),
            }
        }
        let mut shape = input.shape().to_vec();
        shape.push(self.count);
        Ok(vec![Tensor::from_shape(&shape, &output)?])
    }
}

/// Replaces listed values by others.
#[derive(Debug)]
pub(super) struct LabelEncoder {
    places: BTreeMap<Key, usize>,
    keys: DatumType,
    /// What the keys are replaced by, and last the value for all others.
    values: List,
}

impl LabelEncoder {
    fn new(keys: &List, values: List, default: List) -> TractResult<Self> {
        ensure!(
            keys.len() == values.len() && keys.len() > 0,
            "it has {} keys and {} values",
            keys.len(),
            values.len()
        );
        let values = match (values, default) {
            (List::Texts(values), List::Texts(more)) => List::Texts([values, more].concat()),
            (List::Integers(values), List::Integers(more)) => {
                List::Integers([values, more].concat())
            }
            (List::Floats(values), List::Floats(more)) => List::Floats([values, more].concat()),
            (List::Doubles(values), List::Doubles(more)) => List::Doubles([values, more].concat()),
            _ => bail!("the default is of another type than the values"),
        };
        ensure!(values.len() == keys.len() + 1, "it has not one default");
        Ok(Self {
            places: Key::places(keys),
            keys: keys.datum_type(),
            values,
        })
    }

    pub(super) fn read(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let keys = listed(context, node, "keys")?;
        let values = listed(context, node, "values")?;
        let tensor: Option<&TensorProto> = node.get_attr_opt("default_tensor")?;
        let default = match (&values, tensor) {
            (_, Some(tensor)) => List::from_tensor(&context.load_tensor(tensor)?)?,
            (List::Texts(_), None) => default_text(node)?,
            (List::Integers(_), None) => default_integer(node)?,
            (List::Floats(_), None) => {
                let default = node.get_attr_opt("default_float")?;
                List::Floats(vec![default.unwrap_or(-0.0)])
            }
            (List::Doubles(_), None) => List::Doubles(vec![-0.0]),
        };
        Self::new(&keys, values, default)
    }
}

/// Replaces texts by integers, or integers by texts, whichever it gets.
#[derive(Debug)]
pub(super) struct CategoryMapper {
    integers: LabelEncoder,
    texts: LabelEncoder,
}

impl CategoryMapper {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let integers = list(node, "cats_int64s")?;
        Self::new(node, list(node, "cats_strings")?, integers)
    }

    /// The first version of `LabelEncoder`: the integers are the places of the texts.
    pub(super) fn of_classes(node: &NodeProto) -> TractResult<Self> {
        let texts: Vec<String> = list(node, "classes_strings")?;
        let places = (0..texts.len() as i64).collect();
        Self::new(node, texts, places)
    }

    fn new(node: &NodeProto, texts: Vec<String>, integers: Vec<i64>) -> TractResult<Self> {
        let (texts, integers) = (List::Texts(texts), List::Integers(integers));
        Ok(Self {
            integers: LabelEncoder::new(&texts, integers.clone(), default_integer(node)?)?,
            texts: LabelEncoder::new(&integers, texts, default_text(node)?)?,
        })
    }

    fn of(&self, input: DatumType) -> &LabelEncoder {
        match input {
            DatumType::String => &self.integers,
            _ => &self.texts,
        }
    }
}

impl Kernel for CategoryMapper {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        self.of(only(inputs)?.0).outputs(inputs)
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        self.of(only(inputs)?.datum_type()).run(inputs)
    }
}

/// The keys or the values of a `LabelEncoder`, under any of the names that they may have.
fn listed(context: &ParsingContext<'_>, node: &NodeProto, name: &str) -> TractResult<List> {
    let tensor: Option<&TensorProto> = node.get_attr_opt(&format!("{name}_tensor"))?;
    if let Some(tensor) = tensor {
        return List::from_tensor(&context.load_tensor(tensor)?);
    }
    let texts: Vec<String> = list(node, &format!("{name}_strings"))?;
    if !texts.is_empty() {
        return Ok(List::Texts(texts));
    }
    let integers: Vec<i64> = list(node, &format!("{name}_int64s"))?;
    if !integers.is_empty() {
        return Ok(List::Integers(integers));
    }
    Ok(List::Floats(list(node, &format!("{name}_floats"))?))
}

fn default_text(node: &NodeProto) -> TractResult<List> {
    let default: Option<String> = node.get_attr_opt("default_string")?;
    Ok(List::Texts(vec![
        default.unwrap_or_else(|| "_Unused".to_owned()),
    ]))
}

fn default_integer(node: &NodeProto) -> TractResult<List> {
    let default: Option<i64> = node.get_attr_opt("default_int64")?;
    Ok(List::Integers(vec![default.unwrap_or(-1)]))
}

impl Kernel for LabelEncoder {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (datum, shape) = only(inputs)?;
        // What is computed of shapes is of the type of dimensions, which are integers.
        let is_dimension = *datum == DatumType::TDim && self.keys == DatumType::I64;
        ensure!(
            *datum == self.keys || is_dimension,
            "its keys are {:?}, and it gets {datum:?}",
            self.keys
        );
        Ok(vec![(self.values.datum_type(), shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?.cast_to_dt(self.keys)?;
        let keys = Key::all(&List::from_tensor(&input)?);
        let default = self.values.len() - 1;
        let places = keys.iter().map(|key| self.places.get(key).copied());
        let places: Vec<usize> = places.map(|place| place.unwrap_or(default)).collect();
        Ok(vec![self.values.pick(&places, input.shape())?])
    }
}

/// 1 for numbers above a threshold, 0 for others.
#[derive(Debug)]
pub(super) struct Binarizer(f32);

impl Binarizer {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        Ok(Self(node.get_attr_opt("threshold")?.unwrap_or(0.0)))
    }
}

impl Kernel for Binarizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = only(inputs)?;
        ensure!(
            input.0 == DatumType::F32,
            "it reads F32, and gets {:?}",
            input.0
        );
        Ok(vec![input.clone()])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?;
        let values = input.try_as_plain_ram()?;
        let values = values.as_slice::<f32>()?;
        ensure!(
            !values.iter().any(|value| value.is_nan()),
            "a missing number is neither above nor below the threshold"
        );
        let binary: Vec<f32> = values
            .iter()
            .map(|value| f32::from(u8::from(*value > self.0)))
            .collect();
        Ok(vec![Tensor::from_shape(input.shape(), &binary)?])
    }
}

/// Divides rows by their greatest value, or by their length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Normalizer {
    Max,
    Absolute,
    Euclidean,
}

impl Normalizer {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let norm: Option<&str> = node.get_attr_opt("norm")?;
        Ok(match norm.unwrap_or("MAX") {
            "MAX" => Self::Max,
            "L1" => Self::Absolute,
            "L2" => Self::Euclidean,
            other => return node.bail(&format!("there is no norm `{other}`")),
        })
    }

    fn length(self, row: &[f32]) -> f64 {
        let values = row.iter().map(|value| f64::from(*value));
        match self {
            // The greatest value, not the greatest absolute value, as in onnxruntime.
            Self::Max => values.fold(f64::NEG_INFINITY, f64::max),
            Self::Absolute => values.map(f64::abs).sum(),
            Self::Euclidean => values.map(|value| value * value).sum::<f64>().sqrt(),
        }
    }
}

impl Kernel for Normalizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let input = only(inputs)?;
        rows(input)?;
        Ok(vec![(DatumType::F32, input.1.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = only(inputs)?;
        let matrix = Matrix::read(input)?;
        let mut normal = Vec::with_capacity(matrix.values.len());
        for row in matrix.rows() {
            let length = self.length(row);
            let length = if length == 0.0 { 1.0 } else { length };
            normal.extend(row.iter().map(|value| (f64::from(*value) / length) as f32));
        }
        Ok(vec![Tensor::from_shape(input.shape(), &normal)?])
    }
}

/// Joins columns of numbers.
#[derive(Debug)]
pub(super) struct FeatureVectorizer(Vec<usize>);

impl FeatureVectorizer {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let widths: Vec<i64> = list(node, "inputdimensions")?;
        let widths = widths.into_iter().map(usize::try_from);
        let widths: Result<Vec<usize>, _> = widths.collect();
        let widths = widths.context("inputdimensions has a negative number")?;
        let total: usize = widths.iter().fold(0, |sum, n| sum.saturating_add(*n));
        match (1..=1 << 20).contains(&total) {
            true => Ok(Self(widths)),
            false => node.bail(&format!("it makes {total} numbers in a row")),
        }
    }
}

impl Kernel for FeatureVectorizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        ensure!(
            inputs.len() == self.0.len() && !inputs.is_empty(),
            "it has {} inputs, and inputdimensions for {}",
            inputs.len(),
            self.0.len()
        );
        let total: usize = self.0.iter().sum();
        Ok(vec![(
            DatumType::F32,
            tvec!(rows(&inputs[0])?, total.to_dim()),
        )])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let matrices = inputs.iter().map(|input| Matrix::read(input));
        let matrices: Vec<Matrix> = matrices.collect::<TractResult<_>>()?;
        let count = matrices.first().map_or(0, Matrix::count);
        ensure!(
            matrices.iter().all(|matrix| matrix.count() == count),
            "its inputs have different numbers of rows"
        );
        let mut joined = Vec::new();
        for row in 0..count {
            for (matrix, wanted) in matrices.iter().zip(&self.0) {
                let found = &matrix.values[row * matrix.width..][..matrix.width];
                let place = |place: usize| found.get(place).copied().unwrap_or(0.0);
                joined.extend((0..*wanted).map(place));
            }
        }
        let total: usize = self.0.iter().sum();
        Ok(vec![Tensor::from_shape(&[count, total], &joined)?])
    }
}

/// Selects columns by their places, which are its second input.
#[derive(Debug)]
pub(super) struct ArrayFeatureExtractor;

impl Kernel for ArrayFeatureExtractor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [(datum, shape), (_, places)] = inputs else {
            bail!("it has {} inputs instead of 2", inputs.len());
        };
        let count: TDim = places.iter().product();
        let mut shape = shape.clone();
        match shape.len() {
            0 => bail!("it selects from a single value"),
            1 => Ok(vec![(*datum, tvec!(1.to_dim(), count))]),
            dimensions => {
                shape[dimensions - 1] = count;
                Ok(vec![(*datum, shape)])
            }
        }
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let [input, places] = inputs else {
            bail!("it has {} inputs instead of 2", inputs.len());
        };
        let width = last(input.shape());
        let places = places.cast_to::<i64>()?;
        let places = places.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
        let inside = |place: &i64| usize::try_from(*place).ok().filter(|p| *p < width);
        let places: Option<Vec<usize>> = places.iter().map(inside).collect();
        let places = places.with_context(|| format!("a place is not in 0 to {width}"))?;
        let mut shape = match input.rank() {
            1 => vec![1, 0],
            _ => input.shape().to_vec(),
        };
        if let Some(last) = shape.last_mut() {
            *last = places.len();
        }
        let output = match input.datum_type() {
            DatumType::F32 => selected::<f32>(input, width, &places, &shape),
            DatumType::F64 => selected::<f64>(input, width, &places, &shape),
            DatumType::I64 => selected::<i64>(input, width, &places, &shape),
            DatumType::I32 => selected::<i32>(input, width, &places, &shape),
            DatumType::Bool => selected::<bool>(input, width, &places, &shape),
            DatumType::String => selected::<String>(input, width, &places, &shape),
            other => bail!("it does not read {other:?}"),
        };
        Ok(vec![output?])
    }
}

fn selected<T: Datum>(
    input: &Tensor,
    width: usize,
    places: &[usize],
    shape: &[usize],
) -> TractResult<Tensor> {
    let values = input.try_as_plain_ram()?;
    let rows = values.as_slice::<T>()?.chunks_exact(width.max(1));
    let row = |row: &[T]| -> Vec<T> { places.iter().map(|place| row[*place].clone()).collect() };
    let picked: Vec<T> = rows.flat_map(row).collect();
    tensor(shape, picked)
}
