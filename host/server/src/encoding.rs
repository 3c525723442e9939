//! Bodies that are compressed: `Content-Encoding: gzip` or `zstd`.

use std::io::{self, BufRead, Read, Write};

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::read::MultiGzDecoder;
use wafer_core::bytes_text;
use zstd::stream::read::Decoder;

use crate::error::Failure;

/// The largest window of zstd that is decoded, as a power of two: 8 MiB, which every decoder must
/// support by RFC 8878.
const WINDOW_LOG: u32 = 23;
/// The size of the pieces in which a body is decoded.
const PIECE: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// Returns how the body of a request is compressed, or `None` if it is not.
    ///
    /// # Errors
    /// Returns status 415 for any other encoding, and for several at once.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        // A name that is not ASCII is one that nobody knows, and not none.
        let name = String::from_utf8_lossy(value.as_bytes());
        let name = name.trim().to_ascii_lowercase();
        match (name.as_str(), values.next()) {
            ("identity" | "", None) => Ok(None),
            ("gzip" | "x-gzip", None) => Ok(Some(Self::Gzip)),
            ("zstd", None) => Ok(Some(Self::Zstd)),
            (_, second) => {
                let several = if second.is_some() { ", …" } else { "" };
                Err(Failure::unsupported(format!(
                    "content encoding `{name}{several}`; send the body as it is, or in one of gzip and zstd"
                )))
            }
        }
    }

    /// Decompresses a body of at most `limit` bytes from `body` to `decoded`.
    ///
    /// # Errors
    /// Returns status 413 when there is more, 400 when the body cannot be decompressed, and 503
    /// when `decoded` cannot be written to.
    pub(crate) fn decode(
        self,
        body: impl BufRead,
        decoded: &mut impl Write,
        limit: u64,
    ) -> Result<(), Failure> {
        let name = match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        };
        let unreadable = |e: io::Error| {
            let message = format!("the body is not {name}, as content-encoding says: {e}");
            Failure::invalid(message)
        };
        match self {
            Self::Gzip => copy(MultiGzDecoder::new(body), decoded, limit, unreadable),
            Self::Zstd => {
                let mut decoder = Decoder::with_buffer(body).map_err(unreadable)?;
                decoder.window_log_max(WINDOW_LOG).map_err(unreadable)?;
                copy(decoder, decoded, limit, unreadable)
            }
        }
    }
}

/// Copies at most `limit` bytes.
fn copy(
    mut from: impl Read,
    to: &mut impl Write,
    limit: u64,
    unreadable: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut left = limit;
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        left = left.checked_sub(count as u64).ok_or_else(|| {
            let message = format!(
                "the body is larger than {} once it is decompressed; send it in parts",
                bytes_text(limit)
            );
            Failure::too_large(message)
        })?;
        to.write_all(&piece[..count])
            .map_err(|e| Failure::busy(format!("the decompressed body cannot be kept: {e}")))?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::{HeaderValue, StatusCode};
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_decompressed_within_a_limit() {
        let text = b"abcdefgh".repeat(100_000);
        let two_members = [gzip(&text[..5]), gzip(&text[5..])].concat();
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        let two_frames = [zstd(&text[..5]), zstd(&text[5..])].concat();
        for (encoding, body) in [
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Gzip, two_members),
            (Encoding::Zstd, zstd(&text)),
            (Encoding::Zstd, two_frames),
        ] {
            let decode = |body: &[u8], limit: usize| {
                let mut decoded = Vec::new();
                let result = encoding.decode(body, &mut decoded, limit as u64);
                result.map(|()| decoded).map_err(|failure| failure.status())
            };
            assert!(decode(&body, text.len()) == Ok(text.clone()));
            let too_large = Err(StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(decode(&body, text.len() - 1), too_large);
            let invalid = Err(StatusCode::BAD_REQUEST);
            assert_eq!(decode(&body[..body.len() - 1], text.len()), invalid);
            assert_eq!(decode(b"plain", text.len()), invalid);
        }
    }

    #[test]
    fn encodings_are_known_by_their_names() {
        for (values, wanted) in [
            ("", Some(None)),
            ("identity", Some(None)),
            ("gzip", Some(Some(Encoding::Gzip))),
            ("X-GZIP", Some(Some(Encoding::Gzip))),
            (" zstd ", Some(Some(Encoding::Zstd))),
            ("br", None),
            ("deflate", None),
            ("gzip, gzip", None),
            ("gzip|gzip", None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values.split('|') {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            let found = Encoding::of(&headers).map_err(|failure| failure.status());
            assert_eq!(
                found,
                wanted.ok_or(StatusCode::UNSUPPORTED_MEDIA_TYPE),
                "{values}"
            );
        }
        assert_eq!(Encoding::of(&HeaderMap::new()).unwrap(), None);
        let mut headers = HeaderMap::new();
        let not_ascii = HeaderValue::from_bytes(b"\xff").unwrap();
        headers.insert(CONTENT_ENCODING, not_ascii);
        let refused = Encoding::of(&headers).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
