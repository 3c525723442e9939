//! Partitions: folders such as `day=2024-01-01/region=eu`, as Hive, Spark and others lay out
//! tables. Their names are the values of columns that the files in them do not have.

use std::borrow::Cow;
use std::path::Path;

use arrow_array::{Array as _, ArrayRef, UInt64Array};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use wafer_core::{ColumnBuilder, Quoting, cell_to_json};
use wafer_files::ReadColumn;
use wafer_store::{Error, Result};

/// The value of a column in all rows of a file, by the name of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Partition {
    /// The name of the column.
    pub(crate) column: String,
    /// The text of the value; `None` is null.
    pub(crate) value: Option<String>,
}

/// The name of a folder that Hive gives to rows whose value is null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Returns whether the name of a folder is that of a partition.
pub(super) fn is_partition(name: &str) -> bool {
    name.split_once('=')
        .is_some_and(|(column, _)| !column.is_empty())
}

/// Returns the partitions that a file is in, given the names of the folders on its path.
///
/// # Errors
/// Returns an error when two folders have values of the same column.
pub(super) fn partitions_of<'a>(
    path: &Path,
    folders: impl Iterator<Item = &'a str>,
) -> Result<Vec<Partition>> {
    let mut partitions: Vec<Partition> = Vec::new();
    for (column, value) in folders.filter_map(|folder| folder.split_once('=')) {
        let column = decoded(column);
        if partitions.iter().any(|other| other.column == column) {
            return Err(Error::invalid(format!(
                "{} is in two folders of the column `{column}`",
                path.display()
            )));
        }
        // A field of CSV that is empty is null as well.
        let is_null = value.is_empty() || value == NULL;
        let value = (!is_null).then(|| decoded(value));
        partitions.push(Partition { column, value });
    }
    Ok(partitions)
}

/// Decodes the characters of a name that are written as `%` and two hexadecimal digits.
pub(super) fn decoded(name: &str) -> String {
    let decoded = percent_decode_str(name).decode_utf8();
    decoded.map_or_else(|_| name.to_owned(), Cow::into_owned)
}

/// A column that is read, whose value is the same in all rows of a file.
#[derive(Debug)]
pub(super) struct PartitionColumn {
    /// The index of the column among those that are read.
    pub(super) index: usize,
    name: String,
    /// The value, as a column of one row.
    value: ArrayRef,
    /// Whether the value may be null.
    nullable: bool,
}

impl PartitionColumn {
    /// Returns those of the partitions of a file that are read.
    ///
    /// # Errors
    /// Returns an error when a value does not have the type of its column.
    pub(super) fn read(
        path: &Path,
        partitions: &[Partition],
        columns: &[ReadColumn],
    ) -> Result<Vec<Self>> {
        let columns = columns.iter().enumerate().filter_map(|(index, column)| {
            let partition = partitions.iter().find(|p| p.column == column.field.name)?;
            Some(Self::of(path, partition, index, column))
        });
        columns.collect()
    }

    fn of(path: &Path, partition: &Partition, index: usize, column: &ReadColumn) -> Result<Self> {
        let builder = ColumnBuilder::new(&column.field.data_type, 1);
        let mut builder = builder.with_reading(column.reading.clone());
        match &partition.value {
            None => builder.append_null(),
            Some(value) => builder
                .append_text(value, Quoting::Quoted)
                .map_err(|message| {
                    let (path, name) = (path.display(), &partition.column);
                    Error::invalid(format!("{path}: the folder `{name}={value}`: {message}"))
                })?,
        }
        Ok(Self {
            index,
            name: partition.column.clone(),
            value: builder.finish(),
            nullable: column.field.nullable,
        })
    }

    /// Returns the column, and a fault for each row in which the file has another value than the
    /// name of the folder, or for every row if that is null and must not be: the index of the row,
    /// and what is wrong. `found` is the column of the file.
    pub(super) fn of_rows(&self, found: &ArrayRef) -> (ArrayRef, Vec<(usize, String)>) {
        let value = cell_to_json(&self.value, 0);
        let mut faults = Vec::new();
        if self.value.is_null(0) && !self.nullable {
            let message = format!("field `{}`: is null by the name of the folder", self.name);
            faults.extend((0..found.len()).map(|row| (row, message.clone())));
        }
        for row in (0..found.len()).filter(|row| found.is_valid(*row)) {
            let other = cell_to_json(found, row);
            if other != value {
                faults.push((
                    row,
                    format!(
                        "field `{}`: is {other}, and the name of the folder says {value}",
                        self.name
                    ),
                ));
            }
        }
        let first = UInt64Array::from(vec![0; found.len()]);
        let column = arrow_select::take::take(&self.value, &first, None);
        (column.expect("the value has one row"), faults)
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::{DataType, Field};

    use super::*;

    #[test]
    fn names_of_folders_are_values_of_columns() {
        let read = |folders: &[&str]| {
            let found = partitions_of(Path::new("f"), folders.iter().copied())?;
            let values = found.into_iter().map(|p| (p.column, p.value));
            Ok::<_, Error>(values.collect::<Vec<_>>())
        };
        let value =
            |column: &str, value: Option<&str>| (column.to_owned(), value.map(str::to_owned));
        assert_eq!(
            read(&["data", "region=eu", "day=a%3Db%2Fc"]).unwrap(),
            [value("region", Some("eu")), value("day", Some("a=b/c"))]
        );
        assert_eq!(
            read(&["x=__HIVE_DEFAULT_PARTITION__", "y=", "z=50%"]).unwrap(),
            [value("x", None), value("y", None), value("z", Some("50%"))]
        );
        let error = read(&["x=1", "x=2"]).unwrap_err().to_string();
        assert!(error.contains("two folders of the column `x`"), "{error}");
        for (name, wanted) in [("a=1", true), ("a=", true), ("=1", false), ("a", false)] {
            assert_eq!(is_partition(name), wanted, "{name}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_column_and_agree_with_the_file() {
        let column = ReadColumn::from(Field::new("day", DataType::Int64, false));
        let partition = |value: &str| Partition {
            column: "day".to_owned(),
            value: Some(value.to_owned()),
        };
        let read = |value| {
            PartitionColumn::read(
                Path::new("f"),
                &[partition(value)],
                std::slice::from_ref(&column),
            )
        };
        let error = read("monday").unwrap_err().to_string();
        assert!(
            error.contains("the folder `day=monday`: `monday` is not int64"),
            "{error}"
        );
        let day = &read("07").unwrap()[0];
        let found: ArrayRef =
            std::sync::Arc::new(arrow_array::Int64Array::from(vec![None, Some(7), Some(8)]));
        let (values, faults) = day.of_rows(&found);
        let values: Vec<_> = (0..3).map(|row| cell_to_json(&values, row)).collect();
        assert_eq!(values, [7, 7, 7]);
        assert_eq!(
            faults,
            [(
                2,
                "field `day`: is 8, and the name of the folder says 7".to_owned()
            )]
        );
    }

    #[test]
    fn a_null_in_the_name_of_a_folder_is_a_fault_of_every_row_that_needs_a_value() {
        for (nullable, wanted) in [(true, 0), (false, 2)] {
            let column = ReadColumn::from(Field::new("day", DataType::Int64, nullable));
            let partitions = partitions_of(Path::new("f"), std::iter::once("day=")).unwrap();
            let columns = std::slice::from_ref(&column);
            let day = &PartitionColumn::read(Path::new("f"), &partitions, columns).unwrap()[0];
            let found: ArrayRef =
                std::sync::Arc::new(arrow_array::Int64Array::from(vec![None, None]));
            let (values, faults) = day.of_rows(&found);
            assert_eq!(values.null_count(), 2);
            assert_eq!(faults.len(), wanted, "{faults:?}");
            for (_, message) in faults {
                assert_eq!(message, "field `day`: is null by the name of the folder");
            }
        }
    }
}
