//! Reports of how long work comes along, for people who wait for it.

/// Told how a run comes along.
pub trait Progress: Send + Sync {
    /// So many source rows were read, of so many if that is known.
    fn read(&self, rows: u64, total: Option<u64>);
    /// The run enters a stage.
    fn stage(&self, stage: &str);
}

/// Tells nobody.
impl Progress for () {
    fn read(&self, _rows: u64, _total: Option<u64>) {}
    fn stage(&self, _stage: &str) {}
}
