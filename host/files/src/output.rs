//! Files of rows: written under a temporary name ([`PartialFile`]), and renamed when they are
//! complete.
//!
//! [`OutputFile::create`] chooses the format by the file's name; the bytes go through a [`Sink`],
//! which writes and digests them on threads of its own. [`OutputFile::opened`] writes to a file
//! that is open already, such as the standard output, whose reader takes the rows as they come.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, SchemaRef};
use wafer_catalog::{
    BoundedFile, ColumnStatistics, Cuts, DiskRoom, Format, PartialFile, check_no_terminal,
};
use wafer_core::{Digest, plain_column};
use wafer_store::{Error, Kind, Result};

use crate::{RowWriter, Sink, Statistics, WriteResult, file_format};

/// A file of rows that is being written. If it is dropped before it is closed, what is there of it
/// is removed.
pub struct OutputFile {
    path: PathBuf,
    /// The file under its temporary name; `None` if the rows go to an open file.
    partial: Option<PartialFile>,
    /// `None` once the file is closed.
    writer: Option<Box<dyn RowWriter>>,
    statistics: Vec<Statistics>,
    /// The number of rows that were written.
    rows: u64,
}

/// The error for a value that a text format cannot write.
#[derive(Debug)]
struct NoText {
    column: String,
    /// The index of the row in its batch; `None` if the column as a whole has no text.
    row: Option<usize>,
    message: String,
}

impl std::fmt::Display for NoText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            column, message, ..
        } = self;
        write!(
            f,
            "column `{column}`: {message}; write Parquet or Arrow, or leave the column out"
        )
    }
}

impl std::error::Error for NoText {}

impl std::fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("OutputFile");
        debug.field("path", &self.path).finish_non_exhaustive()
    }
}

impl OutputFile {
    /// Starts a file of rows with these columns. Its format follows from its name.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the extension stands for no format or the format cannot hold
    /// a column, and [`Kind::Unavailable`] when the file cannot be written.
    pub fn create(path: &Path, schema: &SchemaRef) -> Result<Self> {
        Self::create_cut(path, schema, Cuts::default(), None)
    }

    /// Starts a file like [`create`](Self::create), in which the rows that are written together end
    /// as `cuts` says. Its bytes take `room`; `None` means that there is no limit.
    ///
    /// # Errors
    /// Returns the errors of [`create`](Self::create).
    pub fn create_cut(
        path: &Path,
        schema: &SchemaRef,
        cuts: Cuts,
        room: Option<Arc<dyn DiskRoom>>,
    ) -> Result<Self> {
        check_columns(path, schema.fields().iter().map(AsRef::as_ref))?;
        let format = Format::of_output(path)?;
        let partial = PartialFile::create(path)?;
        let file = partial.file().try_clone();
        let file = file.map_err(|e| unwritable(path, e))?;
        let file = BoundedFile::new(file, room);
        let output = Self::started(file, path, (format, cuts), schema)?;
        Ok(Self {
            partial: Some(partial),
            ..output
        })
    }

    /// Starts to write rows with these columns to an open file. Errors name it `path`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the format cannot hold a column or the file is a terminal,
    /// and [`Kind::Unavailable`] when the file cannot be written.
    pub fn opened(file: File, path: &Path, format: Format, schema: &SchemaRef) -> Result<Self> {
        check_no_terminal(path, &file)?;
        check_held(path, format, schema.fields().iter().map(AsRef::as_ref))?;
        let file = BoundedFile::new(file, None);
        Self::started(file, path, (format, Cuts::default()), schema)
    }

    fn started(
        file: BoundedFile,
        path: &Path,
        (format, cuts): (Format, Cuts),
        schema: &SchemaRef,
    ) -> Result<Self> {
        let writer = file_format(format).write(Sink::new(file), schema, cuts);
        let fields = schema.fields().iter();
        Ok(Self {
            path: path.to_owned(),
            partial: None,
            writer: Some(writer.map_err(|e| unwritable(path, e))?),
            statistics: fields
                .map(|field| Statistics::new(field.name(), field.data_type()))
                .collect(),
            rows: 0,
        })
    }

    /// Writes rows. This blocks.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] with row (counted from 0), column and value when the format cannot
    /// hold a value, with the column alone when it cannot hold the column, and
    /// [`Kind::Unavailable`] when the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = self.writer.as_mut().expect("it is open until it is closed");
        let written = writer.write(batch, &mut self.statistics);
        written.map_err(|e| match e.downcast::<NoText>() {
            Ok(e) => {
                let path = self.path.display();
                Error::invalid(match e.row {
                    Some(row) => format!("{path}: row {}, {e}", self.rows + row as u64),
                    None => format!("{path}: {e}"),
                })
            }
            Err(e) => unwritable(&self.path, e),
        })?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Completes the file and renames it to its final name. Returns the statistics of its columns
    /// and the digest of its bytes.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the file cannot be written.
    pub fn close(mut self) -> Result<(Vec<ColumnStatistics>, Digest)> {
        let writer = self.writer.take().expect("it is closed once");
        let finished = writer.finish(&mut self.statistics);
        let renamed = finished.and_then(|digest| {
            if let Some(partial) = self.partial.take() {
                partial.complete()?;
            }
            Ok(digest)
        });
        let digest = renamed.map_err(|e| unwritable(&self.path, e))?;
        let statistics = std::mem::take(&mut self.statistics);
        let columns = statistics.into_iter().map(Statistics::finish);
        Ok((columns.collect(), digest))
    }
}

/// Returns the columns of a batch as text formats write them.
///
/// # Errors
/// Returns a [`NoText`] when a value has no text.
pub(crate) fn plain_columns(batch: &RecordBatch) -> WriteResult<Vec<ArrayRef>> {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    let columns = fields.map(|(field, column)| {
        plain_column(column).map_err(|error| NoText {
            column: field.name().clone(),
            row: error.row,
            message: error.message,
        })
    });
    Ok(columns.collect::<std::result::Result<_, NoText>>()?)
}

/// Checks that a file can hold columns as they are.
///
/// # Errors
/// Returns [`Kind::Invalid`] with the column that it cannot hold, and [`Kind::Invalid`] when the
/// extension of the file stands for no format.
pub fn check_columns<'a>(
    path: &Path,
    fields: impl IntoIterator<Item = &'a ArrowField>,
) -> Result<()> {
    check_held(path, Format::of_output(path)?, fields)
}

/// Checks that a file of a format can hold columns as they are. The error names it `path`.
fn check_held<'a>(
    path: &Path,
    format: Format,
    fields: impl IntoIterator<Item = &'a ArrowField>,
) -> Result<()> {
    let format = file_format(format);
    let mut fields = fields.into_iter();
    match fields.find(|field| !format.holds(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(Error::invalid(format!(
            "{}: column `{}` is {}, which a file of this format cannot hold as it is: write {}, \
             convert the column{}, or leave it out",
            path.display(),
            field.name(),
            field.data_type(),
            match format.format() {
                Format::Parquet => "Arrow (.arrow)",
                _ => "Parquet (.parquet) or Arrow (.arrow)",
            },
            match field.data_type() {
                ArrowType::Timestamp(..) | ArrowType::Time32(_) => " to milliseconds",
                ArrowType::Date64 => " to date32",
                _ => "",
            }
        ))),
    }
}

/// Creates the error of a file that cannot be written: [`Kind::Unavailable`] if the system cannot
/// write it, which may pass, and [`Kind::Invalid`] if its format cannot hold the rows.
fn unwritable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause: Box<dyn std::error::Error + Send + Sync> = cause.into();
    let kind = match is_of_system(&*cause) {
        true => Kind::Unavailable,
        false => Kind::Invalid,
    };
    let message = format!("{} cannot be written", path.display());
    Error::caused(kind, message, cause)
}

/// Returns whether an error of the system is among an error and its causes.
fn is_of_system(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use arrow_array::{Int64Array, TimestampMillisecondArray, new_null_array};
    use arrow_schema::{DataType, Field, Schema};
    use wafer_catalog::FileOptions;

    use super::*;
    use crate::ReadColumn;
    use crate::arrow_types::{held_by_parquet, not_held_by_parquet};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_completed() {
        let folder = tempfile::tempdir().unwrap();
        // A folder is in the place of the file, so that the last step fails.
        let path = folder.path().join("rows.csv");
        let output = OutputFile::create(&path, &schema()).unwrap();
        std::fs::create_dir_all(path.join("sub")).unwrap();
        assert_eq!(output.close().unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(names(folder.path()), ["rows.csv"]);
    }

    #[test]
    fn a_value_that_a_format_cannot_hold_is_refused_with_its_row_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let times = |values: Vec<i64>| -> RecordBatch {
            let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(values));
            RecordBatch::try_from_iter([("t", times)]).unwrap()
        };
        let (good, bad) = (times(vec![0, 1]), times(vec![0, i64::MAX]));
        for name in ["rows.csv", "rows.ndjson"] {
            let path = folder.path().join(name);
            let mut output = OutputFile::create(&path, &good.schema()).unwrap();
            output.write(&good).unwrap();
            let refused = output.write(&bad).unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid);
            let wanted = format!(
                "{}: row 3, column `t`: 9223372036854775807 of type ",
                path.display()
            );
            let message = refused.to_string();
            assert!(message.starts_with(&wanted), "{message}");
        }
    }

    /// Writes rows of nulls of a type, and returns the column that is read again.
    fn read_again(path: &Path, schema: &SchemaRef) -> ArrayRef {
        let column = new_null_array(schema.field(0).data_type(), 2);
        let batch = RecordBatch::try_new(SchemaRef::clone(schema), vec![column]).unwrap();
        let mut output = OutputFile::create(path, schema).unwrap();
        output.write(&batch).unwrap();
        output.close().unwrap();
        let field = wafer_core::Field::new("odd", wafer_core::DataType::Utf8, true);
        let format = file_format(Format::of_output(path).unwrap());
        let (file, options) = (File::open(path).unwrap(), FileOptions::default());
        let reader = format.read(path, file, &options, &[ReadColumn::from(field)]);
        let rows = reader.unwrap().next().unwrap().unwrap();
        ArrayRef::clone(&rows.columns[0])
    }

    #[test]
    fn columns_of_every_arrow_type_are_written_as_they_are_or_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (held, not_held) = (held_by_parquet(), not_held_by_parquet());
        for data_type in held.iter().chain(&not_held) {
            let field = Field::new("odd", data_type.clone(), true);
            let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
            for extension in ["csv", "ndjson", "parquet", "arrow", "arrows"] {
                let place = format!("{data_type} in {extension}");
                let is_held = match extension {
                    "csv" | "ndjson" => wafer_core::plain_type(data_type).is_some(),
                    "parquet" => held.contains(data_type),
                    _ => true,
                };
                let path = folder.path().join(format!("x.{extension}"));
                if !is_held {
                    let error = OutputFile::create(&path, &schema).unwrap_err().to_string();
                    let wanted =
                        format!("column `odd` is {data_type}, which a file of this format");
                    assert!(error.contains(&wanted), "{place}: {error}");
                    continue;
                }
                let column = read_again(&path, &schema);
                assert_eq!(column.len(), 2, "{place}");
                // Texts have no types, and the nulls were read as those of utf8.
                let wanted = match extension {
                    "csv" | "ndjson" => &DataType::Utf8,
                    _ => data_type,
                };
                assert_eq!(column.data_type(), wanted, "{place}");
                assert!(*column == *new_null_array(wanted, 2), "{place}: {column:?}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_rows() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let formats = [
            Format::Csv,
            Format::Ndjson,
            Format::Parquet,
            Format::Arrow,
            Format::ArrowStream,
        ];
        for format in formats {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let path = Path::new("/dev/full");
            let output = OutputFile::opened(full, path, format, &batch.schema());
            let mut output = output.unwrap();
            let written = output.write(&batch).and_then(|()| output.close());
            assert_eq!(written.unwrap_err().kind(), Kind::Unavailable, "{format:?}");
        }
    }

    /// Room for some bytes.
    #[derive(Debug)]
    struct Room(AtomicU64);

    impl DiskRoom for Room {
        fn take(&self, bytes: u64) -> std::io::Result<()> {
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            let taken = self
                .0
                .fetch_update(set, fetch, |left| left.checked_sub(bytes));
            taken
                .map(drop)
                .map_err(|_| std::io::Error::other("no room"))
        }
    }

    #[test]
    fn a_file_takes_the_room_that_there_is_and_nothing_is_left_of_a_larger_one() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let write = |path: &Path, room: &Arc<Room>| {
            let room = Some(Arc::clone(room) as Arc<dyn DiskRoom>);
            let output = OutputFile::create_cut(path, &batch.schema(), Cuts::default(), room);
            let mut output = output.unwrap();
            output.write(&batch).and_then(|()| output.close())
        };
        for name in [
            "rows.csv",
            "rows.ndjson",
            "rows.parquet",
            "rows.arrow",
            "rows.arrows",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            let enough = Arc::new(Room(AtomicU64::new(1 << 30)));
            write(&path, &enough).unwrap();
            let length = std::fs::metadata(&path).unwrap().len();
            assert_eq!(
                enough.0.load(Ordering::Relaxed),
                (1 << 30) - length,
                "{name}"
            );
            std::fs::remove_file(&path).unwrap();
            let too_little = Arc::new(Room(AtomicU64::new(length - 1)));
            let refused = write(&path, &too_little).unwrap_err();
            assert_eq!(refused.kind(), Kind::Unavailable, "{name}");
            assert!(refused.chain().contains("no room"), "{}", refused.chain());
            assert!(names(folder.path()).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_file_is_written_by_one_at_a_time_and_after_a_process_that_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(
            folder.path().join("rows.csv.wafer-part"),
            "left over, and longer",
        )
        .unwrap();
        let first = OutputFile::create(&path, &schema()).unwrap();
        let second = OutputFile::create(&path, &schema()).unwrap_err();
        assert_eq!(second.kind(), Kind::Conflict);
        first.close().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "n\n");
        drop(OutputFile::create(&path, &schema()).unwrap());
        assert_eq!(names(folder.path()), ["rows.csv"]);
    }
}
