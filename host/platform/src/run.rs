//! Batch runs: a source's rows over an interval, through the function, into the
//! group's offline table by one commit, then into the online store.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use wafer_core::rules::{Interval, RowVersion, available_from_file};
use wafer_core::{Digest, Hasher, Timestamp, coerce, encode_row, entity_key};
use wafer_runtime::Function;
use wafer_store::{
    EventCommit, Expect, Follows, Kind as StoreKind, Lease, OnlineKey, OnlineRow, OnlineWrite,
    PutCounts, Txn,
};

use crate::definition::{GroupDef, PipelineDef, SourceDef};
use crate::error::{Error, Kind, Result};
use crate::group_rows::{Gate, GroupRows, group_rows};
use crate::platform::{Platform, get};
use crate::source::{Chunk, Chunks, SourceReader};

/// How long a run's lease lasts without being renewed.
const LEASE: i64 = 15_000_000;
const RENEWAL: Duration = Duration::from_secs(5);
/// Rejected rows that a run's record keeps as examples.
const KEPT_REJECTS: usize = 20;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Event times to cover.
    pub interval: Interval,
    /// Chunks that are transformed at the same time.
    pub workers: usize,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It was started; if its process is gone, it can be repeated.
    Running,
    /// Everything is written.
    Succeeded,
    /// It stopped at an error; nothing of it is in the offline table.
    Failed,
}

/// A row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// File and line or row.
    pub place: String,
    /// Why.
    pub message: String,
}

impl Reject {
    /// With as much of the message as a record has room for.
    pub(crate) fn new(place: String, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(500));
        Self { place, message }
    }
}

/// One execution of a pipeline over an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Sorts by the time of the claim.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// Event times it covers.
    pub interval: Interval,
    /// Rises each time the interval is run with other inputs.
    pub generation: i64,
    /// Digest of files, function and settings.
    pub inputs: Digest,
    /// Where it is.
    pub state: RunState,
    /// When it was claimed: `created_timestamp` of its rows, by the platform's
    /// clock. Kept when the run is repeated.
    pub created: Timestamp,
    /// When it was last started, machine time.
    pub started: Timestamp,
    /// When it ended, machine time.
    pub finished: Option<Timestamp>,
    /// Source rows read.
    pub rows_read: u64,
    /// Rows written to the offline table.
    pub rows_written: u64,
    /// Rows made whose event time is outside the interval.
    pub rows_outside: u64,
    /// Rows set aside.
    pub rows_rejected: u64,
    /// The first of them.
    pub rejects: Vec<Reject>,
    /// Rows that were written online.
    pub online_applied: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// Told how a run comes along.
pub trait Progress: Send + Sync {
    /// So many source rows were read, of so many if that is known.
    fn read(&self, rows: u64, total: Option<u64>);
    /// The run enters a stage.
    fn stage(&self, stage: &str);
}

/// Tells nobody.
impl Progress for () {
    fn read(&self, _rows: u64, _total: Option<u64>) {}
    fn stage(&self, _stage: &str) {}
}

/// Everything that a run needs, looked up.
struct Job {
    pipeline: PipelineDef,
    source: SourceDef,
    group: GroupDef,
    function: Function,
    reader: SourceReader,
}

impl Platform {
    /// Runs a pipeline over an interval. The same inputs again change nothing;
    /// other inputs replace what the interval had. A run that was killed is
    /// taken up again.
    ///
    /// Returns the record, and whether anything was done.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process runs it, or the interval overlaps
    /// another that was run. A failed run is an error, and recorded.
    pub async fn run(
        &self,
        request: &RunRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<(RunRecord, bool)> {
        progress.stage("reading the source");
        let job = self.job(request).await?;
        let lease_name = format!("run/{}", request.pipeline);
        let lease = self.lease(&lease_name, LEASE).await?.map_err(|holder| {
            let message = format!("pipeline `{}` is being run by {holder}", request.pipeline);
            Error::new(Kind::Conflict, message)
        })?;
        let renewal = self.keep(lease);
        let result = self.run_claimed(request, &job, progress).await;
        renewal.end(self).await;
        result
    }

    async fn job(&self, request: &RunRequest) -> Result<Job> {
        let definitions = self.definitions();
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?.clone();
        let source = definitions.sources[&pipeline.source].clone();
        let group = definitions.groups[&pipeline.group].clone();
        let function = self.function(&pipeline.function)?;
        let (opened, name) = (source.clone(), pipeline.source.clone());
        let inputs = function.signature().inputs.clone();
        let reader = blocking(move || SourceReader::open(&opened, &name, &inputs)).await??;
        Ok(Job {
            pipeline,
            source,
            group,
            function,
            reader,
        })
    }

    async fn run_claimed(
        &self,
        request: &RunRequest,
        job: &Job,
        progress: Arc<dyn Progress>,
    ) -> Result<(RunRecord, bool)> {
        let inputs = self.inputs_digest(job, request.interval);
        let (mut record, fresh) = self.claim(request, job, inputs).await?;
        if !fresh {
            return Ok((record, false));
        }
        match self.execute(request, job, &mut record, progress).await {
            Ok(()) => record.state = RunState::Succeeded,
            Err(error) => {
                record.state = RunState::Failed;
                record.error = Some(error.chain());
                record.finished = Some(self.components().wall.now());
                // The error that stopped the run says more than one of its record.
                if let Err(unsaved) = self.save(&record).await {
                    tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
                }
                return Err(error);
            }
        }
        record.finished = Some(self.components().wall.now());
        self.save(&record).await?;
        Ok((record, true))
    }

    /// Everything that decides what the run writes.
    fn inputs_digest(&self, job: &Job, interval: Interval) -> Digest {
        let definitions = self.definitions();
        let function = &definitions.functions[&job.pipeline.function]
            .registered
            .digest;
        let mut hasher = Hasher::new();
        hasher
            .part(job.reader.digest().as_bytes())
            .part(function.as_bytes())
            .part(job.group.table().as_bytes())
            .part(job.source.delay.to_le_bytes().as_slice())
            .part(interval.slug().as_bytes());
        hasher.finish()
    }

    fn claim_name(&self, group: &GroupDef, interval: Interval) -> String {
        format!(
            "{}/claim/{}/{}",
            self.project(),
            group.table(),
            interval.slug()
        )
    }

    /// The record of this interval: the one of before if the inputs are the
    /// same, else a new generation. Says whether there is anything to do.
    async fn claim(
        &self,
        request: &RunRequest,
        job: &Job,
        inputs: Digest,
    ) -> Result<(RunRecord, bool)> {
        let metadata = &self.components().metadata;
        let prefix = format!("{}/claim/{}/", self.project(), job.group.table());
        let name = self.claim_name(&job.group, request.interval);
        let mut before: Option<RunRecord> = None;
        for (other, stored) in metadata.list(&prefix).await? {
            let claim: RunRecord = read_record(&other, &stored.value)?;
            if other == name {
                before = Some(claim);
            } else if claim.interval.overlaps(request.interval)
                && self.has_rows(job, &claim).await?
            {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "pipeline `{}` was run over {}, which overlaps {}: rows would be there twice. \
                         Run that interval again to replace it, or choose another",
                        request.pipeline, claim.interval, request.interval
                    ),
                ));
            }
        }
        if let Some(done) = &before
            && done.inputs == inputs
            && done.state == RunState::Succeeded
        {
            return Ok((done.clone(), false));
        }
        let started = self.components().wall.now();
        let mut record = match before {
            // The same work, not finished: taken up with its own times.
            Some(before) if before.inputs == inputs => RunRecord {
                state: RunState::Running,
                started,
                finished: None,
                error: None,
                ..before
            },
            before => self.new_record(
                request,
                inputs,
                before.map_or(1, |b| b.generation + 1),
                started,
            ),
        };
        self.insert_record(&mut record).await?;
        self.save(&record).await?;
        Ok((record, true))
    }

    /// Whether the offline table has rows of a run's interval, or may have soon.
    async fn has_rows(&self, job: &Job, claim: &RunRecord) -> Result<bool> {
        if claim.state != RunState::Failed {
            return Ok(true);
        }
        // It failed; an earlier generation, or what came before the failure, may
        // still be there.
        let app_id = app_id(&work_folder(claim.interval));
        let version = self
            .components()
            .offline
            .txn_version(&job.group.table(), &app_id)
            .await?;
        Ok(version.is_some())
    }

    fn new_record(
        &self,
        request: &RunRequest,
        inputs: Digest,
        generation: i64,
        started: Timestamp,
    ) -> RunRecord {
        RunRecord {
            id: String::new(),
            pipeline: request.pipeline.clone(),
            interval: request.interval,
            generation,
            inputs,
            state: RunState::Running,
            created: self.now(),
            started,
            finished: None,
            rows_read: 0,
            rows_written: 0,
            rows_outside: 0,
            rows_rejected: 0,
            rejects: Vec::new(),
            online_applied: 0,
            error: None,
        }
    }

    /// Gives a new record an id that no other has, and a place under it.
    async fn insert_record(&self, record: &mut RunRecord) -> Result<()> {
        if !record.id.is_empty() {
            return Ok(());
        }
        loop {
            let time = record.created.to_string().replace([':', '-'], "");
            record.id = format!("{time}-{}", record.pipeline);
            let name = format!("{}/run/{}", self.project(), record.id);
            match self
                .components()
                .metadata
                .put(&name, to_json(record), Expect::Absent)
                .await
            {
                Ok(_) => return Ok(()),
                // A clock that stands still: the next microsecond.
                Err(e) if e.kind() == StoreKind::Conflict => {
                    record.created = record.created.plus_micros(1);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes a run's record, and the claim of its interval, which is the record
    /// of the last run over it.
    async fn save(&self, record: &RunRecord) -> Result<()> {
        let definitions = self.definitions();
        let group = &definitions.groups[&definitions.pipelines[&record.pipeline].group];
        let metadata = &self.components().metadata;
        for name in [
            format!("{}/run/{}", self.project(), record.id),
            self.claim_name(group, record.interval),
        ] {
            metadata
                .put(&name, to_json(record), Expect::Anything)
                .await?;
        }
        Ok(())
    }

    async fn execute(
        &self,
        request: &RunRequest,
        job: &Job,
        record: &mut RunRecord,
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        let table = job.group.table();
        let work = work_folder(record.interval);
        let folder = format!("{work}/{}", record.generation);
        let txn = Txn {
            app_id: app_id(&work),
            version: record.generation,
            follows: Follows::Anything,
        };
        let offline = &self.components().offline;
        let committed = offline.txn_version(&table, &txn.app_id).await?;
        if committed.is_none_or(|version| version < txn.version) {
            progress.stage("transforming");
            self.write_offline(request, job, record, (&folder, &work), &txn, &progress)
                .await?;
        }
        progress.stage("updating the online store");
        let counts = self.write_online(job, record, &folder).await?;
        record.online_applied = counts.applied;
        Ok(())
    }

    async fn write_offline(
        &self,
        request: &RunRequest,
        job: &Job,
        record: &mut RunRecord,
        (folder, replaces): (&str, &str),
        txn: &Txn,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        (
            record.rows_read,
            record.rows_written,
            record.rows_outside,
            record.rows_rejected,
        ) = (0, 0, 0, 0);
        record.rejects.clear();
        let mut writer = self
            .components()
            .offline
            .writer(&job.group.table(), folder)
            .await?;
        let total = job.reader.total_rows();
        let gate = Gate {
            interval: request.interval,
            now: self.now(),
            skew: job.source.skew,
        };
        let (group, function) = (Arc::new(job.group.clone()), job.function.clone());
        let mut made =
            Box::pin(
                chunks(job.reader.chunks())
                    .map(|chunk| {
                        let (group, function) = (Arc::clone(&group), function.clone());
                        async move {
                            blocking(move || transform(chunk?, &function, &group, gate)).await?
                        }
                    })
                    .buffered(request.workers.max(1)),
            );
        loop {
            let (chunk, rows) = match made.try_next().await {
                Ok(Some(made)) => made,
                Ok(None) => break,
                Err(error) => {
                    // Best effort: what stays is not part of the table.
                    let _ = writer.abort().await;
                    return Err(error);
                }
            };
            let batch = self.keep_rows(job, record, &chunk, &rows);
            writer.write(&batch).await?;
            progress.read(record.rows_read, total);
        }
        // Before the commit, so that a run that is taken up after it knows them.
        self.save(record).await?;
        writer.commit(txn, Some(replaces)).await?;
        Ok(())
    }

    /// Counts what became of a chunk and returns the rows to write.
    fn keep_rows(
        &self,
        job: &Job,
        record: &mut RunRecord,
        chunk: &Chunk,
        rows: &GroupRows,
    ) -> RecordBatch {
        record.rows_read += chunk.seen;
        record.rows_rejected += (chunk.rejects.len() + rows.rejects.len()) as u64;
        let made = rows.rejects.iter().map(|(row, message)| {
            Reject::new(
                format!("{}:{}", chunk.file, chunk.numbers[*row]),
                message.clone(),
            )
        });
        let room = KEPT_REJECTS.saturating_sub(record.rejects.len());
        record
            .rejects
            .extend(chunk.rejects.iter().cloned().chain(made).take(room));

        let ids = rows
            .sources
            .iter()
            .map(|row| format!("{}:{}", chunk.file_id, chunk.numbers[*row]));
        let available = |event| available_from_file(event, job.source.delay);
        record.rows_outside += rows.outside;
        record.rows_written += rows.len() as u64;
        rows.offline_batch(&job.group, available, record.created, ids.collect())
    }

    /// Writes the run's rows to the online store, as they are in its files.
    async fn write_online(&self, job: &Job, record: &RunRecord, folder: &str) -> Result<PutCounts> {
        let mut batches = self
            .components()
            .offline
            .read_folder(&job.group.table(), folder)
            .await?;
        let now = self.now();
        let mut counts = PutCounts::default();
        let mut number = 0;
        while let Some(batch) = batches.try_next().await? {
            number += 1;
            let group = job.group.clone();
            let (due, early) = blocking(move || online_writes(&group, &batch, now)).await??;
            let put = self.components().online.put_many(due).await?;
            counts.applied += put.applied;
            counts.older += put.older;
            if !early.is_empty() {
                let commit = EventCommit {
                    source: format!("run/{}", record.pipeline),
                    id: format!("{}/{number}", record.id),
                    remember_until: now.plus_micros(job.source.skew),
                    writes: Vec::new(),
                    early,
                    outbox: Vec::new(),
                };
                self.components()
                    .online
                    .commit_events(vec![commit], now)
                    .await?;
            }
        }
        Ok(counts)
    }

    /// Records of runs, newest first.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn runs(&self) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/run/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        stored
            .iter()
            .rev()
            .map(|(name, object)| read_record(name, &object.value))
            .collect()
    }

    /// Renews a lease in the background until it is ended.
    fn keep(&self, lease: Lease) -> Kept {
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let metadata = Arc::clone(&self.components().metadata);
        let wall = Arc::clone(&self.components().wall);
        let task = tokio::spawn(async move {
            let mut lease = lease;
            while tokio::time::timeout(RENEWAL, &mut stopped).await.is_err() {
                if let Err(error) = lease.renew(metadata.as_ref(), wall.now(), LEASE).await {
                    tracing::warn!("the lease of a run was not renewed: {error}");
                }
            }
            lease
        });
        Kept { stop, task }
    }
}

/// A lease that is being renewed.
struct Kept {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Lease>,
}

impl Kept {
    async fn end(self, platform: &Platform) {
        let _ = self.stop.send(());
        if let Ok(lease) = self.task.await
            && let Err(error) = lease.release(platform.components().metadata.as_ref()).await
        {
            tracing::warn!("the lease of a run was not released: {error}");
        }
    }
}

/// Where the data files of an interval are, whichever pipeline writes the group.
fn work_folder(interval: Interval) -> String {
    format!("runs/{}", interval.slug())
}

/// Identity of the work on an interval.
fn app_id(work: &str) -> String {
    format!("wafer/{work}")
}

/// The chunks of a source, read on a thread that may block.
fn chunks(chunks: Chunks) -> impl futures::Stream<Item = Result<Chunk>> {
    stream::try_unfold(chunks, |mut chunks| async move {
        let (chunk, chunks) = blocking(move || (chunks.next(), chunks)).await?;
        Ok(chunk?.map(|chunk| (chunk, chunks)))
    })
}

fn transform(
    chunk: Chunk,
    function: &Function,
    group: &GroupDef,
    gate: Gate,
) -> Result<(Chunk, GroupRows)> {
    let rows = group_rows(function, group, &chunk.columns, gate).map_err(|error| {
        let first = chunk.numbers.first().copied().unwrap_or(0);
        let last = chunk.numbers.last().copied().unwrap_or(0);
        Error::caused(
            error.kind(),
            format!("{}, rows {first} to {last}: {error}", chunk.file),
            error,
        )
    })?;
    // The inputs are no longer needed; what follows may wait for its turn.
    Ok((
        Chunk {
            columns: Vec::new(),
            ..chunk
        },
        rows,
    ))
}

/// Rows of an offline table as the online store has them: those that are due,
/// and those that are early.
fn online_writes(
    group: &GroupDef,
    batch: &RecordBatch,
    now: Timestamp,
) -> Result<(Vec<OnlineWrite>, Vec<OnlineWrite>)> {
    let column = |name: &str, data_type: &wafer_core::DataType| -> Result<ArrayRef> {
        let found = batch.column_by_name(name);
        let found = found.ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("a data file has no column `{name}`"),
            )
        })?;
        coerce(found, data_type).map_err(|e| {
            Error::caused(Kind::Internal, format!("column `{name}` of a data file"), e)
        })
    };
    let of = |fields: &[wafer_core::Field]| -> Result<Vec<ArrayRef>> {
        fields
            .iter()
            .map(|field| column(&field.name, &field.data_type))
            .collect()
    };
    let time = &wafer_core::DataType::Timestamp;
    let (events, created) = (
        column("event_timestamp", time)?,
        column("created_timestamp", time)?,
    );
    let micros = |times: &ArrayRef, row| {
        Timestamp::from_micros(times.as_primitive::<TimestampMicrosecondType>().value(row))
    };
    let (keys, features) = (of(&group.keys)?, of(&group.features)?);
    let (table, fingerprint) = (group.table(), group.fingerprint());
    // Of the rows of an entity only the newest can stay.
    let mut newest = std::collections::HashMap::new();
    for row in 0..batch.num_rows() {
        let entity = entity_key(&keys, row)
            .map_err(|e| Error::caused(Kind::Internal, "a row of a data file", e))?;
        let version = RowVersion {
            event: micros(&events, row),
            created: micros(&created, row),
        };
        let place = newest
            .entry((entity, version.event > now))
            .or_insert((version, row));
        if version > place.0 {
            *place = (version, row);
        }
    }
    let mut rows: Vec<_> = newest.into_iter().collect();
    rows.sort_unstable_by_key(|(_, (_, row))| *row);
    let (mut due, mut early) = (Vec::new(), Vec::new());
    for ((entity, is_early), (version, row)) in rows {
        let mut values = Vec::new();
        encode_row(&features, row, &mut values);
        let write = OnlineWrite {
            key: OnlineKey {
                group: table.clone(),
                entity,
            },
            row: OnlineRow {
                version,
                fingerprint,
                values: values.into(),
            },
        };
        if is_early {
            early.push(write)
        } else {
            due.push(write)
        }
    }
    Ok((due, early))
}

fn to_json(record: &RunRecord) -> Bytes {
    serde_json::to_vec(record)
        .expect("a record is plain data")
        .into()
}

fn read_record(name: &str, value: &[u8]) -> Result<RunRecord> {
    serde_json::from_slice(value).map_err(|e| {
        Error::caused(
            Kind::Internal,
            format!("stored record `{name}` cannot be read"),
            e,
        )
    })
}

/// Runs something that blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(failure) => Err(Error::caused(
            Kind::Unavailable,
            "the process is stopping",
            failure,
        )),
    }
}
