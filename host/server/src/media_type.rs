//! The media types of bodies, and the file formats that they are.
//!
//! A page of any site can make a browser send a body to any server, but only as one of three media
//! types of forms, or without one. Whatever changes something therefore takes only other media
//! types.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use wafer_platform::Format;

use crate::error::Failure;

/// Returns the media type of a body in lower case and without its parameters, or `""` without one.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.unwrap_or_default().trim().to_ascii_lowercase()
}

/// Checks that a body is JSON by its media type: `application/json`, or one that ends in `+json`.
///
/// # Errors
/// Returns status 415 for any other media type, and without one.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Failure> {
    let media_type = media_type(headers);
    match is_json(&media_type) {
        true => Ok(()),
        false => Err(unsupported(&media_type, "application/json")),
    }
}

/// Returns whether a media type is one of JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Returns the error for a media type that is not taken.
pub(crate) fn unsupported(media_type: &str, wanted: &str) -> Failure {
    match media_type {
        "" => Failure::unsupported(format!("there is no content type; send {wanted}")),
        _ => Failure::unsupported(format!("content type `{media_type}`; send {wanted}")),
    }
}

/// Returns the format of labels in a body, which the request must name.
///
/// # Errors
/// Returns status 415 for a media type of no format, and without one.
pub(crate) fn labels_format(headers: &HeaderMap) -> Result<Format, Failure> {
    let media_type = media_type(headers);
    format(&media_type).ok_or_else(|| unsupported(&media_type, &known_formats()))
}

/// Returns the format in which rows are answered: the one that the request names, or else an Arrow
/// stream.
///
/// # Errors
/// Returns status 415 for a media type of no format.
pub(crate) fn answer_format(headers: &HeaderMap) -> Result<Format, Failure> {
    let Some(value) = headers.get(ACCEPT) else {
        return Ok(Format::ALL[0]);
    };
    let wanted = value.to_str().unwrap_or_default();
    let media_type = wanted.split([';', ',']).next().unwrap_or_default().trim();
    if media_type == "*/*" {
        return Ok(Format::ALL[0]);
    }
    format(media_type).ok_or_else(|| {
        let known = known_formats();
        let message = format!("accept `{wanted}`; rows are answered as {known}");
        Failure::unsupported(message)
    })
}

fn format(media_type: &str) -> Option<Format> {
    let mut formats = Format::ALL.into_iter();
    formats.find(|format| format.media_type() == media_type)
}

fn known_formats() -> String {
    Format::ALL.map(Format::media_type).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_json_are_told_from_others() {
        for (value, wanted) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("", false),
            ("text/plain", false),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=json", false),
            ("application/jsonp", false),
            ("text/plain; +json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(check_json(&headers).is_ok(), wanted, "{value}");
        }
        assert!(check_json(&HeaderMap::new()).is_err());
    }

    #[test]
    fn rows_are_answered_in_the_format_that_the_request_names() {
        let first = Format::ALL[0];
        for (value, wanted) in [
            (None, Some(first)),
            (Some("*/*"), Some(first)),
            (Some("text/csv"), Some(Format::Csv)),
            (Some("text/csv; q=0.9, application/json"), Some(Format::Csv)),
            (Some("application/pdf"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(answer_format(&headers).ok(), wanted, "{value:?}");
        }
    }
}
