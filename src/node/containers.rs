//! From the containers of a Pod to those of a runtime: commands and their variables, and what becomes of containers that
//! end.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use crate::{
    model::{
        Object,
        pod::{all_containers, is_sidecar},
    },
    node::environment::{PodEnvironment, expand},
    runtime::{Container, ExitCodes, Port, RestartOverrides, RestartPolicy, RestartRule, Role},
};

/// The containers of a pod, in the order in which they start. Those that run already keep the variables that they have;
/// `faults` tells by name which others cannot be made.
pub(crate) fn containers(
    environment: &PodEnvironment<'_>,
    running: &[Container],
    faults: &BTreeMap<String, String>,
) -> Vec<Container> {
    let Some(spec) = &environment.pod.spec else { return Vec::new() };
    let container = |own: &core::Container, role| {
        let known = running.iter().find(|known| known.name == own.name && known.fault.is_none());
        known.cloned().unwrap_or_else(|| Container {
            fault: faults.get(&own.name).cloned(),
            ..container(environment, own, role)
        })
    };
    let first = spec.init_containers.iter().flatten().map(|init| {
        let role = if is_sidecar(init) { Role::Sidecar } else { Role::Init };
        container(init, role)
    });
    let main = spec.containers.iter().map(|main| container(main, Role::Main));
    let later = spec.ephemeral_containers.iter().flatten().map(|later| {
        let later = core::Container {
            name: later.name.clone(),
            command: later.command.clone(),
            args: later.args.clone(),
            env: later.env.clone(),
            env_from: later.env_from.clone(),
            ports: later.ports.clone(),
            ..core::Container::default()
        };
        container(&later, Role::Ephemeral)
    });
    first.chain(main).chain(later).collect()
}

fn container(environment: &PodEnvironment<'_>, own: &core::Container, role: Role) -> Container {
    let words = own.command.iter().chain(&own.args).flatten();
    let pre_stop = pre_stop(own);
    // Only commands look at variables.
    let looks = words.clone().next().is_some() || pre_stop.is_some();
    let env = if looks { environment.variables(own) } else { <_>::default() };
    let command = words.map(|word| expand(word, |name| env.get(name).cloned())).collect();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Container {
        name: own.name.clone(),
        command,
        env,
        ports: declared(own).collect(),
        role,
        fault: None,
        restart: restart_overrides(own),
        pre_stop,
        message_path: text(&own.termination_message_path),
        message_from_log: text(&own.termination_message_policy) == "FallbackToLogsOnError",
    }
}

/// Kubernetes knows two actions of rules: to start the container again, and all of the pod.
fn restart_overrides(container: &core::Container) -> RestartOverrides {
    let rules = container.restart_policy_rules.iter().flatten();
    let rules = rules.filter_map(|rule| {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.operator == "In";
        let on = ExitCodes { listed, codes: codes.values.clone().unwrap_or_default() };
        Some(RestartRule { on, whole_pod: restarts_whole_pod(rule) })
    });
    let policy = container.restart_policy.as_deref().map(policy);
    RestartOverrides { rules: rules.collect(), policy }
}

fn restarts_whole_pod(rule: &core::ContainerRestartRule) -> bool {
    rule.action == "RestartAllContainers"
}

/// Whether the end of one of its containers may stop and start all of them.
pub(crate) fn may_restart_as_a_whole(spec: &core::PodSpec) -> bool {
    all_containers(spec)
        .any(|own| own.restart_policy_rules.iter().flatten().any(restarts_whole_pod))
}

/// A request over HTTP is answered by the pod itself, at once.
fn pre_stop(container: &core::Container) -> Option<Vec<String>> {
    let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    if let Some(sleep) = &hook.sleep {
        return Some(vec!["sleep".to_owned(), sleep.seconds.to_string()]);
    }
    hook.exec.as_ref()?.command.clone()
}

/// Whether, and when, containers that end are started again.
pub(crate) fn restart(pod: &core::Pod) -> RestartPolicy {
    let policy_of = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    policy(policy_of.unwrap_or_default())
}

fn policy(name: &str) -> RestartPolicy {
    match name {
        "Never" => RestartPolicy::Never,
        "OnFailure" => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Whether a pod is meant to end: it belongs to a Job.
pub(crate) fn runs_to_completion(object: &Object) -> bool {
    object.controller().is_some_and(|owner| owner.kind == "Job")
}

/// The ports that a container declares.
pub(crate) fn declared(container: &core::Container) -> impl Iterator<Item = Port> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|own| port(own.container_port, own.protocol.as_deref()))
}

/// A port that can be listened on: no SCTP.
pub(crate) fn port(number: i32, protocol: Option<&str>) -> Option<Port> {
    let udp = match protocol.unwrap_or("TCP") {
        "TCP" => false,
        "UDP" => true,
        _ => return None,
    };
    let number = u16::try_from(number).ok().filter(|number| *number > 0)?;
    Some(Port { number, udp })
}
