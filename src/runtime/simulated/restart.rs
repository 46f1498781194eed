//! All containers of a pod are stopped and started again, init containers first, since a rule of one says so.
//!
//! As kubelet does it: nothing is asked before it is stopped, there is no pause between one time and the next, and the
//! pod keeps its address.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::runtime::{
    Activity, ContainerState, Exit, PodSpec, Role, Stage,
    simulated::pod::{Pod, Status, close},
};

/// That everything is stopped is shown for so long (kubelet's relist period).
const STOPPED_SHOWN: Duration = Duration::from_secs(1);
/// Exit code of what was ended by SIGKILL.
const KILLED: i32 = 137;

impl Pod {
    /// Begins that, as the container with this state ended in this round; once a round.
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
    /// What runs was killed, also what was never noted since it would have run for as long as the pod.
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

    /// Makes everything wait for its turn again.
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
