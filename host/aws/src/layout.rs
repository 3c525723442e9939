//! Whose table it is, and in which epoch each group's rows are.
//!
//! A group's online rows are replaced as a whole by writing them under another
//! epoch and then changing one number here. Everybody reads this item at least
//! once a second ([`Layouts`]); what is to be seen by all waits for that long.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wafer_core::{Clock, Timestamp};
use wafer_store::{Error, Kind, OnlineKey, Result};

use crate::table::{
    Condition, Item, Key, Table, Written, bytes, bytes_of, number, number_of, text, text_of,
};

/// Partitions that the rows of a group are spread over.
pub(crate) const BUCKETS: u8 = 64;
const FORMAT: u32 = 1;

/// Where rows are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    groups: BTreeMap<String, Epochs>,
    /// Greater than every epoch that was ever begun.
    next: u64,
    /// All commits that were begun before are gone: flushed, and forgotten.
    pub(crate) settled: Option<Timestamp>,
}

/// The epochs of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epochs {
    /// The one that is read.
    pub(crate) live: u64,
    /// The one that is to be read next, while it is filled; written as well.
    pub(crate) filling: Option<u64>,
    /// The one that was read before, as long as anybody may do so; written as well.
    pub(crate) retiring: Option<u64>,
    /// Those that are or were written and will not be read: to be removed.
    #[serde(default)]
    pub(crate) obsolete: Vec<u64>,
}

impl Epochs {
    /// All that are written.
    pub(crate) fn written(&self) -> impl Iterator<Item = u64> + use<> {
        let others = self.filling.into_iter().chain(self.retiring);
        others.chain([self.live])
    }
}

impl Layout {
    pub(crate) fn epochs(&self, group: &str) -> Epochs {
        self.groups.get(group).cloned().unwrap_or_default()
    }

    pub(crate) fn live(&self, group: &str) -> u64 {
        self.groups.get(group).map_or(0, |epochs| epochs.live)
    }

    pub(crate) fn set(&mut self, group: &str, epochs: Epochs) {
        self.groups.insert(group.to_owned(), epochs);
    }

    /// A number that no epoch has had, for one that is to be filled. Until it is read it
    /// is one of those to be removed.
    pub(crate) fn begin(&mut self, group: &str) -> u64 {
        self.next += 1;
        let mut epochs = self.epochs(group);
        epochs.obsolete.push(self.next);
        self.set(group, epochs);
        self.next
    }
}

/// The partition of an entity in an epoch of its group.
pub(crate) fn partition(group: &str, epoch: u64, bucket: u8) -> String {
    format!("o/{group}/{epoch}/{bucket:02x}")
}

/// Where an entity's item is in an epoch of its group.
pub(crate) fn place(key: &OnlineKey, epoch: u64) -> Key {
    let digest = wafer_core::Digest::of(key.entity.as_bytes());
    let bucket = digest.as_bytes()[0] % BUCKETS;
    Key::new(partition(&key.group, epoch, bucket), key.entity.as_bytes())
}

fn own_key() -> Key {
    Key::single("l")
}

/// The layout as it was last read.
#[derive(Debug)]
pub(crate) struct Layouts {
    project: String,
    /// How old it may be.
    age: Duration,
    wall: Arc<dyn Clock>,
    known: RwLock<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    layout: Arc<Layout>,
    version: u64,
    read: Option<Timestamp>,
}

impl Layouts {
    /// Reads the layout of a table, and makes it if the table is new.
    pub(crate) async fn open(
        table: &Table,
        project: &str,
        age: Duration,
        wall: Arc<dyn Clock>,
    ) -> Result<Self> {
        let layouts = Self {
            project: project.to_owned(),
            age,
            wall,
            known: RwLock::default(),
        };
        let asked = layouts.wall.now();
        let item = match table.get(&own_key()).await? {
            Some(item) => Some(item),
            None => {
                let item = layouts.item(table, &Layout::default(), 1);
                table.put(&item, Some(&Condition::absent())).await?;
                table.get(&own_key()).await?
            }
        };
        layouts.learn(table, item.as_ref(), asked)?;
        Ok(layouts)
    }

    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    fn item(&self, table: &Table, layout: &Layout, version: u64) -> Item {
        let mut item = own_key().item();
        let data = serde_json::to_vec(layout).expect("plain data");
        item.insert("n".to_owned(), number(version));
        // Tells one's own write from an equal one.
        item.insert("w".to_owned(), number(table.random.next()));
        item.insert("project".to_owned(), text(&self.project));
        item.insert("format".to_owned(), number(FORMAT));
        item.insert("d".to_owned(), bytes(&data));
        item
    }

    /// The layout as it is known, and the key to read it again by when it is due.
    pub(crate) fn known(&self) -> (Arc<Layout>, Option<Key>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age = i64::try_from(self.age.as_micros()).unwrap_or(i64::MAX);
        let is_fresh = known
            .read
            .is_some_and(|read| read.plus_micros(age) > self.wall.now());
        (Arc::clone(&known.layout), (!is_fresh).then(own_key))
    }

    /// The layout, read again if it is due.
    pub(crate) async fn fresh(&self, table: &Table) -> Result<Arc<Layout>> {
        let (layout, due) = self.known();
        match due {
            None => Ok(layout),
            Some(key) => {
                let asked = self.wall.now();
                let item = table.get(&key).await?;
                self.learn(table, item.as_ref(), asked)
            }
        }
    }

    /// Takes note of the layout as it was when it was asked for.
    pub(crate) fn learn(
        &self,
        table: &Table,
        item: Option<&Item>,
        asked: Timestamp,
    ) -> Result<Arc<Layout>> {
        let item = item.ok_or_else(|| table.foreign("lost its layout: it was made anew"))?;
        let damaged = || table.foreign("a layout that cannot be read");
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
        let layout: Layout = layout.ok_or_else(damaged)?;
        let version = number_of(item, "n").ok_or_else(damaged)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Calls overtake each other.
        if known.read.is_none() || version >= known.version {
            *known = Known {
                layout: Arc::new(layout),
                version,
                read: known.read.max(Some(asked)),
            };
        }
        Ok(Arc::clone(&known.layout))
    }

    /// Changes the layout, whoever else does.
    pub(crate) async fn change<T>(
        &self,
        table: &Table,
        change: impl Fn(&mut Layout) -> T,
    ) -> Result<T> {
        let mut patience = table.writing();
        loop {
            let asked = self.wall.now();
            let item = table.get(&own_key()).await?;
            let mut layout = self.learn(table, item.as_ref(), asked)?.as_ref().clone();
            let version: u64 = item
                .as_ref()
                .and_then(|item| number_of(item, "n"))
                .ok_or_else(|| table.foreign("a layout that cannot be read"))?;
            let result = change(&mut layout);
            let item = self.item(table, &layout, version + 1);
            let condition = Condition::version(Some(version));
            match table.put(&item, Some(&condition)).await? {
                Written::Done { .. } => {
                    self.learn(table, Some(&item), asked)?;
                    return Ok(result);
                }
                // Lost answers are found out by what is there.
                Written::Held { stored, .. } if stored.as_ref() == Some(&item) => {
                    self.learn(table, Some(&item), asked)?;
                    return Ok(result);
                }
                Written::Held { .. } => {}
            }
            if !patience.wait().await {
                let message = format!(
                    "the layout of DynamoDB table `{}` is changed by others all the time; try again",
                    table.name
                );
                return Err(Error::new(Kind::Conflict, message));
            }
        }
    }
}
