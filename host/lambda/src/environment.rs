//! Settings from environment variables, which are read here alone. One that is empty counts as not
//! set.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use url::Url;

/// Reads a variable.
///
/// # Errors
/// Returns an error with the name of the variable when its value is not text.
pub(crate) fn variable(name: &str) -> Result<Option<String>> {
    let text = value(name).map(OsString::into_string).transpose();
    text.map_err(|_| anyhow!("{name} is not text in UTF-8"))
}

/// Reads a variable that has to be set.
///
/// # Errors
/// Returns an error with the name of the variable when it is not set, or is not text.
pub(crate) fn required(name: &str) -> Result<String> {
    let text = variable(name)?;
    text.with_context(|| format!("{name} is not set; `terraform apply` in infra/ sets it"))
}

/// Reads a variable that has to be set, to a URL.
///
/// # Errors
/// Returns an error with the name of the variable when it is not set, or is not a URL.
pub(crate) fn required_url(name: &str) -> Result<Url> {
    let text = required(name)?;
    Url::parse(&text).with_context(|| format!("{name} is `{text}`, which is not a URL"))
}

/// Reads a variable that is a path.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads settings from the environment"
)]
fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
