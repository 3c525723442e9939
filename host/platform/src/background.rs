//! Background work: what a project needs done again and again, whoever answers its requests.
//!
//! Each [`BackgroundTask`] is one file of this folder and one row of [`Background::new`]. A
//! server has them done by loops of its own ([`Background::start`]). A host that is frozen
//! between two invocations, as on Lambda, has those done that belong to a [`Moment`] of the
//! invocation ([`Background::run_at`]).

mod definitions;
mod due_rows;
mod endpoints;
mod flush;
mod request_log;
mod schedules;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use wafer_core::Timestamp;
use wafer_store::Result;

use crate::Platform;

/// A task is done again before an invocation when it was last done this long ago, in microseconds.
const STALE: i64 = 1_000_000;

/// A piece of background work.
#[async_trait]
pub trait BackgroundTask: Debug + Send + Sync + 'static {
    /// What a message says when a round fails, before the reason.
    fn failure(&self) -> &'static str;

    /// The pause between two rounds in a server.
    fn pause(&self) -> Duration;

    /// When a host without loops does it; `None`: it is asked for by events of its own.
    fn moment(&self) -> Option<Moment> {
        None
    }

    /// Whether it is done once more when a server stops, after the last request.
    fn is_last(&self) -> bool {
        false
    }

    /// Does it once.
    ///
    /// # Errors
    /// Returns an error when it could not be done; the next round tries again.
    async fn run(&self, platform: &Arc<Platform>) -> Result<()>;
}

/// A moment of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before any invocation is handled.
    BeforeInvocation,
    /// Before a request is answered.
    BeforeRequest,
    /// After an answer was sent, and before the next invocation is asked for.
    AfterAnswer,
}

/// The background work of a project.
#[derive(Debug)]
pub struct Background {
    platform: Arc<Platform>,
    tasks: Vec<Arc<Scheduled>>,
}

#[derive(Debug)]
struct Scheduled {
    task: Box<dyn BackgroundTask>,
    /// When it was last done at a moment of an invocation, by the machine's clock.
    last: Mutex<Timestamp>,
}

impl Background {
    /// All background work of a project. What was read when the project was opened is fresh.
    pub fn new(platform: Arc<Platform>) -> Self {
        let tasks: [Box<dyn BackgroundTask>; 6] = [
            Box::new(definitions::ReadDefinitions),
            Box::new(endpoints::ReadEndpoints),
            Box::new(due_rows::ApplyDueRows),
            Box::new(schedules::RunSchedules::default()),
            Box::new(request_log::WriteRequestLog),
            Box::new(flush::FlushOutbox),
        ];
        let now = platform.context().machine_now();
        let tasks = tasks.into_iter().map(|task| {
            Arc::new(Scheduled {
                task,
                last: Mutex::new(now),
            })
        });
        Self {
            tasks: tasks.collect(),
            platform,
        }
    }

    /// Starts a loop for each task.
    pub fn start(&self) -> RunningBackground {
        let (stopping, stopped) = watch::channel(false);
        let tasks = self.tasks.iter();
        let loops = tasks.map(|task| {
            let (platform, task) = (Arc::clone(&self.platform), Arc::clone(task));
            tokio::spawn(run_again_and_again(platform, task, stopped.clone()))
        });
        RunningBackground {
            loops: loops.collect(),
            stopping,
            last: self
                .tasks
                .iter()
                .filter(|t| t.task.is_last())
                .cloned()
                .collect(),
            platform: Arc::clone(&self.platform),
        }
    }

    /// Does what belongs to a moment of an invocation; what comes before it is done once a
    /// second at most.
    ///
    /// # Errors
    /// Returns the first error of a task; the tasks after it are not done.
    pub async fn run_at(&self, moment: Moment) -> Result<()> {
        for scheduled in &self.tasks {
            if scheduled.task.moment() != Some(moment) {
                continue;
            }
            if moment == Moment::AfterAnswer || scheduled.is_stale(&self.platform) {
                scheduled.task.run(&self.platform).await?;
            }
        }
        Ok(())
    }
}

impl Scheduled {
    /// Whether it was not done for a while; notes that it is done now.
    fn is_stale(&self, platform: &Platform) -> bool {
        let now = platform.context().machine_now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = last.plus_micros(STALE) <= now;
        if is_stale {
            *last = now;
        }
        is_stale
    }
}

/// The background work of a server, in loops.
#[derive(Debug)]
pub struct RunningBackground {
    platform: Arc<Platform>,
    loops: Vec<tokio::task::JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    last: Vec<Arc<Scheduled>>,
}

impl RunningBackground {
    /// Stops the loops, each of which finishes its round, and does once more what must not be
    /// left undone.
    ///
    /// # Errors
    /// Returns the first error of these last rounds.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stopping.send(true);
        for running in self.loops {
            let _ = running.await;
        }
        for scheduled in self.last {
            scheduled.task.run(&self.platform).await?;
        }
        Ok(())
    }
}

/// Does a task again and again, with its pause between, until told to stop. Whatever happens to
/// one round, even a panic, the next one is tried.
async fn run_again_and_again(
    platform: Arc<Platform>,
    scheduled: Arc<Scheduled>,
    mut stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        let (own, platform) = (Arc::clone(&scheduled), Arc::clone(&platform));
        let round = tokio::spawn(async move { own.task.run(&platform).await });
        let failed = scheduled.task.failure();
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{failed}: {}", error.chain()),
            Err(failure) => tracing::error!("{failed}: {failure}"),
        }
        let _ = tokio::time::timeout(scheduled.task.pause(), stopped.changed()).await;
    }
}
