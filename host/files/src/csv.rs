//! Comma-separated values with a header. Quotes and line ends follow RFC 4180; `csv/records.rs`
//! splits a file into records.
//!
//! The number of a row is the line that it begins in. A row whose fields do not fit the header or
//! the columns is rejected. A file whose quotes do not say where its rows end is refused: a row
//! that spans lines and does not fit the header has probably swallowed others.

mod records;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use wafer_catalog::Format;
use wafer_core::{ColumnBuilder, DataType, Digest, coerce};
use wafer_store::{Error, Result};

use crate::csv::records::{Fields, Record, RecordError, Records};
use crate::text::{TextColumns, TextRows, append_all};
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult, cell_text,
    column_positions, unreadable,
};

/// The format of comma-separated values.
#[derive(Debug)]
pub(crate) struct Csv;

impl FileFormat for Csv {
    fn format(&self) -> Format {
        Format::Csv
    }

    fn schema(
        &self,
        path: &Path,
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let mut records = Records::new(file);
        let header = header(path, &mut records)?;
        let mut columns: Vec<InferredType> = header
            .iter()
            .map(|name| InferredType::new(declared(name)))
            .collect();
        if columns.iter().any(|column| column.is_inferred) {
            let mut record = Record::default();
            while next(path, &mut records, &mut record)? {
                // Reading the row reports what is wrong with it.
                if record.fault.is_some() {
                    continue;
                }
                let width = record.len();
                for (index, column) in columns.iter_mut().enumerate().take(width) {
                    column.observe(record.field(index));
                }
            }
        }
        let fields = header.iter().zip(columns);
        let fields =
            fields.map(|(name, column)| ArrowField::new(name, column.data_type.to_arrow(), true));
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>> {
        let mut records = Records::new(file);
        let header = header(path, &mut records)?;
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        Ok(Box::new(CsvReader {
            path: path.to_owned(),
            width: names.len(),
            positions: column_positions(path, &names, columns)?,
            records,
            columns: TextColumns::new(columns),
        }))
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        let mut writer = csv::Writer::from_writer(sink);
        let names = schema.fields().iter().map(|field| field.name());
        writer.write_record(names)?;
        Ok(Box::new(CsvWriter(writer)))
    }
}

/// The type of a column that is not declared: the first of integer, float and text that fits all
/// values.
struct InferredType {
    is_inferred: bool,
    data_type: DataType,
}

impl InferredType {
    fn new(declared: Option<DataType>) -> Self {
        Self {
            is_inferred: declared.is_none(),
            data_type: declared.unwrap_or(DataType::Int64),
        }
    }

    fn observe(&mut self, text: Option<&str>) {
        if !self.is_inferred || text == Some("") {
            return;
        }
        if self.data_type == DataType::Int64 && text.is_none_or(|t| t.parse::<i64>().is_err()) {
            self.data_type = DataType::Float64;
        }
        if self.data_type == DataType::Float64 && text.is_none_or(|t| t.parse::<f64>().is_err()) {
            self.data_type = DataType::Utf8;
        }
    }
}

/// Reads the header of a file, which has no names if the file is empty.
fn header(path: &Path, records: &mut Records<File>) -> Result<Vec<String>> {
    let mut record = Record::default();
    if !next(path, records, &mut record)? {
        return Ok(Vec::new());
    }
    let wrong = |message: &str| {
        let (path, line) = (path.display(), record.line);
        Error::invalid(format!("{path}:{line}: the header {message}"))
    };
    if let Some(fault) = &record.fault {
        return Err(wrong(&format!("cannot be read: {fault}")));
    }
    let fields = record.fields();
    let fields = fields.ok_or_else(|| wrong("is not valid UTF-8"))?;
    let names = (0..record.len()).filter_map(|index| fields.get(index));
    Ok(names.map(str::to_owned).collect())
}

/// Reads the next record; returns `false` at the end of the file. The error names the file.
fn next(path: &Path, records: &mut Records<File>, record: &mut Record) -> Result<bool> {
    records.read(record).map_err(|error| match error {
        RecordError::Read(error) => unreadable(path, error),
        RecordError::Quotes { line, message } => {
            Error::invalid(format!("{}:{line}: {message}", path.display()))
        }
    })
}

#[derive(Debug)]
struct CsvReader {
    path: PathBuf,
    records: Records<File>,
    columns: TextColumns,
    /// For each column, the position of its field in a record.
    positions: Vec<usize>,
    /// The number of fields in the header.
    width: usize,
}

impl RowReader for CsvReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let mut rows = TextRows::new(&self.columns);
        let mut record = Record::default();
        while !rows.is_full() && next(&self.path, &mut self.records, &mut record)? {
            self.check_lines(&record)?;
            match (&record.fault, record.fields()) {
                (Some(fault), _) => rows.reject(record.line, fault.clone()),
                (None, None) => rows.reject(record.line, "is not valid UTF-8".to_owned()),
                (None, Some(fields)) => {
                    let width = record.len();
                    rows.push(record.line, |builders| self.append(width, fields, builders));
                }
            }
        }
        Ok(rows.finish())
    }
}

impl CsvReader {
    /// Refuses a record that spans lines and does not fit the header. A quote that is not closed
    /// makes such a record, in which all rows up to the next quote are.
    fn check_lines(&self, record: &Record) -> Result<()> {
        let Some(opened) = record.spans_from.filter(|_| record.len() != self.width) else {
            return Ok(());
        };
        Err(Error::invalid(format!(
            "{}:{opened}: a quote opens here and closes in a later line, and the row has {} \
             fields, the header {}: the quote is probably not closed where it should be",
            self.path.display(),
            record.len(),
            self.width
        )))
    }

    fn append(
        &self,
        width: usize,
        fields: Fields<'_>,
        builders: &mut [ColumnBuilder],
    ) -> Result<(), String> {
        let columns = &self.columns.fields;
        let appended = append_all(columns, builders, |index, field, builder| {
            // An empty text is a null if the column is nullable, with quotes or without.
            let is_text = matches!(field.data_type, DataType::Utf8 | DataType::Binary);
            let text = fields.get(self.positions[index]).unwrap_or_default();
            builder.append_text(text, is_text && !field.nullable)
        });
        match width == self.width {
            true => appended,
            false => Err(format!("has {width} fields, the header {}", self.width)),
        }
    }
}

struct CsvWriter(csv::Writer<Sink>);

impl RowWriter for CsvWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        Statistics::add_all(statistics, batch);
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| csv_cell(column, row));
            self.0
                .write_record(cells.collect::<WriteResult<Vec<String>>>()?)
                .map_err(io_error)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        let kept = |e: &std::io::Error| std::io::Error::new(e.kind(), e.to_string());
        let sink = self.0.into_inner().map_err(|e| kept(e.error()))?;
        Ok(sink.finish()?)
    }
}

/// Returns the error of the file, of whose kind callers may make something.
fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => std::io::Error::other(format!("{kind:?}")),
    }
}

/// Formats a value as a CSV field. A null is an empty field.
///
/// # Errors
/// Returns an error for a time that cannot be written exactly.
fn csv_cell(column: &ArrayRef, row: usize) -> WriteResult<String> {
    if column.is_null(row) {
        return Ok(String::new());
    }
    match column.data_type() {
        ArrowType::Timestamp(unit, _) if *unit != TimeUnit::Microsecond => {
            let micros = coerce(&column.slice(row, 1), &DataType::Timestamp)?;
            Ok(cell_text(&micros, 0))
        }
        _ => Ok(cell_text(column, row)),
    }
}
