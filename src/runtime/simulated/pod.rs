//! One simulated pod: its listeners, its state and its log.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicBool},
};

use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    descriptors::Budget,
    runtime::{
        Activity, Container, ContainerState, Exit, Log, MovedPort, PodSpec, PodState, Port, Role,
        Stage,
        simulated::{connections::Connections, pod_events::PodEvents},
    },
};

/// Most lines that are kept per container, at most about 60 KiB.
const LOG_LINES_MAX: usize = 500;

/// A running pod.
pub(super) struct Pod {
    pub(super) spec: RwLock<Arc<PodSpec>>,
    /// One task per port. The lock is held while listeners are opened and closed.
    pub(super) listeners: tokio::sync::Mutex<BTreeMap<Port, JoinHandle<()>>>,
    pub(super) status: Mutex<Status>,
    /// The logs by container.
    logs: Mutex<BTreeMap<String, ContainerLog>>,
    pub(super) events: Arc<PodEvents>,
    /// The budget of its sockets.
    pub(super) descriptors: Budget,
    pub(super) connections: Connections,
    /// All tasks of this pod.
    pub(super) tasks: TaskTracker,
    pub(super) hooks_begun: AtomicBool,
    pub(super) hooks_end: CancellationToken,
    /// The pod is stopping: finish open requests, accept no new ones.
    pub(super) stopping: CancellationToken,
    /// Everything of this pod must end now.
    pub(super) end: CancellationToken,
}

/// How a port is served.
pub(super) enum PortStatus {
    Served,
    Moved(MovedPort),
    Failed(String),
}

/// The last lines of the log of a container.
#[derive(Default)]
struct ContainerLog {
    lines: VecDeque<(Timestamp, String)>,
    count: u64,
}

#[derive(Default)]
pub(super) struct Status {
    pub(super) ports: BTreeMap<Port, PortStatus>,
    /// The states of containers that can end, and of all that are not main containers.
    pub(super) containers: BTreeMap<String, ContainerState>,
    /// Whether the init containers were started.
    pub(super) begun: bool,
    /// Main and ephemeral containers that were started, and when.
    pub(super) started: BTreeMap<String, Timestamp>,
    /// Cancelled when all containers are stopped, also if they are started again after that.
    pub(super) round: CancellationToken,
    pub(super) stage: Stage,
    /// The state that was sent last.
    told: Option<PodState>,
}

impl Pod {
    pub(super) fn new(
        spec: PodSpec,
        events: Arc<PodEvents>,
        descriptors: Budget,
        connections: Connections,
        token: &CancellationToken,
    ) -> Self {
        let stage = Status::first_stage(&spec);
        let stopping = CancellationToken::new();
        let round = stopping.child_token();
        Self {
            spec: RwLock::new(Arc::new(spec)),
            listeners: tokio::sync::Mutex::default(),
            status: Mutex::new(Status { stage, round, ..Status::default() }),
            logs: Mutex::default(),
            events,
            descriptors,
            connections,
            tasks: TaskTracker::new(),
            hooks_begun: AtomicBool::new(false),
            hooks_end: CancellationToken::new(),
            stopping,
            end: token.child_token(),
        }
    }

    /// The current description.
    pub(super) fn spec(&self) -> Arc<PodSpec> {
        Arc::clone(&self.spec.read())
    }

    /// Spawns a task that runs until the end of the pod.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let (end, spec) = (self.end.clone(), self.spec());
        self.tasks.spawn(async move {
            let task = AssertUnwindSafe(end.run_until_cancelled(task));
            if task.catch_unwind().await.is_err() {
                let PodSpec { namespace, name, .. } = &*spec;
                tracing::error!(%namespace, pod = %name, "a simulated pod panicked; this is a bug");
            }
        })
    }

    /// Sets the state of a container. When all main containers have ended, the sidecars and the listeners are
    /// stopped.
    pub(super) async fn note_container(&self, round: &CancellationToken, state: ContainerState) {
        let spec = self.spec();
        let done = {
            let mut status = self.status.lock();
            if status.stage == Stage::Ended || round.is_cancelled() {
                return;
            }
            status.containers.insert(state.name.clone(), state);
            if status.have_ended(&spec) {
                status.end_sidecars(&spec);
                status.stage = Stage::Ended;
            }
            status.stage == Stage::Ended
        };
        if done {
            close(std::mem::take(&mut *self.listeners.lock().await)).await;
        }
        self.tell();
    }

    /// The last lines of the log of a container.
    pub(super) fn last_lines(&self, container: &str, lines: usize, bytes: usize) -> String {
        let logs = self.logs.lock();
        let Some(log) = logs.get(container) else { return String::new() };
        let skip = log.lines.len().saturating_sub(lines);
        let mut text = String::new();
        for (_, line) in log.lines.iter().skip(skip) {
            text.push_str(line);
            text.push('\n');
        }
        let from = text.ceil_char_boundary(text.len().saturating_sub(bytes));
        text.split_off(from)
    }

    /// Sets how a port is served.
    pub(super) fn note(&self, port: Port, status: PortStatus) {
        self.status.lock().ports.insert(port, status);
    }

    /// Sends the state if it has changed.
    pub(super) fn tell(&self) {
        if self.stopping.is_cancelled() {
            return;
        }
        let spec = self.spec();
        let mut status = self.status.lock();
        let state = status.state();
        if status.told.as_ref() != Some(&state) {
            status.told = Some(state.clone());
            drop(status);
            self.events.send(&spec.uid, state);
        }
    }

    /// Logs what happened at a port, with the time. The line goes to the log of the container that declares the port,
    /// else of the first container.
    pub(super) fn write(&self, port: Port, line: &str) {
        let stamp = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let spec = self.spec();
        let mut lasting =
            spec.containers.iter().filter(|c| matches!(c.role, Role::Main | Role::Sidecar));
        let declares = |container: &&Container| container.ports.contains(&port);
        let first = || spec.containers.iter().find(|container| container.role == Role::Main);
        if let Some(container) = lasting.find(declares).or_else(first) {
            self.print(&container.name, format!("{stamp} {line}"));
        }
    }

    /// Writes a line to the log of a container.
    pub(super) fn print(&self, container: &str, line: String) {
        let mut logs = self.logs.lock();
        let log = match logs.get_mut(container) {
            Some(log) => log,
            None => logs.entry(container.to_owned()).or_default(),
        };
        if log.lines.len() == LOG_LINES_MAX {
            log.lines.pop_front();
        }
        log.lines.push_back((Timestamp::now(), line));
        log.count += 1;
    }

    /// The log of a container after its first `after` lines, oldest first.
    pub(super) fn log(&self, container: &str, after: u64) -> Log {
        let logs = self.logs.lock();
        let Some(log) = logs.get(container) else { return Log::default() };
        let wanted = usize::try_from(log.count.saturating_sub(after)).unwrap_or(usize::MAX);
        let skip = log.lines.len().saturating_sub(wanted);
        Log { lines: log.lines.iter().skip(skip).cloned().collect(), written: log.count }
    }
}

impl Status {
    /// The first stage of a pod.
    pub(super) fn first_stage(spec: &PodSpec) -> Stage {
        let mut roles = spec.containers.iter().map(|container| container.role);
        let initializes = roles.any(|role| matches!(role, Role::Init | Role::Sidecar));
        if initializes { Stage::Initializing } else { Stage::Running }
    }

    /// Whether all main containers have ended.
    fn have_ended(&self, spec: &PodSpec) -> bool {
        let mut main = spec.containers.iter().filter(|container| container.role == Role::Main);
        self.stage == Stage::Running
            && main.all(|container| {
                let state = self.containers.get(&container.name);
                state.is_some_and(|state| matches!(state.now, Activity::Exited(_)))
            })
    }

    pub(super) fn end_sidecars(&mut self, spec: &PodSpec) {
        for container in spec.containers.iter().filter(|c| c.role == Role::Sidecar) {
            let Some(state) = self.containers.get_mut(&container.name) else { continue };
            let finished = Timestamp::now();
            let started = match state.now {
                Activity::Running(since) => since,
                _ => finished,
            };
            state.now =
                Activity::Exited(Exit { code: 0, started, finished, message: String::new() });
        }
    }

    fn state(&self) -> PodState {
        let mut moved = Vec::new();
        let mut failed = Vec::new();
        for (port, status) in &self.ports {
            match status {
                PortStatus::Served => {}
                PortStatus::Moved(to) => moved.push(to.clone()),
                PortStatus::Failed(reason) => failed.push((*port, reason.clone())),
            }
        }
        let containers = self.containers.values().cloned().collect();
        PodState { stage: self.stage, moved, failed, containers }
    }
}

/// Closes listeners. When it returns, their ports are free.
pub(super) async fn close(listeners: impl IntoIterator<Item = (Port, JoinHandle<()>)>) {
    let aborted: Vec<_> =
        listeners.into_iter().map(|(_, task)| task).inspect(JoinHandle::abort).collect();
    // The tasks were aborted, so their results are errors.
    futures::future::join_all(aborted).await;
}
