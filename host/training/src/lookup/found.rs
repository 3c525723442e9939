//! The features that a lookup found for the labels, which are spooled in the order of the
//! labels and read again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::SchemaRef;
use wafer_core::DataType;
use wafer_files::{batch_bytes, rows_within, widest_row};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use crate::lookup::pieces::{WantedPlace, WantedRows};
use crate::spool::Spool;

/// The size of the features that the workers gather at the same time, in bytes.
const GATHERED_BYTES: u64 = 8 << 20;

/// The bytes that the features may take that are found for a band of labels.
#[derive(Debug)]
pub(crate) struct Room {
    most: u64,
    taken: AtomicU64,
}

impl Room {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            taken: AtomicU64::new(0),
        }
    }

    /// Counts bytes that are taken.
    pub(crate) fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns whether more was taken than there is.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.most
    }
}

/// The features of one lookup for all labels, in the order of the labels.
pub(crate) struct JoinedFeatures {
    pub(crate) spool: Spool,
    pub(crate) schema: SchemaRef,
    /// The number of labels that have the time of an event that they were joined with.
    pub(crate) coincident: u64,
}

/// Reads joined features in the order of the labels.
pub(crate) struct JoinedReader {
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
    schema: SchemaRef,
    /// Rows that were read and not taken yet.
    pending: VecDeque<RecordBatch>,
}

impl std::fmt::Debug for JoinedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinedReader").finish_non_exhaustive()
    }
}

/// Batches of features in any order, and the row of each label in them.
pub(crate) struct FoundFeatures {
    /// Types of the features.
    pub(crate) types: Vec<DataType>,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) locations: Locations,
    /// The number of labels that have the time of an event that they were joined with.
    pub(crate) coincident: u64,
}

/// The place of a label's features in [`FoundFeatures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundPlace {
    pub(crate) batch: u32,
    /// The row in the batch.
    pub(crate) row: u32,
}

/// The place of each label's features, or `None` for a label that found nothing.
pub(crate) enum Locations {
    /// The place of each label.
    Direct(Vec<Option<FoundPlace>>),
    /// The number of each label's row in the table, from which the place follows.
    ByRowNumber {
        rows: Vec<Option<u64>>,
        wanted: Arc<WantedRows>,
        /// The batch of each piece of the table.
        batch_of: Vec<u32>,
    },
}

impl Locations {
    /// Returns the number of labels.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Direct(locations) => locations.len(),
            Self::ByRowNumber { rows, .. } => rows.len(),
        }
    }

    /// Returns the place of a label's features.
    pub(crate) fn get(&self, label: usize) -> Option<FoundPlace> {
        match self {
            Self::Direct(locations) => locations[label],
            Self::ByRowNumber {
                rows,
                wanted,
                batch_of,
            } => {
                let WantedPlace { piece, rank } = wanted.locate(rows[label]?);
                Some(FoundPlace {
                    batch: batch_of[piece],
                    row: rank,
                })
            }
        }
    }
}

impl JoinedFeatures {
    /// Opens the features for reading.
    pub(crate) fn read(self) -> Result<JoinedReader> {
        Ok(JoinedReader {
            batches: self.spool.read()?,
            pending: VecDeque::new(),
            schema: self.schema,
        })
    }
}

impl JoinedReader {
    /// Takes the features of the next `rows` labels.
    pub(crate) fn take(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let next = match self.pending.pop_front() {
                Some(batch) => batch,
                None => self.read_next()?,
            };
            let length = missing.min(next.num_rows());
            parts.push(next.slice(0, length));
            let left = next.num_rows() - length;
            if left > 0 {
                self.pending.push_front(next.slice(length, left));
            }
            missing -= length;
        }
        let batch = match parts.as_slice() {
            [one] => one.clone(),
            parts => arrow_select::concat::concat_batches(&self.schema, parts)
                .map_err(|e| Error::caused(Kind::Internal, "cannot assemble joined features", e))?,
        };
        Ok(batch.columns().to_vec())
    }

    /// Takes the features of the next `rows` labels like [`take`](Self::take), into arrays of their
    /// own. Where rows do not fill a byte, arrays that are parts of others have bits of the next
    /// rows behind their own, and files of Arrow keep these: the bytes of such a file would depend
    /// on how the features were spooled.
    pub(crate) fn take_apart(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let columns = self.take(rows)?;
        if rows.is_multiple_of(8) {
            return Ok(columns);
        }
        let all: UInt32Array = (0..rows as u32).collect();
        let copied = columns.iter();
        let copied = copied.map(|column| arrow_select::take::take(column, &all, None));
        let copied: Result<Vec<ArrayRef>, _> = copied.collect();
        copied.map_err(|e| Error::caused(Kind::Internal, "cannot copy joined features", e))
    }

    /// Returns how many of the next `rows` labels have features of at most `bytes` together, and at
    /// least 1 if there are any.
    pub(crate) fn fitting(&mut self, rows: usize, bytes: u64) -> Result<usize> {
        let (mut count, mut left, mut position) = (0, bytes, 0);
        while count < rows {
            if position == self.pending.len() {
                let next = self.read_next()?;
                self.pending.push_back(next);
            }
            let batch = &self.pending[position];
            let batch = batch.slice(0, batch.num_rows().min(rows - count));
            let fit = rows_within(&batch, left);
            count += fit;
            if fit < batch.num_rows() {
                return Ok(count.max(1));
            }
            left -= batch_bytes(&batch);
            position += 1;
        }
        Ok(count)
    }

    /// Reads the next rows.
    fn read_next(&mut self) -> Result<RecordBatch> {
        let message = "the file of labels grew while it was joined";
        let next = self.batches.next();
        next.ok_or_else(|| Error::new(Kind::Internal, message))?
    }
}

impl FoundFeatures {
    /// Appends the features of all labels to a spool, in the order of the labels, and returns the
    /// spool. `workers` is the number of threads that gather them.
    pub(crate) fn append_to(
        self,
        schema: &SchemaRef,
        mut spool: Spool,
        workers: usize,
    ) -> Result<Spool> {
        let internal = |e| Error::caused(Kind::Internal, "cannot assemble joined features", e);
        let columns = self.columns(schema)?;
        let nothing = (self.batches.len(), 0);
        let gather = |labels: Range<usize>| -> Result<RecordBatch> {
            let index = |place: FoundPlace| (place.batch as usize, place.row as usize);
            let indices: Vec<(usize, usize)> = labels
                .map(|label| self.locations.get(label).map_or(nothing, index))
                .collect();
            let taken = columns.iter().map(|parts| {
                let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
                arrow_select::interleave::interleave(&parts, &indices).map_err(internal)
            });
            let taken = taken.collect::<Result<_>>()?;
            RecordBatch::try_new(Arc::clone(schema), taken).map_err(internal)
        };
        let count = self.locations.len();
        let rows = gathered_rows(&columns, workers);
        let chunks: Vec<Range<usize>> = (0..count)
            .step_by(rows)
            .map(|start| start..count.min(start + rows))
            .collect();
        for several in chunks.chunks(workers) {
            let made: Vec<Result<RecordBatch>> = std::thread::scope(|scope| {
                let tasks: Vec<_> = several
                    .iter()
                    .map(|labels| scope.spawn(|| gather(labels.clone())))
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

    /// Returns the columns of all batches, each in one part of each batch. A last part of one null
    /// stands for the labels that found nothing.
    fn columns(&self, schema: &SchemaRef) -> Result<Vec<Vec<ArrayRef>>> {
        let mut columns = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let wanted = &self.types[index];
            let mut parts = Vec::with_capacity(self.batches.len() + 1);
            for batch in &self.batches {
                let column = wafer_core::coerce(batch.column(index), wanted)
                    .map_err(|e| Error::caused(Kind::Internal, "cannot convert a feature", e))?;
                parts.push(column);
            }
            parts.push(new_null_array(field.data_type(), 1));
            columns.push(parts);
        }
        Ok(columns)
    }
}

/// Returns how many rows of columns in parts each worker gathers at a time. Many labels may have
/// found the row that takes most.
fn gathered_rows(columns: &[Vec<ArrayRef>], workers: usize) -> usize {
    let of_column = |parts: &Vec<ArrayRef>| {
        let widest = parts
            .iter()
            .map(|part| widest_row(std::slice::from_ref(part)));
        widest.max().unwrap_or(0)
    };
    let widest: u64 = columns.iter().map(of_column).sum();
    let rows = GATHERED_BYTES / workers.max(1) as u64 / widest.max(1);
    let rows = usize::try_from(rows).unwrap_or(CHUNK_ROWS);
    rows.clamp(1, CHUNK_ROWS)
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;

    use super::*;
    use crate::spool::MemoryBudget;

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap()
    }

    /// Reads joined features that were spooled as these batches, in takes of some rows.
    fn take(batches: &[&[i64]], takes: &[usize]) -> Result<Vec<Vec<i64>>> {
        let mut spool = Spool::new(MemoryBudget::new(usize::MAX));
        for values in batches {
            spool.push(batch(values))?;
        }
        let schema = batch(&[]).schema();
        let mut reader = JoinedFeatures {
            spool,
            schema,
            coincident: 0,
        }
        .read()?;
        let values = |rows: &usize| -> Result<Vec<i64>> {
            let columns = reader.take(*rows)?;
            Ok(columns[0].as_primitive::<Int64Type>().values().to_vec())
        };
        takes.iter().map(values).collect()
    }

    #[test]
    fn features_are_taken_across_the_batches_that_were_spooled() {
        for (takes, wanted) in [
            (&[5][..], vec![vec![1, 2, 3, 4, 5]]),
            (&[2, 2, 1], vec![vec![1, 2], vec![3, 4], vec![5]]),
        ] {
            let found = take(&[&[1, 2, 3], &[4, 5]], takes).unwrap();
            assert_eq!(found, wanted, "{takes:?}");
        }
        let error = take(&[&[1, 2, 3], &[4, 5]], &[4, 2]).unwrap_err();
        assert!(
            error.to_string().contains("grew while it was joined"),
            "{error}"
        );
    }

    /// Rows of eight bytes each, which were spooled in batches of any size.
    #[test]
    fn rows_fit_by_their_bytes_however_they_were_spooled() {
        for batches in [&[10][..], &[1, 9], &[4, 4, 2], &[3, 3, 3, 1]] {
            let mut spool = Spool::new(MemoryBudget::new(usize::MAX));
            for rows in batches {
                spool.push(batch(&vec![1; *rows])).unwrap();
            }
            let mut reader = JoinedFeatures {
                spool,
                schema: batch(&[]).schema(),
                coincident: 0,
            }
            .read()
            .unwrap();
            for (rows, bytes, wanted) in [
                (0, 0, 0),
                (10, 0, 1),
                (10, 7, 1),
                (10, 8, 1),
                (10, 39, 4),
                (10, 40, 5),
                (3, 40, 3),
                (10, 80, 10),
                (10, u64::MAX, 10),
            ] {
                let fit = reader.fitting(rows, bytes).unwrap();
                assert_eq!(fit, wanted, "{rows} rows, {bytes} bytes, {batches:?}");
            }
            assert!(reader.fitting(11, u64::MAX).is_err());
            assert_eq!(reader.take(10).unwrap()[0].len(), 10);
        }
    }

    /// How features are spooled depends on the memory and the processors that there are.
    #[test]
    fn files_have_the_same_bytes_however_features_were_spooled() {
        let cell = |row: i64| (row % 3 > 0).then_some(row);
        let column: ArrayRef = Arc::new((0..30).map(cell).collect::<Int64Array>());
        let all = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        let written = |batches: &[usize]| {
            let mut spool = Spool::new(MemoryBudget::new(usize::MAX));
            let mut start = 0;
            for rows in batches {
                spool.push(all.slice(start, *rows)).unwrap();
                start += rows;
            }
            let schema = all.schema();
            let joined = JoinedFeatures {
                spool,
                schema: Arc::clone(&schema),
                coincident: 0,
            };
            let mut reader = joined.read().unwrap();
            let mut file =
                arrow_ipc::writer::StreamWriter::try_new(Vec::<u8>::new(), &schema).unwrap();
            for rows in [3, 8, 12, 7] {
                let columns = reader.take_apart(rows).unwrap();
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
                file.write(&batch).unwrap();
            }
            file.into_inner().unwrap()
        };
        let wanted = written(&[30]);
        for batches in [&[3, 27][..], &[11, 19], &[1; 30], &[8, 8, 8, 6]] {
            assert_eq!(written(batches), wanted, "{batches:?}");
        }
    }

    /// One row, which takes a megabyte, is the row of a thousand labels.
    #[test]
    fn features_are_gathered_in_batches_of_bounded_size() {
        let text: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["x".repeat(1 << 20)]));
        let text = RecordBatch::try_from_iter_with_nullable([("x", text, true)]).unwrap();
        let schema = text.schema();
        let found = FoundFeatures {
            coincident: 0,
            types: vec![DataType::Utf8],
            batches: vec![text],
            locations: Locations::Direct(vec![Some(FoundPlace { batch: 0, row: 0 }); 40]),
        };
        wafer_catalog::keep_temporary_files_in(std::env::temp_dir(), "TMPDIR");
        let spool = Spool::new(MemoryBudget::new(0));
        let spool = found.append_to(&schema, spool, 2).unwrap();
        let mut rows = 0;
        for batch in spool.read().unwrap() {
            let batch = batch.unwrap();
            assert!(batch.num_rows() < 4, "{}", batch.num_rows());
            rows += batch.num_rows();
        }
        assert_eq!(rows, 40);
    }

    #[test]
    fn features_are_put_into_the_order_of_the_labels() {
        let place = |batch, row| Some(FoundPlace { batch, row });
        let found = FoundFeatures {
            coincident: 0,
            types: vec![DataType::Int64],
            batches: vec![batch(&[10, 11]), batch(&[20])],
            locations: Locations::Direct(vec![place(1, 0), None, place(0, 1), place(1, 0)]),
        };
        let schema = batch(&[]).schema();
        let spool = Spool::new(MemoryBudget::new(usize::MAX));
        let spool = found.append_to(&schema, spool, 2).unwrap();
        let columns = JoinedFeatures {
            spool,
            schema,
            coincident: 0,
        }
        .read()
        .unwrap()
        .take(4)
        .unwrap();
        let values: Vec<_> = columns[0].as_primitive::<Int64Type>().iter().collect();
        assert_eq!(values, [Some(20), None, Some(11), Some(20)]);
    }
}
