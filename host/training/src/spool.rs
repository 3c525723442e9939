//! Record batches that wait in memory, and in a temporary file past a memory budget, until they
//! are read again.

use std::io::{BufReader, BufWriter, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use wafer_catalog::{BoundedFile, DiskRoom, temporary_file};
use wafer_store::{Error, Result};

/// The number of bytes that several spools together may still keep in memory, and the room that
/// there is for their files.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    left: AtomicUsize,
    /// `None` means that there is no limit.
    room: Option<Arc<dyn DiskRoom>>,
}

impl MemoryBudget {
    /// Returns a budget of memory, beside which there is no limit of the disk.
    #[cfg(test)]
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Self::with_room(bytes, None)
    }

    pub(crate) fn with_room(bytes: usize, room: Option<Arc<dyn DiskRoom>>) -> Arc<Self> {
        let left = AtomicUsize::new(bytes);
        Arc::new(Self { left, room })
    }

    /// Takes `bytes` from the budget. Returns `false`, and takes nothing, if less is left.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        let left = |budget: usize| budget.checked_sub(bytes);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.left.fetch_update(set, fetch, left).is_ok()
    }
}

/// A sequence of batches of one schema, of which the first ones are in memory and the others in a
/// temporary file.
pub(crate) struct Spool {
    budget: Arc<MemoryBudget>,
    in_memory: Vec<RecordBatch>,
    file: Option<StreamWriter<BufWriter<BoundedFile>>>,
}

impl Spool {
    /// Creates an empty spool.
    pub(crate) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self {
            budget,
            in_memory: Vec::new(),
            file: None,
        }
    }

    /// Returns the spool with all its batches, and leaves an empty one of the same budget.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(Arc::clone(&self.budget));
        std::mem::replace(self, empty)
    }

    /// Appends a batch. Once a batch does not fit into the budget, it and all later ones are
    /// written to the temporary file.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        if self.file.is_none() && self.budget.try_take(bytes) {
            self.in_memory.push(batch);
            return Ok(());
        }
        if self.file.is_none() {
            let file = temporary_file().map_err(temporary_file_error)?;
            let file = BoundedFile::new(file, self.budget.room.clone());
            let writer = StreamWriter::try_new(BufWriter::new(file), &batch.schema());
            self.file = Some(writer.map_err(temporary_file_error)?);
        }
        let file = self.file.as_mut().expect("the file was opened above");
        file.write(&batch).map_err(temporary_file_error)
    }

    /// Reads the batches in the order in which they were appended.
    pub(crate) fn read(self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let in_memory = self.in_memory.into_iter().map(Ok);
        let Some(mut writer) = self.file else {
            return Ok(Box::new(in_memory));
        };
        writer.finish().map_err(temporary_file_error)?;
        let writer = writer.into_inner().map_err(temporary_file_error)?;
        let file = writer
            .into_inner()
            .map_err(|e| temporary_file_error(e.into_error()))?;
        let mut file = file.into_file();
        file.seek(SeekFrom::Start(0))
            .map_err(temporary_file_error)?;
        let reader =
            StreamReader::try_new(BufReader::new(file), None).map_err(temporary_file_error)?;
        Ok(Box::new(in_memory.chain(
            reader.map(|batch| batch.map_err(temporary_file_error)),
        )))
    }
}

fn temporary_file_error(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    wafer_catalog::temporary_file_error("cannot use a temporary file", cause)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array};

    use wafer_store::Kind;

    use super::*;

    #[test]
    fn spool_returns_batches_in_order_for_any_memory_budget() {
        wafer_catalog::keep_temporary_files_in(std::env::temp_dir(), "TMPDIR");
        for budget in [0, 100_000, usize::MAX] {
            let mut spool = Spool::new(MemoryBudget::new(budget));
            for start in 0..20i64 {
                let column: ArrayRef = Arc::new(Int64Array::from_iter_values(
                    start * 1_000..(start + 1) * 1_000,
                ));
                spool
                    .push(RecordBatch::try_from_iter([("n", column)]).unwrap())
                    .unwrap();
            }
            let numbers: Vec<i64> = spool
                .read()
                .unwrap()
                .flat_map(|batch| {
                    batch
                        .unwrap()
                        .column(0)
                        .as_primitive::<Int64Type>()
                        .values()
                        .to_vec()
                })
                .collect();
            assert_eq!(numbers, (0..20_000).collect::<Vec<_>>(), "{budget}");
        }
        let empty = Spool::new(MemoryBudget::new(0));
        assert_eq!(empty.read().unwrap().count(), 0);
    }

    #[test]
    fn batches_past_the_memory_take_room_on_the_disk() {
        /// Room for so many bytes at a time.
        #[derive(Debug)]
        struct Room(u64);
        impl DiskRoom for Room {
            fn take(&self, bytes: u64) -> std::io::Result<()> {
                match bytes <= self.0 {
                    true => Ok(()),
                    false => Err(std::io::Error::other("no room")),
                }
            }
        }
        wafer_catalog::keep_temporary_files_in(std::env::temp_dir(), "TMPDIR");
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        for (memory, room, fits) in [
            (usize::MAX, 0, true),
            (0, u64::MAX, true),
            (0, 10_000, false),
        ] {
            let budget = MemoryBudget::with_room(memory, Some(Arc::new(Room(room))));
            let mut spool = Spool::new(budget);
            let pushed = spool.push(batch.clone()).and_then(|()| spool.read());
            match pushed {
                Ok(batches) => assert!(fits && batches.count() == 1, "{memory} {room}"),
                Err(refused) => {
                    assert!(!fits && refused.kind() == Kind::Unavailable, "{refused}");
                    assert!(refused.chain().contains("no room"), "{}", refused.chain());
                }
            }
        }
    }
}
