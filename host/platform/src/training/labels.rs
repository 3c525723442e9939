//! Label files: Parquet, CSV and Arrow, read batch by batch, as often as needed.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{Field as ArrowField, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use wafer_core::{CoerceError, ColumnBuilder, DataType, Field, coerce};
use wafer_runtime::CHUNK_ROWS;

use crate::definition::ViewDef;
use crate::error::{Error, Kind, Result};
use crate::project::nearest;

/// Format of labels, and of a training set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelFormat {
    /// Apache Parquet: `.parquet`.
    Parquet,
    /// Comma-separated values with a header: `.csv`.
    Csv,
    /// An Arrow IPC file: `.arrow`, `.feather`, `.ipc`.
    Arrow,
    /// An Arrow IPC stream: `.arrows`.
    ArrowStream,
}

impl LabelFormat {
    /// By a file's extension.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("arrow" | "feather" | "ipc") => Ok(Self::Arrow),
            Some("arrows") => Ok(Self::ArrowStream),
            _ => Err(Error::invalid(format!(
                "cannot tell the format of {}; name it .parquet, .csv or .arrow",
                path.display()
            ))),
        }
    }
}

/// A file of labels that fits a view.
#[derive(Clone, Debug)]
pub(super) struct LabelFile {
    path: PathBuf,
    format: LabelFormat,
    /// Columns as they are read.
    schema: SchemaRef,
    /// Inputs of the view, in order.
    inputs: Vec<Field>,
    time: String,
    rows: Option<u64>,
}

pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

impl LabelFile {
    /// Looks at a file and checks that it has what the view needs.
    pub(super) fn open(
        path: &Path,
        format: Option<LabelFormat>,
        time: &str,
        view: &ViewDef,
    ) -> Result<Self> {
        let format = format.map_or_else(|| LabelFormat::of(path), Ok)?;
        let inputs = view.inputs.clone();
        let (schema, rows) = match format {
            LabelFormat::Parquet => {
                let builder = parquet(path)?;
                let rows = builder.metadata().file_metadata().num_rows();
                (Arc::clone(builder.schema()), u64::try_from(rows).ok())
            }
            LabelFormat::Arrow | LabelFormat::ArrowStream => (arrow_batches(path)?.0, None),
            LabelFormat::Csv => (csv_schema(path, time, &inputs)?, None),
        };
        let file = Self {
            path: path.to_owned(),
            format,
            schema,
            inputs,
            time: time.to_owned(),
            rows,
        };
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        let time = Field::new(&self.time, DataType::Timestamp, false);
        for (field, what) in self
            .inputs
            .iter()
            .map(|field| (field, "which the view reads"))
            .chain([(
                &time,
                "the labels' time; another column is named with --time",
            )])
        {
            let Ok(index) = self.schema.index_of(&field.name) else {
                let names = self.schema.fields().iter().map(|f| f.name().as_str());
                let hint = match nearest(&field.name, names.clone()) {
                    Some(nearest) => format!("; is `{nearest}` meant?"),
                    None => format!("; it has {}", names.collect::<Vec<_>>().join(", ")),
                };
                return Err(Error::invalid(format!(
                    "{} has no column `{}` ({}), {what}{hint}",
                    self.path.display(),
                    field.name,
                    field.data_type
                )));
            };
            // Types are looked at before anything is read.
            let empty = arrow_array::new_empty_array(self.schema.field(index).data_type());
            coerce(&empty, &field.data_type).map_err(|e| self.misfit(field, 0, &e))?;
        }
        Ok(())
    }

    fn misfit(&self, field: &Field, first: u64, error: &CoerceError) -> Error {
        let path = self.path.display();
        Error::invalid(match error {
            CoerceError::Type { wanted, found } => format!(
                "{path}: column `{}` is {found}, and the view needs {wanted}: convert it before, \
                 so that nothing is guessed",
                field.name
            ),
            CoerceError::Value { row, message } => {
                format!(
                    "{path}: column `{}`, row {}: {message}",
                    field.name,
                    first + *row as u64
                )
            }
        })
    }

    pub(super) fn format(&self) -> LabelFormat {
        self.format
    }

    pub(super) fn total_rows(&self) -> Option<u64> {
        self.rows
    }

    /// Its columns, as they are carried over to the training set.
    pub(super) fn fields(&self) -> Vec<ArrowField> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.as_ref().clone()).collect()
    }

    /// All rows.
    pub(super) fn batches(&self) -> Result<Batches> {
        self.projected(None)
    }

    /// All rows, some columns only where that is cheaper.
    pub(super) fn projected(&self, columns: Option<&[String]>) -> Result<Batches> {
        Ok(match self.format {
            LabelFormat::Parquet => {
                let builder = parquet(&self.path)?;
                let mask = match columns {
                    None => ProjectionMask::all(),
                    Some(columns) => {
                        let roots = columns.iter().filter_map(|c| self.schema.index_of(c).ok());
                        ProjectionMask::roots(builder.parquet_schema(), roots)
                    }
                };
                let reader = builder
                    .with_projection(mask)
                    .with_batch_size(CHUNK_ROWS)
                    .build();
                let reader = reader.map_err(|e| unreadable(&self.path, e))?;
                let path = self.path.clone();
                Box::new(reader.map(move |batch| batch.map_err(|e| unreadable(&path, e))))
            }
            LabelFormat::Arrow | LabelFormat::ArrowStream => {
                let (_, batches) = arrow_batches(&self.path)?;
                Box::new(batches.flat_map(|batch| match batch {
                    Ok(batch) => {
                        let pieces = (0..batch.num_rows())
                            .step_by(CHUNK_ROWS)
                            .map(|from| batch.slice(from, CHUNK_ROWS.min(batch.num_rows() - from)));
                        pieces.map(Ok).collect::<Vec<_>>()
                    }
                    Err(error) => vec![Err(error)],
                }))
            }
            LabelFormat::Csv => {
                let batches = CsvBatches::open(&self.path, &self.schema)?;
                Box::new(batches)
            }
        })
    }

    /// Inputs of the view, in order. `first` is the number of the batch's first
    /// row.
    pub(super) fn inputs(&self, batch: &RecordBatch, first: u64) -> Result<Vec<ArrayRef>> {
        let inputs = self.inputs.iter();
        inputs
            .map(|field| self.input(batch, field, first))
            .collect()
    }

    /// A column of the labels, of the type that the view needs.
    fn input(&self, batch: &RecordBatch, field: &Field, first: u64) -> Result<ArrayRef> {
        let found = batch.column_by_name(&field.name).ok_or_else(|| {
            let message = format!("column `{}` was not read", field.name);
            Error::new(Kind::Internal, message)
        })?;
        let column = coerce(found, &field.data_type).map_err(|e| self.misfit(field, first, &e))?;
        if !field.nullable
            && let Some(row) = (0..column.len()).find(|row| column.is_null(*row))
        {
            return Err(Error::invalid(format!(
                "{}: column `{}`, row {}: is null, and a function needs it",
                self.path.display(),
                field.name,
                first + row as u64
            )));
        }
        Ok(column)
    }

    /// Columns of some of the view's inputs, by name, and the labels' times.
    pub(super) fn keys_and_times(
        &self,
        batch: &RecordBatch,
        names: &[String],
        first: u64,
    ) -> Result<(Vec<ArrayRef>, Vec<i64>)> {
        let field = |name: &String| {
            let found = self.inputs.iter().find(|input| input.name == *name);
            // A null key matches nothing, whatever functions need.
            Field {
                nullable: true,
                ..found.expect("keys are inputs of the view").clone()
            }
        };
        let keys = names
            .iter()
            .map(|name| self.input(batch, &field(name), first));
        let keys = keys.collect::<Result<_>>()?;
        Ok((keys, self.times(batch, first)?))
    }

    /// The labels' times, microseconds.
    pub(super) fn times(&self, batch: &RecordBatch, first: u64) -> Result<Vec<i64>> {
        let field = Field::new(&self.time, DataType::Timestamp, true);
        let times = self.input(batch, &field, first)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        if let Some(row) = (0..times.len()).find(|row| times.is_null(*row)) {
            return Err(Error::invalid(format!(
                "{}: column `{}`, row {}: is null; every label has a time",
                self.path.display(),
                self.time,
                first + row as u64
            )));
        }
        Ok(times.values().to_vec())
    }

    /// Names of some inputs and of the time.
    pub(super) fn with_time(&self, names: &[String]) -> Vec<String> {
        names.iter().chain([&self.time]).cloned().collect()
    }

    /// Position of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.schema.index_of(name).ok()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| unreadable(path, e))
}

fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(|e| unreadable(path, e))
}

fn arrow_batches(path: &Path) -> Result<(SchemaRef, Batches)> {
    let owned = path.to_owned();
    let map = move |batch: Result<RecordBatch, arrow_schema::ArrowError>| {
        batch.map_err(|e| unreadable(&owned, e))
    };
    if let Ok(reader) = FileReader::try_new(BufReader::new(open(path)?), None) {
        return Ok((reader.schema(), Box::new(reader.map(map))));
    }
    let reader = StreamReader::try_new(BufReader::new(open(path)?), None);
    let reader = reader.map_err(|e| unreadable(path, e))?;
    Ok((reader.schema(), Box::new(reader.map(map))))
}

/// The columns of a CSV file: those that the view reads are of its types; of
/// others the whole file says whether they are integers, floats or texts.
fn csv_schema(path: &Path, time: &str, inputs: &[Field]) -> Result<SchemaRef> {
    let mut reader = csv::Reader::from_reader(open(path)?);
    let header = reader.headers().map_err(|e| unreadable(path, e))?.clone();
    let known = |name: &str| {
        if name == time {
            return Some(DataType::Timestamp);
        }
        let input = inputs.iter().find(|input| input.name == name)?;
        Some(input.data_type.clone())
    };
    let mut types: Vec<(bool, DataType)> = header
        .iter()
        .map(|name| known(name).map_or((true, DataType::Int64), |known| (false, known)))
        .collect();
    for record in reader.records() {
        let record = record.map_err(|e| unreadable(path, e))?;
        for (text, (guessed, data_type)) in record.iter().zip(&mut types) {
            if *guessed && !text.is_empty() {
                if *data_type == DataType::Int64 && text.parse::<i64>().is_err() {
                    *data_type = DataType::Float64;
                }
                if *data_type == DataType::Float64 && text.parse::<f64>().is_err() {
                    *data_type = DataType::Utf8;
                }
            }
        }
    }
    let fields = header.iter().zip(types);
    let fields: Vec<ArrowField> = fields
        .map(|(name, (_, data_type))| ArrowField::new(name, data_type.to_arrow(), true))
        .collect();
    Ok(Arc::new(arrow_schema::Schema::new(fields)))
}

/// The rows of a CSV file.
struct CsvBatches {
    path: PathBuf,
    reader: csv::Reader<File>,
    schema: SchemaRef,
    types: Vec<DataType>,
}

impl CsvBatches {
    fn open(path: &Path, schema: &SchemaRef) -> Result<Self> {
        let data_type = |field: &Arc<ArrowField>| match field.data_type() {
            arrow_schema::DataType::Int64 => DataType::Int64,
            arrow_schema::DataType::Float64 => DataType::Float64,
            arrow_schema::DataType::Float32 => DataType::Float32,
            arrow_schema::DataType::Boolean => DataType::Boolean,
            arrow_schema::DataType::Timestamp(..) => DataType::Timestamp,
            arrow_schema::DataType::Date32 => DataType::Date,
            arrow_schema::DataType::Binary => DataType::Binary,
            _ => DataType::Utf8,
        };
        Ok(Self {
            path: path.to_owned(),
            reader: csv::Reader::from_reader(open(path)?),
            schema: Arc::clone(schema),
            types: schema.fields().iter().map(data_type).collect(),
        })
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let types = self.types.iter();
        let mut builders: Vec<_> = types.map(|t| ColumnBuilder::new(t, CHUNK_ROWS)).collect();
        let mut record = csv::StringRecord::new();
        let mut rows = 0;
        while rows < CHUNK_ROWS
            && self
                .reader
                .read_record(&mut record)
                .map_err(|e| unreadable(&self.path, e))?
        {
            rows += 1;
            for (index, builder) in builders.iter_mut().enumerate() {
                let text = record.get(index).unwrap_or_default();
                builder.append_text(text, false).map_err(|message| {
                    let line = record.position().map_or(0, csv::Position::line);
                    let field = self.schema.field(index).name();
                    Error::invalid(format!(
                        "{}:{line}: column `{field}`: {message}",
                        self.path.display()
                    ))
                })?;
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = builders.iter_mut().map(ColumnBuilder::finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        batch.map(Some).map_err(|e| unreadable(&self.path, e))
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

fn unreadable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    let kind = match std::error::Error::source(&cause).or(Some(&cause)) {
        Some(e) if e.to_string().contains("No such file") => Kind::NotFound,
        _ => Kind::Invalid,
    };
    Error::caused(kind, format!("{} cannot be read", path.display()), cause)
}
