//! Damaged and hostile Arrow and Parquet files: whatever is in them, reading ends with rows or with
//! an error, and this process goes on.
//!
//! Valid files of several types are changed thousands of times by a generator with a fixed seed
//! (`WAFER_TEST_SEED` chooses another, `WAFER_TEST_ROUNDS` another number of changes), and each is
//! read by the child processes that the programs of Wafer read with.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test with a harness of its own"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Float64Array,
    Int32Array, Int64Array, NullArray, RecordBatch, RecordBatchOptions, StringArray,
    StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use wafer_catalog::{FileOptions, Format};
use wafer_core::{DataType, Field};
use wafer_files::{ReadColumn, decode_in_child, decode_worker, file_format, this_program};
use wafer_store::{Kind, Result};

/// The argument with which this test starts itself as a child process.
const WORKER: &str = "decode-files";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        std::process::exit(decode_worker());
    }
    // What cargo passes on to choose tests does not concern the only one here, except that a list
    // of tests is asked for.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    decode_in_child(this_program().unwrap(), vec![WORKER.to_owned()]);
    valid_files_are_read_completely();
    lying_lengths_are_refused();
    values_that_become_large_are_read_in_small_chunks();
    values_that_become_too_large_together_are_refused();
    rows_that_are_too_large_are_refused_by_the_child();
    what_rows_refer_to_is_bounded();
    long_texts_of_views_are_sent_with_their_rows();
    rows_and_items_that_take_no_bytes_are_refused();
    changed_files_end_with_rows_or_an_error();
    println!("hostile: all tests passed");
}

/// The formats whose bytes a library decodes.
const FORMATS: [Format; 3] = [Format::Parquet, Format::Arrow, Format::ArrowStream];

fn valid_files_are_read_completely() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        for batch in batches() {
            let path = written(folder.path(), format, &batch);
            assert_eq!(read(format, &path).unwrap(), batch.num_rows(), "{format:?}");
        }
    }
}

fn lying_lengths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.arrows");
    let refused = |bytes: &[u8], words: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = read(Format::ArrowStream, &path).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(words), "{error}");
    };
    // The length of the metadata of a message, of a stream and of an old one.
    refused(
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        "past the end of the file",
    );
    refused(b"\xff\xff\xff\x7f\0\0\0\0", "past the end of the file");
    refused(
        b"\xff\xff\xff\xff\x10\0\0\0\0\0\0\0",
        "past the end of the file",
    );
    // A file that does not end with a footer.
    refused(
        b"ARROW1\0\0\xff\xff\xff\x7fARROW1",
        "past the end of the file",
    );
    refused(b"ARROW1\0\0", "has no end");
    // The length of the body of the first batch, wherever it is in the metadata.
    let stream = written(folder.path(), Format::ArrowStream, &batches()[0]);
    let bytes = std::fs::read(stream).unwrap();
    let lies = (0..bytes.len() - 8).step_by(8).filter(|place| {
        let mut changed = bytes.clone();
        changed[*place..place + 8].copy_from_slice(&(1_i64 << 60).to_le_bytes());
        std::fs::write(&path, changed).unwrap();
        let error = read(Format::ArrowStream, &path).err();
        error.is_some_and(|error| error.to_string().contains("past the end of the file"))
    });
    assert!(lies.count() > 0, "no length of a body was found");
}

/// A dictionary has a long text once, and 8,192 rows refer to it.
fn values_that_become_large_are_read_in_small_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    let mut texts = StringDictionaryBuilder::<Int32Type>::new();
    (0..20_000).for_each(|_| texts.append_value(&long));
    let batch = batch(vec![Arc::new(texts.finish())]);
    let path = written(folder.path(), Format::ArrowStream, &batch);
    let mut reader = open(Format::ArrowStream, &path).unwrap();
    let mut rows = 0;
    while let Some(chunk) = reader.next().unwrap() {
        assert!(chunk.numbers.len() <= 64, "{}", chunk.numbers.len());
        assert_eq!(chunk.numbers[0], rows);
        rows += chunk.seen;
    }
    assert_eq!(rows, 20_000);
}

/// A file of some kilobytes has a long text once, and its rows would become gigabytes.
fn values_that_become_too_large_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(64 << 20)]));
    let keys = Int32Array::from(vec![0; 250]);
    let texts = DictionaryArray::<Int32Type>::new(keys, texts);
    let stream = compressed(CompressionType::ZSTD, &batch(vec![Arc::new(texts)]));
    assert!(stream.len() < 100_000, "{}", stream.len());
    let path = folder.path().join("in.arrows");
    std::fs::write(&path, stream).unwrap();
    let error = read(Format::ArrowStream, &path).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let wanted = "its values take 16000 MiB or more when each is written out";
    assert!(error.to_string().contains(wanted), "{error}");
}

/// Reads a file whose rows may take a mebibyte, and returns the error.
fn read_small_rows(format: Format, path: &Path) -> String {
    let options = FileOptions {
        row_bytes: Some(1 << 20),
        ..FileOptions::default()
    };
    let opened = || File::open(path).unwrap();
    let format = file_format(format);
    let schema = format.schema(path, opened(), &options, &|_| None).unwrap();
    let columns = schema.fields().iter().map(|field| {
        let data_type = DataType::from_arrow(field.data_type());
        ReadColumn::from(Field::new(field.name(), data_type, true))
    });
    let columns: Vec<ReadColumn> = columns.collect();
    let mut reader = format.read(path, opened(), &options, &columns).unwrap();
    loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => return String::new(),
            Err(error) => return error.to_string(),
        }
    }
}

/// The row is refused where it was decoded, before it is sent.
fn rows_that_are_too_large_are_refused_by_the_child() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let texts = vec!["x".repeat(1 << 19), "x".repeat(60 << 20)];
        let batch = batch(vec![Arc::new(StringArray::from(texts))]);
        let path = written(folder.path(), format, &batch);
        let refused = read_small_rows(format, &path);
        assert!(refused.contains("row 1: its values take"), "{refused}");
        let path = written(folder.path(), format, &batch.slice(0, 1));
        assert_eq!(read_small_rows(format, &path), "");
    }
}

/// A few rows bring with them the dictionary of all. It is small in the file, because it is
/// compressed.
fn what_rows_refer_to_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = StringDictionaryBuilder::<Int32Type>::new();
    for row in 0..60 {
        texts.append_value(format!("{row}{}", "x".repeat(1 << 19)));
    }
    let batch = batch(vec![Arc::new(texts.finish())]);
    let path = written(folder.path(), Format::Parquet, &batch);
    assert!(std::fs::metadata(&path).unwrap().len() < 4 << 20);
    let refused = read_small_rows(Format::Parquet, &path);
    assert!(
        refused.contains("the next rows refer to takes"),
        "{refused}"
    );
    assert_eq!(read(Format::Parquet, &path).unwrap(), 60);
}

/// Rows refer to long texts through views. A part of them does not bring the texts of all.
fn long_texts_of_views_are_sent_with_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let texts = (0..200).map(|row| Some(format!("{row}{}", "x".repeat(1 << 18))));
    let texts: StringViewArray = texts.collect();
    let batch = batch(vec![Arc::new(texts)]);
    let path = written(folder.path(), Format::Parquet, &batch);
    assert_eq!(read_small_rows(Format::Parquet, &path), "");
}

/// Nulls, rows without columns and runs of one value are in a file of a few hundred bytes, however
/// many there are.
fn rows_and_items_that_take_no_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |format: Format, path: &Path, words: &str| {
        assert!(std::fs::metadata(path).unwrap().len() < 2_000);
        let error = read(format, path).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(words), "{error}");
    };
    let path = folder.path().join("in.arrows");
    let no_columns = RecordBatchOptions::new().with_row_count(Some(1 << 40));
    let no_columns =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &no_columns);
    let item = Arc::new(ArrowField::new("item", ArrowType::Null, true));
    let nulls = Arc::new(NullArray::new(1 << 30));
    let list = FixedSizeListArray::new(item, 1 << 30, nulls, None);
    for (batch, words) in [
        (
            batch(vec![Arc::new(NullArray::new(1 << 40))]),
            "rows are read",
        ),
        (no_columns.unwrap(), "rows are read"),
        (batch(vec![Arc::new(list)]), "its values take"),
    ] {
        let file = File::create(&path).unwrap();
        let mut writer = StreamWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        refused(Format::ArrowStream, &path, words);
    }
    // One page with a run of millions of rows.
    let path = folder.path().join("in.parquet");
    let run = batch(vec![Arc::new(Int64Array::from(vec![7; 4_000_000]))]);
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(usize::MAX)
        .set_max_row_group_row_count(None)
        .build();
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, run.schema(), Some(properties)).unwrap();
    writer.write(&run).unwrap();
    writer.close().unwrap();
    refused(Format::Parquet, &path, "has 4000000 rows or more in");
}

fn changed_files_end_with_rows_or_an_error() {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().unwrap())
    };
    let seed = number("WAFER_TEST_SEED", 14);
    let rounds = number("WAFER_TEST_ROUNDS", 3_000);
    println!("hostile: WAFER_TEST_SEED={seed} WAFER_TEST_ROUNDS={rounds}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for format in FORMATS {
        for batch in batches() {
            let path = written(folder.path(), format, &batch);
            files.push((format, std::fs::read(path).unwrap()));
        }
    }
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let streams = batches().into_iter().map(|batch| compressed(codec, &batch));
        files.extend(streams.map(|stream| (Format::ArrowStream, stream)));
    }
    let (mut errors, path) = (0, folder.path().join("changed"));
    for _ in 0..rounds {
        let (format, bytes) = &files[random.below(files.len())];
        std::fs::write(&path, changed(bytes, &mut random)).unwrap();
        if let Err(error) = read(*format, &path) {
            assert_eq!(error.kind(), Kind::Invalid, "{}", error.chain());
            errors += 1;
        }
    }
    println!("hostile: {errors} of {rounds} changed files were refused");
    assert!(errors > 0, "no change did any harm");
}

/// Changes some bytes, numbers or the length of a file.
fn changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let place = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[place] ^= 1 << random.below(8),
            1 => bytes[place] = random.next() as u8,
            2 => overwrite(&mut bytes, place, &(random.next() as u32).to_le_bytes()),
            3 => overwrite(&mut bytes, place, &u32::MAX.to_le_bytes()),
            4 => {
                let large = 1_i64 << random.below(63);
                overwrite(&mut bytes, place / 8 * 8, &large.to_le_bytes());
            }
            _ => bytes.truncate(place.max(1)),
        }
    }
    bytes
}

fn overwrite(bytes: &mut [u8], place: usize, with: &[u8]) {
    let end = bytes.len().min(place + with.len());
    bytes[place..end].copy_from_slice(&with[..end - place]);
}

/// Reads all columns of a file, and returns the number of its rows.
fn read(format: Format, path: &Path) -> Result<usize> {
    let mut reader = open(format, path)?;
    let mut rows = 0;
    while let Some(chunk) = reader.next()? {
        rows += chunk.numbers.len();
    }
    Ok(rows)
}

fn open(format: Format, path: &Path) -> Result<Box<dyn wafer_files::RowReader>> {
    let format = file_format(format);
    let options = FileOptions::default();
    let schema = format.schema(path, File::open(path).unwrap(), &options, &|_| None)?;
    format.count_rows(File::open(path).unwrap());
    let columns = schema.fields().iter().map(|field| {
        let data_type = DataType::from_arrow(field.data_type());
        ReadColumn::from(Field::new(field.name(), data_type, true))
    });
    let columns: Vec<ReadColumn> = columns.collect();
    format.read(path, File::open(path).unwrap(), &options, &columns)
}

fn written(folder: &Path, format: Format, batch: &RecordBatch) -> PathBuf {
    let path = folder.join(format!("valid.{}", format.extension()));
    let mut output = wafer_files::OutputFile::create(&path, &batch.schema()).unwrap();
    output.write(batch).unwrap();
    output.close().unwrap();
    path
}

/// The bytes of a stream whose buffers are compressed.
fn compressed(codec: CompressionType, batch: &RecordBatch) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(Some(codec));
    let writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options.unwrap());
    let mut writer = writer.unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let columns = columns.into_iter().enumerate();
    let columns = columns.map(|(index, column)| (format!("c{index}"), column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Columns of many types, as one file of few rows and one of more rows than a chunk has.
fn batches() -> Vec<RecordBatch> {
    [7, 9_000].map(columns).into_iter().map(batch).collect()
}

fn columns(rows: usize) -> Vec<ArrayRef> {
    let some = |row: usize| (row % 5 != 3).then_some(row);
    let text = |row: usize| some(row).map(|row| format!("text {}", row % 100));
    let mut lists = ListBuilder::new(arrow_array::builder::Int64Builder::new());
    let mut names = StringDictionaryBuilder::<Int32Type>::new();
    for row in 0..rows {
        lists.append_value((0..row % 4).map(|item| Some(item as i64)));
        names.append_option(text(row));
    }
    let numbers: ArrayRef = Arc::new(
        (0..rows)
            .map(|row| some(row).map(|n| n as i64))
            .collect::<Int64Array>(),
    );
    let decimals = (0..rows).map(|row| some(row).map(|n| n as i128 * 100));
    let decimals = decimals.collect::<Decimal128Array>();
    let times = (0..rows).map(|row| row as i64 * 1_000_000);
    let field = Arc::new(ArrowField::new("n", ArrowType::Int64, true));
    vec![
        Arc::clone(&numbers),
        Arc::new(
            (0..rows)
                .map(|row| some(row).map(|n| n as f64 / 7.0))
                .collect::<Float64Array>(),
        ),
        Arc::new(
            (0..rows)
                .map(|row| some(row).map(|n| n % 2 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new((0..rows).map(text).collect::<StringArray>()),
        Arc::new((0..rows).map(text).collect::<StringViewArray>()),
        Arc::new(names.finish()),
        Arc::new(lists.finish()),
        Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(StructArray::from(vec![(field, numbers)])),
        Arc::new(NullArray::new(rows)),
    ]
}

/// A generator of numbers (splitmix64), which are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
