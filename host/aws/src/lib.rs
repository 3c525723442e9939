//! The AWS backends of Wafer's stores.
//!
//! - [`Dynamo`]: the online and metadata store in one DynamoDB table, with the outbox on S3.
//! - [`Artifacts`]: the artifact store on S3.
//! - [`Bucket`]: a folder of an S3 bucket, which also holds the offline tables.
//! - [`Files`]: source files in any S3 bucket.
//! - [`StateMachine`]: the Step Functions state machine that divided runs are started with.
//! - [`Account`]: credentials and region.
//! - [`Deployment`]: checks of what is deployed, and of what the account allows.
//! - [`records`]: the records of queues and streams, in the form in which Lambda passes them on;
//!   [`EventSources`] says which source takes them, and [`failed_batch`] decodes those that Lambda
//!   gave up.
//!
//! [`Aws`] opens all stores of a project.

mod account;
mod arn;
mod artifacts;
mod bulk;
mod call;
mod commit;
mod connections;
mod environment;
mod event_sources;
mod failed_batch;
mod files;
mod infrastructure;
mod item;
mod layout;
mod metadata;
mod objects;
mod online;
mod outbox;
mod pace;
mod page;
mod pauses;
mod preflight;
mod queue;
mod random;
pub mod records;
mod region;
mod s3;
mod sdk_connections;
mod services;
mod state_machine;
mod stores;
mod table;
#[cfg(test)]
mod test_server;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use wafer_core::Clock;
use wafer_store::Result;

pub use account::Account;
pub use artifacts::Artifacts;
pub use event_sources::EventSources;
pub use failed_batch::{failed_batch, failed_folder};
pub use files::Files;
pub use infrastructure::{Infrastructure, ScheduleExpressions};
pub use objects::Bucket;
pub use preflight::{Deployment, Listener, PreflightCheck, Step};
pub use state_machine::StateMachine;
pub use stores::{Aws, check_new_stores};

use bulk::Pacer;
use commit::Writers;
use layout::Layouts;
use outbox::CommitObjects;
use random::Random;
use table::{Consistency, Table};

/// Settings of the DynamoDB store.
#[derive(Clone, Debug)]
pub struct DynamoConfig {
    /// Name of the table.
    pub table: String,
    /// Name of the project that the table belongs to.
    pub project: String,
    /// The URL of the folder that the outbox is below, as errors name it. Default `its bucket`.
    pub folder: String,
    /// Whether reads are strongly consistent: they see every write that returned before.
    /// Eventually consistent reads cost half, and may miss writes of about the last second.
    /// Default true.
    pub consistent: bool,
    /// How long a read is retried while the table is busy. Default 2 s.
    pub read_patience: Duration,
    /// How long a write is retried while the table is busy. Default 10 s. A write of a bulk load is
    /// retried until the table has answered none of the load for six times as long.
    pub write_patience: Duration,
    /// The write units a second at which a bulk load begins that no other process shares. The pace
    /// is adapted to what the table takes. Default 2,000, half of what a new table takes.
    pub first_write_units: f64,
    /// How long a process uses the table's layout (which epoch each group is in) before it
    /// reads it again. Default 1 s.
    pub layout_age: Duration,
    /// How long a writer may take for a commit of events before other processes finish the
    /// commit. Default 30 s.
    pub grace: Duration,
    /// Seed of the process's random numbers, which its commits are identified by. Must be
    /// different in every process.
    pub seed: u64,
}

impl DynamoConfig {
    /// Creates settings with the default values.
    pub fn new(table: impl Into<String>, project: impl Into<String>, seed: u64) -> Self {
        Self {
            table: table.into(),
            project: project.into(),
            folder: "its bucket".to_owned(),
            consistent: true,
            read_patience: Duration::from_secs(2),
            write_patience: Duration::from_secs(10),
            first_write_units: 2_000.0,
            layout_age: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            seed,
        }
    }
}

/// The online and metadata store of a project in one DynamoDB table.
///
/// The table needs a partition key `pk` (string) and a sort key `sk` (binary), and should have
/// time to live enabled on `expires`.
#[derive(Debug)]
pub struct Dynamo {
    pub(crate) table: Table,
    pub(crate) layouts: Layouts,
    pub(crate) outbox: CommitObjects,
    pub(crate) writers: Writers,
    /// [`DynamoConfig::grace`].
    pub(crate) grace: wafer_core::Duration,
    /// The machine's clock.
    pub(crate) machine_clock: Arc<dyn Clock>,
}

impl Dynamo {
    /// Opens a project's table. `objects` stores committed events until they are in the
    /// offline tables. `machine_clock` is the machine's clock.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no such table, and
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when it belongs to another project or was
    /// written by a newer version of Wafer.
    pub async fn open(
        account: &Account,
        config: DynamoConfig,
        objects: Arc<dyn ObjectStore>,
        machine_clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let table = Table {
            client: account.dynamodb(),
            name: config.table,
            region: account.region.clone(),
            random: Random::new(config.seed),
            usage: usage::Usage::default(),
            consistency: match config.consistent {
                true => Consistency::Strong,
                false => Consistency::Eventual,
            },
            retry_for: (config.read_patience, config.write_patience),
            pacer: Pacer::new(config.first_write_units),
        };
        let age = config.layout_age;
        let layouts =
            Layouts::open(&table, &config.project, age, Arc::clone(&machine_clock)).await?;
        Ok(Self {
            table,
            layouts,
            outbox: CommitObjects::new(objects, config.folder),
            writers: Writers::default(),
            grace: wafer_core::Duration::from_micros(
                i64::try_from(config.grace.as_micros()).unwrap_or(i64::MAX),
            ),
            machine_clock,
        })
    }
}

impl fmt::Display for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb://{}", self.table.name)
    }
}
