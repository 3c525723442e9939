//! Settings of a source that say how its files and their columns are written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wafer_catalog::{Cuts, Dialect, FileOptions, Format, TimeDef};
use wafer_core::{EpochUnit, TimeFormat, Zone};

use crate::error::BrokenRule;
use crate::sources::{SourceConfig, SourceType};

/// The table of a column in `times` of a source.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeConfig {
    /// The unit in which integers count from 1970: `d`, `s`, `ms`, `us` or `ns`.
    pub unit: Option<EpochUnit>,
    /// How times are written in texts and integers, such as `%d/%m/%Y %H:%M`. The default is RFC
    /// 3339.
    pub format: Option<TimeFormat>,
    /// The time zone of times that name none. The default is that of the source.
    pub zone: Option<Zone>,
    /// Whether digits beyond microseconds are cut off. The default is that such times are refused.
    #[serde(default)]
    pub truncate: bool,
}

impl TimeConfig {
    fn check(&self) -> Result<(), &'static str> {
        let is_empty = self.unit.is_none() && self.format.is_none() && self.zone.is_none();
        match (self.unit, &self.format) {
            (Some(_), Some(_)) => Err("has both `unit` and `format`; keep one"),
            _ if is_empty && !self.truncate => {
                Err("says nothing; set `unit`, `format`, `zone` or `truncate`")
            }
            _ => Ok(()),
        }
    }
}

/// Returns what is declared of columns of times.
pub(crate) fn times(source: &SourceConfig) -> BTreeMap<String, TimeDef> {
    let time = |(column, config): (&String, &TimeConfig)| {
        let time = TimeDef {
            unit: config.unit,
            format: config.format.clone(),
            zone: config.zone,
            truncate: config.truncate,
        };
        (column.clone(), time)
    };
    source.times.iter().map(time).collect()
}

/// Returns what is declared of the files. The key of a returned error is relative to the source.
pub(crate) fn file_options(source: &SourceConfig) -> Result<FileOptions, BrokenRule> {
    for (column, time) in &source.times {
        let key = format!("times.{column}");
        time.check()
            .map_err(|message| BrokenRule::new(key, message))?;
    }
    check_keys(source)?;
    Ok(FileOptions {
        compression: source.compression,
        max_decompressed: source.max_decompressed,
        encoding: source.encoding.unwrap_or_default(),
        dialect: dialect(source)?,
        header: header(source)?,
        nulls: source.nulls.clone().unwrap_or_default(),
        row_bytes: None,
        cuts: Cuts::default(),
        guessed_from: None,
    })
}

/// Checks that what is declared of the files belongs to the type of the source and to the format.
fn check_keys(source: &SourceConfig) -> Result<(), BrokenRule> {
    let about_text = [
        ("compression", source.compression.is_some()),
        ("max_decompressed", source.max_decompressed.is_some()),
        ("encoding", source.encoding.is_some()),
    ];
    let about_csv = [
        ("delimiter", source.delimiter.is_some()),
        ("quote", source.quote.is_some()),
        ("header", source.header.is_some()),
        ("nulls", source.nulls.is_some()),
    ];
    let about_columns = [
        ("times", !source.times.is_empty()),
        ("zone", source.zone.is_some()),
        ("decimals", !source.decimals.is_empty()),
    ];
    let given = |keys: &[(&'static str, bool)]| {
        let mut keys = keys.iter();
        keys.find(|(_, is_given)| *is_given).map(|(key, _)| *key)
    };
    let (text, csv) = (given(&about_text), given(&about_csv));
    let refused = match source.kind {
        SourceType::Files | SourceType::Stream => None,
        SourceType::Table => {
            let key = text.or(csv).or_else(|| given(&about_columns));
            key.map(|key| (key, "is for sources of type `files` or `stream`"))
        }
        SourceType::Delta => text.or(csv).map(|key| {
            let message = "says how files are written, and a Delta table says it itself";
            (key, message)
        }),
    };
    if let Some((key, message)) = refused {
        return Err(BrokenRule::new(key, message));
    }
    if let (Some(key), None) = (text.or(csv), &source.path) {
        let message = "says how files are written, and the source has no `path` to files";
        return Err(BrokenRule::new(key, message));
    }
    let format = source
        .path
        .as_deref()
        .and_then(|path| format_of(source, path));
    match (format, text, csv) {
        (Some(format), Some(key), _) if !format.is_text() => {
            Err(not_for(key, "text files", format))
        }
        (Some(format), _, Some(key)) if format != Format::Csv => {
            Err(not_for(key, "CSV files", format))
        }
        _ => Ok(()),
    }
}

/// Returns the format of the files, as far as the setting tells it.
fn format_of(source: &SourceConfig, path: &Path) -> Option<Format> {
    source.format.or_else(|| Format::of_source(path).ok())
}

fn not_for(key: &str, files: &str, format: Format) -> BrokenRule {
    let message = format!("is for {files}, and those of the source are {format:?}");
    BrokenRule::new(key, message.to_lowercase().replace("csv", "CSV"))
}

/// Returns the characters that split CSV files.
fn dialect(source: &SourceConfig) -> Result<Dialect, BrokenRule> {
    let usual = Dialect::default();
    let delimiter = match source.delimiter.as_deref() {
        None => usual.delimiter,
        Some(text) => special(text).ok_or_else(|| {
            let message = "is one ASCII character, such as \";\", \"|\" or \"\\t\"";
            BrokenRule::new("delimiter", message)
        })?,
    };
    let quote = match source.quote.as_deref() {
        None => usual.quote,
        Some("") => None,
        Some(text) => Some(special(text).ok_or_else(|| {
            let message = "is one ASCII character, or empty if nothing is quoted";
            BrokenRule::new("quote", message)
        })?),
    };
    if quote == Some(delimiter) {
        return Err(BrokenRule::new("delimiter", "is also the `quote`"));
    }
    Ok(Dialect { delimiter, quote })
}

/// Returns the byte of a text that is one character which can split a file.
fn special(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Some(*byte),
        _ => None,
    }
}

/// Returns the names of the columns of files without a header.
fn header(source: &SourceConfig) -> Result<Option<Vec<String>>, BrokenRule> {
    let Some(names) = &source.header else {
        return Ok(None);
    };
    let wrong = |message: String| Err(BrokenRule::new("header", message));
    if names.is_empty() {
        return wrong("names no column; leave it out if the files have a header".to_owned());
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return wrong(format!("has `{name}` twice"));
        }
    }
    Ok(Some(names.clone()))
}
