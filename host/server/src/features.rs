//! `POST /v1/views/{view}/features`: feature vectors of a view.
//!
//! The request is `{"rows":[{…}]}`, with the join keys and request fields of each row. The answer
//! is `{"rows":[{"features":{…},"status":{…},"event_timestamp":{…}}]}`, in the order of the
//! request.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_platform::{Platform, Vectors};

use crate::MAX_ROWS;
use crate::error::Failure;
use crate::extract::Path;
use crate::intake::{LARGE, Payload, charged};
use crate::limits::FoundCharge;
use crate::whole::{Length, WholeAnswer};

/// The number of rows that are encoded together. The answer to a request with more rows is sent
/// piece by piece.
const PIECE_ROWS: usize = 128;
/// The size in bytes from which on no further rows are encoded together with others.
const PIECE_BYTES: usize = 1 << 20;
/// The most memory, in bytes, that a value takes for each of its bytes while it is encoded: a
/// control character becomes six, and half of the memory of a text may be unused.
pub(crate) const ENCODED_BYTES: u64 = 14;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    rows: Vec<Json>,
}

/// Answers a request for feature vectors.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(view): Path<String>,
    payload: Payload,
) -> Result<Response, Failure> {
    payload.check_json()?;
    let request: Request = serde_json::from_slice(&payload.bytes)
        .map_err(|e| Failure::invalid(format!("the body is not {{\"rows\":[…]}}: {e}")))?;
    if request.rows.len() > MAX_ROWS {
        let message = format!(
            "{} rows are too many: a request has at most {MAX_ROWS}",
            request.rows.len()
        );
        return Err(Failure::invalid(message));
    }
    let (charge, memory) = payload.found();
    let serving = platform.serving();
    let vectors = serving
        .features_within(&view, &request.rows, memory)
        .await?;
    drop(request);
    answer(vectors, charge, &payload)
}

/// Returns the answer, which is encoded as it is sent unless it is short: the names of the features
/// are repeated for each row, so that the whole of it can be much larger than the vectors. These
/// are charged until all of it was sent, with the text that is being sent.
fn answer(vectors: Vectors, charge: FoundCharge, payload: &Payload) -> Result<Response, Failure> {
    let media_type = [(CONTENT_TYPE, "application/json")];
    let held = vectors.bytes() as u64;
    if vectors.len() <= PIECE_ROWS && (vectors.len() <= 1 || held <= PIECE_BYTES as u64) {
        let mut whole = WholeAnswer::new(payload.charge(0)?);
        if held > LARGE as u64 {
            charge.raise(held)?;
            if vectors.len() == 1 {
                encode_large(&vectors, &mut whole)?;
                return Ok((media_type, whole.into_response()).into_response());
            }
        }
        let mut next = 0;
        loop {
            let (text, end) = piece(vectors.rows().skip(next), next, vectors.len());
            whole.append_text(text)?;
            next = end;
            if next == vectors.len() {
                return Ok((media_type, whole.into_response()).into_response());
            }
        }
    }
    // A piece can have a whole row beyond its size.
    let rows = 0..vectors.len();
    let longest = rows.map(|row| vectors.row_bytes(row)).max().unwrap_or(0);
    charge.raise(held + 2 * PIECE_BYTES as u64 + ENCODED_BYTES * longest)?;
    let mut next = 0;
    let pieces = std::iter::from_fn(move || {
        if next == vectors.len() {
            return None;
        }
        let (text, end) = piece(vectors.rows().skip(next), next, vectors.len());
        next = end;
        Some(Ok::<Bytes, Infallible>(text.into()))
    });
    let body = Body::from_stream(stream::iter(pieces));
    Ok(charged((media_type, body).into_response(), charge))
}

/// Encodes the answer with a single row that is large. Its text is measured first, so that all of
/// its memory is charged before it is taken, and none is taken twice while it grows.
fn encode_large(vectors: &Vectors, whole: &mut WholeAnswer) -> Result<(), Failure> {
    let mut length = Length::default();
    encode_all(vectors.rows(), &mut length).expect("counting never fails");
    whole.reserve(length.0)?;
    match encode_all(vectors.rows(), whole) {
        Ok(()) => Ok(()),
        Err(error) => Err(whole
            .take_refused()
            .unwrap_or_else(|| Failure::busy(format!("the answer cannot be encoded: {error}")))),
    }
}

/// Encodes the answer with all rows.
fn encode_all<R: Serialize>(rows: impl Iterator<Item = R>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"rows\":[")?;
    for (number, row) in rows.enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &row)?;
    }
    out.write_all(b"]}")
}

/// Encodes the first of some rows, as many as are encoded together, with what comes before the
/// first row of the answer and after the last one. `rows` are those from number `start` on, of
/// `count` in all. Returns the text, and the number of the next row.
fn piece<R: Serialize>(
    rows: impl Iterator<Item = R>,
    start: usize,
    count: usize,
) -> (Vec<u8>, usize) {
    let mut text = match start {
        0 => b"{\"rows\":[".to_vec(),
        _ => b",".to_vec(),
    };
    let mut end = start;
    for row in rows.take(PIECE_ROWS) {
        if end > start {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &row).expect("vectors always serialise");
        end += 1;
        if text.len() >= PIECE_BYTES {
            break;
        }
    }
    if end == count {
        text.extend_from_slice(b"]}");
    }
    (text, end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Encodes an answer piece by piece.
    fn pieces(rows: &[Json]) -> Vec<String> {
        let (mut pieces, mut next) = (Vec::new(), 0);
        loop {
            let (text, end) = piece(rows.iter().skip(next), next, rows.len());
            pieces.push(String::from_utf8(text).unwrap());
            next = end;
            if next == rows.len() {
                return pieces;
            }
        }
    }

    #[test]
    fn pieces_are_the_answer_that_is_encoded_at_once() {
        for (count, wanted) in [(0, 1), (1, 1), (128, 1), (129, 2), (300, 3)] {
            let rows: Vec<Json> = (0..count).map(|number| json!({ "n": number })).collect();
            let pieces = pieces(&rows);
            assert_eq!(pieces.len(), wanted, "{count}");
            let mut at_once = Vec::new();
            encode_all(rows.iter(), &mut at_once).unwrap();
            assert_eq!(pieces.concat(), String::from_utf8(at_once).unwrap());
            let answer: Json = serde_json::from_str(&pieces.concat()).unwrap();
            assert_eq!(answer, json!({ "rows": rows }));
        }
    }

    #[test]
    fn a_piece_ends_with_the_row_that_makes_it_large() {
        let large = "x".repeat(PIECE_BYTES);
        let rows = [json!(1), json!(large), json!(2), json!(3)];
        let pieces = pieces(&rows);
        assert_eq!(pieces[0], format!("{{\"rows\":[1,\"{large}\""));
        assert_eq!(pieces[1..], [",2,3]}"]);
    }

    #[test]
    fn an_answer_is_measured_before_it_takes_memory() {
        let rows = [json!({"a": "\u{1}"}), json!(null)];
        let (mut length, mut text) = (Length::default(), Vec::<u8>::new());
        encode_all(rows.iter(), &mut length).unwrap();
        encode_all(rows.iter(), &mut text).unwrap();
        assert_eq!(length.0, text.len());
    }
}
