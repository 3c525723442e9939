//! Calls typed Rust functions on batches.

use std::fmt::Display;

use crate::bindings::types::{Batch, CallError, Mapping, Output, RowError, Signature};
use crate::row::Row;
use crate::table::{Describe, Table};

/// The types that a function may return for one row.
#[diagnostic::on_unimplemented(
    message = "a feature function cannot return `{Self}`",
    label = "not a row, nor Option, Vec or Result of one",
    note = "return a struct with `#[derive(wafer::Row)]`, or Option, Vec or Result of one"
)]
pub trait IntoRows {
    /// The type of the rows.
    type Row: Row;
    #[doc(hidden)]
    const MAPPING: Mapping;
    #[doc(hidden)]
    fn push_to(self, rows: &mut <Self::Row as Row>::Columns) -> Result<usize, String>;
}

impl<R: Row> IntoRows for R {
    type Row = R;
    const MAPPING: Mapping = Mapping::OneToOne;
    fn push_to(self, rows: &mut R::Columns) -> Result<usize, String> {
        self.push(rows);
        Ok(1)
    }
}

impl<R: Row> IntoRows for Option<R> {
    type Row = R;
    const MAPPING: Mapping = Mapping::OneToMany;
    fn push_to(self, rows: &mut R::Columns) -> Result<usize, String> {
        Ok(self.map_or(0, |row| {
            row.push(rows);
            1
        }))
    }
}

impl<R: Row> IntoRows for Vec<R> {
    type Row = R;
    const MAPPING: Mapping = Mapping::OneToMany;
    fn push_to(self, rows: &mut R::Columns) -> Result<usize, String> {
        let count = self.len();
        for row in self {
            row.push(rows);
        }
        Ok(count)
    }
}

impl<T: IntoRows, E: Display> IntoRows for Result<T, E> {
    type Row = T::Row;
    const MAPPING: Mapping = T::MAPPING;
    fn push_to(self, rows: &mut <T::Row as Row>::Columns) -> Result<usize, String> {
        self.map_err(|e| e.to_string())?.push_to(rows)
    }
}

/// The types that a function on whole columns may return.
#[diagnostic::on_unimplemented(
    message = "a function on `&Columns<_>` cannot return `{Self}`",
    label = "not the columns of a row",
    note = "return `wafer::Columns<Out>`, or `Result` of it"
)]
pub trait IntoColumns<R: Row> {
    #[doc(hidden)]
    fn into_columns(self) -> Result<R::Columns, String>;
}

/// Maps a type of columns to its row, so that the row can be inferred.
pub trait ColumnsOf {
    /// The row type of the columns.
    type Row: Row<Columns = Self>;
}

impl<C: ColumnsOf> IntoColumns<C::Row> for C {
    fn into_columns(self) -> Result<C, String> {
        Ok(self)
    }
}

impl<C: ColumnsOf, E: Display> IntoColumns<C::Row> for Result<C, E> {
    fn into_columns(self) -> Result<C, String> {
        self.map_err(|e| e.to_string())
    }
}

/// The signature of a function from `In` to `Out`.
fn signature<In: Row, Out: Row>(mapping: Mapping, doc: &str) -> Signature {
    Signature {
        inputs: In::fields(),
        outputs: Out::fields(),
        mapping,
        doc: doc.to_owned(),
    }
}

/// The signature of a function on rows, from its type.
pub fn rows_signature<In: Row, Out: IntoRows>(_: &impl Fn(In) -> Out, doc: &str) -> Signature {
    signature::<In, Out::Row>(Out::MAPPING, doc)
}

/// The signature of a function on columns, from its type.
pub fn columns_signature<In: ColumnsOf, Out: Row, T: IntoColumns<Out>>(
    _: &impl Fn(&In) -> T,
    doc: &str,
) -> Signature {
    signature::<In::Row, Out>(Mapping::OneToOne, doc)
}

/// The signature of a function on tables, as its state describes it.
pub fn table_signature(state: &impl Describe, doc: &str) -> Signature {
    Signature {
        inputs: state.inputs(),
        outputs: state.outputs(),
        mapping: Mapping::OneToOne,
        doc: doc.to_owned(),
    }
}

/// Calls a function on a batch, as a table.
pub fn call_table<E: Display>(
    input: Batch,
    state: &impl Describe,
    function: impl Fn(Table) -> Result<Table, E>,
) -> Result<Output, CallError> {
    let table = Table::from_wire(input, state.inputs());
    let mut out = function(table).map_err(|e| CallError::Failed(e.to_string()))?;
    Ok(Output {
        row_errors: out.take_errors(),
        batch: out
            .into_wire_as(&state.outputs())
            .map_err(CallError::Failed)?,
        source_rows: None,
    })
}

/// Calls a function on each row of a batch.
pub fn call_rows<In: Row, Out: IntoRows>(
    input: Batch,
    function: impl Fn(In) -> Out,
) -> Result<Output, CallError> {
    let rows = input.rows;
    let columns = In::from_wire(input).map_err(CallError::InvalidInput)?;
    let mut out = <Out::Row as Row>::with_capacity(rows as usize);
    let mut source_rows = Vec::new();
    let mut row_errors = Vec::new();
    for row in 0..rows {
        let result = In::get(&columns, row as usize).and_then(|r| function(r).push_to(&mut out));
        match (result, Out::MAPPING) {
            (Ok(_), Mapping::OneToOne) => {}
            (Ok(count), Mapping::OneToMany) => source_rows.extend(std::iter::repeat_n(row, count)),
            (Err(message), mapping) => {
                row_errors.push(RowError { row, message });
                if mapping == Mapping::OneToOne {
                    <Out::Row as Row>::push_placeholder(&mut out);
                }
            }
        }
    }
    Ok(Output {
        batch: <Out::Row as Row>::into_wire(out),
        source_rows: (Out::MAPPING == Mapping::OneToMany).then_some(source_rows),
        row_errors,
    })
}

/// Calls a function on the columns of a batch. A row in which a required column is null is an
/// error, whatever the function returns for it.
pub fn call_columns<In: ColumnsOf, Out: Row, T: IntoColumns<Out>>(
    input: Batch,
    function: impl Fn(&In) -> T,
) -> Result<Output, CallError> {
    let rows = input.rows;
    let columns = In::Row::from_wire(input).map_err(CallError::InvalidInput)?;
    let out = function(&columns)
        .into_columns()
        .map_err(CallError::Failed)?;
    let row_errors = (0..rows)
        .filter_map(|row| {
            let message = In::Row::check(&columns, row as usize).err()?;
            Some(RowError { row, message })
        })
        .collect();
    Ok(Output {
        batch: Out::into_wire(out),
        source_rows: None,
        row_errors,
    })
}
