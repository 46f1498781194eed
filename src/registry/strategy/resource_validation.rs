//! Validation of what containers and pods ask for: names and amounts of resources, and claims.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceClaim, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    model::{Cause, pod::is_sidecar, quantity},
    registry::strategy::{checks, fields::items},
};

const QUANTITY_RULE: &str = "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
pub(super) const HUGE_PAGES: &str = "hugepages-";
const COMPUTE: [&str; 2] = ["cpu", "memory"];
/// What has no prefix and is a resource of containers, besides huge pages.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What has no prefix and is a resource of something else: of quotas, nodes and claims.
const OF_OTHERS: &[&str] = &[
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
const NANO: i128 = 1_000_000_000;

pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The resources of one container; `claims` are the names of the pod's.
pub(super) fn of_container(
    causes: &mut Vec<Cause>,
    path: &str,
    resources: &ResourceRequirements,
    claims: &BTreeSet<&str>,
) {
    amounts(causes, path, resources, container_name);
    claim_names(causes, &format!("{path}.claims"), items(&resources.claims), claims);
}

/// The resources of a pod as a whole: not less than those of its containers.
pub(super) fn of_pod(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) {
    let Some(resources) = &spec.resources else { return };
    let own = format!("{path}.resources");
    if !items(&resources.claims).is_empty() {
        let rule = "claims may not be set for Resources at pod-level";
        causes.push(Cause::forbidden(format!("{own}.claims"), rule));
    }
    amounts(causes, &own, resources, pod_name);
    for (name, request) in resources.requests.iter().flatten().filter(|(name, _)| is_of_pods(name))
    {
        let needed = aggregate(spec, name, requests);
        if needed > nano(request) {
            let needed = quantity::written_like(needed, &request.0);
            let rule = format!(
                "must be greater than or equal to aggregate container requests of {needed}"
            );
            let field = format!("{own}.requests[{name}]");
            causes.push(Cause::invalid(field, shown(request), &rule));
        }
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.iter().flat_map(|own| own.limits.iter().flatten());
        for (name, limit) in limits.filter(|(name, _)| is_of_pods(name)) {
            let whole = resources.limits.as_ref().and_then(|limits| limits.get(name));
            if let Some(whole) = whole.filter(|whole| nano(limit) > nano(whole)) {
                let rule = format!("must be less than or equal to pod limits of {}", shown(whole));
                let field = format!("{path}.containers[{i}].resources.limits[{name}]");
                causes.push(Cause::invalid(field, shown(limit), &rule));
            }
        }
    }
}

/// What containers request.
pub(super) fn requests(resources: &ResourceRequirements) -> Option<&Amounts> {
    resources.requests.as_ref()
}

/// What containers may use at most.
pub(super) fn limits(resources: &ResourceRequirements) -> Option<&Amounts> {
    resources.limits.as_ref()
}

/// What all containers of a pod request, or may use, together in billionths: init containers run before the others,
/// sidecars beside them.
pub(super) fn aggregate(
    spec: &PodSpec,
    name: &str,
    of: fn(&ResourceRequirements) -> Option<&Amounts>,
) -> i128 {
    let of = |container: &Container| {
        let amounts = container.resources.as_ref().and_then(of);
        amounts.and_then(|amounts| amounts.get(name)).map_or(0, nano)
    };
    let (mut sidecars, mut peak) = (0_i128, 0);
    for init in items(&spec.init_containers) {
        if is_sidecar(init) {
            sidecars = sidecars.saturating_add(of(init));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(of(init)));
        }
    }
    peak.max(spec.containers.iter().map(of).fold(sidecars, i128::saturating_add))
}

fn amounts(
    causes: &mut Vec<Cause>,
    path: &str,
    resources: &ResourceRequirements,
    name_rules: fn(&mut Vec<Cause>, &str, &str),
) {
    let (limits, requests) = (&resources.limits, &resources.requests);
    for (kind, map) in [("limits", limits), ("requests", requests)] {
        for (name, quantity) in map.iter().flatten() {
            let field = format!("{path}.{kind}[{name}]");
            name_rules(causes, &field, name);
            amount(causes, &field, name, quantity);
        }
    }
    not_above_limits(causes, path, requests.as_ref(), limits.as_ref());
    let names: Vec<_> = limits.iter().chain(requests).flat_map(BTreeMap::keys).collect();
    if names.iter().any(|name| name.starts_with(HUGE_PAGES))
        && !names.iter().any(|name| COMPUTE.contains(&name.as_str()))
    {
        causes.push(Cause::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn not_above_limits(
    causes: &mut Vec<Cause>,
    path: &str,
    requests: Option<&Amounts>,
    limits: Option<&Amounts>,
) {
    for (name, request) in requests.into_iter().flatten() {
        let exact = !may_overcommit(name);
        let rule = match limits.and_then(|limits| limits.get(name)) {
            None if exact => {
                let rule = "Limit must be set for non overcommitable resources";
                causes.push(Cause::required(format!("{path}.limits"), rule));
                continue;
            }
            Some(limit) if exact && nano(request) != nano(limit) => {
                format!("must be equal to {name} limit of {}", shown(limit))
            }
            Some(limit) if nano(request) > nano(limit) => {
                format!("must be less than or equal to {name} limit of {}", shown(limit))
            }
            _ => continue,
        };
        causes.push(Cause::invalid(format!("{path}.requests"), shown(request), &rule));
    }
}

fn amount(causes: &mut Vec<Cause>, field: &str, name: &str, quantity: &Quantity) {
    let Some(value) = quantity::nano(&quantity.0) else {
        causes.push(Cause::invalid(field, quantity.0.as_str(), QUANTITY_RULE));
        return;
    };
    if value < 0 {
        let rule = "must be greater than or equal to 0";
        causes.push(Cause::invalid(field, shown(quantity), rule));
    }
    if is_extended(name) && value % NANO != 0 {
        causes.push(Cause::invalid(field, shown(quantity), "must be an integer"));
    }
    let page = name.strip_prefix(HUGE_PAGES).and_then(quantity::nano).filter(|page| *page > 0);
    if page.is_some_and(|page| value % page != 0) {
        let rule = format!("{} is not positive integer multiple of {name}", shown(quantity));
        causes.push(Cause::invalid(field, shown(quantity), &rule));
    }
}

/// The name of what a container can ask for.
pub(super) fn container_name(causes: &mut Vec<Cause>, field: &str, name: &str) {
    let standard = OF_CONTAINERS.contains(&name) || name.starts_with(HUGE_PAGES);
    let before = causes.len();
    known_name(causes, field, name);
    let rule = match name.contains('/') {
        false if !standard => "must be a standard resource for containers",
        true if !is_native(name) && !is_extended(name) && causes.len() == before => {
            "doesn't follow extended resource name standard"
        }
        _ => return,
    };
    causes.push(Cause::invalid(field, name, rule));
}

fn pod_name(causes: &mut Vec<Cause>, field: &str, name: &str) {
    let before = causes.len();
    known_name(causes, field, name);
    if causes.len() == before && !is_of_pods(name) {
        causes.push(Cause::not_supported(field, name, &COMPUTE));
    }
}

/// A resource of anything.
pub(super) fn known_name(causes: &mut Vec<Cause>, field: &str, name: &str) {
    let before = causes.len();
    checks::qualified_name(causes, field, name);
    let known = OF_CONTAINERS.contains(&name) || OF_OTHERS.contains(&name);
    if causes.len() == before && !name.contains('/') && !known && !name.starts_with(HUGE_PAGES) {
        let rule = "must be a standard resource type or fully qualified";
        causes.push(Cause::invalid(field, name, rule));
    }
}

/// Whether a pod as a whole can ask for it.
pub(super) fn is_of_pods(name: &str) -> bool {
    COMPUTE.contains(&name) || name.starts_with(HUGE_PAGES)
}

/// Whether there are no fractions of it, in a quota too.
pub(super) fn is_whole_number(name: &str) -> bool {
    name.starts_with("count/") || is_extended(name.strip_prefix("requests.").unwrap_or(name))
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// One that somebody else than Kubernetes defines.
fn is_extended(name: &str) -> bool {
    let mut broken = Vec::new();
    // In a quota it must still be a name.
    checks::qualified_name(&mut broken, "", &format!("requests.{name}"));
    !is_native(name) && !name.starts_with("requests.") && broken.is_empty()
}

/// Whether a limit may be larger than the request.
pub(super) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

fn claim_names(
    causes: &mut Vec<Cause>,
    path: &str,
    claims: &[ResourceClaim],
    known: &BTreeSet<&str>,
) {
    let mut seen = BTreeSet::new();
    for (i, claim) in claims.iter().enumerate() {
        let field = format!("{path}[{i}]");
        if claim.name.is_empty() {
            causes.push(Cause::required(field, ""));
            continue;
        }
        if !seen.insert((&claim.name, &claim.request)) {
            causes.push(Cause::duplicate(field.as_str(), claim.name.as_str()));
        }
        if !known.contains(claim.name.as_str()) {
            let mut cause = Cause::not_found(field, claim.name.as_str());
            cause.message.push_str(": must be one of the names in pod.spec.resourceClaims");
            if known.is_empty() {
                cause.message.push_str(" which is empty");
            }
            causes.push(cause);
        }
    }
}

/// Zero when it is no quantity, which is told elsewhere.
fn nano(quantity: &Quantity) -> i128 {
    quantity::nano(&quantity.0).unwrap_or_default()
}

fn shown(quantity: &Quantity) -> String {
    quantity::canonical(&quantity.0).unwrap_or_else(|| quantity.0.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, object};

    #[test]
    fn containers() {
        let twice = [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ];
        for (resources, expected) in [
            (json!({"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1", "hugepages-2Mi": "4Mi"}}), vec![]),
            (json!({"limits": {"gpu": "1"}}), twice.map(|rule| format!("r.limits[gpu]: Invalid value: \"gpu\": {rule}")).to_vec()),
            (json!({"limits": {"pods": "1"}}), vec![format!("r.limits[pods]: Invalid value: \"pods\": {}", twice[1])]),
            (json!({"limits": {"a.b/c": "2"}, "requests": {"a.b/c": "2"}}), vec![]),
            (json!({"limits": {"a.b/c": "1500m"}}), vec!["r.limits[a.b/c]: Invalid value: \"1500m\": must be an integer".to_owned()]),
            (json!({"limits": {"a.b/c": "2"}, "requests": {"a.b/c": "1"}}), vec!["r.requests: Invalid value: \"1\": must be equal to a.b/c limit of 2".to_owned()]),
            (json!({"requests": {"a.b/c": "1"}}), vec!["r.limits: Required value: Limit must be set for non overcommitable resources".to_owned()]),
            (json!({"limits": {"requests.b/c": "1"}}), vec!["r.limits[requests.b/c]: Invalid value: \"requests.b/c\": doesn't follow extended resource name standard".to_owned()]),
            (json!({"limits": {"hugepages-1Gi": "1Gi"}}), vec!["r: Forbidden: HugePages require cpu or memory".to_owned()]),
            (json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}), vec!["r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi".to_owned()]),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2000m"}}), vec!["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1".to_owned()]),
            (json!({"limits": {"memory": "-1"}}), vec!["r.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0".to_owned()]),
            (json!({"claims": [{"name": "a"}, {"name": "a", "request": "x"}, {"name": "a"}, {"name": "b"}]}),
             vec!["r.claims[2]: Duplicate value: \"a\"".to_owned(), "r.claims[3]: Not found: \"b\": must be one of the names in pod.spec.resourceClaims".to_owned()]),
        ] {
            let mut causes = Vec::new();
            of_container(&mut causes, "r", &object(resources.clone()), &["a"].into());
            assert_eq!(lines(&causes), expected, "{resources}");
        }
    }

    #[test]
    fn pods() {
        let requests = |cpu: &str| json!({"name": "x", "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "2Gi"}}});
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        for (resources, expected) in [
            (json!({"requests": {"cpu": "2500m"}, "limits": {"memory": "2048Mi"}}), vec![]),
            (
                json!({"requests": {"cpu": "2"}}),
                vec![
                    "spec.resources.requests[cpu]: Invalid value: \"2\": must be greater than or equal to aggregate container requests of 2500m",
                ],
            ),
            (
                json!({"limits": {"memory": "1Gi"}}),
                vec![
                    "spec.containers[0].resources.limits[memory]: Invalid value: \"2Gi\": must be less than or equal to pod limits of 1Gi",
                ],
            ),
            (
                json!({"limits": {"a.b/c": "1"}}),
                vec![
                    "spec.resources.limits[a.b/c]: Unsupported value: \"a.b/c\": supported values: \"cpu\", \"memory\"",
                ],
            ),
            (
                json!({"claims": [{"name": "a"}]}),
                vec![
                    "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
                ],
            ),
        ] {
            let spec: Value = json!({"containers": [requests("1500m")], "initContainers": [sidecar, {"name": "i", "resources": {"requests": {"cpu": "1"}}}],
                "resources": resources});
            let mut causes = Vec::new();
            of_pod(&mut causes, "spec", &object(spec));
            assert_eq!(lines(&causes), expected, "{resources}");
        }
    }
}
