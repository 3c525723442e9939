//! The composition root: the one place that names concrete backends.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use url::Url;
use wafer_config::{CloudStores, Project, StoreSettings};
#[cfg(feature = "aws")]
use wafer_config::{SourceType, schedule_def};
use wafer_core::{Clock, SettableClock, SystemClock, Timestamp};
use wafer_platform::{Components, Platform};
use wafer_runtime::{Compiler, Guests, Runtime, RuntimeConfig};
use wafer_store::{
    ArtifactFolder, ArtifactStore, Lmdb, LmdbConfig, MetadataStore, OfflineTables, OnlineStore,
    RemoteFiles,
};

/// Requests that may wait for a sandbox before new ones are refused.
const QUEUE: usize = 1_024;

/// What to do when something on AWS is asked for that this program cannot reach.
#[cfg(not(feature = "aws"))]
const WITHOUT_AWS: &str = "this `wafer` was built without AWS; build it with \
                           `cargo build --release --workspace --features wafer-cli/aws`";

/// `--clock START[,SPEED]`: a present that starts somewhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockOption {
    start: Timestamp,
    speed: f64,
}

impl std::str::FromStr for ClockOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, speed) = text.split_once(',').unwrap_or((text, "1"));
        let start = start
            .parse()
            .map_err(|e: wafer_core::ParseTimestampError| e.to_string())?;
        let speed: f64 = speed
            .trim()
            .parse()
            .map_err(|_| format!("`{speed}` is not a speed; write a number such as 60"))?;
        if !speed.is_finite() || speed < 0.0 {
            return Err(format!("speed {speed}: time does not run backwards"));
        }
        Ok(Self { start, speed })
    }
}

/// Opens a project's stores and starts its sandbox.
pub(crate) async fn open(project: &Project, clock: Option<ClockOption>) -> Result<Platform> {
    let platform = open_at_any_time(project, clock).await?;
    platform.context().check_clock().await?;
    Ok(platform)
}

/// As [`open`], whatever the machine's clock was before.
pub(crate) async fn open_at_any_time(
    project: &Project,
    clock: Option<ClockOption>,
) -> Result<Platform> {
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let clock: Arc<dyn Clock> = match clock {
        Some(option) => Arc::new(SettableClock::new(
            Arc::clone(&machine_clock),
            option.start,
            option.speed,
        )),
        None => Arc::clone(&machine_clock),
    };
    let stores = match &project.store.cloud {
        None => embedded(&project.store)?,
        Some(cloud) => on_aws(project, cloud, &machine_clock).await?,
    };
    let components = Components {
        online: stores.online,
        metadata: stores.metadata,
        artifacts: stores.artifacts,
        offline: stores.offline,
        remote: remote_files(),
        runtime: runtime()?,
        guests: Guests::new(cores(), QUEUE),
        event_guests: Guests::new(cores().div_ceil(2), QUEUE),
        clock,
        machine_clock,
        holder: format!("{}/{}", host_name(), std::process::id()),
    };
    Ok(Platform::open(&project.name, components).await?)
}

/// Where everything is kept.
struct Stores {
    online: Arc<dyn OnlineStore>,
    metadata: Arc<dyn MetadataStore>,
    artifacts: Arc<dyn ArtifactStore>,
    offline: OfflineTables,
}

fn embedded(settings: &StoreSettings) -> Result<Stores> {
    let root = &settings.path;
    let lmdb = Arc::new(Lmdb::open(&LmdbConfig {
        path: root.join("online"),
        map_size: settings.map_size,
    })?);
    Ok(Stores {
        online: Arc::clone(&lmdb) as _,
        metadata: lmdb,
        artifacts: Arc::new(ArtifactFolder::open(root.join("artifacts"))?),
        offline: OfflineTables::open(folder_url(&root.join("offline"))?)?,
    })
}

#[cfg(feature = "aws")]
async fn on_aws(
    project: &Project,
    cloud: &CloudStores,
    machine_clock: &Arc<dyn Clock>,
) -> Result<Stores> {
    let seed = getrandom::u64().context("the system has no random numbers")?;
    let copies = project.store.path.join("artifacts");
    let stores = wafer_aws::open(
        &project.name,
        (&cloud.online, &cloud.objects),
        &copies,
        seed,
        Arc::clone(machine_clock),
    )
    .await?;
    Ok(Stores {
        online: Arc::clone(&stores.dynamo) as _,
        metadata: stores.dynamo,
        artifacts: Arc::new(stores.artifacts),
        offline: stores.offline,
    })
}

/// Has the state machine of the environment run something, and returns its output.
#[cfg(feature = "aws")]
pub(crate) async fn run_on_aws(input: &serde_json::Value) -> Result<serde_json::Value> {
    let arn = std::env::var("WAFER_STATE_MACHINE")
        .ok()
        .filter(|arn| !arn.is_empty());
    let arn = arn.context(
        "WAFER_STATE_MACHINE is not set: `terraform output -raw environment` says what to set",
    )?;
    let machine = wafer_aws::StateMachine::open(&arn).await?;
    let execution = machine.start(input).await?;
    crate::output::say(format!("started {execution}"));
    Ok(machine.wait(&execution).await?)
}

#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async, reason = "as with the feature")]
pub(crate) async fn run_on_aws(_input: &serde_json::Value) -> Result<serde_json::Value> {
    anyhow::bail!(WITHOUT_AWS)
}

/// Source files on S3, whatever the stores are.
#[cfg(feature = "aws")]
pub(crate) fn remote_files() -> Arc<dyn RemoteFiles> {
    Arc::new(wafer_aws::Files::default())
}

#[cfg(not(feature = "aws"))]
pub(crate) fn remote_files() -> Arc<dyn RemoteFiles> {
    Arc::new(wafer_store::UnreachableFiles {
        reason: WITHOUT_AWS.to_owned(),
    })
}

/// Describes what Terraform makes for a project.
#[cfg(feature = "aws")]
pub(crate) fn infrastructure(project: &Project) -> Result<serde_json::Value> {
    let streams = project.sources.iter();
    let streams = streams.filter(|(_, source)| source.kind == SourceType::Stream);
    let schedules = project.pipelines.iter().filter_map(|(name, pipeline)| {
        let schedule = pipeline.schedule.as_ref()?;
        Some((name.as_str(), schedule_def(schedule)))
    });
    let streams = streams.map(|(name, _)| name.as_str());
    let infrastructure = wafer_aws::Infrastructure::new(&project.name, streams, schedules)?;
    Ok(serde_json::to_value(infrastructure)?)
}

#[cfg(not(feature = "aws"))]
pub(crate) fn infrastructure(_project: &Project) -> Result<serde_json::Value> {
    anyhow::bail!(WITHOUT_AWS)
}

#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async, reason = "as with the feature")]
async fn on_aws(
    _project: &Project,
    cloud: &CloudStores,
    _machine_clock: &Arc<dyn Clock>,
) -> Result<Stores> {
    anyhow::bail!(
        "{} and {}: {WITHOUT_AWS}, or take `store.online` and \
         `store.objects` (WAFER_STORE_ONLINE, WAFER_STORE_OBJECTS) away to use the embedded stores",
        cloud.online,
        cloud.objects
    )
}

/// A sandbox that compiles in a child process: this program again.
pub(crate) fn runtime() -> Result<Runtime> {
    let program =
        std::env::current_exe().context("cannot find this program, to run the compiler")?;
    let compiler = Compiler::Child {
        program,
        arguments: vec!["compile-component".to_owned()],
    };
    // Room for a batch run's workers beside requests and events.
    let instances = u32::try_from(cores() * 4).unwrap_or(u32::MAX).max(64);
    let config = RuntimeConfig {
        instances,
        compiler,
    };
    Runtime::new(config).map_err(|e| anyhow::anyhow!("the sandbox cannot be started: {e:#}"))
}

/// Processors that work is spread over.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn folder_url(path: &Path) -> Result<Url> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    Url::from_directory_path(&path)
        .map_err(|()| anyhow::anyhow!("{} cannot be written as a URL", path.display()))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// A run hands large buffers from thread to thread. glibc keeps a pool of freed
/// memory for each thread, so that a longer run would hold ever more of it; two
/// pools for all threads keep it nearly flat.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "a setting of the C library")]
pub(crate) fn share_memory_pools() {
    // SAFETY: `mallopt` may be called at any time; it changes how later pools are
    // made, and no memory that is in use.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn share_memory_pools() {}
