//! Dividing the input of a run into partitions of files.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use wafer_catalog::{RunRecord, ScheduleDef};
use wafer_core::expect::Rule;
use wafer_store::{Error, Expect, Result};

use super::objects::{CONCURRENT_WRITES, partition_object};
use super::{DistributedRun, DistributedRuns};
use crate::run::RunRequest;
use crate::run::job::{Job, OnlineUpdate};
use crate::source::files::SourceFile;

/// The largest number of files in a partition: their descriptions have to fit into one metadata
/// object. The number is exceeded only where there would be too many partitions.
const MAX_FILES_PER_PARTITION: usize = 100;

/// How the input of a run is divided into partitions. A file is never split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// The approximate size of a partition in bytes of source files; 256 MiB by default.
    pub bytes: u64,
    /// The largest number of partitions, 10,000 by default. Partitions are made larger if there
    /// would be more.
    pub most: usize,
}

impl Default for Division {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            most: 10_000,
        }
    }
}

impl Division {
    /// Divides files into partitions of consecutive files.
    fn divide(self, files: &[SourceFile]) -> Vec<&[SourceFile]> {
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let bytes = self.bytes.max(total.div_ceil(self.most.max(1) as u64));
        let most = MAX_FILES_PER_PARTITION.max(files.len().div_ceil(self.most.max(1)));
        let (mut parts, mut start, mut size) = (Vec::new(), 0, 0);
        for (index, file) in files.iter().enumerate() {
            let is_full = size > 0 && size + file.bytes > bytes;
            if is_full || index - start == most {
                parts.push(&files[start..index]);
                (start, size) = (index, 0);
            }
            size += file.bytes;
        }
        if start < files.len() {
            parts.push(&files[start..]);
        }
        parts
    }
}

/// Whether there is anything to run.
pub(super) enum Divided {
    /// There is nothing to do: the last run over the interval had the same inputs.
    Done(RunRecord),
    /// The run was claimed and divided.
    Run(DistributedRun),
}

impl DistributedRuns {
    /// Plans and claims a run, and divides its input. A run that was interrupted keeps its
    /// partitions.
    pub(super) async fn divide(
        &self,
        request: &RunRequest,
        division: Division,
        schedule: Option<&ScheduleDef>,
        asked_by: Option<String>,
    ) -> Result<Divided> {
        let job = self
            .runs
            .jobs
            .job(
                &self.context.definitions(),
                request,
                None,
                OnlineUpdate::AfterRun,
            )
            .await?;
        let files = divisible(&job)?;
        let claims = self.runs.records.claims(&job.target.table.name).await?;
        self.runs
            .planner
            .check_overlaps(&job, request.interval, &claims)
            .await?;
        let planned = self
            .runs
            .planner
            .plan_run(&job, request.interval, &claims, None)
            .await?;
        let mut record = planned.record;
        if planned.is_done {
            return Ok(Divided::Done(record));
        }
        job.input.check_columns().await?;
        self.runs.records.insert_record(&mut record).await?;
        self.runs.records.save(&mut record).await?;
        let folder = self.folder(&request.pipeline, &record.key());
        let before: Option<DistributedRun> = self.read(&folder, "run").await?;
        let run = match before {
            // The run is taken up; the results of its partitions stay.
            Some(before) => DistributedRun {
                record,
                asked_by,
                ..before
            },
            None => {
                let parts = match self.runs.planner.is_committed(&record).await? {
                    true => Vec::new(),
                    false => division.divide(files),
                };
                let partitions = parts.len();
                self.write_inputs(&request.pipeline, &folder, parts).await?;
                DistributedRun {
                    record,
                    partitions,
                    settings: job.settings,
                    table_versions: job.table_versions.clone(),
                    now: job.started,
                    is_scheduled: schedule.is_some(),
                    time_limit: schedule.and_then(|schedule| schedule.time_limit),
                    asked_by,
                }
            }
        };
        self.write(&format!("{folder}/run"), &run, Expect::Anything)
            .await?;
        Ok(Divided::Run(run))
    }

    /// Writes what each partition of a new run reads. All earlier runs of the pipeline are over,
    /// and what they left is removed.
    async fn write_inputs(
        &self,
        pipeline: &str,
        folder: &str,
        parts: Vec<&[SourceFile]>,
    ) -> Result<()> {
        let earlier = format!("{}/distributed/{pipeline}", self.context.project());
        self.delete_folder(&earlier).await?;
        let writes = parts.iter().enumerate().map(|(number, files)| {
            let name = format!("{folder}/{}", partition_object("input", number));
            async move { self.write(&name, files, Expect::Anything).await }
        });
        stream::iter(writes)
            .buffer_unordered(CONCURRENT_WRITES)
            .try_collect::<()>()
            .await
    }
}

/// Returns the files that a job reads.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the run cannot be divided.
fn divisible(job: &Job) -> Result<&[SourceFile]> {
    let mut expectations = job.target.group.expectations.iter();
    if let Some(unique) = expectations.find(|e| e.rule == Rule::Unique) {
        let message = format!(
            "pipeline `{}` expects values of `{}` to be unique among all rows of a run: it cannot be \
             divided; run it in one piece",
            job.name, unique.column
        );
        return Err(Error::invalid(message));
    }
    job.input.files().ok_or_else(|| {
        let message = format!(
            "pipeline `{}` does not read files: it cannot be divided; run it in one piece",
            job.name
        );
        Error::invalid(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bytes: u64, most: usize, files: &[u64]) -> Vec<usize> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|bytes| SourceFile::sized(*bytes))
            .collect();
        let parts = Division { bytes, most }.divide(&files);
        parts.iter().map(|part| part.len()).collect()
    }

    #[test]
    fn files_are_divided_by_their_size() {
        assert_eq!(sizes(10, 100, &[]), [0; 0]);
        assert_eq!(sizes(10, 100, &[4, 4, 4, 4]), [2, 2]);
        // A file that is larger than a partition is a partition by itself.
        assert_eq!(sizes(10, 100, &[3, 40, 3, 3]), [1, 1, 2]);
        assert_eq!(sizes(10, 100, &[0, 0, 0]), [3]);
        // Partitions are made larger if there would be too many.
        assert_eq!(sizes(1, 2, &[1; 10]), [5, 5]);
        assert_eq!(sizes(1_000_000, 100, &[1; 250]), [100, 100, 50]);
        assert_eq!(sizes(1_000_000, 2, &[1; 250]), [125, 125]);
    }
}
