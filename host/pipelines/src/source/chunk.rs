//! A chunk: some rows of one file, as the columns that a function reads.

use arrow_array::ArrayRef;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use wafer_catalog::Reject;
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_runtime::failed_row;
use wafer_store::{Error, Result};

/// Some rows of one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The function's input columns, in the order of its signature.
    pub(crate) columns: Vec<ArrayRef>,
    /// The id of the file; the identities of its rows begin with it.
    pub(crate) file_id: String,
    /// The position of the file among the files that a run reads, which orders its rows.
    pub(crate) file_number: u64,
    /// The name of the file, for messages.
    pub(crate) file: String,
    /// The number of each row in the file: counted from 0 in Parquet files, the line in text
    /// files.
    pub(crate) numbers: Vec<u64>,
    /// The identities and available times of the rows, if they come from a stored table and not
    /// from a source's files.
    pub(crate) stored: Option<StoredRowOrigins>,
    /// The rows that could not be read.
    pub(crate) rejects: Vec<Reject>,
    /// The number of rows that were looked at, including rejected and skipped ones; it is used
    /// to report progress.
    pub(crate) seen: u64,
}

/// The identities and available times of rows that come from a stored table.
#[derive(Debug)]
pub(crate) struct StoredRowOrigins {
    /// The event identity of each row.
    pub(crate) ids: Vec<String>,
    /// The available time of each row.
    pub(crate) available: Vec<Timestamp>,
    /// Whether the rows are raw events, whose available times already account for the source's
    /// delay.
    pub(crate) as_events: bool,
}

/// What is read of files at once.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Some rows of a file.
    Rows(Chunk),
    /// All of a file that has no rows. Whoever has bounds counts it, as there may be many of them.
    EmptyFile,
}

/// Returns the rows of pieces.
pub(crate) fn rows_among(
    pieces: BoxStream<'static, Result<Piece>>,
) -> BoxStream<'static, Result<Chunk>> {
    let rows = |piece| async move {
        Ok::<_, Error>(match piece {
            Piece::Rows(chunk) => Some(chunk),
            Piece::EmptyFile => None,
        })
    };
    pieces.try_filter_map(rows).boxed()
}

impl Chunk {
    /// The number of rows that could be read.
    pub(crate) fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the event identity of a row.
    pub(crate) fn event_id(&self, row: usize) -> String {
        match &self.stored {
            Some(known) => known.ids[row].clone(),
            None => format!("{}:{}", self.file_id, self.numbers[row]),
        }
    }

    /// Returns the chunk with only those rows whose available time lies in an interval. Rows of
    /// files have no available time of their own and all stay.
    pub(crate) fn available_in(mut self, interval: Interval) -> Self {
        let Some(known) = &mut self.stored else {
            return self;
        };
        let arrived: Vec<bool> = known
            .available
            .iter()
            .map(|t| interval.contains(*t))
            .collect();
        if arrived.iter().all(|arrived| *arrived) {
            return self;
        }
        fn keep<T>(values: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            values.retain(|_| kept.next().is_some_and(|kept| *kept));
        }
        keep(&mut known.ids, &arrived);
        keep(&mut known.available, &arrived);
        keep(&mut self.numbers, &arrived);
        let mask = arrow_array::BooleanArray::from(arrived);
        let filtered = |column: &ArrayRef| {
            arrow_select::filter::filter(column, &mask).expect("as many bits as rows")
        };
        self.columns = self.columns.iter().map(filtered).collect();
        self
    }

    /// Returns the time that decides which interval an output row belongs to. For rows of
    /// another group this is the available time of the row at index `source`, for other rows
    /// their own event time.
    pub(crate) fn interval_time(
        &self,
        source: usize,
        event: Option<Timestamp>,
    ) -> Option<Timestamp> {
        match &self.stored {
            Some(known) if !known.as_events => Some(known.available[source]),
            _ => event,
        }
    }

    /// Returns the file and the number of a row, for messages.
    pub(crate) fn place(&self, row: usize) -> String {
        format!("{}:{}", self.file, self.numbers[row])
    }

    /// Returns the error of a call on the rows, with the place of the row that is to blame, or of
    /// all of them.
    pub(crate) fn failure(&self, error: Error) -> Error {
        let place = match failed_row(&error) {
            Some(row) => self.place(row),
            None => {
                let first = self.numbers.first().copied().unwrap_or(0);
                let last = self.numbers.last().copied().unwrap_or(0);
                format!("{}, rows {first} to {last}", self.file)
            }
        };
        Error::caused(error.kind(), format!("{place}: {error}"), error)
    }
}
