//! Behaviours in the columns that the trainer asks for.

use wafer::bindings::types::{DataType, Field};

use crate::field;

pub(super) fn no_columns(columns: &mut Vec<Field>) {
    columns.clear();
}

pub(super) fn unknown_column(columns: &mut Vec<Field>) {
    *columns = vec![field("last_smal", DataType::Int64)];
}

pub(super) fn other_type(columns: &mut Vec<Field>) {
    *columns = vec![field("last_small", DataType::Utf8)];
}
