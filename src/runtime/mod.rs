//! What stands behind a Pod. [`PodRuntime`] is the seam; [`simulated`] (the default) answers on real sockets of the
//! pod's own address.
//!
//! A runtime knows pods as plain values ([`PodSpec`]); it must never know the registry: `node` translates.

pub mod simulated;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// Starts, follows and stops pods of one kind.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Makes the pod run as described; called again whenever the description changes (ports come and go while it runs).
    async fn ensure(&self, pod: PodSpec);

    /// Ends the pod: it stops accepting at once, and what is open is closed when `grace` is over.
    /// Returns when nothing is left of it.
    async fn stop(&self, uid: &str, grace: Duration);

    /// What happens to pods, from now on. May be called once.
    fn events(&self) -> BoxStream<'static, PodEvent>;

    /// What the pod has written after its first `after` lines, as far as it is kept; `None` for an unknown pod.
    fn logs(&self, uid: &str, after: u64) -> Option<Log>;
}

/// A part of a pod's output.
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
    /// False keeps it from being ready (annotation `snowglobe.dev/ready: "false"`).
    pub wants_ready: bool,
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
    /// When it runs.
    pub role: Role,
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
    /// Exit codes after which it is started again in any case.
    pub restart_on: Vec<ExitCodes>,
    /// Otherwise, instead of the pod's.
    pub restart: Option<Restart>,
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
    /// Every port is served (perhaps elsewhere, see `moved`) and the pod wants to be ready.
    pub ready: bool,
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
    pub fn ready() -> Self {
        Self {
            stage: Stage::Running,
            ready: true,
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
    /// It ended and is not started again.
    Exited(Exit),
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
