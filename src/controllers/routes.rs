//! Feeds the route builder with what changed and hands its tables to proxy and DNS.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Object, ObjectKey},
    registry::{EventKind, ROUTED, Registry},
    route::{RouteTable, build},
};

/// Builds the first table, then a new one for each batch of changes, until cancelled.
pub async fn run(
    registry: Arc<Registry>,
    options: build::Options,
    tables: watch::Sender<Arc<RouteTable>>,
    token: CancellationToken,
) {
    loop {
        let view = registry.view();
        let mut changes = registry.subscribe(ROUTED, view.revision());
        let mut builder = build::Builder::new(options.clone());
        for object in ROUTED.iter().flat_map(|kind| view.list(kind, None)) {
            builder.apply(&object.key, Some(object));
        }
        tables.send_replace(builder.table(view.revision(), Timestamp::now()));
        loop {
            let batch = tokio::select! {
                () = token.cancelled() => return,
                batch = changes.next() => batch,
            };
            // Too far behind, or shutting down; the outer loop begins anew, the select above ends it.
            let Ok(batch) = batch else { break };
            // Of several changes of one object only the last one counts.
            let last: BTreeMap<&ObjectKey, Option<&Arc<Object>>> = batch
                .iter()
                .map(|event| {
                    let gone = event.kind == EventKind::Deleted;
                    (&event.object.key, (!gone).then_some(&event.object))
                })
                .collect();
            for (key, object) in last {
                builder.apply(key, object);
            }
            tables.send_replace(builder.table(changes.position(), Timestamp::now()));
        }
        if token.is_cancelled() {
            return;
        }
    }
}
