//! Names that occur twice in an object of a JSON text.

use std::borrow::Cow;
use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::decimal::after_string;

/// How deep the parser follows objects; it refuses deeper ones.
const MAX_DEPTH: usize = 128;

/// Returns the first name of a JSON text that occurs a second time in the same object, at any
/// depth. A parser keeps only the last of the values, and the parsed object does not tell that
/// there were others, so that the text is to be refused. Names are the same if they are so without
/// their escapes. A text that is not JSON, which the parser refuses, may have none.
pub(crate) fn repeated_name(json: &[u8]) -> Option<String> {
    // The names of each object that is open, from the outermost one on.
    let mut open: Vec<HashSet<Cow<'_, [u8]>, RandomState>> = Vec::new();
    let mut rest = json;
    loop {
        match rest.first()? {
            b'"' => {
                let after = after_string(&rest[1..]);
                let text = &rest[..rest.len() - after.len()];
                rest = after;
                // Only the strings before a colon are names.
                let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
                if next != Some(&b':') {
                    continue;
                }
                let name = unescaped(text)?;
                let Some(names) = open.last_mut() else {
                    continue;
                };
                if names.contains(&name) {
                    return Some(String::from_utf8_lossy(&name).into_owned());
                }
                names.insert(name);
                continue;
            }
            b'{' if open.len() == MAX_DEPTH => return None,
            b'{' => open.push(HashSet::default()),
            b'}' => {
                open.pop();
            }
            _ => {}
        }
        rest = &rest[1..];
    }
}

/// Returns the content of a JSON string in its quotes. `None` if an escape is not valid.
fn unescaped(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.contains(&b'\\') {
        let name: String = serde_json::from_slice(text).ok()?;
        return Some(Cow::Owned(name.into_bytes()));
    }
    text.get(1..text.len() - 1).map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_occur_twice_in_an_object_are_found() {
        let deep = |depth: usize| {
            let (start, end) = (r#"{"n":"#.repeat(depth), "}".repeat(depth));
            format!(r#"{start}{{"k": 1, "k": 2}}{end}"#)
        };
        let (deepest, too_deep) = (deep(127), deep(128));
        for (json, wanted) in [
            (r#"{"k": 1, "c": 1, "c": 2}"#, Some("c")),
            ("{\"c\" : 1, \"c\"\t: 1}", Some("c")),
            (
                r#"{"a": {"x": 1}, "b": [{"y": 1}, {"y": 1, "y": 2}]}"#,
                Some("y"),
            ),
            (r#"{"a": {"x": 1}, "a": 2}"#, Some("a")),
            // Escapes are other spellings of the same name.
            (r#"{"a": 1, "\u0061": 2}"#, Some("a")),
            (r#"{"\"": 1, "\u0022": 2}"#, Some("\"")),
            (r#"{"": 1, "": 2}"#, Some("")),
            ("{\"é\": 1}\n{\"é\": 1, \"é\": 2}", Some("é")),
            // The same name in another object, or as a value.
            (r#"{"a": {"a": 1}, "b": {"a": 1}}"#, None),
            (r#"[{"a": 1}, {"a": 1}]"#, None),
            ("{\"a\": 1}\n{\"a\": 1}", None),
            (
                r#"{"a": "a", "b": ["a", "a"], "c": "\"a\": 1, \"a\": 2"}"#,
                None,
            ),
            (r#"{"a": 1, "A": 2, "a ": 3}"#, None),
            // What is not JSON is refused by the parser.
            (r#""a": 1, "a": 2"#, None),
            (r#"}{"a": 1"#, None),
            (r#"{"a": 1, "\x": 2, "a": 3}"#, None),
            (r#"{"a": 1, "a"#, None),
            (r#"{"a\"#, None),
            ("\"", None),
            ("", None),
            (deepest.as_str(), Some("k")),
            (too_deep.as_str(), None),
        ] {
            assert_eq!(repeated_name(json.as_bytes()).as_deref(), wanted, "{json}");
        }
        let parsed = serde_json::from_str::<serde_json::Value>(&too_deep);
        assert!(parsed.is_err(), "the parser follows deeper objects");
    }
}
