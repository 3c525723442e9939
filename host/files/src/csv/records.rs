//! Splits a file of comma-separated values into records, as RFC 4180 describes it.
//!
//! A lenient parser reads an unclosed quote as a field that goes on to the next quote, so that all
//! rows between them are gone without a word. This one refuses what RFC 4180 does not allow: a
//! quote that is not closed, and text between a closing quote and the next comma. It also counts
//! lines by every kind of line end (LF, CRLF, and CR alone), inside of quotes and outside, so that
//! the number of a record is the line that it begins in, and no two records have the same.
//!
//! A quote inside of a field that does not begin with one is a character like others. Empty lines
//! are skipped, except in a file of one column, where an empty line is a record whose only field is
//! empty. A file may have another delimiter and another quote, or no quotes.

use std::io::{BufRead as _, BufReader, Read};

use wafer_catalog::Dialect;

use crate::text::MAX_RECORD_BYTES;

/// A record: the fields of one row.
#[derive(Debug, Default)]
pub(super) struct CsvRecord {
    /// The fields, one after the other, without their quotes.
    bytes: Vec<u8>,
    /// The end of each field in `bytes`.
    ends: Vec<usize>,
    /// Whether each field was in quotes.
    are_quoted: Vec<bool>,
    /// Whether the field that is being read is in quotes.
    is_quoted: bool,
    /// The line that the record begins in, from 1.
    pub(super) line: u64,
    /// The line that its first field with a line end in it begins in, if there is one.
    pub(super) spans_from: Option<u64>,
    /// The line in which the last quote was opened.
    opened: u64,
    /// Why the record is not one, although the records after it can be read.
    pub(super) fault: Option<String>,
}

impl CsvRecord {
    /// The number of fields.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the fields, or `None` if one of them is not valid UTF-8.
    pub(super) fn fields(&self) -> Option<Fields<'_>> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        // Two fields may be invalid each and valid together.
        let are_valid = self.ends.iter().all(|end| text.is_char_boundary(*end));
        are_valid.then_some(Fields {
            text,
            ends: &self.ends,
            are_quoted: &self.are_quoted,
        })
    }

    /// Returns a field, or `None` if it is not valid UTF-8 or there is no such field.
    pub(super) fn field(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        std::str::from_utf8(self.bytes.get(start..end)?).ok()
    }

    /// Returns whether a field was in quotes.
    pub(super) fn is_quoted(&self, index: usize) -> bool {
        self.are_quoted.get(index).is_some_and(|quoted| *quoted)
    }

    /// The memory that the record takes.
    fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * (size_of::<usize>() + size_of::<bool>())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.are_quoted.clear();
        self.is_quoted = false;
        (self.spans_from, self.fault) = (None, None);
    }

    fn end_field(&mut self) {
        self.ends.push(self.bytes.len());
        self.are_quoted.push(std::mem::take(&mut self.is_quoted));
    }

    /// Takes the next byte, which is in `line`.
    fn step(
        &mut self,
        state: State,
        byte: u8,
        line: u64,
        dialect: Dialect,
    ) -> Result<Step, RecordError> {
        let is_quote = dialect.quote == Some(byte);
        let is_line_end = matches!(byte, b'\r' | b'\n');
        if state == State::RecordStart {
            if is_line_end {
                return Ok(Step::To(State::RecordStart));
            }
            self.line = line;
        }
        match state {
            State::RecordStart | State::FieldStart if is_quote => {
                self.opened = line;
                self.is_quoted = true;
                Ok(Step::To(State::Quoted))
            }
            State::Quoted if is_quote => Ok(Step::To(State::Quote)),
            State::Quoted => {
                if is_line_end {
                    self.spans_from.get_or_insert(self.opened);
                }
                self.bytes.push(byte);
                Ok(Step::To(State::Quoted))
            }
            State::Quote if is_quote => {
                self.bytes.push(byte);
                Ok(Step::To(State::Quoted))
            }
            State::Skipped if is_line_end => Ok(Step::End),
            State::Skipped => Ok(Step::To(State::Skipped)),
            _ if byte == dialect.delimiter => {
                self.end_field();
                Ok(Step::To(State::FieldStart))
            }
            _ if is_line_end => {
                self.end_field();
                Ok(Step::End)
            }
            State::Quote => self.text_after_quote(line).map(Step::To),
            State::RecordStart | State::FieldStart | State::Plain => {
                self.bytes.push(byte);
                Ok(Step::To(State::Plain))
            }
        }
    }

    /// Goes on after text that follows a closing quote. If the record spans lines, rows may have
    /// been taken for a part of it.
    fn text_after_quote(&mut self, line: u64) -> Result<State, RecordError> {
        if let Some(first) = self.spans_from {
            let message = format!(
                "a quote opens here, and text follows a later quote, in line {line}: the quote is \
                 not closed, or a quote in the field is not written twice"
            );
            return Err(RecordError::quotes(first, message));
        }
        let fault = "a field has text after its closing quote; write a quote in a field twice";
        self.fault = Some(fault.to_owned());
        Ok(State::Skipped)
    }

    /// Ends the last record, which no line end ends. Returns whether there is one.
    fn end(&mut self, state: State) -> Result<bool, RecordError> {
        match state {
            State::RecordStart => Ok(false),
            State::Quoted => {
                let message = "a quote opens here and is not closed before the end of the file";
                Err(RecordError::quotes(self.suspect(), message))
            }
            State::FieldStart | State::Plain | State::Quote => {
                self.end_field();
                Ok(true)
            }
            State::Skipped => Ok(true),
        }
    }

    /// The error for a record that is too long.
    fn too_long(&self, state: State) -> RecordError {
        let mib = MAX_RECORD_BYTES >> 20;
        match state {
            State::Quoted | State::Quote => {
                let message = format!("a quote opens here and is not closed within {mib} MiB");
                RecordError::quotes(self.suspect(), message)
            }
            _ => RecordError::quotes(self.line, format!("the row has more than {mib} MiB")),
        }
    }

    /// The line of the quote that is probably not closed: that of the first field that spans lines,
    /// because a quote of a later row may have closed it.
    fn suspect(&self) -> u64 {
        self.spans_from.unwrap_or(self.opened)
    }
}

/// What the splitter does after a byte.
enum Step {
    /// The splitter goes on.
    To(State),
    /// The record has ended.
    End,
}

/// The fields of a record, which are valid UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    text: &'a str,
    ends: &'a [usize],
    are_quoted: &'a [bool],
}

impl<'a> Fields<'a> {
    /// Returns a field, if the record has so many.
    pub(super) fn get(self, index: usize) -> Option<&'a str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// Returns whether a field was in quotes, which tells an empty text from no value.
    pub(super) fn is_quoted(self, index: usize) -> bool {
        self.are_quoted.get(index).is_some_and(|quoted| *quoted)
    }
}

/// The error of a file that cannot be split into records.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The rest of the file makes no sense. It holds the line, and what is wrong.
    #[error("line {line}: {message}")]
    Quotes { line: u64, message: String },
}

impl RecordError {
    fn quotes(line: u64, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Quotes { line, message }
    }
}

/// Where the splitter is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a record.
    RecordStart,
    /// Before the first byte of a field.
    FieldStart,
    /// In a field without quotes.
    Plain,
    /// In a field with quotes.
    Quoted,
    /// After a quote in a field with quotes: its end, or the first of a doubled quote.
    Quote,
    /// In the rest of a line that is not a record.
    Skipped,
}

/// Counts the lines of a file.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// The line of the next byte, from 1.
    line: u64,
    /// Whether the last byte was a carriage return, so that a line feed does not end another line.
    after_return: bool,
}

impl Lines {
    fn pass(&mut self, byte: u8) {
        match byte {
            b'\r' => self.line += 1,
            b'\n' if !self.after_return => self.line += 1,
            _ => {}
        }
        self.after_return = byte == b'\r';
    }
}

/// Reads the records of a file in their order.
#[derive(Debug)]
pub(super) struct Records<R> {
    reader: BufReader<R>,
    lines: Lines,
    dialect: Dialect,
    /// Whether an empty line is a record with one empty field.
    has_empty_records: bool,
}

impl<R: Read> Records<R> {
    pub(super) fn new(file: R, dialect: Dialect) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, file),
            lines: Lines {
                line: 1,
                after_return: false,
            },
            dialect,
            has_empty_records: false,
        }
    }

    /// Takes empty lines from here on for records with one empty field, as they are in a file of
    /// one column.
    pub(super) fn keep_empty_lines(&mut self) {
        self.has_empty_records = true;
    }

    /// Reads the next record; returns `false` at the end of the file.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read, or its quotes do not say where records end.
    pub(super) fn read(&mut self, record: &mut CsvRecord) -> Result<bool, RecordError> {
        record.clear();
        let mut state = State::RecordStart;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return record.end(state);
            }
            let (mut used, mut is_done) = (0, false);
            while used < buffer.len() && !is_done {
                let rest = &buffer[used..];
                let run = plain_run(state, rest, self.dialect);
                if run > 0 {
                    record.bytes.extend_from_slice(&rest[..run]);
                    self.lines.after_return = false;
                    used += run;
                    continue;
                }
                let line = self.lines.line;
                // The line feed of a CRLF ends the line that the carriage return has ended.
                let ends_line = rest[0] == b'\r' || (rest[0] == b'\n' && !self.lines.after_return);
                self.lines.pass(rest[0]);
                used += 1;
                if self.has_empty_records && state == State::RecordStart && ends_line {
                    record.line = line;
                    record.end_field();
                    is_done = true;
                    continue;
                }
                match record.step(state, rest[0], line, self.dialect)? {
                    Step::To(next) => state = next,
                    Step::End => is_done = true,
                }
            }
            self.reader.consume(used);
            if is_done {
                return Ok(true);
            }
            if record.size() > MAX_RECORD_BYTES {
                return Err(record.too_long(state));
            }
        }
    }
}

/// Returns the length of the bytes that are copied to the current field as they are.
fn plain_run(state: State, bytes: &[u8], dialect: Dialect) -> usize {
    let special = match state {
        State::Plain => dialect.delimiter,
        // Only a file with quotes has quoted fields.
        State::Quoted => dialect.quote.unwrap_or(b'\n'),
        _ => return 0,
    };
    let is_end = |byte: &u8| *byte == special || matches!(byte, b'\r' | b'\n');
    bytes.iter().position(is_end).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a text, each with its line, and the error that ends them.
    fn split(text: &[u8]) -> (Vec<(u64, Vec<String>)>, Option<String>) {
        split_by(Dialect::default(), text)
    }

    fn split_by(dialect: Dialect, text: &[u8]) -> (Vec<(u64, Vec<String>)>, Option<String>) {
        let mut records = Records::new(text, dialect);
        let (mut record, mut found) = (CsvRecord::default(), Vec::new());
        loop {
            match records.read(&mut record) {
                Ok(false) => return (found, None),
                Err(error) => return (found, Some(error.to_string())),
                Ok(true) => {
                    let fields = (0..record.len()).map(|index| {
                        let field = record.fields().unwrap().get(index).unwrap();
                        assert_eq!(record.field(index), Some(field));
                        field.to_owned()
                    });
                    let fields = match &record.fault {
                        None => fields.collect(),
                        Some(fault) => vec![format!("fault: {fault}")],
                    };
                    found.push((record.line, fields));
                }
            }
        }
    }

    #[test]
    fn records_have_the_line_that_they_begin_in_whatever_ends_the_lines() {
        let text = "a,b\n1,\"x\ny\"\n\n2,\"\"\n3,\"p\"\"q\"\n4,5\" disk\n";
        let wanted = [
            (1, vec!["a", "b"]),
            (2, vec!["1", "x\ny"]),
            (5, vec!["2", ""]),
            (6, vec!["3", "p\"q"]),
            (7, vec!["4", "5\" disk"]),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            let (found, error) = split(text.as_bytes());
            assert_eq!(error, None);
            let wanted: Vec<(u64, Vec<String>)> = wanted
                .iter()
                .map(|(line, fields)| {
                    let fields = fields.iter().map(|field| field.replace('\n', end));
                    (*line, fields.collect())
                })
                .collect();
            assert_eq!(found, wanted, "{text:?}");
            // The last line end may be missing.
            let (found, error) = split(text.strip_suffix(end).unwrap().as_bytes());
            assert_eq!((found, error), (wanted, None), "{text:?}");
        }
    }

    #[test]
    fn fields_are_split_and_quoted_as_declared() {
        for (delimiter, quote, text, wanted) in [
            (b';', Some(b'"'), "a,b;\"c;d\"\n", vec!["a,b", "c;d"]),
            (
                b'\t',
                Some(b'\''),
                "'it''s'\t\"b\"\n",
                vec!["it's", "\"b\""],
            ),
            (b'|', None, "\"a|b\"|\n", vec!["\"a", "b\"", ""]),
        ] {
            let (found, error) = split_by(Dialect { delimiter, quote }, text.as_bytes());
            let wanted = wanted.into_iter().map(str::to_owned).collect();
            assert_eq!((found, error), (vec![(1, wanted)], None), "{text:?}");
        }
    }

    #[test]
    fn fields_are_split_at_commas() {
        for (text, wanted) in [
            ("", vec![]),
            ("\n\r\n", vec![]),
            ("a", vec![vec!["a"]]),
            ("a,", vec![vec!["a", ""]]),
            (",", vec![vec!["", ""]]),
            ("\"\"", vec![vec![""]]),
            ("\",\",\"\r\"", vec![vec![",", "\r"]]),
            (
                "a\rb\n\nc\r\nd",
                vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"]],
            ),
            (" \"a\"", vec![vec![" \"a\""]]),
        ] {
            let (found, error) = split(text.as_bytes());
            let found: Vec<Vec<String>> = found.into_iter().map(|(_, fields)| fields).collect();
            assert_eq!(
                (found, error),
                (
                    wanted
                        .iter()
                        .map(|r| r.iter().map(|f| (*f).to_owned()).collect())
                        .collect(),
                    None
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn empty_lines_of_a_file_of_one_column_are_records() {
        let text = "a\n\n1\n\n\n\"\"\n2\n\n";
        let wanted = [
            (2, ""),
            (3, "1"),
            (4, ""),
            (5, ""),
            (6, ""),
            (7, "2"),
            (8, ""),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            let mut records = Records::new(text.as_bytes(), Dialect::default());
            let mut record = CsvRecord::default();
            assert!(records.read(&mut record).unwrap());
            records.keep_empty_lines();
            for (line, field) in wanted {
                assert!(records.read(&mut record).unwrap(), "{text:?}");
                assert_eq!((record.line, record.len()), (line, 1), "{text:?}");
                assert_eq!(record.field(0), Some(field), "{text:?}");
                assert_eq!(record.is_quoted(0), line == 6, "{text:?}");
            }
            assert!(!records.read(&mut record).unwrap(), "{text:?}");
        }
    }

    #[test]
    fn fields_know_whether_they_were_in_quotes() {
        let mut records = Records::new(&b"a,\"\",,\"b\"\n\"\",c\n"[..], Dialect::default());
        let mut record = CsvRecord::default();
        for wanted in [vec![false, true, false, true], vec![true, false]] {
            assert!(records.read(&mut record).unwrap());
            let fields = record.fields().unwrap();
            let found: Vec<bool> = (0..record.len()).map(|i| fields.is_quoted(i)).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn quotes_that_do_not_say_where_records_end_are_errors_at_the_line_that_opened_them() {
        for (text, rows, wanted) in [
            // To the end of the file.
            (
                "a,b\n1,\"x\n2,y\n3,z\n",
                1,
                "line 2: a quote opens here and is not closed",
            ),
            (
                "a,b\r1,x\r2,\"y",
                2,
                "line 3: a quote opens here and is not closed",
            ),
            ("\"", 0, "line 1: a quote opens here and is not closed"),
            // To the first quote of a later row.
            (
                "a,b\n1,\"x\n2,y\n3,\"z\"\n",
                1,
                "line 2: a quote opens here, and text follows a later quote, in line 4",
            ),
            (
                "a,b\r\n\r\n1,\"x\r\n\"y\r\n",
                1,
                "line 3: a quote opens here, and text follows",
            ),
        ] {
            let (found, error) = split(text.as_bytes());
            let error = error.unwrap();
            assert!(error.starts_with(wanted), "{error}");
            assert_eq!(found.len(), rows, "{text:?}");
        }
    }

    #[test]
    fn text_after_a_quote_in_the_same_line_is_a_fault_of_its_record_alone() {
        let (found, error) = split(b"a,b\n1,\"x\" y,\"\n2,z\n\"w\"v\n3,u");
        assert_eq!(error, None);
        let lines: Vec<(u64, bool)> = found
            .iter()
            .map(|(line, fields)| (*line, fields[0].starts_with("fault: ")))
            .collect();
        assert_eq!(
            lines,
            [(1, false), (2, true), (3, false), (4, true), (5, false)]
        );
    }

    #[test]
    fn endless_field_is_an_error_before_it_fills_the_memory() {
        let mut text = b"a\n\"".to_vec();
        text.resize(MAX_RECORD_BYTES + (1 << 17), b'x');
        let error = split(&text).1.unwrap();
        assert_eq!(
            error,
            "line 2: a quote opens here and is not closed within 16 MiB"
        );
        let error = split(&text[3..]).1.unwrap();
        assert_eq!(error, "line 1: the row has more than 16 MiB");
        // Fields take memory even if they are empty.
        let error = split(&vec![b','; 4 << 20]).1.unwrap();
        assert_eq!(error, "line 1: the row has more than 16 MiB");
    }

    #[test]
    fn records_do_not_depend_on_where_the_buffer_ends() {
        // Lines of all lengths around the size of the buffer.
        for length in (1 << 16) - 4..(1 << 16) + 4 {
            let long = "x".repeat(length);
            let text = format!("{long}\r\n\"{long}\"\"\"\r\ny\r\n");
            let (found, error) = split(text.as_bytes());
            assert_eq!(error, None);
            let wanted = [
                (1, long.clone()),
                (2, format!("{long}\"")),
                (3, "y".to_owned()),
            ];
            let wanted: Vec<_> = wanted
                .into_iter()
                .map(|(line, f)| (line, vec![f]))
                .collect();
            assert!(found == wanted, "{length}");
        }
    }
}
