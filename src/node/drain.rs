//! When a terminating pod may stop to accept: once no proxy sends it traffic any more.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::{
    model::{ObjectKey, kind},
    registry::Registry,
};

/// Names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Waits until no Service of the namespace sends traffic to this address, and the data half knows.
pub(crate) async fn drained(registry: &Registry, key: &ObjectKey, ip: &str) {
    let mut revisions = registry.revisions();
    let mut seen = None;
    loop {
        let view = registry.view();
        let slices = || view.list(&kind::ENDPOINT_SLICE, Some(&key.namespace));
        let newest = slices().map(|slice| slice.revision).max();
        // Any other commit wakes this too; only slices are worth a look.
        let count = slices().count();
        if seen != Some((newest, count)) {
            seen = Some((newest, count));
            let slices: Vec<EndpointSlice> = slices().filter_map(|s| s.parse().ok()).collect();
            if !gets_traffic(&slices, ip) {
                let revision = newest.unwrap_or(0);
                registry.wait_routed(&kind::ENDPOINT_SLICE, revision).await;
                return;
            }
        }
        if revisions.changed().await.is_err() {
            return;
        }
    }
}

/// Whether a proxy may pick this address: a slice calls it ready, or it serves while its Service has no ready endpoint.
fn gets_traffic(slices: &[EndpointSlice], ip: &str) -> bool {
    let is_ready = |endpoint: &Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
    };
    let serves = |endpoint: &Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.serving) != Some(false)
    };
    let service = |slice: &EndpointSlice| {
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL)).cloned()
    };
    slices.iter().any(|slice| {
        let own = slice.endpoints.iter().flatten();
        own.filter(|endpoint| endpoint.addresses.iter().any(|own| own == ip)).any(|endpoint| {
            let siblings = slices.iter().filter(|sibling| service(sibling) == service(slice));
            is_ready(endpoint)
                || serves(endpoint)
                    && !siblings.flat_map(|s| s.endpoints.iter().flatten()).any(is_ready)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(service: &str, endpoints: &[(&str, bool, bool)]) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, ready, serving)| {
                json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving}})
            })
            .collect();
        let metadata = json!({"name": service, "labels": {SERVICE_LABEL: service}});
        serde_json::from_value(
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": []}),
        )
        .unwrap()
    }

    #[test]
    fn the_last_serving_endpoints_get_traffic_until_a_successor_is_ready() {
        let (dying, dead) = (("127.0.0.2", false, true), ("127.0.0.2", false, false));
        let (new, other) = (("127.0.0.3", true, true), ("127.0.0.9", true, true));
        for (slices, expected) in [
            (vec![], false),
            (vec![slice("a", &[dying])], true),
            (vec![slice("a", &[dead])], false),
            (vec![slice("a", &[dying, new])], false),
            (vec![slice("a", &[dying]), slice("a", &[new])], false),
            (vec![slice("a", &[dying]), slice("b", &[other])], true),
            (vec![slice("a", &[("127.0.0.2", true, true), new])], true),
            (vec![slice("b", &[other])], false),
        ] {
            assert_eq!(gets_traffic(&slices, "127.0.0.2"), expected, "{slices:?}");
        }
    }
}
