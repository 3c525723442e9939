//! The Rust types that a field may have, and how a column of each is stored.

use std::fmt::Debug;

use crate::bindings::types::{self, Data, DataType};
use crate::column::Bitmap;
use crate::{Date, Timestamp};

/// A Rust type that a column can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a feature type",
    label = "not a feature type",
    note = "use bool, i64, f64, f32, String, Vec<u8>, wafer::Timestamp, wafer::Date, [f32; N], Vec<i64>, Vec<f64> or Vec<String>"
)]
pub trait Value: Sized {
    /// The storage of a column of this type.
    type Data: Default + Clone + Debug;

    /// The type of the column in the contract.
    #[doc(hidden)]
    fn data_type() -> DataType;
    #[doc(hidden)]
    fn read(data: &Self::Data, row: usize) -> Self;
    #[doc(hidden)]
    fn store(self, data: &mut Self::Data);
    /// Appends any value of the right width in the place of a null.
    #[doc(hidden)]
    fn push_placeholder(data: &mut Self::Data);
    /// Makes room for `rows` more rows.
    #[doc(hidden)]
    fn reserve(_data: &mut Self::Data, _rows: usize) {}
    #[doc(hidden)]
    fn from_wire(data: Data, rows: usize) -> Option<Self::Data>;
    #[doc(hidden)]
    fn into_wire(data: Self::Data) -> Data;
}

/// What a field of a row may hold: a [`Value`], or an `Option` of one if the column is nullable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a row",
    label = "not a feature type",
    note = "use bool, i64, f64, f32, String, Vec<u8>, wafer::Timestamp, wafer::Date, [f32; N], Vec<i64>, Vec<f64>, Vec<String>, or Option of one of these"
)]
pub trait Cell: Sized {
    /// The type of the values that are present.
    type Value: Value;
    /// Whether the column may hold nulls.
    const NULLABLE: bool;
    #[doc(hidden)]
    fn from_option(value: Option<Self::Value>) -> Option<Self>;
    #[doc(hidden)]
    fn into_option(self) -> Option<Self::Value>;
}

impl<V: Value> Cell for V {
    type Value = V;
    const NULLABLE: bool = false;
    fn from_option(value: Option<V>) -> Option<V> {
        value
    }
    fn into_option(self) -> Option<V> {
        Some(self)
    }
}

impl<V: Value> Cell for Option<V> {
    type Value = V;
    const NULLABLE: bool = true;
    fn from_option(value: Option<V>) -> Option<Self> {
        Some(value)
    }
    fn into_option(self) -> Option<V> {
        self
    }
}

/// Values that are stored as a `Vec` of numbers.
macro_rules! flat {
    ($($rust:ty, $wire:ty, $case:ident, $from:expr, $into:expr;)*) => {$(
        impl Value for $rust {
            type Data = Vec<$wire>;
            fn data_type() -> DataType {
                DataType::$case
            }
            fn read(data: &Self::Data, row: usize) -> Self {
                $from(data[row])
            }
            fn store(self, data: &mut Self::Data) {
                data.push($into(self));
            }
            fn push_placeholder(data: &mut Self::Data) {
                data.push(Default::default());
            }
            fn reserve(data: &mut Self::Data, rows: usize) {
                data.reserve_exact(rows);
            }
            fn from_wire(data: Data, _rows: usize) -> Option<Self::Data> {
                if let Data::$case(values) = data { Some(values) } else { None }
            }
            fn into_wire(data: Self::Data) -> Data {
                Data::$case(data)
            }
        }
    )*};
}

flat! {
    i64, i64, Int64, |v| v, |v| v;
    f64, f64, Float64, |v| v, |v| v;
    f32, f32, Float32, |v| v, |v| v;
    Timestamp, i64, Timestamp, Timestamp::from_micros, Timestamp::as_micros;
    Date, i32, Date, Date::from_days, Date::as_days;
}

impl Value for bool {
    type Data = Bitmap;
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn read(data: &Bitmap, row: usize) -> Self {
        data.get(row)
    }
    fn store(self, data: &mut Bitmap) {
        data.push(self);
    }
    fn push_placeholder(data: &mut Bitmap) {
        data.push(false);
    }
    fn from_wire(data: Data, rows: usize) -> Option<Bitmap> {
        if let Data::Boolean(bytes) = data {
            Some(Bitmap::new(bytes, rows))
        } else {
            None
        }
    }
    fn into_wire(data: Bitmap) -> Data {
        Data::Boolean(data.into_bytes())
    }
}

/// Byte strings, stored one after the other with their offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Varying {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Varying {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }
}

impl Varying {
    /// The bytes of one row.
    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[span(&self.offsets, row)]
    }

    /// Appends a row.
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(offset(self.bytes.len()));
    }

    fn text(&self, row: usize) -> String {
        std::str::from_utf8(self.get(row))
            .expect("the host sends UTF-8")
            .to_owned()
    }

    fn from_wire(wire: types::Varying) -> Self {
        Self {
            offsets: wire.offsets,
            bytes: wire.bytes,
        }
    }

    fn into_wire(self) -> types::Varying {
        types::Varying {
            offsets: self.offsets,
            bytes: self.bytes,
        }
    }
}

macro_rules! varying {
    ($($rust:ty, $case:ident, $get:expr;)*) => {$(
        impl Value for $rust {
            type Data = Varying;
            fn data_type() -> DataType {
                DataType::$case
            }
            fn read(data: &Varying, row: usize) -> Self {
                $get(data, row)
            }
            fn store(self, data: &mut Varying) {
                data.push(self.as_ref());
            }
            fn push_placeholder(data: &mut Varying) {
                data.push(&[]);
            }
            fn reserve(data: &mut Varying, rows: usize) {
                data.offsets.reserve_exact(rows);
            }
            fn from_wire(data: Data, _rows: usize) -> Option<Varying> {
                if let Data::$case(wire) = data { Some(Varying::from_wire(wire)) } else { None }
            }
            fn into_wire(data: Varying) -> Data {
                Data::$case(data.into_wire())
            }
        }
    )*};
}

varying! {
    String, Utf8, Varying::text;
    Vec<u8>, Binary, |data: &Varying, row| data.get(row).to_vec();
}

impl<const N: usize> Value for [f32; N] {
    type Data = Vec<f32>;
    fn data_type() -> DataType {
        const {
            assert!(
                N > 0 && N <= u32::MAX as usize,
                "a vector has at least one number"
            )
        };
        DataType::Vector(N as u32)
    }
    fn read(data: &Self::Data, row: usize) -> Self {
        data[row * N..][..N]
            .try_into()
            .expect("the slice has N numbers")
    }
    fn store(self, data: &mut Self::Data) {
        data.extend_from_slice(&self);
    }
    fn push_placeholder(data: &mut Self::Data) {
        data.extend_from_slice(&[0.0; N]);
    }
    fn reserve(data: &mut Self::Data, rows: usize) {
        data.reserve_exact(rows * N);
    }
    fn from_wire(data: Data, _rows: usize) -> Option<Self::Data> {
        match data {
            Data::Vector(v) if v.dimension as usize == N => Some(v.values),
            _ => None,
        }
    }
    fn into_wire(data: Self::Data) -> Data {
        Data::Vector(types::Vectors {
            dimension: N as u32,
            values: data,
        })
    }
}

/// Lists, stored one after the other with their offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists<T> {
    offsets: Vec<i32>,
    values: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            values: Vec::new(),
        }
    }
}

macro_rules! lists {
    ($($item:ty, $case:ident, $wire:ident;)*) => {$(
        impl Value for Vec<$item> {
            type Data = Lists<$item>;
            fn data_type() -> DataType {
                DataType::$case
            }
            fn read(data: &Self::Data, row: usize) -> Self {
                data.values[span(&data.offsets, row)].to_vec()
            }
            fn store(self, data: &mut Self::Data) {
                data.values.extend(self);
                data.offsets.push(offset(data.values.len()));
            }
            fn push_placeholder(data: &mut Self::Data) {
                data.offsets.push(offset(data.values.len()));
            }
            fn from_wire(data: Data, _rows: usize) -> Option<Self::Data> {
                match data {
                    Data::$case(w) => Some(Lists { offsets: w.offsets, values: w.values }),
                    _ => None,
                }
            }
            fn into_wire(data: Self::Data) -> Data {
                Data::$case(types::$wire { offsets: data.offsets, values: data.values })
            }
        }
    )*};
}

lists! {
    i64, ListInt64, Int64Lists;
    f64, ListFloat64, Float64Lists;
}

/// Lists of strings, stored as the items of all lists and the offsets of each list in them.
#[derive(Clone, Debug, PartialEq)]
pub struct TextLists {
    offsets: Vec<i32>,
    items: Varying,
}

impl Default for TextLists {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            items: Varying::default(),
        }
    }
}

impl Value for Vec<String> {
    type Data = TextLists;
    fn data_type() -> DataType {
        DataType::ListUtf8
    }
    fn read(data: &TextLists, row: usize) -> Self {
        span(&data.offsets, row)
            .map(|item| data.items.text(item))
            .collect()
    }
    fn store(self, data: &mut TextLists) {
        for item in &self {
            data.items.push(item.as_bytes());
        }
        data.offsets.push(offset(data.items.offsets.len() - 1));
    }
    fn push_placeholder(data: &mut TextLists) {
        Self::new().store(data);
    }
    fn from_wire(data: Data, _rows: usize) -> Option<TextLists> {
        match data {
            Data::ListUtf8(w) => Some(TextLists {
                offsets: w.offsets,
                items: Varying::from_wire(w.items),
            }),
            _ => None,
        }
    }
    fn into_wire(data: TextLists) -> Data {
        Data::ListUtf8(types::Utf8Lists {
            offsets: data.offsets,
            items: data.items.into_wire(),
        })
    }
}

fn span(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn offset(length: usize) -> i32 {
    i32::try_from(length).expect("a column holds at most 2^31 - 1 bytes or items in one batch")
}
