//! Simulated pods: real servers on the pod's own address, without a process or a container behind them.
//!
//! Each port of a pod is one task with a real socket. TCP speaks HTTP/1.1 and HTTP/2 when the first bytes look like
//! it and echoes otherwise (`http`, `tcp`); UDP echoes with the pod's name in front (`udp`). A pod is ready when its
//! listeners are. Containers whose command can be followed do what it says (`script`, `container`). Enter at [`Simulated`];
//! `pod` holds the state of one, `startup`, `restart` and `shutdown`
//! begin and end what belongs to it.

mod connections;
mod container;
mod http;
mod news;
mod pod;
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
        simulated::{connections::Crowd, news::News, pod::Pod},
    },
};

/// The runtime.
pub struct Simulated {
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    news: Arc<News>,
    descriptors: Budget,
    crowd: Crowd,
    token: CancellationToken,
}

/// One of its containers.
struct Handle {
    pod: Arc<Pod>,
    container: String,
}

impl Simulated {
    /// A runtime without pods. Cancelling the token ends every pod at once.
    pub fn new(descriptors: Budget, token: CancellationToken) -> Self {
        let crowd = Crowd::new(descriptors.clone());
        Self { pods: Mutex::default(), news: Arc::default(), descriptors, crowd, token }
    }

    /// Ends all pods.
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
            let (news, descriptors) = (Arc::clone(&self.news), self.descriptors.clone());
            let connections = self.crowd.of_pod();
            Arc::new(Pod::new(spec.clone(), news, descriptors, connections, &self.token))
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
        let next = |news: Arc<News>| async move { Some((news.next().await, news)) };
        stream::unfold(Arc::clone(&self.news), next).boxed()
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
