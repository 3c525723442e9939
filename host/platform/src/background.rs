//! Background work: the recurring tasks of a process that serves a project.
//!
//! Each [`BackgroundTask`] is one file of this folder and one row of [`Background::new`]. A server
//! runs every task in a loop ([`Background::start`]). A process that is frozen between two
//! invocations, as on Lambda, runs the tasks that belong to a [`Moment`] of an invocation
//! ([`Background::run_at`]), and finishes them before it ends ([`Background::finish`]); the other
//! tasks are started there by events of their own.

mod abandoned;
mod clock;
mod definitions;
mod due_rows;
mod endpoints;
mod flush;
mod request_log;
mod triggers;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time;

use async_trait::async_trait;
use tokio::sync::watch;
use wafer_core::{Duration, Timestamp};
use wafer_store::Result;

use crate::Platform;

/// The time after which a task is run again before an invocation.
const STALE: Duration = Duration::from_secs(1);

/// A task that runs again and again in the background.
#[async_trait]
pub trait BackgroundTask: Debug + Send + Sync + 'static {
    /// Returns the message for a failed round, to which the reason is appended.
    fn failure(&self) -> &'static str;

    /// Returns the pause between two rounds in a server.
    fn pause(&self) -> time::Duration;

    /// Returns the moment of an invocation at which a process without loops runs the task. `None`
    /// means that events of its own start the task there.
    fn moment(&self) -> Option<Moment> {
        None
    }

    /// Runs the task once.
    ///
    /// # Errors
    /// Returns an error when the round failed. The next round tries again.
    async fn run(&self, platform: &Arc<Platform>) -> Result<()>;

    /// Does what is left for the task when the process ends, after the last request. That is
    /// nothing by default.
    ///
    /// # Errors
    /// Returns an error when that failed.
    async fn finish(&self, _platform: &Arc<Platform>) -> Result<()> {
        Ok(())
    }
}

/// A moment of an invocation at which background tasks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before any invocation is handled.
    BeforeInvocation,
    /// Before a request is answered.
    BeforeRequest,
    /// After an answer was sent, and before the next invocation is asked for.
    AfterAnswer,
}

/// The background tasks of a project.
#[derive(Debug)]
pub struct Background {
    platform: Arc<Platform>,
    tasks: Vec<Arc<TrackedTask>>,
}

/// A task and the time of its last round.
#[derive(Debug)]
struct TrackedTask {
    task: Box<dyn BackgroundTask>,
    /// The time when the task was last run before an invocation, by the machine's clock.
    last: Mutex<Timestamp>,
}

impl Background {
    /// Creates all background tasks of a project. Opening the project counts as their last round,
    /// because it reads the applied definitions. Those that have something to finish come first,
    /// so that no other is waited for before.
    pub fn new(platform: Arc<Platform>) -> Self {
        let tasks: [Box<dyn BackgroundTask>; 8] = [
            Box::new(request_log::WriteRequestLog),
            Box::new(flush::FlushOutbox),
            Box::new(definitions::ReadDefinitions),
            Box::new(endpoints::ReadEndpoints),
            Box::new(clock::CheckClock),
            Box::new(due_rows::ApplyDueRows),
            Box::new(triggers::RunTriggers::default()),
            Box::new(abandoned::RemoveAbandoned),
        ];
        let now = platform.context().machine_now();
        let tasks = tasks.into_iter().map(|task| {
            Arc::new(TrackedTask {
                task,
                last: Mutex::new(now),
            })
        });
        Self {
            tasks: tasks.collect(),
            platform,
        }
    }

    /// Starts a loop for each task, on the current Tokio runtime.
    pub fn start(&self) -> RunningBackground {
        let (stopping, stopped) = watch::channel(false);
        let tasks = self.tasks.iter();
        let loops = tasks.map(|task| {
            let (platform, task) = (Arc::clone(&self.platform), Arc::clone(task));
            tokio::spawn(run_loop(platform, task, stopped.clone()))
        });
        RunningBackground {
            loops: loops.collect(),
            stopping,
            tasks: self.tasks.clone(),
            platform: Arc::clone(&self.platform),
        }
    }

    /// Runs the tasks that belong to a moment of an invocation. Tasks of the moments before an
    /// invocation or request are run at most once a second.
    ///
    /// # Errors
    /// Returns the first error of a task. The tasks after it are not run.
    pub async fn run_at(&self, moment: Moment) -> Result<()> {
        for tracked in &self.tasks {
            if tracked.task.moment() != Some(moment) {
                continue;
            }
            if moment == Moment::AfterAnswer || tracked.is_stale(&self.platform) {
                tracked.task.run(&self.platform).await?;
            }
        }
        Ok(())
    }

    /// Finishes the tasks that belong to moments of invocations, before a process without loops
    /// ends.
    ///
    /// # Errors
    /// Returns the first error of a task. The tasks after it are finished even so.
    pub async fn finish(&self) -> Result<()> {
        let mut finished = Ok(());
        for tracked in &self.tasks {
            if tracked.task.moment().is_some() {
                finished = finished.and(tracked.finish(&self.platform).await);
            }
        }
        finished
    }
}

impl TrackedTask {
    /// Returns whether the last round was a second ago or longer. If so, the present time is
    /// recorded as that of the last round.
    fn is_stale(&self, platform: &Platform) -> bool {
        let now = platform.context().machine_now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = last.plus(STALE) <= now;
        if is_stale {
            *last = now;
        }
        is_stale
    }

    /// Finishes the task. An error is traced, because the caller may have another one already.
    async fn finish(&self, platform: &Arc<Platform>) -> Result<()> {
        let finished = self.task.finish(platform).await;
        if let Err(error) = &finished {
            tracing::warn!("{}: {}", self.task.failure(), error.chain());
        }
        finished
    }
}

/// The running loops of a server's background tasks.
#[derive(Debug)]
pub struct RunningBackground {
    platform: Arc<Platform>,
    loops: Vec<tokio::task::JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    tasks: Vec<Arc<TrackedTask>>,
}

impl RunningBackground {
    /// Stops the loops, and finishes each task as soon as its own loop has ended its round. A round
    /// may wait for a store that does not answer: whoever drops this future leaves it behind.
    ///
    /// # Errors
    /// Returns the first error of a task. The tasks after it are finished even so.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stopping.send(true);
        let mut finished = Ok(());
        for (running, tracked) in self.loops.into_iter().zip(&self.tasks) {
            let _ = running.await;
            finished = finished.and(tracked.finish(&self.platform).await);
        }
        finished
    }
}

/// Runs a task in a loop, with its pause between the rounds, until `stopped` is true. Each round
/// is a Tokio task of its own, so that the loop goes on even after a panic.
async fn run_loop(
    platform: Arc<Platform>,
    tracked: Arc<TrackedTask>,
    mut stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        let (own, platform) = (Arc::clone(&tracked), Arc::clone(&platform));
        let round = tokio::spawn(async move { own.task.run(&platform).await });
        let failed = tracked.task.failure();
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{failed}: {}", error.chain()),
            Err(failure) => tracing::error!("{failed}: {failure}"),
        }
        let _ = tokio::time::timeout(tracked.task.pause(), stopped.changed()).await;
    }
}
