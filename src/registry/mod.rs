//! The registry: Kubernetes objects over the store. One write path (defaults, validation, compare-and-swap),
//! one cache (fed only by `Store::watch`), subscriptions for watches.
//!
//! Enter at [`Registry`]: the API server, the node and the controllers call it, nothing else writes objects.
//! It knows kinds and their rules; it must never know HTTP, routing, DNS or a socket.

mod alloc;
mod cache;
mod decode;
mod delete;
mod kinds;
mod label_index;
mod past;
mod preconditions;
mod printing;
mod record;
mod retry;
mod seed;
mod strategy;
#[cfg(test)]
mod testing;
mod unreadable;
mod view;
mod watch;
mod write;

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Kind, Object, ObjectKey, Status, kind},
    store::{self, Store},
};

pub(crate) use cache::Watched;
pub use cache::{Event, EventKind};
pub use decode::FieldValidation;
pub use delete::{DeleteOptions, Propagation};
pub(crate) use kinds::by_preference;
pub(crate) use kinds::scale::{ScalePaths, names as field_names};
pub use kinds::{Descriptor, Kinds};
pub use past::History;
pub use preconditions::Preconditions;
pub(crate) use printing::{Column, SCALE, scale_cells};
pub use record::Note;
pub use retry::until_written;
pub(crate) use strategy::{
    CLAIM_PROTECTION, CLASS_ANNOTATION, DEFAULT_CLASS, TEMPLATE_GENERATION, VOLUME_PROTECTION,
    default_class, validate_label_value, validate_qualified_name,
};
pub use unreadable::Unreadable;
pub use view::View;
pub use watch::Subscription;
pub use write::{Subresource, WriteOptions, Written};
pub(crate) use write::{check_identity, decode_subresource};

/// What the registry must know about the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Service address ranges, first family first.
    pub service_cidrs: Vec<IpNet>,
    /// Range of `status.loadBalancer.ingress` addresses.
    pub load_balancer_cidr: IpNet,
    /// Range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Whether 127/8 may stand in Endpoints and EndpointSlices (the loopback data plane).
    pub loopback_endpoints: bool,
}

impl Options {
    /// The n-th address of the first service range: 1 is the API's, 10 is the DNS server's.
    pub fn service_address(&self, n: u32) -> Option<IpAddr> {
        alloc::nth_address(*self.service_cidrs.first()?, n)
    }
}

/// Reads and writes of Kubernetes objects.
pub struct Registry {
    store: Arc<dyn Store>,
    cache: Arc<cache::Cache>,
    options: Options,
    /// Tells the time of a write; [`Timestamp::now`] but for tests.
    clock: fn() -> Timestamp,
    /// The revision that the data half has taken over, see [`Registry::set_routed`].
    routed: channel::Sender<u64>,
    recorder: record::Recorder,
}

/// The kinds that routing depends on.
pub static ROUTED: &[&Kind] =
    &[&kind::NAMESPACE, &kind::NODE, &kind::POD, &kind::SERVICE, &kind::ENDPOINT_SLICE];

/// How long a write waits until the data half has its revision (conventions, section 3).
const ROUTED_WAIT: Duration = Duration::from_millis(50);

impl Registry {
    /// Reads the store. [`Registry::run`] must then be driven for reads and writes to make progress.
    pub async fn open(store: Arc<dyn Store>, options: Options) -> Result<Self, store::Error> {
        let cache = Arc::new(cache::Cache::load(store.as_ref()).await?);
        let (routed, recorder) = (channel::Sender::new(u64::MAX), record::Recorder::default());
        Ok(Self { store, cache, options, clock: Timestamp::now, routed, recorder })
    }

    /// Keeps the cache current, and records the Events that the store did not take at once, until cancelled. An error
    /// means that the store is lost.
    pub async fn run(&self, token: CancellationToken) -> Result<(), store::Error> {
        tokio::select! {
            followed = self.cache.follow(self.store.as_ref(), &token) => followed,
            never = self.record_put_off() => match never {},
        }
    }

    /// What the registry was told about the cluster.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Everything, as it is now.
    pub fn view(&self) -> View {
        self.cache.view()
    }

    /// The kinds that are served now.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.cache.kinds()
    }

    /// One object, in the form of the key's kind.
    pub fn get(&self, key: &ObjectKey) -> Result<Arc<Object>, Status> {
        let view = self.view();
        let object = view.get(key).ok_or_else(|| view.missing(key))?;
        Ok(view.kinds().show(object, &key.kind))
    }

    /// Why nothing can be written until a restart, for people; `None` as long as that is not so.
    pub fn stopped(&self) -> channel::Receiver<Option<store::Error>> {
        self.store.stopped()
    }

    /// Lets another process have the store, as the last thing of all.
    pub async fn release(&self) {
        self.store.release().await;
    }

    /// The changes of some kinds after a revision.
    pub fn subscribe(&self, kinds: &[&Kind], after: u64) -> Subscription {
        let kinds = kinds.iter().map(|kind| kind.stored().clone()).collect();
        Subscription::new(self.cache.clone(), Watched::These(kinds), after)
    }

    /// The changes of all kinds after a revision, also of those that come later.
    pub fn subscribe_to_all(&self, after: u64) -> Subscription {
        Subscription::new(self.cache.clone(), Watched::All, after)
    }

    /// The newest revision in the cache, as it changes.
    pub fn revisions(&self) -> channel::Receiver<u64> {
        self.cache.revisions()
    }

    /// Tells that proxy and DNS work with a table of this revision.
    pub fn set_routed(&self, revision: u64) {
        self.routed.send_replace(revision);
    }

    /// Waits until proxy and DNS have taken over what the cache has of the routed kinds, so that nobody reads about an
    /// endpoint before traffic knows of it. Gives up after 50 ms.
    pub async fn wait_settled(&self) {
        self.wait_routed(&kind::SERVICE, self.cache.newest(ROUTED)).await;
    }

    /// Waits until proxy and DNS have taken over a write of a routed kind, so that the very next query or connection
    /// is right. Gives up after 50 ms and tells whether it came in time.
    pub async fn wait_routed(&self, kind: &Kind, revision: u64) -> bool {
        if !ROUTED.contains(&kind) {
            return true;
        }
        let mut routed = self.routed.subscribe();
        tokio::time::timeout(ROUTED_WAIT, routed.wait_for(|now| *now >= revision)).await.is_ok()
    }
}
