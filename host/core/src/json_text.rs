//! Finds what a parser would lose of a JSON text without a word.

use crate::cut_to;
use crate::decimal::lost_number;
use crate::repeated::repeated_name;

/// The greatest size of a number or a name in a message, in bytes.
const SHOWN: usize = 60;

/// Checks that a parser keeps all of a JSON text: each number exactly, and each value of an object.
/// After parsing, nobody could tell what the text had, so it has to be refused before. A text that
/// is not JSON may pass; the parser refuses it.
///
/// # Errors
/// Returns what is wrong, as the rest of a sentence about the text: that it has a number that would
/// become another one, or a name twice in one object.
pub fn check_json_text(json: &[u8]) -> Result<(), String> {
    if let Some(number) = lost_number(json) {
        return Err(format!(
            "has the number {}, which is not kept exactly: write an integer of at most 64 bits \
             without a decimal point and without an exponent, another number with no more digits \
             than a float64 keeps, or a text",
            cut_to(number, SHOWN)
        ));
    }
    match repeated_name(json) {
        None => Ok(()),
        Some(name) => Err(format!(
            "has the name `{}` twice in one object, and only one value could be kept",
            cut_to(name, SHOWN)
        )),
    }
}

/// Returns a JSON text without the byte-order mark that some programs write before it.
pub fn without_mark(json: &[u8]) -> &[u8] {
    let mark = "\u{feff}".as_bytes();
    json.strip_prefix(mark).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_which_a_parser_loses_something_say_what() {
        let digits = "1".repeat(100);
        let long_number = format!("{{\"n\": {digits}}}");
        let long_name = format!("{{\"{digits}\": 1, \"{digits}\": 2}}");
        for (json, wanted) in [
            (r#"{"k": 1, "o": {"k": 1.5}, "l": [1, 1]}"#, None),
            ("12345678901234567890", None),
            ("not JSON", None),
            ("", None),
            (
                "12345678901234567890123456789012345678",
                Some("has the number 12345678901234567890123456789012345678, which is not kept"),
            ),
            (
                r#"{"k": 9007199254740993.0}"#,
                Some("has the number 9007199254740993.0, which is not kept exactly: write"),
            ),
            (
                r#"{"k": 1, "o": {"c": 1, "c": 2}}"#,
                Some("has the name `c` twice in one object"),
            ),
            // The number is told first.
            (r#"{"k": 1, "k": 1e400}"#, Some("has the number 1e400, ")),
            (long_number.as_str(), Some("has the number 1111")),
            (long_name.as_str(), Some("has the name `1111")),
        ] {
            match (check_json_text(json.as_bytes()), wanted) {
                (Ok(()), None) => {}
                (Err(reason), Some(wanted)) => {
                    assert!(reason.starts_with(wanted), "{json}: {reason}");
                    assert!(reason.len() < 400 && !reason.contains(&digits), "{reason}");
                }
                (found, wanted) => panic!("{json}: {found:?}, wanted {wanted:?}"),
            }
        }
    }
}
