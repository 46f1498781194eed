//! [`Tasks`]: the long-lived tasks of a cluster, in stages. The stages stop in the reverse order of their start. If a
//! task ends by itself, the process ends with an error that names the task.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, task::Poll, time::Duration};

use futures::FutureExt;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How long a stage may take to stop before the next stage is stopped.
const STOP_MAX: Duration = Duration::from_secs(5);

/// All long-lived tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    stages: Vec<Stage>,
}

struct Stage {
    token: CancellationToken,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    /// Begins a stage. Tasks that are spawned from now on stop before all earlier ones.
    pub(crate) fn begin_stage(&mut self) {
        self.stages.push(Stage { token: CancellationToken::new(), tasks: JoinSet::new() });
    }

    /// Spawns a task of the current stage. The task must end soon after its token is cancelled.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, task);
    }

    /// Spawns a task on another Tokio runtime.
    pub(crate) fn spawn_on<F>(
        &mut self,
        runtime: &Handle,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stage = self.stages.last_mut().expect("a stage was begun");
        let task = AssertUnwindSafe(task(stage.token.clone()));
        let named = async move {
            (name, task.catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic))))
        };
        stage.tasks.spawn_on(named, runtime);
    }

    /// The token of the current stage.
    pub(crate) fn token(&self) -> CancellationToken {
        self.stages.last().expect("a stage was begun").token.clone()
    }

    /// Waits until any task ends, which is always an error. Returns that error.
    pub(crate) async fn ended_early(&mut self) -> anyhow::Error {
        let ended = std::future::poll_fn(|context| {
            for stage in &mut self.stages {
                if let Poll::Ready(Some(ended)) = stage.tasks.poll_join_next(context) {
                    return Poll::Ready(ended);
                }
            }
            Poll::Pending
        });
        reason(ended.await)
    }

    /// Stops all stages, the last one first.
    pub(crate) async fn stop(&mut self) {
        for mut stage in self.stages.drain(..).rev() {
            stage.token.cancel();
            let all = async {
                while let Some(ended) = stage.tasks.join_next().await {
                    if !matches!(ended, Ok((_, Ok(())))) {
                        tracing::warn!(reason = %reason(ended), "a task did not stop cleanly");
                    }
                }
            };
            if tokio::time::timeout(STOP_MAX, all).await.is_err() {
                tracing::warn!("the tasks of a stage did not stop in time and were aborted");
            }
        }
    }
}

fn reason(ended: Result<(&'static str, anyhow::Result<()>), JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow::anyhow!("{name} ended although nobody stopped it"),
        Ok((name, Err(error))) => error.context(format!("{name} failed")),
        Err(aborted) => anyhow::Error::from(aborted).context("a part of the cluster was ended"),
    }
}

/// The error for a task that panicked. The message of the panic and its place are in the log already.
fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow::anyhow!("it panicked ({}); this is a bug", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_early_is_named() {
        type Case<'a> = (&'static str, fn() -> anyhow::Result<()>, &'a str);
        let cases: [Case<'_>; 4] = [
            ("routes", || panic!("of {}", 5), "it panicked (of 5); this is a bug"),
            ("nodes", || panic!("plain"), "it panicked (plain); this is a bug"),
            ("dns", || anyhow::bail!("the socket is gone"), "the socket is gone"),
            ("api", || Ok(()), "api ended although nobody stopped it"),
        ];
        for (name, end, cause) in cases {
            let mut tasks = Tasks::default();
            tasks.begin_stage();
            tasks.spawn("store", |token| async move {
                token.cancelled().await;
                Ok(())
            });
            tasks.begin_stage();
            tasks.spawn(name, |_| async move { end() });
            let error = format!("{:#}", tasks.ended_early().await);
            assert!(error.contains(name) && error.ends_with(cause), "{error}");
            tasks.stop().await;
        }
    }
}
