//! Calls on-demand functions on named columns, after features were looked up or joined.
//!
//! Training sets, batch inference and the comparison of served with recomputed values call them
//! here. Requests call them in `host/serving`, where features have a status.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use wafer_core::widen;
use wafer_runtime::{Function, Output};
use wafer_store::Result;

use crate::recipe::Recipe;

/// Columns by name, as functions and models read them.
pub type Readable = HashMap<String, ArrayRef>;

/// Returns the columns of an output, with nulls in failed rows. The values that a function returns
/// for a failed row have no meaning and must not be visible.
pub fn of_good_rows(output: &Output) -> Vec<ArrayRef> {
    let columns = output.columns.iter();
    match output.row_errors.is_empty() {
        true => columns.cloned().collect(),
        false => columns
            .map(|column| nulled(column, &|row| output.has_failed(row)))
            .collect(),
    }
}

/// Returns a column with nulls in the rows for which `at` is true.
pub fn nulled(column: &ArrayRef, at: &impl Fn(usize) -> bool) -> ArrayRef {
    let rows: UInt32Array = (0..column.len())
        .map(|row| (!at(row)).then_some(row as u32))
        .collect();
    arrow_select::take::take(column, &rows, None).expect("the rows are the column's")
}

/// Collects the columns that functions and models read. If an input of the view and a feature have
/// the same name, the input is read.
pub fn readable(
    recipe: &Recipe,
    inputs: &[ArrayRef],
    lookups: impl IntoIterator<Item = ArrayRef>,
) -> Readable {
    let mut known = Readable::new();
    for (field, column) in recipe.view.inputs.iter().zip(inputs) {
        known.insert(field.name.clone(), Arc::clone(column));
    }
    let features = recipe.view.lookups.iter();
    let features = features.flat_map(|lookup| recipe.features_of(lookup));
    for (field, column) in features.zip(lookups) {
        known.entry(field.name).or_insert(column);
    }
    known
}

/// Calls functions one after the other. Each reads its inputs from `known`, and its outputs are
/// added there for the functions after it. Returns all outputs in order, with nulls in failed
/// rows; `failed` is called with the function, the row and the message of each failure.
///
/// # Errors
/// Returns the errors of calling a function. [`failed_row`](wafer_runtime::failed_row) says which
/// row is to blame.
pub fn call(
    functions: &[Function],
    known: &mut Readable,
    mut failed: impl FnMut(&str, u32, &str),
) -> Result<Vec<ArrayRef>> {
    let mut outputs = Vec::new();
    for function in functions {
        let signature = function.signature();
        let inputs = signature.inputs.fields().iter();
        let inputs = inputs.map(|f| widen(&known[&f.name], &f.data_type));
        let inputs: Vec<ArrayRef> = inputs.collect();
        let answer = function.invoke_rows(&inputs)?;
        for (row, message) in &answer.row_errors {
            failed(function.name(), *row, message);
        }
        let columns = of_good_rows(&answer);
        for (field, column) in signature.outputs.fields().iter().zip(columns) {
            known
                .entry(field.name.clone())
                .or_insert_with(|| Arc::clone(&column));
            outputs.push(column);
        }
    }
    Ok(outputs)
}
