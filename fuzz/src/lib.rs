//! Helpers that several fuzz targets share.

use std::fs::File;
use std::path::Path;

use wafer_catalog::{FileOptions, Format};
use wafer_core::{DataType, Field};
use wafer_files::{ReadColumn, file_format};

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
    read(format, &path, columns);
}

fn read(format: Format, path: &Path, columns: impl FnOnce(Vec<Field>) -> Vec<Field>) {
    let format = file_format(format);
    let options = FileOptions::default();
    let open = || File::open(path).expect("the file was written");
    let Ok(schema) = format.schema(path, open(), &options, &|_| None) else {
        return;
    };
    let found = schema.fields().iter().map(|field| {
        let data_type = DataType::from_arrow(field.data_type());
        Field::new(field.name(), data_type, true)
    });
    let columns = columns(found.collect()).into_iter();
    let columns: Vec<ReadColumn> = columns.map(ReadColumn::from).collect();
    let Ok(mut reader) = format.read(path, open(), &options, &columns) else {
        return;
    };
    let mut last = None;
    while let Ok(Some(rows)) = reader.next() {
        for number in rows.numbers {
            assert!(last < Some(number), "row {number} after {last:?}");
            last = Some(number);
        }
        for (column, wanted) in rows.columns.iter().zip(&columns) {
            column.to_data().validate_full().expect("columns are valid");
            assert_eq!(
                column.len() as u64 + rows.rejects.len() as u64,
                rows.seen,
                "{wanted:?}"
            );
        }
    }
}
