//! Pages for people where a program was to answer: proxies, and networks that ask for a login,
//! answer by them in the place of a service.

use crate::{cut_to, escaped};

/// How much of an answer is looked at, in bytes.
const LOOKED_AT: usize = 4 << 10;
/// The greatest size of the first line in a message, in bytes.
const SHOWN: usize = 120;
/// The types of pages of HTML.
const PAGE_TYPES: [&str; 2] = ["text/html", "application/xhtml"];
/// How pages of HTML begin.
const PAGE_BEGINNINGS: [&str; 2] = ["<!doctype html", "<html"];

/// Says of an answer that it is a page of HTML, by its content type or by how it begins, and what
/// to look at. `setting` is where the address of the service is set. Returns `None` for other
/// answers.
///
/// The text has no more of the page than its first line, escaped and cut.
pub fn page_text(
    status: u16,
    content_type: Option<&str>,
    body: &[u8],
    setting: &str,
) -> Option<String> {
    let content_type = content_type.unwrap_or_default().trim();
    let body = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]);
    let body = body.trim_start_matches('\u{feff}').trim_start();
    let is_page = PAGE_TYPES.iter().any(|kind| begins(content_type, kind))
        || PAGE_BEGINNINGS.iter().any(|tag| begins(body, tag));
    if !is_page {
        return None;
    }
    let shown = |text: &str| cut_to(escaped(text.trim_end()), SHOWN);
    let content_type = match content_type {
        "" => String::new(),
        kind => format!(", content type `{}`", shown(kind)),
    };
    let first = match body.lines().next() {
        None => String::new(),
        Some(line) => format!(", which begins with `{}`", shown(line)),
    };
    Some(format!(
        "the answer is a page of HTML and not one of the service (status {status}{content_type}{first}): \
         a proxy or a login page may have answered in its place. Look at {setting}, at HTTP_PROXY, \
         HTTPS_PROXY and NO_PROXY, and at whether this network asks for a login"
    ))
}

/// Returns whether a text begins with another one, in upper or lower case.
fn begins(text: &str, with: &str) -> bool {
    let beginning = text.as_bytes().get(..with.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(with.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_with_their_status_type_and_first_line() {
        for (content_type, body, wanted) in [
            (
                Some("Text/HTML; charset=utf-8"),
                "Sign in\nSECRET",
                "(status 302, content type `Text/HTML; charset=utf-8`, which begins with `Sign in`)",
            ),
            (
                None,
                "\u{feff}\r\n <!DOCTYPE HTML>\r\n<title>SECRET",
                "(status 302, which begins with `<!DOCTYPE HTML>`)",
            ),
            (
                Some("text/html"),
                "",
                "(status 302, content type `text/html`)",
            ),
            (
                Some("application/json"),
                "<HTML>\u{1b}[2J",
                r"content type `application/json`, which begins with `<HTML>\u{1b}[2J`)",
            ),
        ] {
            let said = page_text(302, content_type, body.as_bytes(), "THE_SETTING").unwrap();
            assert!(said.contains(wanted), "{said}");
            assert!(said.contains("Look at THE_SETTING, "), "{said}");
            assert!(!said.contains("SECRET"), "{said}");
        }
        let long = format!("<html>{}", "x".repeat(1 << 20));
        let said = page_text(200, None, long.as_bytes(), "S").unwrap();
        assert!(said.len() < 600, "{}", said.len());
    }

    #[test]
    fn other_answers_are_no_pages() {
        for (content_type, body) in [
            (None, ""),
            (Some("application/xml"), "<?xml version=\"1.0\"?><Error/>"),
            (Some("application/json"), "{\"a\": \"<html>\"}"),
            (None, "<ht"),
            (Some("text/plain"), "é"),
        ] {
            assert_eq!(page_text(403, content_type, body.as_bytes(), "S"), None);
        }
    }
}
