//! What a function writes to standard output and standard error, line by line.

use std::collections::VecDeque;

use wafer_core::cut_to;

/// Maximum length of a line in bytes; longer ones are several messages.
const LINE_BYTES: usize = 4 << 10;
/// How many of the last lines of standard error are kept for the message of a trap.
const LAST_LINES: usize = 8;
/// Maximum length in bytes of each of them.
const LAST_LINE_BYTES: usize = 320;

/// The lines of one stream.
#[derive(Debug, Default)]
struct Lines {
    /// The begin of the present line.
    line: Vec<u8>,
}

impl Lines {
    /// Takes bytes, and passes each line that they end to `take`. Empty lines are left out. What is
    /// not UTF-8 is replaced.
    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, is_ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            while !text.is_empty() {
                let room = LINE_BYTES - self.line.len();
                let (fits, rest) = text.split_at(room.min(text.len()));
                self.line.extend_from_slice(fits);
                text = rest;
                if !text.is_empty() {
                    self.split(&mut take);
                }
            }
            if is_ended {
                self.finish(&mut take);
            }
        }
    }

    /// Ends the present line, which goes on. A character whose end is missing goes to the rest.
    fn split(&mut self, take: impl FnMut(String)) {
        let last = self.line.utf8_chunks().last();
        let begun = last.map_or(0, |chunk| chunk.invalid().len());
        let rest = self.line.split_off(self.line.len() - begun);
        self.finish(take);
        self.line = rest;
    }

    /// Ends the present line.
    fn finish(&mut self, mut take: impl FnMut(String)) {
        if let Some(text) = self.present() {
            take(text);
        }
        self.line.clear();
    }

    /// Returns the present line, unless it is empty.
    fn present(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// What a function writes in one call.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    output: Lines,
    errors: Lines,
    last_errors: VecDeque<String>,
}

impl Printed {
    /// Takes bytes of standard output, and passes each line that they end to `take`.
    pub(crate) fn push(&mut self, bytes: &[u8], take: impl FnMut(String)) {
        self.output.push(bytes, take);
    }

    /// Takes bytes of standard error, and passes each line that they end to `take`.
    pub(crate) fn push_errors(&mut self, bytes: &[u8], mut take: impl FnMut(String)) {
        let last = &mut self.last_errors;
        self.errors.push(bytes, |line| {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(cut_to(&line, LAST_LINE_BYTES));
            take(line);
        });
    }

    /// Returns the lines of standard output and standard error that have no end.
    pub(crate) fn finish(self) -> (Option<String>, Option<String>) {
        (self.output.present(), self.errors.present())
    }

    /// Returns the last lines of standard error. After a trap, the message of a panic is among
    /// them.
    pub(crate) fn last_errors(&self) -> Option<String> {
        let present = self.errors.present();
        let present = present.map(|line| cut_to(line, LAST_LINE_BYTES));
        let lines: Vec<&str> = self
            .last_errors
            .iter()
            .chain(&present)
            .map(String::as_str)
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of pieces that are written one after the other.
    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut taken = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| taken.push(line));
        }
        lines.finish(|line| taken.push(line));
        taken
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end_of_a_call() {
        for (pieces, wanted) in [
            (vec![], vec![]),
            (vec!["one\ntwo\n"], vec!["one", "two"]),
            (vec!["o", "ne\nt", "wo"], vec!["one", "two"]),
            (vec!["\n\n", "  \r\n", "last\r\n\n"], vec!["last"]),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece: &&str| piece.as_bytes()).collect();
            assert_eq!(lines(&pieces), wanted);
        }
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn long_lines_are_several_messages_of_whole_characters() {
        let text = "x".to_owned() + &"é".repeat(LINE_BYTES);
        let found = lines(&[
            &text.as_bytes()[..5_000],
            &text.as_bytes()[5_000..],
            b"\nnext\n",
        ]);
        let lengths: Vec<usize> = found.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_BYTES - 1, LINE_BYTES, 2, 4]);
        assert_eq!(found[..3].concat(), text);
        assert_eq!(found[3], "next");
        // Bytes that are not characters do not stop it.
        let found = lines(&[&[0xff; 3 * LINE_BYTES]]);
        let replaced: usize = found.iter().map(|line| line.chars().count()).sum();
        assert_eq!(replaced, 3 * LINE_BYTES);
    }

    #[test]
    fn the_last_lines_of_standard_error_are_kept() {
        let mut printed = Printed::default();
        assert_eq!(printed.last_errors(), None);
        for number in 0..20 {
            printed.push_errors(format!("line {number}\n").as_bytes(), drop);
        }
        printed.push_errors(b"the end", |_| panic!("no line ended"));
        let found = printed.last_errors().unwrap();
        assert!(found.starts_with("line 12\nline 13\n"), "{found}");
        assert!(found.ends_with("line 19\nthe end"), "{found}");
        printed.push_errors(&[b'x'; 100 * LINE_BYTES], drop);
        assert!(printed.last_errors().unwrap().len() < 10 * LAST_LINE_BYTES);
        assert_eq!(printed.finish().0, None);
    }
}
