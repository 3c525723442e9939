//! Reports of the progress of work, for people who wait for it.

use wafer_core::Duration;

/// How much work a backfill is, before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillEstimate {
    /// The number of intervals.
    pub intervals: usize,
    /// The number of pieces that they are written in. A piece is one commit.
    pub pieces: usize,
    /// How often the source is read.
    pub passes: usize,
    /// The number of rows of the source, about, if it is known.
    pub rows: Option<u64>,
    /// How long the backfill takes, about, if that is known.
    pub duration: Option<Duration>,
}

/// Receives reports of the progress of a run.
pub trait Progress: Send + Sync {
    /// Reports the number of source rows read so far, and their total number if it is known.
    fn read(&self, rows: u64, total: Option<u64>);
    /// Reports that the run enters a stage.
    fn stage(&self, stage: &str);
    /// Reports how much work a backfill is, before it begins.
    fn backfill(&self, _estimate: &BackfillEstimate) {}
}

/// Ignores all reports.
impl Progress for () {
    fn read(&self, _rows: u64, _total: Option<u64>) {}
    fn stage(&self, _stage: &str) {}
}
