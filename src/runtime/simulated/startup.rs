//! The start of a pod: first the init containers run one after another, then the listeners and the other containers
//! start.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::runtime::{
    PodSpec, Port, RestartPolicy, Role, Stage,
    simulated::{
        container,
        pod::{Pod, close},
        port,
    },
};

impl Pod {
    /// Opens and closes listeners as the new description demands. Other listeners and open connections stay.
    pub(super) async fn become_as(self: &Arc<Self>, spec: PodSpec) {
        let mut listeners = self.listeners.lock().await;
        if self.stopping.is_cancelled() || self.status.lock().stage == Stage::Ended {
            return;
        }
        let moved_house = self.spec().ip != spec.ip;
        let wanted: BTreeSet<Port> = spec.ports.iter().copied().collect();
        *self.spec.write() = Arc::new(spec);
        let stage = self.start_containers(&self.spec());
        if stage != Stage::Running {
            return self.tell();
        }
        close(listeners.extract_if(.., |port, _| moved_house || !wanted.contains(port))).await;
        self.status.lock().ports.retain(|port, _| listeners.contains_key(port));
        for port in wanted {
            listeners.entry(port).or_insert_with(|| {
                let opened = port::open(self, port);
                self.spawn(port::serve(Arc::clone(self), port, opened))
            });
        }
        self.tell();
    }

    /// Starts the containers that were not started yet, if the stage allows it.
    fn start_containers(self: &Arc<Self>, spec: &PodSpec) -> Stage {
        let mut status = self.status.lock();
        if status.stage == Stage::Initializing && !std::mem::replace(&mut status.begun, true) {
            drop(self.spawn(Arc::clone(self).initialize(status.round.clone())));
        }
        for container in &spec.containers {
            let restart = match container.role {
                Role::Main if status.stage == Stage::Running => spec.restart,
                Role::Ephemeral => RestartPolicy::Never,
                _ => continue,
            };
            if status.started.contains_key(&container.name) {
                continue;
            }
            if let (Role::Main, Some(fault)) = (container.role, &container.fault) {
                let state = container::faulty(container, fault);
                status.containers.insert(container.name.clone(), state);
                continue;
            }
            status.started.insert(container.name.clone(), Timestamp::now());
            match container::predicted_steps(spec, container) {
                Some(steps) => {
                    // Ephemeral containers are not restarted with the others.
                    let round = match container.role {
                        Role::Ephemeral => self.stopping.clone(),
                        _ => status.round.clone(),
                    };
                    let own = container.clone();
                    drop(self.spawn(container::run(Arc::clone(self), round, own, steps, restart)));
                }
                None => {
                    let before = status.containers.get(&container.name);
                    if container.role == Role::Ephemeral || before.is_some() {
                        let state = container::running(container, before);
                        status.containers.insert(container.name.clone(), state);
                    }
                }
            }
        }
        status.stage
    }

    async fn initialize(self: Arc<Self>, round: CancellationToken) {
        let spec = self.spec();
        let done = container::initialize(&self, &round, &spec);
        let stage = match round.run_until_cancelled(done).await {
            Some(true) => Stage::Running,
            Some(false) => Stage::Ended,
            None => return,
        };
        {
            let mut status = self.status.lock();
            if round.is_cancelled() {
                return;
            }
            status.stage = stage;
            if stage == Stage::Ended {
                status.end_sidecars(&spec);
            }
        }
        self.tell();
        self.become_as((*self.spec()).clone()).await;
    }
}
