//! Single values of columns.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::DataType as ArrowType;

use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::float;

/// A value: an integer (also a boolean, a timestamp or a date), a float, or bytes (also text).
/// Ordered and compared by value: 0.0 and −0.0 are equal, and NaN comes last.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A value of type int64, boolean, timestamp or date.
    Int(i64),
    /// A value of type float64 or float32.
    Float(f64),
    /// A value of type utf8 or binary.
    Bytes(Box<[u8]>),
}

/// A borrowed [`Cell`].
#[derive(Clone, Copy, Debug)]
pub enum CellRef<'a> {
    /// A value of type int64, boolean, timestamp or date.
    Int(i64),
    /// A value of type float64 or float32.
    Float(f64),
    /// A value of type utf8 or binary.
    Bytes(&'a [u8]),
}

/// The answer of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AggregateValue {
    /// No value.
    Null,
    /// A single value.
    One(Cell),
    /// A list of values.
    Many(Vec<Cell>),
}

impl Cell {
    /// The same value, borrowed.
    pub fn as_ref(&self) -> CellRef<'_> {
        match self {
            Self::Int(value) => CellRef::Int(*value),
            Self::Float(value) => CellRef::Float(*value),
            Self::Bytes(bytes) => CellRef::Bytes(bytes),
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, DamagedError> {
        Ok(Some(match reader.byte()? {
            0 => return Ok(None),
            1 => Self::Int(reader.signed()?),
            2 => Self::Float(f64::from_le_bytes(reader.array()?)),
            3 => {
                let length = reader.length()?;
                Self::Bytes(reader.take(length)?.into())
            }
            _ => return Err(reader.damaged()),
        }))
    }

    /// Decodes a value that cannot be missing.
    pub(super) fn decode_value(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Self::decode(reader)?.ok_or_else(|| reader.damaged())
    }
}

impl CellRef<'_> {
    /// The same value, owned.
    pub fn to_owned(self) -> Cell {
        match self {
            Self::Int(value) => Cell::Int(value),
            Self::Float(value) => Cell::Float(value),
            Self::Bytes(bytes) => Cell::Bytes(bytes.into()),
        }
    }

    /// Returns the one value that stands for all values that are equal to this one. States that
    /// keep one of several equal values keep this, so that they do not depend on the order of
    /// events.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Float(value) => Self::Float(float::canonical(value)),
            other => other,
        }
    }

    /// Compares values by their bits where they are equal otherwise.
    pub(super) fn exact_cmp(self, other: Self) -> Ordering {
        self.cmp(&other).then_with(|| match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.total_cmp(&b),
            _ => Ordering::Equal,
        })
    }

    pub(super) fn hash64(self) -> u64 {
        use twox_hash::XxHash64;
        match self.canonical() {
            Self::Int(value) => XxHash64::oneshot(1, &value.to_le_bytes()),
            Self::Float(value) => XxHash64::oneshot(2, &value.to_bits().to_le_bytes()),
            Self::Bytes(bytes) => XxHash64::oneshot(3, bytes),
        }
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(value) => {
                out.push(1);
                put_signed(out, value);
            }
            Self::Float(value) => {
                out.push(2);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Bytes(bytes) => {
                out.push(3);
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
}

impl Ord for CellRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => float::compare(*a, *b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            // All values of a column are of one kind, so that other pairs may compare in any order.
            (Self::Int(_), _) | (Self::Float(_), Self::Bytes(_)) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

impl PartialOrd for CellRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for CellRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for CellRef<'_> {}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Cell {}

impl Hash for Cell {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash64().hash(state);
    }
}

/// The values of a column, ready to be read one by one.
#[derive(Clone, Debug)]
pub struct Cells {
    values: Values,
    nulls: Option<NullBuffer>,
}

#[derive(Clone, Debug)]
enum Values {
    Int(ScalarBuffer<i64>),
    Float(ScalarBuffer<f64>),
    Utf8(StringArray),
    Binary(BinaryArray),
    /// Values that are not single, of which only their presence is read.
    Present,
}

impl Cells {
    /// Reads a column, or returns `None` if its type is not stored. All NaNs become the same
    /// NaN. Of lists and vectors, only whether they are null can be told: each that is not null
    /// reads as the integer 1, so that they can be counted.
    pub fn new(column: &ArrayRef) -> Option<Self> {
        let float = |value: f64| if value.is_nan() { f64::NAN } else { value };
        let values = match column.data_type() {
            ArrowType::Int64 => Values::Int(column.as_primitive::<Int64Type>().values().clone()),
            ArrowType::Timestamp(..) => Values::Int(
                column
                    .as_primitive::<TimestampMicrosecondType>()
                    .values()
                    .clone(),
            ),
            ArrowType::Date32 => {
                let days = column.as_primitive::<Date32Type>().values();
                Values::Int(days.iter().map(|day| i64::from(*day)).collect())
            }
            ArrowType::Boolean => {
                let bits = column.as_boolean().values();
                Values::Int(bits.iter().map(i64::from).collect())
            }
            ArrowType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                Values::Float(values.iter().map(|value| float(*value)).collect())
            }
            ArrowType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                Values::Float(values.iter().map(|value| float((*value).into())).collect())
            }
            ArrowType::Utf8 => Values::Utf8(column.as_string::<i32>().clone()),
            ArrowType::Binary => Values::Binary(column.as_binary::<i32>().clone()),
            ArrowType::List(_) | ArrowType::FixedSizeList(..) => Values::Present,
            _ => return None,
        };
        Some(Self {
            values,
            nulls: column.nulls().cloned(),
        })
    }

    /// The value in a row, or `None` if it is null.
    pub fn get(&self, row: usize) -> Option<CellRef<'_>> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(match &self.values {
            Values::Int(values) => CellRef::Int(values[row]),
            Values::Float(values) => CellRef::Float(values[row]),
            Values::Utf8(values) => CellRef::Bytes(values.value(row).as_bytes()),
            Values::Binary(values) => CellRef::Bytes(values.value(row)),
            Values::Present => CellRef::Int(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ColumnBuilder, DataType};

    #[test]
    fn lists_and_vectors_are_there_or_null() {
        for data_type in ["list<int64>", "list<float64>", "vector(2)"] {
            let data_type: DataType = data_type.parse().unwrap();
            let mut column = ColumnBuilder::new(&data_type, 3);
            for value in [json!([1, 2]), json!(null), json!([3, 4])] {
                column.append_json(&value).unwrap();
            }
            let cells = Cells::new(&column.finish()).unwrap();
            let present = (0..3).map(|row| cells.get(row));
            let present: Vec<bool> = present.map(|cell| cell.is_some()).collect();
            assert_eq!(present, [true, false, true], "{data_type}");
        }
    }
}
