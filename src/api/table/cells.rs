//! The cells of each kind, in the order of its columns. Larger ones have files of their own.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    coordination::v1::Lease,
    core::v1::{Endpoints, Event, Namespace, Node, Service, ServiceAccount, ServicePort},
    discovery::v1::EndpointSlice,
    networking::v1::IPAddress,
    node::v1::RuntimeClass,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::{
    api::table::{
        age::since,
        batch, extension, pod,
        row::{NONE, containers, joined, labels, listed, or, plain, selector},
        storage, stored,
    },
    model::{
        Object,
        object::Error,
        well_known::{NODE_READY, POLICY_READY},
    },
};

const UNKNOWN: &str = "<unknown>";
const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// All cells of a row.
pub(super) fn of(object: &Object, now: Timestamp) -> Result<Vec<Value>, Error> {
    Ok(match &*object.key.kind.kind {
        "Pod" => pod::cells(object, &object.parse()?, now),
        "Service" => service(object, &object.parse()?, now),
        "Endpoints" => plain(object, now, [endpoints(&object.parse()?)]),
        "EndpointSlice" => plain(object, now, endpoint_slice(&object.parse()?)),
        "Deployment" => deployment(object, &object.parse()?, now),
        "ReplicaSet" => replica_set(object, &object.parse()?, now),
        "StatefulSet" => stateful_set(object, &object.parse()?, now),
        "Node" => node(object, &object.parse()?, now),
        "Namespace" => {
            let phase = object.parse::<Namespace>()?.status.and_then(|status| status.phase);
            plain(object, now, [phase.unwrap_or_default()])
        }
        // The form of the core group has all that is shown.
        "Event" if object.key.kind.stored_as.is_some() => {
            let stored = Arc::new(object.clone()).shown_as(object.key.kind.stored());
            event(object, &stored.parse()?, now)
        }
        "Event" => event(object, &object.parse()?, now),
        "ConfigMap" => {
            let Keys { data, binary_data, .. } = object.parse()?;
            plain(object, now, [Value::from(count(data.as_ref()) + count(binary_data.as_ref()))])
        }
        "Secret" => {
            let Keys { data, kind, .. } = object.parse()?;
            plain(object, now, [Value::from(kind), count(data.as_ref()).into()])
        }
        "ServiceAccount" => {
            let secrets = object.parse::<ServiceAccount>()?.secrets.unwrap_or_default();
            plain(object, now, [secrets.len()])
        }
        "Lease" => {
            let holder = object.parse::<Lease>()?.spec.and_then(|spec| spec.holder_identity);
            plain(object, now, [holder.unwrap_or_default()])
        }
        "IPAddress" => vec![object.key.name.as_str().into(), ip_address(&object.parse()?).into()],
        "RuntimeClass" => plain(object, now, [object.parse::<RuntimeClass>()?.handler]),
        "LoadBalancerPolicy" => load_balancer_policy(object, &object.parse()?, now),
        "DaemonSet" => batch::daemon_set(object, &object.parse()?, now),
        "Job" => batch::job(object, &object.parse()?, now),
        "CronJob" => batch::cron_job(object, &object.parse()?, now),
        "ReplicationController" => batch::replication_controller(object, &object.parse()?, now),
        "PodDisruptionBudget" => batch::disruption_budget(object, &object.parse()?, now),
        "ControllerRevision" => batch::controller_revision(object, &object.parse()?, now),
        "PersistentVolume" => stored::volume(object, &object.parse()?, now),
        "PersistentVolumeClaim" => stored::claim(object, &object.parse()?, now),
        "NetworkPolicy" => plain(object, now, [stored::network_policy(&object.parse()?)]),
        "Ingress" => plain(object, now, stored::ingress(&object.parse()?)),
        "IngressClass" => plain(object, now, stored::ingress_class(&object.parse()?)),
        "ServiceCIDR" => plain(object, now, [stored::service_cidr(&object.parse()?)]),
        "Role" | "ClusterRole" | "LimitRange" => stored::role(object),
        "RoleBinding" | "ClusterRoleBinding" => stored::binding(object, &object.parse()?, now),
        "PriorityClass" => stored::priority_class(object, &object.parse()?, now),
        "StorageClass"
        | "VolumeAttributesClass"
        | "CSIDriver"
        | "CSINode"
        | "CSIStorageCapacity"
        | "VolumeAttachment"
        | "ResourceQuota"
        | "PodTemplate" => storage::cells(object, &object.parse()?, now),
        "ServiceImport" => plain(object, now, stored::service_import(&object.parse()?)),
        // The newer version has all that is shown.
        "HorizontalPodAutoscaler" if object.key.kind.stored_as.is_some() => {
            let stored = Arc::new(object.clone()).shown_as(object.key.kind.stored());
            extended(object, &stored.parse()?, now)
        }
        _ => extended(object, &object.parse()?, now),
    })
}

/// A kind that has cells of its own by its document, or only a name and an age.
fn extended(object: &Object, document: &Value, now: Timestamp) -> Vec<Value> {
    extension::cells(object, document, now).unwrap_or_else(|| plain::<Value, 0>(object, now, []))
}

/// The keys of a ConfigMap or Secret, without decoding what they hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    data: Option<BTreeMap<String, IgnoredAny>>,
    binary_data: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "type", default)]
    kind: String,
}

fn count(data: Option<&BTreeMap<String, IgnoredAny>>) -> usize {
    data.map_or(0, BTreeMap::len)
}

fn service(object: &Object, service: &Service, now: Timestamp) -> Vec<Value> {
    let spec = service.spec.clone().unwrap_or_default();
    let cluster_ip = spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
    let ports: Vec<String> = spec.ports.iter().flatten().map(service_port).collect();
    let mut row = plain(
        object,
        now,
        [
            spec.type_.clone().unwrap_or_default(),
            cluster_ip.unwrap_or_else(|| NONE.to_owned()),
            external_ip(service),
            or(joined(ports), NONE),
        ],
    );
    row.push(labels(spec.selector.as_ref()).into());
    row
}

fn service_port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
        _ => format!("{}/{protocol}", port.port),
    }
}

fn external_ip(service: &Service) -> String {
    let Some(spec) = &service.spec else { return UNKNOWN.to_owned() };
    let external = spec.external_ips.iter().flatten().cloned();
    match spec.type_.as_deref() {
        Some("ClusterIP" | "NodePort") => or(joined(external), NONE),
        Some("LoadBalancer") => {
            let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = status.and_then(|status| status.ingress.as_ref());
            let mut addresses: Vec<String> = ingress
                .into_iter()
                .flatten()
                .filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()))
                .collect();
            addresses.sort();
            addresses.dedup();
            or(joined(addresses.into_iter().chain(external)), "<pending>")
        }
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        _ => UNKNOWN.to_owned(),
    }
}

fn endpoints(endpoints: &Endpoints) -> String {
    let Some(subsets) = endpoints.subsets.as_ref().filter(|subsets| !subsets.is_empty()) else {
        return NONE.to_owned();
    };
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || subset.addresses.iter().flatten().map(|address| address.ip.as_str());
        match subset.ports.as_deref().unwrap_or_default() {
            [] => all.extend(addresses().map(str::to_owned)),
            ports => {
                for port in ports {
                    all.extend(addresses().map(|ip| host_port(ip, port.port)));
                }
            }
        }
    }
    listed(&all)
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(slice: &EndpointSlice) -> [String; 3] {
    let ports: Vec<String> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> =
        slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
    let unset = |text| or(text, "<unset>");
    [slice.address_type.clone(), unset(listed(&ports)), unset(listed(&addresses))]
}

fn deployment(object: &Object, deployment: &Deployment, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.clone().unwrap_or_default());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = format!("{}/{wanted}", status.ready_replicas.unwrap_or_default());
    let mut row = plain(
        object,
        now,
        [
            Value::from(ready),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
        ],
    );
    row.extend(containers(spec.map(|spec| &spec.template)));
    row.push(spec.map(|spec| selector(&spec.selector)).unwrap_or_default().into());
    row
}

fn replica_set(object: &Object, set: &ReplicaSet, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (set.spec.as_ref(), set.status.clone().unwrap_or_default());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let mut row =
        plain(object, now, [wanted, status.replicas, status.ready_replicas.unwrap_or_default()]);
    row.extend(containers(spec.and_then(|spec| spec.template.as_ref())));
    let selected = spec.map(|spec| selector(&spec.selector)).unwrap_or_default();
    row.push(or(selected, NONE).into());
    row
}

fn stateful_set(object: &Object, set: &StatefulSet, now: Timestamp) -> Vec<Value> {
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    let mut row = plain(object, now, [format!("{ready}/{wanted}")]);
    row.extend(containers(spec.map(|spec| &spec.template)));
    row
}

fn node(object: &Object, node: &Node, now: Timestamp) -> Vec<Value> {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == NODE_READY);
    let mut states = vec![match ready.map(|condition| condition.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        states.push("SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in &object.metadata.labels {
        let role = match key.strip_prefix(ROLE_LABEL_PREFIX) {
            Some(role) => role,
            None if key == ROLE_LABEL => value,
            None => "",
        };
        roles.extend((!role.is_empty()).then_some(role));
    }
    roles.sort_unstable();
    roles.dedup();
    let info = status.node_info.unwrap_or_default();
    let address = |kind: &str| {
        let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
        found.map_or_else(|| NONE.to_owned(), |address| address.address.clone())
    };
    let mut row = plain(object, now, [joined(states), or(joined(roles), NONE)]);
    row.push(info.kubelet_version.into());
    row.extend([address("InternalIP").into(), address("ExternalIP").into()]);
    let software = [info.os_image, info.kernel_version, info.container_runtime_version];
    row.extend(software.map(|text| Value::from(or(text, UNKNOWN))));
    row
}

fn event(object: &Object, event: &Event, now: Timestamp) -> Vec<Value> {
    let happened = event.event_time.as_ref().map(|time| time.0);
    let first = since(event.first_timestamp.as_ref().map(|time| time.0).or(happened), now);
    let last = match &event.last_timestamp {
        Some(time) => since(Some(time.0), now),
        None => first.clone(),
    };
    let (last, count) = match &event.series {
        Some(series) => {
            let observed = series.last_observed_time.as_ref().map(|time| time.0);
            (since(observed, now), series.count.unwrap_or_default())
        }
        None => (last, event.count.filter(|count| *count != 0).unwrap_or(1)),
    };
    let involved = &event.involved_object;
    let target = involved.kind.as_deref().unwrap_or_default().to_lowercase();
    let target = match involved.name.as_deref() {
        None | Some("") => target,
        Some(name) => format!("{target}/{name}"),
    };
    vec![
        last.into(),
        event.type_.clone().unwrap_or_default().into(),
        event.reason.clone().unwrap_or_default().into(),
        target.into(),
        involved.field_path.clone().unwrap_or_default().into(),
        event_source(event).into(),
        event.message.as_deref().unwrap_or_default().trim().into(),
        first.into(),
        count.into(),
        object.key.name.as_str().into(),
    ]
}

/// Component and host, from the old fields or else the new ones.
fn event_source(event: &Event) -> String {
    let source = event.source.clone().unwrap_or_default();
    let first = |old: Option<String>, new: &Option<String>| {
        old.filter(|text| !text.is_empty()).or_else(|| new.clone()).unwrap_or_default()
    };
    let component = first(source.component, &event.reporting_component);
    let instance = first(source.host, &event.reporting_instance);
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

fn ip_address(address: &IPAddress) -> String {
    let parent = &address.spec.parent_ref;
    if parent.name.is_empty() {
        return NONE.to_owned();
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut text = parent.resource.to_lowercase();
    if let Some(group) = given(&parent.group) {
        text += &format!(".{}", group.to_lowercase());
    }
    if let Some(namespace) = given(&parent.namespace) {
        text += &format!("/{namespace}");
    }
    format!("{text}/{}", parent.name)
}

fn load_balancer_policy(object: &Object, policy: &Value, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| policy.pointer(path).and_then(Value::as_str);
    let module = if let Some(name) = text("/spec/module/builtin") {
        name.to_owned()
    } else if let Some(path) = text("/spec/module/path") {
        path.to_owned()
    } else if let Some(name) = text("/spec/module/configMap/name") {
        let namespace = text("/spec/module/configMap/namespace").unwrap_or_default();
        let key = text("/spec/module/configMap/key").unwrap_or_default();
        format!("configmap/{namespace}/{name}:{key}")
    } else if text("/spec/module/inline").is_some() {
        "<inline>".to_owned()
    } else {
        NONE.to_owned()
    };
    let conditions = policy.pointer("/status/conditions").and_then(Value::as_array);
    let ready =
        conditions.into_iter().flatten().find(|condition| condition["type"] == POLICY_READY);
    let said = |field: &str| ready.and_then(|condition| condition[field].as_str());
    let mut row = plain(object, now, [module, said("status").unwrap_or("Unknown").to_owned()]);
    row.push(text("/status/digest").unwrap_or(NONE).into());
    row.push(said("message").unwrap_or(NONE).into());
    row
}
