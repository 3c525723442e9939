//! Comma-separated values with a header. Quotes and line ends follow RFC 4180.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use wafer_catalog::Format;
use wafer_core::{ColumnBuilder, DataType, Digest, Field, coerce};
use wafer_store::Result;

use crate::text::{TextRows, append_all};
use crate::{
    FileFormat, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult, cell_text,
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
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_path(path)
            .map_err(|e| unreadable(path, e))?;
        let header = reader.headers().map_err(|e| unreadable(path, e))?.clone();
        let mut columns: Vec<InferredType> = header
            .iter()
            .map(|name| InferredType::new(declared(name)))
            .collect();
        if columns.iter().any(|column| column.is_inferred) {
            for record in reader.byte_records() {
                let record = record.map_err(|e| unreadable(path, e))?;
                for (text, column) in record.iter().zip(&mut columns) {
                    column.observe(std::str::from_utf8(text).ok());
                }
            }
        }
        let fields = header.iter().zip(columns);
        let fields =
            fields.map(|(name, column)| ArrowField::new(name, column.data_type.to_arrow(), true));
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    fn read(&self, path: &Path, file: File, columns: &[Field]) -> Result<Box<dyn RowReader>> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.headers().map_err(|e| unreadable(path, e))?;
        let names: Vec<&str> = header.iter().collect();
        let positions = column_positions(path, &names, columns)?;
        Ok(Box::new(CsvReader {
            path: path.to_owned(),
            width: names.len(),
            reader,
            columns: columns.to_vec(),
            positions,
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

#[derive(Debug)]
struct CsvReader {
    path: PathBuf,
    reader: csv::Reader<File>,
    columns: Vec<Field>,
    /// For each column, the position of its field in a record.
    positions: Vec<usize>,
    /// The number of fields in the header.
    width: usize,
}

impl RowReader for CsvReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let mut rows = TextRows::new(&self.columns);
        let mut record = csv::StringRecord::new();
        while !rows.is_full() {
            match self.reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    rows.push(line, |builders| self.append(&record, builders));
                }
                Err(e) if matches!(e.kind(), csv::ErrorKind::Utf8 { .. }) => {
                    let line = e.position().map_or(0, csv::Position::line);
                    rows.reject(line, "is not valid UTF-8".to_owned());
                }
                Err(e) => return Err(unreadable(&self.path, e)),
            }
        }
        Ok(rows.finish())
    }
}

impl CsvReader {
    fn append(
        &self,
        record: &csv::StringRecord,
        builders: &mut [ColumnBuilder],
    ) -> Result<(), String> {
        let appended = append_all(&self.columns, builders, |index, field, builder| {
            // The parser does not distinguish `""` from an empty field. So an empty text is a null
            // if the column is nullable.
            let is_text = matches!(field.data_type, DataType::Utf8 | DataType::Binary);
            let text = record.get(self.positions[index]).unwrap_or_default();
            builder.append_text(text, is_text && !field.nullable)
        });
        match record.len() == self.width {
            true => appended,
            false => Err(format!(
                "has {} fields, the header {}",
                record.len(),
                self.width
            )),
        }
    }
}

struct CsvWriter(csv::Writer<Sink>);

impl RowWriter for CsvWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        Statistics::add_all(statistics, batch);
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| csv_cell(column, row));
            self.0.write_record(cells)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        let sink = self.0.into_inner().map_err(|e| e.to_string())?;
        Ok(sink.finish()?)
    }
}

/// Formats a value as a CSV field. A null is an empty field.
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
