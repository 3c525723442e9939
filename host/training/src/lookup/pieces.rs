//! Pieces of a table, which several workers read in parallel.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use wafer_catalog::blocking;
use wafer_core::rules::Interval;
use wafer_store::{Result, Share};

use crate::lookup::LookupJoin;

/// The number of rows that a piece has, about.
const PIECE_ROWS: u64 = 524_288;

/// Some row groups of a data file.
#[derive(Clone, Copy)]
pub(crate) struct TablePiece {
    /// Position of the file in the snapshot.
    file: usize,
    share: Share,
}

/// The pieces of a table, which workers take one after the other.
pub(crate) struct PieceQueue {
    pub(crate) pieces: Vec<TablePiece>,
    pub(crate) next: AtomicUsize,
}

impl PieceQueue {
    /// Takes the next piece. Returns its number and the piece, or `None` when all were taken.
    pub(crate) fn take(&self) -> Option<(usize, TablePiece)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, *self.pieces.get(number)?))
    }
}

impl LookupJoin {
    /// Divides the files of the snapshot into pieces of some row groups, so that no worker has
    /// to wait for another one that reads a large file.
    pub(crate) fn pieces(&self) -> Vec<TablePiece> {
        let files = self.snapshot.files().iter().enumerate();
        let pieces = files.flat_map(|(file, data)| {
            let of = data.rows.unwrap_or(0).div_ceil(PIECE_ROWS).max(1) as usize;
            (0..of).map(move |number| TablePiece {
                file,
                share: Share { number, of },
            })
        });
        pieces.collect()
    }

    /// Starts `work` once for each worker, with the queue of all pieces. Returns the results of
    /// all workers.
    ///
    /// The workers run on blocking threads, because decoding and joining keep a processor busy.
    pub(crate) async fn for_each_piece<T, F, Fut>(self: &Arc<Self>, work: F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Self>, Arc<PieceQueue>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T>>,
    {
        let pieces = self.pieces();
        let workers = self.workers.min(pieces.len()).max(1);
        let queue = Arc::new(PieceQueue {
            pieces,
            next: AtomicUsize::new(0),
        });
        let tasks = (0..workers).map(|_| {
            let (join, work, queue) = (Arc::clone(self), work.clone(), Arc::clone(&queue));
            let runtime = tokio::runtime::Handle::current();
            blocking(move || runtime.block_on(work(join, queue)))
        });
        let done = futures::future::join_all(tasks).await;
        done.into_iter().map(|task| task?).collect()
    }

    /// Reads some columns of the rows of a piece whose event times are in `interval`.
    pub(crate) async fn read_piece(
        &self,
        piece: TablePiece,
        columns: &[String],
        interval: Interval,
    ) -> Result<BoxStream<'static, wafer_store::Result<RecordBatch>>> {
        self.given_up.check()?;
        let data = &self.snapshot.files()[piece.file];
        if !data.overlaps(interval) {
            return Ok(futures::stream::empty().boxed());
        }
        let batches = self
            .snapshot
            .read_share(data, columns, interval, piece.share);
        batches.await
    }
}

/// Returns the number of the first row of a piece. The following rows have the next numbers.
pub(crate) fn first_row_number(piece: usize) -> u64 {
    (piece as u64) << ROW_BITS
}

/// The number of bits of a row's number that hold its place within the piece. The bits above
/// hold the number of the piece.
const ROW_BITS: u32 = 40;

/// The set of rows to read with their features, piece by piece.
pub(crate) struct WantedRows {
    pieces: Vec<WantedOfPiece>,
}

/// The rows of one piece that are in the set.
struct WantedOfPiece {
    /// A bit map of the rows, in words of 64 bits.
    words: Vec<u64>,
    /// For each word the number of bits that are set before it.
    before: Vec<u32>,
}

/// The place of a row among the rows that are read with their features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedPlace {
    /// The number of the piece.
    pub(crate) piece: usize,
    /// The place of the row among the rows of the piece that are in the set.
    pub(crate) rank: u32,
}

impl WantedRows {
    /// Creates the set of the rows with these numbers.
    pub(crate) fn new(rows: &[Option<u64>], pieces: usize) -> Self {
        let mut bits: Vec<Vec<u64>> = vec![Vec::new(); pieces];
        for number in rows.iter().flatten() {
            let (piece, row) = split_row_number(*number);
            let word = (row / 64) as usize;
            if bits[piece].len() <= word {
                bits[piece].resize(word + 1, 0);
            }
            bits[piece][word] |= 1 << (row % 64);
        }
        let counted = bits.into_iter().map(|words| {
            let before = words.iter().scan(0, |sum, word| {
                let before = *sum;
                *sum += word.count_ones();
                Some(before)
            });
            let before = before.collect();
            WantedOfPiece { words, before }
        });
        Self {
            pieces: counted.collect(),
        }
    }

    /// Returns whether any row of a piece is in the set.
    pub(crate) fn has_rows_of(&self, piece: usize) -> bool {
        !self.pieces[piece].words.is_empty()
    }

    /// Returns whether a row of a piece is in the set.
    pub(crate) fn contains(&self, piece: usize, row: u64) -> bool {
        let word = self.pieces[piece].words.get((row / 64) as usize);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Returns the place of a row in the set.
    pub(crate) fn locate(&self, number: u64) -> WantedPlace {
        let (piece, row) = split_row_number(number);
        let WantedOfPiece { words, before } = &self.pieces[piece];
        let word = (row / 64) as usize;
        let below = words[word] & ((1 << (row % 64)) - 1);
        WantedPlace {
            piece,
            rank: before[word] + below.count_ones(),
        }
    }
}

/// Splits the number of a row into its piece and its place within the piece.
fn split_row_number(number: u64) -> (usize, u64) {
    (
        (number >> ROW_BITS) as usize,
        number & ((1 << ROW_BITS) - 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_rows_are_located_by_their_rank_in_the_piece() {
        let rows = [0, 63, 64, 200].map(|row| Some(first_row_number(0) + row));
        let of_third = [Some(first_row_number(2) + 5), None];
        // Several labels may find the same row.
        let all: Vec<Option<u64>> = rows.into_iter().chain(of_third).chain(rows).collect();
        let wanted = WantedRows::new(&all, 3);
        assert_eq!(
            [0, 1, 2].map(|piece| wanted.has_rows_of(piece)),
            [true, false, true]
        );
        for (piece, row, rank) in [
            (0, 0, Some(0)),
            (0, 1, None),
            (0, 63, Some(1)),
            (0, 64, Some(2)),
            (0, 199, None),
            (0, 200, Some(3)),
            (0, 100_000, None),
            (1, 0, None),
            (2, 5, Some(0)),
        ] {
            assert_eq!(
                wanted.contains(piece, row),
                rank.is_some(),
                "{piece}, {row}"
            );
            if let Some(rank) = rank {
                let place = wanted.locate(first_row_number(piece) + row);
                assert_eq!(place, WantedPlace { piece, rank }, "{piece}, {row}");
            }
        }
    }
}
