//! Follows the `kube-system/kube-proxy` ConfigMap: the cluster's default scheduler and the timeouts of connections. What is
//! set there and has no effect is said in an Event. Enter at [`run`]; what the text means is in `configuration`.

mod configuration;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio_util::sync::CancellationToken;

use self::configuration::{Configuration, Remark};
use crate::{
    model::{ObjectKey, kind},
    policy::{library::Library, wasm::Engine},
    proxy::Proxy,
    registry::{Note, Registry, View},
};

const COMPONENT: &str = "kube-proxy";

/// Follows the ConfigMap until cancelled.
pub async fn run(
    registry: Arc<Registry>,
    library: Arc<Library>,
    proxy: Arc<Proxy>,
    token: CancellationToken,
) {
    // A scheduler may be named before its LoadBalancerPolicy is loaded, whose status then tells of that.
    let kinds = [&kind::CONFIG_MAP, &kind::LOAD_BALANCER_POLICY];
    let mut said = BTreeSet::new();
    loop {
        let view = registry.view();
        let mut changes = registry.subscribe(&kinds, view.revision());
        let mut view = Some(view);
        while let Some(now) = view {
            let remarks = adopt(&now, &library, &proxy);
            for remark in remarks.difference(&said) {
                registry.record(COMPONENT, &note(&now, remark)).await;
            }
            said = remarks;
            view = tokio::select! {
                () = token.cancelled() => return,
                changed = changes.next() => changed.is_ok().then(|| registry.view()),
            };
        }
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(&kind::CONFIG_MAP, "kube-system", "kube-proxy")
}

/// Puts the configuration into effect, and tells what of it has none.
fn adopt(view: &View, library: &Library, proxy: &Proxy) -> BTreeSet<Remark> {
    let map: Option<ConfigMap> = view.parse(&key());
    let text = map.and_then(|map| map.data?.remove("config.conf")).unwrap_or_default();
    // Those that are built in are loaded at the start, perhaps a moment from now.
    let is_known =
        |name: &str| Engine::builtins().any(|builtin| builtin == name) || library.is_loaded(name);
    let Configuration { scheduler, timeouts, remarks } = Configuration::read(&text, is_known);
    library.set_default(&scheduler);
    proxy.set_timeouts(timeouts);
    remarks
}

fn note(view: &View, remark: &Remark) -> Note {
    let about = key();
    let uid = view.get(&about).map(|object| object.metadata.uid.clone()).unwrap_or_default();
    Note { about, uid, warning: true, reason: remark.reason, message: remark.message.clone() }
}
