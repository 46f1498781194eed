//! Connections to pods: bounded for each pod and in all. When there is no room, the connection without progress for
//! longest makes some, so that silent clients keep nobody out.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    admission::{Admission, Bounds, Place, Work},
    descriptors::{Budget, Held, Purpose},
};

/// Connections that one pod serves at a time.
const POD_MAX: usize = 1024;
/// How long a newcomer waits for the descriptor of one that made room.
const ROOM_MAX: Duration = Duration::from_secs(1);

/// The bound of all pods, shared by them.
#[derive(Clone)]
pub(super) struct Crowd {
    all: Arc<Admission>,
    descriptors: Budget,
}

/// The connections of one pod.
pub(super) struct Connections {
    own: Arc<Admission>,
    crowd: Crowd,
}

/// One connection, to be closed once it is lost.
#[derive(Clone)]
pub(super) struct Connection {
    own: Arc<Place>,
    of_all: Arc<Place>,
}

impl Crowd {
    pub(super) fn new(descriptors: Budget) -> Self {
        let all = Admission::new(bounds(descriptors.most(Purpose::PodConnection)));
        Self { all, descriptors }
    }

    /// Those of a new pod.
    pub(super) fn of_pod(&self) -> Connections {
        Connections { own: Admission::new(bounds(POD_MAX)), crowd: self.clone() }
    }
}

impl Connections {
    /// A place for a new connection; `None` while something is done for all the others.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Connection> {
        let own = self.own.admit(source)?;
        let of_all = self.crowd.all.admit(source)?;
        Some(Connection { own, of_all })
    }

    /// The descriptor of a connection, if need be one that another gives up; `None` if none does.
    pub(super) async fn descriptor(&self) -> Option<Held> {
        let Crowd { all, descriptors } = &self.crowd;
        let free = descriptors.take(Purpose::PodConnection, 1);
        if free.is_some() || !all.make_room() {
            return free;
        }
        timeout(ROOM_MAX, descriptors.wait(Purpose::PodConnection)).await.ok()
    }
}

impl Connection {
    /// Something came from the client, now.
    pub(super) fn progress(&self) {
        self.own.progress();
        self.of_all.progress();
    }

    /// Begins to do something for the client.
    pub(super) fn work(&self) -> [Work; 2] {
        [self.own.work(), self.of_all.work()]
    }

    /// Waits until another has its place.
    pub(super) async fn lost(&self) {
        tokio::select! {
            () = self.own.lost() => {}
            () = self.of_all.lost() => {}
        }
    }
}

/// Nearly every client of a pod has an address of this machine, so that sources tell nothing.
fn bounds(total: usize) -> Bounds {
    Bounds { total: total.max(1), per_source: usize::MAX }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn lost(connection: &Connection) -> bool {
        connection.lost().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_of_a_pod_keep_nobody_out() {
        let crowd = Crowd::new(Budget::new(1 << 20));
        let pod = crowd.of_pod();
        let silent: Vec<_> = (0..POD_MAX).map(|_| pod.admit(HERE).unwrap()).collect();
        silent[0].progress();
        let other = crowd.of_pod().admit(HERE).unwrap();
        tokio::time::advance(ROOM_MAX).await;
        let newcomer = pod.admit(HERE).unwrap();
        assert_eq!(silent.iter().filter(|connection| lost(connection)).count(), 1);
        assert!(lost(&silent[1]) && !lost(&other) && !lost(&newcomer));
        let works: Vec<_> = silent.iter().chain([&newcomer]).map(Connection::work).collect();
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
