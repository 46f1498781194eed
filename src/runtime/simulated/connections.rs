//! Connections to pods: bounded for each pod, and by the descriptors that there are. When there is no room, the connection
//! without progress for longest makes some, so that silent clients keep nobody out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::{
    admission::{Admission, Bounds, Place},
    descriptors::{Budget, Held, Purpose},
};

/// A silent connection is closed after this time.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// Nearly every client of a pod has an address of this machine, so that sources tell nothing.
const POD: Bounds = Bounds { total: 1024, per_source: usize::MAX };
/// How long a newcomer waits for the descriptor of one that made room.
const ROOM_MAX: Duration = Duration::from_secs(1);

/// The connections of all pods.
#[derive(Clone)]
pub(super) struct Crowd(Arc<Shared>);

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
    crowd: Crowd,
}

impl Crowd {
    pub(super) fn new(descriptors: Budget) -> Self {
        Self(Arc::new(Shared { begun: Instant::now(), pods: Mutex::default(), descriptors }))
    }

    /// Those of a new pod.
    pub(super) fn of_pod(&self) -> Connections {
        let own = Admission::since(self.0.begun, POD);
        let mut pods = self.0.pods.lock();
        let id = pods.next;
        pods.next += 1;
        pods.by_id.insert(id, Arc::clone(&own));
        Connections { id, own, crowd: self.clone() }
    }
}

impl Connections {
    /// A place for a new connection; `None` while something is done for all the others.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Arc<Place>> {
        self.own.admit(source)
    }

    /// The descriptor of a connection, if need be one that another gives up; `None` if none does.
    pub(super) async fn descriptor(&self) -> Option<Held> {
        let Shared { pods, descriptors, .. } = &*self.crowd.0;
        let free = descriptors.take(Purpose::PodConnection, 1);
        if free.is_some() || !Admission::make_room(pods.lock().by_id.values()) {
            return free;
        }
        timeout(ROOM_MAX, descriptors.wait(Purpose::PodConnection)).await.ok()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.crowd.0.pods.lock().by_id.remove(&self.id);
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
        let crowd = Crowd::new(Budget::new(1 << 20));
        let pod = crowd.of_pod();
        let silent: Vec<_> = (0..POD.total).map(|_| pod.admit(HERE).unwrap()).collect();
        silent[0].progress();
        let other = crowd.of_pod().admit(HERE).unwrap();
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
        let crowd = Crowd::new(budget.clone());
        let (many, few) = (crowd.of_pod(), crowd.of_pod());
        let mut silent = Vec::new();
        for _ in 0..budget.most(Purpose::PodConnection) {
            silent.push((many.admit(HERE).unwrap(), many.descriptor().await.unwrap()));
        }
        tokio::time::advance(ROOM_MAX).await;
        let newcomer = few.admit(HERE).unwrap();
        let waits = few.descriptor();
        let leaves = async {
            // As the owner does.
            silent[0].0.lost().await;
            drop(silent.remove(0));
        };
        let (descriptor, ()) = tokio::join!(waits, leaves);
        assert!(descriptor.is_some() && !lost(&newcomer));
    }
}
