//! Typed rows over columns.

use crate::bindings::types;

/// A row of named, typed fields; derive it on a struct.
///
/// The derive also makes a struct of columns, named after the row with `Columns`
/// appended, with the same fields and visibility, for functions that work on
/// [whole columns](Columns).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    label = "not a row",
    note = "put `#[derive(wafer::Row)]` on the struct; a function returns a row, or Option, Vec or Result of one"
)]
pub trait Row: Sized {
    /// One [`Column`](crate::Column) for each field.
    type Columns: Default;

    /// No rows yet, with room for so many.
    #[doc(hidden)]
    fn with_capacity(rows: usize) -> Self::Columns;
    #[doc(hidden)]
    fn fields() -> Vec<types::Field>;
    /// The row at an index, or why there is none.
    #[doc(hidden)]
    fn get(columns: &Self::Columns, row: usize) -> Result<Self, String>;
    /// The first required column that is null at an index.
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

/// The columns of a row type: the argument and result of a function that works
/// on whole columns.
pub type Columns<R> = <R as Row>::Columns;

/// What a null in a required column says.
#[doc(hidden)]
pub fn null_message(column: &str) -> String {
    format!("column `{column}` is null, and the function needs a value")
}
