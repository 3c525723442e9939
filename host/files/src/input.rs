//! The text of a file: decompressed, decoded to UTF-8, and without a byte-order mark.
//!
//! All text formats read their files through a [`TextInput`], so that each of them can be
//! compressed and in every encoding. The size of what a file decompresses to has a limit, because
//! a few bytes can stand for any number of them. Bytes that are not text of the declared encoding
//! are an error that names them: nothing is replaced.

mod decode;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _};
use std::path::Path;

use wafer_catalog::{Compression, Encoding, FileOptions};
use wafer_store::{Error, Result};

use crate::input::decode::Decoded;
use crate::unreadable;

/// The text of a file as UTF-8.
pub(crate) struct TextInput(Box<dyn Read + Send>);

impl std::fmt::Debug for TextInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextInput").finish_non_exhaustive()
    }
}

impl Read for TextInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl TextInput {
    /// Opens a text file.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the file cannot be read, or is
    /// compressed or encoded in another way than is declared.
    pub(crate) fn open(path: &Path, mut file: File, options: &FileOptions) -> Result<Self> {
        let size = file.metadata().map_err(|e| unreadable(path, e))?.len();
        file.rewind().map_err(|e| unreadable(path, e))?;
        Self::of_reader(path, file, size, options)
    }

    /// Opens the text that a reader returns. `size` is the number of its bytes, or 0 if that is not
    /// known; what it may decompress to depends on it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::open`].
    pub(crate) fn of_reader(
        path: &Path,
        reader: impl Read + Send + 'static,
        size: u64,
        options: &FileOptions,
    ) -> Result<Self> {
        let bytes = decompressed(path, reader, size, options)?;
        let text = Head::take(bytes).map_err(|e| unreadable(path, e))?;
        text.check(path, options.encoding)?;
        let text = Decoded::new(text.whole(), options.encoding);
        let text = Head::take(text).map_err(|e| unreadable(path, e))?;
        Ok(Self(Box::new(text.without_mark())))
    }
}

/// Opens bytes that may be compressed.
fn decompressed(
    path: &Path,
    reader: impl Read + Send + 'static,
    size: u64,
    options: &FileOptions,
) -> Result<Box<dyn Read + Send>> {
    let head = Head::take(reader).map_err(|e| unreadable(path, e))?;
    let begins_like = compression_of_content(&head.bytes);
    let bytes = BufReader::with_capacity(1 << 16, head.whole());
    let limited = |inner: Box<dyn Read + Send>| {
        let most = options.most_decompressed(size);
        Box::new(Limited {
            inner,
            most,
            read: 0,
        })
    };
    match options.compression_of(path) {
        Some(Compression::Gzip) => Ok(limited(Box::new(flate2::bufread::MultiGzDecoder::new(
            bytes,
        )))),
        Some(Compression::Zstd) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes);
            let decoder = decoder.map_err(|e| unreadable(path, e))?;
            Ok(limited(Box::new(decoder)))
        }
        Some(Compression::None) | None => match begins_like {
            None => Ok(Box::new(bytes)),
            Some(name) => Err(Error::invalid(format!(
                "{} is compressed; give the file a name that says so (.gz, .zst), or set \
                 `compression = \"{name}\"` in its source",
                path.display()
            ))),
        },
    }
}

/// Returns the name of the compression that a file begins like.
fn compression_of_content(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// The first bytes of a file, and the rest of it.
struct Head<R> {
    bytes: Vec<u8>,
    rest: R,
}

/// The number of bytes that tell how a file is compressed or encoded.
const HEAD_BYTES: u64 = 4;

const UTF8_MARK: &[u8] = "\u{feff}".as_bytes();
const UTF16LE_MARK: &[u8] = &[0xff, 0xfe];
const UTF16BE_MARK: &[u8] = &[0xfe, 0xff];
/// It begins like that of UTF-16, in which a zero character would follow.
const UTF32LE_MARK: &[u8] = &[0xff, 0xfe, 0, 0];
const UTF32BE_MARK: &[u8] = &[0, 0, 0xfe, 0xff];

impl<R: Read> Head<R> {
    fn take(mut rest: R) -> io::Result<Self> {
        let mut bytes = Vec::new();
        rest.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes)?;
        Ok(Self { bytes, rest })
    }

    /// Checks that the byte-order mark of a file, if it has one, is that of the encoding.
    fn check(&self, path: &Path, encoding: Encoding) -> Result<()> {
        let is_utf16 = |mark| self.bytes.starts_with(mark);
        let wrong = |message: &str| Err(Error::invalid(format!("{} {message}", path.display())));
        if self.bytes.starts_with(UTF32LE_MARK) || self.bytes.starts_with(UTF32BE_MARK) {
            return wrong(
                "is UTF-32 by its byte-order mark, which is not read; convert the file to UTF-8",
            );
        }
        match encoding {
            Encoding::Utf16 if !is_utf16(UTF16LE_MARK) && !is_utf16(UTF16BE_MARK) => wrong(
                "has no byte-order mark, so it does not say which kind of UTF-16 it is; set \
                 `encoding` of the source to utf-16le or utf-16be",
            ),
            Encoding::Utf16Le if is_utf16(UTF16BE_MARK) => wrong(
                "is UTF-16 with the high byte first; set `encoding = \"utf-16be\"` in the source",
            ),
            Encoding::Utf16Be if is_utf16(UTF16LE_MARK) => wrong(
                "is UTF-16 with the low byte first; set `encoding = \"utf-16le\"` in the source",
            ),
            Encoding::Utf8 if is_utf16(UTF16LE_MARK) || is_utf16(UTF16BE_MARK) => wrong(
                "is UTF-16 by its byte-order mark; convert the file to UTF-8, or set \
                 `encoding = \"utf-16\"` in its source",
            ),
            Encoding::Latin1 | Encoding::Windows1252 if self.bytes.starts_with(UTF8_MARK) => {
                wrong("is UTF-8 by its byte-order mark; leave `encoding` out of the source")
            }
            _ => Ok(()),
        }
    }

    fn whole(self) -> io::Chain<Cursor<Vec<u8>>, R> {
        Cursor::new(self.bytes).chain(self.rest)
    }

    /// The whole text, without the byte-order mark at its start.
    fn without_mark(mut self) -> io::Chain<Cursor<Vec<u8>>, R> {
        if self.bytes.starts_with(UTF8_MARK) {
            self.bytes.drain(..UTF8_MARK.len());
        }
        self.whole()
    }
}

/// Fails when more bytes come out of a compressed file than are allowed.
struct Limited<R> {
    inner: R,
    most: u64,
    read: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > self.most {
            return Err(io::Error::other(format!(
                "it decompresses to more than {} bytes; if that is right, set `max_decompressed` of \
                 the source to a larger size",
                self.most
            )));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(
        name: &str,
        content: &[u8],
        options: &FileOptions,
    ) -> std::result::Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        let mut input = TextInput::open(&path, file, options).map_err(|e| e.chain())?;
        let mut text = String::new();
        match input.read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(e) => Err(e.to_string()),
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn of_encoding(encoding: Encoding) -> FileOptions {
        FileOptions {
            encoding,
            ..FileOptions::default()
        }
    }

    #[test]
    fn text_of_every_encoding_is_read_as_utf8() {
        let text = "id,ä€😀\r\n";
        let le = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = format!("\u{feff}{text}");
        let files: [(Encoding, Vec<u8>); 8] = [
            (Encoding::Utf8, text.into()),
            (Encoding::Utf8, marked.clone().into()),
            (Encoding::Utf16, le(&marked)),
            (Encoding::Utf16, be(&marked)),
            (Encoding::Utf16Le, le(text)),
            (Encoding::Utf16Le, le(&marked)),
            (Encoding::Utf16Be, be(text)),
            (Encoding::Utf16Be, be(&marked)),
        ];
        for (encoding, content) in files {
            let options = of_encoding(encoding);
            assert_eq!(read("a.csv", &content, &options).as_deref(), Ok(text));
            assert_eq!(
                read("a.csv.gz", &gzip(&content), &options).as_deref(),
                Ok(text)
            );
        }
        let western = read(
            "a.csv",
            b"Troms\xf8 \x80",
            &of_encoding(Encoding::Windows1252),
        );
        assert_eq!(western.as_deref(), Ok("Tromsø €"));
        let latin = read("a.csv", b"Troms\xf8", &of_encoding(Encoding::Latin1));
        assert_eq!(latin.as_deref(), Ok("Tromsø"));
    }

    #[test]
    fn text_of_another_encoding_than_declared_is_refused() {
        for (encoding, content, wanted) in [
            (
                Encoding::Utf8,
                &b"\xff\xfea\0"[..],
                "set `encoding = \"utf-16\"`",
            ),
            (
                Encoding::Utf8,
                b"\xfe\xff\0a",
                "set `encoding = \"utf-16\"`",
            ),
            (
                Encoding::Utf8,
                b"\xff\xfe\0\0a\0\0\0",
                "is UTF-32 by its byte-order mark, which is not read; convert",
            ),
            (Encoding::Utf8, b"\0\0\xfe\xff\0\0\0a", "is UTF-32"),
            (Encoding::Utf16, b"\xff\xfe\0\0a\0\0\0", "is UTF-32"),
            (Encoding::Utf16, b"a\0b\0", "utf-16le or utf-16be"),
            (
                Encoding::Utf16Le,
                b"\xfe\xff\0a",
                "set `encoding = \"utf-16be\"`",
            ),
            (
                Encoding::Utf16Be,
                b"\xff\xfea\0",
                "set `encoding = \"utf-16le\"`",
            ),
            (Encoding::Latin1, b"\xef\xbb\xbfa", "leave `encoding` out"),
            (Encoding::Latin1, b"ab\x80", "byte 2 (0x80)"),
            (Encoding::Windows1252, b"ab\x81", "byte 2 (0x81)"),
            (Encoding::Utf16Le, b"a\0b", "ends within a character"),
            (Encoding::Utf16Le, b"a\0\x3d\xd8b\0", "byte 2"),
            (Encoding::Utf16Le, b"a\0\x00\xdeb\0", "byte 2"),
            (Encoding::Utf16Le, b"a\0\x3d\xd8", "ends within a character"),
        ] {
            let error = read("a.csv", content, &of_encoding(encoding)).unwrap_err();
            assert!(error.contains(wanted), "{encoding:?}: {error}");
        }
    }

    #[test]
    fn compressed_text_is_read_up_to_a_limit() {
        let text = "id,at\n".repeat(100_000);
        let default = FileOptions::default();
        let zstd = zstd::stream::encode_all(text.as_bytes(), 1).unwrap();
        let twice = [gzip(text.as_bytes()), gzip(text.as_bytes())].concat();
        assert_eq!(read("a.csv.zst", &zstd, &default).as_deref(), Ok(&*text));
        assert_eq!(read("a.csv.gz", &twice, &default), Ok(text.repeat(2)));
        let declared = FileOptions {
            compression: Some(Compression::Zstd),
            ..FileOptions::default()
        };
        assert_eq!(read("a.csv", &zstd, &declared).as_deref(), Ok(&*text));

        let error = read("a.csv", &zstd, &default).unwrap_err();
        assert!(error.contains("set `compression = \"zstd\"`"), "{error}");
        let error = read("a.csv", &gzip(b"a"), &default).unwrap_err();
        assert!(error.contains("set `compression = \"gzip\"`"), "{error}");
        assert!(read("a.csv.gz", text.as_bytes(), &default).is_err());
        assert!(read("a.csv.gz", &twice[..twice.len() - 9], &default).is_err());
        let small = FileOptions {
            max_decompressed: Some(599_999),
            ..FileOptions::default()
        };
        for (name, content) in [("a.csv.gz", &gzip(text.as_bytes())), ("a.csv.zst", &zstd)] {
            let error = read(name, content, &small).unwrap_err();
            assert!(error.contains("more than 599999 bytes"), "{error}");
        }
    }
}
