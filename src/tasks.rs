//! Background tasks, tracked by name, so that stopping can wait for them and name those still running.
//!
//! Every long-lived task of the process is spawned here. [`Tasks::stop`] asks all of them to end; [`Tasks::wait`]
//! waits until they have, within a limit.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// Tracks tasks by name. Clones share the tracker.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// How many tasks of each name are running. Locked at a task's start and end only.
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Tasks {
    /// An empty tracker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task on the current runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, future)
    }

    /// Spawns a task on the given runtime.
    pub fn spawn_on<F>(
        &self,
        runtime: &Handle,
        name: &'static str,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = Running::start(self.running.clone(), name);
        self.tracker.spawn_on(
            async move {
                let _running = running;
                future.await
            },
            runtime,
        )
    }

    /// Resolves once the tasks are asked to stop.
    pub fn stopping(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Whether the tasks were asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks every task that watches [`stopping`](Self::stopping) to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until no task is left, at most `limit`.
    ///
    /// # Errors
    /// The names of the tasks that are still running then, with their number.
    pub async fn wait(&self, limit: Duration) -> Result<(), Vec<(&'static str, usize)>> {
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self
                .running
                .lock()
                .iter()
                .map(|(name, count)| (*name, *count))
                .collect()),
        }
    }
}

/// Counts a task while it is alive, however it ends.
struct Running {
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Running {
    fn start(counts: Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *counts.lock().entry(name).or_default() += 1;
        Self { counts, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_still_running_at_the_limit_are_named() {
        let tasks = Tasks::new();
        tasks.spawn("quick", async {});
        tasks.spawn("stuck", std::future::pending::<()>());
        let stop = tasks.stopping();
        tasks.spawn("polite", stop);
        tasks.stop();
        assert_eq!(
            tasks.wait(Duration::from_secs(1)).await,
            Err(vec![("stuck", 1)])
        );
    }
}
