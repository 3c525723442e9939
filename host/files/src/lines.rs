//! The lines of a text, one after the other.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use wafer_catalog::FileOptions;
use wafer_store::Result;

use crate::input::TextInput;
use crate::text::MAX_RECORD_BYTES;
use crate::unreadable;

/// Reads the lines of a text, which may be compressed and begin with a byte-order mark, as files of
/// text formats may. Calls block.
#[derive(Debug)]
pub struct TextLines {
    path: PathBuf,
    reader: BufReader<TextInput>,
    /// The number of the line that was read last, from 1.
    number: u64,
}

impl TextLines {
    /// Opens a text, which need not be a file: a pipe is read as it is. `path` names it and says
    /// how it is compressed; `size` is the number of its bytes, or 0 if that is not known.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the text cannot be read, is
    /// compressed in another way than its name says, or is not UTF-8 by its byte-order mark.
    pub fn open(path: &Path, text: impl Read + Send + 'static, size: u64) -> Result<Self> {
        let input = TextInput::of_reader(path, text, size, &FileOptions::default())?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 16, input),
            number: 0,
        })
    }

    /// Returns the next line that is not blank, without the white space around it, and its number.
    /// Returns `None` at the end of the text.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the text cannot be read, or a
    /// line is larger than a row of a file may be.
    pub fn next_line(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            let read = read_line(&mut self.reader, &mut line, self.number + 1);
            if !read.map_err(|e| unreadable(&self.path, e))? {
                return Ok(None);
            }
            self.number += 1;
            trim(&mut line);
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

/// Removes the white space around a line, which may be large and is not copied.
fn trim(line: &mut Vec<u8>) {
    line.truncate(line.trim_ascii_end().len());
    let blanks = line.len() - line.trim_ascii_start().len();
    line.drain(..blanks);
    line.shrink_to_fit();
}

/// Reads the line with a number, with its end, into `line`, and returns whether there is one.
pub(crate) fn read_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    number: u64,
) -> io::Result<bool> {
    let most = MAX_RECORD_BYTES as u64 + 1;
    let read = reader.take(most).read_until(b'\n', line)?;
    match line.len() > MAX_RECORD_BYTES {
        true => Err(wrong_at(number, &too_large("the line"))),
        false => Ok(read > 0),
    }
}

/// Returns the message for a part of a text that is larger than a row may be.
pub(crate) fn too_large(what: &str) -> String {
    format!("{what} has more than {} MiB", MAX_RECORD_BYTES >> 20)
}

/// Returns the error for what is wrong at a line.
pub(crate) fn wrong_at(line: u64, message: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("line {line}: {message}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The lines of a text, and the error that ends them.
    fn lines(name: &str, content: Vec<u8>) -> (Vec<(u64, String)>, Option<String>) {
        let opened = TextLines::open(Path::new(name), Cursor::new(content), 0);
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(error) => return (Vec::new(), Some(error.chain())),
        };
        let mut found = Vec::new();
        loop {
            match lines.next_line() {
                Ok(None) => return (found, None),
                Ok(Some((number, line))) => {
                    found.push((number, String::from_utf8_lossy(&line).into_owned()));
                }
                Err(error) => return (found, Some(error.chain())),
            }
        }
    }

    #[test]
    fn lines_are_decompressed_and_have_no_mark_and_no_blanks() {
        let text = "\u{feff}{\"a\":1}\r\n\n \t\n {\"a\":2} \n{\"a\":3}".as_bytes();
        let wanted = [(1, "{\"a\":1}"), (4, "{\"a\":2}"), (5, "{\"a\":3}")];
        let wanted = wanted.map(|(number, line)| (number, line.to_owned()));
        let zstd = zstd::stream::encode_all(text, 1).unwrap();
        for (name, content) in [("a.ndjson", text.to_vec()), ("a.ndjson.zst", zstd.clone())] {
            assert_eq!(lines(name, content), (wanted.to_vec(), None), "{name}");
        }
        let error = lines("a.ndjson", zstd).1.unwrap();
        assert!(
            error.contains("give the file a name that says so"),
            "{error}"
        );
        assert_eq!(lines("a", Vec::new()), (Vec::new(), None));
    }

    #[test]
    fn a_line_that_would_fill_the_memory_is_an_error() {
        let mut text = b"1\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', MAX_RECORD_BYTES + 1));
        let (found, error) = lines("a", text);
        assert_eq!(found, [(1, "1".to_owned())]);
        let error = error.unwrap();
        assert!(
            error.contains("line 2: the line has more than 16 MiB"),
            "{error}"
        );
    }
}
