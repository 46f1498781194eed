//! Endpoints that people made for a Service without selector, mirrored into EndpointSlices, which proxy and DNS read.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints as OldEndpoints, Service},
    discovery::v1::{Endpoint, EndpointConditions},
};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World,
        endpoint_packing::{self, Endpoints, Template},
        itself, ownership,
        service::{self, Port},
    },
    model::{
        Object, ObjectKey, kind,
        well_known::{
            LAST_APPLIED_ANNOTATION, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SKIP_MIRROR_LABEL,
            TRIGGER_TIME_ANNOTATION,
        },
    },
    registry::View,
};

const NAME: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints that old leader elections used as a lock.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored (`--mirroring-max-endpoints-per-subset`), and the size of a slice.
const ADDRESSES_MAX: usize = 1000;

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpoint-slice-mirroring-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::ENDPOINTS), keys: itself },
        Trigger { kind: Some(&kind::SERVICE), keys: endpoints_of_service },
        Trigger { kind: Some(&kind::ENDPOINT_SLICE), keys: endpoints_of_slice },
    ],
    plan,
};

fn endpoints_of_service(_: &View, service: &Object) -> Vec<ObjectKey> {
    vec![ObjectKey { kind: kind::ENDPOINTS.clone(), ..service.key.clone() }]
}

fn endpoints_of_slice(_: &View, slice: &Object) -> Vec<ObjectKey> {
    let labels = &slice.metadata.labels;
    if labels.get(MANAGED_BY_LABEL).is_none_or(|keeper| keeper != NAME) {
        return Vec::new();
    }
    let key =
        |name: &String| ObjectKey::new(&kind::ENDPOINTS, &*slice.key.namespace, name.as_str());
    labels.get(SERVICE_NAME_LABEL).map(key).into_iter().collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    // Slices of Endpoints that are gone go with them (`garbage`).
    let Some(object) = world.view.get(key).filter(|object| !object.is_terminating()) else {
        return Plan::nothing();
    };
    let own: Vec<_> = world
        .view
        .dependents(&object.metadata.uid)
        .filter(|slice| slice.key.kind == kind::ENDPOINT_SLICE && !slice.is_terminating())
        .filter(|slice| slice.metadata.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == NAME))
        .collect();
    if !is_mirrored(world.view, object) {
        return Plan::all(own.into_iter().map(|slice| Step::delete(slice)).collect());
    }
    let Some(endpoints) = world.view.parse::<OldEndpoints>(key) else { return Plan::nothing() };
    let mut steps = Vec::new();
    for family in ["IPv4", "IPv6"] {
        let existing: Vec<_> = own.iter().copied().filter(|slice| is_of(slice, family)).collect();
        let desired = desired(&endpoints, family);
        let template = template(object, family);
        let packing = endpoint_packing::pack(&existing, desired, &template, ADDRESSES_MAX);
        steps.extend(packing.steps(&template));
    }
    Plan::all(steps)
}

fn is_mirrored(view: &View, endpoints: &Arc<Object>) -> bool {
    let metadata = &endpoints.metadata;
    let service = ObjectKey { kind: kind::SERVICE.clone(), ..endpoints.key.clone() };
    let has_selector = |service: Service| service.spec.is_some_and(|s| service::has_selector(&s));
    metadata.labels.get(SKIP_MIRROR_LABEL).is_none_or(|skip| skip != "true")
        && !metadata.annotations.contains_key(LEADER_ANNOTATION)
        && view.parse::<Service>(&service).is_some_and(|service| !has_selector(service))
}

fn is_of(slice: &Object, family: &str) -> bool {
    let parsed = slice.parse::<k8s_openapi::api::discovery::v1::EndpointSlice>();
    parsed.is_ok_and(|slice| slice.address_type == family)
}

fn desired(endpoints: &OldEndpoints, family: &str) -> BTreeMap<Vec<Port>, Endpoints> {
    let mut desired: BTreeMap<Vec<Port>, Endpoints> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let of_family = |(address, _): &(&EndpointAddress, bool)| {
            address.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"))
        };
        for (address, ready) in ready.chain(unready).filter(of_family).take(ADDRESSES_MAX) {
            let endpoint = endpoint(address, ready);
            let group = desired.entry(ports(subset)).or_default();
            group.insert(endpoint_packing::identity(&endpoint), endpoint);
        }
    }
    desired
}

fn ports(subset: &EndpointSubset) -> Vec<Port> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| Port {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    let conditions = EndpointConditions { ready: Some(ready), ..EndpointConditions::default() };
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(conditions),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn template(endpoints: &Object, family: &'static str) -> Template {
    let mut labels = endpoint_packing::inherited_labels(&endpoints.metadata.labels);
    labels.insert(SERVICE_NAME_LABEL.to_owned(), endpoints.key.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), NAME.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone();
    annotations
        .retain(|name, _| name != LAST_APPLIED_ANNOTATION && name != TRIGGER_TIME_ANNOTATION);
    Template {
        namespace: endpoints.key.namespace.clone(),
        base: format!("{}-", endpoints.key.name),
        address_type: family,
        labels,
        annotations,
        owner: ownership::reference(endpoints),
        placeholder: false,
        keep_hints: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const MANUAL: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 127.96.0.10, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets:
- addresses: [{ip: 127.0.0.1}, {ip: 'fd00::1'}]
  notReadyAddresses: [{ip: 127.0.0.2}]
  ports: [{port: 5432}]
";

    fn slices(yaml: &str) -> Vec<serde_json::Value> {
        let mut cluster = Cluster::of(yaml);
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.list(&kind::ENDPOINT_SLICE)
    }

    #[test]
    fn manual_endpoints_become_slices() {
        let slices = slices(MANUAL);
        assert_eq!(slices.len(), 2);
        let v4 = slices.iter().find(|slice| slice["addressType"] == "IPv4").unwrap();
        assert_eq!(v4["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(v4["endpoints"][1]["conditions"]["ready"], false);
        assert_eq!(v4["metadata"]["labels"][SERVICE_NAME_LABEL], "db");
        assert_eq!(v4["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
        assert_eq!(v4["ports"][0]["name"], "");
    }

    #[test]
    fn some_are_not_mirrored() {
        for (from, to) in [
            ("ports: [{port: 5432}]}", "ports: [{port: 5432}], selector: {a: b}}"),
            (
                "kind: Endpoints\nmetadata: {name: db}",
                "kind: Endpoints\nmetadata: {name: db, labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}}",
            ),
            (
                "kind: Endpoints\nmetadata: {name: db}",
                "kind: Endpoints\nmetadata: {name: db, annotations: {control-plane.alpha.kubernetes.io/leader: x}}",
            ),
            ("kind: Service\nmetadata: {name: db}", "kind: Service\nmetadata: {name: other}"),
        ] {
            let yaml = MANUAL.replacen(from, to, 1);
            assert_ne!(yaml, MANUAL);
            assert_eq!(slices(&yaml).len(), 0, "{to}");
        }
    }
}
