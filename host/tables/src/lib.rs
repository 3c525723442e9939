//! The tables of a project, as all services share them.
//!
//! [`Tables`] knows what each table holds, appends the outbox to the offline tables, and leaves
//! out the rows of deleted entities. [`StoredRows`] takes a batch of a table apart.
//!
//! What is deliberately absent: where rows come from, and what they are used for.

mod deletions;
mod outbox;
mod rows;
mod service;
mod tables;

pub use deletions::{Deleted, Deletion, Deletions, key_of, subject_keys};
pub use outbox::FlushReport;
pub use rows::{StoredRows, stored_column, timestamps};
pub use service::Tables;
