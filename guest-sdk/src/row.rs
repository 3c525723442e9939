//! Typed rows, which are stored in columns.

use crate::bindings::types;

/// A row of named, typed fields. Derive it on a struct.
///
/// The derive also makes a struct of columns for functions that work on [whole columns](Columns).
/// It has the row's name with `Columns` appended, and the same fields and visibility.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    label = "not a row",
    note = "put `#[derive(wafer::Row)]` on the struct; a function returns a row, or Option, Vec or Result of one"
)]
pub trait Row: Sized {
    /// One [`Column`](crate::Column) for each field.
    type Columns: Default;

    /// Creates columns without rows, with room for `rows` of them.
    #[doc(hidden)]
    fn with_capacity(rows: usize) -> Self::Columns;
    #[doc(hidden)]
    fn fields() -> Vec<types::Field>;
    /// The row at an index, or a message that says why it cannot be read.
    #[doc(hidden)]
    fn get(columns: &Self::Columns, row: usize) -> Result<Self, String>;
    /// Returns an error for the first required column that is null at an index.
    #[doc(hidden)]
    fn check(columns: &Self::Columns, row: usize) -> Result<(), String>;
    #[doc(hidden)]
    fn push(self, columns: &mut Self::Columns);
    #[doc(hidden)]
    fn push_placeholder(columns: &mut Self::Columns);
    #[doc(hidden)]
    fn from_wire(batch: types::Batch) -> Result<Self::Columns, String>;
    #[doc(hidden)]
    fn into_wire(columns: Self::Columns) -> types::Batch;
}

/// The columns of a row type: argument and result of a function that works on whole columns.
pub type Columns<R> = <R as Row>::Columns;

/// The message for a null in a required column.
#[doc(hidden)]
pub fn null_message(column: &str) -> String {
    format!("column `{column}` is null, and the function needs a value")
}
