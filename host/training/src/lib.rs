//! Training sets, and the training and evaluation of models on them.
//!
//! A training set holds labels, joined with the features of a view as they were known at each
//! label's time. The rules of time and the on-demand functions are those that serve requests.
//!
//! - The module `training_set` describes how a training set is made, and the module `lookup` how
//!   the labels are joined with one feature group.
//! - The module `train` describes how a model is trained, and the module `evaluate` how its
//!   versions are scored. Both read labels by `label_values`.
//! - The module `rejoin` joins rows that are not labels, for batch inference and for the
//!   comparison with logged requests.
//! - The module `export` writes the rows of one table to a file.
//!
//! This crate knows nothing of pipelines or of requests.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod evaluate;
mod export;
mod given_up;
mod hand_over;
mod label_values;
mod labels;
mod lookup;
mod rejoin;
mod service;
mod splitter;
mod spool;
mod train;
mod trained_rows;
mod training_rows;
mod training_set;

pub use evaluate::EvaluateRequest;
pub use export::{ExportRequest, ExportTo};
pub use rejoin::{RejoinRequest, Rejoined, RejoinedBatch};
pub use service::Training;
pub use train::{ModelRegistered, TrainReport, TrainRequest};
pub use training_set::{DeleteIf, TrainingSetRequest, column_types};
