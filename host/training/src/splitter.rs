//! Assigns rows to the parts of a split.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use wafer_catalog::{Split, SplitBy};
use wafer_store::{Error, Result};

use crate::labels::LabelFile;
use wafer_files::cell_text;

/// Says which part each row belongs to.
pub(crate) struct Splitter {
    pub(crate) split: Split,
    pub(crate) labels: LabelFile,
    /// By time: the last time of each part but the last.
    ends: Vec<i64>,
    /// By column: its position.
    pub(crate) column: usize,
}

impl Splitter {
    pub(crate) fn new(split: &Split, labels: &LabelFile) -> Result<Self> {
        let mut ends = Vec::new();
        let mut column = 0;
        match &split.by {
            SplitBy::Row => {}
            SplitBy::Time => ends = time_ends(split, labels)?,
            SplitBy::Ends(times) => ends = times.iter().map(|end| end.as_micros() - 1).collect(),
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

    /// The parts of the rows of a batch; `first` is the number of its first row.
    pub(crate) fn column(&mut self, batch: &RecordBatch, first: u64) -> Result<ArrayRef> {
        let parts: StringArray = match &self.split.by {
            SplitBy::Time | SplitBy::Ends(_) => {
                let part = |time: i64| {
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
                rows.map(|row| Some(self.split.part(self.point(&row.to_le_bytes()))))
                    .collect()
            }
            SplitBy::Column(_) => {
                let values = batch.column(self.column);
                let value = |row: usize| cell_text(values, row);
                let rows = 0..batch.num_rows();
                rows.map(|row| Some(self.split.part(self.point(value(row).as_bytes()))))
                    .collect()
            }
        };
        Ok(Arc::new(parts))
    }

    /// A point between 0 and 1 that looks random, the same for the same value.
    fn point(&self, value: &[u8]) -> f64 {
        let hash = twox_hash::XxHash64::oneshot(self.split.seed, value);
        // The 53 bits that a float holds.
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The times at which parts end: quantiles of the labels' times.
fn time_ends(split: &Split, labels: &LabelFile) -> Result<Vec<i64>> {
    let mut times = Vec::new();
    for batch in labels.projected(&labels.with_time(&[]))? {
        let batch = batch?;
        let first = times.len() as u64;
        times.extend(labels.times(&batch, first)?);
    }
    times.sort_unstable();
    let mut ends = Vec::new();
    let mut sum = 0.0;
    for (_, fraction) in &split.parts[..split.parts.len() - 1] {
        sum += fraction;
        let rows = (sum * times.len() as f64).round() as usize;
        ends.push(
            rows.checked_sub(1)
                .map_or(i64::MIN, |last| times[last.min(times.len() - 1)]),
        );
    }
    Ok(ends)
}
