//! JSON: one object in each line, or a document of objects. `ndjson/values.rs` splits a file into
//! its values.

mod values;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use serde_json::{Map, Value as Json};
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::{DataType, Digest, cell_to_json, plain_type};
use wafer_store::{Error, Result};

use crate::input::TextInput;
use crate::ndjson::values::{Values, placed};
use crate::output::plain_columns;
use crate::text::{RawObject, TOO_MANY_FIELDS, TYPE_OF_NULLS, TextColumns, TextRows};
use crate::{
    FileFormat, MAX_COLUMNS, ReadColumn, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult,
    check_column_count, unreadable,
};

/// The format of newline-delimited JSON.
#[derive(Debug)]
pub(crate) struct Ndjson;

impl FileFormat for Ndjson {
    fn format(&self) -> Format {
        Format::Ndjson
    }

    /// Returns the fields of all objects as columns, in the order in which they first occur.
    fn schema(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let mut values = open(path, file, options)?;
        let (mut columns, mut positions) = (Vec::<Column>::new(), HashMap::<String, usize>::new());
        let mut first_fault = None;
        for _ in 0..options.most_guessed_from() {
            let Some(value) = values.next().map_err(|e| unreadable(path, e))? else {
                break;
            };
            let object = match RawObject::parse(value.bytes) {
                Ok(object) => object,
                Err(message) if message.starts_with(TOO_MANY_FIELDS) => {
                    check_column_count(path, MAX_COLUMNS + 1)?;
                    continue;
                }
                // The value is skipped here, because reading the row reports what is wrong with it.
                Err(message) => {
                    let (number, line) = (value.number, value.line);
                    first_fault.get_or_insert_with(|| (number, placed(line, message)));
                    continue;
                }
            };
            for (name, cell) in object.fields() {
                let position = *positions.entry(name.to_owned()).or_insert_with(|| {
                    columns.push(Column {
                        declared: declared(name),
                        name: name.to_owned(),
                        inferred: None,
                    });
                    columns.len() - 1
                });
                // Of a name that occurs twice, reading the row reports it.
                let Some(cell) = cell else {
                    continue;
                };
                columns[position].observe(cell.get()).map_err(|message| {
                    let (path, number) = (path.display(), value.number);
                    let message = placed(value.line, format!("field `{name}`: {message}"));
                    Error::invalid(format!("{path}:{number}: {message}"))
                })?;
            }
            check_column_count(path, columns.len())?;
        }
        // No row of a file without columns is read.
        if let (true, Some((number, message))) = (columns.is_empty(), first_fault) {
            let path = path.display();
            return Err(Error::invalid(format!("{path}:{number}: {message}")));
        }
        let fields = columns.into_iter().map(|column| {
            let data_type = column.declared.or(column.inferred);
            let data_type = data_type.unwrap_or(TYPE_OF_NULLS);
            ArrowField::new(column.name, data_type.to_arrow(), true)
        });
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    /// Each row has names of its own.
    fn column_names(
        &self,
        _path: &Path,
        _file: File,
        _options: &FileOptions,
    ) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(NdjsonReader {
            path: path.to_owned(),
            values: open(path, file, options)?,
            columns: TextColumns::new(path, columns, options.cuts)?,
        }))
    }

    fn holds(&self, data_type: &ArrowType) -> bool {
        plain_type(data_type).is_some()
    }

    fn write(
        &self,
        sink: Sink,
        schema: &SchemaRef,
        _cuts: Cuts,
    ) -> WriteResult<Box<dyn RowWriter>> {
        let fields = schema.fields().iter();
        let names = fields.map(|field| field.name().clone());
        Ok(Box::new(NdjsonWriter {
            sink,
            names: names.collect(),
        }))
    }
}

/// A column of a file, with the type that was inferred from the values so far.
struct Column {
    name: String,
    declared: Option<DataType>,
    inferred: Option<DataType>,
}

impl Column {
    /// Adjusts the inferred type to another value, by its text.
    fn observe(&mut self, value: &str) -> std::result::Result<(), String> {
        if self.declared.is_some() {
            return Ok(());
        }
        let found = match value.as_bytes() {
            [b'n', ..] => return Ok(()),
            [b't' | b'f', ..] => DataType::Boolean,
            [b'"', ..] => DataType::Utf8,
            [b'[' | b'{', ..] => {
                return Err("has nested values; leave the field out or flatten it".to_owned());
            }
            // An int64 of the same text. `-0` is a float.
            _ if value != "-0" && value.parse::<i64>().is_ok() => DataType::Int64,
            _ => DataType::Float64,
        };
        self.inferred = Some(match (self.inferred.take(), found) {
            (None, found) => found,
            (Some(before), found) if before == found => found,
            (Some(DataType::Int64), DataType::Float64)
            | (Some(DataType::Float64), DataType::Int64) => DataType::Float64,
            (Some(before), found) => {
                return Err(format!("is {found} here, and {before} in earlier lines"));
            }
        });
        Ok(())
    }
}

/// Opens a file to read its values.
fn open(path: &Path, file: File, options: &FileOptions) -> Result<Values> {
    let input = TextInput::open(path, file, options)?;
    Values::open(path, input).map_err(|e| unreadable(path, e))
}

#[derive(Debug)]
struct NdjsonReader {
    path: PathBuf,
    values: Values,
    columns: TextColumns,
}

impl RowReader for NdjsonReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let mut rows = TextRows::new(&self.columns);
        while !rows.is_full() {
            let value = self.values.next().map_err(|e| unreadable(&self.path, e))?;
            let Some(value) = value else {
                break;
            };
            match RawObject::parse(value.bytes) {
                Ok(object) => rows.push(value.number, |builders| {
                    object
                        .append(&self.columns.fields, builders)
                        .map_err(|message| placed(value.line, message))
                }),
                Err(message) => rows.reject(value.number, placed(value.line, message)),
            }
        }
        Ok(rows.finish())
    }
}

struct NdjsonWriter {
    sink: Sink,
    names: Vec<String>,
}

impl RowWriter for NdjsonWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        Statistics::add_all(statistics, batch);
        let columns = plain_columns(batch)?;
        for row in 0..batch.num_rows() {
            let cells = self.names.iter().zip(&columns);
            let object: Map<String, Json> = cells
                .map(|(name, column)| (name.clone(), cell_to_json(column, row)))
                .collect();
            serde_json::to_writer(&mut self.sink, &object).map_err(std::io::Error::from)?;
            self.sink.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        Ok(self.sink.finish()?)
    }
}
