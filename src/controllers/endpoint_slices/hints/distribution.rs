//! Hints by `spec.trafficDistribution`: an endpoint is meant for its own zone, or its own node and zone. Pure.

use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};

use crate::controllers::endpoint_slices::hints::Request;

/// The hints of a ready endpoint; unready ones get none. An endpoint without a zone has no hint for one.
pub(crate) fn hints(
    request: Request,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let node = match request {
        Request::SameNode => node,
        Request::SameZone => None,
        Request::Nothing | Request::Auto => return None,
    };
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let for_nodes = node.map(|name| vec![ForNode { name: name.to_owned() }]);
    let hints = EndpointHints { for_zones, for_nodes };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_endpoints_own_place() {
        let check = |request, zone: Option<&str>, node: Option<&str>, expected: &str| {
            let hints = hints(request, zone, node).map(|hints| {
                let zones = hints.for_zones.into_iter().flatten().map(|zone| zone.name);
                let nodes = hints.for_nodes.into_iter().flatten().map(|node| node.name);
                zones.chain(nodes).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(
                hints.as_deref().unwrap_or("none"),
                expected,
                "{request:?} {zone:?} {node:?}"
            );
        };
        let (zone, node) = (Some("zone-a"), Some("node-1"));
        check(Request::SameZone, zone, node, "zone-a");
        check(Request::SameZone, None, node, "none");
        check(Request::SameNode, zone, node, "zone-a node-1");
        check(Request::SameNode, None, node, "node-1");
        check(Request::SameNode, zone, None, "zone-a");
        check(Request::SameNode, None, None, "none");
        check(Request::Nothing, zone, node, "none");
        check(Request::Auto, zone, node, "none");
    }
}
