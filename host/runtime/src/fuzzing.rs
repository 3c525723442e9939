//! Entry points of the fuzz targets in `fuzz/`: lifting what a guest returned, without a guest, and
//! reading a memory delta.
//!
//! The bytes of a fuzzer stand for what a guest returns. A short input stands for zeros at its end.

use arrow_schema::{DataType as ArrowType, Field as ArrowField};
use bytes::Bytes;
use wafer_core::{DataType, Field, Mapping, Schema, Signature};

use crate::bindings::types as wit;
use crate::delta::{Delta, PAGE};
use crate::lift;

/// Lifts the output of a call, for a signature and a number of rows that the bytes choose.
///
/// # Errors
/// Returns the message of an output that does not fit the signature.
///
/// # Panics
/// Panics when an output was lifted that breaks the contract.
pub fn output(bytes: &[u8]) -> Result<(), String> {
    let mut input = Input(bytes);
    let types = column_types();
    let count = 1 + usize::from(input.byte()) % 4;
    let fields = (0..count).map(|index| {
        let data_type = types[usize::from(input.byte()) % types.len()].clone();
        Field::new(format!("c{index}"), data_type, input.flag())
    });
    let outputs = Schema::new(fields.collect()).map_err(|e| e.to_string())?;
    let signature = Signature {
        inputs: outputs.clone(),
        outputs,
        mapping: match input.flag() {
            true => Mapping::OneToOne,
            false => Mapping::OneToMany,
        },
        doc: String::new(),
    };
    let rows_in = usize::from(input.byte());
    let output = wit::Output {
        batch: wit::BatchResult {
            rows: u32::from(input.byte()),
            columns: input.list(column),
        },
        source_rows: input.flag().then(|| input.list(Input::number)),
        row_errors: input.list(|input| wit::RowError {
            row: input.number(),
            message: input.text(),
        }),
    };
    let lifted = lift::output(output, &signature, rows_in)?;
    // What was lifted can be used by whoever trusts the signature.
    for (column, field) in lifted.columns.iter().zip(signature.outputs.fields()) {
        assert_eq!(column.data_type(), &field.data_type.to_arrow());
        assert_eq!(column.len(), lifted.rows, "{}", field.data_type);
        let data = column.to_data();
        data.validate_full().expect("a lifted column is valid");
    }
    if let Some(sources) = &lifted.source_rows {
        assert_eq!(sources.len(), lifted.rows);
        assert!(sources.iter().all(|row| (*row as usize) < rows_in));
    }
    for (row, _) in &lifted.row_errors {
        assert!((*row as usize) < rows_in);
    }
    Ok(())
}

/// Lifts a signature.
///
/// # Errors
/// Returns the message of a signature that is not valid.
pub fn signature(bytes: &[u8]) -> Result<Signature, String> {
    let mut input = Input(bytes);
    lift::signature(wit::Signature {
        inputs: input.list(field),
        outputs: input.list(field),
        mapping: match input.flag() {
            true => wit::Mapping::OneToOne,
            false => wit::Mapping::OneToMany,
        },
        doc: input.text(),
    })
}

/// Reads a memory delta that is not compressed.
///
/// # Errors
/// Returns the message of one that is not valid.
///
/// # Panics
/// Panics when a run was read that is not in the memory, or not after the one before.
pub fn delta(bytes: &[u8]) -> Result<(), String> {
    let delta = Delta::parse(&Bytes::copy_from_slice(bytes))?;
    let memory = delta.pages() as usize * PAGE;
    let mut end = 0;
    for (address, run) in delta.addresses().iter().zip(delta.runs()) {
        let start = *address as usize;
        assert!(start >= end && !run.is_empty());
        end = start + run.len();
    }
    assert!(end <= memory);
    Ok(())
}

/// A type of each kind that a signature may have.
fn column_types() -> Vec<DataType> {
    let arrow = |data_type: ArrowType| DataType::Arrow(Box::new(data_type));
    let item = |data_type: ArrowType| ArrowField::new("item", data_type, true);
    let pair = [
        ArrowField::new("key", ArrowType::Utf8, false),
        ArrowField::new("value", ArrowType::Int32, true),
    ];
    let entries = ArrowType::Struct(pair.into_iter().collect());
    let mut types = DataType::storable(3).to_vec();
    types.extend([
        arrow(ArrowType::Null),
        arrow(ArrowType::Decimal128(10, 2)),
        arrow(ArrowType::FixedSizeBinary(3)),
        arrow(ArrowType::LargeUtf8),
        arrow(ArrowType::List(item(ArrowType::Boolean).into())),
        arrow(ArrowType::FixedSizeList(item(ArrowType::Utf8).into(), 2)),
        arrow(ArrowType::Struct(vec![item(ArrowType::Int8)].into())),
        arrow(ArrowType::Map(
            ArrowField::new("entries", entries, false).into(),
            false,
        )),
    ]);
    types
}

fn field(input: &mut Input<'_>) -> wit::FieldResult {
    wit::FieldResult {
        name: input.text(),
        data_type: data_type(input),
        nullable: input.flag(),
        doc: input.text(),
    }
}

fn data_type(input: &mut Input<'_>) -> wit::DataTypeResult {
    use wit::DataTypeResult as T;
    match input.byte() % 13 {
        0 => T::Boolean,
        1 => T::Int64,
        2 => T::Float64,
        3 => T::Float32,
        4 => T::Utf8,
        5 => T::Binary,
        6 => T::Timestamp,
        7 => T::Date,
        8 => T::Vector(input.number()),
        9 => T::ListInt64,
        10 => T::ListFloat64,
        11 => T::ListUtf8,
        _ => T::Arrow(input.list(|input| wit::ArrowFieldResult {
            format: input.text(),
            name: input.text(),
            nullable: input.flag(),
            children: u32::from(input.byte()),
        })),
    }
}

fn column(input: &mut Input<'_>) -> wit::ColumnResult {
    use wit::DataResult as D;
    let data = match input.byte() % 13 {
        0 => D::Boolean(input.bytes()),
        1 => D::Int64(input.list(Input::long)),
        2 => D::Float64(input.list(|input| f64::from_bits(input.long() as u64))),
        3 => D::Float32(input.list(|input| f32::from_bits(input.number()))),
        4 => D::Utf8(varying(input)),
        5 => D::Binary(varying(input)),
        6 => D::Timestamp(input.list(Input::long)),
        7 => D::Date(input.list(|input| input.number() as i32)),
        8 => D::Vector(wit::VectorsResult {
            dimension: input.number(),
            values: input.list(|input| f32::from_bits(input.number())),
        }),
        9 => D::ListInt64(wit::Int64ListsResult {
            offsets: input.list(offset),
            values: input.list(Input::long),
        }),
        10 => D::ListFloat64(wit::Float64ListsResult {
            offsets: input.list(offset),
            values: input.list(|input| f64::from_bits(input.long() as u64)),
        }),
        11 => D::ListUtf8(wit::Utf8ListsResult {
            offsets: input.list(offset),
            items: varying(input),
        }),
        _ => D::Arrow(wit::ArrowArrayResult {
            lengths: input.list(|input| u32::from(input.byte())),
            buffers: input.list(Input::bytes),
        }),
    };
    wit::ColumnResult {
        data,
        validity: input.flag().then(|| input.bytes()),
    }
}

fn varying(input: &mut Input<'_>) -> wit::VaryingResult {
    wit::VaryingResult {
        offsets: input.list(offset),
        bytes: input.bytes(),
    }
}

fn offset(input: &mut Input<'_>) -> i32 {
    i32::from(input.byte() as i8)
}

/// The bytes that are left.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([0; 4].map(|_: u8| self.byte()))
    }

    fn long(&mut self) -> i64 {
        i64::from_le_bytes([0; 8].map(|_: u8| self.byte()))
    }

    /// Reads a list of a length that one byte says.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.byte();
        let mut items = Vec::new();
        while items.len() < usize::from(length) && !self.0.is_empty() {
            items.push(item(self));
        }
        items
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.list(Self::byte)
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}
