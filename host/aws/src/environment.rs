//! The settings of AWS's tools, which are read here alone, and checked before anything uses them.
//!
//! What signs requests puts credentials, region and addresses into headers and URLs, and takes for
//! granted that they can be there.

use std::ffi::OsString;

use url::Url;
use wafer_store::{Error, Result};

/// Beginning of the variables that say where services are; by itself, where all of them are:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
const ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";

/// What a setting should look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A part of credentials.
    Credential,
    /// The name of a region.
    Region,
    /// The address of a service.
    Endpoint,
}

impl Form {
    /// Returns what an environment variable should look like, or `None` if nothing of it gets into
    /// headers and URLs.
    fn of_variable(name: &str) -> Option<Self> {
        match name {
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => {
                Some(Self::Credential)
            }
            "AWS_REGION" | "AWS_DEFAULT_REGION" => Some(Self::Region),
            _ => {
                let service = name.strip_prefix(ENDPOINT_URL)?;
                (service.is_empty() || service.starts_with('_')).then_some(Self::Endpoint)
            }
        }
    }

    fn fits(self, text: &str) -> bool {
        match self {
            Self::Credential => text.bytes().all(|byte| byte.is_ascii_graphic()),
            Self::Region => {
                let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                text.bytes().all(is_of_name)
            }
            Self::Endpoint => text.is_empty() || is_endpoint(text),
        }
    }

    /// Checks a value that `source` gives. Credentials are not repeated in the message.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with what the value should look like.
    pub(crate) fn check(self, source: &str, value: &str) -> Result<()> {
        match self.fits(value) {
            true => Ok(()),
            false => Err(Error::invalid(format!("{source}: {}", self.advice()))),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Credential => {
                "credentials have no spaces, line breaks or letters with accents; write the value \
                 exactly as AWS gives it"
            }
            Self::Region => "it is not the name of a region; write a name such as us-east-1",
            Self::Endpoint => {
                "it is not the address of a service; write https://HOST or http://HOST:PORT, or \
                 remove it"
            }
        }
    }
}

/// Returns whether a text is a scheme and a host, with a path or without.
fn is_endpoint(text: &str) -> bool {
    // A URL that is parsed has lost its line breaks, and has other characters encoded.
    let url = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let url = url.and_then(|text| Url::parse(text).ok());
    url.is_some_and(|url| {
        let is_http = ["http", "https"].contains(&url.scheme());
        is_http && url.has_host() && url.query().is_none() && url.fragment().is_none()
    })
}

/// Returns the value of `AWS_ENDPOINT_URL_{service}` unless it is empty.
#[allow(
    clippy::disallowed_methods,
    reason = "a variable of AWS's SDKs, which read others by themselves"
)]
pub(crate) fn endpoint_of(service: &str) -> Option<String> {
    let url = std::env::var(format!("{ENDPOINT_URL}_{service}")).ok();
    url.filter(|url| !url.is_empty())
}

/// Checks the environment variables of AWS's tools.
///
/// # Errors
/// Returns the errors of [`check`].
#[allow(
    clippy::disallowed_methods,
    reason = "the variables of AWS's SDKs, which read them by themselves"
)]
pub(crate) fn check_all() -> Result<()> {
    check(std::env::vars_os())
}

/// Checks variables of AWS's tools.
///
/// A variable that is empty counts as not set. So do AWS's SDKs take it, for credentials
/// (<https://github.com/smithy-lang/smithy-rs/issues/1271>) and for the address of all services;
/// the one for Rust alone would call a service at an empty `AWS_ENDPOINT_URL_SERVICE`.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the name of the first variable that
/// is wrong, and what it should look like.
fn check(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<()> {
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(form) = Form::of_variable(name) else {
            continue;
        };
        // No form has this character.
        form.check(name, value.to_str().unwrap_or("\u{fffd}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn checked(name: &str, value: &[u8]) -> Option<String> {
        let value = OsString::from_vec(value.to_vec());
        let error = check([(OsString::from(name), value)].into_iter()).err()?;
        Some(error.to_string())
    }

    #[test]
    fn variables_of_aws_that_are_right_or_empty_are_taken() {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCY="),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_REGION", "us-gov-east-1"),
            ("AWS_DEFAULT_REGION", ""),
            ("AWS_ENDPOINT_URL", ""),
            ("AWS_ENDPOINT_URL_S3", ""),
            ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_LAMBDA", "https://[::1]:1/path/"),
            // Not of a service.
            ("AWS_ENDPOINT_URLS", "none"),
            ("AWS_PROFILE", "my profile"),
        ] {
            assert_eq!(checked(name, value.as_bytes()), None, "{name}={value}");
        }
    }

    #[test]
    fn variables_of_aws_that_are_wrong_are_refused_by_name_without_secrets() {
        for (name, value, wanted) in [
            ("AWS_ACCESS_KEY_ID", &b"AKIA\nsecret"[..], "exactly as AWS"),
            ("AWS_SECRET_ACCESS_KEY", b"\x1bsecret", "exactly as AWS"),
            ("AWS_SECRET_ACCESS_KEY", b"secret\xff", "exactly as AWS"),
            ("AWS_SESSION_TOKEN", b"secret ", "exactly as AWS"),
            ("AWS_SESSION_TOKEN", "sécret".as_bytes(), "exactly as AWS"),
            ("AWS_REGION", b"us-east-1\r", "such as us-east-1"),
            ("AWS_DEFAULT_REGION", b"us east", "such as us-east-1"),
            ("AWS_REGION", b"x.example.org/", "such as us-east-1"),
            ("AWS_ENDPOINT_URL", b" ", "write https://HOST"),
            ("AWS_ENDPOINT_URL_S3", b"localhost", "write https://HOST"),
            ("AWS_ENDPOINT_URL_S3", b"localhost:1", "write https://HOST"),
            ("AWS_ENDPOINT_URL_SQS", b"http://", "write https://HOST"),
            ("AWS_ENDPOINT_URL_STS", b"file:///x", "write https://HOST"),
            ("AWS_ENDPOINT_URL_SFN", b"http://h?q", "write https://HOST"),
            (
                "AWS_ENDPOINT_URL_SFN",
                b"http://h:99999",
                "write https://HOST",
            ),
            (
                "AWS_ENDPOINT_URL_DYNAMODB",
                b"http://h\n",
                "write https://HOST",
            ),
        ] {
            let said = checked(name, value).unwrap();
            assert!(said.starts_with(&format!("{name}: ")), "{said}");
            assert!(said.contains(wanted) && !said.contains("secret"), "{said}");
        }
    }
}
