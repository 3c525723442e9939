//! The composition root: what is made of what, by the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use url::Url;
use wafer_core::{Clock, SystemClock};
use wafer_platform::{Components, Platform};
use wafer_runtime::{Compiler, Guests, Runtime, RuntimeConfig};

use crate::handler::Handler;

/// Sandboxes at once: one invocation at a time, and some for its batches.
const INSTANCES: u32 = 16;
/// Requests that may wait for a sandbox.
const QUEUE: usize = 64;
/// The only folder that can be written to.
const COPIES: &str = "/tmp/wafer/artifacts";

/// Opens the project that the environment names.
pub(crate) async fn open() -> Result<Handler> {
    let project = setting("WAFER_PROJECT")?;
    let (online, objects) = (url("WAFER_STORE_ONLINE")?, url("WAFER_STORE_OBJECTS")?);
    let sources = event_sources(&std::env::var("WAFER_EVENT_SOURCES").unwrap_or_default())?;
    let machine_clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = getrandom::u64().context("the system has no random numbers")?;
    let copies = std::env::var_os("WAFER_COPIES").unwrap_or_else(|| COPIES.into());
    let stores = wafer_aws::open(
        &project,
        (&online, &objects),
        Path::new(&copies),
        seed,
        Arc::clone(&machine_clock),
    )
    .await?;
    let runtime = Runtime::new(RuntimeConfig {
        instances: INSTANCES,
        compiler: Compiler::Absent,
    })
    .map_err(|e| anyhow::anyhow!("the sandbox cannot be started: {e:#}"))?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let components = Components {
        online: Arc::clone(&stores.dynamo) as _,
        metadata: stores.dynamo,
        artifacts: Arc::new(match shipped() {
            Some(folder) => stores.artifacts.with_shipped(folder),
            None => stores.artifacts,
        }),
        offline: stores.offline,
        remote: Arc::new(wafer_aws::Files::default()),
        runtime,
        guests: Guests::new(cores, QUEUE),
        event_guests: Guests::new(cores, QUEUE),
        clock: Arc::clone(&machine_clock),
        machine_clock,
        // Environments of a function may have the same host name and process id.
        holder: format!("lambda-{seed:016x}/{}", std::process::id()),
    };
    let platform = Arc::new(Platform::open(&project, components).await?);
    platform.context().check_clock().await?;
    Ok(Handler::new(platform, sources, objects))
}

/// Compiled code that is in the package, if there is any.
fn shipped() -> Option<PathBuf> {
    let package = std::env::var_os("LAMBDA_TASK_ROOT")?;
    let folder = Path::new(&package).join("artifacts");
    folder.is_dir().then_some(folder)
}

fn setting(name: &str) -> Result<String> {
    let value = std::env::var(name).unwrap_or_default();
    if value.is_empty() {
        bail!("{name} is not set; `terraform apply` in infra/ sets it");
    }
    Ok(value)
}

fn url(name: &str) -> Result<Url> {
    let value = setting(name)?;
    Url::parse(&value).with_context(|| format!("{name} is `{value}`, which is no URL"))
}

/// `ARN=SOURCE;ARN=SOURCE`
fn event_sources(text: &str) -> Result<BTreeMap<String, String>> {
    let pairs = text
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let pair = pair
                .split_once('=')
                .filter(|(arn, _)| arn.starts_with("arn:"));
            let (arn, source) = pair.with_context(|| {
                format!(
                    "WAFER_EVENT_SOURCES is `{text}`; write ARN=SOURCE, several with `;` between"
                )
            })?;
            Ok((arn.to_owned(), source.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_sources_are_pairs() {
        let found = event_sources("arn:aws:sqs:r:1:q=a; arn:aws:kinesis:r:1:stream/s=b;").unwrap();
        let found: Vec<_> = found.into_iter().collect();
        let wanted = [
            ("arn:aws:kinesis:r:1:stream/s", "b"),
            ("arn:aws:sqs:r:1:q", "a"),
        ];
        assert_eq!(found, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(event_sources("").unwrap().is_empty());
        for text in ["queue=a", "arn:aws:sqs:r:1:q"] {
            assert!(event_sources(text).is_err(), "{text}");
        }
    }
}
