//! Files of rows that are written beside their place and put there whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use serde_json::Value as Json;
use wafer_catalog::{ColumnStatistics, Format};
use wafer_core::{Digest, cell_to_json};
use wafer_store::{Error, Kind, Result};

use crate::{RowWriter, Sink, Statistics, file_format};

/// A file of rows that is being written. Dropped before it is closed, it leaves nothing behind.
pub struct Output {
    place: PathBuf,
    /// The file beside its place that is written.
    part: PathBuf,
    /// Absent once the file is whole.
    writer: Option<Box<dyn RowWriter>>,
    statistics: Vec<Statistics>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Output");
        debug.field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.writer.is_some() {
            // Half a file is of no use. Best effort.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl Output {
    /// Starts a file of rows with these columns; its format is that of its name.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the name says no format, [`Kind::Unavailable`] when the
    /// file cannot be written.
    pub fn create(place: &Path, schema: &SchemaRef) -> Result<Self> {
        let format = Format::of_output(place)?;
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = place.with_file_name(name);
        let file = File::create(&part).map_err(|e| unwritable(place, e))?;
        let writer = file_format(format).write(Sink::new(file), schema);
        let fields = schema.fields().iter();
        Ok(Self {
            place: place.to_owned(),
            writer: Some(writer.map_err(|e| unwritable(place, e))?),
            part,
            statistics: fields
                .map(|field| Statistics::new(field.name(), field.data_type()))
                .collect(),
        })
    }

    /// Writes rows. Blocks.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = self.writer.as_mut().expect("it is open until it is closed");
        let written = writer.write(batch, &mut self.statistics);
        written.map_err(|e| unwritable(&self.place, e))
    }

    /// Puts the file in its place, whole. Returns statistics of its columns, and its digest.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the file cannot be written.
    pub fn close(mut self) -> Result<(Vec<ColumnStatistics>, Digest)> {
        let writer = self.writer.take().expect("it is closed once");
        let digest = writer.finish(&mut self.statistics).map_err(|e| {
            let _ = std::fs::remove_file(&self.part);
            unwritable(&self.place, e)
        })?;
        std::fs::rename(&self.part, &self.place).map_err(|e| unwritable(&self.place, e))?;
        let statistics = std::mem::take(&mut self.statistics);
        let columns = statistics.into_iter().map(Statistics::finish);
        Ok((columns.collect(), digest))
    }
}

/// A value as a text: a string as it is, anything else as in JSON.
pub fn cell_text(values: &ArrayRef, row: usize) -> String {
    match cell_to_json(values, row) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn unwritable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("{} cannot be written", path.display());
    Error::caused(Kind::Unavailable, message, cause)
}
