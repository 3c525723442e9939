//! The media types of bodies.
//!
//! A page of any site can make a browser send a body to any server, but only as one of three media
//! types of forms, or without one. Whatever changes something therefore takes only other media
//! types.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
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
}
