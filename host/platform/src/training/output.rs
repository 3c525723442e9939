//! Writing a training set, and what is in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{DataType as ArrowType, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::{DataType, Digest, Timestamp, cell_to_json, coerce};

use super::labels::{LabelFile, LabelFormat};
use super::parquet::ParquetFile;
use super::sink::Sink;
use crate::error::{Error, Kind, Result};

/// What is in a column of a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Values that are missing.
    pub nulls: u64,
    /// Least value, of numbers.
    pub min: Option<f64>,
    /// Greatest value, of numbers.
    pub max: Option<f64>,
    /// Mean, of numbers that are finite.
    pub mean: Option<f64>,
    /// Sample standard deviation, of numbers that are finite.
    pub stddev: Option<f64>,
}

/// By what rows are shared out to parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Each row by itself, at random.
    Row,
    /// By time: the first part has the earliest rows.
    Time,
    /// By a column's value, at random: rows of one value are in one part.
    Column(String),
    /// By time: each part but the last ends at a time, which is the next one's.
    Ends(Vec<Timestamp>),
}

impl SplitBy {
    /// From `row`, `time`, or the name of a column.
    pub fn parse(text: &str) -> Self {
        match text {
            "row" => Self::Row,
            "time" => Self::Time,
            column => Self::Column(column.to_owned()),
        }
    }
}

/// Parts that rows are shared out to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Names and fractions, which add up to one; zeros when parts end at times.
    pub parts: Vec<(String, f64)>,
    /// By what.
    pub by: SplitBy,
    /// Decides what is random.
    pub seed: u64,
}

impl Split {
    /// From a text such as `train=0.8,test=0.2`, or
    /// `train<2013-09-01T00:00:00Z,test`, whatever `by` is then.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str, by: SplitBy, seed: u64) -> Result<Self, String> {
        if text.contains('<') {
            return Self::parse_ends(text, seed);
        }
        let wrong = || format!("`{text}` is not a split; write such as train=0.8,test=0.2");
        let part = |part: &str| -> Result<(String, f64), String> {
            let (name, fraction) = part.split_once('=').ok_or_else(wrong)?;
            let fraction: f64 = fraction.trim().parse().map_err(|_| wrong())?;
            if name.trim().is_empty() || !(0.0..=1.0).contains(&fraction) {
                return Err(wrong());
            }
            Ok((name.trim().to_owned(), fraction))
        };
        let parts: Vec<(String, f64)> = text.split(',').map(part).collect::<Result<_, _>>()?;
        let sum: f64 = parts.iter().map(|(_, fraction)| fraction).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return Err(format!(
                "the fractions of `{text}` add up to {sum}, not to 1"
            ));
        }
        Ok(Self { parts, by, seed })
    }

    fn parse_ends(text: &str, seed: u64) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is not a split: {why}; write such as train<2013-09-01T00:00:00Z,test")
        };
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (last, others) = parts.split_last().expect("a text has parts");
        if last.is_empty() || last.contains(['<', '=']) {
            return Err(wrong("the last part has a name and no end"));
        }
        let (mut names, mut ends) = (Vec::new(), Vec::new());
        for part in others {
            let (name, end) = part
                .split_once('<')
                .ok_or_else(|| wrong("a part has no end"))?;
            let end: Timestamp = end
                .trim()
                .parse()
                .map_err(|e: wafer_core::ParseTimestampError| wrong(&e.to_string()))?;
            if name.trim().is_empty() || ends.last().is_some_and(|before| *before >= end) {
                return Err(wrong("each part has a name, and ends after the one before"));
            }
            names.push((name.trim().to_owned(), 0.0));
            ends.push(end);
        }
        names.push(((*last).to_owned(), 0.0));
        Ok(Self {
            parts: names,
            by: SplitBy::Ends(ends),
            seed,
        })
    }

    /// The part of a point between 0 and 1.
    fn part(&self, point: f64) -> &str {
        let mut end = 0.0;
        for (name, fraction) in &self.parts {
            end += fraction;
            if point < end {
                return name;
            }
        }
        &self.parts.last().expect("a split has parts").0
    }
}

/// Says which part each row belongs to.
pub(super) struct Splitter {
    split: Split,
    labels: LabelFile,
    /// By time: the last time of each part but the last.
    ends: Vec<i64>,
    /// By column: its position.
    column: usize,
}

impl Splitter {
    pub(super) fn new(split: &Split, labels: &LabelFile) -> Result<Self> {
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
    pub(super) fn column(&mut self, batch: &RecordBatch, first: u64) -> Result<ArrayRef> {
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

fn cell_text(values: &ArrayRef, row: usize) -> String {
    match cell_to_json(values, row) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// The times at which parts end: quantiles of the labels' times.
fn time_ends(split: &Split, labels: &LabelFile) -> Result<Vec<i64>> {
    let mut times = Vec::new();
    for batch in labels.projected(Some(&labels.with_time(&[])))? {
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

/// A file that is being written beside its place.
pub(crate) struct Output {
    place: PathBuf,
    part: PathBuf,
    /// Absent once the file is whole.
    writer: Option<Writer>,
    statistics: Vec<Statistics>,
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.writer.is_some() {
            // Given up: half a file is of no use. Best effort.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

enum Writer {
    Parquet(Box<ParquetFile<Sink>>),
    Arrow(Box<FileWriter<Sink>>),
    ArrowStream(Box<StreamWriter<Sink>>),
    Csv(Box<csv::Writer<Sink>>),
}

impl Output {
    pub(crate) fn create(place: &Path, schema: &SchemaRef) -> Result<Self> {
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = place.with_file_name(name);
        let file = File::create(&part).map_err(|e| unwritable(place, e))?;
        let file = Sink::new(file);
        let writer = match LabelFormat::of(place)? {
            LabelFormat::Parquet => {
                let writer = ParquetFile::create(file, schema);
                Writer::Parquet(Box::new(writer.map_err(|e| unwritable(place, e))?))
            }
            LabelFormat::Arrow => {
                let writer = FileWriter::try_new(file, schema);
                Writer::Arrow(Box::new(writer.map_err(|e| unwritable(place, e))?))
            }
            LabelFormat::ArrowStream => {
                let writer = StreamWriter::try_new(file, schema);
                Writer::ArrowStream(Box::new(writer.map_err(|e| unwritable(place, e))?))
            }
            LabelFormat::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                let header = schema.fields().iter().map(|field| field.name());
                writer
                    .write_record(header)
                    .map_err(|e| unwritable(place, e))?;
                Writer::Csv(Box::new(writer))
            }
        };
        let fields = schema.fields().iter();
        Ok(Self {
            place: place.to_owned(),
            part,
            writer: Some(writer),
            statistics: fields
                .map(|field| Statistics::new(field.name(), field.data_type()))
                .collect(),
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (place, statistics) = (&self.place, &mut self.statistics);
        let writer = self.writer.as_mut().expect("it is open until it is closed");
        if !matches!(writer, Writer::Parquet(_)) {
            for (statistics, column) in statistics.iter_mut().zip(batch.columns()) {
                statistics.add(column);
            }
        }
        match writer {
            // Its columns go several at a time, and their statistics with them.
            Writer::Parquet(writer) => {
                let written = writer.write(batch, statistics);
                written.map_err(|e| unwritable(place, e))
            }
            Writer::Arrow(writer) => writer.write(batch).map_err(|e| unwritable(place, e)),
            Writer::ArrowStream(writer) => writer.write(batch).map_err(|e| unwritable(place, e)),
            Writer::Csv(writer) => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| csv_cell(column, row));
                    writer
                        .write_record(cells)
                        .map_err(|e| unwritable(place, e))?;
                }
                Ok(())
            }
        }
    }

    /// Puts the file in its place, whole; what is in its columns, and its digest.
    pub(crate) fn close(mut self) -> Result<(Vec<ColumnStatistics>, Digest)> {
        let writer = self.writer.take().expect("it is closed once");
        let digest = writer.finish(&mut self.statistics);
        let digest = digest.map_err(|e| {
            let _ = std::fs::remove_file(&self.part);
            unwritable(&self.place, e)
        })?;
        std::fs::rename(&self.part, &self.place).map_err(|e| unwritable(&self.place, e))?;
        let statistics = std::mem::take(&mut self.statistics);
        let columns = statistics.into_iter().map(Statistics::finish);
        Ok((columns.collect(), digest))
    }
}

impl Writer {
    /// Writes the end of the file; its digest.
    fn finish(self, statistics: &mut [Statistics]) -> std::io::Result<Digest> {
        use std::io::Error;
        let sink = match self {
            Self::Parquet(writer) => writer.close(statistics).map_err(Error::other)?,
            Self::Arrow(writer) => writer.into_inner().map_err(Error::other)?,
            Self::ArrowStream(writer) => writer.into_inner().map_err(Error::other)?,
            Self::Csv(writer) => writer
                .into_inner()
                .map_err(|e| Error::other(e.to_string()))?,
        };
        sink.finish()
    }
}

/// A value as CSV has it; nothing for a null.
fn csv_cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    if let ArrowType::Timestamp(unit, _) = column.data_type()
        && *unit != TimeUnit::Microsecond
        && let Ok(micros) = coerce(column, &DataType::Timestamp)
    {
        return cell_text(&micros, row);
    }
    cell_text(column, row)
}

fn unwritable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(
        Kind::Unavailable,
        format!("{} cannot be written", path.display()),
        cause,
    )
}

/// Gathers what is in a column, in its order.
pub(super) struct Statistics {
    name: String,
    data_type: String,
    nulls: u64,
    min: f64,
    max: f64,
    count: f64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    deviations: f64,
}

impl Statistics {
    fn new(name: &str, data_type: &ArrowType) -> Self {
        Self {
            name: name.to_owned(),
            data_type: data_type.to_string(),
            nulls: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            count: 0.0,
            mean: 0.0,
            deviations: 0.0,
        }
    }

    pub(super) fn add(&mut self, column: &ArrayRef) {
        self.nulls += column.null_count() as u64;
        match column.data_type() {
            ArrowType::Int64 => self.numbers(column.as_primitive::<Int64Type>(), |n| n as f64),
            ArrowType::Float64 => self.numbers(column.as_primitive::<Float64Type>(), |n| n),
            ArrowType::Float32 => self.numbers(column.as_primitive::<Float32Type>(), f64::from),
            _ => {}
        }
    }

    /// Adds a batch: its own mean and deviations first, then both together (Chan,
    /// Golub and LeVeque, 1983).
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
        let mean = sum / count;
        let deviations: f64 = finite().map(|value| (value - mean) * (value - mean)).sum();
        let (apart, both) = (mean - self.mean, self.count + count);
        self.deviations += deviations + apart * apart * (self.count * count / both);
        self.mean += apart * (count / both);
        self.count = both;
    }

    fn finish(self) -> ColumnStatistics {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_and_checked() {
        let split = Split::parse("train=0.8, test=0.2", SplitBy::Row, 7).unwrap();
        assert_eq!(
            split.parts,
            [("train".to_owned(), 0.8), ("test".to_owned(), 0.2)]
        );
        assert_eq!(
            [0.0, 0.79, 0.8, 0.999].map(|point| split.part(point)),
            ["train", "train", "test", "test"]
        );
        for (text, wanted) in [
            ("train", "is not a split"),
            ("train=x", "is not a split"),
            ("train=1.5,test=-0.5", "is not a split"),
            ("train=0.8,test=0.1", "add up to 0.9"),
            (
                "train<2013-09-01T00:00:00Z",
                "the last part has a name and no end",
            ),
            ("train<soon,test", "write such as train<2013"),
            ("<2013-09-01T00:00:00Z,test", "each part has a name"),
            (
                "a<2013-09-01T00:00:00Z,b<2013-08-01T00:00:00Z,test",
                "ends after the one before",
            ),
            ("train,a<2013-09-01T00:00:00Z,test", "a part has no end"),
        ] {
            let message = Split::parse(text, SplitBy::Row, 0).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
    #[test]
    fn parts_may_end_at_times() {
        let text = "train<2013-09-01T00:00:00Z, validation<2013-10-01T00:00:00Z, test";
        let split = Split::parse(text, SplitBy::Row, 0).unwrap();
        let names: Vec<_> = split.parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["train", "validation", "test"]);
        let SplitBy::Ends(ends) = split.by else {
            panic!("{:?}", split.by)
        };
        let texts: Vec<_> = ends.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2013-09-01T00:00:00Z", "2013-10-01T00:00:00Z"]);
    }
}
