//! Restart of a whole pod: all containers are stopped and started again, init containers first, because a restart
//! rule of a container demands it.
//!
//! As in kubelet, preStop hooks do not run, there is no back-off between two such restarts, and the pod keeps its
//! address.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::runtime::{
    Activity, ContainerState, Exit, PodSpec, Role, Stage,
    simulated::pod::{Pod, Status, close},
};

/// How long the pod shows that all containers are stopped (kubelet's relist period).
const STOPPED_SHOWN: Duration = Duration::from_secs(1);
/// Exit code of a process that SIGKILL has ended.
const KILLED: i32 = 137;

impl Pod {
    /// Restarts the whole pod because a container has ended with this state in this round. It does so only once per
    /// round.
    pub(super) fn restart(self: &Arc<Self>, round: &CancellationToken, ended: ContainerState) {
        let spec = self.spec();
        let next = {
            let mut status = self.status.lock();
            if status.stage == Stage::Ended || round.is_cancelled() {
                return;
            }
            status.containers.insert(ended.name.clone(), ended);
            status.stage = Stage::Restarting;
            status.stop_containers(&spec);
            status.round.cancel();
            status.round = self.stopping.child_token();
            status.round.clone()
        };
        let pod = Arc::clone(self);
        drop(self.spawn(async move {
            close(std::mem::take(&mut *pod.listeners.lock().await)).await;
            pod.tell();
            let shown = next.run_until_cancelled(tokio::time::sleep(STOPPED_SHOWN)).await;
            if shown.is_some() {
                pod.status.lock().start_over(&pod.spec());
                pod.become_as((*pod.spec()).clone()).await;
            }
        }));
    }
}

impl Status {
    /// Marks all containers that run as killed, also main containers without a state, which run as long as the pod.
    fn stop_containers(&mut self, spec: &PodSpec) {
        let finished = Timestamp::now();
        for container in &spec.containers {
            let name = &container.name;
            if container.role == Role::Ephemeral {
                continue;
            }
            if let (Role::Main, Some(since)) = (container.role, self.started.get(name)) {
                self.containers.entry(name.clone()).or_insert_with(|| ContainerState {
                    name: name.clone(),
                    restarts: 0,
                    now: Activity::Running(*since),
                    last: None,
                });
            }
            if let Some(state) = self.containers.get_mut(name)
                && let Activity::Running(started) = state.now
            {
                let message = String::new();
                state.now = Activity::Exited(Exit { code: KILLED, started, finished, message });
            }
        }
    }

    /// Marks all containers as waiting for their start.
    fn start_over(&mut self, spec: &PodSpec) {
        for container in spec.containers.iter().filter(|own| own.role != Role::Ephemeral) {
            self.started.remove(&container.name);
            if let Some(state) = self.containers.get_mut(&container.name)
                && let Activity::Exited(exit) = std::mem::replace(&mut state.now, Activity::Waiting)
            {
                state.last = Some(exit);
            }
        }
        self.begun = false;
        self.stage = Self::first_stage(spec);
    }
}
