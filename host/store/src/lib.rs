//! Where Wafer keeps things.
//!
//! - [`OnlineStore`]: the latest row of each entity, and the outbox of rows on
//!   their way to the offline tables.
//! - [`MetadataStore`]: definitions, runs and leases, each object by itself.
//! - [`ArtifactStore`]: components and compiled code, named by their content.
//! - [`OfflineTables`]: all rows, as Delta tables of Parquet files.
//!
//! The embedded backends are LMDB ([`Lmdb`]) and a folder ([`ArtifactFolder`]); those
//! on AWS are in the crate `wafer-aws`. The `contract` module (feature
//! `contract`) holds the suite that every backend must pass. Offline tables are
//! one concrete type: Delta brings an object store of its own.

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
pub use lease::Lease;
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
pub use remote::{RemoteFile, RemoteFiles};
pub use usage::{Consumed, for_work, work_label};
