//! Features that were found for labels, written in the order of the labels and read again.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::SchemaRef;
use wafer_core::DataType;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use crate::lookup::pieces::WantedRows;
use crate::spool::Spool;

/// Features for all labels, in their order.
pub(crate) struct Joined {
    pub(crate) spool: Spool,
    pub(crate) schema: SchemaRef,
}

/// Reads joined features again.
pub(crate) struct JoinedReader {
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
    schema: SchemaRef,
    /// What was read and not yet taken.
    rest: RecordBatch,
}

impl std::fmt::Debug for JoinedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinedReader").finish_non_exhaustive()
    }
}

/// Batches, and for each label what it found in them.
pub(crate) struct FoundFeatures {
    /// Types of the features.
    pub(crate) types: Vec<DataType>,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) places: Places,
}

/// For each label a batch and a row of it.
pub(crate) enum Places {
    /// As they are.
    Known(Vec<Option<(u32, u32)>>),
    /// By the number of a row in its table.
    Rows {
        rows: Vec<Option<u64>>,
        wanted: Arc<WantedRows>,
        /// For each piece of the table its batch.
        batch_of: Vec<u32>,
    },
}

impl Places {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Known(places) => places.len(),
            Self::Rows { rows, .. } => rows.len(),
        }
    }

    pub(crate) fn get(&self, label: usize) -> Option<(u32, u32)> {
        match self {
            Self::Known(places) => places[label],
            Self::Rows {
                rows,
                wanted,
                batch_of,
            } => {
                let (piece, rank) = wanted.place(rows[label]?);
                Some((batch_of[piece], rank))
            }
        }
    }
}

impl Joined {
    pub(crate) fn read(self) -> Result<JoinedReader> {
        Ok(JoinedReader {
            batches: self.spool.read()?,
            rest: RecordBatch::new_empty(Arc::clone(&self.schema)),
            schema: self.schema,
        })
    }
}

impl JoinedReader {
    /// The features of the next labels.
    pub(crate) fn take(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            if self.rest.num_rows() == 0 {
                self.rest = self.batches.next().ok_or_else(|| {
                    Error::new(Kind::Internal, "the labels' file has grown meanwhile")
                })??;
            }
            let length = missing.min(self.rest.num_rows());
            parts.push(self.rest.slice(0, length));
            self.rest = self.rest.slice(length, self.rest.num_rows() - length);
            missing -= length;
        }
        let batch = match parts.as_slice() {
            [one] => one.clone(),
            parts => arrow_select::concat::concat_batches(&self.schema, parts)
                .map_err(|e| Error::caused(Kind::Internal, "features that were found", e))?,
        };
        Ok(batch.columns().to_vec())
    }
}

impl FoundFeatures {
    /// The features of all labels, in their order.
    pub(crate) fn emit(
        self,
        schema: &SchemaRef,
        mut spool: Spool,
        workers: usize,
    ) -> Result<Spool> {
        let internal = |e| Error::caused(Kind::Internal, "features that were found", e);
        let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let wanted = &self.types[index];
            let mut parts = Vec::with_capacity(self.batches.len() + 1);
            for batch in &self.batches {
                let column = wafer_core::coerce(batch.column(index), wanted)
                    .map_err(|e| Error::caused(Kind::Internal, "features that were found", e))?;
                parts.push(column);
            }
            // What was not found.
            parts.push(new_null_array(field.data_type(), 1));
            columns.push(parts);
        }
        let nothing = (self.batches.len(), 0);
        let emit = |labels: Range<usize>| -> Result<RecordBatch> {
            let place = |(batch, row): (u32, u32)| (batch as usize, row as usize);
            let indices: Vec<(usize, usize)> = labels
                .map(|label| self.places.get(label).map_or(nothing, place))
                .collect();
            let taken = columns.iter().map(|parts| {
                let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
                arrow_select::interleave::interleave(&parts, &indices).map_err(internal)
            });
            let taken = taken.collect::<Result<_>>()?;
            RecordBatch::try_new(Arc::clone(schema), taken).map_err(internal)
        };
        let count = self.places.len();
        let chunks: Vec<Range<usize>> = (0..count)
            .step_by(CHUNK_ROWS)
            .map(|start| start..count.min(start + CHUNK_ROWS))
            .collect();
        for several in chunks.chunks(workers) {
            let made: Vec<Result<RecordBatch>> = std::thread::scope(|scope| {
                let tasks: Vec<_> = several
                    .iter()
                    .map(|labels| scope.spawn(|| emit(labels.clone())))
                    .collect();
                let join = |task: std::thread::ScopedJoinHandle<'_, _>| {
                    task.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                tasks.into_iter().map(join).collect()
            });
            made.into_iter().try_for_each(|batch| spool.push(batch?))?;
        }
        Ok(spool)
    }
}
