//! Transforms: how one row of a source becomes rows of a group, by a function or by renaming
//! columns.

use arrow_array::{Array as _, ArrayRef};
use wafer_catalog::{Context, Definitions, MadeBy};
use wafer_core::{Digest, Field, Hasher, Schema};
use wafer_runtime::{CallFailure, Deadline, Function, InvokeError, Output};
use wafer_store::{Error, Kind, Result};

/// How rows of a source become rows of a group.
#[derive(Debug)]
pub(crate) enum Transform {
    /// A function. The digest identifies its code.
    Function(Function, Digest),
    /// The columns that are read are the columns of the group.
    Columns(Schema),
}

impl Transform {
    /// Returns the transform of a pipeline, or `None` if a model computes its rows.
    ///
    /// # Errors
    /// Returns the errors of loading the function.
    pub(crate) fn of(
        context: &Context,
        definitions: &Definitions,
        made_by: &MadeBy,
    ) -> Result<Option<Self>> {
        Ok(match made_by {
            MadeBy::Function(name) => {
                let code = definitions.functions[name].registered.digest;
                Some(Self::Function(
                    context.function_of(definitions, name)?,
                    code,
                ))
            }
            MadeBy::Columns(columns) => {
                let fields = columns.iter().map(|column| column.field.clone());
                let schema = Schema::new(fields.collect())
                    .map_err(|e| Error::caused(Kind::Internal, "the columns of a pipeline", e))?;
                Some(Self::Columns(schema))
            }
            MadeBy::Model(_) => None,
        })
    }

    /// The columns that are read, by the names that the function, or the group, has for them.
    pub(crate) fn inputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().inputs,
            Self::Columns(columns) => columns,
        }
    }

    /// The columns of the rows.
    pub(crate) fn outputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().outputs,
            Self::Columns(columns) => columns,
        }
    }

    /// The digest of everything that decides the output, except the rows.
    pub(crate) fn code(&self) -> Digest {
        match self {
            Self::Function(_, code) => *code,
            Self::Columns(columns) => {
                let mut hasher = Hasher::new();
                let fields = serde_json::to_vec(columns.fields());
                hasher.part(&fields.expect("fields are plain data"));
                hasher.finish()
            }
        }
    }

    /// Turns columns into rows. The error of a function names the row that is to blame, if it is a
    /// single one.
    ///
    /// # Errors
    /// Returns an error when the function fails on the whole chunk.
    pub(crate) fn invoke_rows(&self, columns: &[ArrayRef]) -> Result<Output, CallFailure> {
        match self {
            Self::Function(function, _) => function.invoke_rows(columns),
            Self::Columns(fields) => Ok(passed(columns, fields.fields())),
        }
    }

    /// Turns columns into rows. `count` is told how many bytes of memory a function's output takes,
    /// each time that it grows.
    ///
    /// # Errors
    /// Returns an error when the function fails on the whole chunk, and the errors of `count`.
    pub(crate) fn invoke_counted<E: From<InvokeError>>(
        &self,
        columns: &[ArrayRef],
        count: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Output, E> {
        match self {
            Self::Function(function, _) => function.invoke_counted(columns, Deadline::Batch, count),
            Self::Columns(fields) => Ok(passed(columns, fields.fields())),
        }
    }
}

/// Passes columns on. A row without a value in a column that may not be null has failed.
fn passed(columns: &[ArrayRef], fields: &[Field]) -> Output {
    let rows = columns.first().map_or(0, |column| column.len());
    let needed = fields.iter().zip(columns);
    let needed: Vec<_> = needed
        .filter(|(field, column)| !field.nullable && column.null_count() > 0)
        .collect();
    let error = |row: usize| {
        let (field, _) = needed.iter().find(|(_, column)| column.is_null(row))?;
        let row = u32::try_from(row).ok()?;
        Some((row, format!("column `{}` is null", field.name)))
    };
    Output {
        columns: columns.to_vec(),
        rows,
        source_rows: None,
        row_errors: (0..rows).filter_map(error).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;
    use wafer_core::DataType;

    use super::*;

    #[test]
    fn rows_without_a_needed_value_have_failed() {
        let fields = [
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Int64, true),
        ];
        let column =
            |values: [Option<i64>; 3]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        let columns = [
            column([Some(1), None, Some(3)]),
            column([None, None, Some(3)]),
        ];
        let output = passed(&columns, &fields);
        assert_eq!((output.rows, &output.columns[..]), (3, &columns[..]));
        assert_eq!(output.row_errors, [(1, "column `a` is null".to_owned())]);
    }
}
