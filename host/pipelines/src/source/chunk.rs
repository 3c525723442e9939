//! Some rows of one file, as the columns that a function reads.

use arrow_array::ArrayRef;
use wafer_catalog::Reject;
use wafer_core::Timestamp;
use wafer_core::rules::Interval;

/// Some rows of one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The function's inputs.
    pub(crate) columns: Vec<ArrayRef>,
    /// Names the file in the identity of its rows.
    pub(crate) file_id: String,
    /// Name of the file, for messages.
    pub(crate) file: String,
    /// For each row its number in the file: from 0 in Parquet, the line in texts.
    pub(crate) numbers: Vec<u64>,
    /// Rows that have an identity of their own and were visible from some time on:
    /// those of other tables.
    pub(crate) stored: Option<StoredRowOrigins>,
    /// Rows that could not be read.
    pub(crate) rejects: Vec<Reject>,
    /// Rows looked at, readable or not.
    pub(crate) seen: u64,
}

/// What is known of rows that were stored before.
#[derive(Debug)]
pub(crate) struct StoredRowOrigins {
    pub(crate) ids: Vec<String>,
    pub(crate) available: Vec<Timestamp>,
    /// Whether they came in as events, so that the source's delay is in these times.
    pub(crate) as_events: bool,
}

impl Chunk {
    /// Number of rows that could be read.
    pub(crate) fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Identity of a row.
    pub(crate) fn event_id(&self, row: usize) -> String {
        match &self.stored {
            Some(known) => known.ids[row].clone(),
            None => format!("{}:{}", self.file_id, self.numbers[row]),
        }
    }

    /// The rows of another group that became visible in an interval.
    pub(crate) fn arrived_in(mut self, interval: Interval) -> Self {
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

    /// The time by which the interval of a row is found: when what it was made from
    /// became visible, if that is a row of another group, else its own.
    pub(crate) fn placed_at(&self, source: usize, event: Option<Timestamp>) -> Option<Timestamp> {
        match &self.stored {
            Some(known) if !known.as_events => Some(known.available[source]),
            _ => event,
        }
    }

    /// Where a row is, for people.
    pub(crate) fn place(&self, row: usize) -> String {
        format!("{}:{}", self.file, self.numbers[row])
    }
}
