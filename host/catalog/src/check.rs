//! Checks whether each output row of a function depends on its own input row alone.
//!
//! Chunks of rows are cut differently in batch runs, on events and in requests. The results are
//! the same in all three modes only if the other rows of a chunk do not matter. `wafer check` uses
//! [`check_function`]; registering a version of a model uses [`check_predictions`].

use arrow_array::{Array as _, ArrayRef, UInt32Array};
use serde_json::{Value as Json, json};
use tracing::subscriber::{NoSubscriber, with_default};
use wafer_core::{ColumnBuilder, DataType, EpochUnit, Field, Reading, Schema, encode_row};
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::{Error, Kind, Result};

/// The result of a check that found nothing wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The number of rows that the function was called on.
    pub rows: usize,
    /// Whether the rows were read from the function's source, and not synthetic.
    pub real: bool,
    /// The number of rows that the function refused.
    pub row_errors: usize,
    /// The first of them, and why it was refused.
    pub first_row_error: Option<String>,
}

/// The maximum number of rows that a check uses.
pub const CHECK_ROWS: usize = 2_000;

/// Checks with synthetic rows that a function predicts row by row. A function that cannot process
/// synthetic rows at all passes the check.
///
/// # Errors
/// Returns [`Kind::Function`] that names the first row whose prediction depends on other rows.
pub fn check_predictions(function: &Function) -> Result<()> {
    let columns = synthetic_rows(&function.signature().inputs);
    match function.invoke(&columns, Deadline::Batch) {
        Ok(_) => check_function(function, None).map(drop),
        Err(_) => Ok(()),
    }
}

/// Calls a function on `rows` of its source (at most [`CHECK_ROWS`]), or on synthetic rows if
/// there are none. The rows are passed whole, cut into pieces, and in reverse order; the outputs
/// for each row must have the same bytes every time.
///
/// What the function logs is dropped unless details are logged: it would be there once for each of
/// these calls, for each row.
///
/// # Errors
/// Returns [`Kind::Function`] that names the first row with a different result, and the errors of
/// calling the function.
pub fn check_function(function: &Function, rows: Option<Vec<ArrayRef>>) -> Result<CheckReport> {
    match tracing::enabled!(tracing::Level::DEBUG) {
        true => compare_calls(function, rows),
        false => with_default(NoSubscriber::new(), || compare_calls(function, rows)),
    }
}

fn compare_calls(function: &Function, rows: Option<Vec<ArrayRef>>) -> Result<CheckReport> {
    let real = rows.is_some();
    let columns = rows.unwrap_or_else(|| synthetic_rows(&function.signature().inputs));
    let rows = columns[0].len();
    let place = |row: usize| match real {
        true => format!("row {row} of its source: "),
        false => format!("row {row} of made-up data: "),
    };
    let whole = function.invoke_rows(&columns).map_err(|failure| {
        let place = failure.row.map_or_else(String::new, place);
        let error = Error::from(failure);
        Error::caused(error.kind(), format!("{place}{error}"), error)
    })?;
    let expected = results_by_row(&whole, rows);
    for size in [1, 7, rows.div_ceil(2).max(1)] {
        let limit = if size == 1 { rows.min(50) } else { rows };
        for start in (0..limit).step_by(size) {
            let length = size.min(limit - start);
            let piece: Vec<ArrayRef> = columns.iter().map(|c| c.slice(start, length)).collect();
            let actual = results_by_row(&function.invoke(&piece, Deadline::Batch)?, length);
            compare(
                function,
                &expected[start..start + length],
                &actual,
                |row| start + row,
                "cut into other batches",
            )?;
        }
    }
    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let reversed: Vec<ArrayRef> = columns
        .iter()
        .map(|c| {
            arrow_select::take::take(c, &UInt32Array::from(order.clone()), None)
                .expect("rows of the column")
        })
        .collect();
    let actual = results_by_row(&function.invoke(&reversed, Deadline::Batch)?, rows);
    let reversed: Vec<_> = expected.iter().rev().cloned().collect();
    compare(
        function,
        &reversed,
        &actual,
        |row| rows - 1 - row,
        "in another order",
    )?;
    Ok(CheckReport {
        rows,
        real,
        row_errors: whole.row_errors.len(),
        first_row_error: whole
            .row_errors
            .first()
            .map(|(row, message)| format!("{}{message}", place(*row as usize))),
    })
}

/// Returns for each input row the encoded output rows, or the error of the row.
fn results_by_row(output: &Output, rows: usize) -> Vec<Result<Vec<Vec<u8>>, String>> {
    let mut actual: Vec<Result<Vec<Vec<u8>>, String>> = vec![Ok(Vec::new()); rows];
    for (row, message) in &output.row_errors {
        actual[*row as usize] = Err(message.clone());
    }
    for row in 0..output.rows {
        if let Ok(bytes) = &mut actual[output.source_row(row)] {
            let mut packed = Vec::new();
            encode_row(&output.columns, row, &mut packed);
            bytes.push(packed);
        }
    }
    actual
}

type RowResult = Result<Vec<Vec<u8>>, String>;

fn compare(
    function: &Function,
    expected: &[RowResult],
    actual: &[RowResult],
    row_number: impl Fn(usize) -> usize,
    how: &str,
) -> Result<()> {
    match (0..expected.len()).find(|row| expected[*row] != actual[*row]) {
        None => Ok(()),
        Some(row) => Err(Error::new(
            Kind::Function,
            format!(
                "function `{}` gives another result for row {} {how}: an output row may depend on its own \
                 input row, the assets and the parameters only",
                function.name(),
                row_number(row)
            ),
        )),
    }
}

/// Returns rows with usual and unusual values of every type. They are the same every time.
fn synthetic_rows(schema: &Schema) -> Vec<ArrayRef> {
    let column = |(place, field): (usize, &Field)| {
        // The unit in which `synthetic_value` counts times.
        let unit = match field.data_type {
            DataType::Date => EpochUnit::Days,
            _ => EpochUnit::Microseconds,
        };
        let mut builder =
            ColumnBuilder::new(&field.data_type, CHECK_ROWS).with_reading(Reading::of_unit(unit));
        // A linear congruential generator: D. Knuth, MMIX.
        let mut state = place as u64 + 1;
        for row in 0..CHECK_ROWS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = state >> 33;
            if field.nullable && random.is_multiple_of(5) {
                builder.append_null();
            } else {
                builder
                    .append_json(&synthetic_value(&field.data_type, random, row))
                    .expect("the value is of the type");
            }
        }
        builder.finish()
    };
    schema.fields().iter().enumerate().map(column).collect()
}

fn synthetic_value(data_type: &DataType, random: u64, row: usize) -> Json {
    let number = random as f64 / f64::from(1u32 << 31);
    let scale = [1.0, 90.0, -90.0, 1e6, 1e-6][row % 5];
    match data_type {
        DataType::Boolean => json!(random.is_multiple_of(2)),
        DataType::Int64 => match row % 50 {
            0 => json!(i64::MAX),
            1 => json!(i64::MIN),
            _ => json!((random % 3_000) as i64 - 500),
        },
        DataType::Float64 | DataType::Float32 => match row % 50 {
            0 => json!("NaN"),
            1 => json!("Infinity"),
            2 => json!(-0.0),
            _ => json!(number * scale),
        },
        DataType::Utf8 => json!(["", "a", "JFK", "ä\u{1f6e9}", "N14228"][random as usize % 5]),
        DataType::Binary => json!(["", "00", "ff00"][random as usize % 3]),
        // The years 2013 to 2029.
        DataType::Timestamp => {
            json!(1_356_998_400_000_000 + (random % 500_000_000) as i64 * 1_000_000)
        }
        DataType::Date => json!(15_706 + (random % 6_000) as i64),
        DataType::Vector(n) => (0..*n).map(|i| json!(number * f64::from(i + 1))).collect(),
        DataType::ListInt64 => (0..random % 4).map(|i| json!(i)).collect(),
        DataType::ListFloat64 => (0..random % 4).map(|i| json!(number * i as f64)).collect(),
        DataType::ListUtf8 => (0..random % 4).map(|i| json!(i.to_string())).collect(),
        DataType::Arrow(arrow) => unreachable!("{arrow} cannot be made up"),
    }
}
