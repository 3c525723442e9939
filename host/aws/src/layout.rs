//! The layout item of a table: which project the table belongs to, and in which epoch each
//! group's rows are.
//!
//! The online rows of a group are replaced atomically in these steps (`replace_group` in
//! `online.rs`):
//!
//! 1. Commits that were left unfinished are finished, because the content of the group may
//!    include their rows.
//! 2. The new rows are written under a new epoch, which no process uses yet.
//! 3. The new epoch is announced as the one that is being filled, and all processes write to it
//!    as well.
//! 4. The rows that came in meanwhile are added from the outbox.
//! 5. The live epoch is changed in this item. Later, the old epoch is cleared.
//!
//! Every process reads the item again when its copy is older than `layout_age` ([`Layouts`]), so
//! each change that all processes must know of waits for that long.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wafer_core::{Clock, Timestamp};
use wafer_store::{Error, Kind, OnlineKey, Result};

use crate::table::{
    Condition, Item, Key, Table, WriteOutcome, bytes, bytes_of, number, number_of, text, text_of,
};

/// Number of partitions that the rows of a group are spread over.
pub(crate) const BUCKETS: u8 = 64;
/// Version of the table's format. A table of a newer format is refused.
const FORMAT: u32 = 1;

/// The epochs of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableEpochs {
    groups: BTreeMap<String, Epochs>,
    /// The last epoch that was begun, of any group.
    next: u64,
    /// All commits that were begun before this time are finished, flushed and removed.
    pub(crate) settled: Option<Timestamp>,
}

/// The epochs of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epochs {
    /// The epoch that is read.
    pub(crate) live: u64,
    /// The epoch that is being filled, to be read next. It also receives all writes.
    pub(crate) filling: Option<u64>,
    /// The epoch that was read before, while some process may still read it. It also receives
    /// all writes.
    pub(crate) retiring: Option<u64>,
    /// Epochs that will not be read any more, or were never read; their items must be removed.
    #[serde(default)]
    pub(crate) obsolete: Vec<u64>,
}

impl Epochs {
    /// Returns all epochs that receive writes.
    pub(crate) fn written(&self) -> impl Iterator<Item = u64> + use<> {
        let others = self.filling.into_iter().chain(self.retiring);
        others.chain([self.live])
    }
}

impl TableEpochs {
    pub(crate) fn epochs(&self, group: &str) -> Epochs {
        self.groups.get(group).cloned().unwrap_or_default()
    }

    pub(crate) fn live(&self, group: &str) -> u64 {
        self.groups.get(group).map_or(0, |epochs| epochs.live)
    }

    pub(crate) fn set(&mut self, group: &str, epochs: Epochs) {
        self.groups.insert(group.to_owned(), epochs);
    }

    /// Begins a new epoch of a group and returns its number, which no epoch has had before. It
    /// is listed as obsolete until it becomes live, so that it is cleaned up if it never does.
    pub(crate) fn begin(&mut self, group: &str) -> u64 {
        self.next += 1;
        let mut epochs = self.epochs(group);
        epochs.obsolete.push(self.next);
        self.set(group, epochs);
        self.next
    }
}

/// Returns the partition key of one bucket of a group's epoch.
pub(crate) fn partition(group: &str, epoch: u64, bucket: u8) -> String {
    format!("o/{group}/{epoch}/{bucket:02x}")
}

/// Returns the key of an entity's item in an epoch of its group.
pub(crate) fn place(key: &OnlineKey, epoch: u64) -> Key {
    let digest = wafer_core::Digest::of(key.entity.as_bytes());
    let bucket = digest.as_bytes()[0] % BUCKETS;
    Key::new(partition(&key.group, epoch, bucket), key.entity.as_bytes())
}

/// Returns the group of a place.
pub(crate) fn group_of(place: &Key) -> &str {
    place.partition.split('/').nth(1).unwrap_or_default()
}

fn own_key() -> Key {
    Key::single("l")
}

/// Returns the item of the layout, which every table has that was opened once.
///
/// # Errors
/// Returns the error of [`missing_layout`] when it is not there.
async fn present(table: &Table, item: Option<Item>) -> Result<Item> {
    match item {
        Some(item) => Ok(item),
        None => Err(missing_layout(table).await),
    }
}

/// Makes the error for a layout that is not there. Something else than DynamoDB may have answered
/// that there are no items: it knows no tables either.
pub(crate) async fn missing_layout(table: &Table) -> Error {
    match table.is_described().await {
        Ok(false) => {
            let message = format!(
                "what answers for DynamoDB table `{}` in {} does not answer as DynamoDB does: it has neither \
                 the item that was written to it, nor a table. Look at AWS_ENDPOINT_URL_DYNAMODB and \
                 AWS_ENDPOINT_URL, and at `endpoint_url` in the AWS profile",
                table.name, table.region
            );
            Error::new(Kind::Invalid, message)
        }
        // A role need not be allowed to ask.
        Ok(true) | Err(_) => table.corrupt("lost its layout: the table was created anew"),
    }
}

/// A cache of the layout as it was last read.
#[derive(Debug)]
pub(crate) struct Layouts {
    project: String,
    /// Maximum age of the cached layout.
    age: Duration,
    machine_clock: Arc<dyn Clock>,
    known: RwLock<CachedLayout>,
}

#[derive(Clone, Debug, Default)]
struct CachedLayout {
    layout: Arc<TableEpochs>,
    version: u64,
    read: Option<Timestamp>,
}

impl Layouts {
    /// Reads the layout of a table, and creates it if the table is new.
    pub(crate) async fn open(
        table: &Table,
        project: &str,
        age: Duration,
        machine_clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let layouts = Self {
            project: project.to_owned(),
            age,
            machine_clock,
            known: RwLock::default(),
        };
        let asked = layouts.machine_clock.now();
        let item = match table.get(&own_key()).await? {
            Some(item) => Some(item),
            None => {
                let item = layouts.item(table, &TableEpochs::default(), 1);
                table.put(&item, Some(&Condition::absent())).await?;
                table.get(&own_key()).await?
            }
        };
        layouts.learn(table, &present(table, item).await?, asked)?;
        Ok(layouts)
    }

    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    fn item(&self, table: &Table, layout: &TableEpochs, version: u64) -> Item {
        let mut item = own_key().item();
        let data = serde_json::to_vec(layout).expect("plain data");
        item.insert("n".to_owned(), number(version));
        // A random token distinguishes this write from an equal one by another process.
        item.insert("w".to_owned(), number(table.random.next()));
        item.insert("project".to_owned(), text(&self.project));
        item.insert("format".to_owned(), number(FORMAT));
        item.insert("d".to_owned(), bytes(&data));
        item
    }

    /// Returns the cached layout. If it is too old, also returns the key of the item to read
    /// and pass to [`learn`](Self::learn).
    pub(crate) fn known(&self) -> (Arc<TableEpochs>, Option<Key>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age = i64::try_from(self.age.as_micros()).unwrap_or(i64::MAX);
        let is_fresh = known
            .read
            .is_some_and(|read| self.machine_clock.now().since(read).as_micros() < age);
        (Arc::clone(&known.layout), (!is_fresh).then(own_key))
    }

    /// Returns the layout, and reads it again if the cached one is too old.
    pub(crate) async fn fresh(&self, table: &Table) -> Result<Arc<TableEpochs>> {
        let (layout, due) = self.known();
        match due {
            None => Ok(layout),
            Some(key) => {
                let asked = self.machine_clock.now();
                let item = present(table, table.get(&key).await?).await?;
                self.learn(table, &item, asked)
            }
        }
    }

    /// Updates the cache from an item that was requested at the time `asked`, and returns the
    /// newest known layout.
    pub(crate) fn learn(
        &self,
        table: &Table,
        item: &Item,
        asked: Timestamp,
    ) -> Result<Arc<TableEpochs>> {
        let damaged = || table.corrupt("a layout that cannot be read");
        if let Some(project) = text_of(item, "project").filter(|p| *p != self.project) {
            let message = format!(
                "DynamoDB table `{}` belongs to project `{project}`, not to `{}`: each project has a table \
                 of its own; correct `store.online`",
                table.name, self.project
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        if number_of::<u32>(item, "format").is_none_or(|format| format > FORMAT) {
            let message = format!(
                "DynamoDB table `{}` was written by a newer version of Wafer: use that one",
                table.name
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        let layout = bytes_of(item, "d").and_then(|d| serde_json::from_slice(d).ok());
        let layout: TableEpochs = layout.ok_or_else(damaged)?;
        let version = number_of(item, "n").ok_or_else(damaged)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Concurrent reads can finish out of order; keep the newest version.
        if known.read.is_none() || version >= known.version {
            *known = CachedLayout {
                layout: Arc::new(layout),
                version,
                read: known.read.max(Some(asked)),
            };
        }
        Ok(Arc::clone(&known.layout))
    }

    /// Changes the layout atomically, retrying when other processes change it at the same time.
    pub(crate) async fn change<T>(
        &self,
        table: &Table,
        change: impl Fn(&mut TableEpochs) -> T,
    ) -> Result<T> {
        let mut backoff = table.write_backoff();
        loop {
            let asked = self.machine_clock.now();
            let item = present(table, table.get(&own_key()).await?).await?;
            let mut layout = self.learn(table, &item, asked)?.as_ref().clone();
            let version: u64 = number_of(&item, "n")
                .ok_or_else(|| table.corrupt("a layout that cannot be read"))?;
            let result = change(&mut layout);
            let item = self.item(table, &layout, version + 1);
            let condition = Condition::version(Some(version));
            match table.put(&item, Some(&condition)).await? {
                WriteOutcome::Done { .. } => {
                    self.learn(table, &item, asked)?;
                    return Ok(result);
                }
                // An earlier attempt wrote this item, but its response was lost.
                WriteOutcome::ConditionFailed { stored, .. } if stored.as_ref() == Some(&item) => {
                    self.learn(table, &item, asked)?;
                    return Ok(result);
                }
                WriteOutcome::ConditionFailed { .. } => {}
            }
            if !backoff.wait().await {
                let message = format!(
                    "the layout of DynamoDB table `{}` is changed by others all the time; try again",
                    table.name
                );
                return Err(Error::new(Kind::Conflict, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use wafer_core::SystemClock;

    use super::*;
    use crate::test_server::{answer, serve};
    use crate::{Dynamo, DynamoConfig};

    /// What the service answers to all else is `{}`.
    #[tokio::test]
    async fn a_service_that_keeps_no_layout_is_not_taken_for_a_new_table() {
        let denied = r#"{"__type":"com.amazon.coral.service#AccessDeniedException"}"#;
        for (status, described, kind, wanted) in [
            (200, "{}", Kind::Invalid, "AWS_ENDPOINT_URL_DYNAMODB"),
            (
                200,
                r#"{"Table":{"TableName":"t"}}"#,
                Kind::Corrupt,
                "lost its layout",
            ),
            (400, denied, Kind::Corrupt, "lost its layout"),
        ] {
            let (account, _) = serve(move |_, head| {
                let (status, body) = match head.contains("describetable") {
                    true => (status, described),
                    false => (200, "{}"),
                };
                answer(status, "content-type: application/x-amz-json-1.0\r\n", body)
            });
            let objects = Arc::new(InMemory::new());
            let clock = Arc::new(SystemClock::new());
            let config = DynamoConfig::new("t", "p", 1);
            let opened = Dynamo::open(&account, config, objects, clock).await;
            let error = opened.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
