//! Jobs: everything that the runs of a pipeline need, resolved from the definitions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use wafer_catalog::{
    Definitions, GroupDef, INPUTS_VERSION, MadeBy, PipelineDef, RunRecord, RunState, SourceDef,
    Ticks, Upstream, get,
};
use wafer_core::rules::{
    Interval, available_from_event, available_from_file, available_from_schedule,
};
use wafer_core::{Digest, Duration, Hasher, Timestamp};
use wafer_store::{Error, Result};
use wafer_tables::Deletions;

use crate::group_rows::Target;
use crate::input::Input;
use crate::producer::{Freshness, Producer};
use crate::run::RunRequest;
use crate::service::Pipelines;
use crate::source::files::SourceFile;

/// When the online store is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnlineUpdate {
    /// By each run, right after its commit to the offline table.
    AfterRun,
    /// By the caller, once for all runs.
    ByCaller,
    /// Never: the run is a dry one, which writes nothing at all.
    Never,
}

/// The input of one partition of a divided run.
#[derive(Default)]
pub(crate) struct PartitionInput {
    /// The files of the source that the partition reads.
    pub(crate) files: Vec<SourceFile>,
    /// The versions of the tables that features are looked up in, the same for all partitions.
    pub(crate) table_versions: BTreeMap<String, u64>,
}

/// Everything that the runs of a pipeline need.
pub(crate) struct Job {
    /// The name of the pipeline.
    pub(crate) name: String,
    /// The definition of the pipeline.
    pub(crate) pipeline: PipelineDef,
    /// The definition of its source.
    pub(crate) source: SourceDef,
    /// The group that is written.
    pub(crate) target: Arc<Target>,
    /// The function or model that produces the rows.
    pub(crate) producer: Arc<dyn Producer>,
    /// The versions of the tables that the producer looks features up in.
    pub(crate) table_versions: BTreeMap<String, u64>,
    /// When the job was made, by the platform's clock.
    pub(crate) started: Timestamp,
    /// What is read.
    pub(crate) input: Input,
    /// The digest of the function and of all settings that decide what is written.
    pub(crate) settings: Digest,
    /// The digest of everything that decides what is written, except the interval and the
    /// changes in another group's table.
    pub(crate) inputs: Digest,
    /// The same as earlier versions computed it.
    inputs_before: Digest,
    /// The deletions that are taken into account.
    pub(crate) deletions: Arc<Deletions>,
    /// The number of chunks that are transformed concurrently.
    pub(crate) workers: usize,
    /// When the online store is updated.
    pub(crate) online: OnlineUpdate,
    /// How long a run may take; `None` for no limit.
    pub(crate) time_limit: Option<Duration>,
    /// Whether the schedule runs the job, so that requests see its rows once it is done.
    pub(crate) is_scheduled: bool,
    /// The ticks of the pipeline's schedule, if it has one.
    pub(crate) ticks: Option<Ticks>,
    /// The intervals of a backfill that consist of several ones.
    pub(crate) combined: HashSet<Interval>,
    /// A version of the upstream table up to which all finished runs have read its changes.
    pub(crate) caught_up_to: Option<u64>,
}

/// Returns the bytes of all that is declared of the columns of a source and of those that a
/// pipeline passes on, or `None` if nothing is.
fn reading(source: &SourceDef, pipeline: &PipelineDef) -> Option<Vec<u8>> {
    let columns = match &pipeline.made_by {
        MadeBy::Columns(columns) => Some(serde_json::to_vec(columns).expect("plain data")),
        MadeBy::Function(_) | MadeBy::Model(_) => None,
    };
    let parts: Vec<Vec<u8>> = source.declared().into_iter().chain(columns).collect();
    (!parts.is_empty()).then(|| parts.concat())
}

impl Job {
    /// Returns the bytes of all that decides how columns are read, or `None` if nothing is
    /// declared.
    pub(crate) fn reading(&self) -> Option<Vec<u8>> {
        reading(&self.source, &self.pipeline)
    }
}

impl Pipelines {
    /// Prepares runs of a pipeline from the given definitions. With `part`, only one partition's
    /// files are read instead of the whole source.
    pub(crate) fn job<'a>(
        &'a self,
        definitions: &'a Arc<Definitions>,
        request: &'a RunRequest,
        part: Option<PartitionInput>,
        online: OnlineUpdate,
    ) -> BoxFuture<'a, Result<Job>> {
        Box::pin(async move {
            let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?.clone();
            let ticks = pipeline.schedule.as_ref().map(Ticks::new);
            let ticks = ticks.transpose().map_err(Error::invalid)?;
            let source = definitions.sources[&pipeline.source].clone();
            let group = definitions.groups[&pipeline.group].clone();
            let producer = self.producer(definitions, &pipeline, &group).await?;
            let fields = pipeline.made_by.source_fields(producer.inputs());
            let (input, table_versions) = match part {
                Some(part) => {
                    let input = self.input_of(part.files, &source, &fields);
                    (input, part.table_versions)
                }
                None => {
                    let archive = request.archive;
                    let freshness = match online {
                        OnlineUpdate::Never => Freshness::Stored,
                        OnlineUpdate::AfterRun | OnlineUpdate::ByCaller => Freshness::Flushed,
                    };
                    let input = self
                        .input(definitions, &pipeline, fields, archive, freshness)
                        .await?;
                    (input, producer.table_versions(freshness).await?)
                }
            };
            let deletions = self.tables.deletions().await?;
            let settings = Settings::new(&pipeline, &source, &group, producer.code());
            let content = input.digest();
            let inputs = |settings| inputs_digest(content, settings, &table_versions);
            let (inputs, inputs_before) = (inputs(settings.present), inputs(settings.before));
            Ok(Job {
                name: request.pipeline.clone(),
                pipeline,
                source,
                target: Arc::new(self.target(group, &deletions)),
                deletions,
                producer,
                table_versions,
                started: self.context.now(),
                input,
                settings: settings.present,
                inputs,
                inputs_before,
                workers: request.workers.max(1),
                online,
                time_limit: None,
                is_scheduled: false,
                caught_up_to: None,
                ticks,
                combined: HashSet::new(),
            })
        })
    }
}

impl Job {
    /// Returns whether the run writes nothing.
    pub(crate) fn is_dry(&self) -> bool {
        self.online == OnlineUpdate::Never
    }

    /// Returns the digest of everything that decides what a run over an interval writes.
    pub(crate) fn inputs_over(&self, interval: Interval, upstream: Option<Upstream>) -> Digest {
        digest_over(self.inputs, interval, upstream)
    }

    /// Returns the record of an earlier run with the digest of its inputs as it is computed now. An
    /// earlier version left settings out of it, and a run with the same ones is not repeated for
    /// that.
    pub(crate) fn with_present_inputs(&self, run: &RunRecord) -> RunRecord {
        let before = digest_over(self.inputs_before, run.interval, run.upstream);
        let is_outdated = run.inputs_version < INPUTS_VERSION && run.inputs == before;
        RunRecord {
            inputs: match is_outdated {
                true => self.inputs_over(run.interval, run.upstream),
                false => run.inputs,
            },
            inputs_version: INPUTS_VERSION,
            ..run.clone()
        }
    }

    /// Returns whether a run with the inputs of the job would end again as it did: it succeeded,
    /// under a limit of rejected rows that is no higher than that of the job. Under a lower limit,
    /// the same rows may fail a run.
    pub(crate) fn is_settled(&self, run: &RunRecord) -> bool {
        run.state == RunState::Succeeded && run.is_known_within(self.pipeline.max_rejects)
    }

    /// Returns the available time of a row: after a scheduled run, or by the source's delay, but
    /// not before the row that it was made from, if that comes from a stored table.
    pub(crate) fn available(
        &self,
        interval: Interval,
        event: Timestamp,
        seen: Option<StoredTime>,
    ) -> Timestamp {
        let available = match (&self.pipeline.schedule, seen) {
            (Some(schedule), _) => available_from_schedule(interval, schedule.delay),
            (None, Some(StoredTime::Archive(seen))) => return available_from_event(event, seen),
            (None, _) => available_from_file(event, self.source.delay),
        };
        match seen {
            Some(StoredTime::Archive(seen) | StoredTime::Table(seen)) => seen.max(available),
            None => available,
        }
    }
}

/// The available time of a stored row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoredTime {
    /// Of an event in the archive of a stream.
    Archive(Timestamp),
    /// Of a row in the table of a group.
    Table(Timestamp),
}

/// The digests of the function and of all settings that decide what is written.
struct Settings {
    present: Digest,
    /// The same as earlier versions computed it.
    before: Digest,
}

impl Settings {
    /// Digests the settings. `code` is the digest of the function or model.
    fn new(pipeline: &PipelineDef, source: &SourceDef, group: &GroupDef, code: Digest) -> Self {
        let expectations = serde_json::to_vec(&group.expectations).expect("plain data");
        let schedule = serde_json::to_vec(&pipeline.schedule).expect("plain data");
        let mut hasher = Hasher::new();
        hasher
            .part(code.as_bytes())
            .part(group.table().as_bytes())
            .part(source.delay.as_micros().to_le_bytes().as_slice())
            .part(&expectations)
            .part(&schedule);
        if let Some(reading) = reading(source, pipeline) {
            hasher.part(&reading);
        }
        let before = hasher.finish();
        let admitted = serde_json::to_vec(&(source.format, source.skew)).expect("plain data");
        let mut hasher = Hasher::new();
        hasher.part(before.as_bytes()).part(&admitted);
        Self {
            present: hasher.finish(),
            before,
        }
    }
}

/// Returns the digest of everything that decides what is written, except the interval: the content
/// of the input, the settings, and the versions of the tables that features are looked up in.
fn inputs_digest(
    content: Digest,
    settings: Digest,
    table_versions: &BTreeMap<String, u64>,
) -> Digest {
    let mut hasher = Hasher::new();
    hasher.part(content.as_bytes()).part(settings.as_bytes());
    for (table, version) in table_versions {
        hasher.part(table.as_bytes()).part(&version.to_le_bytes());
    }
    hasher.finish()
}

/// Returns the digest of what a run reads over an interval.
fn digest_over(inputs: Digest, interval: Interval, upstream: Option<Upstream>) -> Digest {
    let mut hasher = Hasher::new();
    hasher
        .part(inputs.as_bytes())
        .part(interval.slug().as_bytes());
    if let Some(upstream) = upstream {
        hasher.part(&upstream.changed.to_le_bytes());
    }
    hasher.finish()
}
