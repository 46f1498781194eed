//! What of a pod ends when: first what its containers want to do before they are stopped, then the listeners, then what is
//! open.

use std::{sync::atomic::Ordering, time::Duration};

use crate::runtime::{
    Activity, Container, Role, Stage,
    simulated::{container, pod::Pod},
};

impl Pod {
    /// Closes the listeners, waits for what is open, and ends it when the grace is over.
    pub(super) async fn stop(&self, grace: Duration) {
        let grace = self.run_hooks(grace).await;
        self.stopping.cancel();
        let listeners = std::mem::take(&mut *self.listeners.lock().await);
        // They end on their own now; how says nothing.
        futures::future::join_all(listeners.into_values()).await;
        self.news.forget(&self.spec().uid);
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.end.cancel();
            self.tasks.wait().await;
        }
    }

    /// Lets containers do what they want to do before they are stopped, once. Who comes later ends that. Gives what is
    /// left of the grace.
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
        // Whether they came to their end changes nothing.
        self.hooks_end.run_until_cancelled(all).await;
        grace.saturating_sub(begun.elapsed())
    }
}
