//! The contract suites that every backend must pass, run on the embedded backends and on the one
//! for tests.
#![allow(
    clippy::disallowed_methods,
    reason = "tests make temporary folders of their own"
)]

use wafer_store::{ArtifactFolder, Lmdb, LmdbConfig, MemoryStore, Overridden, OverriddenCalls};
use wafer_store_contract as contract;

/// Opens an LMDB store in a folder.
fn lmdb(folder: &tempfile::TempDir) -> Lmdb {
    Lmdb::open(&LmdbConfig {
        path: folder.path().to_owned(),
        map_size: 1 << 30,
    })
    .expect("the folder is new")
}

#[tokio::test]
async fn lmdb_is_an_online_store() {
    let folder = tempfile::tempdir().unwrap();
    contract::online(&lmdb(&folder)).await;
}

#[tokio::test]
async fn lmdb_is_a_metadata_store() {
    let folder = tempfile::tempdir().unwrap();
    contract::metadata(&lmdb(&folder)).await;
}

#[tokio::test]
async fn folder_is_an_artifact_store() {
    let folder = tempfile::tempdir().unwrap();
    contract::artifacts(&ArtifactFolder::open(folder.path()).unwrap()).await;
}

#[tokio::test]
async fn memory_is_an_online_store() {
    contract::online(&MemoryStore::default()).await;
}

#[tokio::test]
async fn memory_is_a_metadata_store() {
    contract::metadata(&MemoryStore::default()).await;
}

/// A store of which no call is overridden.
#[derive(Debug, Default)]
struct AsItIs(MemoryStore);

impl OverriddenCalls for AsItIs {
    fn store(&self) -> &MemoryStore {
        &self.0
    }
}

#[tokio::test]
async fn memory_is_a_metadata_store_whatever_may_be_overridden() {
    contract::metadata(&Overridden(AsItIs::default())).await;
}
