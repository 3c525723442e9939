//! The partitions of a run, worked on by processes of this program: the same plan as
//! on AWS, on one machine.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wafer_platform::{DistributedRun, Error, Kind, Platform, Progress, Result};

/// How often a partition is tried.
const ATTEMPTS: u32 = 3;

/// What a process says about a partition that it was given.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    partition: usize,
    error: Option<Failure>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    message: String,
    /// Whether another attempt may succeed.
    may_pass: bool,
}

/// Has all partitions of a run worked on.
///
/// # Errors
/// The first partition that failed for good: refused by the function or the
/// expectations, or tried several times in vain.
pub(crate) fn work(
    project: &Path,
    run: &DistributedRun,
    processes: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let queue = Queue::new(run.partitions);
    std::thread::scope(|scope| {
        for _ in 0..processes.min(run.partitions) {
            scope.spawn(|| {
                if let Err(error) = keep_working(project, run, &queue, progress) {
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

fn keep_working(
    project: &Path,
    run: &DistributedRun,
    queue: &Queue,
    progress: &dyn Progress,
) -> Result<()> {
    let mut worker = None;
    while let Some((partition, attempt)) = queue.next() {
        let process = match &mut worker {
            Some(process) => process,
            none => none.insert(Worker::start(project, run)?),
        };
        let failure = match process.work_on(partition) {
            Ok(Answer { error: None, .. }) => {
                progress.stage(&format!(
                    "partition {} of {}",
                    partition + 1,
                    run.partitions
                ));
                continue;
            }
            Ok(Answer {
                error: Some(failure),
                ..
            }) => failure,
            Err(gone) => {
                worker = None;
                Failure {
                    message: format!("its process ended: {gone}"),
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

/// Partitions that wait, with the number of their next attempt.
struct Queue(Mutex<Waiting>);

struct Waiting {
    partitions: VecDeque<(usize, u32)>,
    error: Option<Error>,
}

impl Queue {
    fn new(partitions: usize) -> Self {
        Self(Mutex::new(Waiting {
            partitions: (0..partitions).map(|partition| (partition, 1)).collect(),
            error: None,
        }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(usize, u32)> {
        self.waiting().partitions.pop_front()
    }

    fn put_back(&self, partition: usize, attempt: u32) {
        self.waiting().partitions.push_back((partition, attempt));
    }

    /// Nothing more is begun.
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

/// A process of this program that works on partitions.
struct Worker {
    child: Child,
    questions: ChildStdin,
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
                "a process for partitions does not start",
                e,
            )
        })?;
        let questions = child.stdin.take().expect("it is piped");
        let answers = child.stdout.take().expect("it is piped");
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(answers),
        })
    }

    fn work_on(&mut self, partition: usize) -> std::io::Result<Answer> {
        writeln!(self.questions, "{partition}")?;
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

/// Work on the partitions of a run that are named on standard input; `wafer run
/// --processes` starts it
#[derive(Debug, clap::Args)]
pub(crate) struct RunPartitions {
    pipeline: String,
    key: String,
}

impl RunPartitions {
    /// Answers each number with a line of JSON, until there are no more.
    pub(crate) fn run(&self, platform: &Platform) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            let run =
                runtime.block_on(platform.pipelines().distributed(&self.pipeline, &self.key))?;
            for line in std::io::stdin().lines() {
                let partition = line?.trim().parse()?;
                let result = runtime.block_on(platform.pipelines().run_partition(&run, partition));
                let error = result.err().map(|error| Failure {
                    message: error.chain(),
                    may_pass: error.kind() == Kind::Unavailable,
                });
                let answer = Answer { partition, error };
                let mut out = std::io::stdout().lock();
                writeln!(out, "{}", serde_json::to_string(&answer)?)?;
                out.flush()?;
            }
            Ok(())
        })
    }
}
