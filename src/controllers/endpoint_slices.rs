//! EndpointSlices of Services with a selector: one endpoint per selected pod and address family.
//!
//! Slices of a deleted Service go with it (`garbage`); slices that others made are left alone. Which clients an endpoint
//! is meant for: [`hints`].

mod hints;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{ObjectReference, Service, ServiceSpec},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World,
        endpoint_packing::{self, Endpoints, Packing, Template, has_auto_hints},
        endpoint_slices::hints::{Request, auto, capacity, distribution},
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
/// The reasons of Events about hints.
const ENABLED: &str = "TopologyAwareHintsEnabled";
const DISABLED: &str = "TopologyAwareHintsDisabled";
/// How soon to look again when a pod's node is not known (yet).
const MISSING_NODE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpoint-slice-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::SERVICE), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: service::selecting },
        Trigger { kind: Some(&kind::NODE), keys: service::selecting_on_node },
        Trigger { kind: Some(&kind::NODE), keys: capacity::services_in_mode_auto },
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
    let asked = Request::of(&object.metadata.annotations, spec.traffic_distribution.as_deref());
    let mut auto_hints = AutoHints::new(asked, world.view, &own);
    let (mut steps, mut requeue) = (Vec::new(), None);
    let family_of = |slice: &Object| slice.digest::<EndpointSlice>().address_type.clone();
    for family in &families {
        let existing: Vec<_> =
            own.iter().copied().filter(|slice| family_of(slice) == *family).collect();
        let (desired, complete) = desired(world.view, key, &spec, &pods, family, asked);
        if !complete {
            requeue = Some(MISSING_NODE_WAIT);
        }
        let template = template(object, &service, &spec, &pods, family, asked);
        let per_slice = world.options.endpoints_per_slice_max;
        let mut packing = endpoint_packing::pack(&existing, desired, &template, per_slice);
        auto_hints.give(object, family, &mut packing);
        steps.extend(packing.steps(&template));
    }
    let other = own.iter().filter(|slice| !families.contains(&family_of(slice).as_str()));
    steps.extend(other.map(|slice| Step::delete(slice)));
    let mut plan = Plan { requeue, ..Plan::all(steps) };
    plan.steps.extend(auto_hints.events);
    plan
}

/// The hints of topology mode `Auto` of one Service, one family of addresses after the other.
struct AutoHints {
    /// When they are asked for.
    shares: Option<capacity::Shares>,
    /// The Service has such hints.
    given: bool,
    /// What became of them.
    events: Vec<Step>,
}

impl AutoHints {
    fn new(asked: Request, view: &View, slices: &[&Arc<Object>]) -> Self {
        let shares = (asked == Request::Auto).then(|| capacity::shares(view));
        let given = slices.iter().any(|slice| has_auto_hints(slice));
        Self { shares, given, events: Vec::new() }
    }

    /// Gives hints to the endpoints of a family of addresses; as in Kubernetes, one Event tells of the first that gets
    /// them, one of the first that loses them, and one of each that cannot have them, each time.
    fn give(&mut self, service: &Object, family: &str, packing: &mut Packing<'_>) {
        let told = |what: &str| format!("{what}, addressType: {family}");
        let event = match self.shares.as_ref() {
            None if !self.given => return,
            None => {
                self.given = false;
                let message = told("Topology Aware Hints has been disabled");
                Step::warning(service, DISABLED, message)
            }
            Some(shares) => match auto::assign(&mut packing.slices, shares) {
                Err(refusal) => Step::warning(service, DISABLED, told(&refusal.to_string())),
                Ok(()) => {
                    packing.auto_hints = true;
                    if self.given {
                        return;
                    }
                    self.given = true;
                    let message = told("Topology Aware Hints has been enabled");
                    Step::note(service, ENABLED, message)
                }
            },
        };
        self.events.push(event);
    }
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
    asked: Request,
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
        let endpoint = endpoint(key, spec, pod, node, addresses, asked);
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
    asked: Request,
) -> Endpoint {
    let (serving, terminating) = (pod.is_ready(), pod.object.is_terminating());
    let published = spec.publish_not_ready_addresses == Some(true);
    let node_name = Some(pod.facts.spec.node_name.clone()).filter(|name| !name.is_empty());
    let zone = node.and_then(|node| node.metadata.labels.get(ZONE_LABEL)).cloned();
    let zone = zone.filter(|zone| !zone.is_empty());
    let ready = published || (serving && !terminating);
    let hints = || distribution::hints(asked, zone.as_deref(), node_name.as_deref());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: ready.then(hints).flatten(),
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

fn template(
    object: &Object,
    service: &Service,
    spec: &ServiceSpec,
    pods: &[Pod<'_>],
    family: &'static str,
    asked: Request,
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
        keep_hints: asked == Request::Auto,
    }
}

#[cfg(test)]
mod tests;
