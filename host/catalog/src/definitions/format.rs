//! The formats of files: of sources, labels, training sets and exports.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wafer_store::{Error, Result};

/// The format of a file. The crate `wafer-files` implements each one.
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
    /// Returns the format that the extension of a file stands for, or `None` if it stands for
    /// none.
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

    /// Returns the format of a file of a source, by its extension.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the extension stands for no
    /// format. The source must then set its `format`.
    pub fn of_source(path: &Path) -> Result<Self> {
        Self::of_extension(path).ok_or_else(|| {
            Error::invalid(format!(
                "cannot tell the format of {}; set `format` of the source to parquet, csv, ndjson, \
                 arrow or arrow_stream",
                path.display()
            ))
        })
    }

    /// Returns the format of a file of labels, a training set or an export, by its extension.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the extension stands for no
    /// format. The file then needs another name.
    pub fn of_output(path: &Path) -> Result<Self> {
        Self::of_extension(path).ok_or_else(|| {
            Error::invalid(format!(
                "cannot tell the format of {}; name it .parquet, .csv, .ndjson or .arrow",
                path.display()
            ))
        })
    }
}
