//! Jobs: everything that the runs of a pipeline need, resolved from the definitions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use wafer_catalog::{
    Context, Definitions, GroupDef, MadeBy, PipelineDef, RunRecord, RunState, SourceDef, Ticks,
    Upstream, get,
};
use wafer_core::rules::{
    Interval, available_from_event, available_from_file, available_from_schedule,
};
use wafer_core::{Digest, Duration, Hasher, Timestamp};
use wafer_store::{Error, Result};
use wafer_tables::{Deletions, Tables};

use crate::group_rows::Target;
use crate::input::{ArchiveRead, Input, reads_tables};
use crate::producer::{Freshness, Predictors, Producer, open_producer};
use crate::run::RunRequest;
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

/// Prepares the jobs of runs.
#[derive(Debug)]
pub(crate) struct Jobs {
    context: Arc<Context>,
    tables: Arc<Tables>,
    /// Opens the models of pipelines that predict with a model instead of calling a function.
    predictors: Arc<dyn Predictors>,
}

impl Jobs {
    pub(crate) fn new(
        context: Arc<Context>,
        tables: Arc<Tables>,
        predictors: Arc<dyn Predictors>,
    ) -> Self {
        Self {
            context,
            tables,
            predictors,
        }
    }

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
            let producer = open_producer(
                &self.context,
                self.predictors.as_ref(),
                definitions,
                &pipeline,
                &group,
            );
            let producer = producer.await?;
            let fields = pipeline.made_by.source_fields(producer.inputs());
            let (input, table_versions) = match part {
                Some(part) => {
                    let input = Input::of_files(&self.context, part.files, &source, &fields);
                    (input, part.table_versions)
                }
                None => {
                    let archive = match request.archive {
                        true => ArchiveRead::Included,
                        false => ArchiveRead::Skipped,
                    };
                    let freshness = match online {
                        OnlineUpdate::Never => Freshness::Stored,
                        OnlineUpdate::AfterRun | OnlineUpdate::ByCaller => Freshness::Flushed,
                    };
                    if freshness == Freshness::Flushed
                        && reads_tables(definitions, &pipeline, archive)
                    {
                        // Events that came in a moment ago may still be in the outbox.
                        self.tables.flush_all().await?;
                    }
                    let input =
                        Input::open(&self.context, definitions, &pipeline, fields, archive).await?;
                    (input, producer.table_versions(freshness).await?)
                }
            };
            let deletions = self.tables.deletions().await?;
            let settings = settings_digest(&pipeline, &source, &group, producer.code());
            let inputs = inputs_digest(input.digest(), settings, &table_versions);
            Ok(Job {
                name: request.pipeline.clone(),
                pipeline,
                source,
                target: Arc::new(Target::of(&self.context, group, &deletions)),
                deletions,
                producer,
                table_versions,
                started: self.context.now(),
                input,
                settings,
                inputs,
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
        let mut hasher = Hasher::new();
        hasher
            .part(self.inputs.as_bytes())
            .part(interval.slug().as_bytes());
        if let Some(upstream) = upstream {
            hasher.part(&upstream.changed.to_le_bytes());
        }
        hasher.finish()
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
    /// The available time of an event in the archive of a stream.
    Archive(Timestamp),
    /// The available time of a row in the table of a group.
    Table(Timestamp),
}

/// Returns the digest of the function, or the model, and of all settings that decide what is
/// written.
///
/// Left out are settings that decide whether a run succeeds, and not what it writes then: the
/// limits of the function, and `max_rejects`, which is compared by itself
/// ([`Job::is_settled`]). So is the `ttl` of the group, by which rows are answered. Keys and
/// aggregates of a version of a group do not change.
fn settings_digest(
    pipeline: &PipelineDef,
    source: &SourceDef,
    group: &GroupDef,
    code: Digest,
) -> Digest {
    let columns: Vec<&str> = group.columns.iter().map(|c| c.name.as_str()).collect();
    let stored = (&group.event_time, columns, &group.expectations);
    let admitted = (source.format, source.skew, source.delay);
    let mut hasher = Hasher::new();
    hasher
        .part(code.as_bytes())
        .part(group.table().as_bytes())
        .part(&serde_json::to_vec(&stored).expect("plain data"))
        .part(&serde_json::to_vec(&admitted).expect("plain data"))
        .part(&serde_json::to_vec(&pipeline.schedule).expect("plain data"));
    if let Some(reading) = reading(source, pipeline) {
        hasher.part(&reading);
    }
    hasher.finish()
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

#[cfg(test)]
mod tests {
    use wafer_catalog::{
        Format, HALF_OF_THE_ROWS, Location, Overlap, PassedColumn, ScheduleDef, TimeDef,
    };
    use wafer_core::expect::{Expectation, Policy, Rule};
    use wafer_core::{DataType, DecimalReading, Field};

    use super::*;

    /// What a pipeline is defined by.
    struct Defined {
        pipeline: PipelineDef,
        source: SourceDef,
        group: GroupDef,
    }

    fn column(name: &str) -> Field {
        Field::new(name, DataType::Int64, true)
    }

    /// Returns what reads a column of the source as `v`.
    fn reads(from: &str) -> MadeBy {
        MadeBy::Columns(vec![PassedColumn {
            from: from.to_owned(),
            field: column("v"),
        }])
    }

    fn not_null(policy: Policy) -> Expectation {
        Expectation {
            column: "v".to_owned(),
            rule: Rule::NotNull,
            policy,
        }
    }

    fn hourly(timezone: &str) -> ScheduleDef {
        ScheduleDef {
            cron: "0 * * * *".to_owned(),
            timezone: timezone.to_owned(),
            delay: Duration::ZERO,
            start_after: Duration::ZERO,
            catch_up: 1,
            overlap: Overlap::Wait,
            retries: 0,
            backoff: Duration::ZERO,
            time_limit: None,
        }
    }

    /// Returns the digest of the settings after a change.
    fn digest_after(change: fn(&mut Defined)) -> Digest {
        let mut defined = Defined {
            pipeline: PipelineDef {
                source: "s".to_owned(),
                made_by: reads("v"),
                group: "g".to_owned(),
                schedule: None,
                max_rejects: HALF_OF_THE_ROWS,
                doc: String::new(),
            },
            source: SourceDef::of_files(Location::Remote(String::new())),
            group: GroupDef {
                columns: vec![column("v")],
                ..GroupDef::new("g", "e", "t")
            },
        };
        change(&mut defined);
        let Defined {
            pipeline,
            source,
            group,
        } = defined;
        settings_digest(&pipeline, &source, &group, Digest::of(b"code"))
    }

    #[test]
    fn settings_that_decide_what_is_written_are_in_the_digest_and_no_others() {
        let changes: [fn(&mut Defined); 15] = [
            |_| {},
            |defined| defined.group.version = 2,
            |defined| defined.group.event_time = "u".to_owned(),
            |defined| defined.group.columns.push(column("w")),
            |defined| defined.group.expectations.push(not_null(Policy::Reject)),
            |defined| defined.group.expectations.push(not_null(Policy::Warn)),
            |defined| defined.pipeline.made_by = reads("w"),
            |defined| defined.pipeline.schedule = Some(hourly("UTC")),
            |defined| defined.pipeline.schedule = Some(hourly("Europe/Berlin")),
            |defined| defined.source.format = Some(Format::Csv),
            |defined| defined.source.skew = Duration::from_secs(1),
            |defined| defined.source.delay = Duration::from_secs(1),
            |defined| defined.source.options.nulls.push("-".to_owned()),
            |defined| {
                let time = TimeDef {
                    truncate: true,
                    ..TimeDef::default()
                };
                defined.source.times.insert("t".to_owned(), time);
            },
            |defined| {
                let reading = DecimalReading::Text;
                defined.source.decimals.insert("v".to_owned(), reading);
            },
        ];
        let mut seen: Vec<Digest> = Vec::new();
        for (number, change) in changes.into_iter().enumerate() {
            let digest = digest_after(change);
            assert!(!seen.contains(&digest), "change {number}");
            seen.push(digest);
        }
        let others: [fn(&mut Defined); 4] = [
            |defined| defined.group.ttl = Some(Duration::from_secs(1)),
            |defined| defined.group.doc = "x".to_owned(),
            |defined| defined.pipeline.max_rejects = 0.1,
            |defined| defined.source.lateness = Some(Duration::from_secs(1)),
        ];
        for (number, change) in others.into_iter().enumerate() {
            assert_eq!(digest_after(change), seen[0], "change {number}");
        }
    }
}
