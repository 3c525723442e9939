//! The format Apache Parquet. Files are written by `parquet_writer.rs`, and the old type of times,
//! INT96, is read by `parquet/int96.rs`.

mod int96;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType as ArrowType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use wafer_catalog::{FileOptions, Format};
use wafer_core::DataType;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use crate::parquet::int96::{Int96Columns, Int96Times};
use crate::parquet_writer::ParquetWriter;
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, WriteResult, column_positions,
    missing_values, unreadable,
};

/// The format Apache Parquet.
#[derive(Debug)]
pub(crate) struct Parquet;

impl FileFormat for Parquet {
    fn format(&self) -> Format {
        Format::Parquet
    }

    fn schema(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        _declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        Ok(Arc::clone(builder(path, file)?.schema()))
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        let copy = file.try_clone().map_err(|e| unreadable(path, e))?;
        let builder = builder(path, file)?;
        let fields = builder.schema().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        let positions = column_positions(path, &names, columns)?;
        let positions: Vec<usize> = positions.into_iter().flatten().collect();
        let int96 = Int96Columns::open(path, copy, &builder, &positions)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
        let builder = builder.with_projection(mask).with_batch_size(CHUNK_ROWS);
        Ok(Box::new(ParquetReader {
            path: path.to_owned(),
            reader: builder.build().map_err(|e| unreadable(path, e))?,
            int96,
            columns: columns.to_vec(),
            next_row: 0,
        }))
    }

    fn count_rows(&self, file: File) -> Option<u64> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        u64::try_from(builder.metadata().file_metadata().num_rows()).ok()
    }

    fn holds(&self, data_type: &ArrowType) -> bool {
        holds(data_type)
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(ParquetWriter::create(sink, schema)?))
    }
}

/// Returns whether a column of a type is read back with the same type and values. The Arrow schema
/// in the metadata of a file tells types apart that Parquet stores alike.
fn holds(data_type: &ArrowType) -> bool {
    use ArrowType as A;
    match data_type {
        A::FixedSizeBinary(size) => *size > 0,
        A::Dictionary(keys, values) => {
            keys.is_integer()
                && matches!(
                    **values,
                    A::Utf8 | A::LargeUtf8 | A::Binary | A::LargeBinary
                )
        }
        A::Decimal128(_, scale) | A::Decimal256(_, scale) => *scale >= 0,
        A::List(item) | A::LargeList(item) => holds(item.data_type()),
        A::FixedSizeList(item, length) => *length > 0 && holds(item.data_type()),
        A::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| holds(field.data_type()))
        }
        // The key of an entry is never null.
        A::Map(entries, _) => match entries.data_type() {
            A::Struct(fields) => {
                !fields[0].is_nullable() && fields.iter().all(|field| holds(field.data_type()))
            }
            _ => false,
        },
        A::Interval(_)
        | A::Union(..)
        | A::RunEndEncoded(..)
        | A::ListView(_)
        | A::LargeListView(_)
        | A::Decimal32(..)
        | A::Decimal64(..) => false,
        _ => true,
    }
}

/// Opens a Parquet file and reads its metadata.
fn builder(path: &Path, file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))
}

#[derive(Debug)]
struct ParquetReader {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    int96: Option<Int96Columns>,
    columns: Vec<ReadColumn>,
    next_row: u64,
}

impl RowReader for ParquetReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let first = self.next_row;
        let batch = batch.map_err(|e| {
            let path = self.path.display();
            let message = format!("{path} cannot be read after row {first}");
            Error::caused(Kind::Invalid, message, e)
        })?;
        self.next_row += batch.num_rows() as u64;
        let exact = match &mut self.int96 {
            None => Int96Times::default(),
            Some(int96) => int96.next(&self.path, batch.num_rows(), &self.columns)?,
        };
        let columns = self.columns.iter().map(|ReadColumn { field, .. }| {
            let exact = exact.columns.get(&field.name);
            let column = exact.or_else(|| batch.column_by_name(&field.name));
            column.map_or_else(|| missing_values(batch.num_rows()), Arc::clone)
        });
        let columns: Vec<ArrayRef> = columns.collect();
        Ok(Some(exact.reject(Rows {
            columns,
            numbers: (first..self.next_row).collect(),
            rejects: Vec::new(),
            seen: batch.num_rows() as u64,
        })))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{RecordBatch, new_null_array};
    use arrow_schema::{
        Field as ArrowField, Fields, IntervalUnit, Schema as ArrowSchema, TimeUnit, UnionFields,
        UnionMode,
    };

    use super::*;
    use crate::Output;

    fn item(data_type: ArrowType) -> Arc<ArrowField> {
        Arc::new(ArrowField::new("item", data_type, true))
    }

    fn dictionary(values: ArrowType) -> ArrowType {
        ArrowType::Dictionary(Box::new(ArrowType::Int16), Box::new(values))
    }

    fn map(key_is_nullable: bool) -> ArrowType {
        let fields = vec![
            ArrowField::new("key", ArrowType::Utf8, key_is_nullable),
            ArrowField::new("value", ArrowType::Int64, true),
        ];
        let entries = ArrowField::new("entries", ArrowType::Struct(fields.into()), false);
        ArrowType::Map(Arc::new(entries), false)
    }

    fn held() -> Vec<ArrowType> {
        use ArrowType as A;
        let mut types = vec![
            A::Null,
            A::Boolean,
            A::Int8,
            A::Int16,
            A::Int32,
            A::Int64,
            A::UInt8,
            A::UInt16,
            A::UInt32,
            A::UInt64,
            A::Float16,
            A::Float32,
            A::Float64,
            A::Utf8,
            A::LargeUtf8,
            A::Utf8View,
            A::Binary,
            A::LargeBinary,
            A::BinaryView,
            A::FixedSizeBinary(3),
            A::Date32,
            A::Date64,
            A::Time32(TimeUnit::Second),
            A::Time32(TimeUnit::Millisecond),
            A::Time64(TimeUnit::Microsecond),
            A::Time64(TimeUnit::Nanosecond),
            A::Decimal128(10, 2),
            A::Decimal128(38, 0),
            A::Decimal256(10, 2),
            A::Decimal256(76, 10),
            dictionary(A::Utf8),
            dictionary(A::LargeBinary),
            A::List(item(A::Int32)),
            A::LargeList(item(A::Utf8View)),
            A::FixedSizeList(item(A::Float64), 2),
            A::List(item(A::Struct(
                vec![ArrowField::new("x", A::Int8, true)].into(),
            ))),
            map(false),
        ];
        for unit in [
            TimeUnit::Second,
            TimeUnit::Millisecond,
            TimeUnit::Microsecond,
            TimeUnit::Nanosecond,
        ] {
            types.push(A::Duration(unit));
            types.push(A::Timestamp(unit, None));
            types.push(A::Timestamp(unit, Some("Europe/Oslo".into())));
        }
        types
    }

    #[test]
    fn columns_of_held_types_are_read_with_the_same_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        for data_type in held() {
            assert!(holds(&data_type), "{data_type}");
            let schema = ArrowSchema::new(vec![ArrowField::new("x", data_type.clone(), true)]);
            let schema = Arc::new(schema);
            let column = new_null_array(&data_type, 2);
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
            let mut output = Output::create(&path, &schema).unwrap();
            output.write(&batch).unwrap();
            output.close().unwrap();
            let field = wafer_core::Field::new("x", DataType::from_arrow(&data_type), true);
            let columns = [ReadColumn::from(field)];
            let file = File::open(&path).unwrap();
            let mut reader = Parquet
                .read(&path, file, &FileOptions::default(), &columns)
                .unwrap();
            let rows = reader.next().unwrap().unwrap();
            assert_eq!(*rows.columns[0].data_type(), data_type);
            assert!(*rows.columns[0] == **batch.column(0), "{data_type}");
        }
    }

    #[test]
    fn columns_of_other_types_are_refused_by_name() {
        use ArrowType as A;
        let union = UnionFields::from_fields([ArrowField::new("x", A::Int64, true)]);
        for data_type in [
            A::FixedSizeBinary(0),
            A::FixedSizeList(item(A::Int8), 0),
            A::Struct(Fields::empty()),
            A::Interval(IntervalUnit::MonthDayNano),
            A::Union(union, UnionMode::Sparse),
            A::Decimal128(10, -2),
            A::Decimal32(5, 2),
            A::ListView(item(A::Int8)),
            A::RunEndEncoded(item(A::Int32), item(A::Utf8)),
            dictionary(A::Int64),
            map(true),
            A::List(item(dictionary(A::Int64))),
        ] {
            let field = ArrowField::new("odd", data_type, true);
            let schema = Arc::new(ArrowSchema::new(vec![field]));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.parquet");
            let error = Output::create(&path, &schema).unwrap_err().to_string();
            assert!(error.contains("column `odd` is "), "{error}");
            assert!(!path.exists() && !folder.path().join("x.parquet.part").exists());
        }
    }
}
