//! Training sets: labels joined with the features of a view as they were known at each label's
//! time, by the rules and components that serve them; training and evaluation on them.
//!
//! What is deliberately absent: pipelines and requests.

mod evaluate;
mod export;
mod labels;
mod lookup;
mod rejoin;
mod rows;
mod service;
mod splitter;
mod spool;
mod train;
mod training_set;

pub use rejoin::{RejoinRequest, Rejoined, RejoinedBatch};
pub use service::Training;
pub use train::{TrainReport, TrainRequest};
pub use training_set::TrainingSetRequest;
