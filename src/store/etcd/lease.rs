//! Keeps the ownership: renews the lease, takes it again after it has expired, and releases it at the end.

use std::{sync::Arc, time::Duration};

use tokio::{select, time::sleep};

use crate::store::{
    Error,
    etcd::{
        core::Core,
        explain::{self, AccessError},
        owner::{self, Term},
    },
};

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_millis(1500);

/// Takes the ownership again after the term `lost` has ended. Does nothing if another call has done so already.
pub(super) async fn regain(core: &Core, lost: Term) -> Result<(), Error> {
    let _turn = core.ownership.taking.lock().await;
    if core.ownership.term()? != lost {
        return Ok(());
    }
    let failed = |failure| explain::reading(&core.options, failure);
    let connection = core.connection().map_err(failed)?;
    let owned = async {
        let term = owner::own(&core.ownership, &connection, false).await?;
        core.read_epochs(&connection).await?;
        Ok(term)
    };
    let term = owned.await.map_err(|error: AccessError| error.error(&core.options))?;
    core.ownership.begin(term);
    tracing::warn!(store = %core.options, "the lease on the store had expired; this process took it again");
    Ok(())
}

/// Renews the lease until the store is closed.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        select! {
            () = core.closing.cancelled() => return,
            () = sleep(RENEWAL) => {}
        }
        // If there is no connection or no term, the task that reconnects restores both.
        let (Ok(connection), Ok(term)) = (core.connection(), core.ownership.term()) else {
            continue;
        };
        let outcome = match owner::renew(&core.ownership, &connection, term.lease).await {
            Ok(true) => Ok(()),
            Ok(false) => regain(&core, term).await,
            Err(failure) => Err(explain::reading(&core.options, failure)),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the lease on the store was not renewed");
        }
    }
}

/// Releases the ownership, so that another process need not wait for the end of the lease. After that nothing is
/// written.
pub(super) async fn release(core: &Core) {
    if let (Some(term), Ok(connection)) = (core.ownership.end(), core.connection()) {
        owner::revoke(&core.ownership, &connection, term.lease).await;
    }
}
