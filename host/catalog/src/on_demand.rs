//! On-demand functions: called one after the other on columns by name, after a lookup or a join.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use wafer_core::widen;
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::Result;

use crate::recipe::Recipe;

/// Columns by name, as functions and models read them.
pub type Readable = HashMap<String, ArrayRef>;

/// What a function answered, with nulls for rows that failed: what these hold means nothing,
/// and must not get out.
pub fn of_good_rows(output: &Output) -> Vec<ArrayRef> {
    let columns = output.columns.iter();
    match output.row_errors.is_empty() {
        true => columns.cloned().collect(),
        false => columns
            .map(|column| nulled(column, &|row| output.has_failed(row)))
            .collect(),
    }
}

/// The column with nulls at some rows.
pub fn nulled(column: &ArrayRef, at: &impl Fn(usize) -> bool) -> ArrayRef {
    let rows: UInt32Array = (0..column.len())
        .map(|row| (!at(row)).then_some(row as u32))
        .collect();
    arrow_select::take::take(column, &rows, None).expect("the rows are the column's")
}

/// What functions and models read: inputs before features of their names.
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

/// Calls functions one after the other on columns by name, to which it adds what they
/// answer; their outputs in order. What a failed row holds means nothing: it is null.
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
        let answer = function.invoke(&inputs, Deadline::Batch)?;
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
