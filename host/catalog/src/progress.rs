//! Reports of the progress of work, for people who wait for it.

/// Receives reports of the progress of a run.
pub trait Progress: Send + Sync {
    /// Reports the number of source rows read so far, and their total number if it is known.
    fn read(&self, rows: u64, total: Option<u64>);
    /// Reports that the run enters a stage.
    fn stage(&self, stage: &str);
}

/// Ignores all reports.
impl Progress for () {
    fn read(&self, _rows: u64, _total: Option<u64>) {}
    fn stage(&self, _stage: &str) {}
}
