//! Endpoints, the old form of EndpointSlices, of Services with a selector.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServiceSpec,
};
use serde_json::json;

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document, endpoint_slices, itself,
        pod::Pod,
        service::{self, Port},
        to_value,
    },
    model::{
        Object, ObjectKey, kind,
        service::is_headless,
        well_known::{HEADLESS_LABEL, TRIGGER_TIME_ANNOTATION},
    },
    registry::View,
};

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Tells that not every address is listed.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

pub(crate) static CONTROLLER: Controller = Controller {
    name: MANAGER,
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::SERVICE), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: service::selecting },
        Trigger { kind: Some(&kind::ENDPOINTS), keys: service_of_endpoints },
    ],
    plan,
};

/// Endpoints that people make before their Service wake nobody: they are not what a deleted Service left behind.
fn service_of_endpoints(view: &View, endpoints: &Object) -> Vec<ObjectKey> {
    let service = ObjectKey { kind: kind::SERVICE.clone(), ..endpoints.key.clone() };
    let concerned = is_managed(endpoints) || view.get(&service).is_some();
    concerned.then_some(service).into_iter().collect()
}

fn is_managed(endpoints: &Object) -> bool {
    endpoints.metadata.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGER)
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let own = ObjectKey { kind: kind::ENDPOINTS.clone(), ..key.clone() };
    let existing = world.view.get(&own).filter(|endpoints| !endpoints.is_terminating());
    let Some(object) = world.view.get(key).filter(|service| !service.is_terminating()) else {
        // Endpoints of a Service go with it, whoever made them.
        return existing.map(|endpoints| vec![Step::delete(endpoints)].into()).unwrap_or_default();
    };
    let Some(service) = world.view.parse::<Service>(key) else { return Plan::nothing() };
    let spec = service.spec.clone().unwrap_or_default();
    if !service::has_selector(&spec) {
        let stale = existing.filter(|endpoints| is_managed(endpoints));
        return stale.map(|endpoints| vec![Step::delete(endpoints)].into()).unwrap_or_default();
    }
    let pods = service::pods(world.view, key, &spec);
    let mut subsets = subsets(key, &spec, &pods);
    let truncated = truncate(&mut subsets, ADDRESSES_MAX);
    let mut labels = object.metadata.labels.clone();
    labels.remove(HEADLESS_LABEL);
    if is_headless(&spec) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    if let Some(existing) = existing
        && existing.metadata.labels == labels
        && existing.metadata.annotations.contains_key(OVER_CAPACITY) == truncated
        && existing.parse::<Endpoints>().is_ok_and(|e| e.subsets.unwrap_or_default() == subsets)
    {
        return Plan::nothing();
    }
    let mut document = match existing {
        Some(existing) => document(existing),
        None => json!({"apiVersion": "v1", "kind": "Endpoints",
                       "metadata": {"name": key.name, "namespace": key.namespace}}),
    };
    document["metadata"]["labels"] = to_value(&labels);
    document["subsets"] = to_value(&subsets);
    set_annotations(&mut document, service::trigger_time(&service, &pods), truncated);
    match existing {
        Some(_) => vec![Step::Update(own, document)].into(),
        None => vec![Step::Create(kind::ENDPOINTS.clone(), document)].into(),
    }
}

fn set_annotations(document: &mut serde_json::Value, stamp: Option<String>, truncated: bool) {
    if let Some(stamp) = stamp {
        document["metadata"]["annotations"][TRIGGER_TIME_ANNOTATION] = stamp.into();
    }
    if truncated {
        document["metadata"]["annotations"][OVER_CAPACITY] = "truncated".into();
    } else if let Some(annotations) = document["metadata"]["annotations"].as_object_mut() {
        annotations.remove(OVER_CAPACITY);
    }
}

/// Addresses with equal ports form one subset. Everything is ordered, so that equal states give equal documents.
fn subsets(key: &ObjectKey, spec: &ServiceSpec, pods: &[Pod<'_>]) -> Vec<EndpointSubset> {
    type Addresses = BTreeMap<(String, String), EndpointAddress>;
    let mut groups: BTreeMap<Vec<Port>, (Addresses, Addresses)> = BTreeMap::new();
    let publish_unready = spec.publish_not_ready_addresses == Some(true);
    let family = service::families(spec).first().copied().unwrap_or("IPv4");
    for pod in pods.iter().filter(|pod| pod.has_endpoint(publish_unready)) {
        let Some(ip) = service::addresses(pod, family).into_iter().next() else { continue };
        let ports = service::ports(spec, pod);
        if ports.is_empty() && !(is_headless(spec) && spec.ports.is_none()) {
            continue;
        }
        let node = Some(pod.facts.spec.node_name.clone()).filter(|name| !name.is_empty());
        let address = EndpointAddress {
            ip: ip.clone(),
            hostname: service::hostname(key, pod),
            node_name: node,
            target_ref: Some(endpoint_slices::target(pod.object)),
        };
        let (ready, unready) = groups.entry(ports).or_default();
        let list = if publish_unready || pod.is_ready() { ready } else { unready };
        list.insert((ip, pod.object.metadata.uid.clone()), address);
    }
    let some = |list: Addresses| (!list.is_empty()).then(|| list.into_values().collect());
    groups
        .into_iter()
        .map(|(ports, (ready, unready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(unready),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(endpoint_port).collect()),
        })
        .collect()
}

fn endpoint_port(port: Port) -> EndpointPort {
    EndpointPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

/// Cuts the list to a number of addresses, unready ones first, each subset in proportion. Tells whether it did.
fn truncate(subsets: &mut [EndpointSubset], addresses_max: usize) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let unready: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + unready <= addresses_max {
        return false;
    }
    let cut_ready = ready > addresses_max;
    let (total, room) =
        if cut_ready { (ready, addresses_max) } else { (unready, addresses_max - ready) };
    let mut left = room;
    for subset in subsets {
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (count(list) * room).div_ceil(total).min(left);
        left -= share;
        if let Some(addresses) = list {
            addresses.truncate(share);
        }
        *list = list.take().filter(|addresses| !addresses.is_empty());
        if cut_ready {
            subset.not_ready_addresses = None;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: a}}
spec: {selector: {app: web}, clusterIP: 127.96.0.10, ports: [{port: 80, targetPort: http}]}
";

    fn pod(name: &str, ip: &str, ready: bool, port: i32) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "i", "ports":
                [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions":
                [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn settled(pods: &[serde_json::Value]) -> (Cluster, ObjectKey) {
        let mut cluster = Cluster::of(SERVICE);
        pods.iter().for_each(|pod| drop(cluster.insert(pod)));
        cluster.settle(&[&CONTROLLER], |_| {});
        (cluster, ObjectKey::new(&kind::ENDPOINTS, "default", "web"))
    }

    #[test]
    fn subsets_follow_ports_and_readiness() {
        let pods = [
            pod("a", "10.1.0.1", true, 8080),
            pod("b", "10.1.0.2", false, 8080),
            pod("c", "10.1.0.3", true, 9090),
        ];
        let (mut cluster, key) = settled(&pods);
        let document = cluster.get(&key);
        let subsets = document["subsets"].as_array().unwrap();
        assert_eq!(subsets.len(), 2);
        assert_eq!(subsets[0]["ports"][0]["port"], 8080);
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.1.0.1");
        assert_eq!(subsets[0]["notReadyAddresses"][0]["targetRef"]["name"], "b");
        assert_eq!(subsets[1]["ports"][0]["port"], 9090);
        assert_eq!(document["metadata"]["labels"]["team"], "a");
        let service = ObjectKey::new(&kind::SERVICE, "default", "web");
        cluster.remove(&service);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key).is_null());
    }

    #[test]
    fn more_than_a_thousand_are_cut() {
        let pods: Vec<_> = (0..1500)
            .map(|n| pod(&format!("p{n}"), &format!("10.1.{}.{}", n / 200, n % 200), n < 1200, 80))
            .collect();
        let (cluster, key) = settled(&pods);
        let document = cluster.get(&key);
        assert_eq!(document["subsets"][0]["addresses"].as_array().unwrap().len(), 1000);
        assert!(document["subsets"][0]["notReadyAddresses"].is_null());
        assert_eq!(document["metadata"]["annotations"][OVER_CAPACITY], "truncated");
    }
}
