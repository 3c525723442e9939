//! Errors in a project file, with their place in it.

use std::path::{Path, PathBuf};

use wafer_catalog::nearest;

/// The error of a project file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The file cannot be read.
    #[error(
        "cannot read {path}: {source}; make a project with `wafer new NAME`, or name its folder with --project"
    )]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or an invalid value.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The path of the file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and what may have been meant.
        message: String,
    },
    /// Parts of the file do not fit each other.
    #[error("{path}: {key}: {message}")]
    Rule {
        /// The path of the file.
        path: PathBuf,
        /// The path of the key, such as `pipelines.delays.source`.
        key: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// An environment variable has a value that cannot be used.
    #[error("{name}: {message}")]
    Variable {
        /// The name of the variable.
        name: &'static str,
        /// What is wrong, and what it should look like.
        message: String,
    },
}

/// A key of a project file whose value does not fit, and why.
#[derive(Debug)]
pub(crate) struct BrokenRule {
    /// The path of the key, such as `pipelines.delays.source`.
    pub(crate) key: String,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl BrokenRule {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }

    /// Puts the path of the table that has the key before it.
    pub(crate) fn below(self, table: &str) -> Self {
        Self {
            key: format!("{table}.{}", self.key),
            ..self
        }
    }

    /// Returns the error of the file at `path`.
    pub(crate) fn of_file(self, path: &Path) -> ProjectError {
        let Self { key, message } = self;
        ProjectError::Rule {
            path: path.to_owned(),
            key,
            message,
        }
    }
}

/// Creates the error of a file that cannot be parsed, with the line and column of the mistake.
pub(crate) fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ProjectError {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    let message = with_suggestion(error.message());
    let message = match key_of(error) {
        // An unknown key is named by the message, and its table by the line.
        Some(key) if !error.message().starts_with("unknown field") => format!("{key}: {message}"),
        _ => message,
    };
    ProjectError::Parse {
        path: path.to_owned(),
        line,
        column,
        message,
    }
}

/// Returns the path of the key whose value is wrong. The parser tells it only below the message of
/// an error that is shown without the text of the file.
fn key_of(error: &toml::de::Error) -> Option<String> {
    let mut bare = error.clone();
    bare.set_input(None);
    let shown = bare.to_string();
    let (_, key) = shown.trim_end().strip_suffix('`')?.rsplit_once("\nin `")?;
    Some(key.to_owned())
}

/// Replaces serde's list of all known keys or values by the most similar one, if there is one.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_field = message.starts_with("unknown field");
    if !is_field && !message.starts_with("unknown variant") {
        return message.to_owned();
    }
    let what = if is_field { "key" } else { "value" };
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("unknown {what} `{unknown}`; did you mean `{nearest}`?"),
        None => format!(
            "unknown {what} `{unknown}`; the known ones are {}",
            known.join(", ")
        ),
    }
}
