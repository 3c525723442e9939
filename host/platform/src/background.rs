//! Background work: the recurring tasks of a process that serves a project.
//!
//! Each [`BackgroundTask`] is one file of this folder and one row of [`Background::new`]. A server
//! runs every task in a loop ([`Background::start`]). A process that is frozen between two
//! invocations, as on Lambda, runs the tasks that belong to a [`Moment`] of an invocation
//! ([`Background::run_at`]), and finishes them before it ends ([`Background::finish`]). Events of
//! their own ask there for a flush ([`Background::flush`]) and for the runs that are due
//! ([`Background::run_due`]).

mod abandoned;
mod clock;
mod definitions;
mod due_rows;
mod endpoints;
mod flush;
mod request_log;
mod triggers;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time;

use async_trait::async_trait;
use tokio::sync::watch;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Kind, Result};

use crate::Platform;

/// The time after which a task is run again before an invocation.
const STALE: Duration = Duration::from_secs(1);
/// The time after which a task that goes on failing is reported again.
const REPORT_PAUSE: Duration = Duration::from_secs(60);

/// A task that runs again and again in the background.
#[async_trait]
pub trait BackgroundTask: Debug + Send + Sync + 'static {
    /// Returns the message for a failed round, to which the reason is appended.
    fn failure(&self) -> &'static str;

    /// Returns the pause between two rounds in a server.
    fn pause(&self) -> time::Duration;

    /// Returns the moment of an invocation at which a process without loops runs the task. `None`
    /// means that nothing runs it there, or that events of its own ask for its work by a method of
    /// [`Background`].
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

/// A task, and how its rounds went.
#[derive(Debug)]
struct TrackedTask {
    task: Box<dyn BackgroundTask>,
    /// The time when the task was last run before an invocation, by the machine's clock.
    last: Mutex<Timestamp>,
    /// The last rounds, if they failed.
    failures: Mutex<Failures>,
}

/// The rounds of a task, or its attempts to run a pipeline, that failed one after the other.
#[derive(Debug, Default)]
struct Failures {
    /// The number of these rounds.
    count: u64,
    /// When the next one is reported.
    next: Option<Timestamp>,
}

impl Failures {
    /// Counts a failed round. Returns how many there are by now if it is to be reported: the first
    /// one, and then one in a minute.
    fn failed(&mut self, now: Timestamp) -> Option<u64> {
        self.count += 1;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now.plus(REPORT_PAUSE));
        Some(self.count)
    }

    /// Begins anew after a round that did not fail. Returns how many had failed before.
    fn succeeded(&mut self) -> u64 {
        std::mem::take(self).count
    }

    /// Reports that `what` failed, unless that was reported a short while ago.
    fn report(&mut self, what: &str, reason: &str, now: Timestamp) {
        match self.failed(now) {
            None => {}
            Some(1) => tracing::warn!("{what}: {reason}"),
            Some(count) => tracing::warn!("{what}, {count} times by now: {reason}"),
        }
    }

    /// Reports that `what` no longer fails, if it did before.
    fn report_end(&mut self, what: &str) {
        match self.succeeded() {
            0 => {}
            count => tracing::info!("{what}, {count} times in a row: that is over"),
        }
    }
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
                failures: Mutex::default(),
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
    /// invocation or request are run at most once a second. If these find that what is stored now
    /// is damaged, or was written by a later version of Wafer, the process goes on with what it
    /// has, as a server does.
    ///
    /// # Errors
    /// Returns the first other error of a task. The tasks after it are not run.
    pub async fn run_at(&self, moment: Moment) -> Result<()> {
        for tracked in &self.tasks {
            if tracked.task.moment() != Some(moment) {
                continue;
            }
            if moment == Moment::AfterAnswer {
                tracked.task.run(&self.platform).await?;
            } else if tracked.is_stale(&self.platform) {
                match tracked.task.run(&self.platform).await {
                    Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Invalid) => {
                        tracked.note_failure(&e.chain(), &self.platform);
                    }
                    Err(e) => return Err(e),
                    Ok(()) => tracked.note_success(),
                }
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

    /// Reports a failed round, unless one was reported a short while ago.
    fn note_failure(&self, reason: &str, platform: &Platform) {
        let now = platform.context().machine_now();
        self.failures().report(self.task.failure(), reason, now);
    }

    /// Reports that rounds no longer fail, if the last one did.
    fn note_success(&self) {
        self.failures().report_end(self.task.failure());
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (own, its) = (Arc::clone(&tracked), Arc::clone(&platform));
        let round = tokio::spawn(async move { own.task.run(&its).await });
        match round.await {
            Ok(Ok(())) => tracked.note_success(),
            Ok(Err(error)) => tracked.note_failure(&error.chain(), &platform),
            Err(failure) => {
                let failed = tracked.task.failure();
                tracing::error!("{failed}: {failure}");
            }
        }
        let _ = tokio::time::timeout(tracked.task.pause(), stopped.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_reported_at_first_once_a_minute_and_again_after_a_success() {
        let mut failures = Failures::default();
        let at = |tenth: i64| Timestamp::from_micros(tenth * 100_000);
        // A task that fails ten times a second for two minutes.
        let reported: Vec<u64> = (0..1_200).filter_map(|n| failures.failed(at(n))).collect();
        assert_eq!(reported, [1, 601]);
        assert_eq!((failures.succeeded(), failures.succeeded()), (1_200, 0));
        assert_eq!(failures.failed(at(1_201)), Some(1));
    }
}
