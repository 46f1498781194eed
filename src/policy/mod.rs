//! Schedulers: which endpoint gets a connection. Every built-in one is a WASM module like the user's own; the only
//! native one is the [`fallback`].
//!
//! Enter at [`Scheduler`], which the proxy asks, or at [`Policy`] and [`Picker`], of which a policy consists;
//! [`library::Library`] maps names to policies, reloads them under traffic and owns the instances. The specification of the guest's side is `policies/policy.wit`. Nothing here knows
//! Kubernetes or a socket.

pub mod fallback;
mod health;
mod instance;
pub mod library;
mod place;
mod scheduler;
mod version;
pub mod wasm;

use std::{
    hash::Hasher,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
};

use siphasher::sip::SipHasher13;

use crate::route::Protocol;

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

/// Live figures of one endpoint in one view. The host counts; guests only read.
#[derive(Debug, Default)]
pub struct Load {
    /// Connections open now.
    pub active: AtomicU32,
    /// Consecutive failed connects.
    pub failures: AtomicU32,
    /// First bytes sent up to first byte back, peak-sensitive EWMA, microseconds; 0 = none yet.
    pub latency: AtomicU64,
    /// Connections ever given to it, for people.
    pub picks: AtomicU64,
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

/// A policy did not do its work: a trap, too long, an index out of range. The instance is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

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
        let mut hasher = SipHasher13::new();
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        if fields & flow_hash::SOURCE_ADDRESS != 0 {
            hasher.write(&octets(self.source.ip()));
        }
        if fields & flow_hash::SOURCE_PORT != 0 {
            hasher.write(&self.source.port().to_be_bytes());
        }
        if fields & flow_hash::DESTINATION_ADDRESS != 0 {
            hasher.write(&octets(self.destination.ip()));
        }
        if fields & flow_hash::DESTINATION_PORT != 0 {
            hasher.write(&self.destination.port().to_be_bytes());
        }
        if fields & flow_hash::PROTOCOL != 0 {
            hasher.write(&[match self.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
                Protocol::Sctp => 132,
            }]);
        }
        hasher.finish()
    }
}

/// The `identity` of an endpoint.
pub fn identity(address: SocketAddr) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(address.to_string().as_bytes());
    hasher.finish()
}
