//! Schedulers: which endpoint gets a connection. Every built-in one is a WASM module like the user's own; the only
//! native one is the [`fallback`].
//!
//! Enter at [`Scheduler`] and [`topologies::Topologies`], which the proxy asks, or at [`Policy`], [`Picker`] and [`Scorer`], of which policies consist;
//! [`library::Library`] maps names to policies, reloads them under traffic and owns the instances. The specification of the guest's side is `policies/policy.wit`. Nothing here knows
//! Kubernetes or a socket.

mod counters;
pub mod fallback;
mod health;
mod instance;
pub mod library;
mod load;
pub mod metrics;
mod pick_times;
mod place;
mod scheduler;
pub mod topologies;
mod version;
pub mod wasm;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use siphasher::sip::SipHasher13;

use crate::route::Protocol;

pub use crate::route::notice::PolicyKind;
pub use load::Load;
pub use pick_times::PickTime;
pub use place::{InstanceKey, Seat};
pub use scheduler::{By, Decision, PickRequest, Picking, Scheduler};

/// An id that is unknown to the guest: an endpoint without zone or node.
pub const UNKNOWN: u32 = u32::MAX;

/// One endpoint as a policy sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it is reached, `address:port` as advertised.
    pub address: SocketAddr,
    /// Id of its zone, stable within the process, or [`UNKNOWN`].
    pub zone: u32,
    /// Id of its node, stable within the process, or [`UNKNOWN`].
    pub node: u32,
    /// Default 1.
    pub weight: u32,
    /// SipHash-1-3 with a zero key of `address:port`: the same in every process and on every machine.
    pub identity: u64,
    /// Live figures, shared with the proxy that counts them.
    pub load: Arc<Load>,
}

/// The endpoints that one view may use now. Shared, never empty.
pub type Candidates = Arc<[Candidate]>;

/// One connection (or UDP session) that needs an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Transport.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// The service address that it dialled.
    pub destination: SocketAddr,
    /// Id of the client's zone, or [`UNKNOWN`].
    pub client_zone: u32,
    /// Id of the client's node, or [`UNKNOWN`].
    pub client_node: u32,
}

/// A scheduler, ready to make instances.
pub trait Policy: Send + Sync {
    /// A new instance with no memory. One is made per service port and view, at its first pick. May take seconds: not for
    /// an async task.
    fn instance(&self) -> Result<Box<dyn Picker>, Failure>;
}

/// One scheduler instance. It does one thing at a time.
pub trait Picker: Send {
    /// The endpoints changed. `generation` rises with each change. Called before the first pick. May take 20 ms.
    fn configure(&mut self, generation: u64, candidates: &Candidates) -> Result<(), Failure>;

    /// The index of the chosen candidate; `None` for no opinion (the fallback then picks). Bounded in time.
    fn pick(&mut self, flow: &Flow) -> Result<Option<usize>, Failure>;
}

/// One instance of a topology policy, which says how well endpoints suit the clients at a place. It does one thing at a time.
pub trait Scorer: Send {
    /// The endpoints changed. `generation` rises with each change. Called before the first score. May take 20 ms.
    fn configure(&mut self, generation: u64, candidates: &Candidates) -> Result<(), Failure>;

    /// The score of one candidate for clients in this zone and on this node (ids as in [`Candidate`]); 0 excludes it.
    /// Bounded in time. The candidates with the highest score are used: [`highest`].
    fn score(&mut self, zone: u32, node: u32, index: u32) -> Result<u32, Failure>;
}

/// The indices of the highest of these scores; none if all are 0.
pub fn highest(scores: &[u32]) -> Vec<usize> {
    let most = scores.iter().copied().max().filter(|most| *most > 0);
    (0..scores.len()).filter(|index| Some(scores[*index]) == most).collect()
}

/// A policy did not do its work. The instance is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What sort of failure, for counters.
    pub kind: FailureKind,
    /// What happened, in words.
    pub reason: String,
}

/// The sorts of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// The guest trapped, or a host function refused its question.
    Trap,
    /// It took longer than a call may.
    Deadline,
    /// It asked for more memory than it may have, and could not do without.
    Memory,
    /// It chose an endpoint that there is not.
    Range,
    /// It did not start, for another reason than those.
    Start,
}

impl Failure {
    /// A failure of a sort, with its reason in words.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Trap, Self::Deadline, Self::Memory, Self::Range, Self::Start];

    /// The word for it in metrics and in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Range => "range",
            Self::Start => "start",
        }
    }
}

/// Why a module is not accepted. A policy that was active under its name stays so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);

/// The bits of `flow-hash`.
pub mod flow_hash {
    /// Source address.
    pub const SOURCE_ADDRESS: u32 = 1;
    /// Source port.
    pub const SOURCE_PORT: u32 = 2;
    /// Destination address.
    pub const DESTINATION_ADDRESS: u32 = 4;
    /// Destination port.
    pub const DESTINATION_PORT: u32 = 8;
    /// Protocol.
    pub const PROTOCOL: u32 = 16;
}

impl Flow {
    /// SipHash-1-3 with a zero key over the chosen fields, in the order of their bits. Addresses count as 16 bytes
    /// (IPv4 mapped), ports as 2 bytes big endian, the protocol as its IANA number.
    pub fn hash(&self, fields: u32) -> u64 {
        // Hashing all at once takes half as long as a field at a time.
        let (mut bytes, mut length) = ([0; Self::HASHED_MAX], 0);
        let mut add = |field: u32, part: &[u8]| {
            if fields & field != 0 {
                bytes[length..length + part.len()].copy_from_slice(part);
                length += part.len();
            }
        };
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let protocol = match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        add(flow_hash::SOURCE_ADDRESS, &octets(self.source.ip()));
        add(flow_hash::SOURCE_PORT, &self.source.port().to_be_bytes());
        add(flow_hash::DESTINATION_ADDRESS, &octets(self.destination.ip()));
        add(flow_hash::DESTINATION_PORT, &self.destination.port().to_be_bytes());
        add(flow_hash::PROTOCOL, &[protocol]);
        SipHasher13::new().hash(&bytes[..length])
    }

    /// Two addresses, two ports, a protocol.
    const HASHED_MAX: usize = 2 * 16 + 2 * 2 + 1;
}

/// The `identity` of an endpoint.
pub fn identity(address: SocketAddr) -> u64 {
    SipHasher13::new().hash(address.to_string().as_bytes())
}
