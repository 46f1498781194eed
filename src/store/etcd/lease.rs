//! Keeping the ownership: our lease is renewed, taken again when it has run out, and given up at the end.

use std::{sync::Arc, time::Duration};

use tokio::{select, time::sleep};

use crate::store::{
    Error,
    etcd::{
        core::Core,
        explain::{self, AccessError},
        owner::{self, Tenure},
    },
};

/// How often the owner is heard of.
const RENEWAL: Duration = Duration::from_millis(1500);

/// Takes the ownership again after our key was found to be another than `lost`, unless that has happened already.
pub(super) async fn regain(core: &Core, lost: Tenure) -> Result<(), Error> {
    let _turn = core.ownership.taking.lock().await;
    if core.ownership.tenure()? != lost {
        return Ok(());
    }
    let failed = |failure| explain::reading(&core.options, failure);
    let connection = core.connection().map_err(failed)?;
    let owned = async {
        let tenure = owner::own(&core.ownership, &connection, false).await?;
        core.read_epochs(&connection).await?;
        Ok(tenure)
    };
    let tenure = owned.await.map_err(|error: AccessError| error.error(&core.options))?;
    core.ownership.begin(tenure);
    tracing::warn!(store = %core.options, "the lease on the store had run out; it was taken again");
    Ok(())
}

/// Renews our lease until the store is closed.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        select! {
            () = core.closing.cancelled() => return,
            () = sleep(RENEWAL) => {}
        }
        // Without a connection or a tenure, whoever connects again cares for both.
        let (Ok(connection), Ok(tenure)) = (core.connection(), core.ownership.tenure()) else {
            continue;
        };
        let outcome = match owner::renew(&core.ownership, &connection, tenure.lease).await {
            Ok(true) => Ok(()),
            Ok(false) => regain(&core, tenure).await,
            Err(failure) => Err(explain::reading(&core.options, failure)),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the lease on the store was not renewed");
        }
    }
}

/// Gives up our place, so that another process need not wait for it. Nothing is written afterwards.
pub(super) async fn release(core: &Core) {
    if let (Some(tenure), Ok(connection)) = (core.ownership.end(), core.connection()) {
        owner::revoke(&core.ownership, &connection, tenure.lease).await;
    }
}
