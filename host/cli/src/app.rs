//! The composition root: the one file of this program that names concrete backends.
//!
//! [`open`] opens the stores by the settings of the project, with one of the [`backends`] (those on
//! AWS are there with the feature `aws`), starts the sandbox, makes the clocks, and hands
//! everything to the platform. Whatever a build without AWS cannot do fails here, with a message
//! that says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use url::Url;
#[cfg(feature = "aws")]
use wafer_config::schedule_def;
use wafer_config::{CloudStores, Project};
use wafer_core::{Clock, SettableClock, SystemClock, Timestamp};
use wafer_platform::{Components, DecodeBatch, Platform};
use wafer_runtime::{CodeCache, Compiler, Guests, Runtime, RuntimeConfig};
#[cfg(not(feature = "aws"))]
use wafer_store::MissingBackend;
use wafer_store::{Backends, Embedded, Error, Kind, RemoteFiles, StoreLocation};

use crate::stock::user_folder;

/// The queue length of each executor of guest code: how many requests, and how many pushes of
/// events, may wait for a thread before further ones are refused.
const QUEUE: usize = 1_024;

/// The hint of every error about AWS in a program that was built without it.
#[cfg(not(feature = "aws"))]
const WITHOUT_AWS: &str = "this `wafer` was built without AWS; build it with \
                           `cargo build --release --workspace --features wafer-cli/aws`";

/// The option `--clock START[,SPEED]`: a clock that starts at another time than now, and that runs
/// `SPEED` times as fast as the machine's clock (1 by default; 0 means that it stands still).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockOption {
    start: Timestamp,
    speed: f64,
}

impl std::str::FromStr for ClockOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, speed) = text.split_once(',').unwrap_or((text, "1"));
        let start = Timestamp::parse_argument(start).map_err(|error| error.to_string())?;
        let speed: f64 = speed
            .trim()
            .parse()
            .map_err(|_| format!("`{speed}` is not a speed; write a number such as 60"))?;
        if !speed.is_finite() || speed < 0.0 {
            return Err(format!(
                "speed {speed} is not a finite number of at least 0"
            ));
        }
        Ok(Self { start, speed })
    }
}

/// Opens the stores of a project and starts its sandbox.
///
/// # Errors
/// Returns an error when a store cannot be opened, when the sandbox does not start, and when the
/// clock is behind the time at which the project was last used.
pub(crate) async fn open(project: &Project, clock: Option<ClockOption>) -> Result<Platform> {
    let platform = open_at_any_time(project, clock).await?;
    platform.context().check_clock().await?;
    Ok(platform)
}

/// Opens a project like [`open`] for a command that applies definitions, which is possible also if
/// those that are applied are damaged.
///
/// # Errors
/// Returns the same errors.
pub(crate) async fn open_to_apply(project: &Project) -> Result<Platform> {
    let components = components(project, None).await?;
    let platform = Platform::open_to_apply(&project.name, components).await?;
    platform.context().check_clock().await?;
    Ok(platform)
}

/// Opens a project like [`open`] for a command that only reads: the time of its last use stays.
///
/// # Errors
/// Returns the same errors.
pub(crate) async fn open_to_read(
    project: &Project,
    clock: Option<ClockOption>,
) -> Result<Platform> {
    let platform = open_at_any_time(project, clock).await?;
    platform.context().compare_clock().await?;
    Ok(platform)
}

/// Opens a project like [`open`], but does not compare the clock with the time at which the project
/// was last used.
pub(crate) async fn open_at_any_time(
    project: &Project,
    clock: Option<ClockOption>,
) -> Result<Platform> {
    let components = components(project, clock).await?;
    Ok(Platform::open(&project.name, components).await?)
}

/// Opens the stores of a project, and starts its sandbox.
async fn components(project: &Project, clock: Option<ClockOption>) -> Result<Components> {
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let clock: Arc<dyn Clock> = match clock {
        Some(option) => Arc::new(SettableClock::new(
            Arc::clone(&machine_clock),
            option.start,
            option.speed,
        )),
        None => Arc::clone(&machine_clock),
    };
    let backends = backends(&machine_clock)?;
    Ok(Components {
        stores: backends.open(&location(project)?).await?,
        remote: remote_files(),
        runtime: runtime(code_cache())?,
        guests: Guests::new(cores(), QUEUE),
        event_guests: Guests::new(cores().div_ceil(2), QUEUE),
        clock,
        machine_clock,
        holder: format!("{}/{}", host_name(), std::process::id()),
    })
}

/// The backends that this program can open stores with.
pub(crate) fn backends(machine_clock: &Arc<dyn Clock>) -> Result<Backends> {
    Ok(Backends::default().with(aws(machine_clock)?).with(Embedded))
}

#[cfg(feature = "aws")]
#[allow(
    clippy::disallowed_methods,
    reason = "the composition root, which hands randomness in"
)]
fn aws(machine_clock: &Arc<dyn Clock>) -> Result<wafer_aws::Aws> {
    Ok(wafer_aws::Aws {
        machine_clock: Arc::clone(machine_clock),
        seed: getrandom::u64().context("the system has no random numbers")?,
        shipped: None,
    })
}

#[cfg(not(feature = "aws"))]
#[allow(
    clippy::unnecessary_wraps,
    reason = "it has the signature that it has with the feature `aws`"
)]
fn aws(_machine_clock: &Arc<dyn Clock>) -> Result<MissingBackend> {
    Ok(MissingBackend {
        online_form: "dynamodb://TABLE",
        objects_form: "s3://BUCKET/FOLDER",
        hint: format!(
            "{WITHOUT_AWS}, or remove `store.online` and `store.objects` (WAFER_STORE_ONLINE, \
             WAFER_STORE_OBJECTS) to use the embedded stores"
        ),
    })
}

/// Checks that one of the backends supports the stores in the settings of a project. Opens nothing.
pub(crate) fn check_stores(project: &Project) -> Result<()> {
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    backends(&machine_clock)?.choose(&location(project)?)?;
    Ok(())
}

/// Returns where a project keeps its stores: at the URLs of its settings, or else in its folder.
pub(crate) fn location(project: &Project) -> Result<StoreLocation> {
    let settings = &project.store;
    let (online, objects) = match &settings.cloud {
        Some(stores) => (stores.online.clone(), stores.objects.clone()),
        None => {
            let folder = folder_url(&settings.path)?;
            (folder.clone(), folder)
        }
    };
    Ok(StoreLocation {
        project: project.name.clone(),
        online,
        objects,
        local: settings.path.clone(),
        map_size: settings.map_size,
    })
}

/// Starts the state machine that `WAFER_STATE_MACHINE` names, waits for it, and returns its output.
#[cfg(feature = "aws")]
pub(crate) async fn run_on_aws(input: &serde_json::Value) -> Result<serde_json::Value> {
    let arn = wafer_config::variable("WAFER_STATE_MACHINE")?.context(
        "WAFER_STATE_MACHINE is not set: `terraform output -raw environment` says what to set",
    )?;
    let machine = wafer_aws::StateMachine::open(&arn).await?;
    let execution = machine.start(input).await?;
    crate::output::say(format!("started {execution}"));
    Ok(machine.wait(&execution).await?)
}

#[cfg(not(feature = "aws"))]
#[allow(
    clippy::unused_async,
    reason = "it has the signature that it has with the feature `aws`"
)]
pub(crate) async fn run_on_aws(_input: &serde_json::Value) -> Result<serde_json::Value> {
    anyhow::bail!(WITHOUT_AWS)
}

/// Returns the access to source files on S3, which does not depend on the stores.
#[cfg(feature = "aws")]
pub(crate) fn remote_files() -> Arc<dyn RemoteFiles> {
    Arc::new(wafer_aws::Files::default())
}

#[cfg(not(feature = "aws"))]
pub(crate) fn remote_files() -> Arc<dyn RemoteFiles> {
    Arc::new(wafer_store::UnreachableFiles {
        form: "s3://BUCKET/FOLDER",
        reason: WITHOUT_AWS.to_owned(),
    })
}

/// Where the events are that were given up on their way to a project.
pub(crate) struct FailedBatches {
    /// The folder of their batches.
    pub(crate) folder: Url,
    /// What decodes a batch.
    pub(crate) decode: Box<DecodeBatch>,
    /// The sources of which there may be events.
    pub(crate) sources: Vec<String>,
    /// The commands by which the dead letters of queues come back.
    pub(crate) commands: Vec<String>,
}

/// Returns where the events are that were given up. With `source` the commands are for the queues
/// of this source alone.
#[cfg(feature = "aws")]
pub(crate) fn failed_batches(project: &Project, source: Option<&str>) -> Result<FailedBatches> {
    let cloud = project.store.cloud.as_ref().context(
        "the stores of this project are not on AWS, where Lambda keeps what it gave up: set \
         WAFER_STORE_ONLINE and WAFER_STORE_OBJECTS",
    )?;
    let sources = event_sources()?.context(
        "WAFER_EVENT_SOURCES is not set: `terraform output -raw environment` says what to set",
    )?;
    Ok(FailedBatches {
        folder: wafer_aws::failed_folder(&cloud.objects),
        sources: sources.names().into_iter().map(str::to_owned).collect(),
        commands: sources.redrive_commands(&project.name, source),
        decode: Box::new(move |content| wafer_aws::failed_batch(content, &sources)),
    })
}

#[cfg(not(feature = "aws"))]
pub(crate) fn failed_batches(_project: &Project, _source: Option<&str>) -> Result<FailedBatches> {
    anyhow::bail!(WITHOUT_AWS)
}

/// How long each check of `wafer doctor` may wait for what is not on this machine.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Checks what a project has on AWS, and what the account allows, and says of each check when it
/// begins and how it ended. Returns what was checked, each with what was found or what is wrong.
#[cfg(feature = "aws")]
pub(crate) async fn check_deployment(
    project: &Project,
) -> Result<Vec<(String, Result<String, String>)>> {
    use wafer_aws::Step;

    let cloud = project.store.cloud.as_ref().context(
        "nothing says what to check: set WAFER_STORE_ONLINE and WAFER_STORE_OBJECTS, which \
         `terraform output -raw environment` prints",
    )?;
    crate::output::say("checking credentials …");
    let account = wafer_aws::Account::of_stores(&cloud.online);
    let account = tokio::time::timeout(CHECK_LIMIT, account).await;
    let account = account.with_context(|| {
        format!(
            "nobody gave credentials within {} seconds: look at AWS_PROFILE, at the role of this \
             machine, and at the network",
            CHECK_LIMIT.as_secs()
        )
    })??;
    let event_sources = event_sources()?;
    let state_machine = wafer_config::variable("WAFER_STATE_MACHINE")?;
    let streams = project.sources.iter();
    let streams = streams.filter(|(_, source)| source.kind.takes_events());
    let streams: Vec<&str> = streams.map(|(name, _)| name.as_str()).collect();
    let deployment = wafer_aws::Deployment {
        project: &project.name,
        streams: &streams,
        event_sources: event_sources.as_ref(),
        state_machine: state_machine.as_deref(),
        objects: &cloud.objects,
        limit: CHECK_LIMIT,
    };
    let mut tell = |step: Step<'_>| match step {
        Step::Began(what) => crate::output::say(format!("checking {what} …")),
        Step::Ended(check) => {
            let found = if check.result.is_ok() { "ok" } else { "FAIL" };
            crate::output::say(format!("{}: {found}", check.what));
        }
    };
    let clock = SystemClock::new();
    let checks = deployment.check(&account, &clock, &mut tell).await;
    let checks = checks.into_iter().map(|check| (check.what, check.result));
    Ok(checks.collect())
}

/// Returns the queues and streams that Terraform was told to take events from, or `None` if
/// `WAFER_EVENT_SOURCES` is not set. It is empty if the variable names none, so that all events
/// come by HTTP.
#[cfg(feature = "aws")]
fn event_sources() -> Result<Option<wafer_aws::EventSources>> {
    let text = wafer_config::variable_or_empty("WAFER_EVENT_SOURCES")?;
    let sources = text.map(|text| wafer_aws::EventSources::parse(&text));
    Ok(sources.transpose()?)
}

#[cfg(not(feature = "aws"))]
#[allow(
    clippy::unused_async,
    reason = "it has the signature that it has with the feature `aws`"
)]
pub(crate) async fn check_deployment(
    _project: &Project,
) -> Result<Vec<(String, Result<String, String>)>> {
    anyhow::bail!(WITHOUT_AWS)
}

/// Returns the infrastructure that Terraform makes for a project whose stores are these.
#[cfg(feature = "aws")]
pub(crate) fn infrastructure(project: &Project, cloud: &CloudStores) -> Result<serde_json::Value> {
    wafer_aws::check_new_stores(&cloud.online, &cloud.objects)?;
    let streams = project.sources.iter();
    let streams = streams.filter(|(_, source)| source.kind.takes_events());
    let schedules = project.pipelines.iter().filter_map(|(name, pipeline)| {
        let schedule = pipeline.schedule.as_ref()?;
        Some((name.as_str(), schedule_def(schedule)))
    });
    let streams = streams.map(|(name, _)| name.as_str());
    let infrastructure = wafer_aws::Infrastructure::new(&project.name, streams, schedules)?;
    Ok(serde_json::to_value(infrastructure)?)
}

#[cfg(not(feature = "aws"))]
pub(crate) fn infrastructure(
    _project: &Project,
    _cloud: &CloudStores,
) -> Result<serde_json::Value> {
    anyhow::bail!(WITHOUT_AWS)
}

/// Opens the folder of this user in which native code is kept for all projects. Without one
/// everything works, and more is compiled. It is never a folder of the project, which may come from
/// somebody else.
fn code_cache() -> Option<CodeCache> {
    let opened = CodeCache::open(&user_folder("code")?);
    let tell = |error: &Error| match error.kind() {
        Kind::Invalid => tracing::warn!("{error}"),
        // A service often has no folder of its own that it could write to.
        _ => tracing::info!("compiled code is not kept for other projects: {error}"),
    };
    opened.inspect_err(tell).ok()
}

/// Starts a sandbox. It compiles in a child process, which is this program with the command
/// `compile-component`.
pub(crate) fn runtime(code_cache: Option<CodeCache>) -> Result<Runtime> {
    let program = std::env::current_exe()
        .context("cannot find the path of this program, to run the compiler")?;
    let compiler = Compiler::Child {
        program,
        arguments: vec!["compile-component".to_owned()],
    };
    // The workers of a batch run need instances beside those for requests and events.
    let instances = u32::try_from(cores() * 4).unwrap_or(u32::MAX).max(64);
    let config = RuntimeConfig {
        instances,
        compiler,
        code_cache,
    };
    Runtime::new(config).map_err(|e| anyhow::anyhow!("the sandbox cannot be started: {e:#}"))
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

/// Returns the number of processors that work is spread over.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns how many chunks of rows are computed at the same time: as many as were asked for, up to
/// two for each processor, or else one for each.
pub(crate) fn workers(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(cores).clamp(1, 2 * cores())
}

fn folder_url(path: &Path) -> Result<Url> {
    let path = std::path::absolute(path)
        .with_context(|| format!("{} is not the path of a folder", path.display()))?;
    Url::from_directory_path(&path)
        .map_err(|()| anyhow::anyhow!("{} cannot be written as a URL", path.display()))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
