//! The stores of Wafer and their embedded backends.
//!
//! - [`OnlineStore`]: the latest row of each entity, and the commits of events.
//! - [`Outbox`]: rows that were acknowledged and are not in the offline tables yet.
//! - [`Upkeep`]: what a store wants done from time to time; [`Metered`]: what its calls cost.
//! - [`MetadataStore`]: runs, leases and the pointer to the applied definitions, as small objects
//!   that are written one by one.
//! - [`ArtifactStore`]: components, compiled code, assets and definitions, named by their content.
//!   [`CheckedCode`] compares compiled code with its digest in the metadata store.
//! - [`OfflineTables`]: all rows, as Delta tables of Parquet files.
//!
//! The embedded backends are LMDB ([`Lmdb`]) and a folder ([`ArtifactFolder`]). The AWS
//! backends are in the crate `wafer-aws`, and [`MemoryStore`] is for tests. [`Backends`] opens
//! all [`Stores`] of a project by the scheme of a URL. The test suite that every backend must pass
//! is the crate `wafer-store-contract`. Offline tables are a concrete type and not a trait, because
//! Delta Lake already abstracts over object stores.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod artifact;
mod backend;
mod compiled_code;
mod error;
mod folder;
mod in_bytes;
mod lease;
mod lmdb;
mod memory;
mod metadata;
mod offline;
mod online;
mod outbox;
mod place;
mod private;
mod remote;
mod sharing;
mod stores;
mod upkeep;
mod usage;

pub use artifact::{
    ArtifactStore, ArtifactStoreExt, blob_name, damaged_artifact, digest_file, large_artifact,
};
pub use backend::{Backend, Backends, Embedded, MissingBackend, StoreLocation};
pub use compiled_code::{COMPILED, CheckedCode};
pub use error::{Error, Kind, Result};
pub use folder::{ArtifactFolder, PartialArtifact};
pub use lease::{Lease, Leased};
pub use lmdb::{Lmdb, LmdbConfig};
pub use memory::{MemoryStore, Overridden, OverriddenCalls};
pub use metadata::{Expect, MetadataStore, Versioned, check_object};
pub use offline::{
    ARRIVAL_ORDER, AsOf, Commit, Compaction, DataFile, Follows, OfflineTables, Share, TableChange,
    TableInfo, TableSnapshot, TableWriter, Txn, WrittenFiles,
};
pub use online::{
    CountRead, EarlyWrite, EventCommit, EventOutcome, FromOutbox, GroupContent, OnlineKey,
    OnlineRow, OnlineStore, OnlineWrite, PutCounts, combine,
};
pub use outbox::{Outbox, OutboxContents, OutboxEntry, OutboxRow};
pub use place::Place;
pub use private::{make_private_folder, open_stored_file};
pub use remote::{RemoteFile, RemoteFiles, RemoteFilesExt, RemoteListing, UnreachableFiles};
pub use sharing::{sharing, sharing_processes};
pub use stores::Stores;
pub use upkeep::Upkeep;
pub use usage::{Consumed, Metered, for_work, work_label};
