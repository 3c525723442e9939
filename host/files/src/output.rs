//! Output files: written under a temporary name, and renamed when they are complete.
//!
//! A reader never sees half a file. [`Output::create`] chooses the format by the file's name; the
//! bytes go through a [`Sink`], which writes and digests them on threads of its own.
//! [`Output::opened`] writes to a file that is open already, such as the standard output, whose reader
//! takes the rows as they come.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use serde_json::Value as Json;
use wafer_catalog::{ColumnStatistics, Format};
use wafer_core::{Digest, cell_to_json};
use wafer_store::{Error, Kind, Result};

use crate::{RowWriter, Sink, Statistics, file_format};

/// A file of rows that is being written. If it is dropped before it is closed, the temporary file
/// is removed.
pub struct Output {
    path: PathBuf,
    /// The temporary file `NAME.part`, which is written; `None` if the rows go to an open file.
    temporary: Option<PathBuf>,
    /// `None` once the file is closed.
    writer: Option<Box<dyn RowWriter>>,
    statistics: Vec<Statistics>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Output");
        debug.field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.remove_temporary();
        }
    }
}

impl Output {
    /// Starts a file of rows with these columns. Its format follows from its name.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the extension stands for no format, and
    /// [`Kind::Unavailable`] when the file cannot be written.
    pub fn create(path: &Path, schema: &SchemaRef) -> Result<Self> {
        let format = Format::of_output(path)?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|e| unwritable(path, e))?;
        match Self::opened(file, path, format, schema) {
            Ok(mut output) => {
                output.temporary = Some(temporary);
                Ok(output)
            }
            Err(e) => {
                let _ = std::fs::remove_file(temporary);
                Err(e)
            }
        }
    }

    /// Starts to write rows with these columns to an open file. Errors name it `path`.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the format does not support a column, or the file cannot be
    /// written.
    pub fn opened(file: File, path: &Path, format: Format, schema: &SchemaRef) -> Result<Self> {
        let writer = file_format(format).write(Sink::new(file), schema);
        let fields = schema.fields().iter();
        Ok(Self {
            path: path.to_owned(),
            writer: Some(writer.map_err(|e| unwritable(path, e))?),
            temporary: None,
            statistics: fields
                .map(|field| Statistics::new(field.name(), field.data_type()))
                .collect(),
        })
    }

    /// Removes the temporary file. A partial file is of no use; if it cannot be removed, it is left
    /// behind.
    fn remove_temporary(&self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }

    /// Writes rows. This blocks.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = self.writer.as_mut().expect("it is open until it is closed");
        let written = writer.write(batch, &mut self.statistics);
        written.map_err(|e| unwritable(&self.path, e))
    }

    /// Completes the file and renames it to its final name. Returns the statistics of its columns
    /// and the digest of its bytes.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the file cannot be written.
    pub fn close(mut self) -> Result<(Vec<ColumnStatistics>, Digest)> {
        let writer = self.writer.take().expect("it is closed once");
        let digest = writer.finish(&mut self.statistics).map_err(|e| {
            self.remove_temporary();
            unwritable(&self.path, e)
        })?;
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.path).map_err(|e| unwritable(&self.path, e))?;
        }
        let statistics = std::mem::take(&mut self.statistics);
        let columns = statistics.into_iter().map(Statistics::finish);
        Ok((columns.collect(), digest))
    }
}

/// Formats a value as text: a string as it is, any other value as JSON.
pub fn cell_text(values: &ArrayRef, row: usize) -> String {
    match cell_to_json(values, row) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// Creates the error of a file that cannot be written.
fn unwritable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("{} cannot be written", path.display());
    Error::caused(Kind::Unavailable, message, cause)
}
