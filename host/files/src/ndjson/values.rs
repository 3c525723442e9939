//! Splits a file of JSON into values.
//!
//! A file has one value in each line, or it is a document: an array of values, or, in a file whose
//! name ends in `.json`, values that go over several lines. A value that is not JSON is a fault of
//! its line alone; in a document, values are told apart by their brackets and quotes, and where
//! these do not match, the rest of the file makes no sense.

use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use serde_json::Value as Json;

use crate::input::TextInput;
use crate::lines::{read_line, too_large, wrong_at};
use crate::text::MAX_RECORD_BYTES;

/// Reads the values of a file one after the other.
pub(super) struct Values {
    reader: Box<dyn BufRead + Send>,
    shape: Shape,
    /// The line of the next byte, from 1.
    line: u64,
    /// The bytes of the value that was read last.
    bytes: Vec<u8>,
    /// The number of values of a document that were read.
    count: u64,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}

/// How the values follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One in each line.
    Lines,
    /// One after the other, with space between them.
    Documents,
    /// In an array that opens in a line. It is before its first value.
    ArrayStart { line: u64 },
    /// In an array that opens in a line.
    Array { line: u64 },
    /// After the end of an array.
    ArrayEnd { line: u64 },
}

/// A value of a file.
pub(super) struct Value<'a> {
    /// The text of the value.
    pub(super) bytes: &'a [u8],
    /// The number of the value, which no other value of the file has: its line, or its place in a
    /// document, from 1.
    pub(super) number: u64,
    /// The line that the value begins in, if its number is another one.
    pub(super) line: Option<u64>,
}

/// Adds the line of a value to a message about it, unless its number is the line.
pub(super) fn placed(line: Option<u64>, message: String) -> String {
    match line {
        None => message,
        Some(line) => format!("(line {line}) {message}"),
    }
}

impl Values {
    /// Looks at the start of a file to find out how its values follow each other.
    pub(super) fn open(path: &Path, input: TextInput) -> io::Result<Self> {
        let mut values = Self {
            reader: Box::new(BufReader::with_capacity(1 << 16, input)),
            shape: Shape::Lines,
            line: 1,
            bytes: Vec::new(),
            count: 0,
        };
        match values.skip_space()? {
            // All of an array may be in one line, which is not read as a whole.
            Some(b'[') => {
                values.shape = Shape::ArrayStart { line: values.line };
                values.reader.consume(1);
            }
            Some(b'{') if is_document(path) => values.look_at_first_line()?,
            _ => {}
        }
        Ok(values)
    }

    /// Looks whether the first value of a document goes on in the next line.
    fn look_at_first_line(&mut self) -> io::Result<()> {
        let mut first = Vec::new();
        read_line(&mut self.reader, &mut first, self.line)?;
        if ends_early(&first) {
            self.shape = Shape::Documents;
        }
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(first).chain(rest));
        Ok(())
    }

    /// Returns the next value, or `None` at the end of the file.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read, or the rest of it makes no sense.
    pub(super) fn next(&mut self) -> io::Result<Option<Value<'_>>> {
        self.bytes.clear();
        match self.shape {
            Shape::Lines => self.next_line(),
            _ => self.next_of_document(),
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Value<'_>>> {
        loop {
            self.bytes.clear();
            if !read_line(&mut self.reader, &mut self.bytes, self.line)? {
                return Ok(None);
            }
            self.line += 1;
            if !is_blank(&self.bytes) {
                return Ok(Some(Value {
                    bytes: &self.bytes,
                    number: self.line - 1,
                    line: None,
                }));
            }
        }
    }

    fn next_of_document(&mut self) -> io::Result<Option<Value<'_>>> {
        let next = self.skip_space()?;
        let is_end = match (self.shape, next) {
            (Shape::Lines | Shape::Documents, Some(byte @ (b',' | b']'))) => {
                return Err(self.wrong(format!("`{}` is between two values", char::from(byte))));
            }
            (Shape::Lines | Shape::Documents, next) => next.is_none(),
            (Shape::ArrayEnd { .. }, None) => true,
            (Shape::ArrayEnd { line }, Some(_)) => {
                return Err(self.wrong(format!("text follows the array that opens in line {line}")));
            }
            (Shape::ArrayStart { line } | Shape::Array { line }, None) => {
                return Err(wrong_at(line, "an array opens here and is not closed"));
            }
            (Shape::ArrayStart { line } | Shape::Array { line }, Some(b']')) => {
                self.reader.consume(1);
                self.shape = Shape::ArrayEnd { line };
                return self.next_of_document();
            }
            (Shape::ArrayStart { line }, Some(_)) => {
                self.shape = Shape::Array { line };
                false
            }
            (Shape::Array { .. }, Some(b',')) => {
                self.reader.consume(1);
                self.skip_space()?;
                false
            }
            (Shape::Array { .. }, Some(_)) => {
                return Err(self.wrong("a comma is missing between two values".to_owned()));
            }
        };
        if is_end {
            return Ok(None);
        }
        let line = self.line;
        self.read_value()?;
        self.count += 1;
        Ok(Some(Value {
            bytes: &self.bytes,
            number: self.count,
            line: Some(line),
        }))
    }

    /// Skips white space, and returns the byte after it.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let Some(byte) = buffer.first().copied() else {
                return Ok(None);
            };
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.line += u64::from(byte == b'\n');
            self.reader.consume(1);
        }
    }

    /// Reads a value up to the bracket that closes it, or, if it has none, up to what can only come
    /// after it.
    fn read_value(&mut self) -> io::Result<()> {
        let first = self.line;
        let mut scan = Scan::default();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return match scan.is_scalar() {
                    true => Ok(()),
                    false => Err(wrong_at(first, "a value begins here and is not closed")),
                };
            }
            let (mut used, mut is_done) = (0, false);
            for byte in buffer {
                let step = scan.step(*byte);
                is_done = step != Step::Inside;
                if step == Step::After {
                    break;
                }
                used += 1;
                self.line += u64::from(*byte == b'\n');
                if is_done {
                    break;
                }
            }
            self.bytes.extend_from_slice(&buffer[..used]);
            self.reader.consume(used);
            if self.bytes.len() > MAX_RECORD_BYTES {
                return Err(wrong_at(first, &too_large("a value that begins here")));
            }
            if is_done {
                return Ok(());
            }
        }
    }

    fn wrong(&self, message: String) -> io::Error {
        wrong_at(self.line, &message)
    }
}

/// Where a scan is in a value.
#[derive(Default)]
struct Scan {
    /// The number of brackets that are open.
    depth: u32,
    is_in_text: bool,
    is_escaped: bool,
}

/// Where a byte lies, relative to the value that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It belongs to the value, which goes on.
    Inside,
    /// It is the last one of the value.
    Last,
    /// It comes after the value.
    After,
}

impl Scan {
    fn is_scalar(&self) -> bool {
        self.depth == 0 && !self.is_in_text
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.is_in_text {
            let is_escaped = std::mem::take(&mut self.is_escaped);
            match byte {
                b'\\' => self.is_escaped = !is_escaped,
                b'"' if !is_escaped => self.is_in_text = false,
                _ => {}
            }
            return Step::Inside;
        }
        match byte {
            b'"' => self.is_in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth == 1 => return Step::Last,
            b'}' | b']' if self.depth > 1 => self.depth -= 1,
            b']' | b',' if self.depth == 0 => return Step::After,
            _ if self.depth == 0 && byte.is_ascii_whitespace() => return Step::After,
            _ => {}
        }
        Step::Inside
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Whether a file is a document by its name: `.json`, which may be followed by a compression.
fn is_document(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default().to_lowercase();
    [".json", ".json.gz", ".json.zst"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Whether a line is the start of a value that goes on in the next one.
fn ends_early(line: &[u8]) -> bool {
    serde_json::from_slice::<Json>(line).is_err_and(|error| error.is_eof())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use wafer_catalog::FileOptions;

    use super::*;

    /// The values of a file, with their numbers and lines, and the error that ends them.
    /// A value: its number, its line, and its text.
    type Found = (u64, Option<u64>, String);

    fn split(name: &str, text: &str) -> (Vec<Found>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let file = File::open(&path).unwrap();
        let input = TextInput::open(&path, file, &FileOptions::default()).unwrap();
        let (mut values, mut found) = (Values::open(&path, input).unwrap(), Vec::new());
        loop {
            match values.next() {
                Ok(None) => return (found, None),
                Err(error) => return (found, Some(error.to_string())),
                Ok(Some(value)) => {
                    let text = String::from_utf8_lossy(value.bytes).trim().to_owned();
                    found.push((value.number, value.line, text));
                }
            }
        }
    }

    fn value(number: u64, line: Option<u64>, text: &str) -> (u64, Option<u64>, String) {
        (number, line, text.to_owned())
    }

    #[test]
    fn lines_are_values_whatever_is_in_them() {
        let lines = |text| split("a.ndjson", text);
        let wanted = vec![value(1, None, "{\"a\":1}"), value(4, None, "{oops")];
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}{{\"a\":1}}\r\n\n  \n{{oops\n");
            assert_eq!(split("a.ndjson", &text), (wanted.clone(), None));
        }
        assert_eq!(lines("\n\n{}").0, [value(3, None, "{}")]);
        assert_eq!(lines(""), (vec![], None));
        // A value over several lines is one only in a file that says that it is a document.
        assert_eq!(lines("{\n}\n").0.len(), 2);
    }

    #[test]
    fn documents_are_values_in_an_array_or_one_after_the_other() {
        let array = "\n[\n {\"a\": \"]\\\"}\", \"b\": [1]},\n {},3 , \"x,]\"\n]\n";
        let wanted = vec![
            value(1, Some(3), "{\"a\": \"]\\\"}\", \"b\": [1]}"),
            value(2, Some(4), "{}"),
            value(3, Some(4), "3"),
            value(4, Some(4), "\"x,]\""),
        ];
        for name in ["a.json", "a.ndjson"] {
            assert_eq!(split(name, array), (wanted.clone(), None));
        }
        assert_eq!(split("a.json", "[]"), (vec![], None));
        assert_eq!(split("a.json", "\u{feff} [ ]\n"), (vec![], None));
        let pretty = "{\n \"a\": 1\n}\n{\n}\n";
        let wanted = vec![
            value(1, Some(1), "{\n \"a\": 1\n}"),
            value(2, Some(4), "{\n}"),
        ];
        assert_eq!(split("a.JSON", pretty), (wanted, None));
        // Lines are lines in a file of documents as well.
        assert_eq!(split("a.json", "{}\n{oops\n{}\n").0.len(), 3);
    }

    #[test]
    fn documents_whose_brackets_do_not_match_are_errors_with_the_line() {
        for (text, wanted) in [
            (
                "[\n{},\n{\"a\": 1",
                "line 3: a value begins here and is not closed",
            ),
            ("[\n{}\n", "line 1: an array opens here and is not closed"),
            (
                "[{}]\n{}",
                "line 2: text follows the array that opens in line 1",
            ),
            ("[{}\n{}]", "line 2: a comma is missing between two values"),
            (
                "[{\"a\": \"x}]",
                "line 1: a value begins here and is not closed",
            ),
        ] {
            let error = split("a.json", text).1.unwrap();
            assert_eq!(error, wanted, "{text}");
        }
    }

    #[test]
    fn an_array_in_one_line_may_be_larger_than_a_value() {
        let item = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        let items = vec![item.as_str(); 17];
        let array = format!("[{}]", items.join(","));
        assert!(array.len() > MAX_RECORD_BYTES);
        for name in ["a.json", "a.ndjson"] {
            let (found, error) = split(name, &array);
            assert_eq!((found.len(), error), (17, None), "{name}");
            assert!(
                found
                    .iter()
                    .all(|(_, line, text)| *line == Some(1) && *text == item)
            );
        }
    }

    #[test]
    fn values_that_would_fill_the_memory_are_errors() {
        let long = "x".repeat(MAX_RECORD_BYTES);
        let error = split("a.ndjson", &format!("{{}}\n\"{long}\"\n")).1.unwrap();
        assert_eq!(error, "line 2: the line has more than 16 MiB");
        let error = split("a.json", &format!("[\n\"{long}\"\n]")).1.unwrap();
        assert_eq!(
            error,
            "line 2: a value that begins here has more than 16 MiB"
        );
        let error = split("a.json", &format!("[{{}},\"{long}\"]")).1.unwrap();
        assert_eq!(
            error,
            "line 1: a value that begins here has more than 16 MiB"
        );
    }
}
