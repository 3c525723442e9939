//! Rows of text formats, some of which may be invalid.

use arrow_array::BooleanArray;
use serde_json::Value as Json;
use wafer_core::{ColumnBuilder, Field, Reading};
use wafer_runtime::CHUNK_ROWS;

use crate::{ReadColumn, Rows};

/// The largest number of bytes that a row takes in memory. One that is larger has a quote or a
/// bracket that is not closed, or is no row at all.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// The columns that are read from a text file.
#[derive(Debug)]
pub(crate) struct TextColumns {
    /// The fields.
    pub(crate) fields: Vec<Field>,
    /// What is declared of each column.
    readings: Vec<Reading>,
}

impl TextColumns {
    pub(crate) fn new(columns: &[ReadColumn]) -> Self {
        Self {
            fields: columns.iter().map(|column| column.field.clone()).collect(),
            readings: columns
                .iter()
                .map(|column| column.reading.clone())
                .collect(),
        }
    }
}

/// Collects the rows of a text file, up to a chunk.
pub(crate) struct TextRows {
    builders: Vec<ColumnBuilder>,
    numbers: Vec<u64>,
    is_good: Vec<bool>,
    rejects: Vec<(u64, String)>,
    seen: u64,
}

impl TextRows {
    /// Creates an empty collection of rows with these columns.
    pub(crate) fn new(columns: &TextColumns) -> Self {
        let builder = |(field, reading): (&Field, &Reading)| {
            ColumnBuilder::new(&field.data_type, CHUNK_ROWS).with_reading(reading.clone())
        };
        let columns = columns.fields.iter().zip(&columns.readings);
        Self {
            builders: columns.map(builder).collect(),
            numbers: Vec::new(),
            is_good: Vec::new(),
            rejects: Vec::new(),
            seen: 0,
        }
    }

    /// Returns whether the chunk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.seen >= CHUNK_ROWS as u64
    }

    /// Adds a row. `row` must append exactly one value to every column, even if it returns an
    /// error.
    pub(crate) fn push(
        &mut self,
        line: u64,
        row: impl FnOnce(&mut [ColumnBuilder]) -> Result<(), String>,
    ) {
        self.seen += 1;
        let result = row(&mut self.builders);
        self.is_good.push(result.is_ok());
        match result {
            Ok(()) => self.numbers.push(line),
            Err(message) => self.rejects.push((line, message)),
        }
    }

    /// Rejects a row that cannot be split into fields.
    pub(crate) fn reject(&mut self, line: u64, message: String) {
        self.push(line, |builders| {
            builders.iter_mut().for_each(ColumnBuilder::append_null);
            Err(message)
        });
    }

    /// Returns the collected rows, or `None` if there are none. The values of rejected rows are
    /// removed.
    pub(crate) fn finish(mut self) -> Option<Rows> {
        if self.seen == 0 {
            return None;
        }
        let is_good = BooleanArray::from(self.is_good);
        let columns = self.builders.iter_mut().map(|builder| {
            let column = builder.finish();
            arrow_select::filter::filter(&column, &is_good).expect("as many bits as rows")
        });
        Some(Rows {
            columns: columns.collect(),
            numbers: self.numbers,
            rejects: self.rejects,
            seen: self.seen,
        })
    }
}

/// Appends one value to every column, and nulls after the first failure. The row is removed later.
pub(crate) fn append_all(
    fields: &[Field],
    builders: &mut [ColumnBuilder],
    mut append: impl FnMut(usize, &Field, &mut ColumnBuilder) -> Result<(), String>,
) -> Result<(), String> {
    let mut failure = None;
    for (index, (field, builder)) in fields.iter().zip(builders).enumerate() {
        let result = match failure {
            None => append(index, field, builder),
            Some(_) => Err(String::new()),
        };
        if let Err(message) = result {
            builder.append_null();
            failure.get_or_insert_with(|| format!("field `{}`: {message}", field.name));
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Appends the fields of a JSON object to the columns of the same names. Every column gets a
/// value, even if an error is returned.
///
/// # Errors
/// Returns a message that names the field that is missing or does not have the type of its column.
pub fn append_object(
    json: &Json,
    fields: &[Field],
    builders: &mut [ColumnBuilder],
) -> Result<(), String> {
    let object = json.as_object();
    let appended = append_all(fields, builders, |_, field, builder| {
        match object.and_then(|object| object.get(&field.name)) {
            Some(Json::Null) if !field.nullable => Err("is null".to_owned()),
            Some(value) => builder.append_json(value),
            None if field.nullable => {
                builder.append_null();
                Ok(())
            }
            None => Err("is missing".to_owned()),
        }
    });
    match object {
        Some(_) => appended,
        None => Err("is not a JSON object".to_owned()),
    }
}
