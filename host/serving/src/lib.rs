//! Answers to requests: feature vectors, endpoints, inference, and the log of requests.
//!
//! What is deliberately absent: pipelines and training sets, and HTTP.

mod endpoints;
mod features;
mod infer;
mod ready;
mod refresh;
mod request_log;
mod routing;
mod served_view;
mod service;
mod vectors;

pub use endpoints::Endpoint;
pub use infer::{InferRequest, Inference, Prediction, predict};
pub use ready::{EndpointInfo, EndpointServing};
pub use request_log::table::{LogTable, is_log_of};
pub use routing::{Routing, WHOLE, parse_percent};
pub use service::Serving;
pub use vectors::{FeatureRow, Status, Vectors};
