//! Writes of tasks that are no controllers. Nothing else would repeat them, so they are repeated here until they are stored.

use std::{fmt::Display, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio::time::sleep;

use crate::model::Status;

const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause. A user who has brought the store back should not wait longer.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Repeats a write, with back-off, until it succeeds or is refused for good. It is repeated when the store is away or full,
/// when another writer was faster, and after a panic (a bug, which is logged with `what`). Each attempt must read the object
/// again, because it may have changed meanwhile.
///
/// # Errors
///
/// What the registry says about this object and this change, not about the state of the store.
pub async fn until_written<T, F: Future<Output = Result<T, Status>>>(
    what: &(impl Display + Sync),
    mut attempt: impl FnMut() -> F,
) -> Result<T, Status> {
    let (mut pause, mut told) = (PAUSE_MIN, false);
    loop {
        match AssertUnwindSafe(attempt()).catch_unwind().await {
            Ok(Err(status)) if status.is_unavailable() => {
                tracing::debug!(%what, %status, "a write must wait for the store");
            }
            Ok(Err(status)) if matches!(status.code, 409 | 500) => {
                if !told {
                    tracing::warn!(%what, %status, "a write fails and is tried again");
                }
                told = true;
            }
            Ok(outcome) => return outcome,
            Err(_panic) => tracing::error!(%what, "a write panicked; this is a bug"),
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_is_tried_until_it_is_carried_out_or_refused() {
        let unavailable = || Status::unavailable("away");
        let timeout = || Status::timeout("perhaps");
        let full = || Status::insufficient_storage("full".to_owned());
        let internal = || Status::internal("what".to_owned());
        let refused = Status::bad_request("no");
        let (mut calls, began) = (0, Instant::now());
        let written = until_written(&"a pod", || {
            calls += 1;
            let call = calls;
            async move {
                match call {
                    1 => Err(unavailable()),
                    2 => Err(timeout()),
                    3 => Err(full()),
                    4 => Err(internal()),
                    5 => panic!("as told"),
                    10 => Ok(call),
                    _ => Err(unavailable()),
                }
            }
        });
        assert_eq!(written.await, Ok(10));
        assert!(began.elapsed() < PAUSE_MAX * 5, "{:?}", began.elapsed());
        let written: Result<(), _> = until_written(&"a pod", || ready(Err(refused.clone()))).await;
        assert_eq!(written, Err(refused));
    }
}
