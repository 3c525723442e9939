//! What runs of a pipeline need, looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_catalog::{Definitions, PipelineDef, SourceDef, Upstream, get};
use wafer_core::rules::{
    Interval, available_from_event, available_from_file, available_from_schedule,
};
use wafer_core::{Digest, Hasher, Timestamp};
use wafer_store::Result;
use wafer_tables::Deletions;

use crate::group_rows::Target;
use crate::input::Input;
use crate::producer::Producer;
use crate::run::RunRequest;
use crate::service::Pipelines;
use crate::source::files::SourceFile;

/// When runs write to the online store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Online {
    /// Right after the offline table.
    Each,
    /// Not at all: the caller does, for all runs at once.
    Later,
}

/// What is known of a part of a divided run.
#[derive(Default)]
pub(crate) struct Part {
    /// The source's files that it reads.
    pub(crate) files: Vec<SourceFile>,
    /// Versions of the tables that features are looked up in; all parts have the same.
    pub(crate) table_versions: BTreeMap<String, u64>,
}

/// Everything that runs of a pipeline need, looked up.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) pipeline: PipelineDef,
    pub(crate) source: SourceDef,
    pub(crate) target: Arc<Target>,
    pub(crate) producer: Arc<dyn Producer>,
    /// Versions of the tables that the producer looks features up in.
    pub(crate) table_versions: BTreeMap<String, u64>,
    /// When it was made, by the platform's clock.
    pub(crate) started: Timestamp,
    pub(crate) input: Input,
    /// Digest of the function and of all settings that decide what is written.
    pub(crate) settings: Digest,
    /// Digest of everything but the interval, and of what changed in another group's
    /// table, that decides what is written.
    pub(crate) inputs: Digest,
    pub(crate) deletions: Arc<Deletions>,
    pub(crate) workers: usize,
    pub(crate) online: Online,
    /// Microseconds that its work may take.
    pub(crate) time_limit: Option<i64>,
    /// Whether a schedule runs it, so that requests see its rows once it is done.
    pub(crate) is_scheduled: bool,
    /// Of another group's table, a version up to which all finished runs have what
    /// there is.
    pub(crate) followed: Option<u64>,
}

impl Pipelines {
    /// Looks up what runs of a pipeline need, in some definitions; `part` is what
    /// it is of a divided one.
    pub(crate) async fn job(
        &self,
        definitions: &Arc<Definitions>,
        request: &RunRequest,
        part: Option<Part>,
        online: Online,
    ) -> Result<Job> {
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?.clone();
        let source = definitions.sources[&pipeline.source].clone();
        let group = definitions.groups[&pipeline.group].clone();
        let producer = self.producer(definitions, &pipeline, &group).await?;
        let inputs = producer.inputs().clone();
        let (input, table_versions) = match part {
            Some(part) => (self.input_of(part.files, inputs), part.table_versions),
            None => {
                let archive = request.archive;
                let input = self.input(definitions, &pipeline, inputs, archive).await?;
                (input, producer.table_versions().await?)
            }
        };
        let deletions = self.tables.deletions().await?;
        let mut hasher = Hasher::new();
        let expectations = serde_json::to_vec(&group.expectations).expect("plain data");
        let schedule = serde_json::to_vec(&pipeline.schedule).expect("plain data");
        hasher
            .part(producer.code().as_bytes())
            .part(group.table().as_bytes())
            .part(source.delay.to_le_bytes().as_slice())
            .part(&expectations)
            .part(&schedule);
        let settings = hasher.finish();
        let mut hasher = Hasher::new();
        hasher
            .part(input.digest().as_bytes())
            .part(settings.as_bytes());
        for (table, version) in &table_versions {
            hasher.part(table.as_bytes()).part(&version.to_le_bytes());
        }
        Ok(Job {
            name: request.pipeline.clone(),
            pipeline,
            source,
            target: Arc::new(Target::new(group, &deletions)),
            deletions,
            producer,
            table_versions,
            started: self.context.now(),
            input,
            settings,
            inputs: hasher.finish(),
            workers: request.workers.max(1),
            online,
            time_limit: None,
            is_scheduled: false,
            followed: None,
        })
    }
}

impl Job {
    /// Digest of everything that decides what a run over an interval writes.
    pub(crate) fn inputs_over(&self, interval: Interval, upstream: Option<Upstream>) -> Digest {
        let mut hasher = Hasher::new();
        hasher
            .part(self.inputs.as_bytes())
            .part(interval.slug().as_bytes());
        if let Some(upstream) = upstream {
            hasher.part(&upstream.changed.to_le_bytes());
        }
        hasher.finish()
    }

    /// When a request could first have seen a row: after a scheduled run, or as
    /// its source says; not before the rows that it was made from.
    pub(crate) fn available(
        &self,
        interval: Interval,
        event: Timestamp,
        seen: Option<(Timestamp, bool)>,
    ) -> Timestamp {
        let available = match (&self.pipeline.schedule, seen) {
            (Some(schedule), _) => available_from_schedule(interval, schedule.delay),
            (None, Some((seen, true))) => return available_from_event(event, seen),
            (None, _) => available_from_file(event, self.source.delay),
        };
        seen.map_or(available, |(seen, _)| seen.max(available))
    }
}
