//! Comma-separated values with a header. Quotes and line ends follow RFC 4180; `csv/records.rs`
//! splits a file into records. Another delimiter, another quote, names of columns in place of a
//! header, and texts that stand for null are options.
//!
//! The number of a row is the line that it begins in. A row whose fields do not fit the header or
//! the columns is rejected. A file whose quotes do not say where its rows end is refused: a row
//! that spans lines and does not fit the header has probably swallowed others.

mod records;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, Float64Array, RecordBatch};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::{ColumnBuilder, DataType, Digest, Field, Quoting, plain_type};
use wafer_store::{Error, Result};

use crate::csv::records::{CsvRecord, Fields, RecordError, Records};
use crate::input::TextInput;
use crate::output::plain_columns;
use crate::text::{TYPE_OF_NULLS, TextColumns, TextRows, append_all};
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult, cell_text,
    check_column_count, column_positions, unreadable,
};

/// The size of the lines that are written together, in bytes.
const WRITTEN_BYTES: usize = 1 << 20;

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
        file: File,
        options: &FileOptions,
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let (mut records, header) = open(path, file, options)?;
        let mut columns: Vec<InferredType> = header
            .iter()
            .map(|name| InferredType::new(declared(name)))
            .collect();
        if columns.iter().any(|column| column.is_inferred) {
            let mut record = CsvRecord::default();
            for _ in 0..options.most_guessed_from() {
                if !next(path, &mut records, &mut record)? {
                    break;
                }
                // Reading the row reports what is wrong with it.
                if record.fault.is_some() {
                    continue;
                }
                let width = record.len();
                for (index, column) in columns.iter_mut().enumerate().take(width) {
                    let text = record.field(index);
                    let is_null = text.is_some_and(|text| options.nulls.iter().any(|n| n == text));
                    if !is_null {
                        column.observe(text, record.is_quoted(index));
                    }
                }
            }
        }
        let fields = header.iter().zip(columns);
        let fields =
            fields.map(|(name, column)| ArrowField::new(name, column.data_type().to_arrow(), true));
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        let (records, header) = open(path, file, options)?;
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        Ok(Box::new(CsvReader {
            path: path.to_owned(),
            width: names.len(),
            positions: column_positions(path, &names, columns)?,
            records,
            columns: TextColumns::new(path, columns, options.cuts)?,
            nulls: options.nulls.clone(),
        }))
    }

    fn holds(&self, data_type: &ArrowType) -> bool {
        plain_type(data_type).is_some()
    }

    fn write(
        &self,
        mut sink: Sink,
        schema: &SchemaRef,
        _cuts: Cuts,
    ) -> WriteResult<Box<dyn RowWriter>> {
        let mut header = Vec::new();
        let names = schema.fields().iter();
        write_record(&mut header, names.map(|field| Some(field.name().as_str())));
        sink.write_all(&header)?;
        Ok(Box::new(CsvWriter(sink)))
    }
}

/// The type of a column that is not declared: boolean, int64 or float64 if each of its values is
/// written as the text that the file has, else utf8. So a guess loses nothing: `02134`, `1e5` and a
/// number of twenty digits are texts, and so are `1` and `1.5` in one column.
struct InferredType {
    is_inferred: bool,
    data_type: Option<DataType>,
}

impl InferredType {
    fn new(declared: Option<DataType>) -> Self {
        Self {
            is_inferred: declared.is_none(),
            data_type: declared,
        }
    }

    /// Adjusts the type to another field. `None` stands for one that is not UTF-8. An empty field
    /// is a null of any type, but in quotes it is the empty text, which only utf8 has.
    fn observe(&mut self, text: Option<&str>, is_quoted: bool) {
        let is_known = self.data_type == Some(DataType::Utf8);
        if !self.is_inferred || is_known || (text == Some("") && !is_quoted) {
            return;
        }
        let found = text.map_or(DataType::Utf8, type_of_text);
        self.data_type = Some(match self.data_type.take() {
            Some(before) if before != found => DataType::Utf8,
            _ => found,
        });
    }

    fn data_type(&self) -> DataType {
        self.data_type.clone().unwrap_or(TYPE_OF_NULLS)
    }
}

/// Returns the type other than utf8 whose values include one that is written as this text, or utf8
/// if there is none.
fn type_of_text(text: &str) -> DataType {
    if matches!(text, "true" | "false") {
        return DataType::Boolean;
    }
    if text
        .parse()
        .is_ok_and(|integer: i64| integer.to_string() == text)
    {
        return DataType::Int64;
    }
    let is_float = text.parse().is_ok_and(|float: f64| {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![float]));
        cell_text(&column, 0) == text
    });
    match is_float {
        true => DataType::Float64,
        false => DataType::Utf8,
    }
}

/// Opens a file to read its records, and returns the names of its columns: those of its header, or
/// of the options if it has none.
fn open(
    path: &Path,
    file: File,
    options: &FileOptions,
) -> Result<(Records<TextInput>, Vec<String>)> {
    let mut records = Records::new(TextInput::open(path, file, options)?, options.dialect);
    let names = match &options.header {
        Some(names) => names.clone(),
        None => header(path, &mut records)?,
    };
    check_column_count(path, names.len())?;
    if names.len() == 1 {
        records.keep_empty_lines();
    }
    Ok((records, names))
}

/// Reads the header of a file, which has no names if the file is empty.
fn header(path: &Path, records: &mut Records<TextInput>) -> Result<Vec<String>> {
    let mut record = CsvRecord::default();
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
    check_column_count(path, record.len())?;
    let fields = record.fields();
    let fields = fields.ok_or_else(|| wrong("is not valid UTF-8"))?;
    let names = (0..record.len()).filter_map(|index| fields.get(index));
    Ok(names.map(str::to_owned).collect())
}

/// Reads the next record; returns `false` at the end of the file. The error names the file.
fn next(path: &Path, records: &mut Records<TextInput>, record: &mut CsvRecord) -> Result<bool> {
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
    records: Records<TextInput>,
    columns: TextColumns,
    /// For each column, the position of its field in a record, if the file has the column.
    positions: Vec<Option<usize>>,
    /// The texts that stand for null, beside the empty one.
    nulls: Vec<String>,
    /// The number of fields in the header.
    width: usize,
}

impl RowReader for CsvReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let mut rows = TextRows::new(&self.columns);
        let mut record = CsvRecord::default();
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

/// Whether the values of a column are texts.
fn is_text(field: &Field) -> bool {
    matches!(field.data_type, DataType::Utf8 | DataType::Binary)
}

impl CsvReader {
    /// Refuses a record that spans lines and does not fit the header. A quote that is not closed
    /// makes such a record, in which all rows up to the next quote are.
    fn check_lines(&self, record: &CsvRecord) -> Result<()> {
        let Some(opened) = record.spans_from.filter(|_| record.len() != self.width) else {
            return Ok(());
        };
        Err(Error::invalid(format!(
            "{}:{opened}: a quote opens here and closes in a later line; the row has {} fields, and the \
             header has {}: the quote is probably not closed where it should be",
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
            let Some(position) = self.positions[index] else {
                builder.append_null();
                return Ok(());
            };
            let text = fields.get(position).unwrap_or_default();
            let is_quoted = fields.is_quoted(position);
            let is_null = self.nulls.iter().any(|null| null == text);
            if is_null && !(is_quoted && is_text(field)) {
                if !field.nullable {
                    return Err(format!("`{text}` stands for null, and a value is needed"));
                }
                builder.append_null();
                return Ok(());
            }
            // An empty field without quotes is a null, if the column can have one.
            let quoting = match is_quoted || !field.nullable {
                true => Quoting::Quoted,
                false => Quoting::Unquoted,
            };
            builder.append_text(text, quoting)
        });
        match width == self.width {
            true => appended,
            false => Err(format!(
                "has {width} fields, and the header has {}",
                self.width
            )),
        }
    }
}

struct CsvWriter(Sink);

impl RowWriter for CsvWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        Statistics::add_all(statistics, batch);
        let columns = plain_columns(batch)?;
        let mut lines = Vec::new();
        for row in 0..batch.num_rows() {
            let cells = columns.iter();
            let cells = cells.map(|column| column.is_valid(row).then(|| cell_text(column, row)));
            write_record(&mut lines, cells);
            if lines.len() >= WRITTEN_BYTES {
                self.0.write_all(&lines)?;
                lines.clear();
            }
        }
        Ok(self.0.write_all(&lines)?)
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        Ok(self.0.finish()?)
    }
}

/// Appends a record. A null is an empty field, and an empty text is an empty field in quotes. So a
/// record of one null is an empty line, which is a record where there is one column.
fn write_record<T: AsRef<str>>(lines: &mut Vec<u8>, cells: impl Iterator<Item = Option<T>>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            lines.push(b',');
        }
        if let Some(cell) = cell {
            write_field(lines, cell.as_ref());
        }
    }
    lines.push(b'\n');
}

fn write_field(lines: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        lines.extend_from_slice(text.as_bytes());
        return;
    }
    lines.push(b'"');
    lines.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    lines.push(b'"');
}

#[cfg(test)]
mod tests {
    use wafer_catalog::Dialect;

    use super::*;

    #[test]
    fn guessed_types_write_the_same_texts_back() {
        use DataType::{Boolean, Float64, Int64, Utf8};
        for (texts, wanted) in [
            (vec!["1", "", "-20"], Int64),
            (vec!["9223372036854775807"], Int64),
            (vec!["9223372036854775808"], Utf8),
            (vec!["02134", "501"], Utf8),
            (vec!["+47"], Utf8),
            (vec!["-0"], Utf8),
            (vec!["1.5", "0.1", "-0.0", "100.0", "NaN"], Float64),
            (vec!["1e+23", "1e-7", "Infinity"], Float64),
            (vec!["1e5"], Utf8),
            (vec!["1e23"], Utf8),
            (vec!["1.10"], Utf8),
            (vec![".5"], Utf8),
            (vec!["inf"], Utf8),
            (vec!["nan"], Utf8),
            // 1 would be written as 1.0.
            (vec!["1.5", "1"], Utf8),
            (vec!["1", "1.5"], Utf8),
            (vec!["1", "x", "1"], Utf8),
            (vec!["0.1000000000000000055511151231257827"], Utf8),
            (vec!["true", "false"], Boolean),
            (vec!["True"], Utf8),
            (vec!["true", "1"], Utf8),
            (vec!["2024-01-01"], Utf8),
            (vec![" 1"], Utf8),
            (vec!["", ""], Utf8),
        ] {
            let mut inferred = InferredType::new(None);
            for text in &texts {
                inferred.observe(Some(*text), false);
            }
            assert_eq!(inferred.data_type(), wanted, "{texts:?}");
            let mut builder = ColumnBuilder::new(&wanted, 1);
            for text in texts.iter().filter(|text| !text.is_empty()) {
                builder.append_text(text, Quoting::Unquoted).unwrap();
                assert_eq!(cell_text(&builder.finish(), 0), *text);
            }
        }
        // In quotes, an empty field is a text, and any other what it is without them.
        for (texts, wanted) in [
            (vec![("", true), ("7", false)], Utf8),
            (vec![("7", false), ("", true)], Utf8),
            (vec![("", true)], Utf8),
            (vec![("7", true), ("", false)], Int64),
        ] {
            let mut inferred = InferredType::new(None);
            for (text, is_quoted) in &texts {
                inferred.observe(Some(*text), *is_quoted);
            }
            assert_eq!(inferred.data_type(), wanted, "{texts:?}");
        }
        let mut inferred = InferredType::new(None);
        inferred.observe(None, false);
        assert_eq!(inferred.data_type(), Utf8);
        let mut declared = InferredType::new(Some(Int64));
        declared.observe(Some("x"), false);
        assert_eq!(declared.data_type(), Int64);
    }

    #[test]
    fn records_are_written_so_that_they_are_read_back() {
        for (cells, wanted) in [
            (vec![Some("a"), None, Some("")], "a,,\"\"\n"),
            (
                vec![Some("a,b"), Some("c\"d"), Some("e\r")],
                "\"a,b\",\"c\"\"d\",\"e\r\"\n",
            ),
            (vec![Some(" x "), Some("5' 2")], " x ,5' 2\n"),
            (vec![None, None], ",\n"),
            (vec![None], "\n"),
            (vec![Some("")], "\"\"\n"),
        ] {
            let mut line = Vec::new();
            write_record(&mut line, cells.iter().copied());
            assert_eq!(String::from_utf8(line.clone()).unwrap(), wanted);
            // It is read back as it was, below a header of as many names.
            let mut file = b"h".to_vec();
            file.extend(b",h".repeat(cells.len() - 1));
            file.push(b'\n');
            file.extend(line);
            let mut records = Records::new(&file[..], Dialect::default());
            let mut record = CsvRecord::default();
            assert!(records.read(&mut record).unwrap());
            if record.len() == 1 {
                records.keep_empty_lines();
            }
            assert!(records.read(&mut record).unwrap());
            let read = |index| match record.field(index) {
                Some("") if !record.is_quoted(index) => None,
                other => other,
            };
            let read: Vec<Option<&str>> = (0..record.len()).map(read).collect();
            assert_eq!(read, cells);
        }
    }
}
