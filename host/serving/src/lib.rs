//! Answers to requests: feature vectors, endpoints, inference, and the request log.
//!
//! - The module `features` describes how a feature vector is read, and `served_view` holds the
//!   steps that need no I/O.
//! - The module `endpoints` keeps the routing of endpoints, `refresh` makes their releases ready
//!   to answer, and `infer` describes how a request is answered, with `ask` for what one release
//!   answers.
//! - The module `request_log` describes how answers are logged and how shadows are asked.
//!
//! This crate knows nothing of pipelines, training sets or HTTP.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod ask;
mod call;
mod endpoints;
mod features;
mod found;
mod infer;
mod ready;
mod refresh;
mod request_log;
mod routing;
mod served_view;
mod service;
mod vectors;

pub use ask::predict;
pub use call::{InferRequest, Prediction};
pub use endpoints::Endpoint;
pub use found::RequestMemory;
pub use infer::Inference;
pub use ready::{EndpointInfo, EndpointServing};
pub use request_log::table::{LogTable, is_log_of};
pub use routing::{LOG_WITHIN, Routing, WHOLE, parse_log_within, parse_percent};
pub use service::Serving;
pub use vectors::{FeatureRow, Status, Vectors};
pub use wafer_catalog::MAX_FOUND_BYTES;
