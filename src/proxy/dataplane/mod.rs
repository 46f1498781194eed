//! How traffic to service addresses reaches this process: [`DataPlane`] is the seam, [`loopback`] the plane that needs
//! no privilege.
//!
//! A plane owns the listeners and keeps them in step with the table; whatever arrives it hands over as [`Incoming`].
//! It knows addresses and which service port they belong to; it must never pick an endpoint.

mod listener;
pub mod loopback;
mod sockets;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    descriptors::Budget,
    route::{FrontendKind, RouteName, RouteTable, notice},
};

/// Brings in traffic for the frontends of the table.
#[async_trait]
pub trait DataPlane: Send + Sync + 'static {
    /// Follows the table until cancelled, then closes everything that it listens on and returns. What it has handed
    /// over lives on.
    async fn run(&self, context: Context);
}

/// What a plane needs to run.
pub struct Context {
    /// What to listen on.
    pub table: watch::Receiver<Arc<RouteTable>>,
    /// Takes over the traffic.
    pub deliver: Deliver,
    /// The revision of the table whose listeners are in place: each frontend with an endpoint has one (or its failure was
    /// reported), and no other frontend has one.
    pub served: watch::Sender<u64>,
    /// Gets a notice when a frontend cannot be bound.
    pub notices: notice::Sender,
    /// The file descriptors for listeners.
    pub descriptors: Budget,
    /// Ends the plane.
    pub token: CancellationToken,
}

/// Takes over what arrives. Called on the runtime, for every connection and datagram; it does not block.
pub type Deliver = Arc<dyn Fn(Incoming<'_>) + Send + Sync>;

/// A connection or a datagram for a service.
pub struct Incoming<'a> {
    /// What arrived.
    pub connection: Connection<'a>,
    /// The client.
    pub source: SocketAddr,
    /// The service address that it dialled.
    pub destination: SocketAddr,
    /// Whose address that is.
    pub route: &'a RouteName,
    /// What kind of address.
    pub frontend: FrontendKind,
}

/// The transport of what arrived.
pub enum Connection<'a> {
    /// An accepted connection.
    Tcp(TcpStream),
    /// One datagram, and the socket that answers from the address that the client dialled.
    Udp {
        /// Bound to the destination. Only the plane keeps it: the port must be free when the plane lets it go.
        socket: &'a Arc<UdpSocket>,
        /// What the client sent.
        payload: &'a [u8],
    },
}
