//! Pieces of a table that workers read side by side.

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

/// Rows that a worker reads at a time.
const PIECE_ROWS: u64 = 524_288;

/// Some row groups of a file.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    file: usize,
    share: Share,
}

/// Pieces that are still to be read.
pub(crate) struct Queue {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) next: AtomicUsize,
}

impl Queue {
    /// The next piece and its number.
    pub(crate) fn take(&self) -> Option<(usize, Piece)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, *self.pieces.get(number)?))
    }
}

impl LookupJoin {
    /// What there is to read, in pieces that keep all workers busy.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let files = self.snapshot.files().iter().enumerate();
        let pieces = files.flat_map(|(file, data)| {
            let of = data.rows.unwrap_or(0).div_ceil(PIECE_ROWS).max(1) as usize;
            (0..of).map(move |number| Piece {
                file,
                share: Share { number, of },
            })
        });
        pieces.collect()
    }

    /// Has all pieces read by workers, each of which takes the next one when it is done
    /// with one, by tasks that may use the processor as they like.
    pub(crate) async fn each_piece<T, F, Fut>(self: &Arc<Self>, work: F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Self>, Arc<Queue>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T>>,
    {
        let pieces = self.pieces();
        let workers = self.workers.min(pieces.len()).max(1);
        let queue = Arc::new(Queue {
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

    /// Reads some columns of a piece.
    pub(crate) async fn read_piece(
        &self,
        piece: Piece,
        columns: &[String],
        interval: Interval,
    ) -> Result<BoxStream<'static, wafer_store::Result<RecordBatch>>> {
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

/// Rows of a piece are numbered from here on.
pub(crate) fn first_number(piece: usize) -> u64 {
    (piece as u64) << ROW_BITS
}

/// Bits of a row's number within its piece.
const ROW_BITS: u32 = 40;

/// Which rows of which pieces are to be read: a bit for each, and how many come before
/// each 64 of them.
pub(crate) struct WantedRows {
    pub(crate) pieces: Vec<(Vec<u64>, Vec<u32>)>,
}

impl WantedRows {
    pub(crate) fn new(rows: &[Option<u64>], pieces: usize) -> Self {
        let mut bits: Vec<Vec<u64>> = vec![Vec::new(); pieces];
        for number in rows.iter().flatten() {
            let (piece, row) = split_number(*number);
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
            (words, before)
        });
        Self {
            pieces: counted.collect(),
        }
    }

    pub(crate) fn is_of(&self, piece: usize) -> bool {
        !self.pieces[piece].0.is_empty()
    }

    pub(crate) fn has(&self, piece: usize, row: u64) -> bool {
        let word = self.pieces[piece].0.get((row / 64) as usize);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Piece of a row that is wanted, and its place among those of the piece.
    pub(crate) fn place(&self, number: u64) -> (usize, u32) {
        let (piece, row) = split_number(number);
        let (words, before) = &self.pieces[piece];
        let word = (row / 64) as usize;
        let below = words[word] & ((1 << (row % 64)) - 1);
        (piece, before[word] + below.count_ones())
    }
}

/// Piece and row of a number.
fn split_number(number: u64) -> (usize, u64) {
    (
        (number >> ROW_BITS) as usize,
        number & ((1 << ROW_BITS) - 1),
    )
}
