//! Connections to pods. Their number is limited per pod and by the file descriptors of the process. If there is no
//! room for a new connection, the one without progress for the longest time is closed, so that silent clients cannot
//! keep others out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::{
    admission::{Admission, Bounds, Place},
    descriptors::{Budget, Held, Purpose},
};

/// A silent connection is closed after this time.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// The limit per pod. There is no limit per source, because nearly all clients have addresses of this machine.
const POD: Bounds = Bounds { total: 1024, per_source: usize::MAX };
/// How long a new connection waits for the descriptor of a connection that is being closed.
const ROOM_MAX: Duration = Duration::from_secs(1);

/// The connections of all pods.
#[derive(Clone)]
pub(super) struct PodConnections(Arc<Shared>);

struct Shared {
    begun: Instant,
    pods: Mutex<Pods>,
    descriptors: Budget,
}

#[derive(Default)]
struct Pods {
    next: u64,
    by_id: BTreeMap<u64, Arc<Admission>>,
}

/// The connections of one pod.
pub(super) struct Connections {
    id: u64,
    own: Arc<Admission>,
    connections: PodConnections,
}

impl PodConnections {
    pub(super) fn new(descriptors: Budget) -> Self {
        Self(Arc::new(Shared { begun: Instant::now(), pods: Mutex::default(), descriptors }))
    }

    /// The connections of a new pod.
    pub(super) fn of_pod(&self) -> Connections {
        let own = Admission::since(self.0.begun, POD);
        let mut pods = self.0.pods.lock();
        let id = pods.next;
        pods.next += 1;
        pods.by_id.insert(id, Arc::clone(&own));
        Connections { id, own, connections: self.clone() }
    }
}

impl Connections {
    /// A place for a new connection; `None` if all places are used and none of those connections is idle.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Arc<Place>> {
        self.own.admit(source)
    }

    /// A descriptor for a connection. If none is free, another connection must give up its own. `None` if there is no
    /// such connection.
    pub(super) async fn descriptor(&self) -> Option<Held> {
        let Shared { pods, descriptors, .. } = &*self.connections.0;
        let free = descriptors.take(Purpose::PodConnection, 1);
        if free.is_some() || !Admission::make_room(pods.lock().by_id.values()) {
            return free;
        }
        timeout(ROOM_MAX, descriptors.wait(Purpose::PodConnection)).await.ok()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.connections.0.pods.lock().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn lost(connection: &Place) -> bool {
        connection.lost().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_of_a_pod_keep_nobody_out() {
        let connections = PodConnections::new(Budget::new(1 << 20));
        let pod = connections.of_pod();
        let silent: Vec<_> = (0..POD.total).map(|_| pod.admit(HERE).unwrap()).collect();
        silent[0].progress();
        let other = connections.of_pod().admit(HERE).unwrap();
        tokio::time::advance(ROOM_MAX).await;
        let newcomer = pod.admit(HERE).unwrap();
        assert_eq!(silent.iter().filter(|connection| lost(connection)).count(), 1);
        assert!(lost(&silent[1]) && !lost(&other) && !lost(&newcomer));
        let works: Vec<_> = silent.iter().chain([&newcomer]).map(Place::work).collect();
        assert!(pod.admit(HERE).is_none(), "something is done for all of them");
        drop(works);
        assert!(pod.admit(HERE).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_of_some_pods_keep_nobody_from_others() {
        let budget = Budget::new(1024);
        let connections = PodConnections::new(budget.clone());
        let (many, few) = (connections.of_pod(), connections.of_pod());
        let mut silent = Vec::new();
        for _ in 0..budget.most(Purpose::PodConnection) {
            silent.push((many.admit(HERE).unwrap(), many.descriptor().await.unwrap()));
        }
        tokio::time::advance(ROOM_MAX).await;
        let newcomer = few.admit(HERE).unwrap();
        let waits = few.descriptor();
        let leaves = async {
            // As the owner of the place does.
            silent[0].0.lost().await;
            drop(silent.remove(0));
        };
        let (descriptor, ()) = tokio::join!(waits, leaves);
        assert!(descriptor.is_some() && !lost(&newcomer));
    }
}
