//! Batches that wait to be read again: in memory, past a size in a temporary file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use wafer_store::{Error, Kind, Result};

/// Bytes that may stay in memory, of several spools.
#[derive(Debug)]
pub(crate) struct Room(AtomicUsize);

impl Room {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// Takes so much of it; says whether there was as much.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let left = |room: usize| room.checked_sub(bytes);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_update(set, fetch, left).is_ok()
    }
}

/// Takes batches of one schema.
pub(crate) struct Spool {
    pub(crate) room: Arc<Room>,
    held: Vec<RecordBatch>,
    file: Option<StreamWriter<BufWriter<File>>>,
}

impl Spool {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self {
            room,
            held: Vec::new(),
            file: None,
        }
    }

    /// All that came so far, leaving none.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(Arc::clone(&self.room));
        std::mem::replace(self, empty)
    }

    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        if self.file.is_none() && self.room.take(bytes) {
            self.held.push(batch);
            return Ok(());
        }
        if self.file.is_none() {
            // Without a name, so that it is gone whatever happens to this process.
            let file = tempfile::tempfile().map_err(failed)?;
            let writer = StreamWriter::try_new(BufWriter::new(file), &batch.schema());
            self.file = Some(writer.map_err(failed)?);
        }
        let file = self.file.as_mut().expect("it was opened");
        file.write(&batch).map_err(failed)
    }

    /// The batches, in the order in which they came.
    pub(crate) fn read(self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let held = self.held.into_iter().map(Ok);
        let Some(mut writer) = self.file else {
            return Ok(Box::new(held));
        };
        writer.finish().map_err(failed)?;
        let writer = writer.into_inner().map_err(failed)?;
        let mut file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(failed)?;
        Ok(Box::new(
            held.chain(reader.map(|batch| batch.map_err(failed))),
        ))
    }
}

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message =
        "cannot use a temporary file; the environment variable TMPDIR says where they are";
    Error::caused(Kind::Unavailable, message, cause)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn what_comes_in_comes_out_in_order() {
        for room in [0, 100_000, usize::MAX] {
            let mut spool = Spool::new(Room::new(room));
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
            assert_eq!(numbers, (0..20_000).collect::<Vec<_>>(), "{room}");
        }
        assert_eq!(Spool::new(Room::new(0)).read().unwrap().count(), 0);
    }
}
