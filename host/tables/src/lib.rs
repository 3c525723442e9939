//! The tables of a project, as all services share them.
//!
//! [`Tables`] knows the definition of each table, appends the rows of the outbox to the offline
//! tables, and leaves out the rows of deleted entities. [`StoredRows`] splits a batch of a table
//! into typed columns.
//!
//! This crate deliberately does not know where rows come from or what they are used for.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod deletions;
mod outbox;
mod pins;
mod rows;
mod service;
mod tables;
#[cfg(test)]
mod tests;

pub use deletions::{Deleted, Deletion, Deletions, key_of, subject_keys};
pub use outbox::FlushReport;
pub use pins::Pin;
pub use rows::{
    StoredRows, SystemValues, arrival_orders, order_of, stored_column, table_batch, timestamps,
};
pub use service::Tables;
