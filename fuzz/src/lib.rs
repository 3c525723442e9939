//! Helpers that several fuzz targets share.

use std::fs::File;
use std::path::Path;

use wafer_catalog::{FileOptions, Format};
use wafer_core::{DataType, Field};
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

/// The environment variable with the path of the `wafer` program, which decodes binary formats.
/// Without it, inputs are text formats.
const WAFER: &str = "WAFER";

/// Writes an input to a file, of the format that its first byte chooses, and reads it. `columns`
/// returns the columns to read of those that the file has.
pub fn read_file(input: &[u8], columns: impl FnOnce(Vec<Field>) -> Vec<Field>) {
    with_file(input, |format, path| {
        read(format, path, columns);
    });
}

/// Writes an input to a file of labels, and reads its columns with the types that are inferred. A
/// value of CSV is read as something that is written as the same text.
pub fn read_labels(input: &[u8]) {
    with_file(input, |format, path| {
        let guessed = read(format, path, |found| found);
        if format != Format::Csv {
            return;
        }
        let as_texts = |found: Vec<Field>| -> Vec<Field> {
            let names = found.into_iter().map(|field| field.name);
            names
                .map(|name| Field::new(name, DataType::Utf8, true))
                .collect()
        };
        let texts = read(format, path, as_texts);
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

/// Writes an input to a file, of the format that its first byte chooses.
fn with_file(input: &[u8], look: impl FnOnce(Format, &Path)) {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    let formats = match std::env::var_os(WAFER) {
        None => &FORMATS[..2],
        Some(program) => {
            wafer_files::decode_in_child(program.into(), vec!["decode-files".to_owned()]);
            &FORMATS[..]
        }
    };
    let format = formats[usize::from(*first) % formats.len()];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join(format!("input.{}", format.extension()));
    std::fs::write(&path, bytes).expect("a temporary file can be written");
    look(format, &path);
}

/// Reads some columns of a file, and returns the rows up to its end or to an error.
fn read(format: Format, path: &Path, columns: impl FnOnce(Vec<Field>) -> Vec<Field>) -> Vec<Rows> {
    let has_types = format.has_types();
    let format = file_format(format);
    let options = FileOptions::default();
    let open = || File::open(path).expect("the file was written");
    let Ok(schema) = format.schema(path, open(), &options, &|_| None) else {
        return Vec::new();
    };
    let found = schema.fields().iter().map(|field| {
        let data_type = DataType::from_arrow(field.data_type());
        Field::new(field.name(), data_type, true)
    });
    let columns = columns(found.collect()).into_iter();
    let columns: Vec<ReadColumn> = columns.map(ReadColumn::from).collect();
    let Ok(mut reader) = format.read(path, open(), &options, &columns) else {
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
