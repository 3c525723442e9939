//! Behaviours in the artifacts and metrics that the trainer returns.

use wafer::bindings::training::Trained;

use crate::{MODEL, artifact, metric};

pub(super) fn no_artifact(trained: &mut Trained) {
    trained.artifacts.clear();
}

pub(super) fn artifact_name(trained: &mut Trained) {
    trained.artifacts = vec![artifact("../model", MODEL.len() as u64)];
}

pub(super) fn artifact_twice(trained: &mut Trained) {
    trained
        .artifacts
        .push(artifact("model", MODEL.len() as u64));
}

pub(super) fn many_artifacts(trained: &mut Trained) {
    trained.artifacts = (0..100).map(|n| artifact(&n.to_string(), 1)).collect();
}

pub(super) fn huge_artifact(trained: &mut Trained) {
    trained.artifacts = vec![artifact("model", u64::MAX)];
}

pub(super) fn huge_artifacts(trained: &mut Trained) {
    trained.artifacts = vec![artifact("a", 2 << 30), artifact("b", 2 << 30)];
}

pub(super) fn metric_name(trained: &mut Trained) {
    trained.metrics.push(metric(&"x".repeat(1 << 20), 1.0));
}

pub(super) fn metric_twice(trained: &mut Trained) {
    trained.metrics.extend([metric("a", 1.0), metric("a", 2.0)]);
}

/// Two metrics that are not finite numbers, and one that is.
pub(super) fn endless_metrics(trained: &mut Trained) {
    trained.metrics = [f64::NAN, f64::INFINITY, 0.5]
        .into_iter()
        .zip(["a", "b", "c"])
        .map(|(value, name)| metric(name, value))
        .collect();
}
