//! From a source's chunks to the files of the intervals that their rows belong to, and
//! the commits that make these part of the tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::ArrayRef;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use wafer_catalog::{Progress, Reject, RunRecord, Upstream, blocking};
use wafer_core::expect::Policy;
use wafer_core::rules::Interval;
use wafer_core::{Timestamp, cell_to_json};
use wafer_store::{Error, Follows, Result, TableWriter, Txn, WrittenFiles};

use crate::group_rows::{Gate, GroupRows, RunCheck, Target};
use crate::input::Selection;
use crate::producer::{LookedUp, Producer};
use crate::quarantine::{QuarantineWriter, QuarantinedRow};
use crate::run::Claim;
use crate::run::job::Job;
use crate::service::Pipelines;
use crate::source::chunk::Chunk;

/// An interval on its way.
pub(crate) struct Work<'a> {
    pub(crate) record: RunRecord,
    pub(crate) writer: Option<TableWriter>,
    pub(crate) checks: Vec<RunCheck<'a>>,
    pub(crate) quarantine: QuarantineWriter,
    /// Of another group's table, the files that are read for it.
    pub(crate) files: BTreeSet<String>,
}

/// What was written for an interval, and is not part of its tables yet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Of the group's table.
    pub(crate) rows: WrittenFiles,
    /// Of its quarantine table.
    #[serde(rename = "aside")]
    pub(crate) quarantine: WrittenFiles,
}

/// What was set aside of a file and belongs to no interval: it is the same whichever
/// interval is run, and is kept once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnplacedRejects {
    pub(crate) folder: String,
    pub(crate) files: WrittenFiles,
}

impl Pipelines {
    /// Reads and transforms the source, and writes the rows of the intervals to files. Returns
    /// what was rejected and belongs to none of them.
    pub(crate) async fn write_files(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        selection: &Selection,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<UnplacedRejects>> {
        for index in to_write {
            works[*index].record.clear_counts();
        }
        let total = job.input.total_rows(selection);
        let rows = job.input.chunks(selection);
        let rows = rows.map_ok(|chunk| chunk.columns).boxed();
        let versions = &job.table_versions;
        let looked_up = job.producer.look_up(rows, versions, progress).await?;
        progress.stage("transforming");
        let mut chunks = Box::pin(transformed_chunks(job, selection, looked_up));
        let mut read = 0;
        let mut unplaced = Vec::new();
        let mut current: Option<QuarantineWriter> = None;
        while let Some(transformed) = chunks.try_next().await? {
            read += transformed.chunk.seen;
            let folder = job.rejects_folder(&transformed.chunk);
            if let Some(done) = current.take_if(|quarantine| quarantine.folder != folder) {
                unplaced.push(self.close_unplaced(job, done).await?);
            }
            let mut works = Works {
                all: &mut *works,
                to_write,
                unplaced: &mut current,
            };
            self.reject_unreadable(job, &mut works, &transformed.chunk)
                .await?;
            self.reject_refused(job, &mut works, &transformed).await?;
            self.write_to_intervals(job, &mut works, transformed)
                .await?;
            progress.read(read, total);
        }
        if let Some(done) = current {
            unplaced.push(self.close_unplaced(job, done).await?);
        }
        for index in to_write {
            works[*index].record.rows_read = read;
        }
        Ok(unplaced)
    }

    /// Quarantines the rows of a chunk that could not be read.
    async fn reject_unreadable(
        &self,
        job: &Job,
        works: &mut Works<'_, '_>,
        chunk: &Chunk,
    ) -> Result<()> {
        for reject in &chunk.rejects {
            works.first().record.rejected(reject.clone());
            let row = QuarantinedRow {
                reason: reject.message.clone(),
                place: reject.place.clone(),
                row: None,
                event_id: format!("{}:{}", chunk.file_id, reject.place),
            };
            let quarantine = job.unplaced_quarantine(chunk, works.unplaced);
            self.quarantine(&job.target, quarantine, row).await?;
        }
        Ok(())
    }

    /// Quarantines the rows of a chunk that the function or an expectation refused.
    async fn reject_refused(
        &self,
        job: &Job,
        works: &mut Works<'_, '_>,
        transformed: &TransformedChunk,
    ) -> Result<()> {
        let chunk = &transformed.chunk;
        let refused = transformed.rows.rejects.iter();
        for (refused, row) in refused.zip(&transformed.rejects) {
            let place = chunk.place(refused.row);
            let reason = &refused.reason;
            if refused.fails {
                let message = format!("{place}: {reason}: an expectation with policy fail");
                return Err(Error::invalid(message));
            }
            let row = QuarantinedRow {
                reason: reason.clone(),
                place: place.clone(),
                row: Some(row.clone()),
                event_id: chunk.event_id(refused.row),
            };
            let reject = Reject::new(place, reason.clone());
            let quarantine = match chunk.placed_at(refused.row, refused.event) {
                Some(time) => match works.owner(chunk, time) {
                    Some(work) => {
                        work.record.rejected(reject);
                        &mut work.quarantine
                    }
                    // It belongs to an interval that has it already.
                    None => continue,
                },
                None => {
                    works.first().record.rejected(reject);
                    job.unplaced_quarantine(chunk, works.unplaced)
                }
            };
            self.quarantine(&job.target, quarantine, row).await?;
        }
        Ok(())
    }

    /// Writes the rows of a chunk to the files of the intervals that they belong to.
    async fn write_to_intervals(
        &self,
        job: &Job,
        works: &mut Works<'_, '_>,
        transformed: TransformedChunk,
    ) -> Result<()> {
        let TransformedChunk { chunk, rows, .. } = transformed;
        let made = rows.len() as u64 + rows.outside;
        let first = works.first();
        first.record.rows_warned += rows.warnings;
        first.record.rows_deleted += rows.deleted.len() as u64;
        let times: Vec<Timestamp> = (0..rows.len())
            .filter_map(|row| chunk.placed_at(rows.sources[row], Some(rows.events[row])))
            .collect();
        for index in works.to_write {
            let work = &mut works.all[*index];
            if !work.reads(&chunk) {
                continue;
            }
            let interval = work.record.interval;
            let own: Vec<usize> = (0..rows.len())
                .filter(|row| interval.contains(times[*row]))
                .collect();
            work.record.rows_outside += made - own.len() as u64;
            if own.len() == rows.len() && !own.is_empty() {
                self.write_rows(job, work, &chunk, &rows).await?;
            } else if !own.is_empty() {
                self.write_rows(job, work, &chunk, &rows.part(&own)).await?;
            }
        }
        Ok(())
    }

    /// Writes rows of an interval to its files, but for those that repeat a value
    /// that is to be unique.
    async fn write_rows(
        &self,
        job: &Job,
        work: &mut Work<'_>,
        chunk: &Chunk,
        rows: &GroupRows,
    ) -> Result<()> {
        let mut kept = None;
        let mut checks = std::mem::take(&mut work.checks);
        for check in &mut checks {
            let rows = kept.as_ref().unwrap_or(rows);
            let repeated = check.add(&job.target, rows);
            if repeated.is_empty() {
                continue;
            }
            let reason = format!("`{}` has a value that was there before", check.column());
            match check.policy() {
                Policy::Fail => {
                    let place = chunk.place(rows.sources[repeated[0]]);
                    return Err(Error::invalid(format!("{place}: {reason}")));
                }
                Policy::Warn => work.record.rows_warned += repeated.len() as u64,
                Policy::Reject => {
                    for row in &repeated {
                        let place = chunk.place(rows.sources[*row]);
                        work.record
                            .rejected(Reject::new(place.clone(), reason.clone()));
                        let row = QuarantinedRow {
                            reason: reason.clone(),
                            place,
                            row: None,
                            event_id: chunk.event_id(rows.sources[*row]),
                        };
                        self.quarantine(&job.target, &mut work.quarantine, row)
                            .await?;
                    }
                    let rest: Vec<usize> = (0..rows.len())
                        .filter(|row| repeated.binary_search(row).is_err())
                        .collect();
                    kept = Some(rows.part(&rest));
                }
            }
        }
        work.checks = checks;
        let rows = kept.as_ref().unwrap_or(rows);
        let record = &mut work.record;
        record.rows_written += rows.len() as u64;
        let sources = rows.sources.iter();
        let ids = sources.clone().map(|row| chunk.event_id(*row)).collect();
        let available = rows.events.iter().zip(sources).map(|(event, source)| {
            let known = chunk.stored.as_ref();
            let seen = known.map(|known| (known.available[*source], known.as_events));
            job.available(record.interval, *event, seen)
        });
        let available = available.collect();
        let batch = rows.offline_batch(&job.target, available, record.created, ids);
        let writer = match &mut work.writer {
            Some(writer) => writer,
            none => none.insert(
                self.context
                    .components()
                    .offline
                    .writer(&record.table, &record.folder())
                    .await?,
            ),
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Closes the files of an interval.
    pub(crate) async fn close(&self, job: &Job, work: &mut Work<'_>) -> Result<Written> {
        let record = &work.record;
        let empty = QuarantineWriter::new(record.folder(), record.created);
        let quarantine = std::mem::replace(&mut work.quarantine, empty);
        let rows = match work.writer.take() {
            Some(writer) => writer.finish().await?,
            None => WrittenFiles::none(&record.table),
        };
        Ok(Written {
            rows,
            quarantine: self.close_quarantine(&job.target, quarantine).await?,
        })
    }

    async fn close_unplaced(
        &self,
        job: &Job,
        quarantine: QuarantineWriter,
    ) -> Result<UnplacedRejects> {
        Ok(UnplacedRejects {
            folder: quarantine.folder.clone(),
            files: self.close_quarantine(&job.target, quarantine).await?,
        })
    }

    /// Makes what was written for an interval part of its tables.
    pub(crate) async fn commit_work(
        &self,
        job: &Job,
        record: &mut RunRecord,
        checks: &[RunCheck<'_>],
        written: Written,
    ) -> Result<()> {
        for (policy, reason) in checks.iter().filter_map(RunCheck::broken) {
            if policy == Policy::Fail {
                return Err(Error::invalid(format!("{}: {reason}", record.interval)));
            }
            record.warnings.push(reason);
        }
        let txn = Txn {
            app_id: record.app_id(),
            version: record.generation,
            follows: match record.upstream {
                // Added to what the interval had when it was looked at.
                Some(Upstream {
                    since: Some(_),
                    base,
                    ..
                }) => Follows::Exactly(base),
                _ => Follows::Anything,
            },
        };
        // What a run adds to its interval replaces nothing.
        let replaces = match txn.follows {
            Follows::Exactly(_) => None,
            Follows::Anything => Some(record.work_folder()),
        };
        self.commit_quarantine(&job.target, written.quarantine, &txn, replaces.as_deref())
            .await?;
        // Before the commit, so that a run that is taken up after it knows them, and one
        // that was taken over stops here.
        self.save(record).await?;
        let offline = &self.context.components().offline;
        // With nothing written, what the interval had is removed all the same.
        offline
            .commit(written.rows, &txn, replaces.as_deref())
            .await?;
        Ok(())
    }

    pub(crate) async fn commit_unplaced(
        &self,
        job: &Job,
        unplaced: Vec<UnplacedRejects>,
    ) -> Result<()> {
        for UnplacedRejects { folder, files } in unplaced {
            let txn = Txn {
                app_id: format!("wafer/{folder}"),
                version: 1,
                follows: Follows::Anything,
            };
            self.commit_quarantine(&job.target, files, &txn, None)
                .await?;
        }
        Ok(())
    }
}

/// The intervals on their way that a chunk's rows may belong to.
struct Works<'a, 'b> {
    all: &'a mut [Work<'b>],
    /// Positions of those that are written; there is at least one.
    to_write: &'a [usize],
    /// The quarantine of rows that belong to none of them.
    unplaced: &'a mut Option<QuarantineWriter>,
}

impl<'b> Works<'_, 'b> {
    /// The interval that what belongs to none of them is counted for.
    fn first(&mut self) -> &mut Work<'b> {
        &mut self.all[self.to_write[0]]
    }

    /// The interval that a row of a chunk belongs to, of those that read its file.
    fn owner(&mut self, chunk: &Chunk, time: Timestamp) -> Option<&mut Work<'b>> {
        let owns = |index: &&usize| {
            let work = &self.all[**index];
            work.reads(chunk) && work.record.interval.contains(time)
        };
        let index = self.to_write.iter().find(owns)?;
        Some(&mut self.all[*index])
    }
}

impl Job {
    /// The folder of the rejects of a file that belong to no interval.
    fn rejects_folder(&self, chunk: &Chunk) -> String {
        let code = self.producer.code().short();
        format!("rejects/{}-{code}", chunk.file_id)
    }

    fn unplaced_quarantine<'a>(
        &self,
        chunk: &Chunk,
        unplaced: &'a mut Option<QuarantineWriter>,
    ) -> &'a mut QuarantineWriter {
        unplaced
            .get_or_insert_with(|| QuarantineWriter::new(self.rejects_folder(chunk), self.started))
    }

    /// Which rows are let in.
    fn gate(&self, selection: &Selection) -> Gate {
        match self.input.table() {
            // Rows of another group were let in there, and were selected by when they became
            // visible.
            Some(_) => Gate {
                interval: Interval::ALL,
                now: Timestamp::MAX,
                skew: self.source.skew,
            },
            None => Gate {
                interval: selection.arrivals,
                now: self.started,
                skew: self.source.skew,
            },
        }
    }
}

/// The chunks of a job's input, transformed by several workers and kept in order.
fn transformed_chunks<'a>(
    job: &'a Job,
    selection: &Selection,
    mut looked_up: Option<Box<dyn LookedUp>>,
) -> impl Stream<Item = Result<TransformedChunk>> + use<'a> {
    let gate = job.gate(selection);
    let transform = move |chunk: Result<Chunk>| {
        let (target, producer) = (Arc::clone(&job.target), Arc::clone(&job.producer));
        let chunk = chunk.and_then(|chunk| {
            let found = match &mut looked_up {
                Some(looked_up) => looked_up.take(chunk.rows())?,
                None => Vec::new(),
            };
            Ok((chunk, found))
        });
        async move {
            let work = move || {
                let (chunk, found) = chunk?;
                transform(chunk, &found, producer.as_ref(), &target, gate)
            };
            blocking(work).await?
        }
    };
    job.input
        .chunks(selection)
        .map(transform)
        .buffered(job.workers)
}

impl<'a> Work<'a> {
    pub(crate) fn new(claim: &Claim, job: &'a Job) -> Self {
        let files = claim.files.iter();
        Self {
            quarantine: QuarantineWriter::new(claim.record.folder(), claim.record.created),
            record: claim.record.clone(),
            writer: None,
            checks: job.target.run_checks(),
            files: files.map(|file| file.path.clone()).collect(),
        }
    }

    /// Removes what was not closed. Best effort: what stays is not part of the table.
    pub(crate) async fn abort(&mut self) {
        let writers = [self.writer.take(), self.quarantine.writer.take()];
        for writer in writers.into_iter().flatten() {
            let _ = writer.abort().await;
        }
    }

    /// Whether the rows of a chunk are for it: of another group's table only some
    /// files are.
    fn reads(&self, chunk: &Chunk) -> bool {
        self.record.upstream.is_none() || self.files.contains(&chunk.file)
    }
}

impl Written {
    pub(crate) fn nothing(job: &Job) -> Self {
        Self {
            rows: WrittenFiles::none(&job.target.table.name),
            quarantine: WrittenFiles::none(&job.target.group.quarantine_table().name),
        }
    }

    pub(crate) fn append(&mut self, more: Self) {
        self.rows.append(more.rows);
        self.quarantine.append(more.quarantine);
    }
}

/// What was made of a chunk.
struct TransformedChunk {
    chunk: Chunk,
    rows: GroupRows,
    /// RefusedRow source rows as JSON, in the order of the refusals.
    rejects: Vec<String>,
}

fn transform(
    chunk: Chunk,
    found: &[Vec<ArrayRef>],
    producer: &dyn Producer,
    target: &Target,
    gate: Gate,
) -> Result<TransformedChunk> {
    let made = producer.produce(&chunk.columns, found).map_err(|error| {
        let first = chunk.numbers.first().copied().unwrap_or(0);
        let last = chunk.numbers.last().copied().unwrap_or(0);
        Error::caused(
            error.kind(),
            format!("{}, rows {first} to {last}: {error}", chunk.file),
            error,
        )
    })?;
    let rows = target.rows_of(producer.outputs(), &made, gate);
    let fields = producer.inputs().fields();
    let row = |row: usize| -> String {
        let cells = fields.iter().zip(&chunk.columns);
        let cells: Map<String, Json> = cells
            .map(|(field, column)| (field.name.clone(), cell_to_json(column, row)))
            .collect();
        Json::Object(cells).to_string()
    };
    let rejects = rows
        .rejects
        .iter()
        .map(|refused| row(refused.row))
        .collect();
    // The inputs are no longer needed; what follows may wait for its turn.
    let chunk = Chunk {
        columns: Vec::new(),
        ..chunk
    };
    Ok(TransformedChunk {
        chunk,
        rows,
        rejects,
    })
}
