//! From a source's chunks to the files of the intervals that their rows belong to, and
//! the commits that make these part of the tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::ArrayRef;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use wafer_core::expect::Policy;
use wafer_core::rules::Interval;
use wafer_core::{Timestamp, cell_to_json};
use wafer_store::{Follows, TableWriter, Txn, WrittenFiles};

use super::job::Job;
use super::{Claim, Progress, blocking};
use crate::chain::Upstream;
use crate::error::{Error, Result};
use crate::group_rows::{Gate, GroupRows, RunCheck, Target};
use crate::input::Only;
use crate::maker::Maker;
use crate::platform::Platform;
use crate::quarantine::{Aside, Quarantined};
use crate::record::{Reject, RunRecord};
use crate::source::Chunk;

/// Rejected rows that a run's record keeps as examples.
const KEPT_REJECTS: usize = 20;

/// An interval on its way.
pub(super) struct Work<'a> {
    pub(super) record: RunRecord,
    pub(super) writer: Option<TableWriter>,
    pub(super) checks: Vec<RunCheck<'a>>,
    pub(super) aside: Aside,
    /// Of another group's table, the files that are read for it.
    files: BTreeSet<String>,
}

/// What was written for an interval, and is not part of its tables yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written {
    /// Of the group's table.
    pub(super) rows: WrittenFiles,
    /// Of its quarantine table.
    pub(super) aside: WrittenFiles,
}

/// What was set aside of a file and belongs to no interval: it is the same whichever
/// interval is run, and is kept once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Unplaced {
    folder: String,
    pub(super) files: WrittenFiles,
}

impl Platform {
    /// Reads, transforms and writes to files what becomes of the intervals; returns what
    /// belongs to none of them.
    pub(super) async fn write_files(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        only: &Only,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<Unplaced>> {
        for index in to_write {
            works[*index].record.clear_counts();
        }
        let gate = Gate {
            // Rows of another group were chosen by when they became visible.
            interval: match job.input.table() {
                Some(_) => Interval::ALL,
                None => only.arrivals,
            },
            now: match job.input.table() {
                // They were let in above.
                Some(_) => Timestamp::MAX,
                None => job.started,
            },
            skew: job.source.skew,
        };
        let total = job.input.total_rows(only);
        let mut ahead = self
            .look_ahead(&job.maker, &job.looked_up, &job.input, only, progress)
            .await?;
        progress.stage("transforming");
        let (target, maker) = (Arc::clone(&job.target), job.maker.clone());
        let mut made = Box::pin(
            job.input
                .chunks(only)
                .map(|chunk| {
                    let (target, maker) = (Arc::clone(&target), maker.clone());
                    let chunk = chunk.and_then(|chunk| {
                        let found = match &mut ahead {
                            Some(ahead) => ahead.take(chunk.rows())?,
                            None => Vec::new(),
                        };
                        Ok((chunk, found))
                    });
                    async move {
                        let work = move || {
                            let (chunk, found) = chunk?;
                            transform(chunk, &found, &maker, &target, gate)
                        };
                        blocking(work).await?
                    }
                })
                .buffered(job.workers),
        );
        let mut read = 0;
        let mut unplaced = Vec::new();
        let mut current: Option<Aside> = None;
        while let Some(made) = made.try_next().await? {
            read += made.chunk.seen;
            let folder = job.rejects_of(&made.chunk);
            if let Some(done) = current.take_if(|aside| aside.folder != folder) {
                unplaced.push(self.close_unplaced(job, done).await?);
            }
            self.keep_rows(job, works, to_write, made, &mut current)
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

    /// Shares the rows of a chunk out to the intervals that they belong to.
    async fn keep_rows(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        made: Made,
        unplaced: &mut Option<Aside>,
    ) -> Result<()> {
        let Made {
            chunk,
            rows,
            rejects,
        } = made;
        let first = to_write[0];
        for reject in &chunk.rejects {
            works[first].record.rejected(reject.clone());
            let quarantined = Quarantined {
                reason: reject.message.clone(),
                place: reject.place.clone(),
                row: None,
                event_id: format!("{}:{}", chunk.file_id, reject.place),
            };
            let aside = job.aside_of(&chunk, unplaced);
            self.set_aside(&job.target, aside, quarantined).await?;
        }
        // The interval that a row belongs to, of those that read its file.
        let owner = |works: &[Work<'_>], time: Timestamp| {
            let owns = |index: &&usize| {
                let work = &works[**index];
                work.reads(&chunk) && work.record.interval.contains(time)
            };
            to_write.iter().find(owns).copied()
        };
        for (refused, row) in rows.rejects.iter().zip(rejects) {
            let place = chunk.place(refused.row);
            if refused.fails {
                let message = format!(
                    "{place}: {}: an expectation with policy fail",
                    refused.reason
                );
                return Err(Error::invalid(message));
            }
            let quarantined = Quarantined {
                reason: refused.reason.clone(),
                place: place.clone(),
                row: Some(row),
                event_id: chunk.event_id(refused.row),
            };
            let reject = Reject::new(place, refused.reason.clone());
            let aside = match chunk.placed_at(refused.row, refused.event) {
                Some(time) => match owner(works, time) {
                    Some(index) => {
                        works[index].record.rejected(reject);
                        &mut works[index].aside
                    }
                    // Of an interval that has it already.
                    None => continue,
                },
                None => {
                    works[first].record.rejected(reject);
                    job.aside_of(&chunk, unplaced)
                }
            };
            self.set_aside(&job.target, aside, quarantined).await?;
        }
        let made = rows.len() as u64 + rows.outside;
        works[first].record.rows_warned += rows.warnings;
        works[first].record.rows_deleted += rows.deleted.len() as u64;
        let times: Vec<Timestamp> = (0..rows.len())
            .filter_map(|row| chunk.placed_at(rows.sources[row], Some(rows.events[row])))
            .collect();
        for index in to_write {
            let work = &mut works[*index];
            if !work.reads(&chunk) {
                continue;
            }
            let interval = work.record.interval;
            let own: Vec<usize> = (0..rows.len())
                .filter(|row| interval.contains(times[*row]))
                .collect();
            work.record.rows_outside += made - own.len() as u64;
            if own.is_empty() {
                continue;
            }
            let own = if own.len() == rows.len() {
                None
            } else {
                Some(rows.part(&own))
            };
            self.write_rows(job, work, &chunk, own.as_ref().unwrap_or(&rows))
                .await?;
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
                        let quarantined = Quarantined {
                            reason: reason.clone(),
                            place,
                            row: None,
                            event_id: chunk.event_id(rows.sources[*row]),
                        };
                        self.set_aside(&job.target, &mut work.aside, quarantined)
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
            let known = chunk.known.as_ref();
            let seen = known.map(|known| (known.available[*source], known.as_events));
            job.available(record.interval, *event, seen)
        });
        let available = available.collect();
        let batch = rows.offline_batch(&job.target, available, record.created, ids);
        let writer = match &mut work.writer {
            Some(writer) => writer,
            none => none.insert(
                self.components()
                    .offline
                    .writer(&record.table, &record.folder())
                    .await?,
            ),
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Closes the files of an interval.
    pub(super) async fn close(&self, job: &Job, work: &mut Work<'_>) -> Result<Written> {
        let record = &work.record;
        let nothing = Aside::new(record.folder(), record.created);
        let aside = std::mem::replace(&mut work.aside, nothing);
        let rows = match work.writer.take() {
            Some(writer) => writer.finish().await?,
            None => WrittenFiles::none(&record.table),
        };
        Ok(Written {
            rows,
            aside: self.close_aside(&job.target, aside).await?,
        })
    }

    async fn close_unplaced(&self, job: &Job, aside: Aside) -> Result<Unplaced> {
        Ok(Unplaced {
            folder: aside.folder.clone(),
            files: self.close_aside(&job.target, aside).await?,
        })
    }

    /// Makes what was written for an interval part of its tables.
    pub(super) async fn commit_work(
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
        self.commit_aside(&job.target, written.aside, &txn, replaces.as_deref())
            .await?;
        // Before the commit, so that a run that is taken up after it knows them, and one
        // that was taken over stops here.
        self.save(record).await?;
        let offline = &self.components().offline;
        // With nothing written, what the interval had is removed all the same.
        offline
            .commit(written.rows, &txn, replaces.as_deref())
            .await?;
        Ok(())
    }

    pub(super) async fn commit_unplaced(&self, job: &Job, unplaced: Vec<Unplaced>) -> Result<()> {
        for Unplaced { folder, files } in unplaced {
            let txn = Txn {
                app_id: format!("wafer/{folder}"),
                version: 1,
                follows: Follows::Anything,
            };
            self.commit_aside(&job.target, files, &txn, None).await?;
        }
        Ok(())
    }
}

impl Job {
    /// Where a file's rows that belong to no interval are set aside.
    fn rejects_of(&self, chunk: &Chunk) -> String {
        format!("rejects/{}-{}", chunk.file_id, self.code.short())
    }

    fn aside_of<'a>(&self, chunk: &Chunk, unplaced: &'a mut Option<Aside>) -> &'a mut Aside {
        unplaced.get_or_insert_with(|| Aside::new(self.rejects_of(chunk), self.started))
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(claim: &Claim, job: &'a Job) -> Self {
        let files = claim.files.iter();
        Self {
            aside: Aside::new(claim.record.folder(), claim.record.created),
            record: claim.record.clone(),
            writer: None,
            checks: job.target.run_checks(),
            files: files.map(|file| file.path.clone()).collect(),
        }
    }

    /// Removes what was not closed. Best effort: what stays is not part of the table.
    pub(super) async fn abort(&mut self) {
        let writers = [self.writer.take(), self.aside.writer.take()];
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
    pub(super) fn nothing(job: &Job) -> Self {
        Self {
            rows: WrittenFiles::none(&job.target.table.name),
            aside: WrittenFiles::none(&job.target.group.quarantine_table().name),
        }
    }

    pub(super) fn append(&mut self, more: Self) {
        self.rows.append(more.rows);
        self.aside.append(more.aside);
    }
}

impl RunRecord {
    /// Adds what was counted in a part of the run, which follows the parts before.
    pub(super) fn add(&mut self, part: Self) {
        self.rows_read += part.rows_read;
        self.rows_written += part.rows_written;
        self.rows_outside += part.rows_outside;
        self.rows_rejected += part.rows_rejected;
        self.rows_deleted += part.rows_deleted;
        self.rows_warned += part.rows_warned;
        self.rejects.extend(part.rejects);
        self.rejects.truncate(KEPT_REJECTS);
        self.warnings.extend(part.warnings);
    }

    fn rejected(&mut self, reject: Reject) {
        self.rows_rejected += 1;
        if self.rejects.len() < KEPT_REJECTS {
            self.rejects.push(reject);
        }
    }
}

/// What was made of a chunk.
struct Made {
    chunk: Chunk,
    rows: GroupRows,
    /// Refused source rows as JSON, in the order of the refusals.
    rejects: Vec<String>,
}

fn transform(
    chunk: Chunk,
    found: &[Vec<ArrayRef>],
    maker: &Maker,
    target: &Target,
    gate: Gate,
) -> Result<Made> {
    let made = maker.make(&chunk.columns, found).map_err(|error| {
        let first = chunk.numbers.first().copied().unwrap_or(0);
        let last = chunk.numbers.last().copied().unwrap_or(0);
        Error::caused(
            error.kind(),
            format!("{}, rows {first} to {last}: {error}", chunk.file),
            error,
        )
    })?;
    let rows = target.rows_of(maker.outputs(), &made, gate);
    let fields = maker.inputs().fields();
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
    Ok(Made {
        chunk,
        rows,
        rejects,
    })
}
