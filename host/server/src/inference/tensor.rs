//! Conversion of tensors: those of a request to values of rows, and columns to those of an answer.

use std::io::Write;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use wafer_core::{ColumnBuilder, DataType, Field, cell_to_json, widen};

/// The memory that an element takes as JSON, in bytes: the value, and a text's allocation.
const ELEMENT: u64 = 64;

/// A tensor of a request.
#[derive(Debug, Deserialize)]
pub(super) struct Tensor {
    pub(super) name: String,
    shape: Vec<u64>,
    datatype: String,
    parameters: Option<Map<String, Json>>,
    data: Option<Vec<Json>>,
    /// Whether the data came in binary form.
    #[serde(skip)]
    is_binary: bool,
}

/// A tensor of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

/// The elements of a tensor, in row-major order. Each is made when it is written.
#[derive(Clone, Copy, Debug)]
struct Elements<'a> {
    column: &'a ArrayRef,
    width: Width,
}

impl Elements<'_> {
    /// Returns the elements of a row.
    fn row(self, row: usize) -> Vec<Json> {
        match cell_to_json(self.column, row) {
            Json::Array(items) if self.width != Width::Ragged => items,
            Json::Array(items) => vec![Json::Array(items).to_string().into()],
            value => vec![value],
        }
    }

    fn iter(self) -> impl Iterator<Item = Json> {
        (0..self.column.len()).flat_map(move |row| self.row(row))
    }
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The datatypes of the protocol: the name, the size of an element in bytes (0 if sizes vary), and
/// the kind of its values.
const DATATYPES: [(&str, usize, ValueKind); 12] = [
    ("BOOL", 1, ValueKind::Bool),
    ("UINT8", 1, ValueKind::Int(0, u8::MAX as i128)),
    ("UINT16", 2, ValueKind::Int(0, u16::MAX as i128)),
    ("UINT32", 4, ValueKind::Int(0, u32::MAX as i128)),
    ("UINT64", 8, ValueKind::Int(0, u64::MAX as i128)),
    ("INT8", 1, ValueKind::Int(i8::MIN as i128, i8::MAX as i128)),
    (
        "INT16",
        2,
        ValueKind::Int(i16::MIN as i128, i16::MAX as i128),
    ),
    (
        "INT32",
        4,
        ValueKind::Int(i32::MIN as i128, i32::MAX as i128),
    ),
    (
        "INT64",
        8,
        ValueKind::Int(i64::MIN as i128, i64::MAX as i128),
    ),
    ("FP32", 4, ValueKind::Float),
    ("FP64", 8, ValueKind::Float),
    ("BYTES", 0, ValueKind::Bytes),
];

/// The kind of the values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueKind {
    Bool,
    /// An integer between two values, both included.
    Int(i128, i128),
    Float,
    Bytes,
}

impl ValueKind {
    /// Returns whether columns of a type are read from values of this kind.
    fn fits(self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Boolean => self == Self::Bool,
            DataType::Int64 | DataType::ListInt64 => matches!(self, Self::Int(..)),
            DataType::Float64 | DataType::Float32 | DataType::ListFloat64 | DataType::Vector(_) => {
                matches!(self, Self::Float | Self::Int(..))
            }
            DataType::Utf8
            | DataType::Binary
            | DataType::Timestamp
            | DataType::Date
            | DataType::ListUtf8 => self == Self::Bytes,
            DataType::Arrow(_) => false,
        }
    }

    /// Returns whether a JSON value is of this kind. Nulls are of every kind.
    fn accepts(self, value: &Json) -> bool {
        match self {
            _ if value.is_null() => true,
            Self::Bool => value.is_boolean(),
            Self::Int(from, to) => {
                let signed = value.as_i64().map(i128::from);
                let value = signed.or_else(|| value.as_u64().map(i128::from));
                value.is_some_and(|value| (from..=to).contains(&value))
            }
            // Strings such as "NaN" are accepted, because answers have them too.
            Self::Float => value.is_number() || value.is_string(),
            Self::Bytes => value.is_string(),
        }
    }
}

/// Returns the metadata of a field: its name, its datatype and its shape.
pub(super) fn metadata(field: &Field) -> Json {
    let shape = match &field.data_type {
        DataType::Vector(n) => json!([-1, n]),
        DataType::ListInt64 | DataType::ListFloat64 | DataType::ListUtf8 => json!([-1, -1]),
        _ => json!([-1]),
    };
    json!({ "name": field.name, "datatype": datatype(&field.data_type), "shape": shape })
}

/// Returns the datatype of the protocol in which values of a type are answered.
fn datatype(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "BOOL",
        DataType::Int64 | DataType::ListInt64 => "INT64",
        DataType::Float64 | DataType::ListFloat64 => "FP64",
        DataType::Float32 | DataType::Vector(_) => "FP32",
        // Times are written as in RFC 3339.
        DataType::Utf8
        | DataType::Binary
        | DataType::Timestamp
        | DataType::Date
        | DataType::ListUtf8
        | DataType::Arrow(_) => "BYTES",
    }
}

impl Tensor {
    /// Returns the number of rows, which is the first dimension.
    pub(super) fn rows(&self) -> Result<usize, String> {
        let first = self.shape.first();
        let first = first.ok_or_else(|| format!("input `{}` has no shape", self.name))?;
        usize::try_from(*first).map_err(|_| format!("input `{}` has too many rows", self.name))
    }

    /// Returns the size of an element in bytes and the kind of the values.
    fn kind(&self) -> Result<(usize, ValueKind), String> {
        let found = DATATYPES.iter().find(|(name, ..)| *name == self.datatype);
        match found {
            Some((_, bytes, kind)) => Ok((*bytes, *kind)),
            None => Err(format!(
                "input `{}`: datatype `{}` is not supported; use BOOL, INT8 to INT64, UINT8 to \
                 UINT64, FP32, FP64 or BYTES",
                self.name, self.datatype
            )),
        }
    }

    /// Returns the number of elements, which is the product of the dimensions.
    fn count(&self) -> Result<usize, String> {
        let product = self
            .shape
            .iter()
            .try_fold(1u64, |product, dimension| product.checked_mul(*dimension));
        let count = product.and_then(|product| usize::try_from(product).ok());
        // A body cannot hold more elements, so that a larger shape must be wrong.
        let count = count.filter(|count| *count <= crate::MAX_BODY_BYTES);
        count.ok_or_else(|| format!("input `{}`: shape {:?} is too large", self.name, self.shape))
    }

    /// Returns a value for each row, in the form that a column of type `data_type` is read from.
    ///
    /// # Errors
    /// Returns a message when the datatype, the shape or an element does not fit the type.
    pub(super) fn into_rows(mut self, data_type: &DataType) -> Result<Vec<Json>, String> {
        let (bytes, kind) = self.kind()?;
        if !kind.fits(data_type) {
            return Err(format!(
                "input `{}` is {}, and {data_type} is read from {}",
                self.name,
                self.datatype,
                datatype(data_type)
            ));
        }
        let (rows, count) = (self.rows()?, self.count()?);
        let is_list = is_list(data_type);
        let width = count.checked_div(rows).unwrap_or(0);
        if self.shape.len() > 2 || (!is_list && width != 1) || (is_list && self.shape.len() != 2) {
            let wanted = if is_list {
                "[rows, k]"
            } else {
                "[rows] or [rows, 1]"
            };
            return Err(format!(
                "input `{}` has shape {:?}, and {data_type} has {wanted}",
                self.name, self.shape
            ));
        }
        let mut flat = self.take_elements(count, kind)?;
        // Binary floats are what their bytes say.
        if kind == ValueKind::Float && !self.is_binary {
            fit(&mut flat, bytes).map_err(|(index, message)| {
                format!(
                    "input `{}`: element {index} does not fit {}: {message}",
                    self.name, self.datatype
                )
            })?;
        }
        Ok(match (is_list, width) {
            (false, _) => flat,
            (true, 0) => vec![Json::Array(Vec::new()); rows],
            (true, width) => {
                let mut items = flat.drain(..);
                let row = |_| Json::Array(items.by_ref().take(width).collect());
                (0..rows).map(row).collect()
            }
        })
    }

    /// Returns the elements, in row-major order, as many and of the kind that the shape and the
    /// datatype say.
    fn take_elements(&mut self, count: usize, kind: ValueKind) -> Result<Vec<Json>, String> {
        let data = self.data.take();
        let data = data.ok_or_else(|| format!("input `{}` has no data", self.name))?;
        let flat = flattened(data);
        if flat.len() != count {
            return Err(format!(
                "input `{}` has {} elements, and shape {:?} says {count}",
                self.name,
                flat.len(),
                self.shape
            ));
        }
        if let Some(index) = flat.iter().position(|value| !kind.accepts(value)) {
            return Err(format!(
                "input `{}`: element {index} is {}, and not {}",
                self.name, flat[index], self.datatype
            ));
        }
        Ok(flat)
    }
}

/// Returns whether a row of a type has several elements.
fn is_list(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::ListInt64 | DataType::ListFloat64 | DataType::ListUtf8 | DataType::Vector(_)
    )
}

/// Makes elements the floats of so many bytes that they would be in a binary tensor.
///
/// # Errors
/// Returns the number of the first element that does not fit such a float, and the reason.
fn fit(elements: &mut [Json], bytes: usize) -> Result<(), (usize, String)> {
    let float = match bytes {
        4 => DataType::Float32,
        _ => DataType::Float64,
    };
    let mut column = ColumnBuilder::new(&float, elements.len());
    for (index, element) in elements.iter().enumerate() {
        let appended = column.append_json(element);
        appended.map_err(|message| (index, message))?;
    }
    let column = widen(&column.finish(), &DataType::Float64);
    for (row, element) in elements.iter_mut().enumerate() {
        *element = cell_to_json(&column, row);
    }
    Ok(())
}

/// Returns the elements of nested lists in row-major order.
fn flattened(data: Vec<Json>) -> Vec<Json> {
    // Most data is flat already, and is not copied.
    if !data.iter().any(Json::is_array) {
        return data;
    }
    let mut flat = Vec::with_capacity(data.len());
    flatten(data, &mut flat);
    flat
}

/// Appends the elements of nested lists to `flat`, in row-major order.
fn flatten(data: Vec<Json>, flat: &mut Vec<Json>) {
    for value in data {
        match value {
            Json::Array(inner) => flatten(inner, flat),
            value => flat.push(value),
        }
    }
}

/// Returns the memory that the elements of the tensors with a `binary_data_size` take, in bytes.
/// The sizes may be wrong: then they are refused when they are filled in.
pub(super) fn binary_size(inputs: &[Tensor]) -> u64 {
    let size = |input: &Tensor| {
        let size = input
            .parameters
            .as_ref()?
            .get("binary_data_size")?
            .as_u64()?;
        let found = DATATYPES.iter().find(|(name, ..)| *name == input.datatype);
        let (_, width, _) = found?;
        // Strings are as long as their bytes say, but at least have a length of four bytes.
        let (least, text) = if *width == 0 {
            (4, size)
        } else {
            (*width as u64, 0)
        };
        Some((size / least).saturating_mul(ELEMENT).saturating_add(text))
    };
    inputs.iter().filter_map(size).fold(0, u64::saturating_add)
}

/// Fills in the data of the tensors that have a `binary_data_size`, from the bytes after the JSON.
///
/// # Errors
/// Returns a message when the sizes do not add up to the number of bytes, or when a tensor has data
/// in both forms.
pub(super) fn take_binary(inputs: &mut [Tensor], mut bytes: &[u8]) -> Result<(), String> {
    for input in inputs {
        let parameters = input.parameters.as_ref();
        let Some(size) = parameters.and_then(|p| p.get("binary_data_size")) else {
            continue;
        };
        let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
        let Some((own, rest)) = size.and_then(|size| bytes.split_at_checked(size)) else {
            return Err(format!(
                "input `{}`: binary_data_size is not a length within the {} bytes left",
                input.name,
                bytes.len()
            ));
        };
        if input.data.is_some() {
            return Err(format!(
                "input `{}` has both data and binary data",
                input.name
            ));
        }
        bytes = rest;
        input.data = Some(elements(input, own)?);
        input.is_binary = true;
    }
    match bytes.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} bytes of binary data belong to no input",
            bytes.len()
        )),
    }
}

/// Decodes the binary data of a tensor.
fn elements(input: &Tensor, bytes: &[u8]) -> Result<Vec<Json>, String> {
    let (width, kind) = input.kind()?;
    let name = &input.name;
    if kind == ValueKind::Bytes {
        return strings(name, bytes);
    }
    if bytes.len() != input.count()? * width {
        return Err(format!(
            "input `{name}` has {} bytes of data, and shape {:?} of {} has {}",
            bytes.len(),
            input.shape,
            input.datatype,
            input.count()? * width
        ));
    }
    if kind == ValueKind::Bool
        && let Some(index) = bytes.iter().position(|byte| *byte > 1)
    {
        return Err(format!(
            "input `{name}`: element {index} is the byte {}, and a BOOL is 0 or 1",
            bytes[index]
        ));
    }
    let signed = input.datatype.starts_with("INT");
    let element = |bytes: &[u8]| -> Json {
        // Elements are little-endian. They are extended to eight bytes, by their sign if signed.
        let is_negative = signed && bytes.last().is_some_and(|byte| byte >> 7 == 1);
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        match (kind, width) {
            (ValueKind::Bool, _) => (wide[0] != 0).into(),
            (ValueKind::Float, 4) => float(f64::from(f32::from_le_bytes([
                wide[0], wide[1], wide[2], wide[3],
            ]))),
            (ValueKind::Float, _) => float(f64::from_le_bytes(wide)),
            _ if signed => i64::from_le_bytes(wide).into(),
            _ => u64::from_le_bytes(wide).into(),
        }
    };
    Ok(bytes.chunks_exact(width).map(element).collect())
}

/// Converts a float to JSON: a number, or a string for NaN and infinity.
fn float(value: f64) -> Json {
    let column: ArrayRef = std::sync::Arc::new(arrow_array::Float64Array::from(vec![value]));
    cell_to_json(&column, 0)
}

/// Decodes strings, each of which follows its length in four bytes.
fn strings(name: &str, mut bytes: &[u8]) -> Result<Vec<Json>, String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let parts = bytes
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        let index = texts.len();
        let (text, rest) =
            parts.ok_or_else(|| format!("input `{name}`: element {index} is cut off"))?;
        let text = std::str::from_utf8(text)
            .map_err(|_| format!("input `{name}`: element {index} is not UTF-8"))?;
        texts.push(text.into());
        bytes = rest;
    }
    Ok(texts)
}

impl<'a> Output<'a> {
    /// Returns the tensor of a column. If `binary` is given, the elements are appended to it
    /// instead of being part of the JSON.
    ///
    /// # Errors
    /// Returns a message when a value has no binary form, and when it cannot be appended.
    pub(super) fn of(
        field: &'a Field,
        column: &'a ArrayRef,
        binary: Option<&mut dyn Write>,
    ) -> Result<Self, String> {
        let rows = column.len() as u64;
        let elements = Elements {
            column,
            width: width(column),
        };
        let (shape, datatype) = match elements.width {
            Width::One => (vec![rows], datatype(&field.data_type)),
            Width::Some(width) => (vec![rows, width as u64], datatype(&field.data_type)),
            // Lists of different lengths form no tensor, so each is written as a string.
            Width::Ragged => (vec![rows], "BYTES"),
        };
        let mut output = Self {
            name: &field.name,
            datatype,
            shape,
            parameters: Map::new(),
            data: None,
        };
        let Some(binary) = binary else {
            output.data = Some(elements);
            return Ok(output);
        };
        let mut size = 0;
        let mut element = Vec::new();
        for value in elements.iter() {
            element.clear();
            append(&mut element, &value, datatype).ok_or_else(|| {
                format!(
                    "output `{}` has a null, which has no binary form: ask for it as JSON",
                    field.name
                )
            })?;
            binary.write_all(&element).map_err(|e| e.to_string())?;
            size += element.len();
        }
        let parameter = "binary_data_size".to_owned();
        output.parameters.insert(parameter, size.into());
        Ok(output)
    }
}

/// The number of elements in each row of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// Rows are single values.
    One,
    /// Rows are lists of one length.
    Some(usize),
    /// Rows are lists of different lengths, or some of them are null.
    Ragged,
}

fn width(column: &ArrayRef) -> Width {
    if let Some(vectors) = column.as_fixed_size_list_opt() {
        return match vectors.null_count() {
            0 => Width::Some(vectors.value_length() as usize),
            _ => Width::Ragged,
        };
    }
    let Some(lists) = column.as_list_opt::<i32>() else {
        return Width::One;
    };
    let lengths = (0..lists.len()).map(|row| lists.is_valid(row).then(|| lists.value_length(row)));
    let mut lengths: Vec<Option<i32>> = lengths.collect();
    lengths.dedup();
    match lengths[..] {
        [Some(length)] => Width::Some(length as usize),
        _ => Width::Ragged,
    }
}

/// Appends the little-endian form of an element. Returns `None` for a null, which has no binary
/// form except among floats.
fn append(binary: &mut Vec<u8>, value: &Json, datatype: &str) -> Option<()> {
    let float = || match value {
        Json::Null => Some(f64::NAN),
        Json::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    match datatype {
        "BOOL" => binary.push(u8::from(value.as_bool()?)),
        "INT64" => binary.extend(value.as_i64()?.to_le_bytes()),
        "FP64" => binary.extend(float()?.to_le_bytes()),
        "FP32" => binary.extend((float()? as f32).to_le_bytes()),
        _ => {
            let text = value.as_str()?;
            binary.extend((text.len() as u32).to_le_bytes());
            binary.extend(text.as_bytes());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
