//! The stores of Wafer and their embedded backends.
//!
//! - [`OnlineStore`]: the latest row of each entity, and the outbox of rows that are not in
//!   the offline tables yet.
//! - [`MetadataStore`]: definitions, runs and leases, as small objects that are written one
//!   by one.
//! - [`ArtifactStore`]: components, compiled code and assets, named by their content.
//! - [`OfflineTables`]: all rows, as Delta tables of Parquet files.
//!
//! The embedded backends are LMDB ([`Lmdb`]) and a folder ([`ArtifactFolder`]). The AWS
//! backends are in the crate `wafer-aws`. The `contract` module (feature `contract`) holds
//! the test suite that every backend must pass. Offline tables are a concrete type and not a
//! trait, because Delta Lake already abstracts over object stores.

mod artifact;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod folder;
mod lease;
mod lmdb;
mod metadata;
mod offline;
mod online;
mod remote;
mod usage;

pub use artifact::{ArtifactStore, ArtifactStoreExt, blob_name, digest_file};
pub use error::{Error, Kind, Result};
pub use folder::ArtifactFolder;
pub use lease::{Lease, Leased};
pub use lmdb::{Lmdb, LmdbConfig};
pub use metadata::{Expect, MetadataStore, Versioned};
pub use offline::{
    AsOf, Change, Commit, Compaction, DataFile, Follows, OfflineTables, Share, TableInfo,
    TableSnapshot, TableWriter, Txn, WrittenFiles,
};
pub use online::{
    EarlyWrite, EventCommit, EventOutcome, FromOutbox, GroupContent, OnlineKey, OnlineRow,
    OnlineStore, OnlineWrite, OutboxEntry, OutboxRow, PutCounts, Waiting, combine,
};
pub use remote::{RemoteFile, RemoteFiles, UnreachableFiles};
pub use usage::{Consumed, for_work, work_label};
