//! Defaults of pod specs, for Pods and for the templates of workloads.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, EmptyDirVolumeSource, EphemeralContainer, HTTPGetAction, Lifecycle,
        PodAffinityTerm, PodSpec, Probe, ResourceRequirements, Volume,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
    },
};

use crate::{
    model::quantity,
    registry::strategy::{
        fields::{fill, fill_number, fill_text, items, text},
        resource_validation::{self, Amounts, HUGE_PAGES},
    },
};

const GRACE_SECONDS: i64 = 30;
/// rw-r--r--, for files of volumes.
const FILE_MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

/// What every pod spec gets.
pub(super) fn default_spec(spec: &mut PodSpec) {
    fill_text(&mut spec.dns_policy, "ClusterFirst");
    fill_text(&mut spec.restart_policy, "Always");
    fill(&mut spec.security_context, <_>::default());
    fill(&mut spec.termination_grace_period_seconds, GRACE_SECONDS);
    fill_text(&mut spec.scheduler_name, "default-scheduler");
    copy_service_account(spec);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        default_container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_ephemeral_container(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
}

/// What only Pods get, not templates.
pub(super) fn default_pod_only(spec: &mut PodSpec) {
    fill(&mut spec.enable_service_links, true);
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        default_requests(container.resources.get_or_insert_default());
        for port in container.ports.iter_mut().flatten().filter(|_| host_network) {
            fill_number(&mut port.host_port, port.container_port);
        }
    }
    default_pod_resources(spec);
}

/// A pod as a whole that says something about resources has the limits of its containers for huge pages; with limits, it
/// requests what its containers request together, and what none of them requests as much as it is limited to.
fn default_pod_resources(spec: &mut PodSpec) {
    let Some(mut own) = spec.resources.take() else { return };
    let is_empty = |amounts: &Option<Amounts>| amounts.as_ref().is_none_or(Amounts::is_empty);
    if !is_empty(&own.limits) || !is_empty(&own.requests) {
        let asked = own.requests.clone().unwrap_or_default();
        let pages = aggregates(spec, resource_validation::limits).into_iter();
        let pages = pages
            .filter(|(name, _)| name.starts_with(HUGE_PAGES) && !asked.contains_key(name))
            .collect();
        fill_amounts(&mut own.limits, pages);
    }
    if !is_empty(&own.limits) {
        let together = aggregates(spec, resource_validation::requests).into_iter();
        let together = together.filter(|(name, _)| !name.starts_with(HUGE_PAGES)).collect();
        fill_amounts(&mut own.requests, together);
        let limits = own.limits.iter().flatten().map(|(name, limit)| (name.clone(), limit.clone()));
        let limits =
            limits.filter(|(name, _)| resource_validation::is_of_pods(name)).collect::<Amounts>();
        fill_amounts(&mut own.requests, limits);
    }
    spec.resources = Some(own);
}

/// What the containers say together about each resource that a pod as a whole can have.
fn aggregates(spec: &PodSpec, of: fn(&ResourceRequirements) -> Option<&Amounts>) -> Amounts {
    let containers = spec.containers.iter().chain(items(&spec.init_containers));
    let all = containers.filter_map(|container| of(container.resources.as_ref()?)).flatten();
    let mut together = Amounts::new();
    for (name, first) in all.filter(|(name, _)| resource_validation::is_of_pods(name)) {
        together.entry(name.clone()).or_insert_with(|| {
            let nano = resource_validation::aggregate(spec, name, of);
            Quantity(quantity::written_like(nano, &first.0))
        });
    }
    together
}

fn fill_amounts(amounts: &mut Option<Amounts>, defaults: Amounts) {
    if !defaults.is_empty() {
        let amounts = amounts.get_or_insert_default();
        for (name, amount) in defaults {
            amounts.entry(name).or_insert(amount);
        }
    }
}

/// What `matchLabelKeys` and `mismatchLabelKeys` mean for a pod with these labels becomes part of the selectors, so that
/// later changes of its labels change nothing.
pub(super) fn merge_label_keys(spec: &mut PodSpec, labels: Option<&BTreeMap<String, String>>) {
    let merge = |selector: &mut Option<LabelSelector>, keys: &Option<Vec<String>>, how: &str| {
        let Some(selector) = selector else { return };
        for key in items(keys) {
            let operator = how.to_owned();
            let Some(value) = labels.and_then(|labels| labels.get(key)) else { continue };
            let (key, values) = (key.clone(), Some(vec![value.clone()]));
            let requirement = LabelSelectorRequirement { key, operator, values };
            selector.match_expressions.get_or_insert_default().push(requirement);
        }
    };
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        merge(&mut constraint.label_selector, &constraint.match_label_keys, "In");
    }
    let Some(affinity) = &mut spec.affinity else { return };
    let (near, far) = (&mut affinity.pod_affinity, &mut affinity.pod_anti_affinity);
    let mut terms: Vec<&mut PodAffinityTerm> = Vec::new();
    if let Some(near) = near {
        terms.extend(near.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let wishes = near.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(wishes.flatten().map(|wish| &mut wish.pod_affinity_term));
    }
    if let Some(far) = far {
        terms.extend(far.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let wishes = far.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(wishes.flatten().map(|wish| &mut wish.pod_affinity_term));
    }
    for term in terms {
        merge(&mut term.label_selector, &term.match_label_keys, "In");
        merge(&mut term.label_selector, &term.mismatch_label_keys, "NotIn");
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both always say the same.
pub(super) fn copy_service_account(spec: &mut PodSpec) {
    if text(&spec.service_account_name).is_empty() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

fn default_container(container: &mut Container) {
    let policy = pull_policy(text(&container.image));
    fill_text(&mut container.image_pull_policy, policy);
    fill_text(&mut container.termination_message_path, "/dev/termination-log");
    fill_text(&mut container.termination_message_policy, "File");
    fill(&mut container.resources, ResourceRequirements::default());
    for port in container.ports.iter_mut().flatten() {
        fill_text(&mut port.protocol, "TCP");
    }
    for variable in container.env.iter_mut().flatten() {
        let field = variable.value_from.as_mut().and_then(|source| source.field_ref.as_mut());
        if let Some(field) = field {
            fill_text(&mut field.api_version, "v1");
        }
    }
    for probe in [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ] {
        probe.iter_mut().for_each(default_probe);
    }
    container.lifecycle.iter_mut().for_each(default_lifecycle);
}

fn default_ephemeral_container(container: &mut EphemeralContainer) {
    let policy = pull_policy(text(&container.image));
    fill_text(&mut container.image_pull_policy, policy);
    fill_text(&mut container.termination_message_path, "/dev/termination-log");
    fill_text(&mut container.termination_message_policy, "File");
    fill(&mut container.resources, ResourceRequirements::default());
}

/// `Always` for an image whose tag is `latest`, said or meant.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn default_probe(probe: &mut Probe) {
    fill_number(&mut probe.timeout_seconds, 1);
    fill_number(&mut probe.period_seconds, 10);
    fill_number(&mut probe.success_threshold, 1);
    fill_number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(default_http_get);
    if let Some(grpc) = &mut probe.grpc {
        fill(&mut grpc.service, String::new());
    }
}

fn default_lifecycle(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        handler.http_get.iter_mut().for_each(default_http_get);
    }
}

fn default_http_get(action: &mut HTTPGetAction) {
    fill_text(&mut action.path, "/");
    fill_text(&mut action.scheme, "HTTP");
}

fn default_requests(resources: &mut ResourceRequirements) {
    if let Some(limits) = resources.limits.clone() {
        fill_amounts(&mut resources.requests, limits);
    }
}

fn default_volume(volume: &mut Volume) {
    let named_only = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == named_only {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.config_map {
        fill(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.secret {
        fill(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.host_path {
        fill(&mut source.type_, String::new());
    }
    let mut files = Vec::new();
    if let Some(source) = &mut volume.downward_api {
        fill(&mut source.default_mode, FILE_MODE);
        files.extend(source.items.iter_mut().flatten());
    }
    if let Some(source) = &mut volume.projected {
        fill(&mut source.default_mode, FILE_MODE);
        for projection in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut projection.service_account_token {
                fill(&mut token.expiration_seconds, TOKEN_SECONDS);
            }
            let downward = projection.downward_api.iter_mut();
            files.extend(downward.flat_map(|source| source.items.iter_mut().flatten()));
        }
    }
    for field in files.into_iter().filter_map(|file| file.field_ref.as_mut()) {
        fill_text(&mut field.api_version, "v1");
    }
    if let Some(image) = &mut volume.image {
        let policy = pull_policy(text(&image.reference));
        fill_text(&mut image.pull_policy, policy);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::{shown, testing::object};

    #[test]
    fn pull_policies() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn resources_of_a_pod_as_a_whole() {
        let container = |resources| json!({"name": "a", "resources": resources});
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let init = json!({"name": "i", "resources": {"limits": {"memory": "3Gi"}}});
        for (containers, init, own, expected) in [
            (vec![json!({"requests": {"cpu": "1"}})], vec![], json!(null), json!(null)),
            (vec![json!({"requests": {"cpu": "1"}})], vec![], json!({}), json!({})),
            // Without limits, requests stay as they are.
            (
                vec![json!({"requests": {"cpu": "1", "memory": "1Gi"}})],
                vec![],
                json!({"requests": {"cpu": "2"}}),
                json!({"requests": {"cpu": "2"}}),
            ),
            (
                vec![json!({})],
                vec![],
                json!({"limits": {"cpu": "2"}}),
                json!({"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}),
            ),
            (
                vec![
                    json!({"requests": {"cpu": "500m"}}),
                    json!({"limits": {"cpu": "1", "a.b/c": "1"}}),
                ],
                vec![sidecar.clone(), init],
                json!({"limits": {"cpu": "4"}}),
                json!({"limits": {"cpu": "4"}, "requests": {"cpu": "2500m", "memory": "3Gi"}}),
            ),
            (
                vec![json!({"requests": {"cpu": "500m"}})],
                vec![sidecar],
                json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "3"}}),
                json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "3", "memory": "1Gi"}}),
            ),
            // Huge pages: the limits of the containers, which are requested.
            (
                vec![
                    json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                    json!({"limits": {"hugepages-2Mi": "4Mi"}}),
                ],
                vec![],
                json!({"requests": {"cpu": "1"}}),
                json!({"limits": {"hugepages-2Mi": "6Mi"}, "requests": {"cpu": "1", "hugepages-2Mi": "6Mi"}}),
            ),
            (
                vec![json!({"limits": {"hugepages-2Mi": "2Mi"}})],
                vec![],
                json!({"requests": {"hugepages-2Mi": "4Mi"}}),
                json!({"requests": {"hugepages-2Mi": "4Mi"}}),
            ),
        ] {
            let containers: Vec<_> = containers.into_iter().map(container).collect();
            let mut spec: PodSpec =
                object(json!({"containers": containers, "initContainers": init, "resources": own}));
            default_pod_only(&mut spec);
            assert_eq!(shown(&spec.resources), expected, "{own} {containers:?}");
        }
    }

    #[test]
    fn templates() {
        let mut spec: PodSpec = object(json!({
            "serviceAccountName": "web",
            "containers": [{
                "name": "a", "image": "a:1", "ports": [{"containerPort": 80}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "readinessProbe": {"httpGet": {"port": 80}},
                "livenessProbe": {"grpc": {"port": 1}, "periodSeconds": 5},
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/x"}}},
            }],
            "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "c"}}],
        }));
        default_spec(&mut spec);
        assert_eq!(
            shown(&spec),
            json!({
                "containers": [{
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "image": "a:1", "imagePullPolicy": "IfNotPresent",
                    "lifecycle": {"preStop": {"httpGet": {"path": "/x", "port": 80, "scheme": "HTTP"}}},
                    "livenessProbe": {"failureThreshold": 3, "grpc": {"port": 1, "service": ""},
                        "periodSeconds": 5, "successThreshold": 1, "timeoutSeconds": 1},
                    "name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "readinessProbe": {"failureThreshold": 3, "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                        "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                    "resources": {}, "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "serviceAccount": "web", "serviceAccountName": "web",
                "terminationGracePeriodSeconds": 30,
                "volumes": [{"emptyDir": {}, "name": "e"},
                            {"configMap": {"defaultMode": 420, "name": "c"}, "name": "c"}],
            })
        );
    }
}
