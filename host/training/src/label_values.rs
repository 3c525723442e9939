//! Labels as numbers, checked against the task of the model that predicts them.
//!
//! A number stays what it is, and a boolean becomes 0 or 1. Files without types have the texts
//! `true` and `false`, which are also written `True` and `TRUE`; they are read as booleans. Labels
//! of the task `binary` are 0 or 1, and those of `regression` are finite numbers. The SDK reads
//! labels by the same rules (`labels.rs` in `guest-sdk`), so that no trainer learns from labels
//! that the host would not score.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, ArrayRef, Float64Array};
use wafer_core::{DataType, Task, coerce, cut_to};
use wafer_store::{Error, Result};

use crate::train::model_input;

/// The greatest size of a label in an error, in bytes.
const SHOWN_BYTES: usize = 60;

/// The labels of a model, and how they are checked.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    /// The name of the column.
    pub(crate) column: String,
    /// What the model predicts; `None` if the project file does not say it. Numbers are not
    /// checked then.
    pub(crate) task: Option<Task>,
    /// The training set, for errors.
    pub(crate) set: String,
}

impl Labels {
    /// Returns the labels of some rows as numbers, with nulls where there is no label. `row_number`
    /// returns the number that a row of the column has in the training set.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a label that does not fit the
    /// task. The error names its row.
    pub(crate) fn numbers(
        &self,
        column: &ArrayRef,
        row_number: impl Fn(usize) -> u64,
    ) -> Result<Float64Array> {
        let numbers = match as_texts(column) {
            Some(texts) => self.truth_values(&texts, &row_number)?,
            None => model_input(column, &DataType::Float64)
                .map_err(|e| Error::invalid(format!("{}: {e}", self.place())))?,
        };
        let numbers = numbers.as_primitive::<Float64Type>().clone();
        let mut rows = 0..numbers.len();
        let wrong = rows.find(|row| numbers.is_valid(*row) && !self.fits(numbers.value(*row)));
        match wrong {
            None => Ok(numbers),
            Some(row) => Err(self.misfit(row_number(row), &numbers.value(row).to_string())),
        }
    }

    /// Reads the texts of truth values.
    fn truth_values(
        &self,
        column: &ArrayRef,
        row_number: impl Fn(usize) -> u64,
    ) -> Result<ArrayRef> {
        if self.task == Some(Task::Regression) {
            return Err(Error::invalid(format!(
                "{}: is text, and labels of the task `regression` are numbers",
                self.place()
            )));
        }
        let texts = column.as_string::<i32>();
        let truths = texts.iter().enumerate().map(|(row, text)| match text {
            None => Ok(None),
            Some("true" | "True" | "TRUE") => Ok(Some(1.0)),
            Some("false" | "False" | "FALSE") => Ok(Some(0.0)),
            Some(other) => {
                let shown = cut_to(format!("{other:?}"), SHOWN_BYTES);
                Err(self.misfit(row_number(row), &shown))
            }
        });
        let truths: Float64Array = truths.collect::<Result<Vec<_>>>()?.into();
        Ok(Arc::new(truths))
    }

    fn fits(&self, label: f64) -> bool {
        match self.task {
            None => true,
            Some(Task::Binary) => label == 0.0 || label == 1.0,
            Some(Task::Regression) => label.is_finite(),
        }
    }

    fn misfit(&self, row: u64, label: &str) -> Error {
        let wanted = match self.task {
            Some(Task::Regression) => "the task `regression`, whose labels are finite numbers",
            _ => "the task `binary`, whose labels are 0 or 1, or false or true",
        };
        Error::invalid(format!(
            "{}, row {row}: {label} is not a label of {wanted}",
            self.place()
        ))
    }

    fn place(&self) -> String {
        format!("training set `{}`, label `{}`", self.set, self.column)
    }
}

/// Returns a column of texts as utf8, and `None` for any other column.
fn as_texts(column: &ArrayRef) -> Option<ArrayRef> {
    coerce(column, &DataType::Utf8).ok()
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Int64Array, LargeStringArray, StringArray};

    use super::*;

    fn check(task: Option<Task>, column: ArrayRef, wanted: Result<Vec<Option<f64>>, &str>) {
        let labels = Labels {
            column: "y".to_owned(),
            task,
            set: "s".to_owned(),
        };
        match (labels.numbers(&column, |row| 100 + row as u64), wanted) {
            (Ok(found), Ok(wanted)) => {
                assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{task:?}");
            }
            (Err(found), Err(wanted)) => {
                let found = found.to_string();
                let found = found.strip_prefix("training set `s`, label `y`").unwrap();
                assert_eq!(found, wanted);
            }
            (found, wanted) => panic!("{task:?}: {found:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn labels_are_numbers_of_their_task() {
        let (binary, regression) = (Some(Task::Binary), Some(Task::Regression));
        let integers =
            |values: &[Option<i64>]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
        let floats = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
        let texts = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let known = vec![Some(0.0), None, Some(1.0)];
        for task in [None, binary, regression] {
            let column = integers(&[Some(0), None, Some(1)]);
            check(task, column, Ok(known.clone()));
            let column = Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)]));
            check(task, column, Ok(known.clone()));
        }
        let misfit = ", row 101: 2 is not a label of the task `binary`, whose labels are 0 or 1, or false or true";
        check(binary, integers(&[Some(0), Some(2)]), Err(misfit));
        check(binary, floats(&[0.0, 2.0]), Err(misfit));
        check(regression, integers(&[Some(2)]), Ok(vec![Some(2.0)]));
        check(None, integers(&[Some(2)]), Ok(vec![Some(2.0)]));
        check(
            regression,
            floats(&[1.5, f64::NAN]),
            Err(
                ", row 101: NaN is not a label of the task `regression`, whose labels are finite numbers",
            ),
        );
        let truths = vec![Some(1.0), Some(0.0), Some(1.0)];
        for task in [None, binary] {
            check(task, texts(&["true", "False", "TRUE"]), Ok(truths.clone()));
        }
        let large = LargeStringArray::from(vec!["true", "false", "True"]);
        check(binary, Arc::new(large), Ok(truths));
        check(
            binary,
            texts(&["true", "yes"]),
            Err(
                ", row 101: \"yes\" is not a label of the task `binary`, whose labels are 0 or 1, or false or true",
            ),
        );
        check(
            regression,
            texts(&["1.5"]),
            Err(": is text, and labels of the task `regression` are numbers"),
        );
    }
}
