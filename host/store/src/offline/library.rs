//! Errors of the libraries that read and write tables: `deltalake`, `object_store`, `parquet`.
//!
//! Their texts are for those who work on these libraries: backtraces over many lines, values as
//! Rust's `Debug` formats them, lines of a log. What users see is this crate's own message,
//! followed by the first sentence of each error. All errors of these libraries are converted here.

use std::error::Error as StdError;
use std::fmt;

use wafer_core::cut;

/// What a library says about its failure, in one line.
#[derive(Debug)]
pub(super) struct LibraryError(String);

impl LibraryError {
    /// Takes the first sentence of an error and of each of its causes. One that is in another
    /// already is left out.
    pub(super) fn new(error: &(dyn StdError + 'static)) -> Self {
        let mut text = String::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let message = cut(error);
            let sentence = first_sentence(&message);
            if !text.contains(sentence) {
                let colon = if text.is_empty() { "" } else { ": " };
                text = format!("{text}{colon}{sentence}");
            }
            next = error.source();
        }
        if text.is_empty() {
            text.push_str("the library that does it gives no reason");
        }
        Self(cut(text))
    }
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The causes are in the text.
impl StdError for LibraryError {}

/// Returns a text up to the end of its first sentence, which a line break ends as well, without
/// values that are formatted for debugging.
fn first_sentence(text: &str) -> &str {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let ends = [next_sentence(line), debugged_value(line)];
    let end = ends.into_iter().flatten().min().unwrap_or(line.len());
    line[..end].trim_end_matches([' ', '.', ',', ':'])
}

/// Returns where the first sentence of a line ends, if another one follows.
fn next_sentence(line: &str) -> Option<usize> {
    let mut ends = line.match_indices(". ");
    let found = ends.find(|(place, end)| {
        let rest = &line[place + end.len()..];
        rest.starts_with(|first: char| first.is_ascii_uppercase())
    });
    found.map(|(place, _)| place)
}

/// Returns where a value begins that is formatted for debugging: `Name { field: …`.
fn debugged_value(line: &str) -> Option<usize> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(" { ").find_map(|(place, brace)| {
        let start = line[..place].trim_end_matches(is_of_name).len();
        let (field, _) = line[place + brace.len()..].split_once(": ")?;
        let is_value = start < place && !field.is_empty() && field.chars().all(is_of_name);
        is_value.then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sentences_have_neither_backtraces_nor_debugged_values() {
        for (text, wanted) in [
            ("Not a Delta table: /data/t", "Not a Delta table: /data/t"),
            (
                "Kernel error: it is no number\n   0: std::backtrace::Backtrace::capture\n   1: main",
                "Kernel error: it is no number",
            ),
            (
                "Missing column: a.b in v1.parquet",
                "Missing column: a.b in v1.parquet",
            ),
            (
                "No schema found, please make sure table is loaded.",
                "No schema found, please make sure table is loaded",
            ),
            ("It is damaged. Please report it.", "It is damaged"),
            (
                "cannot convert: StructType { type_name: \"struct\", fields: {} }",
                "cannot convert",
            ),
            ("Add { path: \"a\" }", ""),
            (
                "err=`{\"add\": {}}` in { braces }",
                "err=`{\"add\": {}}` in { braces }",
            ),
            ("\n  stack", "stack"),
            ("é { ü: 1 }", "é { ü: 1 }"),
            ("", ""),
        ] {
            assert_eq!(first_sentence(text), wanted, "{text}");
        }
    }

    /// An error with a cause, as libraries have them.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_are_in_the_text_unless_they_are_there_already() {
        let error = |texts: &[&'static str]| {
            let causes = texts.iter().rev().copied();
            let error = causes.fold(None, |source, text| Some(Box::new(Caused { text, source })));
            LibraryError::new(&*error.unwrap())
        };
        for (texts, wanted) in [
            (
                &["it failed", "disk full\n  0: main"][..],
                "it failed: disk full",
            ),
            (
                &["it failed: disk full\n  0: main", "disk full"],
                "it failed: disk full",
            ),
            (&["Add { path: 1 }", "no room"], "no room"),
            (
                &["Add { path: 1 }"],
                "the library that does it gives no reason",
            ),
        ] {
            let error = error(texts);
            assert_eq!(error.to_string(), wanted);
            assert!(error.source().is_none());
        }
    }
}
