//! [`Entrance`]: a listener whose connections have a place and a file descriptor.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    admission::{Admission, Bounds, Place},
    descriptors::{Budget, Held, Purpose},
};

/// A listener, and what it shares with others of the same purpose.
pub struct Entrance {
    listener: TcpListener,
    places: Places,
}

/// Where the connections of some listeners get their places and descriptors.
#[derive(Clone)]
pub struct Places {
    admission: Arc<Admission>,
    descriptors: Budget,
    purpose: Purpose,
}

/// A connection that was let in.
pub struct Admitted {
    /// The connection.
    pub stream: TcpStream,
    /// Its other end.
    pub client: SocketAddr,
    /// To be closed when this is lost.
    pub place: Arc<Place>,
    /// To be dropped after the connection.
    pub descriptor: Held,
}

impl Places {
    /// Room for as many connections as the purpose has descriptors of its own, but at most `total`. A source outside
    /// this machine may have one in `source_fraction` of them.
    pub fn new(
        descriptors: Budget,
        purpose: Purpose,
        total: usize,
        source_fraction: usize,
    ) -> Self {
        let total = descriptors.own(purpose).clamp(1, total);
        let bounds = Bounds { total, per_source: (total / source_fraction).max(1) };
        Self { admission: Admission::new(bounds), descriptors, purpose }
    }

    /// One way in.
    pub fn entrance(&self, listener: TcpListener) -> Entrance {
        Entrance { listener, places: self.clone() }
    }
}

impl Entrance {
    /// The next connection of a source that may come in; those of others are closed.
    pub async fn next(&self, may_come: impl Fn(IpAddr) -> bool) -> Admitted {
        let Places { admission, descriptors, purpose } = &self.places;
        loop {
            let (stream, client) = descriptors.accept(&self.listener).await;
            if !may_come(client.ip()) {
                continue;
            }
            let Some(place) = admission.admit(client.ip()) else {
                tracing::warn!(?purpose, "a connection was closed: all others are in use");
                continue;
            };
            // Who has lost its place gives its descriptor back at once.
            let descriptor = descriptors.wait(*purpose).await;
            return Admitted { stream, client, place, descriptor };
        }
    }
}
