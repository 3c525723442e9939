//! The format Apache Parquet. `decode/parquet.rs` reads files, and `parquet_writer.rs` writes them.

use std::fs::File;
use std::path::Path;

use arrow_schema::{DataType as ArrowType, SchemaRef, TimeUnit};
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::DataType;
use wafer_store::Result;

use crate::parquet_writer::ParquetWriter;
use crate::{FileFormat, ReadColumn, RowReader, RowWriter, Sink, WriteResult, binary};

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
        binary::schema(self.format(), path, file)
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        binary::read(self.format(), path, file, options, columns)
    }

    fn count_rows(&self, file: File) -> Option<u64> {
        binary::count_rows(self.format(), file)
    }

    fn holds(&self, data_type: &ArrowType) -> bool {
        holds(data_type)
    }

    fn write(&self, sink: Sink, schema: &SchemaRef, cuts: Cuts) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(ParquetWriter::create(sink, schema, cuts)?))
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
        // Parquet has no times in seconds and no dates in milliseconds. They would be integers
        // without a unit for readers that do not know Arrow.
        A::Timestamp(TimeUnit::Second, _) | A::Time32(TimeUnit::Second) | A::Date64 => false,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{RecordBatch, new_null_array};
    use arrow_schema::{
        Field as ArrowField, Fields, IntervalUnit, Schema as ArrowSchema, UnionFields, UnionMode,
    };

    use super::*;
    use crate::OutputFile;

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
            A::Duration(TimeUnit::Second),
            A::Date32,
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
            let mut output = OutputFile::create(&path, &schema).unwrap();
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
            A::List(item(A::Date64)),
        ] {
            let field = ArrowField::new("odd", data_type, true);
            let schema = Arc::new(ArrowSchema::new(vec![field]));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.parquet");
            let error = OutputFile::create(&path, &schema).unwrap_err().to_string();
            assert!(error.contains("column `odd` is "), "{error}");
            assert!(!path.exists() && !folder.path().join("x.parquet.wafer-part").exists());
        }
    }

    #[test]
    fn times_that_parquet_has_no_unit_for_are_refused_with_the_one_to_convert_them_to() {
        use ArrowType as A;
        let (milliseconds, date) = ("to milliseconds", "to date32");
        for (data_type, wanted) in [
            (A::Timestamp(TimeUnit::Second, None), milliseconds),
            (
                A::Timestamp(TimeUnit::Second, Some("UTC".into())),
                milliseconds,
            ),
            (A::Time32(TimeUnit::Second), milliseconds),
            (A::Date64, date),
        ] {
            let field = ArrowField::new("odd", data_type, true);
            let schema = Arc::new(ArrowSchema::new(vec![field]));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.parquet");
            let error = OutputFile::create(&path, &schema).unwrap_err().to_string();
            let advice = format!("write Arrow (.arrow), convert the column {wanted}, or leave it");
            assert!(error.contains("column `odd` is "), "{error}");
            assert!(error.contains(&advice), "{error}");
        }
    }
}
