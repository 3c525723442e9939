//! Training sets in temporary files, from which models are trained and evaluated.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::DataType as ArrowType;
use wafer_catalog::{Format, Progress, TemporaryFolder, TrainingSet, blocking, temporary_folder};
use wafer_core::{DataType, Field, coerce};
use wafer_store::Result;

use crate::labels::{ColumnTypes, LabelFile, LabelOptions};
use crate::service::Training;
use crate::training_set::TrainingSetRequest;

/// Name of the column that holds the part of each row.
pub(crate) const PART_COLUMN: &str = "split";

/// A training set in a temporary file, which can be read several times.
#[derive(Debug)]
pub(crate) struct TrainingRows {
    pub(crate) set: TrainingSet,
    pub(crate) file: LabelFile,
    /// The folder of the file, which is removed when this is dropped.
    _folder: TemporaryFolder,
}

impl TrainingRows {
    /// Returns the columns that can be read as a type that functions know.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let fields = self.file.fields().into_iter();
        fields
            .filter_map(|field| {
                let data_type = contract_type(field.data_type())?;
                Some(Field::new(field.name(), data_type, true))
            })
            .collect()
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.set.rows
    }

    /// Reads all rows with some of the columns.
    pub(crate) fn batches(
        &self,
        columns: &[String],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        self.file.projected(columns)
    }

    /// Returns the name of the column that holds the part of each row, or `None` if the training
    /// set was not split. Without a split, a column of that name belongs to the labels.
    pub(crate) fn part_column(&self) -> Option<String> {
        self.set.split.is_some().then(|| PART_COLUMN.to_owned())
    }
}

/// Returns the type of the contract that a column is read as: the one that holds the values of its
/// Arrow type, or `None` if there is none.
fn contract_type(arrow: &ArrowType) -> Option<DataType> {
    use DataType as D;
    let found = match arrow {
        ArrowType::Boolean => D::Boolean,
        ArrowType::Float16 | ArrowType::Float32 => D::Float32,
        ArrowType::Float64 => D::Float64,
        ArrowType::FixedSizeList(_, n) => D::Vector(u32::try_from(*n).ok().filter(|n| *n > 0)?),
        ArrowType::Dictionary(_, values) => contract_type(values)?,
        found if found.is_integer() => D::Int64,
        ArrowType::List(item) | ArrowType::LargeList(item) => {
            match contract_type(item.data_type())? {
                D::Int64 => D::ListInt64,
                D::Float32 | D::Float64 => D::ListFloat64,
                D::Utf8 => D::ListUtf8,
                _ => return None,
            }
        }
        found => {
            let empty = arrow_array::new_empty_array(found);
            let others = [D::Utf8, D::Binary, D::Timestamp, D::Date];
            others
                .into_iter()
                .find(|data_type| coerce(&empty, data_type).is_ok())?
        }
    };
    let empty = arrow_array::new_empty_array(arrow);
    coerce(&empty, &found).is_ok().then_some(found)
}

impl Training {
    /// Makes and records a training set, in a temporary file. `request.out` is ignored.
    pub(crate) async fn new_training_rows(
        &self,
        request: TrainingSetRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingRows> {
        let (folder, out) = temporary_file()?;
        let request = TrainingSetRequest {
            out: out.clone(),
            ..request
        };
        let set = self.training_set(&request, progress).await?;
        self.open_training_rows(set, folder, out).await
    }

    /// Makes a recorded training set again, in a temporary file.
    ///
    /// The file is always Parquet, so its digest can be compared only if the recorded file was
    /// Parquet as well.
    pub(crate) async fn training_rows(
        &self,
        id: &str,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingRows> {
        let (folder, out) = temporary_file()?;
        let set = self.context.training_set_record(id).await?;
        let made = self.rebuild(&set, &out, memory, progress).await?;
        if set.format == Format::Parquet {
            set.check_digest(made.digest)?;
        }
        self.open_training_rows(set, folder, out).await
    }

    async fn open_training_rows(
        &self,
        set: TrainingSet,
        folder: TemporaryFolder,
        path: PathBuf,
    ) -> Result<TrainingRows> {
        let view = self
            .context
            .recipe(&set.view, &set.view_version)
            .await?
            .view;
        let time = set.time.clone();
        let options = LabelOptions {
            zone: set.zone,
            ..LabelOptions::new(ColumnTypes::new())
        };
        let open = move || LabelFile::open(&path, Some(Format::Parquet), &time, &view, &options);
        Ok(TrainingRows {
            file: blocking(open).await??,
            set,
            _folder: folder,
        })
    }
}

/// Creates a temporary folder. Returns it and the path of the training set in it.
fn temporary_file() -> Result<(TemporaryFolder, PathBuf)> {
    let folder = temporary_folder()?;
    let path = folder.path().join("training_set.parquet");
    Ok((folder, path))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{Field as ArrowField, TimeUnit};

    use super::*;

    #[test]
    fn columns_are_read_as_the_first_type_that_fits() {
        let vector = |length| {
            let item = Arc::new(ArrowField::new("item", ArrowType::Float32, false));
            ArrowType::FixedSizeList(item, length)
        };
        for (arrow, wanted) in [
            (ArrowType::Boolean, Some(DataType::Boolean)),
            (ArrowType::Int64, Some(DataType::Int64)),
            (ArrowType::Int16, Some(DataType::Int64)),
            (ArrowType::Float32, Some(DataType::Float32)),
            (ArrowType::Float64, Some(DataType::Float64)),
            (ArrowType::Utf8, Some(DataType::Utf8)),
            (ArrowType::Date32, Some(DataType::Date)),
            (
                ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                Some(DataType::Timestamp),
            ),
            (vector(3), Some(DataType::Vector(3))),
            (vector(0), None),
            (
                ArrowType::List(Arc::new(ArrowField::new("item", ArrowType::Float64, true))),
                Some(DataType::ListFloat64),
            ),
            (
                ArrowType::LargeList(Arc::new(ArrowField::new("item", ArrowType::Int32, true))),
                Some(DataType::ListInt64),
            ),
            (
                ArrowType::Dictionary(Box::new(ArrowType::Int8), Box::new(ArrowType::Utf8)),
                Some(DataType::Utf8),
            ),
            (
                ArrowType::FixedSizeList(
                    Arc::new(ArrowField::new("item", ArrowType::Utf8, true)),
                    2,
                ),
                None,
            ),
            (ArrowType::Decimal128(10, 2), None),
            (ArrowType::Null, None),
        ] {
            assert_eq!(contract_type(&arrow), wanted, "{arrow}");
        }
    }
}
