//! Helpers that several fuzz targets share.

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use wafer_catalog::{Compression, Dialect, Encoding, FileOptions, Format};
use wafer_core::{DataType, DecimalReading, EpochUnit, Field, Reading};
use wafer_files::{ReadColumn, Rows, cell_text, file_format};

/// The formats that an input can have. Those that a library decodes are read by child processes,
/// because the panics of the library are not what is looked for.
const FORMATS: [Format; 5] = [
    Format::Csv,
    Format::Ndjson,
    Format::Parquet,
    Format::Arrow,
    Format::ArrowStream,
];

/// The bit of the first byte of an input that says that bytes follow which declare how the file and
/// its columns are written.
const DECLARES: u8 = 0x80;

/// What can be declared.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
const QUOTES: [Option<u8>; 4] = [Some(b'"'), Some(b'\''), Some(b'`'), None];
const HEADER: [&str; 3] = ["id", "at", "name"];
const NULLS: [&str; 2] = ["NA", "-"];
const ENCODINGS: [Encoding; 6] = [
    Encoding::Utf8,
    Encoding::Utf16,
    Encoding::Utf16Le,
    Encoding::Utf16Be,
    Encoding::Latin1,
    Encoding::Windows1252,
];
const COMPRESSIONS: [Option<Compression>; 4] = [
    None,
    Some(Compression::None),
    Some(Compression::Gzip),
    Some(Compression::Zstd),
];
const UNITS: [EpochUnit; 5] = [
    EpochUnit::Days,
    EpochUnit::Seconds,
    EpochUnit::Milliseconds,
    EpochUnit::Microseconds,
    EpochUnit::Nanoseconds,
];
const TIME_FORMATS: [&str; 6] = [
    "%d/%m/%Y %H:%M",
    "%Y%m%d",
    "%Y.%m%d%H%M%S.%f",
    "%d.%m.%y %I:%M%p",
    "%s",
    "%+",
];
const ZONES: [Option<&str>; 4] = [None, Some("UTC"), Some("Europe/Berlin"), Some("+05:30")];
const DECIMALS: [Option<DecimalReading>; 3] = [
    None,
    Some(DecimalReading::Float64),
    Some(DecimalReading::Text),
];

/// What is declared of a file and of each of its columns.
#[derive(Default)]
struct Declared {
    options: FileOptions,
    reading: Reading,
}

impl Declared {
    /// Chooses what is declared by bytes of an input.
    fn of([dialect, file, kind, time]: [u8; 4]) -> Self {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let mut options = FileOptions {
            dialect: Dialect {
                delimiter: pick(&DELIMITERS, dialect),
                quote: pick(&QUOTES, dialect >> 2),
            },
            encoding: pick(&ENCODINGS, file),
            compression: pick(&COMPRESSIONS, file / 6),
            max_decompressed: Some(1 << 20),
            ..FileOptions::default()
        };
        if dialect & 0x10 != 0 {
            options.header = Some(names(&HEADER));
        }
        if dialect & 0x20 != 0 {
            options.nulls = names(&NULLS);
        }
        let reading = Reading {
            unit: (time % 3 == 1).then(|| pick(&UNITS, kind)),
            format: (time % 3 == 2).then(|| parsed(pick(&TIME_FORMATS, kind))),
            zone: pick(&ZONES, time / 3).map(parsed),
            truncate: time / 12 % 2 == 1,
            decimal: pick(&DECIMALS, time / 24),
        };
        Self { options, reading }
    }
}

/// Returns the item that a byte chooses.
fn pick<T: Copy>(items: &[T], byte: u8) -> T {
    items[usize::from(byte) % items.len()]
}

/// Parses one of the texts above.
fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("it is valid")
}

/// The environment variable with the path of the `wafer` program, which decodes binary formats.
/// Without it, inputs are text formats.
const WAFER: &str = "WAFER";

/// Writes an input to a file, of the format that its first byte chooses, and reads it as is
/// declared. `columns` returns the columns to read of those that the file has.
pub fn read_file(input: &[u8], columns: impl FnOnce(Vec<Field>) -> Vec<Field>) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let (declared, content) = match rest.split_first_chunk() {
        Some((bytes, content)) if first & DECLARES != 0 => (Declared::of(*bytes), content),
        _ => (Declared::default(), rest),
    };
    with_file(first & !DECLARES, content, |format, path| {
        read(format, path, &declared, columns);
    });
}

/// Writes an input to a file of labels, and reads its columns with the types that are inferred. A
/// value of CSV is read as something that is written as the same text.
pub fn read_labels(input: &[u8]) {
    let Some((first, content)) = input.split_first() else {
        return;
    };
    let nothing = Declared::default();
    with_file(*first, content, |format, path| {
        let guessed = read(format, path, &nothing, |found| found);
        if format != Format::Csv {
            return;
        }
        let as_texts = |found: Vec<Field>| -> Vec<Field> {
            let names = found.into_iter().map(|field| field.name);
            names
                .map(|name| Field::new(name, DataType::Utf8, true))
                .collect()
        };
        let texts = read(format, path, &nothing, as_texts);
        assert_eq!(written(&guessed), written(&texts));
    });
}

/// Returns the line of each row, and its values as texts, with `None` for nulls.
fn written(chunks: &[Rows]) -> Vec<(u64, Vec<Option<String>>)> {
    let mut written = Vec::new();
    for rows in chunks {
        for (row, number) in rows.numbers.iter().enumerate() {
            let cells = rows.columns.iter();
            let cells = cells.map(|column| column.is_valid(row).then(|| cell_text(column, row)));
            written.push((*number, cells.collect()));
        }
    }
    written
}

/// Writes the content of a file, of the format that a byte chooses.
fn with_file(format: u8, content: &[u8], look: impl FnOnce(Format, &Path)) {
    let formats = match std::env::var_os(WAFER) {
        None => &FORMATS[..2],
        Some(program) => {
            wafer_files::decode_in_child(program.into(), vec!["decode-files".to_owned()]);
            &FORMATS[..]
        }
    };
    let format = pick(formats, format);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join(format!("input.{}", format.extension()));
    std::fs::write(&path, content).expect("a temporary file can be written");
    look(format, &path);
}

/// Reads some columns of a file, and returns the rows up to its end or to an error.
fn read(
    format: Format,
    path: &Path,
    Declared { options, reading }: &Declared,
    columns: impl FnOnce(Vec<Field>) -> Vec<Field>,
) -> Vec<Rows> {
    let has_types = format.has_types();
    let format = file_format(format);
    let open = || File::open(path).expect("the file was written");
    let Ok(schema) = format.schema(path, open(), options, &|_| None) else {
        return Vec::new();
    };
    let found = schema.fields().iter().map(|field| {
        let data_type = DataType::from_arrow(field.data_type());
        Field::new(field.name(), data_type, true)
    });
    let columns = columns(found.collect()).into_iter();
    let columns = columns.map(|field| ReadColumn {
        field,
        reading: reading.clone(),
    });
    let columns: Vec<ReadColumn> = columns.collect();
    let Ok(mut reader) = format.read(path, open(), options, &columns) else {
        return Vec::new();
    };
    let (mut last, mut all) = (None, Vec::new());
    while let Ok(Some(rows)) = reader.next() {
        for number in &rows.numbers {
            assert!(last < Some(*number), "row {number} after {last:?}");
            last = Some(*number);
        }
        for (column, wanted) in rows.columns.iter().zip(&columns) {
            column.to_data().validate_full().expect("columns are valid");
            assert_eq!(
                column.len() as u64 + rows.rejects.len() as u64,
                rows.seen,
                "{wanted:?}"
            );
            // Columns of binary formats are those of the file, whatever is asked for.
            if !has_types {
                assert_eq!(column.data_type(), &wanted.field.data_type.to_arrow());
                assert!(
                    wanted.field.nullable || column.null_count() == 0,
                    "{wanted:?}"
                );
            }
        }
        all.push(rows);
    }
    all
}
