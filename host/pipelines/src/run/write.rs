//! Transforms the chunks of a source, writes the rows to the files of the intervals that they
//! belong to, and commits these files to the tables.
//!
//! Chunks are transformed by several workers and kept in order. The rows of a chunk may belong
//! to several intervals, because a backfill writes many intervals in one pass. Rejected rows go
//! to the quarantine of the interval that they belong to. Rows that belong to no interval,
//! because they could not be read or have no event time, are the same whichever interval is run;
//! they are kept once for each file and code.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use wafer_catalog::{Context, Progress, Reject, RunRecord, Upstream, blocking};
use wafer_core::expect::Policy;
use wafer_core::rules::{Interval, order_in_run};
use wafer_core::{Digest, Hasher, Timestamp, cell_to_json, cut};
use wafer_store::{Error, Follows, Result, TableWriter, Txn, WrittenFiles};

use crate::group_rows::{Gate, GroupRows, RunCheck, Target};
use crate::input::{MAX_SOURCE_FILES, Selection};
use crate::producer::{LookedUp, Producer};
use crate::quarantine::{QuarantineWriter, QuarantinedRow, commit_quarantine};
use crate::run::PlannedRun;
use crate::run::job::{Job, StoredTime};
use crate::run::records::RunRecords;
use crate::run::rejects::RowsOfNoInterval;
use crate::source::chunk::Chunk;

/// An interval that is being written.
pub(crate) struct IntervalWork<'a> {
    /// The record of the run.
    pub(crate) record: RunRecord,
    /// The writer of the group's table; it is opened with the first rows.
    pub(crate) writer: Option<TableWriter>,
    /// The expectations about all rows of the run.
    pub(crate) checks: Vec<RunCheck<'a>>,
    /// The quarantine of the interval's rejected rows.
    pub(crate) quarantine: QuarantineWriter,
    /// The paths of the files that are read for the interval, for a run over another group's
    /// table.
    pub(crate) files: BTreeSet<String>,
    /// The ends of the intervals of the schedule that the interval combines; empty if it combines
    /// none.
    ends: Vec<Timestamp>,
}

/// The files that were written for an interval and are not committed yet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IntervalFiles {
    /// The files of the group's table.
    pub(crate) rows: WrittenFiles,
    /// The files of its quarantine table.
    #[serde(rename = "aside")]
    pub(crate) quarantine: WrittenFiles,
}

/// The rejected rows of one source file that belong to no interval. They are the same whichever
/// interval is run, and are kept once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnplacedRejects {
    /// The folder of the files, relative to the quarantine table.
    pub(crate) folder: String,
    /// The files that were written.
    pub(crate) files: WrittenFiles,
}

/// The rows of a pass that belong to none of its intervals.
#[derive(Debug, Default)]
pub(crate) struct Unplaced {
    /// The files of the rejected rows.
    pub(crate) rejects: Vec<UnplacedRejects>,
    /// The number of rows.
    pub(crate) rows: RowsOfNoInterval,
}

/// Writes the rows of runs to files, and commits these.
#[derive(Debug)]
pub(crate) struct RunWriter {
    context: Arc<Context>,
    records: RunRecords,
}

impl RunWriter {
    pub(crate) fn new(context: Arc<Context>, records: RunRecords) -> Self {
        Self { context, records }
    }

    /// Reads and transforms the source, and writes the rows to the files of the intervals at the
    /// positions `to_write`. A dry run writes nothing and counts the rows.
    pub(crate) async fn write_files(
        &self,
        job: &Job,
        works: &mut [IntervalWork<'_>],
        to_write: &[usize],
        selection: &Selection,
        progress: &Arc<dyn Progress>,
    ) -> Result<Unplaced> {
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
        let mut order = RunOrder::default();
        let mut unplaced = Unplaced::default();
        let mut current: Option<QuarantineWriter> = None;
        while let Some(mut transformed) = chunks.try_next().await? {
            read += transformed.chunk.seen;
            order.number(&mut transformed)?;
            let folder = job.rejects_folder(&transformed.chunk);
            if let Some(done) = current.take_if(|quarantine| quarantine.folder != folder) {
                unplaced.rejects.push(self.close_unplaced(job, done).await?);
            }
            let mut works = IntervalWorks {
                all: &mut *works,
                to_write,
                unplaced: &mut current,
                rows: &mut unplaced.rows,
            };
            self.reject_unreadable(job, &mut works, &transformed.chunk)
                .await?;
            self.reject_refused(job, &mut works, &transformed).await?;
            self.write_to_intervals(job, &mut works, transformed)
                .await?;
            progress.read(read, total);
        }
        if let Some(done) = current {
            unplaced.rejects.push(self.close_unplaced(job, done).await?);
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
        works: &mut IntervalWorks<'_, '_>,
        chunk: &Chunk,
    ) -> Result<()> {
        for reject in &chunk.rejects {
            works.rows.rejected += 1;
            works.first().record.rejected(reject.clone());
            let row = QuarantinedRow {
                reason: reject.message.clone(),
                place: reject.place.clone(),
                row: None,
                event_id: format!("{}:{}", chunk.file_id, reject.place),
            };
            let quarantine = job.unplaced_quarantine(chunk, works.unplaced);
            self.set_aside(job, quarantine, row).await?;
        }
        Ok(())
    }

    /// Quarantines the rows of a chunk that the function or an expectation refused.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a row that breaks an
    /// expectation whose policy is to fail the run.
    async fn reject_refused(
        &self,
        job: &Job,
        works: &mut IntervalWorks<'_, '_>,
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
                row: row.clone(),
                event_id: chunk.event_id(refused.row),
            };
            let reject = Reject::new(place, reason.clone());
            let quarantine = match chunk.interval_time(refused.row, refused.event) {
                Some(time) => match works.owner(chunk, time) {
                    Some(work) => {
                        work.record.rejected(reject);
                        &mut work.quarantine
                    }
                    // The row belongs to an interval that was committed earlier and has the row.
                    None => continue,
                },
                None => {
                    works.rows.rejected += 1;
                    works.first().record.rejected(reject);
                    job.unplaced_quarantine(chunk, works.unplaced)
                }
            };
            self.set_aside(job, quarantine, row).await?;
        }
        Ok(())
    }

    /// Writes the rows of a chunk to the files of the intervals that they belong to.
    async fn write_to_intervals(
        &self,
        job: &Job,
        works: &mut IntervalWorks<'_, '_>,
        transformed: TransformedChunk,
    ) -> Result<()> {
        let TransformedChunk { chunk, rows, .. } = transformed;
        let made = rows.len() as u64 + rows.outside;
        let first = works.first();
        first.record.rows_warned += rows.warnings;
        first.record.rows_deleted += rows.deleted.len() as u64;
        let times: Vec<Timestamp> = (0..rows.len())
            .filter_map(|row| chunk.interval_time(rows.sources[row], Some(rows.events[row])))
            .collect();
        let mut placed = 0;
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
            placed += own.len() as u64;
            if own.len() == rows.len() && !own.is_empty() {
                self.write_rows(job, work, &chunk, &rows).await?;
            } else if !own.is_empty() {
                self.write_rows(job, work, &chunk, &rows.take_rows(&own))
                    .await?;
            }
        }
        works.rows.outside += made.saturating_sub(placed);
        Ok(())
    }

    /// Writes rows of an interval to its files, except rows that repeat a value that has to be
    /// unique.
    async fn write_rows(
        &self,
        job: &Job,
        work: &mut IntervalWork<'_>,
        chunk: &Chunk,
        rows: &GroupRows,
    ) -> Result<()> {
        let kept = self.without_repeated(job, work, chunk, rows).await?;
        let rows = kept.as_ref().unwrap_or(rows);
        work.record.rows_written += rows.len() as u64;
        if job.is_dry() {
            return Ok(());
        }
        let batch = work.offline_batch(job, chunk, rows)?;
        let record = &work.record;
        let writer = match &mut work.writer {
            Some(writer) => writer,
            none => none.insert(
                self.context
                    .components()
                    .stores
                    .offline
                    .writer(&record.table, &record.folder())
                    .await?,
            ),
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Returns the rows of an interval that are left, or `None` if they all are, after those were
    /// rejected that repeat a value that has to be unique.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when a value is repeated that must not
    /// be.
    async fn without_repeated(
        &self,
        job: &Job,
        work: &mut IntervalWork<'_>,
        chunk: &Chunk,
        rows: &GroupRows,
    ) -> Result<Option<GroupRows>> {
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
                        self.set_aside(job, &mut work.quarantine, row).await?;
                    }
                    let rest: Vec<usize> = (0..rows.len())
                        .filter(|row| repeated.binary_search(row).is_err())
                        .collect();
                    kept = Some(rows.take_rows(&rest));
                }
            }
        }
        work.checks = checks;
        Ok(kept)
    }

    /// Puts a rejected row into the quarantine, unless the run is a dry one.
    async fn set_aside(
        &self,
        job: &Job,
        quarantine: &mut QuarantineWriter,
        row: QuarantinedRow,
    ) -> Result<()> {
        if job.is_dry() {
            return Ok(());
        }
        let offline = &self.context.components().stores.offline;
        quarantine.add(offline, &job.target, row).await
    }

    /// Closes the files of an interval.
    pub(crate) async fn close(
        &self,
        job: &Job,
        work: &mut IntervalWork<'_>,
    ) -> Result<IntervalFiles> {
        let record = &work.record;
        let empty = QuarantineWriter::new(record.folder(), record.created);
        let quarantine = std::mem::replace(&mut work.quarantine, empty);
        let rows = match work.writer.take() {
            Some(writer) => writer.finish().await?,
            None => WrittenFiles::none(&record.table),
        };
        let offline = &self.context.components().stores.offline;
        Ok(IntervalFiles {
            rows,
            quarantine: quarantine.close(offline, &job.target).await?,
        })
    }

    /// Closes the files of rejected rows that belong to no interval.
    async fn close_unplaced(
        &self,
        job: &Job,
        quarantine: QuarantineWriter,
    ) -> Result<UnplacedRejects> {
        let offline = &self.context.components().stores.offline;
        Ok(UnplacedRejects {
            folder: quarantine.folder.clone(),
            files: quarantine.close(offline, &job.target).await?,
        })
    }

    /// Commits what was written for an interval to its tables.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the rows break an expectation
    /// whose policy is to fail the run, and [`Kind::Conflict`](wafer_store::Kind::Conflict) when
    /// the run was taken over.
    pub(crate) async fn commit_work(
        &self,
        job: &Job,
        record: &mut RunRecord,
        checks: &[RunCheck<'_>],
        written: IntervalFiles,
    ) -> Result<()> {
        check_all_rows(record, checks)?;
        let txn = Txn {
            app_id: record.app_id(),
            version: record.generation,
            follows: match record.upstream {
                // The rows are added to what the interval had when the run was planned.
                Some(Upstream {
                    since: Some(_),
                    base,
                    ..
                }) => Follows::Exactly(base),
                _ => Follows::Anything,
            },
        };
        // A run that adds rows to its interval replaces none.
        let replaces = match txn.follows {
            Follows::Exactly(_) => None,
            Follows::Anything => Some(record.work_folder()),
        };
        let (offline, replaces) = (
            &self.context.components().stores.offline,
            replaces.as_deref(),
        );
        commit_quarantine(offline, &job.target, written.quarantine, &txn, replaces).await?;
        // The record is saved before the commit, so that a process that takes the run up after
        // the commit knows its counts, and so that a run that was taken over stops here.
        self.records.save(record).await?;
        // Even if nothing was written, the commit removes what the interval had.
        offline.commit(written.rows, &txn, replaces).await?;
        Ok(())
    }

    /// Removes the files of rejected rows that belong to no interval, because their run failed.
    pub(crate) async fn discard_unplaced(&self, unplaced: Vec<UnplacedRejects>) {
        let offline = &self.context.components().stores.offline;
        for UnplacedRejects { files, .. } in unplaced {
            offline.discard(files).await;
        }
    }

    /// Commits the rejected rows that belong to no interval, each file's once.
    pub(crate) async fn commit_unplaced(
        &self,
        job: &Job,
        unplaced: Vec<UnplacedRejects>,
    ) -> Result<()> {
        let offline = &self.context.components().stores.offline;
        for UnplacedRejects { folder, files } in unplaced {
            let txn = Txn {
                app_id: format!("wafer/{folder}"),
                version: 1,
                follows: Follows::Anything,
            };
            // The rows would be there twice if those of an earlier version of Wafer stayed.
            let earlier = earlier_folder(&folder, job.producer.code(), job.reading());
            let replaces = earlier.as_deref();
            commit_quarantine(offline, &job.target, files, &txn, replaces).await?;
        }
        Ok(())
    }
}

/// Checks the expectations about all rows of a run, and adds a warning for each one that is
/// broken.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a broken expectation whose policy is
/// to fail the run.
pub(crate) fn check_all_rows(record: &mut RunRecord, checks: &[RunCheck<'_>]) -> Result<()> {
    for (policy, reason) in checks.iter().filter_map(RunCheck::violation) {
        if policy == Policy::Fail {
            return Err(Error::invalid(format!("{}: {reason}", record.interval)));
        }
        record.warnings.push(cut(reason));
    }
    Ok(())
}

/// The intervals that the rows of a chunk may belong to.
struct IntervalWorks<'a, 'b> {
    /// All intervals of the pass.
    all: &'a mut [IntervalWork<'b>],
    /// The positions of the intervals that are written; there is at least one.
    to_write: &'a [usize],
    /// The quarantine of rows that belong to no interval; it is opened with the first such row.
    unplaced: &'a mut Option<QuarantineWriter>,
    /// The number of rows that belong to no interval.
    rows: &'a mut RowsOfNoInterval,
}

impl<'b> IntervalWorks<'_, 'b> {
    /// Returns the interval that counts the rows that belong to no interval.
    fn first(&mut self) -> &mut IntervalWork<'b> {
        &mut self.all[self.to_write[0]]
    }

    /// Returns the interval that a row of a chunk belongs to, among those that read its file.
    fn owner(&mut self, chunk: &Chunk, time: Timestamp) -> Option<&mut IntervalWork<'b>> {
        let owns = |index: &&usize| {
            let work = &self.all[**index];
            work.reads(chunk) && work.record.interval.contains(time)
        };
        let index = self.to_write.iter().find(owns)?;
        Some(&mut self.all[*index])
    }
}

/// The folder of a quarantine table that has the rejected rows of no interval.
const REJECTS: &str = "rejects/";

/// Returns the folder of the rejected rows of a file that belong to no interval, if they were
/// produced by this code, and read by what these parts say.
fn rejects_folder(file: &str, code: Digest, parts: &[Option<Vec<u8>>]) -> String {
    let mut hasher = Hasher::new();
    hasher.part(code.as_bytes());
    for part in parts.iter().flatten() {
        hasher.part(part);
    }
    format!("{REJECTS}{file}-{}", hasher.finish().short())
}

/// Returns the folder that earlier versions of Wafer gave the rows of such a folder: they took
/// neither the format of the source nor the event time of the group into account.
fn earlier_folder(folder: &str, code: Digest, reading: Option<Vec<u8>>) -> Option<String> {
    let (file, _) = folder.strip_prefix(REJECTS)?.rsplit_once('-')?;
    Some(match reading {
        None => format!("{REJECTS}{file}-{}", code.short()),
        reading => rejects_folder(file, code, &[reading]),
    })
}

impl Job {
    /// Returns the folder of the rejected rows of a file that belong to no interval.
    fn rejects_folder(&self, chunk: &Chunk) -> String {
        // Other rows are rejected when other columns are read, or in another way, and when another
        // column says to which interval they belong.
        let read_by = (self.source.format, &self.target.group.event_time);
        let read_by = serde_json::to_vec(&read_by).expect("plain data");
        let parts = [Some(read_by), self.reading()];
        rejects_folder(&chunk.file_id, self.producer.code(), &parts)
    }

    /// Returns the quarantine of a file's rows that belong to no interval; opens it if needed.
    fn unplaced_quarantine<'a>(
        &self,
        chunk: &Chunk,
        unplaced: &'a mut Option<QuarantineWriter>,
    ) -> &'a mut QuarantineWriter {
        unplaced
            .get_or_insert_with(|| QuarantineWriter::new(self.rejects_folder(chunk), self.started))
    }

    /// Returns which rows are admitted.
    fn gate(&self, selection: &Selection) -> Gate {
        match self.source.kind.is_admitted_upstream() {
            // Such rows are selected by their available times.
            true => Gate {
                interval: Interval::ALL,
                now: Timestamp::MAX,
                skew: self.source.skew,
            },
            false => Gate {
                interval: selection.arrivals,
                now: self.started,
                skew: self.source.skew,
            },
        }
    }
}

/// Returns the chunks of a job's input, transformed by several workers and kept in order.
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

impl<'a> IntervalWork<'a> {
    /// Prepares the writing of a claimed interval.
    pub(crate) fn new(run: &PlannedRun, job: &'a Job) -> Self {
        let files = run.files.iter();
        let Interval { from, to } = run.record.interval;
        let ends = match &job.ticks {
            Some(ticks) if run.record.is_combined => ticks.intervals(from, to),
            _ => Vec::new(),
        };
        Self {
            ends: ends.iter().map(|interval| interval.to).collect(),
            quarantine: QuarantineWriter::new(run.record.folder(), run.record.created),
            record: run.record.clone(),
            writer: None,
            checks: job.target.run_checks(),
            files: files.map(|file| file.path.clone()).collect(),
        }
    }

    /// Removes files that were not closed. Errors are ignored, because such files are not part
    /// of a table.
    pub(crate) async fn abort(&mut self) {
        let writers = [self.writer.take(), self.quarantine.writer.take()];
        for writer in writers.into_iter().flatten() {
            let _ = writer.abort().await;
        }
    }

    /// Returns whether the rows of a chunk are read for this interval. For a run over another
    /// group's table only some files are.
    fn reads(&self, chunk: &Chunk) -> bool {
        self.record.upstream.is_none() || self.files.contains(&chunk.file)
    }

    /// Returns rows of a chunk as they are written to the table of the group.
    fn offline_batch(&self, job: &Job, chunk: &Chunk, rows: &GroupRows) -> Result<RecordBatch> {
        let (record, sources) = (&self.record, rows.sources.iter());
        let ids = sources.clone().map(|row| chunk.event_id(*row)).collect();
        let available = rows.events.iter().zip(sources).map(|(event, source)| {
            let known = chunk.stored.as_ref();
            let seen = known.map(|known| match known.as_events {
                true => StoredTime::Archive(known.available[*source]),
                false => StoredTime::Table(known.available[*source]),
            });
            let time = chunk.interval_time(*source, Some(*event)).unwrap_or(*event);
            let own = own_interval(record.interval, &self.ends, time);
            job.available(own, *event, seen)
        });
        rows.offline_batch(&job.target, available.collect(), record.created, ids)
    }
}

/// Returns the interval of a schedule that a row of a time belongs to. `whole` is the interval of
/// the run, and `ends` are those of the intervals that it combines, if it does.
fn own_interval(whole: Interval, ends: &[Timestamp], time: Timestamp) -> Interval {
    let place = ends.partition_point(|end| *end <= time);
    Interval {
        from: match place.checked_sub(1) {
            Some(before) => ends[before],
            None => whole.from,
        },
        to: ends.get(place).copied().unwrap_or(whole.to),
    }
}

impl IntervalFiles {
    /// Returns no files.
    pub(crate) fn nothing(job: &Job) -> Self {
        Self {
            rows: WrittenFiles::none(&job.target.table.name),
            quarantine: WrittenFiles::none(&job.target.group.quarantine_table().name),
        }
    }

    /// Adds the files of another partition.
    pub(crate) fn append(&mut self, more: Self) {
        self.rows.append(more.rows);
        self.quarantine.append(more.quarantine);
    }
}

/// Numbers the rows of a run in the order in which they came in: by their file, and in it by their
/// place among the rows that the function returned. A divided run numbers them in the same way,
/// because files are never divided.
#[derive(Debug, Default)]
struct RunOrder {
    /// The file that is read.
    file: u64,
    /// The number of rows that the function has returned for it.
    rows: u64,
}

impl RunOrder {
    /// Numbers the rows of the next chunk.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when there are more files or rows than
    /// can be numbered.
    fn number(&mut self, next: &mut TransformedChunk) -> Result<()> {
        let file = next.chunk.file_number;
        if file != self.file {
            *self = Self { file, rows: 0 };
        }
        let first = order_in_run(file, self.rows);
        self.rows += next.rows.output_rows as u64;
        let last = order_in_run(file, self.rows);
        let (Some(first), Some(_)) = (first, last) else {
            return Err(Error::invalid(format!(
                "{}: a run reads at most {MAX_SOURCE_FILES} files of a source, and of a file 2^40 \
                 rows; put the files into fewer ones, or into several sources",
                next.chunk.file
            )));
        };
        next.rows.first_order = first;
        Ok(())
    }
}

/// A transformed chunk.
struct TransformedChunk {
    /// The chunk, without its columns.
    chunk: Chunk,
    /// The rows of the group.
    rows: GroupRows,
    /// The refused source rows as JSON, in the order of the refusals. `None` if another row of the
    /// group that was made of the source row is of a deleted entity.
    rejects: Vec<Option<String>>,
}

/// Calls the producer on a chunk and checks the rows that it returns.
fn transform(
    chunk: Chunk,
    found: &[Vec<ArrayRef>],
    producer: &dyn Producer,
    target: &Target,
    gate: Gate,
) -> Result<TransformedChunk> {
    let made = producer
        .produce(&chunk.columns, found)
        .map_err(|error| chunk.failure(error))?;
    let rows = target.rows_of(producer.outputs(), &made, gate);
    let fields = producer.inputs().fields();
    let row = |row: usize| -> String {
        let cells = fields.iter().zip(&chunk.columns);
        let cells: Map<String, Json> = cells
            .map(|(field, column)| (field.name.clone(), cell_to_json(column, row)))
            .collect();
        Json::Object(cells).to_string()
    };
    let deleted: BTreeSet<usize> = rows.deleted.iter().copied().collect();
    let rejects = rows
        .rejects
        .iter()
        .map(|refused| (!deleted.contains(&refused.row)).then(|| row(refused.row)))
        .collect();
    // The input columns are no longer needed, and the chunk may have to wait for its turn.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_of_earlier_versions_are_found_by_the_code_and_what_is_declared() {
        let code = Digest::of(b"code");
        let (format, declared) = (Some(b"format".to_vec()), Some(b"declared".to_vec()));
        let present = rejects_folder("a-b", code, &[format.clone(), None]);
        let earlier = earlier_folder(&present, code, None).unwrap();
        assert_eq!(earlier, format!("rejects/a-b-{}", code.short()));
        assert_ne!(earlier, present);
        let present = rejects_folder("a-b", code, &[format, declared.clone()]);
        let mut hasher = Hasher::new();
        hasher.part(code.as_bytes()).part(b"declared");
        let wanted = format!("rejects/a-b-{}", hasher.finish().short());
        assert_eq!(earlier_folder(&present, code, declared), Some(wanted));
    }

    #[test]
    fn rows_of_combined_intervals_belong_to_their_own() {
        let at = Timestamp::from_micros;
        let interval = |from, to| Interval {
            from: at(from),
            to: at(to),
        };
        let whole = interval(0, 30);
        for (ends, time, wanted) in [
            (&[][..], 7, interval(0, 30)),
            (&[10, 20, 30], 0, interval(0, 10)),
            (&[10, 20, 30], 9, interval(0, 10)),
            (&[10, 20, 30], 10, interval(10, 20)),
            (&[10, 20, 30], 29, interval(20, 30)),
        ] {
            let ends: Vec<Timestamp> = ends.iter().copied().map(at).collect();
            assert_eq!(own_interval(whole, &ends, at(time)), wanted, "{time}");
        }
    }
}
