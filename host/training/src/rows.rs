//! Training sets to be read on this machine, as often as need be.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::DataType as ArrowType;
use tempfile::TempDir;
use wafer_catalog::{Format, Progress, TrainingSet, blocking, temporary_folder};
use wafer_core::{DataType, Field, coerce};
use wafer_store::Result;

use crate::labels::LabelFile;
use crate::service::Training;
use crate::training_set::TrainingSetRequest;

/// Column that says which part a row belongs to.
pub(crate) const PART: &str = "split";

/// A training set in a temporary file.
#[derive(Debug)]
pub(crate) struct TrainingRows {
    pub(crate) set: TrainingSet,
    pub(crate) file: LabelFile,
    _folder: TempDir,
}

impl TrainingRows {
    /// The columns that have a type of the contract.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let fields = self.file.fields().into_iter();
        fields
            .filter_map(|field| {
                let data_type = read_as(field.data_type())?;
                Some(Field::new(field.name(), data_type, true))
            })
            .collect()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.set.rows
    }

    /// All rows, with these columns at least.
    pub(crate) fn batches(
        &self,
        columns: &[String],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        self.file.projected(columns)
    }

    /// The column that says which part a row belongs to, if they were shared out: else a
    /// column of that name is one of the labels'.
    pub(crate) fn part_column(&self) -> Option<String> {
        self.set.split.is_some().then(|| PART.to_owned())
    }
}

/// The type that a column is read as: the first one that keeps all its values.
fn read_as(arrow: &ArrowType) -> Option<DataType> {
    use DataType as D;
    if let ArrowType::FixedSizeList(_, n) = arrow {
        return u32::try_from(*n).ok().filter(|n| *n > 0).map(D::Vector);
    }
    let empty = arrow_array::new_empty_array(arrow);
    [
        D::Boolean,
        D::Int64,
        D::Float32,
        D::Float64,
        D::Utf8,
        D::Binary,
        D::Timestamp,
        D::Date,
        D::ListInt64,
        D::ListFloat64,
        D::ListUtf8,
    ]
    .into_iter()
    .find(|data_type| coerce(&empty, data_type).is_ok())
}

impl Training {
    /// Makes a training set into a temporary file; `request.out` is not looked at.
    pub(crate) async fn new_training_rows(
        &self,
        request: TrainingSetRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingRows> {
        let (folder, out) = temporary()?;
        let request = TrainingSetRequest {
            out: out.clone(),
            ..request
        };
        let set = self.training_set(&request, progress).await?;
        self.opened(set, folder, out).await
    }

    /// Makes a recorded training set again, into a temporary file.
    pub(crate) async fn training_rows(
        &self,
        id: &str,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingRows> {
        let (folder, out) = temporary()?;
        let set = self.context.training_set_record(id).await?;
        let made = self.remake(&set, &out, memory, progress).await?;
        if set.format == Format::Parquet {
            set.check_digest(made.digest)?;
        }
        self.opened(set, folder, out).await
    }

    async fn opened(
        &self,
        set: TrainingSet,
        folder: TempDir,
        path: PathBuf,
    ) -> Result<TrainingRows> {
        let view = self
            .context
            .recipe(&set.view, &set.view_version)
            .await?
            .view;
        let time = set.time.clone();
        let open = move || LabelFile::open(&path, Some(Format::Parquet), &time, &view);
        Ok(TrainingRows {
            file: blocking(open).await??,
            set,
            _folder: folder,
        })
    }
}

fn temporary() -> Result<(TempDir, PathBuf)> {
    let folder = temporary_folder()?;
    let path = folder.path().join("training_set.parquet");
    Ok((folder, path))
}
