//! Runs whose partitions several processes of this machine work on (`wafer run --processes`).
//!
//! The run is divided, worked on and committed in the same way as on AWS; only the processes
//! differ. This process starts some children with the hidden command `run-partitions`, and one
//! thread for each of them takes partitions from a [`PartitionQueue`], writes the number of each to
//! the child's standard input, and reads the answer, a line of JSON, from its standard output. A
//! partition that fails for a passing reason, or whose child ends, is put back into the queue. The
//! first failure that is final stops the run.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wafer_platform::{DistributedRun, Error, Kind, Platform, Progress, Result};

/// How often a partition is tried before the run fails.
const ATTEMPTS: u32 = 3;

/// The answer of a child about one partition.
#[derive(Debug, Serialize, Deserialize)]
struct PartitionDone {
    partition: usize,
    error: Option<PartitionFailure>,
}

/// Why a child could not work on a partition.
#[derive(Debug, Serialize, Deserialize)]
struct PartitionFailure {
    message: String,
    /// Whether another attempt may succeed.
    may_pass: bool,
}

/// Works on all partitions of a run, with up to `processes` children.
///
/// # Errors
/// Returns the error of the first partition that failed for good: because the function or an
/// expectation refused it, or because it failed [`ATTEMPTS`] times.
pub(crate) fn run_partitions(
    project: &Path,
    run: &DistributedRun,
    processes: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let queue = PartitionQueue::new(run.partitions);
    std::thread::scope(|scope| {
        for _ in 0..processes.min(run.partitions) {
            scope.spawn(|| {
                if let Err(error) = work_through(project, run, &queue, progress) {
                    queue.stop(error);
                }
            });
        }
    });
    match queue.into_error() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Works on partitions with one child until the queue is empty.
fn work_through(
    project: &Path,
    run: &DistributedRun,
    queue: &PartitionQueue,
    progress: &dyn Progress,
) -> Result<()> {
    let mut worker = None;
    while let Some((partition, attempt)) = queue.next() {
        let process = match &mut worker {
            Some(process) => process,
            none => none.insert(Worker::start(project, run)?),
        };
        let failure = match process.work_on(partition) {
            Ok(PartitionDone { error: None, .. }) => {
                progress.stage(&format!(
                    "partition {} of {}",
                    partition + 1,
                    run.partitions
                ));
                continue;
            }
            Ok(PartitionDone {
                error: Some(failure),
                ..
            }) => failure,
            Err(gone) => {
                worker = None;
                PartitionFailure {
                    message: format!("the process that worked on it ended: {gone}"),
                    may_pass: true,
                }
            }
        };
        if !failure.may_pass || attempt == ATTEMPTS {
            let kind = match failure.may_pass {
                true => Kind::Unavailable,
                false => Kind::Invalid,
            };
            let message = format!(
                "partition {} of {}: {}",
                partition + 1,
                run.partitions,
                failure.message
            );
            return Err(Error::new(kind, message));
        }
        tracing::warn!(
            "partition {} is tried again: {}",
            partition + 1,
            failure.message
        );
        queue.put_back(partition, attempt + 1);
    }
    Ok(())
}

/// The partitions that wait to be worked on.
struct PartitionQueue(Mutex<QueueState>);

/// What is left of a run.
struct QueueState {
    /// Each partition with the number of its next attempt, from 1.
    partitions: VecDeque<(usize, u32)>,
    /// The first error that stopped the run.
    error: Option<Error>,
}

impl PartitionQueue {
    fn new(partitions: usize) -> Self {
        Self(Mutex::new(QueueState {
            partitions: (0..partitions).map(|partition| (partition, 1)).collect(),
            error: None,
        }))
    }

    fn waiting(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(usize, u32)> {
        self.waiting().partitions.pop_front()
    }

    fn put_back(&self, partition: usize, attempt: u32) {
        self.waiting().partitions.push_back((partition, attempt));
    }

    /// Stops the run with an error: no more partitions are handed out.
    fn stop(&self, error: Error) {
        let mut waiting = self.waiting();
        waiting.partitions.clear();
        waiting.error.get_or_insert(error);
    }

    fn into_error(self) -> Option<Error> {
        let waiting = self.0.into_inner();
        waiting.unwrap_or_else(PoisonError::into_inner).error
    }
}

/// A child process that works on partitions. It is killed when this is dropped.
struct Worker {
    child: Child,
    numbers: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(project: &Path, run: &DistributedRun) -> Result<Self> {
        let start = || -> std::io::Result<Child> {
            Command::new(std::env::current_exe()?)
                .arg("-C")
                .arg(project)
                .args(["run-partitions", run.pipeline(), &run.key()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let started = start();
        let mut child = started.map_err(|e| {
            Error::caused(
                Kind::Unavailable,
                "cannot start a process that works on partitions",
                e,
            )
        })?;
        let numbers = child
            .stdin
            .take()
            .expect("the child is started with a pipe");
        let answers = child
            .stdout
            .take()
            .expect("the child is started with a pipe");
        Ok(Self {
            child,
            numbers,
            answers: BufReader::new(answers),
        })
    }

    /// Has the child work on a partition, and waits for its answer.
    fn work_on(&mut self, partition: usize) -> std::io::Result<PartitionDone> {
        writeln!(self.numbers, "{partition}")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(std::io::Error::other(status.to_string()));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Work on the partitions of a run whose numbers are read from standard input; started by `wafer
/// run --processes`
#[derive(Debug, clap::Args)]
pub(crate) struct RunPartitions {
    pipeline: String,
    key: String,
}

impl RunPartitions {
    /// Works on the partition of each number on standard input, and answers with a line of JSON.
    pub(crate) fn run(&self, platform: &Platform) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            let runs = platform.pipelines().distributed_runs();
            let run = runtime.block_on(runs.distributed(&self.pipeline, &self.key))?;
            for line in std::io::stdin().lines() {
                let partition = line?.trim().parse()?;
                let result = runtime.block_on(runs.run_partition(&run, partition));
                let error = result.err().map(|error| PartitionFailure {
                    message: error.chain(),
                    may_pass: error.kind() == Kind::Unavailable,
                });
                let answer = PartitionDone { partition, error };
                let mut out = std::io::stdout().lock();
                writeln!(out, "{}", serde_json::to_string(&answer)?)?;
                out.flush()?;
            }
            Ok(())
        })
    }
}
