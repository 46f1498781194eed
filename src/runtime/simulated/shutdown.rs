//! The shutdown of a pod: first the preStop hooks run, then the listeners are closed, then the open connections.

use std::{sync::atomic::Ordering, time::Duration};

use crate::runtime::{
    Activity, Container, Role, Stage,
    simulated::{container, pod::Pod},
};

impl Pod {
    /// Closes the listeners, waits for open connections, and closes them when the grace is over.
    pub(super) async fn stop(&self, grace: Duration) {
        let grace = self.run_hooks(grace).await;
        self.stopping.cancel();
        let listeners = std::mem::take(&mut *self.listeners.lock().await);
        // The listeners end by themselves now. Their results are of no interest.
        futures::future::join_all(listeners.into_values()).await;
        self.events.forget(&self.spec().uid);
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.end.cancel();
            self.tasks.wait().await;
        }
    }

    /// Runs the preStop hooks once. A second call, with a shorter grace, cuts them short. Returns the rest of the
    /// grace.
    async fn run_hooks(&self, grace: Duration) -> Duration {
        if self.hooks_begun.swap(true, Ordering::Relaxed) {
            self.hooks_end.cancel();
            return grace;
        }
        let begun = tokio::time::Instant::now();
        let spec = self.spec();
        let hooks = {
            let status = self.status.lock();
            let runs = |container: &&Container| {
                let known = status.containers.get(&container.name);
                let lasts = known.is_none_or(|own| matches!(own.now, Activity::Running(_)));
                lasts && matches!(container.role, Role::Main | Role::Sidecar)
            };
            let all = spec.containers.iter().filter(|_| status.stage == Stage::Running);
            all.filter(runs).map(|own| container::pre_stop(self, own)).collect::<Vec<_>>()
        };
        let all = tokio::time::timeout(grace, futures::future::join_all(hooks));
        // It makes no difference whether the hooks have finished.
        self.hooks_end.run_until_cancelled(all).await;
        grace.saturating_sub(begun.elapsed())
    }
}
