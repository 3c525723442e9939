//! Wafer's stores on AWS.
//!
//! - [`Dynamo`]: the online store and the metadata, in one DynamoDB table, with the
//!   outbox on S3.
//! - [`Artifacts`]: components and compiled code on S3.
//! - [`Bucket`]: a folder of a bucket, where offline tables and sources are, too.
//! - [`Files`]: sources in any bucket.
//! - [`Account`]: credentials and region.

mod account;
mod call;
mod commit;
mod files;
mod item;
mod layout;
mod machine;
mod metadata;
mod objects;
mod online;
mod outbox;
mod random;
mod stores;
mod table;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use wafer_core::Clock;
use wafer_store::Result;

pub use account::Account;
pub use files::Files;
pub use machine::StateMachine;
pub use objects::{Artifacts, Bucket};
pub use stores::{Stores, open};

use commit::Writers;
use layout::Layouts;
use outbox::Outbox;
use random::Random;
use table::Table;

/// How a project's table is used.
#[derive(Clone, Debug)]
pub struct DynamoConfig {
    /// Name of the table.
    pub table: String,
    /// The project that it belongs to.
    pub project: String,
    /// Whether reads see every write that returned before them. Others cost half,
    /// and may miss what was written within the last second or so.
    pub consistent: bool,
    /// How long a read is tried again while the table is busy; default 2 s.
    pub read_patience: Duration,
    /// How long a write is tried again; default 10 s.
    pub write_patience: Duration,
    /// How long a process goes on to believe in which epoch a group is; default 1 s.
    pub layout_age: Duration,
    /// How long a writer may take for a commit of events before others finish it;
    /// default 30 s.
    pub grace: Duration,
    /// Something that no other process has: what its commits are known by.
    pub seed: u64,
}

impl DynamoConfig {
    /// The defaults for a table.
    pub fn new(table: impl Into<String>, project: impl Into<String>, seed: u64) -> Self {
        Self {
            table: table.into(),
            project: project.into(),
            consistent: true,
            read_patience: Duration::from_secs(2),
            write_patience: Duration::from_secs(10),
            layout_age: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            seed,
        }
    }
}

/// A project's online store and metadata in a DynamoDB table: partition key `pk`
/// (text), sort key `sk` (bytes), time to live in `expires`.
#[derive(Debug)]
pub struct Dynamo {
    pub(crate) table: Table,
    pub(crate) layouts: Layouts,
    pub(crate) outbox: Outbox,
    pub(crate) writers: Writers,
    /// In microseconds.
    pub(crate) grace: i64,
    pub(crate) wall: Arc<dyn Clock>,
}

impl Dynamo {
    /// Opens a project's table. `objects` keeps events until they are in the offline
    /// tables; `wall` is the machine's clock.
    ///
    /// # Errors
    /// [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no such table,
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when it is another project's.
    pub async fn open(
        account: &Account,
        config: DynamoConfig,
        objects: Arc<dyn ObjectStore>,
        wall: Arc<dyn Clock>,
    ) -> Result<Self> {
        let table = Table {
            client: account.dynamodb(),
            name: config.table,
            region: account.region.clone(),
            random: Random::new(config.seed),
            usage: usage::Usage::default(),
            consistent: config.consistent,
            patience: (config.read_patience, config.write_patience),
        };
        let age = config.layout_age;
        let layouts = Layouts::open(&table, &config.project, age, Arc::clone(&wall)).await?;
        Ok(Self {
            table,
            layouts,
            outbox: Outbox::new(objects),
            writers: Writers::default(),
            grace: i64::try_from(config.grace.as_micros()).unwrap_or(i64::MAX),
            wall,
        })
    }
}

impl fmt::Display for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb://{}", self.table.name)
    }
}
