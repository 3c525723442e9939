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

    use arrow_array::{
        ArrayRef, DurationMicrosecondArray, DurationMillisecondArray, DurationNanosecondArray,
        DurationSecondArray, RecordBatch, new_null_array,
    };
    use arrow_schema::{
        Field as ArrowField, Fields, IntervalUnit, Schema as ArrowSchema, UnionFields, UnionMode,
    };

    use super::*;
    use crate::OutputFile;
    use crate::arrow_types::{dictionary, held_by_parquet, item, map};

    #[test]
    fn columns_of_held_types_are_read_with_the_same_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        for data_type in held_by_parquet() {
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

    /// Parquet has no type of durations. The Arrow schema in the metadata has their unit.
    #[test]
    fn durations_are_read_with_their_unit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let values = || vec![Some(-1), None, Some(i64::MAX)];
        let columns: [ArrayRef; 4] = [
            Arc::new(DurationSecondArray::from(values())),
            Arc::new(DurationMillisecondArray::from(values())),
            Arc::new(DurationMicrosecondArray::from(values())),
            Arc::new(DurationNanosecondArray::from(values())),
        ];
        let names = ["s", "ms", "us", "ns"];
        let written = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
        let mut output = OutputFile::create(&path, &written.schema()).unwrap();
        output.write(&written).unwrap();
        output.close().unwrap();
        let column =
            |name: &str| ReadColumn::from(wafer_core::Field::new(name, DataType::Int64, true));
        let file = File::open(&path).unwrap();
        let options = FileOptions::default();
        let reader = Parquet.read(&path, file, &options, &names.map(column));
        let rows = reader.unwrap().next().unwrap().unwrap();
        assert_eq!(rows.columns, written.columns());
    }

    /// Returns the error of writing a column of a type, which leaves no file.
    fn refusal(data_type: ArrowType) -> String {
        let field = ArrowField::new("odd", data_type, true);
        let schema = Arc::new(ArrowSchema::new(vec![field]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let error = OutputFile::create(&path, &schema).unwrap_err().to_string();
        assert!(error.contains("column `odd` is "), "{error}");
        assert!(!path.exists() && !folder.path().join("x.parquet.wafer-part").exists());
        error
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
            refusal(data_type);
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
            let error = refusal(data_type);
            let advice = format!("write Arrow (.arrow), convert the column {wanted}, or leave it");
            assert!(error.contains(&advice), "{error}");
        }
    }
}
