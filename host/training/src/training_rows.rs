//! Training sets in temporary files, from which models are trained and evaluated.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use wafer_catalog::{
    Format, Progress, Recipe, TemporaryFolder, TrainingSet, blocking, temporary_folder,
};
use wafer_core::{Field, readable_as};
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
                let data_type = readable_as(field.data_type())?;
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
        let set = TrainingSet::read(&self.context, id).await?;
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
        let recipe = Recipe::read(&self.context, &set.view, &set.view_version).await?;
        let view = recipe.view;
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
