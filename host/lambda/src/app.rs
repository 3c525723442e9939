//! The composition root: opens the stores on AWS and the platform by the settings of the
//! environment.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use wafer_core::{Clock, SystemClock};
use wafer_platform::{Components, Platform};
use wafer_runtime::{Compiler, Guests, Runtime, RuntimeConfig};
use wafer_store::{Backends, StoreLocation};

use crate::environment::{path, required, required_url, variable};
use crate::handler::Handler;

/// The number of sandboxes. An environment of Lambda has one invocation at a time, which may call
/// several functions at once.
const INSTANCES: u32 = 16;
/// The number of requests that may wait for a sandbox.
const QUEUE: usize = 64;
/// The default folder for copies of artifacts, which are in `artifacts` below it. On Lambda only
/// `/tmp` can be written to.
const COPIES: &str = "/tmp/wafer";

/// Opens the project that the environment names.
///
/// # Errors
/// Returns an error when a variable is missing or malformed, when a store cannot be opened, and
/// when the clock is behind the time at which the project was last used.
#[allow(
    clippy::disallowed_methods,
    reason = "the composition root, which hands randomness in"
)]
pub(crate) async fn open() -> Result<Handler> {
    let project = required("WAFER_PROJECT")?;
    let online = required_url("WAFER_STORE_ONLINE")?;
    let objects = required_url("WAFER_STORE_OBJECTS")?;
    let sources = variable("WAFER_EVENT_SOURCES")?.unwrap_or_default();
    let sources = wafer_aws::EventSources::parse(&sources)?;
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = getrandom::u64().context("the system has no random numbers")?;
    let copies = path("WAFER_COPIES").unwrap_or_else(|| COPIES.into());
    let backend = wafer_aws::Aws {
        machine_clock: Arc::clone(&machine_clock),
        seed,
        shipped: shipped(),
    };
    let location = StoreLocation {
        project: project.clone(),
        online,
        objects: objects.clone(),
        local: copies,
        // There is no embedded store.
        map_size: 0,
    };
    let stores = Backends::default().with(backend).open(&location).await?;
    let runtime = Runtime::new(RuntimeConfig {
        instances: INSTANCES,
        compiler: Compiler::Absent,
        code_cache: None,
    })
    .map_err(|e| anyhow::anyhow!("the sandbox cannot be started: {e:#}"))?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let components = Components {
        stores,
        remote: Arc::new(wafer_aws::Files::default()),
        runtime,
        guests: Guests::new(cores, QUEUE),
        event_guests: Guests::new(cores, QUEUE),
        clock: Arc::clone(&machine_clock),
        machine_clock,
        // Several environments of a function may have the same host name and process id, so that
        // only a random number identifies the holder of a lease.
        holder: format!("lambda-{seed:016x}/{}", std::process::id()),
    };
    let platform = Arc::new(Platform::open(&project, components).await?);
    platform.context().check_clock().await?;
    Ok(Handler::new(platform, sources, objects))
}

/// Says where temporary files are made: in the folder of the environment variable `TMPDIR`, or in
/// `/tmp`.
#[allow(
    clippy::disallowed_methods,
    reason = "the composition root, which says where temporary files go"
)]
pub(crate) fn name_folder_for_temporary_files() {
    let setting = "the environment variable TMPDIR";
    wafer_platform::keep_temporary_files_in(std::env::temp_dir(), setting);
}

/// Returns the folder of the package with compiled code, if there is one.
fn shipped() -> Option<PathBuf> {
    let folder = path("LAMBDA_TASK_ROOT")?.join("artifacts");
    folder.is_dir().then_some(folder)
}
