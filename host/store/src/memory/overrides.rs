//! A store in memory of which a test overrides some calls: to fail, to count or to disturb them.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::Timestamp;

use super::MemoryStore;
use crate::{Expect, MetadataStore, Outbox, OutboxContents, OutboxEntry, Result, Versioned};

/// The calls of a [`MemoryStore`] that a test can override. Each does what the store does, unless
/// it is overridden. [`Overridden`] makes a store of it.
#[async_trait]
pub trait OverriddenCalls: fmt::Debug + Send + Sync + 'static {
    /// Returns the store that answers all other calls.
    fn store(&self) -> &MemoryStore;

    /// [`MetadataStore::get`].
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        self.store().get(name).await
    }

    /// [`MetadataStore::put`].
    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        self.store().put(name, value, expect).await
    }

    /// [`MetadataStore::delete`].
    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        self.store().delete(name, expect).await
    }

    /// [`MetadataStore::list`].
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        self.store().list(prefix).await
    }

    /// [`Outbox::has_rows`].
    async fn has_rows(&self) -> Result<bool> {
        self.store().has_rows().await
    }

    /// [`Outbox::waiting_since`].
    async fn waiting_since(&self) -> Result<Option<Timestamp>> {
        self.store().waiting_since().await
    }

    /// [`Outbox::waiting`].
    async fn waiting(&self) -> Result<OutboxContents> {
        self.store().waiting().await
    }

    /// [`Outbox::read`].
    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        self.store().read(table, limit).await
    }

    /// [`Outbox::trim`].
    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        self.store().trim(table, through).await
    }
}

/// A metadata store and an outbox in memory, some of whose calls are overridden.
#[derive(Debug)]
pub struct Overridden<T>(pub T);

impl<T> fmt::Display for Overridden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl<T: OverriddenCalls> MetadataStore for Overridden<T> {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        self.0.get(name).await
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        self.0.put(name, value, expect).await
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        self.0.delete(name, expect).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        self.0.list(prefix).await
    }
}

#[async_trait]
impl<T: OverriddenCalls> Outbox for Overridden<T> {
    async fn has_rows(&self) -> Result<bool> {
        self.0.has_rows().await
    }

    async fn waiting_since(&self) -> Result<Option<Timestamp>> {
        self.0.waiting_since().await
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        self.0.waiting().await
    }

    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        self.0.read(table, limit).await
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        self.0.trim(table, through).await
    }
}
