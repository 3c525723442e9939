//! The lease that allows one process at a time to run a pipeline.

use wafer_catalog::{Context, LEASE, RenewedLease};
use wafer_store::{Error, Kind, Leased, Result};

/// Acquires the lease that allows this process to run a pipeline, and reads the present
/// definitions: those that were known before may be of a version that was replaced.
pub(crate) async fn run_lease(context: &Context, pipeline: &str) -> Result<RenewedLease> {
    let lease = match context.lease(&run_lease_name(pipeline), LEASE).await? {
        Leased::Mine(lease) => context.renewed(lease),
        Leased::HeldBy(holder) => return Err(pipeline_busy_error(pipeline, &holder)),
    };
    match context.refresh().await {
        Ok(_) => Ok(lease),
        Err(error) => {
            lease.end().await;
            Err(error)
        }
    }
}

/// Returns the name of the lease for runs of a pipeline.
pub(crate) fn run_lease_name(pipeline: &str) -> String {
    format!("run/{pipeline}")
}

/// The error for a pipeline that another process runs.
pub(crate) fn pipeline_busy_error(pipeline: &str, holder: &str) -> Error {
    let message = format!("pipeline `{pipeline}` is being run by {holder}");
    Error::new(Kind::Conflict, message)
}
