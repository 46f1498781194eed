//! Runtimes of pods. [`PodRuntime`] is the trait, and [`simulated`] is the default: it answers on real sockets at the
//! address of the pod. [`Runtimes`] selects a runtime by the handler of the RuntimeClass of a pod.
//!
//! A runtime gets pods as plain values ([`PodSpec`]) from `node`. It must never know the registry.

pub mod simulated;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;

/// Starts, follows and stops pods of one kind.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Starts the pod, or adapts it if its description has changed (ports may be added and removed while it runs).
    async fn ensure(&self, pod: PodSpec);

    /// Stops the pod. It stops accepting connections at once, and open connections are closed when `grace` is over.
    /// Returns when the pod is gone. It may be called again with a shorter grace before that, and then the first call
    /// may be dropped.
    async fn stop(&self, uid: &str, grace: Duration);

    /// The events of all pods from now on. May be called once.
    fn events(&self) -> BoxStream<'static, PodEvent>;

    /// A container of a pod by name; `None` if this process never started it.
    fn container(&self, uid: &str, name: &str) -> Option<Arc<dyn ContainerHandle>>;
}

/// Access to a running container.
pub trait ContainerHandle: Send + Sync {
    /// The output after the first `after` lines, as far as it is kept.
    fn log(&self, after: u64) -> Log;
}

/// All runtimes of this process.
#[derive(Clone)]
pub struct Runtimes {
    default: Arc<dyn PodRuntime>,
    by_handler: BTreeMap<String, Arc<dyn PodRuntime>>,
}

impl Runtimes {
    /// One runtime for all pods.
    pub fn new(default: Arc<dyn PodRuntime>) -> Self {
        Self { default, by_handler: BTreeMap::new() }
    }

    /// Adds a runtime for the RuntimeClasses with this handler.
    #[must_use]
    pub fn with(mut self, handler: &str, runtime: Arc<dyn PodRuntime>) -> Self {
        self.by_handler.insert(handler.to_owned(), runtime);
        self
    }

    /// The runtime for a RuntimeClass handler. Pods without a class, or with a handler that has no runtime here
    /// (`runsc`, `kata`), get the default runtime.
    pub fn of(&self, handler: Option<&str>) -> &Arc<dyn PodRuntime> {
        handler.and_then(|handler| self.by_handler.get(handler)).unwrap_or(&self.default)
    }

    /// The events of the pods of all runtimes. May be called once.
    pub fn events(&self) -> BoxStream<'static, PodEvent> {
        stream::select_all(self.all().map(|runtime| runtime.events())).boxed()
    }

    /// A container of any runtime.
    pub fn container(&self, uid: &str, name: &str) -> Option<Arc<dyn ContainerHandle>> {
        self.all().find_map(|runtime| runtime.container(uid, name))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn PodRuntime>> {
        std::iter::once(&self.default).chain(self.by_handler.values())
    }
}

/// A part of a container's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The lines, oldest first, and when each was written.
    pub lines: Vec<(Timestamp, String)>,
    /// How many lines were written since the start of the container. The next part begins there.
    pub written: u64,
}

/// A pod as a runtime needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// The uid of the Pod.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The name of its node.
    pub node: String,
    /// The zone of its node, empty if it has none.
    pub zone: String,
    /// The address of the pod.
    pub ip: IpAddr,
    /// The ports on which it listens: container ports, and numeric target ports of the Services that select it.
    pub ports: Vec<Port>,
    /// Its containers. Init containers and sidecars come first, in their order.
    pub containers: Vec<Container>,
    /// Whether containers that end are restarted.
    pub restart: RestartPolicy,
    /// Whether the pod is meant to end (it belongs to a Job). A command that the runtime cannot follow then counts as
    /// successful.
    pub runs_to_completion: bool,
}

/// A container as a runtime needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Program and arguments; empty for those of the image.
    pub command: Vec<String>,
    /// The environment variables.
    pub env: BTreeMap<String, String>,
    /// The container ports.
    pub ports: Vec<Port>,
    /// When it runs.
    pub role: Role,
    /// Why the container cannot be created. A main container is not started as long as this is set.
    pub fault: Option<String>,
    /// Whether the container is restarted when it ends.
    pub restart: RestartOverrides,
    /// The command that runs before the container is stopped.
    pub pre_stop: Option<Vec<String>>,
    /// The file of the termination message.
    pub message_path: String,
    /// Whether the end of the log is the termination message after an error without one.
    pub message_from_log: bool,
}

/// Whether a container that has ended is restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartOverrides {
    /// The restart rules. The first that matches the exit code decides.
    pub rules: Vec<RestartRule>,
    /// The policy if no rule matches; `None` for that of the pod.
    pub policy: Option<RestartPolicy>,
}

/// A rule that restarts a container after certain exit codes, whatever the restart policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// The exit codes.
    pub on: ExitCodes,
    /// Restart all containers of the pod, init containers first.
    pub whole_pod: bool,
}

/// A set of exit codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCodes {
    /// True for the codes in `codes`, false for all others.
    pub listed: bool,
    /// The codes.
    pub codes: Vec<i32>,
}

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs to its end before the next container starts.
    Init,
    /// It starts in its turn among the init containers and runs as long as the pod.
    Sidecar,
    /// It starts when all init containers have ended.
    Main,
    /// It starts when it is added, and is never restarted.
    Ephemeral,
}

/// A pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// All containers are restarted.
    Always,
    /// Only containers with an error are restarted.
    OnFailure,
    /// No container is restarted.
    Never,
}

/// One port that a pod listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Number.
    pub number: u16,
    /// True for UDP, false for TCP.
    pub udp: bool,
}

/// A change of the state of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// The uid of the pod.
    pub uid: String,
    /// The new state.
    pub state: PodState,
}

/// The state of a running pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// The stage of its start or end.
    pub stage: Stage,
    /// Ports that could not be bound. They are served on other ports at the address of the pod, for the given reason.
    pub moved: Vec<MovedPort>,
    /// Ports that are not served, with the reason. If there are any, the pod is not ready, and binding is tried
    /// again.
    pub failed: Vec<(Port, String)>,
    /// The states of started init, sidecar and ephemeral containers, and of main containers that can end. All other
    /// main containers run as long as the pod.
    pub containers: Vec<ContainerState>,
}

impl PodState {
    /// A pod whose containers all run and whose ports are all bound.
    pub fn running() -> Self {
        Self {
            stage: Stage::Running,
            moved: Vec::new(),
            failed: Vec::new(),
            containers: Vec::new(),
        }
    }
}

/// The stages of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The init containers run.
    Initializing,
    /// The main containers run.
    #[default]
    Running,
    /// All containers were stopped and will be started again, because of a [`RestartRule`].
    Restarting,
    /// An init container has failed and is not restarted, or all main containers have ended.
    Ended,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Name.
    pub name: String,
    /// How often it was restarted.
    pub restarts: u32,
    /// What it does now.
    pub now: Activity,
    /// How it ended before its last restart.
    pub last: Option<Exit>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has been running since this time.
    Running(Timestamp),
    /// It waits for its next start for this time.
    BackOff(Duration),
    /// It has ended. Only a restart of the whole pod starts it again.
    Exited(Exit),
    /// It ran before all containers were stopped, and was not started again yet.
    Waiting,
    /// It cannot be created, for this reason.
    Faulty(String),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i32,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Its termination message; may be empty.
    pub message: String,
}

/// A port that is served on another port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPort {
    /// The port of the PodSpec.
    pub port: Port,
    /// The port where the pod really listens.
    pub bound: u16,
    /// Why the port could not be bound.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    struct Named(&'static str);

    #[async_trait]
    impl PodRuntime for Named {
        async fn ensure(&self, _: PodSpec) {}

        async fn stop(&self, _: &str, _: Duration) {}

        fn events(&self) -> BoxStream<'static, PodEvent> {
            let (uid, state) = (self.0.to_owned(), PodState::running());
            stream::iter([PodEvent { uid, state }]).boxed()
        }

        fn container(&self, uid: &str, _: &str) -> Option<Arc<dyn ContainerHandle>> {
            (uid == self.0).then(|| Arc::new(Self(self.0)) as _)
        }
    }

    impl ContainerHandle for Named {
        fn log(&self, _: u64) -> Log {
            Log { lines: vec![(Timestamp::UNIX_EPOCH, self.0.to_owned())], written: 1 }
        }
    }

    #[tokio::test]
    async fn a_handler_has_its_runtime() {
        let runtimes =
            Runtimes::new(Arc::new(Named("default"))).with("runc", Arc::new(Named("runc")));
        for (handler, expected) in
            [(None, "default"), (Some("runc"), "runc"), (Some("runsc"), "default")]
        {
            let own = runtimes.of(handler).events().next().await.unwrap();
            assert_eq!(own.uid, expected, "{handler:?}");
        }
        let all = runtimes.events().map(|event| event.uid).collect::<Vec<_>>().await;
        assert_eq!(all, ["default", "runc"]);
        let log = runtimes.container("runc", "c").unwrap().log(0);
        assert_eq!(log.lines[0].1, "runc");
        assert!(runtimes.container("other", "c").is_none());
    }
}
