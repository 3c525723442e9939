//! Newline-delimited JSON: one object in each line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use serde_json::{Map, Value as Json};
use wafer_catalog::Format;
use wafer_core::{DataType, Digest, cell_to_json};
use wafer_store::{Error, Result};

use crate::text::{TextColumns, TextRows, append_object};
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult, unreadable,
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
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let mut lines = Lines::new(path, file);
        let (mut columns, mut positions) = (Vec::<Column>::new(), HashMap::<String, usize>::new());
        while let Some(line) = lines.next()? {
            let Ok(Json::Object(object)) = serde_json::from_slice(line) else {
                // The line is skipped here, because reading the row reports what is wrong with it.
                continue;
            };
            for (name, value) in object {
                let position = *positions.entry(name.clone()).or_insert_with(|| {
                    columns.push(Column {
                        declared: declared(&name),
                        name,
                        inferred: None,
                    });
                    columns.len() - 1
                });
                let line = lines.number;
                columns[position].observe(&value).map_err(|message| {
                    let (path, name) = (path.display(), &columns[position].name);
                    Error::invalid(format!("{path}:{line}: field `{name}`: {message}"))
                })?;
            }
        }
        let fields = columns.into_iter().map(|column| {
            let data_type = column.declared.or(column.inferred);
            let data_type = data_type.unwrap_or(DataType::Utf8);
            ArrowField::new(column.name, data_type.to_arrow(), true)
        });
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(NdjsonReader {
            lines: Lines::new(path, file),
            columns: TextColumns::new(columns),
        }))
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
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
    /// Adjusts the inferred type to another value.
    fn observe(&mut self, value: &Json) -> std::result::Result<(), String> {
        if self.declared.is_some() {
            return Ok(());
        }
        let found = match value {
            Json::Null => return Ok(()),
            Json::Bool(_) => DataType::Boolean,
            Json::Number(number) if number.is_i64() => DataType::Int64,
            Json::Number(_) => DataType::Float64,
            Json::String(_) => DataType::Utf8,
            Json::Array(_) | Json::Object(_) => {
                return Err("has nested values; leave the field out or flatten it".to_owned());
            }
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

/// Reads the lines of a file that are not empty.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    /// The number of the line that was read last, from 1.
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    fn new(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            number: 0,
            line: Vec::new(),
        }
    }

    /// Returns the next line, or `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            let read = self.reader.read_until(b'\n', &mut self.line);
            if read.map_err(|e| unreadable(&self.path, e))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(&self.line));
            }
        }
    }
}

#[derive(Debug)]
struct NdjsonReader {
    lines: Lines,
    columns: TextColumns,
}

impl RowReader for NdjsonReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let mut rows = TextRows::new(&self.columns);
        while !rows.is_full() {
            let Some(line) = self.lines.next()? else {
                break;
            };
            let json = serde_json::from_slice::<Json>(line);
            let number = self.lines.number;
            match json {
                Ok(json) => rows.push(number, |builders| {
                    append_object(&json, &self.columns.fields, builders)
                }),
                Err(e) => rows.reject(number, format!("is not JSON: {e}")),
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
        for row in 0..batch.num_rows() {
            let cells = self.names.iter().zip(batch.columns());
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
