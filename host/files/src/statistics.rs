//! Statistics of the columns of a file that is written.
//!
//! They are gathered in one pass and in bounded memory. Quantiles come from a histogram whose
//! buckets are as wide as one part in 256 of their values, and values are counted one by one as
//! long as there are few different ones.

mod quantiles;
mod values;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::DataType as ArrowType;
use wafer_catalog::ColumnStatistics;

use crate::statistics::quantiles::Quantiles;
use crate::statistics::values::Values;

/// The fractions whose quantiles are reported.
const FRACTIONS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The number of most frequent values that are reported.
const TOP: usize = 10;

/// Gathers the statistics of a column, batch by batch in the order of the rows.
#[derive(Debug)]
pub struct Statistics {
    name: String,
    data_type: String,
    nulls: u64,
    min: f64,
    max: f64,
    count: f64,
    mean: f64,
    /// The sum of the squared deviations from the mean.
    deviations: f64,
    quantiles: Quantiles,
    values: Values,
}

impl Statistics {
    pub(crate) fn new(name: &str, data_type: &ArrowType) -> Self {
        Self {
            name: name.to_owned(),
            data_type: data_type.to_string(),
            nulls: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            count: 0.0,
            mean: 0.0,
            deviations: 0.0,
            quantiles: Quantiles::default(),
            values: Values::of(data_type),
        }
    }

    /// Adds a batch to the statistics of its columns.
    pub(crate) fn add_all(statistics: &mut [Self], batch: &RecordBatch) {
        for (statistics, column) in statistics.iter_mut().zip(batch.columns()) {
            statistics.add(column);
        }
    }

    /// Adds the values of a batch.
    pub(crate) fn add(&mut self, column: &ArrayRef) {
        // The bit map of a column does not tell all nulls, such as those of a dictionary's values.
        self.nulls += column.logical_null_count() as u64;
        self.values.add(column);
        match column.data_type() {
            ArrowType::Int64 => self.numbers(column.as_primitive::<Int64Type>(), |n| n as f64),
            ArrowType::Float64 => self.numbers(column.as_primitive::<Float64Type>(), |n| n),
            ArrowType::Float32 => self.numbers(column.as_primitive::<Float32Type>(), f64::from),
            _ => {}
        }
    }

    /// Adds the numbers of a batch. Mean and deviations are computed for the batch and then
    /// combined with those so far (Chan, Golub and LeVeque, 1983).
    fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        number: impl Fn(T::Native) -> f64,
    ) {
        let known = || values.iter().flatten().map(&number);
        let finite = || known().filter(|value| value.is_finite());
        for value in known() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        let (count, sum) =
            finite().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        if count == 0.0 {
            return;
        }
        finite().for_each(|value| self.quantiles.add(value));
        let mean = sum / count;
        let deviations: f64 = finite().map(|value| (value - mean) * (value - mean)).sum();
        let (delta, total) = (mean - self.mean, self.count + count);
        self.deviations += deviations + delta * delta * (self.count * count / total);
        self.mean += delta * (count / total);
        self.count = total;
    }

    /// Returns the statistics of all values.
    pub(crate) fn finish(self) -> ColumnStatistics {
        let some =
            |value: f64, least: f64| (self.count >= least && value.is_finite()).then_some(value);
        ColumnStatistics {
            name: self.name,
            data_type: self.data_type,
            nulls: self.nulls,
            min: some(self.min, 1.0),
            max: some(self.max, 1.0),
            mean: some(self.mean, 1.0),
            stddev: some((self.deviations / (self.count - 1.0)).sqrt(), 2.0),
            quantiles: self.quantiles.of(&FRACTIONS),
            distinct: self.values.distinct(),
            top: self.values.top(TOP),
        }
    }
}
