//! Reads times of the type INT96: a number of days and nanoseconds of a day, which Spark, Hive and
//! Impala wrote for years.
//!
//! The library reads them as 64-bit integers of one unit: nanoseconds wrap after the year 2262, and
//! coarser units lose digits. So these columns are read twice, as milliseconds, which are right for
//! every day, and as nanoseconds, whose lowest digits are right even if they have wrapped. Together
//! they are the exact time. In lists and structs they are refused.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{
    Array as _, ArrayRef, RecordBatch, RecordBatchReader as _, TimestampMicrosecondArray,
};
use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Result};

use super::super::{DecodedBatch, Request, damaged, record_batch};
use crate::unreadable;

/// The columns of a file that have the type INT96.
#[derive(Debug)]
pub(super) struct Int96Columns {
    millis: ParquetRecordBatchReader,
    nanos: ParquetRecordBatchReader,
}

/// The times of some rows.
#[derive(Debug, Default)]
struct Int96Times {
    /// The columns of times, in microseconds, by their names.
    columns: HashMap<String, ArrayRef>,
    /// What is wrong with the rows of times that cannot be stored, by the indexes of the rows.
    faults: BTreeMap<usize, String>,
}

impl Int96Columns {
    /// Opens those of the columns at `positions` that have the type, or returns `None` if none has.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a column with such times in lists
    /// or structs.
    pub(super) fn open(
        path: &Path,
        file: File,
        builder: &ParquetRecordBatchReaderBuilder<File>,
        positions: &[usize],
    ) -> Result<Option<Self>> {
        let positions = int96_positions(path, builder, positions)?;
        if positions.is_empty() {
            return Ok(None);
        }
        let copy = file.try_clone().map_err(|e| unreadable(path, e))?;
        let open =
            |file, unit| reader(file, builder, &positions, unit).map_err(|e| unreadable(path, e));
        Ok(Some(Self {
            millis: open(copy, TimeUnit::Millisecond)?,
            nanos: open(file, TimeUnit::Nanosecond)?,
        }))
    }

    /// Returns a schema with the type that the times of these columns have when they are put
    /// together.
    pub(super) fn schema(&self, schema: &ArrowSchema) -> SchemaRef {
        let own = self.millis.schema();
        let fields = schema.fields().iter().map(|field| {
            let found = own.field_with_name(field.name()).map(ArrowField::data_type);
            match found {
                Ok(ArrowType::Timestamp(_, zone)) => {
                    let data_type = ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone());
                    Arc::new(field.as_ref().clone().with_data_type(data_type))
                }
                _ => Arc::clone(field),
            }
        });
        Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
    }

    /// Reads the times of the rows of a batch, which are the next ones, and puts them in the place
    /// of the inexact ones. Rows whose times cannot be stored are faults.
    pub(super) fn replace(
        &mut self,
        request: &Request,
        batch: &RecordBatch,
    ) -> Result<DecodedBatch> {
        let times = self.next(request, batch.num_rows())?;
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| {
            let exact = times.columns.get(field.name());
            Arc::clone(exact.unwrap_or(column))
        });
        let (schema, rows) = (self.schema(&schema), batch.num_rows());
        let rows = record_batch(request, &schema, columns.collect(), rows)?;
        Ok(DecodedBatch {
            rows,
            faults: times.faults,
        })
    }

    /// Reads the times of the next `rows` rows.
    fn next(&mut self, request: &Request, rows: usize) -> Result<Int96Times> {
        let next = |reader: &mut ParquetRecordBatchReader| match reader.next() {
            Some(Ok(batch)) if batch.num_rows() == rows => Ok(batch),
            Some(Err(e)) => Err(unreadable(request.path(), e)),
            Some(Ok(_)) | None => {
                let what = "its columns differ in length, or it was changed while it was read";
                Err(damaged(request, what))
            }
        };
        let (millis, nanos) = (next(&mut self.millis)?, next(&mut self.nanos)?);
        let mut times = Int96Times::default();
        for (index, field) in millis.schema().fields().iter().enumerate() {
            let mut columns = request.columns.iter().flatten();
            let declared = columns.find(|c| c.field.name == *field.name());
            let truncate = declared.is_some_and(|column| column.reading.truncate);
            times.add(field.name(), &millis, &nanos, index, truncate);
        }
        Ok(times)
    }
}

impl Int96Times {
    /// Puts the times of a column together.
    fn add(
        &mut self,
        name: &str,
        millis: &RecordBatch,
        nanos: &RecordBatch,
        index: usize,
        truncate: bool,
    ) {
        let zone = match millis.column(index).data_type() {
            ArrowType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let millis = millis
            .column(index)
            .as_primitive::<TimestampMillisecondType>();
        let nanos = nanos
            .column(index)
            .as_primitive::<TimestampNanosecondType>();
        let micros = (0..millis.len()).map(|row| {
            if millis.is_null(row) {
                return None;
            }
            match exact_micros(millis.value(row), nanos.value(row), truncate) {
                Ok(micros) => Some(micros),
                Err(message) => {
                    let fault = || format!("field `{name}`: {message}");
                    self.faults.entry(row).or_insert_with(fault);
                    None
                }
            }
        });
        let micros: TimestampMicrosecondArray = micros.collect();
        let micros = Arc::new(micros.with_timezone_opt(zone));
        self.columns.insert(name.to_owned(), micros);
    }
}

/// Returns the microseconds of a time, given its milliseconds, and its nanoseconds, which may have
/// wrapped.
fn exact_micros(millis: i64, nanos: i64, truncate: bool) -> std::result::Result<i64, String> {
    let rest = nanos.wrapping_sub(millis.wrapping_mul(1_000_000));
    if !(0..1_000_000).contains(&rest) {
        return Err("it is not a time of the type INT96".to_owned());
    }
    if rest % 1_000 != 0 && !truncate {
        return Err(format!(
            "{millis} ms and {rest} ns since 1970 has digits beyond microseconds, which times do \
             not have"
        ));
    }
    let micros = millis.checked_mul(1_000);
    let micros = micros.and_then(|micros| micros.checked_add(rest / 1_000));
    micros.ok_or_else(|| format!("{millis} ms since 1970 is outside of the years 1 to 9999"))
}

/// Returns those of the columns at `positions` that have the type.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a column with such times in lists or
/// structs: the library alone would read them.
fn int96_positions(
    path: &Path,
    builder: &ParquetRecordBatchReaderBuilder<File>,
    positions: &[usize],
) -> Result<Vec<usize>> {
    let (schema, fields) = (builder.parquet_schema(), builder.schema().fields());
    let mut found = Vec::new();
    for leaf in 0..schema.num_columns() {
        let (column, root) = (schema.column(leaf), schema.get_column_root_idx(leaf));
        if column.physical_type() != PhysicalType::INT96 || !positions.contains(&root) {
            continue;
        }
        let field = fields.get(root);
        let is_time = field.is_some_and(|f| matches!(f.data_type(), ArrowType::Timestamp(..)));
        if !is_time {
            return Err(Error::invalid(format!(
                "{}: column `{}` has times of the old type INT96 in it (`{}`), which are read \
                 exactly only as a column of their own; write them as timestamps, or without this \
                 column",
                path.display(),
                schema.get_column_root(leaf).name(),
                column.path().string()
            )));
        }
        found.push(root);
    }
    Ok(found)
}

/// Opens a reader of some columns, as timestamps of a unit.
fn reader(
    file: File,
    builder: &ParquetRecordBatchReaderBuilder<File>,
    positions: &[usize],
    unit: TimeUnit,
) -> parquet::errors::Result<ParquetRecordBatchReader> {
    let fields = builder.schema().fields().iter().enumerate();
    let fields = fields.map(|(position, field)| match field.data_type() {
        ArrowType::Timestamp(_, zone) if positions.contains(&position) => {
            let data_type = ArrowType::Timestamp(unit, zone.clone());
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        }
        _ => Arc::clone(field),
    });
    let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(schema);
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(builder.metadata()), options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let mask = ProjectionMask::roots(builder.parquet_schema(), positions.iter().copied());
    builder
        .with_projection(mask)
        .with_batch_size(CHUNK_ROWS)
        .build()
}

#[cfg(test)]
mod tests {
    use parquet::data_type::{Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::Value as Json;
    use wafer_catalog::FileOptions;
    use wafer_core::{DataType, Field, cell_to_json};

    use super::*;
    use crate::parquet::Parquet;
    use crate::{FileFormat as _, ReadColumn};

    /// A time of so many days and nanoseconds after 1970.
    fn int96(days: i64, nanos: u64) -> Int96 {
        let mut time = Int96::new();
        let day = u32::try_from(2_440_588 + days).unwrap();
        time.set_data(nanos as u32, (nanos >> 32) as u32, day);
        time
    }

    /// Writes a file whose columns all have these times, each at the definition and repetition
    /// level of its column.
    fn write(path: &Path, message: &str, times: &[Int96], levels: &[(i16, i16)]) {
        let schema = parse_message_type(message).unwrap();
        let file = File::create(path).unwrap();
        let properties = Arc::new(WriterProperties::new());
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for (definition, repetition) in levels {
            let definitions = vec![*definition; times.len()];
            let repetitions = vec![*repetition; times.len()];
            let mut column = group.next_column().unwrap().unwrap();
            let written = column.typed::<Int96Type>();
            let written = written.write_batch(times, Some(&definitions), Some(&repetitions));
            written.unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn old_times_are_exact_for_every_year_or_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let second = 1_000_000_000;
        let times = [
            int96(0, second),
            // The last day of the year 9999, which nanoseconds wrap for.
            int96(2_932_896, 86_399 * second + 999_999_000),
            int96(-719_162, 0),
            int96(1, 1),
        ];
        write(&path, "message m { required int96 at; }", &times, &[(0, 0)]);
        let mut column = ReadColumn::from(Field::new("at", DataType::Timestamp, false));
        let mut read = |truncate| {
            column.reading.truncate = truncate;
            let file = File::open(&path).unwrap();
            let columns = std::slice::from_ref(&column);
            let mut reader = Parquet
                .read(&path, file, &FileOptions::default(), columns)
                .unwrap();
            let rows = reader.next().unwrap().unwrap();
            assert_eq!(rows.seen, 4);
            let times = wafer_core::coerce(&rows.columns[0], &DataType::Timestamp).unwrap();
            let times: Vec<_> = (0..times.len())
                .map(|row| cell_to_json(&times, row))
                .collect();
            (times, rows.numbers, rows.rejects)
        };
        let texts = |texts: &[&str]| -> Vec<Json> { texts.iter().map(|t| (*t).into()).collect() };
        let mut wanted = vec![
            "1970-01-01T00:00:01Z",
            "9999-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00Z",
        ];
        let (found, numbers, rejects) = read(false);
        assert_eq!((found, numbers), (texts(&wanted), vec![0, 1, 2]));
        assert_eq!(rejects.len(), 1);
        assert_eq!(rejects[0].0, 3);
        let message = &rejects[0].1;
        assert!(
            message.contains("field `at`: 86400000 ms and 1 ns"),
            "{message}"
        );
        wanted.push("1970-01-02T00:00:00Z");
        let (found, numbers, rejects) = read(true);
        assert_eq!((found, numbers), (texts(&wanted), vec![0, 1, 2, 3]));
        assert!(rejects.is_empty());
    }

    #[test]
    fn old_times_in_lists_and_structs_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let at = "required int96 at;";
        for (nested, level, wanted) in [
            (
                "optional group x (LIST) { repeated group list { optional int96 element; } }",
                3,
                "column `x` has times of the old type INT96 in it (`x.list.element`)",
            ),
            (
                "optional group x { optional group y { optional int96 z; } }",
                3,
                "column `x` has times of the old type INT96 in it (`x.y.z`)",
            ),
            (
                "repeated int96 x;",
                1,
                "column `x` has times of the old type INT96 in it (`x`)",
            ),
        ] {
            // The library makes a time of about the year 1816 of it.
            let times = [int96(2_932_896, 0)];
            let message = format!("message m {{ {at} {nested} }}");
            write(&path, &message, &times, &[(0, 0), (level, 0)]);
            let read = |name: &str| {
                let file = File::open(&path).unwrap();
                let columns = [ReadColumn::from(Field::new(
                    name,
                    DataType::Timestamp,
                    true,
                ))];
                Parquet.read(&path, file, &FileOptions::default(), &columns)
            };
            let said = read("x").unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
            // A file is read without that column.
            let rows = read("at").unwrap().next().unwrap().unwrap();
            assert_eq!(rows.numbers, [0], "{nested}");
        }
    }
}
