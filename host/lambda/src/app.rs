//! The composition root: opens the stores on AWS and the platform by the settings of the
//! environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use url::Url;
use wafer_core::{Clock, SystemClock};
use wafer_platform::{Components, Platform};
use wafer_runtime::{Compiler, Guests, Runtime, RuntimeConfig};
use wafer_store::{Backends, StoreLocation};

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
pub(crate) async fn open() -> Result<Handler> {
    let project = setting("WAFER_PROJECT")?;
    let (online, objects) = (url("WAFER_STORE_ONLINE")?, url("WAFER_STORE_OBJECTS")?);
    let sources = std::env::var_os("WAFER_EVENT_SOURCES").unwrap_or_default();
    let sources = sources
        .into_string()
        .map_err(|_| anyhow::anyhow!("WAFER_EVENT_SOURCES is not text"))?;
    let sources = wafer_aws::EventSources::parse(&sources)?;
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = getrandom::u64().context("the system has no random numbers")?;
    let copies = std::env::var_os("WAFER_COPIES").unwrap_or_else(|| COPIES.into());
    let backend = wafer_aws::Aws {
        machine_clock: Arc::clone(&machine_clock),
        seed,
        shipped: shipped(),
    };
    let location = StoreLocation {
        project: project.clone(),
        online,
        objects: objects.clone(),
        local: copies.into(),
        // There is no embedded store.
        map_size: 0,
    };
    let stores = Backends::default().with(backend).open(&location).await?;
    let runtime = Runtime::new(RuntimeConfig {
        instances: INSTANCES,
        compiler: Compiler::Absent,
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

/// Returns the folder for temporary files: that of the environment variable `TMPDIR`, or `/tmp`.
pub(crate) fn temporary_files() -> PathBuf {
    std::env::temp_dir()
}

/// Returns the folder of the package with compiled code, if there is one.
fn shipped() -> Option<PathBuf> {
    let package = std::env::var_os("LAMBDA_TASK_ROOT")?;
    let folder = Path::new(&package).join("artifacts");
    folder.is_dir().then_some(folder)
}

/// Returns the value of a required environment variable.
fn setting(name: &str) -> Result<String> {
    let value = std::env::var(name).unwrap_or_default();
    if value.is_empty() {
        bail!("{name} is not set; `terraform apply` in infra/ sets it");
    }
    Ok(value)
}

/// Returns the value of a required environment variable that is a URL.
fn url(name: &str) -> Result<Url> {
    let value = setting(name)?;
    Url::parse(&value).with_context(|| format!("{name} is `{value}`, which is not a URL"))
}
