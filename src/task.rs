//! Tracked background tasks.
//!
//! Every task of this process is spawned here, so that shutdown can wait for all of them and so
//! that a service that dies ends the process: an adapter whose refresher is gone and whose
//! readiness stays green serves ever older values. `tokio::spawn` is banned by `clippy.toml`.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A service that ended although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("background task {name} {what}")]
pub struct TaskDied {
    /// The task's name.
    pub name: &'static str,
    /// How it ended.
    pub what: String,
}

/// A set of tasks on one runtime. Cheap to clone; clones share the set.
#[derive(Clone, Debug)]
pub struct TaskSet {
    handle: Handle,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    died: mpsc::UnboundedSender<TaskDied>,
}

impl TaskSet {
    /// An empty set on a runtime, and the receiver on which died services are reported.
    #[must_use]
    pub fn new(handle: Handle) -> (Self, mpsc::UnboundedReceiver<TaskDied>) {
        let (died, receiver) = mpsc::unbounded_channel();
        let set =
            Self { handle, tracker: TaskTracker::new(), shutdown: CancellationToken::new(), died };
        (set, receiver)
    }

    /// The same set of tasks, spawning on another runtime.
    #[must_use]
    pub fn on(&self, handle: Handle) -> Self {
        Self { handle, ..self.clone() }
    }

    /// Starts a service: a task that runs until [`TaskSet::shutdown_token`] is cancelled. Ending
    /// earlier, or panicking, is reported as [`TaskDied`].
    pub fn service(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let (died, shutdown) = (self.died.clone(), self.shutdown.clone());
        self.start(async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            let what = match outcome {
                Err(_) => "panicked",
                Ok(()) if shutdown.is_cancelled() => return,
                Ok(()) => "ended",
            };
            // The receiver is gone only while the process ends anyway.
            let _ = died.send(TaskDied { name, what: what.to_owned() });
        });
    }

    /// Starts a job: a task that ends by itself (one connection, one fetch). A panic is a defect,
    /// is logged, and ends only the job.
    pub fn job(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.start(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a task panicked; this is a defect, please report it");
            }
        });
    }

    /// Cancelled when the process stops. Services watch it.
    #[must_use]
    pub fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Number of tasks that run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks every service to stop and waits until all tasks have ended. The caller bounds the wait.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn start(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(future, &self.handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_or_panics_is_reported() {
        let (tasks, mut died) = TaskSet::new(Handle::current());
        tasks.service("short", async {});
        assert_eq!(
            died.recv().await.map(|d| d.to_string()).as_deref(),
            Some("background task short ended")
        );
        tasks.service("bad", async { panic!("boom") });
        assert_eq!(died.recv().await.map(|d| d.what).as_deref(), Some("panicked"));
    }

    #[tokio::test]
    async fn stop_waits_for_services_and_jobs() {
        let (tasks, mut died) = TaskSet::new(Handle::current());
        let token = tasks.shutdown_token().clone();
        tasks.service("loop", async move { token.cancelled().await });
        tasks.job("job", async { panic!("only the job ends") });
        tasks.stop().await;
        assert!(tasks.is_empty());
        assert!(died.try_recv().is_err());
    }
}
