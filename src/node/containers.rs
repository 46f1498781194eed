//! From the containers of a Pod to those of a runtime: commands, and the variables whose values are known.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1 as core;

use crate::{
    model::Object,
    runtime::{Container, Restart, Role},
};

/// The containers of a pod that is at `ip`, in the order in which they start.
pub(crate) fn containers(object: &Object, pod: &core::Pod, ip: IpAddr) -> Vec<Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let words = |program: &Option<Vec<String>>, arguments: &Option<Vec<String>>| {
        program.iter().chain(arguments).flatten().cloned().collect()
    };
    let env = |variables: &Option<Vec<core::EnvVar>>| {
        environment(object, pod, variables.as_deref().unwrap_or_default(), ip)
    };
    let container = |container: &core::Container, role| Container {
        name: container.name.clone(),
        command: words(&container.command, &container.args),
        env: env(&container.env),
        role,
    };
    let first = spec.init_containers.iter().flatten().map(|init| {
        let role = if is_sidecar(init) { Role::Sidecar } else { Role::Init };
        container(init, role)
    });
    let main = spec.containers.iter().map(|main| container(main, Role::Main));
    let later = spec.ephemeral_containers.iter().flatten().map(|later| Container {
        name: later.name.clone(),
        command: words(&later.command, &later.args),
        env: env(&later.env),
        role: Role::Ephemeral,
    });
    first.chain(main).chain(later).collect()
}

/// An init container that keeps running beside the others.
pub(crate) fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether, and when, containers that end are started again.
pub(crate) fn restart(pod: &core::Pod) -> Restart {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => Restart::Never,
        Some("OnFailure") => Restart::OnFailure,
        _ => Restart::Always,
    }
}

/// Whether a pod is meant to end: it belongs to a Job.
pub(crate) fn runs_to_completion(object: &Object) -> bool {
    object.controller().is_some_and(|owner| owner.kind == "Job")
}

fn environment(
    object: &Object,
    pod: &core::Pod,
    variables: &[core::EnvVar],
    ip: IpAddr,
) -> BTreeMap<String, String> {
    let hostname = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let hostname = hostname.unwrap_or_else(|| object.key.name.clone());
    let mut env = BTreeMap::from([("HOSTNAME".to_owned(), hostname)]);
    for variable in variables {
        let reference = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match (&variable.value, reference) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(reference)) => field(object, pod, &reference.field_path, ip),
            (None, None) => None,
        };
        env.extend(value.map(|value| (variable.name.clone(), value)));
    }
    env
}

/// What a `fieldRef` refers to.
fn field(object: &Object, pod: &core::Pod, path: &str, ip: IpAddr) -> Option<String> {
    let keyed = |field: &str| path.strip_prefix(field)?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels['") {
        return object.metadata.labels.get(key).cloned();
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return object.metadata.annotations.get(key).cloned();
    }
    match path {
        "metadata.name" => Some(object.key.name.clone()),
        "metadata.namespace" => Some(object.key.namespace.clone()),
        "metadata.uid" => Some(object.metadata.uid.clone()),
        "spec.nodeName" => pod.spec.as_ref()?.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref()?.service_account_name.clone(),
        "status.podIP" | "status.podIPs" => Some(ip.to_string()),
        _ => None,
    }
}
