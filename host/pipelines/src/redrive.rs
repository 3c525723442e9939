//! Takes in events that were given up on their way: a service that delivers them keeps such batches
//! aside, as files.
//!
//! Each event has the identity that it would have had, and goes the way of any other. So what was
//! taken in before the batch was given up counts once, and a batch can be taken in again. The file
//! of a batch is removed when everything in it was taken in. It stays when something in it cannot
//! be read or was rejected, which is reported by name.
//!
//! Events count once as long as their identities are remembered. A batch that is older than that is
//! left where it is unless somebody says otherwise.

use std::sync::Arc;

use serde::Serialize;
use url::Url;
use wafer_catalog::{Context, Definitions, SourceKind, get, temporary_folder};
use wafer_core::{Duration, FailedBatch, FailedEvent, IncomingEvent, Timestamp, cut_to};
use wafer_files::unreadable;
use wafer_store::{Kind, RemoteFile, RemoteListing, Result};

use crate::events::Events;
use crate::events::event::{Delivery, EventResult, IngestReport};

/// The greatest size of the file of a batch, in bytes. Services deliver some MB at once, which take
/// more as escaped text.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// The number of events that are taken in at once.
const TAKEN_AT_ONCE: usize = 1_000;
/// The greatest number of events and batches that are left and that a report names.
const MAX_NAMED: usize = 100;
/// Why a file is left whose name no URL stands for.
const ODD_NAME: &str = "has a name that is not a path, which no service gives to a batch that it \
                        keeps aside: give it another name, or remove it";
/// The greatest size of a reason in a report, in bytes.
const MAX_REASON_BYTES: usize = 1 << 10;

/// Decodes the content of a file with a batch. The error says what is wrong with the file.
pub type DecodeBatch = dyn Fn(&[u8]) -> Result<FailedBatch, String> + Send + Sync;

/// Which failed batches are taken in.
#[derive(Clone, Debug)]
pub struct RedriveRequest {
    /// The folder with their files, among the remote files.
    pub folder: Url,
    /// The source whose events are taken in; `None` means those of all sources.
    pub source: Option<String>,
    /// The greatest number of batches of which everything is taken in. Those that stay do not
    /// count, so that they never keep others from being reached.
    pub limit: usize,
    /// Whether nothing is taken in and removed.
    pub dry_run: bool,
    /// Whether batches are taken in whose identities may have been forgotten.
    pub accept_forgotten: bool,
}

/// What became of failed batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// The number of batches that were read.
    pub batches: usize,
    /// The number of batches of other sources, which stay as they are.
    pub of_other_sources: usize,
    /// The number of events in the batches that can be read.
    pub readable: usize,
    /// The number of events that were accepted and are durable now.
    pub accepted: usize,
    /// The number of events that had been accepted before.
    pub duplicate: usize,
    /// The number of batches of which everything was taken in. Their files are removed.
    pub removed: usize,
    /// The number of events that were not taken in, and of batches of which none was.
    pub left: usize,
    /// The first of these.
    pub left_by_name: Vec<LeftBehind>,
    /// The number of files that were not looked at, because the limit was reached.
    pub not_looked_at: usize,
}

/// An event that was not taken in, or a batch of which none was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The file of the batch, which stays.
    pub file: String,
    /// The event, as its service names it; `None` for the whole batch.
    pub event: Option<String>,
    /// Why it was not taken in.
    pub reason: String,
}

impl RedriveReport {
    fn leave(&mut self, file: &str, event: Option<String>, reason: &str) {
        self.left += 1;
        if self.left_by_name.len() < MAX_NAMED {
            self.left_by_name.push(LeftBehind {
                file: file.to_owned(),
                event,
                reason: cut_to(reason, MAX_REASON_BYTES),
            });
        }
    }

    /// Adds what became of the events of these names.
    fn add(&mut self, file: &str, names: Vec<String>, taken: IngestReport) {
        self.accepted += taken.accepted;
        self.duplicate += taken.duplicate;
        for (name, result) in names.into_iter().zip(taken.events) {
            if let EventResult::Rejected { error } = result {
                self.leave(file, Some(name), &error);
            }
        }
    }
}

/// Takes in events that were given up on their way.
#[derive(Debug)]
pub struct Redrives {
    context: Arc<Context>,
    events: Arc<Events>,
}

impl Redrives {
    pub(crate) fn new(context: Arc<Context>, events: Arc<Events>) -> Self {
        Self { context, events }
    }

    /// Takes in the events of failed batches, which `decode` reads, and removes the files of those
    /// of which everything was taken in.
    ///
    /// # Errors
    /// Returns the errors of the remote files and of the stores. What was taken in before stays so,
    /// and a repeated call goes on. Errors of a batch are in the report.
    pub async fn redrive(
        &self,
        request: &RedriveRequest,
        decode: &DecodeBatch,
    ) -> Result<RedriveReport> {
        let remote = &self.context.components().remote;
        let RemoteListing { files, odd } = remote.list(&request.folder).await?;
        let mut report = RedriveReport::default();
        for name in odd {
            report.leave(&name, None, ODD_NAME);
        }
        let mut whole = 0;
        for (number, file) in files.iter().enumerate() {
            if whole == request.limit {
                report.not_looked_at = files.len() - number;
                break;
            }
            if !self
                .redrive_file(file, request, decode, &mut report)
                .await?
            {
                continue;
            }
            whole += 1;
            if !request.dry_run {
                remote.remove(&file.url).await?;
                report.removed += 1;
            }
        }
        Ok(report)
    }

    /// Takes in the events of one batch. Returns whether everything in it was taken in, or can be.
    async fn redrive_file(
        &self,
        file: &RemoteFile,
        request: &RedriveRequest,
        decode: &DecodeBatch,
        report: &mut RedriveReport,
    ) -> Result<bool> {
        let left = report.left;
        let Some(batch) = self.batch(file, decode, report).await? else {
            return Ok(false);
        };
        if request.source.as_ref().is_some_and(|s| *s != batch.source) {
            report.of_other_sources += 1;
            return Ok(false);
        }
        if let Err(reason) = self.check_batch(&batch, request) {
            report.leave(file.url.as_str(), None, &reason);
            return Ok(false);
        }
        self.take_in(file, batch, request.dry_run, report).await?;
        Ok(report.left == left)
    }

    /// Reads a batch. Returns `None` if it cannot be read, or if somebody else took it in.
    async fn batch(
        &self,
        file: &RemoteFile,
        decode: &DecodeBatch,
        report: &mut RedriveReport,
    ) -> Result<Option<FailedBatch>> {
        if file.bytes > MAX_FILE_BYTES {
            let reason = format!("has {} bytes, which no batch has", file.bytes);
            report.leave(file.url.as_str(), None, &reason);
            return Ok(None);
        }
        let folder = temporary_folder()?;
        let copy = folder.path().join("batch");
        match self.context.components().remote.fetch(file, &copy).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            Err(e) if e.kind() == Kind::Conflict => {
                report.leave(file.url.as_str(), None, &e.to_string());
                return Ok(None);
            }
            fetched => fetched?,
        }
        let content = tokio::fs::read(&copy).await;
        let content = content.map_err(|e| unreadable(&copy, e))?;
        report.batches += 1;
        match decode(&content) {
            Ok(batch) => Ok(Some(batch)),
            Err(reason) => {
                report.leave(file.url.as_str(), None, &reason);
                Ok(None)
            }
        }
    }

    /// Checks that a source takes the events of a batch, and that it knows which of them it has.
    fn check_batch(&self, batch: &FailedBatch, request: &RedriveRequest) -> Result<(), String> {
        let definitions = self.context.definitions();
        let remember = remembered(&definitions, &batch.source)?;
        match request.accept_forgotten {
            true => Ok(()),
            false => check_remembered(batch.arrived, remember, self.context.now()),
        }
    }

    /// Takes in the events of a batch that can be read.
    async fn take_in(
        &self,
        file: &RemoteFile,
        batch: FailedBatch,
        dry_run: bool,
        report: &mut RedriveReport,
    ) -> Result<()> {
        let mut readable: Vec<(String, IncomingEvent)> = Vec::with_capacity(batch.events.len());
        for FailedEvent { name, event } in batch.events {
            match &event.payload {
                Ok(_) => readable.push((name, event)),
                Err(reason) => report.leave(file.url.as_str(), Some(name), reason),
            }
        }
        report.readable += readable.len();
        if dry_run {
            return Ok(());
        }
        let mut readable = readable.into_iter();
        while !readable.as_slice().is_empty() {
            let taken = readable.by_ref().take(TAKEN_AT_ONCE);
            let (names, events): (Vec<String>, Vec<IncomingEvent>) = taken.unzip();
            let ingested = self.events.ingest(&batch.source, events, Delivery::Now);
            match ingested.await {
                Ok(taken) => report.add(file.url.as_str(), names, taken),
                // Another attempt fails as well, until a definition or a function is changed.
                Err(e) if matches!(e.kind(), Kind::Invalid | Kind::Function) => {
                    report.leave(file.url.as_str(), None, &e.chain());
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Returns how long a source remembers the identities of its events. The error says that it takes
/// none.
fn remembered(definitions: &Definitions, source: &str) -> Result<Duration, String> {
    let definition = get(&definitions.sources, source, "source").map_err(|e| e.to_string())?;
    match &definition.kind {
        SourceKind::Stream { remember, .. } => Ok(*remember),
        other => Err(format!(
            "source `{source}` is {}, which takes no events",
            other.noun()
        )),
    }
}

/// Checks that the identities of all events of a batch are remembered. The first of its events came
/// to the service at `arrived`, so that none of them was taken in before.
fn check_remembered(arrived: Timestamp, remember: Duration, now: Timestamp) -> Result<(), String> {
    if now < arrived.plus(remember) {
        return Ok(());
    }
    Err(format!(
        "its first event came at {arrived}, and the source remembers identities for {remember}: \
         events that were taken in before the batch was given up would count again. Take it in \
         nevertheless with --accept-forgotten"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "s3://b/aws/lambda/1";

    #[test]
    fn batch_is_taken_in_as_long_as_its_identities_are_remembered() {
        let at = |hours: i64| Timestamp::from_micros(0).plus(Duration::from_hours(hours));
        for (arrived, now, is_remembered) in [(0, 0, true), (0, 47, true), (0, 48, false)] {
            let checked = check_remembered(at(arrived), Duration::from_days(2), at(now));
            assert_eq!(checked.is_ok(), is_remembered, "{arrived} {now}");
            if let Err(reason) = checked {
                let wanted =
                    "came at 1970-01-01T00:00:00Z, and the source remembers identities for 2d";
                assert!(reason.contains(wanted), "{reason}");
            }
        }
    }

    #[test]
    fn rejected_events_are_left_by_name() {
        let mut report = RedriveReport::default();
        let names = ["1", "2", "3"].map(str::to_owned).to_vec();
        let taken = IngestReport {
            accepted: 1,
            duplicate: 1,
            rejected: 1,
            events: vec![
                EventResult::Accepted,
                EventResult::Rejected {
                    error: "is wrong".to_owned(),
                },
                EventResult::Duplicate,
            ],
            ..IngestReport::default()
        };
        report.add(FILE, names, taken);
        let wanted = LeftBehind {
            file: FILE.to_owned(),
            event: Some("2".to_owned()),
            reason: "is wrong".to_owned(),
        };
        assert_eq!((report.accepted, report.duplicate, report.left), (1, 1, 1));
        assert_eq!(report.left_by_name, [wanted]);
    }

    #[test]
    fn report_names_only_so_many_and_counts_all() {
        let mut report = RedriveReport::default();
        let reason = "x".repeat(2 * MAX_REASON_BYTES);
        for number in 0..MAX_NAMED + 5 {
            report.leave(FILE, Some(number.to_string()), &reason);
        }
        assert_eq!((report.left, report.left_by_name.len()), (105, MAX_NAMED));
        let longest = report
            .left_by_name
            .iter()
            .map(|left| left.reason.len())
            .max();
        assert!(longest <= Some(MAX_REASON_BYTES));
    }
}
