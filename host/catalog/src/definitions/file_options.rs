//! How files are written, where neither their names nor their content say it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// How the files of a source are written. The default is what most files are: UTF-8, compressed as
/// the name says, and CSV by RFC 4180 with a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileOptions {
    /// How text files are compressed. `None` means as their extension says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The most bytes that a compressed file may decompress to. `None` means
    /// [`DECOMPRESSED_RATIO`] times its size, and at least [`DECOMPRESSED_MIN`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_decompressed: Option<u64>,
    /// The encoding of text files.
    #[serde(skip_serializing_if = "Encoding::is_utf8")]
    pub encoding: Encoding,
    /// The characters that split CSV files.
    #[serde(skip_serializing_if = "Dialect::is_default")]
    pub dialect: Dialect,
    /// The names of the columns of CSV files that have no header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Vec<String>>,
    /// The texts of CSV files that stand for null, beside the empty one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nulls: Vec<String>,
    /// The most bytes that the values of a row of Parquet or Arrow may take. `None` means
    /// [`MAX_ROW_BYTES`]. It belongs to whoever reads a file, and is not recorded.
    #[serde(skip)]
    pub row_bytes: Option<u64>,
    /// Where chunks of rows end. It belongs to whoever reads a file, and is not recorded.
    #[serde(skip)]
    pub cuts: Cuts,
    /// How many rows of a text file the types of columns are guessed from. `None` means all of
    /// them. It belongs to whoever reads a file, and is not recorded.
    #[serde(skip)]
    pub guessed_from: Option<u64>,
}

/// Where the rows that are read or written together end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cuts {
    /// Where they are many, or take many bytes.
    #[default]
    ByBytes,
    /// Where they are many, however large they are. So did earlier versions, whose training sets
    /// are made again in this way. Only rows of Arrow and Parquet files are read in chunks of at
    /// most 64 MiB, as they were then.
    ByRows,
}

/// The default of how many bytes the values of a row of Parquet or Arrow may take.
pub const MAX_ROW_BYTES: u64 = 256 << 20;

/// The default of how many times its own size a compressed file may decompress to.
pub const DECOMPRESSED_RATIO: u64 = 256;

/// The size that a compressed file may decompress to, however small it is, unless it is set.
pub const DECOMPRESSED_MIN: u64 = 64 << 20;

impl FileOptions {
    /// Returns whether nothing is declared.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how a text file is compressed, if it is.
    pub fn compression_of(&self, path: &Path) -> Option<Compression> {
        let compression = self.compression.or_else(|| Compression::of_extension(path));
        compression.filter(|compression| *compression != Compression::None)
    }

    /// Returns the most bytes that the values of a row of Parquet or Arrow may take.
    pub fn most_row_bytes(&self) -> u64 {
        self.row_bytes.unwrap_or(MAX_ROW_BYTES)
    }

    /// Returns how many rows of a text file the types of columns are guessed from, at most.
    pub fn most_guessed_from(&self) -> u64 {
        self.guessed_from.unwrap_or(u64::MAX)
    }

    /// Returns the most bytes that a compressed file of a size may decompress to.
    pub fn most_decompressed(&self, compressed: u64) -> u64 {
        let usual = compressed.saturating_mul(DECOMPRESSED_RATIO);
        self.max_decompressed.unwrap_or(usual.max(DECOMPRESSED_MIN))
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// By gzip: `.gz`.
    Gzip,
    /// By Zstandard: `.zst`.
    Zstd,
    /// Not at all, whatever the name of the file says.
    None,
}

impl Compression {
    /// Returns the compression that the extension of a file stands for.
    pub fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        match extension.as_str() {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// How the characters of a text file are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16 with a byte-order mark.
    #[serde(rename = "utf-16")]
    Utf16,
    /// UTF-16, the low byte first.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// UTF-16, the high byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// The code page of Windows for western languages, which has other characters than Latin-1
    /// at 0x80 to 0x9f.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

impl Encoding {
    fn is_utf8(&self) -> bool {
        *self == Self::Utf8
    }
}

/// The characters that split CSV files into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// The byte between two fields.
    pub delimiter: u8,
    /// The byte around a field that has delimiters, line ends or quotes in it. `None` means that
    /// nothing is quoted.
    pub quote: Option<u8>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
        }
    }
}

impl Dialect {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_earlier_version_are_the_defaults_and_stored_as_nothing() {
        let options: FileOptions = serde_json::from_str("{}").unwrap();
        assert!(options.is_default());
        assert_eq!(serde_json::to_string(&options).unwrap(), "{}");
    }

    #[test]
    fn compression_is_that_of_the_name_unless_it_is_declared() {
        let declared = |compression| FileOptions {
            compression,
            ..FileOptions::default()
        };
        for (compression, name, wanted) in [
            (None, "a.csv.gz", Some(Compression::Gzip)),
            (None, "a.csv.ZST", Some(Compression::Zstd)),
            (None, "a.csv", None),
            (Some(Compression::Zstd), "a.csv", Some(Compression::Zstd)),
            (Some(Compression::None), "a.csv.gz", None),
        ] {
            let found = declared(compression).compression_of(Path::new(name));
            assert_eq!(found, wanted, "{name}");
        }
    }
}
