//! What stands behind a Pod. [`PodRuntime`] is the seam; [`simulated`] (the default) answers on real sockets of the
//! pod's own address. [`Runtimes`] chooses by the handler of a pod's RuntimeClass.
//!
//! A runtime knows pods as plain values ([`PodSpec`]); it must never know the registry: `node` translates.

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
    /// Makes the pod run as described; called again whenever the description changes (ports come and go while it runs).
    async fn ensure(&self, pod: PodSpec);

    /// Ends the pod: it stops accepting at once, and what is open is closed when `grace` is over.
    /// Returns when nothing is left of it. May be called again, with less grace, before that; the first call may be
    /// dropped.
    async fn stop(&self, uid: &str, grace: Duration);

    /// What happens to pods, from now on. May be called once.
    fn events(&self) -> BoxStream<'static, PodEvent>;

    /// A container of a pod, by name; `None` for one that was never started here.
    fn container(&self, uid: &str, name: &str) -> Option<Arc<dyn ContainerHandle>>;
}

/// What can be had of a running container.
pub trait ContainerHandle: Send + Sync {
    /// What it has written after its first `after` lines, as far as that is kept.
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

    /// Adds the runtime of the RuntimeClasses with this handler.
    #[must_use]
    pub fn with(mut self, handler: &str, runtime: Arc<dyn PodRuntime>) -> Self {
        self.by_handler.insert(handler.to_owned(), runtime);
        self
    }

    /// The runtime of pods whose RuntimeClass has this handler. Pods without a class, and those whose handler nothing here
    /// stands for (`runsc`, `kata`), get the default one.
    pub fn of(&self, handler: Option<&str>) -> &Arc<dyn PodRuntime> {
        handler.and_then(|handler| self.by_handler.get(handler)).unwrap_or(&self.default)
    }

    /// What happens to the pods of all of them. May be called once.
    pub fn events(&self) -> BoxStream<'static, PodEvent> {
        stream::select_all(self.all().map(|runtime| runtime.events())).boxed()
    }

    /// A container, in whichever of them it runs.
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
    /// When each line was written, and the line; oldest first.
    pub lines: Vec<(Timestamp, String)>,
    /// How many lines were ever written: where the next part begins.
    pub written: u64,
}

/// A pod as its runtime needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Identity over time.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// That node's zone, empty when it has none.
    pub zone: String,
    /// Its own address.
    pub ip: IpAddr,
    /// Where it must listen: declared container ports and numeric target ports of the Services that select it.
    pub ports: Vec<Port>,
    /// What it consists of; init containers and sidecars first, in their order.
    pub containers: Vec<Container>,
    /// What becomes of a container that ends.
    pub restart: Restart,
    /// It shall end by itself (it is a Job's): what the runtime cannot follow counts as done.
    pub runs_to_completion: bool,
}

/// A container as its runtime needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Program and arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Variables whose values are known.
    pub env: BTreeMap<String, String>,
    /// The ports that it declares.
    pub ports: Vec<Port>,
    /// When it runs.
    pub role: Role,
    /// Why it cannot be made, if so: a main container is not started as long as this stays.
    pub fault: Option<String>,
    /// What becomes of it when it ends.
    pub after: After,
    /// What it does before it is stopped, as a command.
    pub pre_stop: Option<Vec<String>>,
    /// Where its termination message is written.
    pub message_path: String,
    /// An error without a message is told by the end of the log.
    pub message_from_log: bool,
}

/// What becomes of a container that ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// The first that knows its exit code decides.
    pub rules: Vec<RestartRule>,
    /// Otherwise, instead of the pod's.
    pub restart: Option<Restart>,
}

/// After these exit codes a container is started again in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// Which.
    pub on: ExitCodes,
    /// All others with it, init containers first.
    pub whole_pod: bool,
}

/// Exit codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCodes {
    /// These, or all others.
    pub listed: bool,
    /// Which.
    pub codes: Vec<i32>,
}

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To its end, before those that come after it.
    Init,
    /// From its turn among the init containers on, as long as the pod runs.
    Sidecar,
    /// When all init containers are done.
    Main,
    /// From when it is added; never again.
    Ephemeral,
}

/// A pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Containers are started again however they end.
    Always,
    /// Only those that end with an error.
    OnFailure,
    /// None.
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

/// What a runtime tells about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Which pod.
    pub uid: String,
    /// What is so now.
    pub state: PodState,
}

/// The state of a running pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// How far it is.
    pub stage: Stage,
    /// Ports that could not be bound as they are and are served on another port of the pod's address,
    /// with the reason.
    pub moved: Vec<MovedPort>,
    /// Ports that are not served at all, with the reason. Non-empty means not ready; binding is tried again.
    pub failed: Vec<(Port, String)>,
    /// Containers that end, or may, and all but the main ones that were started; other main ones run as long as the pod
    /// does.
    pub containers: Vec<ContainerState>,
}

impl PodState {
    /// Everything runs, and all ports are served where they should be.
    pub fn running() -> Self {
        Self {
            stage: Stage::Running,
            moved: Vec::new(),
            failed: Vec::new(),
            containers: Vec::new(),
        }
    }
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its init containers run.
    Initializing,
    /// Its main containers run.
    #[default]
    Running,
    /// All of its containers were stopped, to be started again (a [`RestartRule`] of one says so).
    Restarting,
    /// An init container failed for good, or all main containers have ended.
    Ended,
}

/// The state of a container that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Name.
    pub name: String,
    /// How often it was started again.
    pub restarts: u32,
    /// What it does now.
    pub now: Activity,
    /// How it ended the last time before.
    pub last: Option<Exit>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs since then.
    Running(Timestamp),
    /// It waits for its next start so long.
    BackOff(Duration),
    /// It ended and is not started again by itself.
    Exited(Exit),
    /// It ran before all containers were stopped, and its turn has not come again.
    Waiting,
    /// It cannot be made, for this reason.
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
    /// Its termination message, perhaps empty.
    pub message: String,
}

/// A port that is served under another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPort {
    /// As asked for.
    pub port: Port,
    /// The number that it listens on.
    pub bound: u16,
    /// Why.
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
