//! What is allowed in a pod or a template and yet hardly meant: texts for `Warning` headers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, PodTemplateSpec,
        Volume, VolumeProjection, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    model::{
        quantity,
        well_known::{BETA_ARCH_LABEL, BETA_OS_LABEL},
    },
    registry::strategy::{
        fields::{items, text},
        metadata::{NameForm, validate_name},
    },
};

const NODE_LABELS: &[(&str, &str)] = &[
    (BETA_ARCH_LABEL, "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    (BETA_OS_LABEL, "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];
const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const POD_SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const OLD_APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const NANO: i128 = 1_000_000_000;

type Labels = BTreeMap<String, String>;

/// The warnings about a pod when it is created.
pub(super) fn of_pod(pod: &Pod) -> Vec<String> {
    let name = text(&pod.metadata.name);
    let mut all = name_warning(name, "the Pod's hostname");
    if let Some(spec) = &pod.spec {
        of_spec(&mut all, "", spec, pod.metadata.annotations.as_ref());
    }
    all
}

/// The warnings about a workload: about its name when it is created, and about its template when its spec changes. `old` is
/// `None` at the creation.
pub(super) fn of_workload<S: PartialEq>(
    name: Option<&String>,
    new: Option<&S>,
    old: Option<&S>,
    template: impl FnOnce(&S) -> Option<&PodTemplateSpec>,
) -> Vec<String> {
    let Some((new, template)) = new.and_then(|new| Some((new, template(new)?))) else {
        return Vec::new();
    };
    let mut all = match (old, name) {
        (None, Some(name)) => name_warning(name, "Pod names and hostnames"),
        _ => Vec::new(),
    };
    if old != Some(new) {
        of_template(&mut all, "spec.template.", template);
    }
    all
}

/// The warnings about a pod template. `path` ends with a dot.
pub(super) fn of_template(all: &mut Vec<String>, path: &str, template: &PodTemplateSpec) {
    let annotations = template.metadata.as_ref().and_then(|own| own.annotations.as_ref());
    if let Some(spec) = &template.spec {
        of_spec(all, path, spec, annotations);
    }
}

fn name_warning(name: &str, purpose: &str) -> Vec<String> {
    let rules = validate_name(name, NameForm::Label);
    if rules.is_empty() {
        return Vec::new();
    }
    let rules = rules.join(" ");
    vec![format!(
        "metadata.name: this is used in {purpose}, which can result in surprising behavior; a DNS label is \
         recommended: [{rules}]"
    )]
}

fn of_spec(all: &mut Vec<String>, path: &str, spec: &PodSpec, annotations: Option<&Labels>) {
    let empty = Labels::new();
    let annotations = annotations.unwrap_or(&empty);
    let annotated = format!("{path}metadata.annotations");
    node_labels(all, path, spec);
    for (key, why) in ANNOTATIONS.iter().filter(|(key, _)| annotations.contains_key(*key)) {
        all.push(format!("{annotated}[{key}]: {why}"));
    }
    for (i, volume) in items(&spec.volumes).iter().enumerate() {
        old_volumes(all, &format!("{path}spec.volumes[{i}]"), volume);
    }
    token_paths(all, path, spec);
    repetitions(all, path, spec);
    amounts(all, &format!("{path}spec.overhead"), spec.overhead.as_ref());
    let context = spec.security_context.as_ref();
    if context.is_none_or(|own| own.seccomp_profile.is_none())
        && annotations.contains_key(POD_SECCOMP)
    {
        all.push(format!("{annotated}[{POD_SECCOMP}]: {NO_SECCOMP}"));
    }
    let confined = context.is_some_and(|own| own.app_armor_profile.is_some());
    for (at, container) in containers(path, spec) {
        let own = container.security_context.as_ref();
        for (prefix, why, replaced) in [
            (CONTAINER_SECCOMP, NO_SECCOMP, own.is_some_and(|own| own.seccomp_profile.is_some())),
            (
                APP_ARMOR,
                OLD_APP_ARMOR,
                confined || own.is_some_and(|own| own.app_armor_profile.is_some()),
            ),
        ] {
            let key = format!("{prefix}{}", container.name);
            if !replaced && annotations.contains_key(&key) {
                all.push(format!("{annotated}[{key}]: {why}"));
            }
        }
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|own| own.limits.as_ref());
        amounts(all, &format!("{at}.resources.limits"), limits);
        let requests = resources.and_then(|own| own.requests.as_ref());
        amounts(all, &format!("{at}.resources.requests"), requests);
        variables(all, &at, container);
    }
    ports(all, path, spec);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let rule = "must be >= 0; negative values are invalid and will be treated as 1";
        all.push(format!("{path}spec.terminationGracePeriodSeconds: {rule}"));
    }
    pod_affinity(all, path, spec);
}

/// Init containers and containers, each with where it stands.
fn containers<'a>(path: &str, spec: &'a PodSpec) -> Vec<(String, &'a Container)> {
    let init = items(&spec.init_containers).iter().enumerate();
    let init = init.map(|(i, container)| (format!("{path}spec.initContainers[{i}]"), container));
    let main = spec.containers.iter().enumerate();
    let main = main.map(|(i, container)| (format!("{path}spec.containers[{i}]"), container));
    init.chain(main).collect()
}

fn deprecation(label: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(known, _)| *known == label).map(|(_, why)| *why)
}

fn node_labels(all: &mut Vec<String>, path: &str, spec: &PodSpec) {
    for label in spec.node_selector.iter().flat_map(BTreeMap::keys) {
        if let Some(why) = deprecation(label) {
            all.push(format!("{path}spec.nodeSelector[{label}]: {why}"));
        }
    }
    let term = |all: &mut Vec<String>, path: &str, term: &NodeSelectorTerm| {
        for (i, expression) in items(&term.match_expressions).iter().enumerate() {
            if let Some(why) = deprecation(&expression.key) {
                all.push(format!("{path}.matchExpressions[{i}].key: {} is {why}", expression.key));
            }
        }
    };
    let affinity = spec.affinity.as_ref().and_then(|own| own.node_affinity.as_ref());
    let path = format!("{path}spec");
    if let Some(affinity) = affinity {
        let at = format!("{path}.affinity.nodeAffinity");
        let required = affinity.required_during_scheduling_ignored_during_execution.iter();
        for (i, own) in required.flat_map(|own| &own.node_selector_terms).enumerate() {
            let field = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
            term(all, &format!("{at}.{field}[{i}]"), own);
        }
        let preferred = items(&affinity.preferred_during_scheduling_ignored_during_execution);
        for (i, own) in preferred.iter().enumerate() {
            let field = "preferredDuringSchedulingIgnoredDuringExecution";
            term(all, &format!("{at}.{field}[{i}].preference"), &own.preference);
        }
    }
    for (i, constraint) in items(&spec.topology_spread_constraints).iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{i}]");
        let key = &constraint.topology_key;
        if let Some(why) = deprecation(key) {
            all.push(format!("{at}.topologyKey: {key} is {why}"));
        }
        if constraint.label_selector.is_none() {
            all.push(format!("{at}.labelSelector: {NO_SELECTOR}"));
        }
    }
}

fn old_volumes(all: &mut Vec<String>, path: &str, volume: &Volume) {
    for (field, given, why) in [
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("gitRepo", volume.git_repo.is_some(), "deprecated in v1.11"),
        ("scaleIO", volume.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", volume.flocker.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("storageOS", volume.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", volume.quobyte.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", volume.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", volume.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if given {
            all.push(format!("{path}.{field}: {why}"));
        }
    }
}

/// Files that the token of a ServiceAccount would hide.
fn token_paths(all: &mut Vec<String>, path: &str, spec: &PodSpec) {
    fn sources(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
        volume.projected.iter().flat_map(|own| items(&own.sources))
    }
    let volumes = items(&spec.volumes);
    let tokens = volumes.iter().flat_map(sources);
    let tokens = tokens.filter_map(|source| source.service_account_token.as_ref());
    let tokens: BTreeSet<&str> = tokens.map(|token| token.path.as_str()).collect();
    for (i, volume) in volumes.iter().enumerate() {
        for source in sources(volume) {
            let maps = source.config_map.iter().flat_map(|own| items(&own.items));
            let maps = maps.map(|item| ("configMap", &item.path));
            let secrets = source.secret.iter().flat_map(|own| items(&own.items));
            let secrets = secrets.map(|item| ("secrets", &item.path));
            let fields = source.downward_api.iter().flat_map(|own| items(&own.items));
            let fields = fields.map(|item| ("downwardAPI", &item.path));
            let lists: [Vec<_>; 3] = [maps.collect(), secrets.collect(), fields.collect()];
            for list in lists {
                for (j, (kind, file)) in list.into_iter().enumerate() {
                    if tokens.contains(file.as_str()) {
                        all.push(format!(
                            "{path}spec.volumes[{i}].projected.sources.{kind}[{j}]: has duplicated path with \
                             ServiceAccountToken {file:?}"
                        ));
                    }
                }
            }
        }
    }
}

fn repetitions(all: &mut Vec<String>, path: &str, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (i, alias) in items(&spec.host_aliases).iter().enumerate() {
        if !seen.insert(&alias.ip) {
            all.push(format!("{path}spec.hostAliases[{i}].ip: duplicate ip {:?}", alias.ip));
        }
    }
    let mut seen = BTreeSet::new();
    let mut unnamed = Vec::new();
    for (i, secret) in items(&spec.image_pull_secrets).iter().enumerate() {
        let field = format!("{path}spec.imagePullSecrets[{i}].name");
        if !seen.insert(&secret.name) {
            all.push(format!("{field}: duplicate name {:?}", secret.name));
        }
        if secret.name.is_empty() {
            unnamed.push(format!("{field}: invalid empty name \"\""));
        }
    }
    all.extend(unnamed);
}

/// There is no part of a byte: `100m` of memory is a slip for `100Mi`.
fn amounts(all: &mut Vec<String>, path: &str, amounts: Option<&BTreeMap<String, Quantity>>) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(Quantity(amount)) = amounts.and_then(|own| own.get(name)) else { continue };
        if quantity::nano(amount).is_some_and(|nano| nano % NANO != 0) {
            let shown = quantity::canonical(amount).unwrap_or_default();
            all.push(format!(
                "{path}[{name}]: fractional byte value {shown:?} is invalid, must be an integer"
            ));
        }
    }
}

/// A variable that is given twice, and not to build upon the first.
fn variables(all: &mut Vec<String>, path: &str, container: &Container) {
    let mut seen = BTreeSet::new();
    for (i, variable) in items(&container.env).iter().enumerate() {
        let (name, value) = (&variable.name, text(&variable.value));
        let earlier = format!("$({name})");
        let builds = variable.value_from.is_none() && value != earlier && value.contains(&earlier);
        if !seen.insert(name) && !builds {
            all.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(all: &mut Vec<String>, path: &str, spec: &PodSpec) {
    let mut known: Vec<(String, &ContainerPort)> = Vec::new();
    for (at, container) in containers(path, spec) {
        for (i, port) in items(&container.ports).iter().enumerate() {
            let at = format!("{at}.ports[{i}]");
            let (ip, host) = (text(&port.host_ip), port.host_port.unwrap_or_default());
            if !ip.is_empty() && host == 0 {
                let (name, protocol) = (text(&port.name), text(&port.protocol));
                all.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{} Protocol:{protocol} \
                     HostIP:{ip}}}",
                    port.container_port
                ));
            }
            let same = |other: &&(String, &ContainerPort)| {
                (other.1.container_port, text(&other.1.protocol))
                    == (port.container_port, text(&port.protocol))
            };
            for (place, other) in known.iter().filter(same) {
                let (other_ip, other_host) =
                    (text(&other.host_ip), other.host_port.unwrap_or_default());
                let how = if (other_ip, other_host) == (ip, host) {
                    "duplicate"
                } else if host == 0 || other_host == 0 {
                    "overlapping"
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                all.push(format!("{at}: {how} port definition with {place}"));
            }
            known.push((at, port));
        }
    }
}

fn pod_affinity(all: &mut Vec<String>, path: &str, spec: &PodSpec) {
    let Some(affinity) = &spec.affinity else { return };
    let mut terms = |field: &str,
                     required: &Option<Vec<PodAffinityTerm>>,
                     preferred: &Option<Vec<WeightedPodAffinityTerm>>| {
        let path = format!("{path}spec.affinity.{field}");
        for (i, term) in items(required).iter().enumerate() {
            if term.label_selector.is_none() {
                all.push(format!("{path}.requiredDuringSchedulingIgnoredDuringExecution[{i}].labelSelector: {NO_SELECTOR}"));
            }
        }
        for (i, term) in items(preferred).iter().enumerate() {
            if term.pod_affinity_term.label_selector.is_none() {
                all.push(format!(
                    "{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}].podAffinityTerm.labelSelector: {NO_SELECTOR}"
                ));
            }
        }
    };
    if let Some(near) = &affinity.pod_affinity {
        terms(
            "podAffinity",
            &near.required_during_scheduling_ignored_during_execution,
            &near.preferred_during_scheduling_ignored_during_execution,
        );
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        terms(
            "podAntiAffinity",
            &far.required_during_scheduling_ignored_during_execution,
            &far.preferred_during_scheduling_ignored_during_execution,
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::strategy::checks::testing::{merged, object};

    fn container(more: &Value) -> Value {
        json!({"containers": [merged(json!({"name": "c", "image": "i"}), more)]})
    }

    #[test]
    fn what_is_hardly_meant() {
        for (spec, annotations, expected) in [
            (
                container(&json!({"ports": [{"containerPort": 1}, {"containerPort": 2}]})),
                json!({}),
                vec![],
            ),
            (
                json!({"containers": [], "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "failure-domain.beta.kubernetes.io/zone",
                        "whenUnsatisfiable": "DoNotSchedule"}]}),
                json!({}),
                vec![
                    "t.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                    "t.spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated \
                     since v1.17; use \"topology.kubernetes.io/zone\" instead",
                    "t.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                ],
            ),
            (
                container(
                    &json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}),
                ),
                json!({}),
                vec![
                    "t.spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                ],
            ),
            (
                container(&json!({"ports": [
                    {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"},
                    {"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "hostPort": 9, "protocol": "UDP"}]})),
                json!({}),
                vec![
                    "t.spec.containers[0].ports[1]: duplicate port definition with t.spec.containers[0].ports[0]",
                    "t.spec.containers[0].ports[3]: overlapping port definition with t.spec.containers[0].ports[2]",
                ],
            ),
            (
                container(&json!({"resources": {"limits": {"memory": "100m", "cpu": "100m"}}})),
                json!({"container.seccomp.security.alpha.kubernetes.io/c": "x",
                    "container.apparmor.security.beta.kubernetes.io/c": "y", "container.apparmor.security.beta.kubernetes.io/d": "y"}),
                vec![
                    "t.metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use \
                     the \"seccompProfile\" field instead",
                    "t.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \
                     \"appArmorProfile\" field instead",
                    "t.spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                ],
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
                    "volumes": [{"name": "v", "gitRepo": {"repository": "r"}}],
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]}}}),
                json!({}),
                vec![
                    "t.spec.volumes[0].gitRepo: deprecated in v1.11",
                    "t.spec.imagePullSecrets[1].name: duplicate name \"a\"",
                    "t.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null \
                     labelSelector results in matching no pod",
                ],
            ),
        ] {
            let template = object(json!({"metadata": {"annotations": annotations}, "spec": spec}));
            let mut all = Vec::new();
            of_template(&mut all, "t.", &template);
            assert_eq!(all, expected, "{spec}");
        }
    }

    #[test]
    fn names_and_updates() {
        let template: PodTemplateSpec =
            object(json!({"spec": {"containers": [], "terminationGracePeriodSeconds": -1}}));
        let dotted = "a.b".to_owned();
        let specs = [1, 2].map(|number| (number, template.clone()));
        let [spec, other] = &specs;
        let count = |old| of_workload(Some(&dotted), Some(spec), old, |spec| Some(&spec.1)).len();
        assert_eq!([count(None), count(Some(spec)), count(Some(other))], [2, 0, 1]);
    }
}
