//! [`DataRuntime`]: a Tokio runtime with its own threads for the data half, so that neither half waits for the other.
//! The proxy, DNS and the sockets of simulated pods run on it. The API, the registry, the controllers and the
//! dashboard run on the runtime of `main`.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::runtime::{ContainerHandle, PodEvent, PodRuntime, PodSpec};

/// A shorter time than any timeout of a connection. Whenever a timer is set that is due before all others, Tokio
/// wakes the thread that waits for sockets. A timer that is always due earlier avoids this for most connections.
const TICK: Duration = Duration::from_secs(4);

/// The Tokio runtime of the data half. When it is dropped, its tasks end at once.
pub struct DataRuntime(Option<Runtime>);

/// A pod runtime whose sockets and tasks run on another Tokio runtime than its callers.
pub(crate) struct SpawnedPods {
    pub(crate) pods: Arc<dyn PodRuntime>,
    pub(crate) runtime: Handle,
}

impl DataRuntime {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("data").enable_all().build()?;
        runtime.spawn(async {
            loop {
                tokio::time::sleep(TICK).await;
            }
        });
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is there until dropped").handle()
    }
}

impl Drop for DataRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Async code may not wait for threads. There is nothing to wait for, because all tasks were stopped
            // before.
            runtime.shutdown_background();
        }
    }
}

impl SpawnedPods {
    async fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Err(error) = self.runtime.spawn(task).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[async_trait]
impl PodRuntime for SpawnedPods {
    async fn ensure(&self, pod: PodSpec) {
        let pods = Arc::clone(&self.pods);
        self.run(async move { pods.ensure(pod).await }).await;
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let (pods, uid) = (Arc::clone(&self.pods), uid.to_owned());
        self.run(async move { pods.stop(&uid, grace).await }).await;
    }

    fn events(&self) -> BoxStream<'static, PodEvent> {
        self.pods.events()
    }

    fn container(&self, uid: &str, name: &str) -> Option<Arc<dyn ContainerHandle>> {
        self.pods.container(uid, name)
    }
}
