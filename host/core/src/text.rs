//! Text that came from outside, on its way to people: escaped for terminals and logs, and cut.
//!
//! Names, values, documentation, messages of functions and errors of libraries may contain
//! anything. Whatever prints them goes through this module, and whatever keeps an error goes
//! through [`cut`]. Formats for programs (JSON, CSV, Arrow) keep every character.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

/// Maximum length in bytes of an error, wherever it is shown, stored or sent.
pub const MAX_ERROR_BYTES: usize = 4 << 10;

/// Returns whether a terminal or the reader of a log could be deceived by a character: control
/// characters (C0 with ESC and line breaks, DEL, C1), characters that change the direction of text,
/// line separators of Unicode, and characters that are invisible and have no use in ordinary text.
/// The joiners of scripts and emoji are not among them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Replaces each character for which `is_escaped` holds by what `escape` appends.
fn replaced(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else {
        return Cow::Borrowed(text);
    };
    let (before, rest) = text.split_at(first);
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(before);
    for c in rest.chars() {
        match is_escaped(c) {
            true => escape(&mut escaped, c),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Escapes a text for one line of a terminal or a log: what could deceive its reader is written as
/// `\n`, `\t`, `\u{1b}` and so on. Line breaks are escaped as well, so the text stays one line.
///
/// ```
/// assert_eq!(wafer_core::escaped("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, is_deceptive, |escaped, c| {
        escaped.extend(c.escape_default());
    })
}

/// Escapes a text of several lines like [`escaped`], but keeps its line feeds.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| c != '\n' && is_deceptive(c);
    replaced(text, is_escaped, |escaped, c| {
        escaped.extend(c.escape_default());
    })
}

/// Escapes a JSON document for a terminal. The document has the same value: what [`escaped`] would
/// escape can only be within its strings, beside line feeds, and is written with the escapes of
/// JSON.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| c != '\n' && is_deceptive(c);
    replaced(json, is_escaped, |escaped, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

/// Quotes a text as one word of a command for a POSIX shell, for commands that people copy. A text
/// that a shell takes for one word as it is stays so.
///
/// ```
/// assert_eq!(wafer_core::shell_word("it's $HOME"), r"'it'\''s $HOME'");
/// ```
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:@_".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// Removes the user name and the password from a URL, which no message may have. The text need not
/// be a valid URL.
///
/// ```
/// assert_eq!(wafer_core::without_userinfo("http://a:b@host/@"), "http://host/@");
/// ```
pub fn without_userinfo(url: &str) -> Cow<'_, str> {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme = url
        .find("://")
        .filter(|at| url[..*at].chars().all(is_scheme));
    let (scheme, rest) = url.split_at(scheme.map_or(0, |at| at + 3));
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        None => Cow::Borrowed(url),
        Some(at) => Cow::Owned(format!("{scheme}{}", &rest[at + 1..])),
    }
}

/// Returns the first 60 characters of a text, for messages that quote it.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Cuts an error to [`MAX_ERROR_BYTES`]; see [`cut_to`].
pub fn cut(text: impl Display) -> String {
    cut_to(text, MAX_ERROR_BYTES)
}

/// Formats a text, and cuts it to `limit` bytes at a character boundary. What is cut off is never
/// held in memory. A text that was cut ends in how much is missing, which is within the limit. A
/// text that was cut before, and is cut again as a part of a longer one, says how much is missing
/// altogether.
///
/// ```
/// let text = wafer_core::cut_to("x".repeat(1_000), 50);
/// assert!(text.len() <= 50 && text.ends_with("x… (971 more bytes)"), "{text}");
/// ```
pub fn cut_to(text: impl Display, limit: usize) -> String {
    let mut cutter = Cutter {
        limit,
        start: String::new(),
        length: 0,
        end: Vec::new(),
    };
    // An error means that the text cannot be formatted; what came before it is kept.
    let _ = write!(cutter, "{text}");
    cutter.finish()
}

/// Maximum length of the note about what is missing.
const NOTE_BYTES: usize = 40;

/// Keeps the start of what is written to it, and the end as far as a note can reach.
struct Cutter {
    limit: usize,
    /// The start of the text, at most `limit` bytes.
    start: String,
    /// Length of the whole text.
    length: usize,
    /// The last bytes of what did not fit into `start`, at most [`NOTE_BYTES`].
    end: Vec<u8>,
}

impl fmt::Write for Cutter {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // Once something did not fit, nothing that comes later may.
        let room = match self.length > self.start.len() {
            true => 0,
            false => self.limit - self.start.len(),
        };
        let (fits, rest) = piece.split_at(piece.floor_char_boundary(room));
        self.start.push_str(fits);
        self.length += piece.len();
        let rest = rest.as_bytes();
        self.end
            .extend_from_slice(&rest[rest.len().saturating_sub(NOTE_BYTES)..]);
        let surplus = self.end.len().saturating_sub(NOTE_BYTES);
        self.end.drain(..surplus);
        Ok(())
    }
}

impl Cutter {
    fn finish(self) -> String {
        if self.length == self.start.len() {
            return self.start;
        }
        // The note of an earlier cut can begin before the limit and end after it.
        let start = self.start.as_bytes();
        let mut end = start[start.len().saturating_sub(NOTE_BYTES)..].to_vec();
        end.extend_from_slice(&self.end);
        let (noted, missing_before) = note_at_end(&end).unwrap_or((0, 0));
        let whole = (self.length - noted) as u64 + missing_before;
        // The note is as long as its number needs at most, so that the text never exceeds the
        // limit.
        let room = self.limit.saturating_sub(note(whole).len());
        let kept = self.start.floor_char_boundary(room);
        let kept = &self.start[..kept.min(self.length - noted)];
        format!("{kept}{}", note(whole - kept.len() as u64))
    }
}

/// Returns what a text that was cut ends in.
fn note(missing: u64) -> String {
    format!("… ({missing} more bytes)")
}

/// Returns the length of the [`note`] that a text ends in, and how much it says is missing.
fn note_at_end(end: &[u8]) -> Option<(usize, u64)> {
    let before = end.strip_suffix(b" more bytes)")?;
    let digits = before.iter().rev().take_while(|b| b.is_ascii_digit());
    let (_, digits) = before.split_at(before.len() - digits.count());
    let missing: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let noted = note(missing);
    end.ends_with(noted.as_bytes())
        .then_some((noted.len(), missing))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_could_deceive_are_escaped_and_no_others() {
        for (text, line, lines, json) in [
            (
                "plain ä 日本 🛫",
                "plain ä 日本 🛫",
                "plain ä 日本 🛫",
                "plain ä 日本 🛫",
            ),
            // A backslash stays: paths and patterns are read by people.
            (r"C:\n", r"C:\n", r"C:\n", r"C:\n"),
            // CSI, and OSC with BEL: clear the screen, and set the title.
            ("\u{1b}[2J", r"\u{1b}[2J", r"\u{1b}[2J", r"\u001b[2J"),
            (
                "\u{1b}]0;x\u{7}",
                r"\u{1b}]0;x\u{7}",
                r"\u{1b}]0;x\u{7}",
                r"\u001b]0;x\u0007",
            ),
            ("a\r\nb", r"a\r\nb", "a\\r\nb", "a\\u000d\nb"),
            (
                "a\tb\u{8}\u{0}",
                r"a\tb\u{8}\u{0}",
                r"a\tb\u{8}\u{0}",
                r"a\u0009b\u0008\u0000",
            ),
            // DEL, and the C1 controls NEL and CSI.
            (
                "\u{7f}\u{85}\u{9b}",
                r"\u{7f}\u{85}\u{9b}",
                r"\u{7f}\u{85}\u{9b}",
                r"\u007f\u0085\u009b",
            ),
            // Overrides and isolates of direction, and marks.
            ("\u{202e}gpj", r"\u{202e}gpj", r"\u{202e}gpj", r"\u202egpj"),
            (
                "\u{2066}\u{2069}\u{200f}\u{61c}",
                r"\u{2066}\u{2069}\u{200f}\u{61c}",
                r"\u{2066}\u{2069}\u{200f}\u{61c}",
                r"\u2066\u2069\u200f\u061c",
            ),
            // Line and paragraph separators.
            (
                "a\u{2028}b\u{2029}",
                r"a\u{2028}b\u{2029}",
                r"a\u{2028}b\u{2029}",
                r"a\u2028b\u2029",
            ),
            // Invisible: zero-width space, byte order mark, tags.
            (
                "\u{200b}\u{feff}\u{e0041}",
                r"\u{200b}\u{feff}\u{e0041}",
                r"\u{200b}\u{feff}\u{e0041}",
                r"\u200b\ufeff\udb40\udc41",
            ),
            // Joiners are part of words and emoji.
            (
                "می\u{200c}خواهم 👩\u{200d}🔬",
                "می\u{200c}خواهم 👩\u{200d}🔬",
                "می\u{200c}خواهم 👩\u{200d}🔬",
                "می\u{200c}خواهم 👩\u{200d}🔬",
            ),
        ] {
            assert_eq!(escaped(text), line);
            assert_eq!(escaped_lines(text), lines);
            assert_eq!(escaped_json(text), json);
        }
    }

    #[test]
    fn texts_are_one_word_of_a_shell() {
        for (text, wanted) in [
            (
                "arn:aws:sqs:us-east-1:1:q.fifo",
                "arn:aws:sqs:us-east-1:1:q.fifo",
            ),
            ("", "''"),
            ("a b", "'a b'"),
            ("a;rm -rf $HOME", "'a;rm -rf $HOME'"),
            ("`id`\n#", "'`id`\n#'"),
            ("it's", r"'it'\''s'"),
            ("=ls", "'=ls'"),
            ("~", "'~'"),
            ("é", "'é'"),
        ] {
            assert_eq!(shell_word(text), wanted);
        }
    }

    #[test]
    fn urls_lose_their_user_name_and_password() {
        for (url, wanted) in [
            ("http://host:1/a", "http://host:1/a"),
            ("http://user:pw@host:1/a?b=c@d", "http://host:1/a?b=c@d"),
            ("http://user@host", "http://host"),
            ("http://us:p@w@host?a", "http://host?a"),
            ("http://[::1]:1/a@b", "http://[::1]:1/a@b"),
            ("http://host#a@b", "http://host#a@b"),
            ("user:pw@host", "host"),
            ("user:pw@host/http://x", "host/http://x"),
            ("", ""),
        ] {
            assert_eq!(without_userinfo(url), wanted);
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_say_how_much_is_missing() {
        for (text, limit, wanted) in [
            (String::new(), 40, String::new()),
            ("x".repeat(40), 40, "x".repeat(40)),
            (
                "x".repeat(41),
                40,
                format!("{}… (20 more bytes)", "x".repeat(21)),
            ),
            // A character of two bytes that begins at the last byte that is free is left out.
            (
                "é".repeat(30),
                40,
                format!("{}… (40 more bytes)", "é".repeat(10)),
            ),
        ] {
            let cut = cut_to(&text, limit);
            assert_eq!(cut, wanted);
            assert!(cut.len() <= limit, "{cut}");
        }
        assert_eq!(cut("x".repeat(100 << 20)).len(), MAX_ERROR_BYTES);
    }

    #[test]
    fn text_that_is_cut_twice_says_how_much_is_missing_altogether() {
        let once = cut("x".repeat(1 << 20));
        let twice = cut(format!("function `f` refused the batch: {once}"));
        assert!(twice.len() <= MAX_ERROR_BYTES);
        let number = |text: &str| -> usize {
            let (_, note) = text.rsplit_once("… (").unwrap();
            note.strip_suffix(" more bytes)").unwrap().parse().unwrap()
        };
        let shown = twice.matches('x').count();
        assert_eq!(shown + number(&twice), 1 << 20);
    }

    proptest! {
        #[test]
        fn escaped_text_has_nothing_deceptive(text in "\\PC{0,8}.{0,8}[\u{1b}\u{9b}\u{202e}\n]{0,3}") {
            prop_assert!(!escaped(&text).chars().any(is_deceptive));
            prop_assert!(!escaped_lines(&text).chars().any(|c| c != '\n' && is_deceptive(c)));
            let json = serde_json::to_string(&text).unwrap();
            let read: String = serde_json::from_str(&escaped_json(&json)).unwrap();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn cut_text_is_within_its_limit_and_counts_every_byte(text in "[a-é]{0,200}", limit in 40usize..150) {
            let cut = cut_to(&text, limit);
            prop_assert!(cut.len() <= limit);
            if let Some((kept, note)) = cut.rsplit_once("… (") {
                let missing: usize = note.strip_suffix(" more bytes)").unwrap().parse().unwrap();
                prop_assert_eq!(kept.len() + missing, text.len());
                prop_assert!(text.starts_with(kept));
            } else {
                prop_assert_eq!(cut, text);
            }
        }
    }
}
