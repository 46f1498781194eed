//! Admission plugin LimitRanger: the defaults that LimitRanges give to containers, and their bounds for pods and claims.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::Deserialize;

use crate::{
    model::{kind, quantity},
    registry::{
        View,
        strategy::{
            limit_range::quotient,
            resource_validation::{self as resources, Amounts},
        },
    },
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const CLAIM: &str = "PersistentVolumeClaim";

/// What is read of a LimitRange.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Range {
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    limits: Vec<Item>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item {
    #[serde(rename = "type")]
    of: String,
    max: Amounts,
    min: Amounts,
    default: Amounts,
    default_request: Amounts,
    max_limit_request_ratio: Amounts,
}

/// What one container, pod or claim asks for.
#[derive(Default)]
struct Asked {
    requests: BTreeMap<String, Amount>,
    limits: BTreeMap<String, Amount>,
}

/// Billionths, and how they are written.
#[derive(Clone)]
struct Amount {
    nano: i128,
    text: String,
}

impl Amount {
    fn of(quantity: &Quantity) -> Self {
        let text = quantity::canonical(&quantity.0).unwrap_or_else(|| quantity.0.clone());
        Self { nano: quantity::nano(&quantity.0).unwrap_or(0), text }
    }
}

fn ranges<'a>(
    view: &'a View,
    namespace: &'a str,
) -> impl Iterator<Item = std::sync::Arc<Range>> + 'a {
    view.list(&kind::LIMIT_RANGE, Some(namespace)).map(|range| range.digest::<Range>())
}

/// Gives the containers of a new pod what they do not say; an annotation tells what that was.
pub(super) fn add_defaults(pod: &mut Pod, view: &View) {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let Some(spec) = &mut pod.spec else { return };
    for range in ranges(view, &namespace) {
        let (mut limits, mut requests) = (Amounts::new(), Amounts::new());
        for item in range.spec.limits.iter().filter(|item| item.of == CONTAINER) {
            limits.extend(item.default.clone());
            requests.extend(item.default_request.clone());
        }
        let mut said = Vec::new();
        for container in &mut spec.containers {
            fill(container, &requests, &limits, "container", &mut said);
        }
        for container in spec.init_containers.iter_mut().flatten() {
            fill(container, &requests, &limits, "init container", &mut said);
        }
        if !said.is_empty() {
            let annotations = pod.metadata.annotations.get_or_insert_default();
            let text = format!("LimitRanger plugin set: {}", said.join("; "));
            annotations.insert(ANNOTATION.to_owned(), text);
        }
    }
}

fn fill(
    container: &mut Container,
    requests: &Amounts,
    limits: &Amounts,
    what: &str,
    said: &mut Vec<String>,
) {
    let own = container.resources.get_or_insert_default();
    for (map, defaults, word) in
        [(&mut own.requests, requests, "request"), (&mut own.limits, limits, "limit")]
    {
        let missing = |name: &&String| map.as_ref().is_none_or(|own| !own.contains_key(*name));
        let names: Vec<String> = defaults.keys().filter(missing).cloned().collect();
        if names.is_empty() {
            continue;
        }
        said.push(format!("{} {word} for {what} {}", names.join(", "), container.name));
        let map = map.get_or_insert_default();
        map.extend(names.into_iter().filter_map(|name| {
            let amount = defaults.get(&name)?.clone();
            Some((name, amount))
        }));
    }
}

/// Why a new pod is out of bounds.
pub(super) fn refuse_pod(spec: &PodSpec, namespace: &str, view: &View) -> Option<String> {
    let broken = |range: &Range| {
        let mut broken = Vec::new();
        for item in &range.spec.limits {
            match item.of.as_str() {
                CONTAINER => {
                    let init = spec.init_containers.iter().flatten();
                    for container in spec.containers.iter().chain(init) {
                        item.check(&of_container(container), &mut broken);
                    }
                }
                POD => item.check(&of_pod(spec), &mut broken),
                _ => {}
            }
        }
        aggregate(broken)
    };
    ranges(view, namespace).find_map(|range| broken(&range))
}

/// Why a claim is out of bounds.
pub(super) fn refuse_claim(claim: &PersistentVolumeClaim, view: &View) -> Option<String> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref();
    let asked = Asked { requests: amounts(requests), limits: BTreeMap::new() };
    let broken = |range: &Range| {
        let mut broken = Vec::new();
        for item in range.spec.limits.iter().filter(|item| item.of == CLAIM) {
            item.check_min(&asked, &mut broken);
            for (name, max) in &item.max {
                let (max, rule) = (Amount::of(max), item.rule("maximum", name, max));
                match asked.requests.get(name) {
                    None => broken.push(format!("{rule}.  No request is specified")),
                    Some(own) if own.nano > max.nano => {
                        broken.push(format!("{rule}, but request is {}", own.text));
                    }
                    Some(_) => {}
                }
            }
        }
        aggregate(broken)
    };
    ranges(view, namespace).find_map(|range| broken(&range))
}

/// As Go's aggregated errors: one alone, or all in brackets, each once.
fn aggregate(broken: Vec<String>) -> Option<String> {
    let mut each: Vec<String> = Vec::new();
    for one in broken {
        if !each.contains(&one) {
            each.push(one);
        }
    }
    match each.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}

fn amounts(amounts: Option<&Amounts>) -> BTreeMap<String, Amount> {
    let amounts = amounts.into_iter().flatten();
    amounts.map(|(name, amount)| (name.clone(), Amount::of(amount))).collect()
}

fn of_container(container: &Container) -> Asked {
    let own = container.resources.as_ref();
    Asked {
        requests: amounts(own.and_then(resources::requests)),
        limits: amounts(own.and_then(resources::limits)),
    }
}

/// The sum of the containers, or what the first ones need; what the pod says as a whole comes first.
fn of_pod(spec: &PodSpec) -> Asked {
    let whole = |of: fn(&ResourceRequirements) -> Option<&Amounts>| {
        let init = spec.init_containers.iter().flatten();
        let all = spec
            .containers
            .iter()
            .chain(init)
            .filter_map(|container| container.resources.as_ref().and_then(of));
        let mut sums = BTreeMap::new();
        for (name, amount) in all.flatten() {
            let nano = resources::aggregate(spec, name, of);
            let text = quantity::written_like(nano, &amount.0);
            sums.entry(name.clone()).or_insert(Amount { nano, text });
        }
        sums.extend(amounts(spec.resources.as_ref().and_then(of)));
        sums
    };
    Asked { requests: whole(resources::requests), limits: whole(resources::limits) }
}

impl Item {
    fn rule(&self, bound: &str, name: &str, amount: &Quantity) -> String {
        format!("{bound} {name} usage per {} is {}", self.of, Amount::of(amount).text)
    }

    fn check(&self, asked: &Asked, broken: &mut Vec<String>) {
        self.check_min(asked, broken);
        self.check_max(asked, broken);
        self.check_ratio(asked, broken);
    }

    fn check_min(&self, asked: &Asked, broken: &mut Vec<String>) {
        for (name, min) in &self.min {
            let (min, rule) = (Amount::of(min), self.rule("minimum", name, min));
            match (asked.requests.get(name), asked.limits.get(name)) {
                (None, _) => broken.push(format!("{rule}.  No request is specified")),
                (Some(own), _) if own.nano < min.nano => {
                    broken.push(format!("{rule}, but request is {}", own.text));
                }
                (_, Some(own)) if own.nano < min.nano => {
                    broken.push(format!("{rule}, but limit is {}", own.text));
                }
                _ => {}
            }
        }
    }

    fn check_max(&self, asked: &Asked, broken: &mut Vec<String>) {
        for (name, max) in &self.max {
            let (max, rule) = (Amount::of(max), self.rule("maximum", name, max));
            match (asked.limits.get(name), asked.requests.get(name)) {
                (None, _) => broken.push(format!("{rule}.  No limit is specified")),
                (Some(own), _) if own.nano > max.nano => {
                    broken.push(format!("{rule}, but limit is {}", own.text));
                }
                (_, Some(own)) if own.nano > max.nano => {
                    broken.push(format!("{rule}, but request is {}", own.text));
                }
                _ => {}
            }
        }
    }

    fn check_ratio(&self, asked: &Asked, broken: &mut Vec<String>) {
        for (name, most) in &self.max_limit_request_ratio {
            let most = Amount::of(most);
            let rule =
                format!("{name} max limit to request ratio per {} is {}", self.of, most.text);
            let given = |map: &BTreeMap<String, Amount>| {
                map.get(name).map(|own| own.nano).filter(|own| *own != 0)
            };
            let why = match (given(&asked.requests), given(&asked.limits)) {
                (None, _) => "no request is specified or request is 0".to_owned(),
                (_, None) => "no limit is specified or limit is 0".to_owned(),
                (Some(request), Some(limit)) => {
                    let ratio = quotient(limit, request);
                    if ratio <= quotient(most.nano, 1_000_000_000) {
                        continue;
                    }
                    format!("provided ratio is {ratio:.6}")
                }
            };
            broken.push(format!("{rule}, but {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Object, ObjectKey, object::to_stored},
        registry::strategy::checks::testing::object,
    };

    fn view(limits: &Value) -> View {
        let mut view = View::for_tests();
        let key = ObjectKey::new(&kind::LIMIT_RANGE, "shop", "l");
        let document = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
        let stored = to_stored(&kind::LIMIT_RANGE, document);
        view.insert(&Arc::new(Object::from_stored(key, 1, stored).unwrap()));
        view
    }

    fn pod(containers: &Value, init: &Value) -> Pod {
        object(json!({"metadata": {"name": "p", "namespace": "shop"},
            "spec": {"containers": containers, "initContainers": init}}))
    }

    #[test]
    fn defaults() {
        let view = view(&json!([{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m"}}]));
        let own = json!({"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}});
        let mut pod =
            pod(&json!([{"name": "a"}, {"name": "b", "resources": own}]), &json!([{"name": "i"}]));
        add_defaults(&mut pod, &view);
        let shown = serde_json::to_value(&pod).unwrap();
        assert_eq!(
            shown["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu limit for \
             container b; cpu request for init container i; cpu, memory limit for init container i"
        );
        let containers = &shown["spec"]["containers"];
        assert_eq!(containers[0]["resources"]["limits"], json!({"cpu": "1", "memory": "1Gi"}));
        assert_eq!(
            containers[1]["resources"],
            json!({"requests": {"cpu": "1"},
            "limits": {"cpu": "1", "memory": "2Gi"}})
        );
    }

    #[test]
    fn bounds() {
        let resources = |request: &str, limit: &str| json!({"name": "a", "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}});
        for (limits, containers, expected) in [
            (
                json!([{"type": "Container", "max": {"cpu": "1"}}]),
                json!([resources("500m", "1")]),
                None,
            ),
            (
                json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "600m", "memory": "1Mi"}}]),
                json!([resources("500m", "2"), resources("500m", "2")]),
                Some(
                    "[minimum cpu usage per Container is 600m, but request is 500m, minimum memory usage per Container \
                     is 1Mi.  No request is specified, maximum cpu usage per Container is 1, but limit is 2]",
                ),
            ),
            (
                json!([{"type": "Pod", "max": {"cpu": "3"}}]),
                json!([resources("1", "2"), resources("1", "2")]),
                Some("maximum cpu usage per Pod is 3, but limit is 4"),
            ),
            (
                json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2", "memory": "1"}}]),
                json!([resources("1", "3")]),
                Some(
                    "[cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000, memory max \
                     limit to request ratio per Container is 1, but no request is specified or request is 0]",
                ),
            ),
        ] {
            let pod = pod(&containers, &json!([]));
            let refused = refuse_pod(pod.spec.as_ref().unwrap(), "shop", &view(&limits));
            assert_eq!(refused.as_deref(), expected);
        }
    }

    #[test]
    fn claims() {
        let view = view(&json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"},
            "max": {"storage": "2Gi"}}]));
        for (size, expected) in [
            ("1Gi", None),
            (
                "3Gi",
                Some("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
            ),
            (
                "1Mi",
                Some("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"),
            ),
        ] {
            let claim = object(json!({"metadata": {"name": "c", "namespace": "shop"},
                "spec": {"resources": {"requests": {"storage": size}}}}));
            assert_eq!(refuse_claim(&claim, &view).as_deref(), expected);
        }
    }
}
