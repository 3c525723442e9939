//! Formats of files: of sources, labels, training sets and exports.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wafer_store::{Error, Result};

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet: `.parquet`.
    Parquet,
    /// Comma-separated values with a header: `.csv`.
    Csv,
    /// One JSON object in each line: `.ndjson`, `.jsonl`, `.json`.
    Ndjson,
    /// An Arrow IPC file: `.arrow`, `.feather`, `.ipc`.
    Arrow,
    /// An Arrow IPC stream: `.arrows`.
    ArrowStream,
}

impl Format {
    /// The format that the extension of a file says, if it says one.
    pub fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        match extension.as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "arrow" | "feather" | "ipc" => Some(Self::Arrow),
            "arrows" => Some(Self::ArrowStream),
            _ => None,
        }
    }

    /// The format of a file of a source.
    ///
    /// # Errors
    /// Returns an error when its extension says no format: the source has to.
    pub fn of_source(path: &Path) -> Result<Self> {
        Self::of_extension(path).ok_or_else(|| {
            Error::invalid(format!(
                "cannot tell the format of {}; set `format` of the source to parquet, csv, ndjson, \
                 arrow or arrow_stream",
                path.display()
            ))
        })
    }

    /// The format of a file of labels, a training set or an export.
    ///
    /// # Errors
    /// Returns an error when its extension says no format: it has to be named otherwise.
    pub fn of_output(path: &Path) -> Result<Self> {
        Self::of_extension(path).ok_or_else(|| {
            Error::invalid(format!(
                "cannot tell the format of {}; name it .parquet, .csv, .ndjson or .arrow",
                path.display()
            ))
        })
    }
}
