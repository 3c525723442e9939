//! Errors of a project file, with their place in it.

use std::path::{Path, PathBuf};

use wafer_catalog::nearest;

/// A file that is not a project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// It cannot be read.
    #[error(
        "cannot read {path}: {source}; make a project with `wafer new NAME`, or name its folder with --project"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or value that it cannot have.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what could be meant.
        message: String,
    },
    /// Its parts do not fit each other.
    #[error("{path}: {key}: {message}")]
    Rule {
        /// The file.
        path: PathBuf,
        /// Path of the key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
}

pub(crate) fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ProjectError {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    let message = with_suggestion(error.message());
    ProjectError::Parse {
        path: path.to_owned(),
        line,
        column,
        message,
    }
}

/// Turns serde's list of all known keys into the nearest one.
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
        None => format!("unknown {what} `{unknown}`; known are {}", known.join(", ")),
    }
}
