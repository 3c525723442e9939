//! Arrow IPC files and streams, which are told apart by their content, whatever the extension of a
//! file is.
//!
//! Every message of the format says how long it and its body are, and the library allocates that
//! much before it reads. So all lengths are compared with the size of the file first. Buffers may
//! be compressed, and say how long they are when they are decompressed: those of one message, which
//! are decompressed together, are compared with the memory that the child process has. A buffer of
//! Zstandard does not become longer than it says; one of LZ4 may, until that memory ends it.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::{
    Block, Buffer, Message, RecordBatch as BatchHeader, root_as_footer, root_as_message,
};
use arrow_schema::{ArrowError, SchemaRef};
use wafer_store::{Error, Result};

use super::worker::decompressed_limit;
use super::{Decoded, DecodedBatch, Projection, Request, check_width, damaged, metadata_only};
use crate::unreadable;

/// What an Arrow IPC file begins and ends with. A stream has no such mark.
const MAGIC: &[u8; 6] = b"ARROW1";
/// What is at the end of a file: the length of the footer, and the mark.
const END_BYTES: u64 = 10;
/// What the length of a message follows, except in old streams.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// What a compressed buffer begins with: its length when it is decompressed, or that it is not
/// compressed.
const LENGTH_BYTES: u64 = 8;
const NOT_COMPRESSED: i64 = -1;

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
        Wrong::TooLarge { start, bytes } => Error::invalid(format!(
            "{} cannot be read: at byte {start}, the buffers of a message take {bytes} bytes when \
             they are decompressed, and at most {} may be taken for a file of this size: write it \
             in batches of fewer rows, or without compression",
            request.path,
            decompressed_limit(size)
        )),
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
        projection.apply(&request, &batch).map(DecodedBatch::from)
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
    /// The message at the byte `start` would take so many bytes when it is decompressed.
    TooLarge {
        start: u64,
        bytes: u64,
    },
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
        let message = root_as_message(&metadata).map_err(|e| {
            Wrong::Content(format!("there is no Arrow message at byte {start}: {e}"))
        })?;
        let body = message.bodyLength();
        let length = fits(start, "the body of a message", body, size - at)?;
        check_compressed(file.get_ref(), message, Body { start, at, length }, size)?;
        at += length;
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
    file.by_ref().take(length).read_to_end(&mut footer)?;
    let footer = root_as_footer(&footer)
        .map_err(|e| Wrong::Content(format!("its footer is not that of an Arrow file: {e}")))?;
    let blocks = [footer.dictionaries(), footer.recordBatches()];
    let mut left = size;
    for block in blocks.iter().flatten().flat_map(|blocks| blocks.iter()) {
        let bytes = check_block(file.get_ref(), block, size)?;
        // Blocks do not overlap. Without this, a small file could have any number of large ones.
        left = left.checked_sub(bytes).ok_or_else(|| {
            Wrong::Content("its blocks are larger together than the file".to_owned())
        })?;
    }
    Ok(())
}

/// Checks the lengths of a block, and returns how many bytes it has.
fn check_block(file: &File, block: &Block, size: u64) -> Result<u64, Wrong> {
    let start = fits(0, "the place of a block", block.offset(), size)?;
    let metadata = i64::from(block.metaDataLength());
    let metadata = fits(start, "the metadata of a block", metadata, size - start)?;
    let at = start + metadata;
    let length = fits(start, "the body of a block", block.bodyLength(), size - at)?;
    let bytes = block_metadata(file, start, metadata)?;
    let message = root_as_message(&bytes)
        .map_err(|e| Wrong::Content(format!("there is no Arrow message at byte {start}: {e}")))?;
    check_compressed(file, message, Body { start, at, length }, size)?;
    Ok(metadata + length)
}

/// Reads the metadata of a block without the length that is before it.
fn block_metadata(file: &File, start: u64, length: u64) -> Result<Vec<u8>, Wrong> {
    let mut prefix = [0; 4];
    let too_short = || Wrong::Content(format!("at byte {start}, a block has no metadata"));
    if length < prefix.len() as u64 {
        return Err(too_short());
    }
    file.read_exact_at(&mut prefix, start)?;
    let before = match prefix == CONTINUATION {
        true => 8,
        false => 4,
    };
    let length = length.checked_sub(before).ok_or_else(too_short)?;
    let mut metadata = vec![0; length as usize];
    file.read_exact_at(&mut metadata, start + before)?;
    Ok(metadata)
}

/// Where the body of a message is.
#[derive(Clone, Copy)]
struct Body {
    /// The start of the message, for errors.
    start: u64,
    at: u64,
    length: u64,
}

/// Compares the lengths that the buffers of a message have when they are decompressed with the
/// memory for a file of this size.
fn check_compressed(file: &File, message: Message<'_>, body: Body, size: u64) -> Result<(), Wrong> {
    let dictionary = message.header_as_dictionary_batch();
    let batch = message.header_as_record_batch();
    let Some(batch) = batch.or_else(|| dictionary?.data()) else {
        return Ok(());
    };
    if batch.compression().is_none() {
        return Ok(());
    }
    let bytes = decompressed_bytes(file, batch, body)?;
    match bytes > decompressed_limit(size) {
        true => Err(Wrong::TooLarge {
            start: body.start,
            bytes,
        }),
        false => Ok(()),
    }
}

/// Returns how many bytes the compressed buffers of a batch have together when they are
/// decompressed, by what each of them says. Several of them may be in the same place.
fn decompressed_bytes(file: &File, batch: BatchHeader<'_>, body: Body) -> Result<u64, Wrong> {
    let start = body.start;
    let mut bytes = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let (place, length) = within(buffer, body.length).ok_or_else(|| {
            Wrong::Content(format!(
                "at byte {start}, a buffer is not within its message"
            ))
        })?;
        // An empty buffer has no length before it.
        if length == 0 {
            continue;
        }
        if length < LENGTH_BYTES {
            let what = format!("at byte {start}, a compressed buffer has only {length} bytes");
            return Err(Wrong::Content(what));
        }
        let mut declared = [0; LENGTH_BYTES as usize];
        file.read_exact_at(&mut declared, body.at + place)?;
        let declared = i64::from_le_bytes(declared);
        match u64::try_from(declared) {
            Ok(declared) => bytes = bytes.saturating_add(declared),
            Err(_) if declared == NOT_COMPRESSED => {}
            Err(_) => {
                let what = format!("at byte {start}, a buffer has a length of {declared} bytes");
                return Err(Wrong::Content(what));
            }
        }
    }
    Ok(bytes)
}

/// Returns the place and the length of a buffer in a body, or `None` if it goes past its end.
fn within(buffer: &Buffer, body: u64) -> Option<(u64, u64)> {
    let place = u64::try_from(buffer.offset()).ok()?;
    let length = u64::try_from(buffer.length()).ok()?;
    (place.checked_add(length)? <= body).then_some((place, length))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    use wafer_catalog::{Format, MAX_ROW_BYTES};
    use wafer_core::{DataType, Field};
    use wafer_store::Kind;

    use super::*;
    use crate::ReadColumn;
    use crate::plain_size::PIECE_BYTES;

    const CODECS: [CompressionType; 2] = [CompressionType::LZ4_FRAME, CompressionType::ZSTD];
    const FORMATS: [Format; 2] = [Format::Arrow, Format::ArrowStream];
    const ROWS: i64 = 5_000;

    fn numbers() -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| row % 7)))
    }

    /// The bytes of a file of a batch.
    fn written(format: Format, codec: Option<CompressionType>, batch: &RecordBatch) -> Vec<u8> {
        let options = IpcWriteOptions::default()
            .try_with_compression(codec)
            .unwrap();
        let (schema, bytes) = (batch.schema(), Vec::new());
        match format {
            Format::Arrow => {
                let writer = FileWriter::try_new_with_options(bytes, &schema, options);
                let mut writer = writer.unwrap();
                writer.write(batch).unwrap();
                writer.into_inner().unwrap()
            }
            _ => {
                let writer = StreamWriter::try_new_with_options(bytes, &schema, options);
                let mut writer = writer.unwrap();
                writer.write(batch).unwrap();
                writer.into_inner().unwrap()
            }
        }
    }

    /// Reads some columns of a file.
    fn read(bytes: &[u8], names: &[&str]) -> Result<Vec<RecordBatch>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.arrow");
        std::fs::write(&path, bytes).unwrap();
        let column = |name: &&str| ReadColumn::from(Field::new(*name, DataType::Utf8, true));
        let request = Request {
            format: Format::Arrow,
            path: "in.arrow".to_owned(),
            columns: Some(names.iter().map(column).collect()),
            piece_bytes: PIECE_BYTES,
            row_bytes: MAX_ROW_BYTES,
        };
        let decoded = request.open_here(opened(&path))?;
        decoded.batches.map(|batch| Ok(batch?.rows)).collect()
    }

    fn opened(path: &Path) -> File {
        File::open(path).unwrap()
    }

    #[test]
    fn compressed_files_and_streams_have_the_rows_that_were_written() {
        let texts = (0..ROWS).map(|row| (row % 3 != 0).then(|| format!("text {}", row % 10)));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let words = (0..ROWS).map(|row| Some(["one", "two", "three"][row as usize % 3]));
        let words: ArrayRef = Arc::new(words.collect::<DictionaryArray<Int32Type>>());
        let names = ["n", "texts", "words"];
        let columns = names.into_iter().zip([numbers(), texts, words]);
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for format in FORMATS {
            let plain = written(format, None, &batch);
            for codec in CODECS {
                let bytes = written(format, Some(codec), &batch);
                assert!(bytes.len() < plain.len(), "{format:?} {codec:?}");
                // A single value is longer when it is compressed, so that it is not.
                for batch in [&batch, &batch.slice(0, 1), &batch.slice(0, 0)] {
                    let found = read(&written(format, Some(codec), batch), &names).unwrap();
                    assert_eq!(found.len(), 1, "{format:?} {codec:?}");
                    assert_eq!(found[0].columns(), batch.columns(), "{format:?} {codec:?}");
                }
            }
        }
    }

    #[test]
    fn lengths_of_decompressed_buffers_are_checked_before_memory_is_taken() {
        let names = ["a", "b", "c", "d"];
        let batch = RecordBatch::try_from_iter(names.map(|name| (name, numbers()))).unwrap();
        let length = (8 * ROWS).to_le_bytes();
        for (format, codec) in FORMATS.into_iter().flat_map(|f| CODECS.map(|c| (f, c))) {
            let bytes = written(format, Some(codec), &batch);
            let places = bytes.windows(8).enumerate();
            let places = places.filter(|(_, found)| *found == &length[..]);
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            assert_eq!(places.len(), names.len(), "{format:?} {codec:?}");
            let limit = decompressed_limit(bytes.len() as u64) as i64;
            for (declared, wanted) in [
                (i64::MAX, "may be taken for a file of this size"),
                // Each of the buffers could be decompressed, and all of them could not.
                (limit / 4 + 1, "may be taken for a file of this size"),
                (-2, "a buffer has a length of -2 bytes"),
                // The library finds these.
                (8, "cannot be read"),
                (-1, "cannot be read"),
            ] {
                let mut bytes = bytes.clone();
                for place in &places {
                    bytes[*place..place + 8].copy_from_slice(&declared.to_le_bytes());
                }
                let error = read(&bytes, &names).unwrap_err();
                let place = format!("{format:?} {codec:?} {declared}: {error}");
                assert_eq!(error.kind(), Kind::Invalid, "{place}");
                assert!(error.to_string().contains(wanted), "{place}");
            }
        }
    }

    #[test]
    fn blocks_that_are_larger_together_than_the_file_are_refused() {
        let batch = RecordBatch::try_from_iter([("n", numbers())]).unwrap();
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        let mut bytes = writer.into_inner().unwrap();
        let end = bytes.len() - END_BYTES as usize;
        let length = i32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
        let footer = bytes[end - length as usize..end].to_vec();
        let block = *root_as_footer(&footer)
            .unwrap()
            .recordBatches()
            .unwrap()
            .get(0);
        let place = bytes.windows(24).position(|found| found == &block.0[..]);
        let place = place.unwrap();
        // The body of the first block goes up to the end of the file.
        let before = block.offset() + i64::from(block.metaDataLength());
        let body = bytes.len() as i64 - before;
        bytes[place + 16..place + 24].copy_from_slice(&body.to_le_bytes());
        let error = read(&bytes, &["n"]).unwrap_err().to_string();
        assert!(error.contains("larger together than the file"), "{error}");
    }
}
