//! Decodes texts to UTF-8.

use std::io::{self, Read};

use wafer_catalog::Encoding;

use super::{UTF16BE_MARK, UTF16LE_MARK};

/// The text of an encoding, decoded to UTF-8.
pub(super) struct Decoded<R> {
    inner: R,
    encoding: Encoding,
    /// Bytes that were read and are not decoded yet, because they end within a character.
    rest: Vec<u8>,
    /// The number of bytes that were decoded.
    decoded: u64,
    /// Text that was decoded and is not returned yet.
    text: Vec<u8>,
    returned: usize,
}

impl<R: Read> Decoded<R> {
    pub(super) fn new(inner: R, encoding: Encoding) -> Self {
        Self {
            inner,
            encoding,
            rest: Vec::new(),
            decoded: 0,
            text: Vec::new(),
            returned: 0,
        }
    }

    /// Decodes the next bytes. The text stays empty at the end of the file.
    fn decode_more(&mut self) -> io::Result<()> {
        self.text.clear();
        self.returned = 0;
        while self.text.is_empty() {
            let mut bytes = [0; 1 << 13];
            let count = self.inner.read(&mut bytes)?;
            if count == 0 && self.rest.is_empty() {
                return Ok(());
            }
            if count == 0 {
                return Err(invalid("it ends within a character".to_owned()));
            }
            self.rest.extend_from_slice(&bytes[..count]);
            let used = self.decode()?;
            self.rest.drain(..used);
            self.decoded += used as u64;
        }
        Ok(())
    }

    /// Decodes the whole characters at the start of `rest`, and returns how many bytes they are.
    fn decode(&mut self) -> io::Result<usize> {
        if self.encoding == Encoding::Utf16 {
            self.encoding = match &self.rest[..] {
                [_] => return Ok(0),
                bytes if bytes.starts_with(UTF16LE_MARK) => Encoding::Utf16Le,
                bytes if bytes.starts_with(UTF16BE_MARK) => Encoding::Utf16Be,
                _ => return Err(invalid("it has no byte-order mark".to_owned())),
            };
        }
        match self.encoding {
            // Readers check what they take for text, row by row.
            Encoding::Utf8 | Encoding::Utf16 => {
                self.text.extend_from_slice(&self.rest);
                Ok(self.rest.len())
            }
            Encoding::Utf16Le => self.decode_utf16(u16::from_le_bytes),
            Encoding::Utf16Be => self.decode_utf16(u16::from_be_bytes),
            Encoding::Latin1 => self.decode_bytes(latin1),
            Encoding::Windows1252 => self.decode_bytes(windows1252),
        }
    }

    fn decode_bytes(&mut self, decode: fn(u8) -> Option<char>) -> io::Result<usize> {
        for (place, byte) in self.rest.iter().enumerate() {
            let character = decode(*byte).ok_or_else(|| {
                let place = self.decoded + place as u64;
                let name = match self.encoding {
                    Encoding::Latin1 => {
                        "is not a printable character of Latin-1; is the encoding windows-1252?"
                    }
                    _ => "is not a character of windows-1252",
                };
                invalid(format!("byte {place} ({byte:#04x}) {name}"))
            })?;
            push(&mut self.text, character);
        }
        Ok(self.rest.len())
    }

    fn decode_utf16(&mut self, unit: fn([u8; 2]) -> u16) -> io::Result<usize> {
        let units = self
            .rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| unit(*bytes));
        let mut units = units.peekable();
        let mut used = 0;
        while let Some(first) = units.next() {
            let is_first_half = (0xd800..0xdc00).contains(&first);
            if is_first_half && units.peek().is_none() {
                // The second half has not been read yet.
                break;
            }
            let second = units.next_if(|_| is_first_half);
            let decoded = char::decode_utf16([first].into_iter().chain(second)).next();
            let Some(Ok(character)) = decoded else {
                let place = self.decoded + used as u64;
                let message = format!("byte {place} begins half a character of UTF-16");
                return Err(invalid(message));
            };
            push(&mut self.text, character);
            used += 2 * character.len_utf16();
        }
        Ok(used)
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.encoding == Encoding::Utf8 {
            return self.inner.read(buffer);
        }
        if self.returned == self.text.len() {
            self.decode_more()?;
        }
        let mut text = &self.text[self.returned..];
        let count = text.read(buffer)?;
        self.returned += count;
        Ok(count)
    }
}

fn push(text: &mut Vec<u8>, character: char) {
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Decodes a byte of Latin-1. Its control characters from 0x80 to 0x9f are in no text: a file with
/// such bytes has another encoding.
fn latin1(byte: u8) -> Option<char> {
    let is_control = (0x80..0xa0).contains(&byte);
    (!is_control).then_some(char::from(byte))
}

/// Decodes a byte of windows-1252, which differs from Latin-1 from 0x80 to 0x9f.
fn windows1252(byte: u8) -> Option<char> {
    const SPECIAL: [char; 32] = [
        '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0',
        '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..0xa0 => {
            let character = SPECIAL[usize::from(byte - 0x80)];
            (character != '\0').then_some(character)
        }
        _ => Some(char::from(byte)),
    }
}
