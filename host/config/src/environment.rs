//! Settings from environment variables. They are read and checked here, so that a wrong one is
//! refused by the name of its variable.

use std::ffi::OsStr;
use std::path::PathBuf;

use url::Url;

use crate::error::ProjectError;

/// Reads a setting from an environment variable. An empty one counts as not set.
///
/// # Errors
/// Returns a [`ProjectError`] with the name of the variable when its value is not one line of text.
pub fn variable(name: &'static str) -> Result<Option<String>, ProjectError> {
    let text = variable_or_empty(name)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Reads a setting of which an empty value means something else than none.
///
/// # Errors
/// Returns the errors of [`variable`].
pub fn variable_or_empty(name: &'static str) -> Result<Option<String>, ProjectError> {
    let value = path_variable(name);
    let text = value.map(|value| text_of(value.as_os_str()));
    let text = text.transpose();
    text.map_err(|message| ProjectError::Variable { name, message })
}

/// Reads a setting that is a URL such as `form`.
pub(crate) fn url_variable(name: &'static str, form: &str) -> Result<Option<String>, ProjectError> {
    let text = variable(name)?;
    if let Some(text) = &text {
        check_url(text, form).map_err(|message| ProjectError::Variable { name, message })?;
    }
    Ok(text)
}

/// Reads a setting that is a path, and may be empty.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads settings from the environment"
)]
pub fn path_variable(name: &'static str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn text_of(value: &OsStr) -> Result<String, String> {
    let text = value
        .to_str()
        .ok_or("its value is not text in UTF-8; write it anew")?;
    match text.chars().find(|character| character.is_control()) {
        Some(found) => Err(format!(
            "its value has the control character U+{:04X}; write it in one line, without this character",
            u32::from(found)
        )),
        None => Ok(text.to_owned()),
    }
}

/// Checks that a text is a URL such as `form`.
pub(crate) fn check_url(text: &str, form: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("`{text}` is not a URL such as {form}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn variables_are_one_line_of_text() {
        for (value, wanted) in [
            (&b"s3://b/f"[..], Ok("s3://b/f")),
            (b"", Ok("")),
            (b"s3://b\n", Err("has the control character U+000A")),
            (b"\x1b[2J", Err("has the control character U+001B")),
            (b"s3://\xff", Err("is not text in UTF-8")),
        ] {
            match (text_of(OsStr::from_bytes(value)), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, wanted) => panic!("{found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn urls_are_refused_with_what_they_should_look_like() {
        assert!(check_url("dynamodb://t", "dynamodb://TABLE").is_ok());
        let refused = check_url("/tmp", "s3://BUCKET/FOLDER").unwrap_err();
        let wanted = "`/tmp` is not a URL such as s3://BUCKET/FOLDER: relative URL";
        assert!(refused.starts_with(wanted), "{refused}");
    }
}
