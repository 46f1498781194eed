//! EndpointSlices of Services with a selector: one endpoint per selected pod and address family.
//!
//! Slices of a deleted Service go with it (`garbage`); slices that others made are left alone.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{ObjectReference, Service, ServiceSpec},
    discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointSlice, ForNode, ForZone},
};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World,
        endpoint_packing::{self, Endpoints, Template},
        itself, ownership,
        pod::Pod,
        service::{self, Port},
    },
    model::{
        Object, ObjectKey, kind,
        service::is_headless,
        well_known::{
            HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, TRIGGER_TIME_ANNOTATION,
            ZONE_LABEL,
        },
    },
    registry::View,
};

const NAME: &str = "endpointslice-controller.k8s.io";
/// How soon to look again when a pod's node is not known (yet).
const MISSING_NODE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpoint-slice-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::SERVICE), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: service::selecting },
        Trigger { kind: Some(&kind::NODE), keys: service::selecting_on_node },
        Trigger { kind: Some(&kind::ENDPOINT_SLICE), keys: service_of_slice },
    ],
    plan,
};

fn service_of_slice(_: &View, slice: &Object) -> Vec<ObjectKey> {
    let labels = &slice.metadata.labels;
    if labels.get(MANAGED_BY_LABEL).is_none_or(|keeper| keeper != NAME) {
        return Vec::new();
    }
    let service = labels.get(SERVICE_NAME_LABEL);
    let key = |name: &String| ObjectKey::new(&kind::SERVICE, &*slice.key.namespace, name.as_str());
    service.map(key).into_iter().collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|service| !service.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(service) = world.view.parse::<Service>(key) else { return Plan::nothing() };
    let spec = service.spec.clone().unwrap_or_default();
    let own: Vec<_> = own_slices(world.view, object).collect();
    if !service::has_selector(&spec) {
        return Plan::all(own.into_iter().map(|slice| Step::delete(slice)).collect());
    }
    let pods = service::pods(world.view, key, &spec);
    let families = service::families(&spec);
    let (mut steps, mut requeue) = (Vec::new(), None);
    let family_of = |slice: &Object| slice.digest::<EndpointSlice>().address_type.clone();
    for family in &families {
        let existing: Vec<_> =
            own.iter().copied().filter(|slice| family_of(slice) == *family).collect();
        let (desired, complete) = desired(world.view, key, &spec, &pods, family);
        if !complete {
            requeue = Some(MISSING_NODE_WAIT);
        }
        let template = template(object, &service, &spec, &pods, family);
        let per_slice = world.options.endpoints_per_slice_max;
        steps.extend(endpoint_packing::reconcile(&existing, desired, &template, per_slice));
    }
    let other = own.iter().filter(|slice| !families.contains(&family_of(slice).as_str()));
    steps.extend(other.map(|slice| Step::delete(slice)));
    Plan { requeue, ..Plan::all(steps) }
}

fn own_slices<'a>(
    view: &'a View,
    service: &Object,
) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    let name = service.key.name.clone();
    view.dependents(&service.metadata.uid).filter(move |slice| {
        let labels = &slice.metadata.labels;
        slice.key.kind == kind::ENDPOINT_SLICE
            && !slice.is_terminating()
            && labels.get(MANAGED_BY_LABEL).is_some_and(|keeper| keeper == NAME)
            && labels.get(SERVICE_NAME_LABEL) == Some(&name)
    })
}

/// The endpoints by their ports, and whether all nodes are known. As in Kubernetes, a pod on an unknown node is left
/// out unless unready ones are published too.
fn desired(
    view: &View,
    key: &ObjectKey,
    spec: &ServiceSpec,
    pods: &[Pod<'_>],
    family: &str,
) -> (BTreeMap<Vec<Port>, Endpoints>, bool) {
    let mut desired: BTreeMap<Vec<Port>, Endpoints> = BTreeMap::new();
    let mut complete = true;
    let publish_unready = spec.publish_not_ready_addresses == Some(true);
    for pod in pods.iter().filter(|pod| pod.has_endpoint(true)) {
        let node_name = pod.facts.spec.node_name.as_str();
        let node = view.get(&ObjectKey::cluster(&kind::NODE, node_name));
        if node.is_none() {
            complete = false;
            if !publish_unready {
                continue;
            }
        }
        let addresses = service::addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let endpoint = endpoint(key, spec, pod, node, addresses);
        let ports = service::ports(spec, pod);
        desired.entry(ports).or_default().insert(endpoint_packing::identity(&endpoint), endpoint);
    }
    (desired, complete)
}

fn endpoint(
    key: &ObjectKey,
    spec: &ServiceSpec,
    pod: &Pod<'_>,
    node: Option<&Arc<Object>>,
    addresses: Vec<String>,
) -> Endpoint {
    let (serving, terminating) = (pod.is_ready(), pod.object.is_terminating());
    let published = spec.publish_not_ready_addresses == Some(true);
    let node_name = Some(pod.facts.spec.node_name.clone()).filter(|name| !name.is_empty());
    let zone = node.and_then(|node| node.metadata.labels.get(ZONE_LABEL)).cloned();
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(published || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(spec, zone.as_deref(), node_name.as_deref()),
        hostname: service::hostname(key, pod),
        node_name,
        target_ref: Some(target(pod.object)),
        zone,
        ..Endpoint::default()
    }
}

pub(crate) fn target(pod: &Object) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.key.namespace.clone()),
        name: Some(pod.key.name.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectReference::default()
    }
}

/// What `spec.trafficDistribution` says about an endpoint: it serves its own zone, or node and zone.
fn hints(spec: &ServiceSpec, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let nodes = node.map(|name| vec![ForNode { name: name.to_owned() }]);
    let hints = match spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones: zones, for_nodes: None },
        "PreferSameNode" => EndpointHints { for_zones: zones, for_nodes: nodes },
        _ => return None,
    };
    (hints.for_zones.is_some() || hints.for_nodes.is_some()).then_some(hints)
}

fn template(
    object: &Object,
    service: &Service,
    spec: &ServiceSpec,
    pods: &[Pod<'_>],
    family: &'static str,
) -> Template {
    let mut labels = endpoint_packing::inherited_labels(&object.metadata.labels);
    labels.insert(SERVICE_NAME_LABEL.to_owned(), object.key.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), NAME.to_owned());
    if is_headless(spec) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let stamp = service::trigger_time(service, pods);
    Template {
        namespace: object.key.namespace.clone(),
        base: format!("{}-", object.key.name),
        address_type: family,
        labels,
        annotations: stamp
            .into_iter()
            .map(|stamp| (TRIGGER_TIME_ANNOTATION.to_owned(), stamp))
            .collect(),
        owner: ownership::reference(object),
        placeholder: true,
    }
}

#[cfg(test)]
mod tests;
