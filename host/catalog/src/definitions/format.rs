//! The formats of files: of sources, labels, training sets and exports.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wafer_store::{Error, Result};

use crate::definitions::Compression;

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
    /// All formats; the first one is what clients get that name none.
    pub const ALL: [Self; 5] = [
        Self::ArrowStream,
        Self::Arrow,
        Self::Parquet,
        Self::Csv,
        Self::Ndjson,
    ];

    /// Returns the media type of the format, as HTTP names it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.file",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
        }
    }

    /// Returns the usual extension of files of the format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
            Self::ArrowStream => "arrows",
        }
    }

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

    /// Returns the format of a file that is read, by its extension. That of a text file may be
    /// followed by that of its compression, as in `a.csv.gz`.
    fn of_input(path: &Path) -> Option<Self> {
        if Compression::of_extension(path).is_none() {
            return Self::of_extension(path);
        }
        let format = Self::of_extension(Path::new(path.file_stem()?));
        format.filter(|format| format.is_text())
    }

    /// Returns whether files of the format are text, which may be compressed and have an encoding.
    pub fn is_text(self) -> bool {
        match self {
            Self::Csv | Self::Ndjson => true,
            Self::Parquet | Self::Arrow | Self::ArrowStream => false,
        }
    }

    /// Returns whether the columns of a file have types. Those of other files are declared, or
    /// guessed by their values.
    pub fn has_types(self) -> bool {
        match self {
            Self::Parquet | Self::Arrow | Self::ArrowStream => true,
            Self::Csv | Self::Ndjson => false,
        }
    }

    /// Returns whether values are bare texts, which do not say what they are: a number and a text
    /// of digits are written alike, and so are a null and an empty text. Values of JSON say it.
    pub fn has_bare_values(self) -> bool {
        match self {
            Self::Csv => true,
            Self::Ndjson | Self::Parquet | Self::Arrow | Self::ArrowStream => false,
        }
    }

    /// Returns the format of a file of a source, by its extension.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the extension stands for no
    /// format. The source must then set its `format`.
    pub fn of_source(path: &Path) -> Result<Self> {
        Self::of_input(path).ok_or_else(|| {
            Error::invalid(format!(
                "cannot tell the format of {}; set `format` of the source to parquet, csv, ndjson, \
                 arrow or arrow_stream",
                path.display()
            ))
        })
    }

    /// Returns the format of a file of labels, by its extension.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the extension stands for no
    /// format. The file then needs another name.
    pub fn of_labels(path: &Path) -> Result<Self> {
        Self::of_input(path).map_or_else(|| Self::of_output(path), Ok)
    }

    /// Returns the format of a training set or an export, by its extension.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_name_their_formats() {
        for format in Format::ALL {
            let path = format!("a/b.{}", format.extension().to_uppercase());
            assert_eq!(Format::of_extension(Path::new(&path)), Some(format));
        }
        for path in ["a", "a.parquet.gz", "csv"] {
            assert_eq!(Format::of_extension(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn compressed_files_are_text() {
        for (path, wanted) in [
            ("a.csv.gz", Some(Format::Csv)),
            ("a.b.JSON.zst", Some(Format::Ndjson)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.parquet.gz", None),
            ("csv.gz", None),
            ("a.gz", None),
        ] {
            assert_eq!(Format::of_source(Path::new(path)).ok(), wanted, "{path}");
            assert_eq!(Format::of_labels(Path::new(path)).ok(), wanted, "{path}");
            if wanted != Some(Format::Parquet) {
                assert!(Format::of_output(Path::new(path)).is_err(), "{path}");
            }
        }
    }
}
