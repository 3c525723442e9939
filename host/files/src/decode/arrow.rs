//! Arrow IPC files and streams, which are told apart by their content, whatever the extension of a
//! file is.
//!
//! Every message of the format says how long it and its body are, and the library allocates that
//! much before it reads. So all lengths are compared with the size of the file first.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::{Block, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};
use wafer_store::Result;

use super::{Batch, Decoded, Projection, Request, check_width, damaged, metadata_only};
use crate::unreadable;

/// What an Arrow IPC file begins and ends with. A stream has no such mark.
const MAGIC: &[u8; 6] = b"ARROW1";
/// What is at the end of a file: the length of the footer, and the mark.
const END_BYTES: u64 = 10;
/// What the length of a message follows, except in old streams.
const CONTINUATION: [u8; 4] = [0xff; 4];

type Reader = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>;

/// Opens an Arrow IPC file or stream.
pub(super) fn open(request: &Request, file: File) -> Result<Decoded> {
    let path = request.path();
    let size = file.metadata().map_err(|e| unreadable(path, e))?.len();
    let mut file = BufReader::new(file);
    let is_file = begins_with_magic(&mut file).map_err(|e| unreadable(path, e))?;
    let checked = match is_file {
        true => check_blocks(&mut file, size),
        false => check_messages(&mut file, size),
    };
    checked.map_err(|wrong| match wrong {
        Wrong::Io(error) => unreadable(path, error),
        Wrong::Content(what) => damaged(request, &what),
    })?;
    let (schema, reader) = reader(file, is_file).map_err(|e| unreadable(path, e))?;
    check_width(request, &schema)?;
    let Some(columns) = &request.columns else {
        return Ok(metadata_only(schema, None));
    };
    let projection = Projection::new(request, &schema, columns)?;
    let schema = Arc::clone(&projection.schema);
    let request = request.clone();
    let batches = reader.map(move |batch| {
        let batch = batch.map_err(|e| unreadable(request.path(), e))?;
        projection.apply(&request, &batch).map(Batch::from)
    });
    Ok(Decoded {
        schema,
        rows: None,
        batches: Box::new(batches),
    })
}

/// Returns the schema and the batches of a file, whose lengths were checked.
fn reader(
    mut file: BufReader<File>,
    is_file: bool,
) -> std::result::Result<(SchemaRef, Reader), ArrowError> {
    file.rewind()?;
    if is_file {
        let reader = FileReader::try_new(file, None)?;
        return Ok((reader.schema(), Box::new(reader)));
    }
    let reader = StreamReader::try_new(file, None)?;
    Ok((reader.schema(), Box::new(reader)))
}

/// Why the lengths of a file could not be checked.
enum Wrong {
    Io(std::io::Error),
    /// Says what does not fit.
    Content(String),
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn begins_with_magic(file: &mut BufReader<File>) -> std::io::Result<bool> {
    file.rewind()?;
    let mut start = Vec::new();
    let mut first = file.by_ref().take(MAGIC.len() as u64);
    first.read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == MAGIC)
}

/// Compares the lengths that a stream records with its size. A stream may end anywhere between two
/// messages; what is missing within one is an error.
fn check_messages(file: &mut BufReader<File>, size: u64) -> Result<(), Wrong> {
    let mut at = 0;
    loop {
        let start = at;
        if size - at < 4 {
            return Ok(());
        }
        let mut prefix = [0; 4];
        file.read_exact(&mut prefix)?;
        at += 4;
        if prefix == CONTINUATION {
            if size - at < 4 {
                return Ok(());
            }
            file.read_exact(&mut prefix)?;
            at += 4;
        }
        let length = u32::from_le_bytes(prefix);
        if length == 0 {
            return Ok(());
        }
        fits(
            start,
            "the metadata of a message",
            i64::from(length),
            size - at,
        )?;
        let mut metadata = vec![0; length as usize];
        file.read_exact(&mut metadata)?;
        at += u64::from(length);
        let message = root_as_message(&metadata)
            .map_err(|e| Wrong::Content(format!("at byte {start} is no Arrow message: {e}")))?;
        let body = message.bodyLength();
        at += fits(start, "the body of a message", body, size - at)?;
        file.seek(SeekFrom::Start(at))?;
    }
}

/// Compares the lengths and places that the footer of a file records with the size of the file.
fn check_blocks(file: &mut BufReader<File>, size: u64) -> Result<(), Wrong> {
    let incomplete =
        || Wrong::Content("it has no end, so it was not written completely".to_owned());
    let Some(end) = size.checked_sub(END_BYTES) else {
        return Err(incomplete());
    };
    let mut last = [0; END_BYTES as usize];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut last)?;
    let (length, magic) = last.split_at(4);
    if magic != MAGIC {
        return Err(incomplete());
    }
    let length = i32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    let length = fits(end, "the footer", i64::from(length), end)?;
    let mut footer = Vec::new();
    file.seek(SeekFrom::Start(end - length))?;
    file.take(length).read_to_end(&mut footer)?;
    let footer = root_as_footer(&footer)
        .map_err(|e| Wrong::Content(format!("its footer is no Arrow footer: {e}")))?;
    let blocks = [footer.dictionaries(), footer.recordBatches()];
    for block in blocks.iter().flatten().flat_map(|blocks| blocks.iter()) {
        check_block(block, size)?;
    }
    Ok(())
}

fn check_block(block: &Block, size: u64) -> Result<(), Wrong> {
    let start = fits(0, "the place of a block", block.offset(), size)?;
    let metadata = i64::from(block.metaDataLength());
    let metadata = fits(start, "the metadata of a block", metadata, size - start)?;
    let rest = size - start - metadata;
    fits(start, "the body of a block", block.bodyLength(), rest).map(drop)
}

/// Returns a length, or an error if it is negative or greater than what is left of the file.
fn fits(start: u64, what: &str, length: i64, left: u64) -> Result<u64, Wrong> {
    let length = u64::try_from(length).ok().filter(|length| *length <= left);
    length.ok_or_else(|| {
        Wrong::Content(format!(
            "at byte {start}, {what} goes past the end of the file"
        ))
    })
}
