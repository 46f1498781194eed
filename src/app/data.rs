//! [`DataRuntime`]: threads of their own for the data half, so that neither half waits for the other: the proxy, DNS and
//! the sockets of simulated pods run on it; the API, the registry, controllers and the dashboard on the runtime of
//! `main`.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::runtime::{ContainerHandle, PodEvent, PodRuntime, PodSpec};

/// Less than any time that a connection waits for something. Tokio wakes the thread that waits for sockets whenever a timer
/// is set that is due before all others; one that is always due earlier spares most connections that.
const TICK: Duration = Duration::from_secs(4);

/// The runtime of the data half. Dropped, it ends at once.
pub struct DataRuntime(Option<Runtime>);

/// A pod runtime whose sockets and tasks are on another runtime than its callers.
pub(crate) struct Elsewhere {
    pub(crate) pods: Arc<dyn PodRuntime>,
    pub(crate) runtime: Handle,
}

impl DataRuntime {
    /// Starts its threads.
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
            // Waiting is not for async code, and there is nothing to wait for: its parts were stopped before.
            runtime.shutdown_background();
        }
    }
}

impl Elsewhere {
    async fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Err(error) = self.runtime.spawn(task).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[async_trait]
impl PodRuntime for Elsewhere {
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
