//! Simulated pods: real servers at the address of the pod, without a process or a container.
//!
//! Each port of a pod is a task with a real socket. A TCP port speaks HTTP/1.1 and HTTP/2 if the first bytes look
//! like it, and otherwise echoes (`http`, `tcp`). A UDP port echoes with the name of the pod in front (`udp`). A pod
//! is ready when all its ports are bound. A container whose command can be followed does what the command says
//! (`script`, `container`). Enter at [`Simulated`]. `pod` holds the state of a pod; `startup`, `restart` and
//! `shutdown` start and stop its parts.

mod connections;
mod container;
mod http;
mod pod;
mod pod_events;
mod port;
mod restart;
mod script;
mod shell;
mod shutdown;
mod startup;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    descriptors::Budget,
    runtime::{
        ContainerHandle, Log, PodEvent, PodRuntime, PodSpec,
        simulated::{connections::PodConnections, pod::Pod, pod_events::PodEvents},
    },
};

/// The runtime.
pub struct Simulated {
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    events: Arc<PodEvents>,
    descriptors: Budget,
    all_connections: PodConnections,
    token: CancellationToken,
}

/// A handle on one container.
struct Handle {
    pod: Arc<Pod>,
    container: String,
}

impl Simulated {
    /// A runtime without pods. Cancelling the token stops every pod at once.
    pub fn new(descriptors: Budget, token: CancellationToken) -> Self {
        let all_connections = PodConnections::new(descriptors.clone());
        Self { pods: Mutex::default(), events: Arc::default(), descriptors, all_connections, token }
    }

    /// Stops all pods.
    pub async fn shutdown(&self, grace: Duration) {
        let uids: Vec<String> = self.pods.lock().keys().cloned().collect();
        futures::future::join_all(uids.iter().map(|uid| self.stop(uid, grace))).await;
    }

    fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().get(uid).cloned()
    }
}

#[async_trait]
impl PodRuntime for Simulated {
    async fn ensure(&self, spec: PodSpec) {
        let uid = spec.uid.clone();
        let new = || {
            let (events, descriptors) = (Arc::clone(&self.events), self.descriptors.clone());
            let connections = self.all_connections.of_pod();
            Arc::new(Pod::new(spec.clone(), events, descriptors, connections, &self.token))
        };
        let pod = Arc::clone(self.pods.lock().entry(uid).or_insert_with(new));
        pod.become_as(spec).await;
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let Some(pod) = self.pod(uid) else { return };
        pod.stop(grace).await;
        let mut pods = self.pods.lock();
        if pods.get(uid).is_some_and(|known| Arc::ptr_eq(known, &pod)) {
            pods.remove(uid);
        }
    }

    fn events(&self) -> BoxStream<'static, PodEvent> {
        let next = |events: Arc<PodEvents>| async move { Some((events.next().await, events)) };
        stream::unfold(Arc::clone(&self.events), next).boxed()
    }

    fn container(&self, uid: &str, name: &str) -> Option<Arc<dyn ContainerHandle>> {
        let pod = self.pod(uid)?;
        let is_known = pod.spec().containers.iter().any(|container| container.name == name);
        is_known.then(|| Arc::new(Handle { pod, container: name.to_owned() }) as _)
    }
}

impl ContainerHandle for Handle {
    fn log(&self, after: u64) -> Log {
        self.pod.log(&self.container, after)
    }
}
