//! One simulated pod: its listeners, its state and its log.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::runtime::{
    Activity, ContainerState, Log, MovedPort, PodSpec, PodState, Port,
    simulated::{News, container, port},
};

/// Connections that one pod serves at a time; further ones are reset.
const CONNECTIONS_MAX: usize = 1024;
/// Lines kept per pod: a screen or two of history, at most about 60 KiB.
const LOG_LINES_MAX: usize = 500;

/// A running pod.
pub(super) struct Pod {
    spec: RwLock<Arc<PodSpec>>,
    /// A task per port. Held while listeners come and go.
    listeners: tokio::sync::Mutex<BTreeMap<Port, JoinHandle<()>>>,
    status: Mutex<Status>,
    log: Mutex<Written>,
    news: Arc<News>,
    /// Bounds the open connections.
    pub(super) permits: Arc<Semaphore>,
    /// Everything that runs for this pod.
    pub(super) tasks: TaskTracker,
    /// The pod is on its way out: answer what is open, begin nothing.
    pub(super) stopping: CancellationToken,
    /// Nothing of it may go on.
    pub(super) end: CancellationToken,
}

/// How a port is served.
pub(super) enum PortStatus {
    Served,
    Moved(MovedPort),
    Failed(String),
}

/// The last lines of the log.
#[derive(Default)]
struct Written {
    lines: VecDeque<(Timestamp, String)>,
    count: u64,
}

#[derive(Default)]
struct Status {
    ports: BTreeMap<Port, PortStatus>,
    /// Those that end by themselves.
    containers: BTreeMap<String, ContainerState>,
    /// The containers were started.
    started: bool,
    /// All containers have ended.
    done: bool,
    /// What was told last.
    told: Option<PodState>,
}

impl Pod {
    pub(super) fn new(spec: PodSpec, news: Arc<News>, token: &CancellationToken) -> Self {
        Self {
            spec: RwLock::new(Arc::new(spec)),
            listeners: tokio::sync::Mutex::default(),
            status: Mutex::default(),
            log: Mutex::default(),
            news,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            end: token.child_token(),
        }
    }

    /// The description now.
    pub(super) fn spec(&self) -> Arc<PodSpec> {
        Arc::clone(&self.spec.read())
    }

    /// Makes the listeners those of the description; others and open connections are left alone.
    pub(super) async fn become_as(self: &Arc<Self>, spec: PodSpec) {
        let mut listeners = self.listeners.lock().await;
        if self.stopping.is_cancelled() || self.status.lock().done {
            return;
        }
        self.start_containers(&spec);
        let moved_house = self.spec().ip != spec.ip;
        let wanted: BTreeSet<Port> = spec.ports.iter().copied().collect();
        *self.spec.write() = Arc::new(spec);
        close(listeners.extract_if(.., |port, _| moved_house || !wanted.contains(port))).await;
        self.status.lock().ports.retain(|port, _| listeners.contains_key(port));
        for port in wanted {
            listeners.entry(port).or_insert_with(|| {
                let first = port::bind(self, port);
                let serve = port::serve(Arc::clone(self), port, first);
                let end = self.end.clone();
                self.tasks.spawn(async move { end.run_until_cancelled(serve).await.unwrap_or(()) })
            });
        }
        self.tell();
    }

    fn start_containers(self: &Arc<Self>, spec: &PodSpec) {
        if std::mem::replace(&mut self.status.lock().started, true) {
            return;
        }
        for container in &spec.containers {
            let Some(steps) = container::course(spec, container) else { continue };
            let (pod, name) = (Arc::clone(self), container.name.clone());
            let run = container::run(pod, name, steps, spec.restart);
            let end = self.end.clone();
            self.tasks.spawn(async move { end.run_until_cancelled(run).await.unwrap_or(()) });
        }
    }

    /// Notes what a container does. When all have ended, nobody listens any more.
    pub(super) async fn note_container(&self, state: ContainerState) {
        let spec = self.spec();
        let done = {
            let mut status = self.status.lock();
            status.containers.insert(state.name.clone(), state);
            let ended = |name: &String| {
                let state = status.containers.get(name);
                state.is_some_and(|state| matches!(state.now, Activity::Exited(_)))
            };
            status.done = spec.containers.iter().all(|container| ended(&container.name));
            status.done
        };
        if done {
            close(std::mem::take(&mut *self.listeners.lock().await)).await;
        }
        self.tell();
    }

    /// Closes the listeners, waits for what is open, and ends it when the grace is over.
    pub(super) async fn stop(&self, grace: Duration) {
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

    /// Notes how a port is served.
    pub(super) fn note(&self, port: Port, status: PortStatus) {
        self.status.lock().ports.insert(port, status);
    }

    /// Tells the state if it is new.
    pub(super) fn tell(&self) {
        if self.stopping.is_cancelled() {
            return;
        }
        let spec = self.spec();
        let mut status = self.status.lock();
        let state = status.state(spec.wants_ready);
        if status.told.as_ref() != Some(&state) {
            status.told = Some(state.clone());
            drop(status);
            self.news.tell(&spec.uid, state);
        }
    }

    /// Writes a line: the time, then what happened.
    pub(super) fn write(&self, line: &str) {
        let stamp = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        self.print(format!("{stamp} {line}"));
    }

    /// Writes a line as it is.
    pub(super) fn print(&self, line: String) {
        let mut log = self.log.lock();
        if log.lines.len() == LOG_LINES_MAX {
            log.lines.pop_front();
        }
        log.lines.push_back((Timestamp::now(), line));
        log.count += 1;
    }

    /// What it has written after its first `after` lines, oldest first.
    pub(super) fn log(&self, after: u64) -> Log {
        let log = self.log.lock();
        let wanted = usize::try_from(log.count.saturating_sub(after)).unwrap_or(usize::MAX);
        let skip = log.lines.len().saturating_sub(wanted);
        Log { lines: log.lines.iter().skip(skip).cloned().collect(), written: log.count }
    }
}

impl Status {
    fn state(&self, wants_ready: bool) -> PodState {
        let mut moved = Vec::new();
        let mut failed = Vec::new();
        for (port, status) in &self.ports {
            match status {
                PortStatus::Served => {}
                PortStatus::Moved(to) => moved.push(to.clone()),
                PortStatus::Failed(reason) => failed.push((*port, reason.clone())),
            }
        }
        let containers: Vec<_> = self.containers.values().cloned().collect();
        let all_run = containers.iter().all(|c| matches!(c.now, Activity::Running(_)));
        PodState { ready: wants_ready && failed.is_empty() && all_run, moved, failed, containers }
    }
}

/// Closes listeners; on return their ports are free.
async fn close(listeners: impl IntoIterator<Item = (Port, JoinHandle<()>)>) {
    let aborted: Vec<_> =
        listeners.into_iter().map(|(_, task)| task).inspect(JoinHandle::abort).collect();
    // Aborted, so how they ended says nothing.
    futures::future::join_all(aborted).await;
}
