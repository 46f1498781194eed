//! Feeds the route builder with what changed and hands its tables to proxy and DNS.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Object, ObjectKey},
    registry::{EventKind, ROUTED, Registry},
    route::{RouteTable, build},
};

/// After a table that took this long, because a changed Service has thousands of endpoints, the builder rests for a multiple
/// of that time. The next table then serves many changes.
const LONG_BUILD: Duration = Duration::from_millis(1);
const REST_FACTOR: u32 = 3;
/// A write waits 50 ms for its table; most of that must be left.
const REST_MAX: Duration = Duration::from_millis(20);

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
            take_in(&mut builder, &object.key, Some(object));
        }
        tables.send_replace(builder.table(view.revision(), Timestamp::now()));
        loop {
            let batch = tokio::select! {
                () = token.cancelled() => return,
                batch = changes.next() => batch,
            };
            // Too far behind, or shutting down; the outer loop begins anew, the select above ends it.
            let Ok(batch) = batch else { break };
            let began = Instant::now();
            // Of several changes of one object only the last one counts.
            let last: BTreeMap<&ObjectKey, Option<&Arc<Object>>> = batch
                .iter()
                .map(|event| {
                    let gone = event.kind == EventKind::Deleted;
                    (&event.object.key, (!gone).then_some(&event.object))
                })
                .collect();
            for (key, object) in last {
                take_in(&mut builder, key, object);
            }
            tables.send_replace(builder.table(changes.position(), Timestamp::now()));
            let took = began.elapsed();
            if took >= LONG_BUILD {
                let rest = took.saturating_mul(REST_FACTOR).min(REST_MAX);
                token.run_until_cancelled(tokio::time::sleep(rest)).await;
            }
        }
        if token.is_cancelled() {
            return;
        }
    }
}

/// Catches a panic of the builder, so that one object cannot keep the others from being routed.
fn take_in(builder: &mut build::Builder, key: &ObjectKey, object: Option<&Arc<Object>>) {
    if catch_unwind(AssertUnwindSafe(|| builder.apply(key, object))).is_err() {
        tracing::error!(%key, "building the routes panicked over an object, which is left out; this is a bug");
    }
}
