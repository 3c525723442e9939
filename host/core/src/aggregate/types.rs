//! The types that aggregate functions take and return.

use crate::DataType;

/// The types that a function takes, and those that it returns.
pub(super) struct Types {
    /// The result over events without a column, if there is one.
    pub(super) of_events: Option<DataType>,
    /// The result over a column of a type, if the function takes it.
    pub(super) of_column: fn(&DataType) -> Option<DataType>,
    /// The types that the function takes, for people.
    pub(super) wanted: &'static str,
}

impl Types {
    const fn new(wanted: &'static str, of_column: fn(&DataType) -> Option<DataType>) -> Self {
        Self {
            of_events: None,
            of_column,
            wanted,
        }
    }
}

const NUMBERS: &str = "int64, float64 or float32";
const SINGLE_VALUES: &str = "single values, not lists or vectors";

pub(super) const ANY_TO_COUNT: Types = Types {
    of_events: Some(DataType::Int64),
    of_column: |_| Some(DataType::Int64),
    wanted: "any type",
};

pub(super) const NUMBER_TO_FLOAT: Types = Types::new(NUMBERS, |input| {
    is_number(input).then_some(DataType::Float64)
});

/// The sum of integers is an integer.
pub(super) const NUMBER_TO_SUM: Types = Types::new(NUMBERS, |input| match input {
    DataType::Int64 => Some(DataType::Int64),
    other => is_number(other).then_some(DataType::Float64),
});

pub(super) const ORDERED_TO_SAME: Types = Types::new("numbers, timestamp or date", |input| {
    is_ordered(input).then(|| input.clone())
});

pub(super) const SINGLE_TO_SAME: Types = Types::new(SINGLE_VALUES, |input| {
    is_single(input).then(|| input.clone())
});

pub(super) const SINGLE_TO_COUNT: Types = Types::new(SINGLE_VALUES, |input| {
    is_single(input).then_some(DataType::Int64)
});

pub(super) const LISTABLE_TO_LIST: Types =
    Types::new("int64, float64, float32 or utf8", |input| match input {
        DataType::Int64 => Some(DataType::ListInt64),
        DataType::Float64 | DataType::Float32 => Some(DataType::ListFloat64),
        DataType::Utf8 => Some(DataType::ListUtf8),
        _ => None,
    });

fn is_number(input: &DataType) -> bool {
    matches!(
        input,
        DataType::Int64 | DataType::Float64 | DataType::Float32
    )
}

fn is_ordered(input: &DataType) -> bool {
    is_number(input) || matches!(input, DataType::Timestamp | DataType::Date)
}

fn is_single(input: &DataType) -> bool {
    is_ordered(input) || matches!(input, DataType::Boolean | DataType::Utf8 | DataType::Binary)
}
