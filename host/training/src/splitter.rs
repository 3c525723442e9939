//! The splitter, which assigns each row of a training set to a part.
//!
//! The part of a row depends only on the split and the row, so it is the same when the training
//! set is made again.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use wafer_catalog::{Split, SplitBy};
use wafer_core::{Duration, Timestamp, plain_column, with_canonical_floats};
use wafer_store::{Error, Result};

use crate::labels::LabelFile;
use wafer_files::cell_text;

/// Assigns rows to the parts of a split.
pub(crate) struct Splitter {
    split: Split,
    labels: LabelFile,
    /// For a split by time, the last time of each part except the last one.
    ends: Vec<Timestamp>,
    /// For a split by a column, the position of that column.
    column: usize,
}

impl Splitter {
    pub(crate) fn new(split: &Split, labels: &LabelFile) -> Result<Self> {
        let mut ends = Vec::new();
        let mut column = 0;
        match &split.by {
            SplitBy::Row => {}
            SplitBy::Time => ends = time_quantiles(split, labels)?,
            SplitBy::Ends(times) => {
                ends = times
                    .iter()
                    .map(|end| end.minus(Duration::MICROSECOND))
                    .collect()
            }
            SplitBy::Column(name) => {
                column = labels.column(name).ok_or_else(|| {
                    let path = labels.path().display();
                    Error::invalid(format!("{path} has no column `{name}` to split by"))
                })?;
            }
        }
        Ok(Self {
            split: split.clone(),
            labels: labels.clone(),
            ends,
            column,
        })
    }

    /// Returns the part of each row of a batch. `first` is the number of the batch's first row.
    pub(crate) fn column(&mut self, batch: &RecordBatch, first: u64) -> Result<ArrayRef> {
        let parts: StringArray = match &self.split.by {
            SplitBy::Time | SplitBy::Ends(_) => {
                let part = |time: Timestamp| {
                    let index = self.ends.partition_point(|end| *end < time);
                    Some(self.split.parts[index].0.as_str())
                };
                self.labels
                    .times(batch, first)?
                    .into_iter()
                    .map(part)
                    .collect()
            }
            SplitBy::Row => {
                let rows = first..first + batch.num_rows() as u64;
                rows.map(|row| Some(self.split.part(self.hash_fraction(&row.to_le_bytes()))))
                    .collect()
            }
            SplitBy::Column(_) => {
                let values = self.values(batch, first)?;
                let values = match self.split.has_one_zero {
                    true => with_canonical_floats(&values),
                    false => values,
                };
                let value = |row: usize| cell_text(&values, row);
                let rows = 0..batch.num_rows();
                let part = |row| self.split.part(self.hash_fraction(value(row).as_bytes()));
                rows.map(|row| Some(part(row))).collect()
            }
        };
        Ok(Arc::new(parts))
    }

    /// Returns the column that the rows are split by, with values that have texts.
    fn values(&self, batch: &RecordBatch, first: u64) -> Result<ArrayRef> {
        let values = batch.column(self.column);
        // These were hashed by another text before times without a zone were written without one.
        if matches!(
            values.data_type(),
            ArrowType::Timestamp(TimeUnit::Microsecond, _)
        ) {
            return Ok(Arc::clone(values));
        }
        plain_column(values).map_err(|error| {
            let schema = batch.schema();
            let row = error.row.map(|row| format!(", row {}", first + row as u64));
            Error::invalid(format!(
                "{}: column `{}`{}: {}; split by another column",
                self.labels.path().display(),
                schema.field(self.column).name(),
                row.unwrap_or_default(),
                error.message
            ))
        })
    }

    /// Hashes a value to a number from 0, included, to 1, excluded.
    fn hash_fraction(&self, value: &[u8]) -> f64 {
        let hash = twox_hash::XxHash64::oneshot(self.split.seed, value);
        // A float64 represents 53 bits exactly.
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Returns the last time of each part except the last one: the quantiles of the labels' times at
/// the fractions of the split.
fn time_quantiles(split: &Split, labels: &LabelFile) -> Result<Vec<Timestamp>> {
    let mut times = Vec::new();
    for batch in labels.projected(&labels.with_time(&[]))? {
        let batch = batch?;
        let first = times.len() as u64;
        times.extend(labels.times(&batch, first)?);
    }
    Ok(quantiles(times, split))
}

/// Returns the quantiles of times at the fractions of a split, one for each part except the last.
fn quantiles(mut times: Vec<Timestamp>, split: &Split) -> Vec<Timestamp> {
    times.sort_unstable();
    let mut ends = Vec::new();
    let mut sum = 0.0;
    for (_, fraction) in &split.parts[..split.parts.len() - 1] {
        sum += fraction;
        let rows = (sum * times.len() as f64).round() as usize;
        ends.push(
            rows.checked_sub(1)
                .map_or(Timestamp::MIN, |last| times[last.min(times.len() - 1)]),
        );
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_time_end_at_the_quantiles_of_the_times() {
        for (split, times, wanted) in [
            ("a=0.5,b=0.5", vec![40, 10, 30, 20], vec![20]),
            ("a=0.25,b=0.25,c=0.5", vec![10, 20, 30, 40], vec![10, 20]),
            // The number of rows is rounded.
            ("a=0.5,b=0.5", vec![10, 20, 30], vec![20]),
            ("a=1", vec![10, 20], vec![]),
            ("a=1,b=0", vec![10, 20], vec![20]),
            // A part without rows ends before all times.
            ("a=0,b=1", vec![10, 20], vec![i64::MIN]),
            ("a=0.5,b=0.5", vec![], vec![i64::MIN]),
            // Labels of one time are in one part.
            ("a=0.5,b=0.5", vec![7, 7, 7, 7], vec![7]),
        ] {
            let parsed = Split::parse(split, SplitBy::Time, 0).unwrap();
            let found = quantiles(
                times.iter().copied().map(Timestamp::from_micros).collect(),
                &parsed,
            );
            let found: Vec<i64> = found.iter().map(|end| end.as_micros()).collect();
            assert_eq!(found, wanted, "{split} of {times:?}");
        }
    }
}
