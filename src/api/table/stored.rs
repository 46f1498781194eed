//! The cells of kinds that are stored only: in the order of the kind's columns.

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    networking::v1::{Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
    rbac::v1::{RoleRef, Subject},
    scheduling::v1::PriorityClass,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::table::row::{LISTED_MAX, NONE, joined, or, plain, selector},
    model::Object,
};

const UNSET: &str = "<unset>";
const STORAGE: &str = "storage";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Access modes in the order and by the letters in which they are shown.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

fn access_modes(modes: Option<&Vec<String>>) -> String {
    let has = |mode: &str| modes.into_iter().flatten().any(|given| given == mode);
    joined(ACCESS_MODES.iter().filter(|(mode, _)| has(mode)).map(|(_, letters)| letters))
}

fn phase(object: &Object, phase: Option<&String>) -> String {
    if object.is_terminating() {
        return "Terminating".to_owned();
    }
    phase.cloned().unwrap_or_default()
}

/// The annotation of old, else the field.
fn storage_class(object: &Object, class: Option<String>) -> String {
    object.metadata.annotations.get(OLD_CLASS).cloned().or(class).unwrap_or_default()
}

fn or_unset(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNSET.to_owned())
}

pub(super) fn volume(object: &Object, volume: &PersistentVolume, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (volume.spec.clone().unwrap_or_default(), volume.status.as_ref());
    let size = spec.capacity.as_ref().and_then(|capacity| capacity.get(STORAGE));
    let claim = spec.claim_ref.as_ref().map(|claim| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&claim.namespace), part(&claim.name))
    });
    let mut row = plain(
        object,
        now,
        [
            size.map_or_else(|| "0".to_owned(), |size| size.0.clone()),
            access_modes(spec.access_modes.as_ref()),
            spec.persistent_volume_reclaim_policy.unwrap_or_default(),
            phase(object, status.and_then(|status| status.phase.as_ref())),
            claim.unwrap_or_default(),
            storage_class(object, spec.storage_class_name),
            or_unset(spec.volume_attributes_class_name),
            status.and_then(|status| status.reason.clone()).unwrap_or_default(),
        ],
    );
    row.push(or_unset(spec.volume_mode).into());
    row
}

pub(super) fn claim(object: &Object, claim: &PersistentVolumeClaim, now: Timestamp) -> Vec<Value> {
    let spec = claim.spec.clone().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let volume = spec.volume_name.unwrap_or_default();
    // What the claim asks for tells nothing about what it has.
    let (mut size, mut modes) = (String::new(), String::new());
    if !volume.is_empty() {
        let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get(STORAGE));
        size = capacity.map_or_else(|| "0".to_owned(), |size| size.0.clone());
        modes = access_modes(status.access_modes.as_ref());
    }
    let mut row = plain(
        object,
        now,
        [
            phase(object, status.phase.as_ref()),
            volume,
            size,
            modes,
            storage_class(object, spec.storage_class_name),
            or_unset(spec.volume_attributes_class_name),
        ],
    );
    row.push(or_unset(spec.volume_mode).into());
    row
}

pub(super) fn network_policy(policy: &NetworkPolicy) -> String {
    let chosen = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    or(chosen.map(selector).unwrap_or_default(), NONE)
}

pub(super) fn ingress(ingress: &Ingress) -> [String; 4] {
    let spec = ingress.spec.clone().unwrap_or_default();
    let points = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let mut addresses: Vec<&String> = points
        .and_then(|status| status.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|point| point.ip.as_ref().or(point.hostname.as_ref()))
        .collect();
    addresses.sort();
    addresses.dedup();
    let ports = if spec.tls.is_some_and(|tls| !tls.is_empty()) { "80, 443" } else { "80" };
    let rules = spec.rules.unwrap_or_default();
    let hosts: Vec<&str> =
        rules.iter().filter_map(|rule| rule.host.as_deref()).filter(|h| !h.is_empty()).collect();
    let mut shown = or(joined(hosts.iter().take(LISTED_MAX)), "*");
    if hosts.len() > LISTED_MAX {
        shown += &format!(" + {} more...", rules.len() - LISTED_MAX);
    }
    let class = spec.ingress_class_name.unwrap_or_else(|| NONE.to_owned());
    [class, shown, joined(addresses), ports.to_owned()]
}

pub(super) fn ingress_class(class: &IngressClass) -> [String; 2] {
    let spec = class.spec.clone().unwrap_or_default();
    let parameters = spec.parameters.map(|parameters| {
        let group = parameters.api_group.map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", parameters.kind, parameters.name)
    });
    [spec.controller.unwrap_or_default(), parameters.unwrap_or_else(|| NONE.to_owned())]
}

pub(super) fn service_cidr(range: &ServiceCIDR) -> String {
    joined(range.spec.iter().flat_map(|spec| &spec.cidrs).flatten())
}

/// A role has only the time of its creation.
pub(super) fn role(object: &Object) -> Vec<Value> {
    let created = object.metadata.creation_timestamp.clone().unwrap_or_default();
    vec![object.key.name.as_str().into(), created.into()]
}

/// What both kinds of bindings have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Binding {
    #[serde(default)]
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Vec<Subject>,
}

pub(super) fn binding(object: &Object, binding: &Binding, now: Timestamp) -> Vec<Value> {
    let Binding { role_ref, subjects } = binding;
    let mut row = plain(object, now, [format!("{}/{}", role_ref.kind, role_ref.name)]);
    for kind in ["User", "Group", "ServiceAccount"] {
        let names = subjects.iter().filter(|subject| subject.kind == kind).map(|subject| {
            match &subject.namespace {
                Some(namespace) if kind == "ServiceAccount" => {
                    format!("{namespace}/{}", subject.name)
                }
                _ => subject.name.clone(),
            }
        });
        row.push(names.collect::<Vec<_>>().join(", ").into());
    }
    row
}

pub(super) fn priority_class(object: &Object, class: &PriorityClass, now: Timestamp) -> Vec<Value> {
    let value = class.value.unwrap_or_default();
    let is_default = class.global_default.unwrap_or_default();
    let mut row = plain(object, now, [Value::from(value), is_default.into()]);
    row.push(class.preemption_policy.clone().unwrap_or_default().into());
    row
}

/// Type and addresses, as the columns of the resource definition give them.
pub(super) fn service_import(import: &Value) -> [Value; 2] {
    let field = |path: &str| import.pointer(path).cloned().unwrap_or_default();
    let addresses = field("/spec/ips");
    let addresses =
        if addresses.is_null() { Value::from("") } else { addresses.to_string().into() };
    [field("/spec/type"), addresses]
}
