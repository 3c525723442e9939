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
use wafer_core::{DataType, Digest, Field, cell_to_json};
use wafer_store::{Error, Result};

use crate::text::{TextRows, append_object};
use crate::{FileFormat, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult, unreadable};

/// Newline-delimited JSON.
#[derive(Debug)]
pub(crate) struct Ndjson;

impl FileFormat for Ndjson {
    fn format(&self) -> Format {
        Format::Ndjson
    }

    /// The columns are the fields of all objects, in the order in which they are first seen.
    fn schema(
        &self,
        path: &Path,
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let mut lines = Lines::new(path, file);
        let (mut columns, mut places) = (Vec::<Column>::new(), HashMap::<String, usize>::new());
        while let Some(line) = lines.next()? {
            let Ok(Json::Object(object)) = serde_json::from_slice(line) else {
                // Reading the row says what is wrong with it.
                continue;
            };
            for (name, value) in object {
                let place = *places.entry(name.clone()).or_insert_with(|| {
                    columns.push(Column {
                        declared: declared(&name),
                        name,
                        guessed: None,
                    });
                    columns.len() - 1
                });
                let line = lines.number;
                columns[place].look_at(&value).map_err(|message| {
                    let (path, name) = (path.display(), &columns[place].name);
                    Error::invalid(format!("{path}:{line}: field `{name}`: {message}"))
                })?;
            }
        }
        let fields = columns.into_iter().map(|column| {
            let data_type = column.declared.or(column.guessed);
            let data_type = data_type.unwrap_or(DataType::Utf8);
            ArrowField::new(column.name, data_type.to_arrow(), true)
        });
        Ok(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())))
    }

    fn read(&self, path: &Path, file: File, columns: &[Field]) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(NdjsonReader {
            lines: Lines::new(path, file),
            columns: columns.to_vec(),
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

/// A column of a file, and the type of its values as far as it was read.
struct Column {
    name: String,
    declared: Option<DataType>,
    guessed: Option<DataType>,
}

impl Column {
    fn look_at(&mut self, value: &Json) -> std::result::Result<(), String> {
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
                return Err("has values within values; leave it out or flatten it".to_owned());
            }
        };
        self.guessed = Some(match (self.guessed.take(), found) {
            (None, found) => found,
            (Some(before), found) if before == found => found,
            (Some(DataType::Int64), DataType::Float64)
            | (Some(DataType::Float64), DataType::Int64) => DataType::Float64,
            (Some(before), found) => {
                return Err(format!("is {found} here and {before} in lines before"));
            }
        });
        Ok(())
    }
}

/// The lines of a file that are not empty.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    /// Number of the line that was read last, from 1.
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
    columns: Vec<Field>,
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
                    append_object(&json, &self.columns, builders)
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
            serde_json::to_writer(&mut self.sink, &object)?;
            self.sink.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        Ok(self.sink.finish()?)
    }
}
