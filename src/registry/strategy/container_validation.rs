//! Validation of containers: names, ports, environment, mounts, probes, resources.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvFromSource, EnvVar, ExecAction, GRPCAction, HTTPGetAction,
        LifecycleHandler, PodSpec, Probe, SleepAction, TCPSocketAction, VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    model::Cause,
    registry::strategy::{
        checks,
        field_references::{self, OF_VARIABLES},
        fields::{is_empty, items, text},
        metadata::NameForm,
        resource_validation, security_validation, volume_validation,
    },
};

/// Where a pod spec stands; a few rules hold only for Pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Pod,
    Template,
}

const NOT_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const VARIABLE_RULE: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const RESTART_ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// The containers and init containers of a pod spec.
pub(super) fn containers(
    causes: &mut Vec<Cause>,
    path: &str,
    spec: &PodSpec,
    volumes: &BTreeSet<String>,
    place: Place,
) {
    let grace = spec.termination_grace_period_seconds;
    let claims = items(&spec.resource_claims).iter().map(|claim| claim.name.as_str()).collect();
    let path_of = |kind: &str, i: usize| format!("{path}.{kind}[{i}]");
    if spec.containers.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = path_of("containers", i);
        validate_container(causes, &path, container, volumes, &claims);
        unique_name(causes, &path, &container.name, &mut names);
        hooks_and_probes(causes, &path, container, grace);
        unique_host_ports(causes, &path, container, &mut host_ports);
    }
    for (i, container) in items(&spec.init_containers).iter().enumerate() {
        let path = path_of("initContainers", i);
        validate_container(causes, &path, container, volumes, &claims);
        unique_name(causes, &path, &container.name, &mut names);
        // Init containers run one after the other, so each by itself.
        unique_host_ports(causes, &path, container, &mut BTreeSet::new());
        if text(&container.restart_policy) == "Always" {
            hooks_and_probes(causes, &path, container, grace);
        } else {
            no_hooks_and_probes(causes, &path, container);
        }
    }
    if place == Place::Pod {
        trimmed_images(causes, path, spec);
    }
}

fn trimmed_images(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) {
    let init = items(&spec.init_containers);
    for (kind, containers) in [("containers", &spec.containers[..]), ("initContainers", init)] {
        for (i, container) in containers.iter().enumerate() {
            let image = text(&container.image);
            if image.trim() != image {
                let rule = "must not have leading or trailing whitespace";
                causes.push(Cause::invalid(format!("{path}.{kind}[{i}].image"), image, rule));
            }
        }
    }
}

fn validate_container(
    causes: &mut Vec<Cause>,
    path: &str,
    container: &Container,
    volumes: &BTreeSet<String>,
    claims: &BTreeSet<&str>,
) {
    if container.name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else {
        checks::label(causes, &format!("{path}.name"), &container.name);
    }
    if text(&container.image).is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = text(&container.termination_message_policy);
    let field = format!("{path}.terminationMessagePolicy");
    checks::required_one_of(causes, &field, policy, &policies);
    ports(causes, &format!("{path}.ports"), items(&container.ports));
    for (i, variable) in items(&container.env).iter().enumerate() {
        validate_variable(causes, &format!("{path}.env[{i}]"), variable);
    }
    all_variables(causes, &format!("{path}.envFrom"), items(&container.env_from));
    mounts(causes, &format!("{path}.volumeMounts"), items(&container.volume_mounts), volumes);
    let policies = ["Always", "IfNotPresent", "Never"];
    let policy = text(&container.image_pull_policy);
    checks::required_one_of(causes, &format!("{path}.imagePullPolicy"), policy, &policies);
    if let Some(requirements) = &container.resources {
        resource_validation::of_container(
            causes,
            &format!("{path}.resources"),
            requirements,
            claims,
        );
    }
    if let Some(context) = &container.security_context {
        security_validation::of_container(causes, &format!("{path}.securityContext"), context);
    }
    restarts(causes, path, container);
}

/// Since 1.35 every container can have a restart policy of its own, and rules by exit code.
fn restarts(causes: &mut Vec<Cause>, path: &str, container: &Container) {
    let rules = items(&container.restart_policy_rules);
    let field = format!("{path}.restartPolicy");
    match &container.restart_policy {
        Some(policy) => checks::one_of(causes, &field, policy, RESTART_POLICIES),
        None if !rules.is_empty() => {
            let rule = "must specify restartPolicy when restart rules are used";
            causes.push(Cause::required(field, rule));
        }
        None => {}
    }
    let field = format!("{path}.restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        causes.push(Cause::too_many(field.as_str(), rules.len(), RESTART_RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let field = format!("{field}[{i}]");
        checks::one_of(causes, &format!("{field}.action"), &rule.action, RESTART_ACTIONS);
        let field = format!("{field}.exitCodes");
        let Some(codes) = &rule.exit_codes else {
            causes.push(Cause::required(field, "must be specified"));
            continue;
        };
        checks::one_of(causes, &format!("{field}.operator"), &codes.operator, &["In", "NotIn"]);
        let count = items(&codes.values).len();
        if count > EXIT_CODES_MAX {
            causes.push(Cause::too_many(format!("{field}.values"), count, EXIT_CODES_MAX));
        }
    }
}

fn unique_name<'a>(
    causes: &mut Vec<Cause>,
    path: &str,
    name: &'a str,
    names: &mut BTreeSet<&'a str>,
) {
    if !name.is_empty() && !names.insert(name) {
        causes.push(Cause::duplicate(format!("{path}.name"), name));
    }
}

fn unique_host_ports(
    causes: &mut Vec<Cause>,
    path: &str,
    container: &Container,
    taken: &mut BTreeSet<String>,
) {
    for (i, port) in items(&container.ports).iter().enumerate() {
        let Some(host) = port.host_port.filter(|host| *host != 0) else { continue };
        let shown = format!("{}/{}/{host}", text(&port.protocol), text(&port.host_ip));
        if !taken.insert(shown.clone()) {
            causes.push(Cause::duplicate(format!("{path}.ports[{i}].hostPort"), shown));
        }
    }
}

fn ports(causes: &mut Vec<Cause>, path: &str, ports: &[ContainerPort]) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let name = text(&port.name);
        if !name.is_empty() {
            let field = format!("{path}.name");
            let before = causes.len();
            checks::port_name(causes, &field, name);
            if causes.len() == before && !names.insert(name) {
                causes.push(Cause::duplicate(field, name));
            }
        }
        match port.container_port {
            0 => causes.push(Cause::required(format!("{path}.containerPort"), "")),
            number => checks::port_number(causes, &format!("{path}.containerPort"), number),
        }
        if let Some(host) = port.host_port.filter(|host| *host != 0) {
            checks::port_number(causes, &format!("{path}.hostPort"), host);
        }
        checks::protocol(causes, &format!("{path}.protocol"), text(&port.protocol));
    }
}

fn validate_variable(causes: &mut Vec<Cause>, path: &str, variable: &EnvVar) {
    let name = &variable.name;
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else if !is_variable_name(name) {
        causes.push(Cause::invalid(format!("{path}.name"), name.as_str(), VARIABLE_RULE));
    }
    let Some(source) = &variable.value_from else { return };
    let given = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    let field = format!("{path}.valueFrom");
    if let Some(reference) = &source.field_ref {
        let field = format!("{field}.fieldRef");
        field_references::field(causes, &field, reference, OF_VARIABLES);
    }
    if let Some(reference) = &source.resource_field_ref {
        let field = format!("{field}.resourceFieldRef");
        field_references::resource(causes, &field, reference, false);
    }
    let map = source.config_map_key_ref.as_ref().map(|r| ("configMapKeyRef", &r.name, &r.key));
    let secret = source.secret_key_ref.as_ref().map(|r| ("secretKeyRef", &r.name, &r.key));
    for (kind, name, key) in map.into_iter().chain(secret) {
        checks::name(causes, &format!("{field}.{kind}.name"), name, NameForm::Subdomain);
        if key.is_empty() {
            causes.push(Cause::required(format!("{field}.{kind}.key"), ""));
        } else {
            checks::data_key(causes, &format!("{field}.{kind}.key"), key);
        }
    }
    match given.iter().filter(|given| **given).count() {
        0 => {
            let rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            causes.push(Cause::invalid(field, "", rule));
        }
        _ if !text(&variable.value).is_empty() => {
            causes.push(Cause::invalid(
                field,
                "",
                "may not be specified when `value` is not empty",
            ));
        }
        1 => {}
        _ => {
            let rule = "may not have more than one field specified at a time";
            causes.push(Cause::invalid(field, "", rule));
        }
    }
}

/// `envFrom`: everything in a ConfigMap or Secret.
fn all_variables(causes: &mut Vec<Cause>, path: &str, sources: &[EnvFromSource]) {
    for (i, source) in sources.iter().enumerate() {
        let field = format!("{path}[{i}]");
        let prefix = text(&source.prefix);
        if !is_variable_name(prefix) {
            causes.push(Cause::invalid(format!("{field}.prefix"), prefix, VARIABLE_RULE));
        }
        let map = source.config_map_ref.as_ref().map(|own| ("configMapRef", &own.name));
        let secret = source.secret_ref.as_ref().map(|own| ("secretRef", &own.name));
        for (kind, name) in map.into_iter().chain(secret) {
            let field = format!("{field}.{kind}.name");
            if name.is_empty() {
                causes.push(Cause::required(field, ""));
            } else {
                checks::name(causes, &field, name, NameForm::Subdomain);
            }
        }
        let rule = match (map, secret) {
            (None, None) => "must specify one of: `configMapRef` or `secretRef`",
            (Some(_), Some(_)) => "may not have more than one field specified at a time",
            _ => continue,
        };
        causes.push(Cause::invalid(path, "", rule));
    }
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|c| matches!(c, b' '..=b'~') && c != b'=')
}

fn mounts(causes: &mut Vec<Cause>, path: &str, mounts: &[VolumeMount], volumes: &BTreeSet<String>) {
    let mut points = BTreeSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let (name, at) = (format!("{path}[{i}].name"), format!("{path}[{i}].mountPath"));
        if mount.name.is_empty() {
            causes.push(Cause::required(name.as_str(), ""));
        }
        if !volumes.contains(&mount.name) {
            causes.push(Cause::not_found(name, mount.name.as_str()));
        }
        if mount.mount_path.is_empty() {
            causes.push(Cause::required(at.as_str(), ""));
        }
        if !points.insert(&mount.mount_path) {
            causes.push(Cause::invalid(at, mount.mount_path.as_str(), "must be unique"));
        }
        volume_validation::below(causes, &format!("{path}.subPath"), text(&mount.sub_path));
        let expression = text(&mount.sub_path_expr);
        volume_validation::below(causes, &format!("{path}.subPathExpr"), expression);
        if !expression.is_empty() && !text(&mount.sub_path).is_empty() {
            let field = format!("{path}[{i}].subPathExpr");
            let rule = "subPathExpr and subPath are mutually exclusive";
            causes.push(Cause::invalid(field, expression, rule));
        }
    }
}

fn hooks_and_probes(
    causes: &mut Vec<Cause>,
    path: &str,
    container: &Container,
    grace: Option<i64>,
) {
    if let Some(lifecycle) = &container.lifecycle {
        for (field, hook) in
            [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)]
        {
            if let Some(hook) = hook {
                let field = format!("{path}.lifecycle.{field}");
                handler(causes, &field, &Handler::of_hook(hook), grace);
            }
        }
    }
    for (field, probe, succeeds_once) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        if let Some(probe) = probe {
            validate_probe(causes, &format!("{path}.{field}"), probe, succeeds_once);
        }
    }
}

fn no_hooks_and_probes(causes: &mut Vec<Cause>, path: &str, container: &Container) {
    for (field, given) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if given {
            causes.push(Cause::forbidden(format!("{path}.{field}"), NOT_FOR_INIT));
        }
    }
}

fn validate_probe(causes: &mut Vec<Cause>, path: &str, probe: &Probe, succeeds_once: bool) {
    handler(causes, path, &Handler::of_probe(probe), None);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        checks::not_negative(causes, &format!("{path}.{field}"), value);
    }
    let field = format!("{path}.terminationGracePeriodSeconds");
    match probe.termination_grace_period_seconds {
        Some(seconds) if !succeeds_once => {
            causes.push(Cause::invalid(field, seconds, "must not be set for readinessProbes"));
        }
        Some(seconds) if seconds <= 0 => {
            causes.push(Cause::invalid(field, seconds, "must be greater than 0"));
        }
        _ => {}
    }
    if succeeds_once && let Some(times) = probe.success_threshold.filter(|times| *times != 1) {
        causes.push(Cause::invalid(format!("{path}.successThreshold"), times, "must be 1"));
    }
}

/// What a probe or a hook does; exactly one of these.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of_probe(probe: &'a Probe) -> Self {
        Self {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_socket: probe.tcp_socket.as_ref(),
            grpc: probe.grpc.as_ref(),
            sleep: None,
        }
    }

    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }
}

fn handler(causes: &mut Vec<Cause>, path: &str, handler: &Handler<'_>, grace: Option<i64>) {
    let given: Vec<&str> = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("grpc", handler.grpc.is_some()),
        ("sleep", handler.sleep.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field))
    .collect();
    let Some((first, more)) = given.split_first() else {
        causes.push(Cause::required(path, "must specify a handler type"));
        return;
    };
    let field = format!("{path}.{first}");
    if let Some(exec) = handler.exec {
        if is_empty(&exec.command) {
            causes.push(Cause::required(format!("{field}.command"), ""));
        }
    } else if let Some(http) = handler.http_get {
        http_get(causes, &field, http);
    } else if let Some(tcp) = handler.tcp_socket {
        checks::port(causes, &format!("{field}.port"), &tcp.port);
    } else if let Some(grpc) = handler.grpc {
        checks::port(causes, &format!("{field}.port"), &IntOrString::Int(grpc.port));
    } else if let Some(sleep) = handler.sleep
        && let Some(grace) = grace
        && !(0..=grace).contains(&sleep.seconds)
    {
        let rule =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        causes.push(Cause::invalid(field, sleep.seconds, &rule));
    }
    for other in more {
        let rule = "may not specify more than 1 handler type";
        causes.push(Cause::forbidden(format!("{path}.{other}"), rule));
    }
}

fn http_get(causes: &mut Vec<Cause>, path: &str, action: &HTTPGetAction) {
    if text(&action.path).is_empty() {
        causes.push(Cause::required(format!("{path}.path"), ""));
    }
    checks::port(causes, &format!("{path}.port"), &action.port);
    checks::one_of(causes, &format!("{path}.scheme"), text(&action.scheme), &["HTTP", "HTTPS"]);
    for header in items(&action.http_headers) {
        let valid = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if header.name.is_empty() || !header.name.bytes().all(valid) {
            let rule = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
                 regex used for validation is '[-A-Za-z0-9]+')";
            causes.push(Cause::invalid(format!("{path}.httpHeaders"), header.name.as_str(), rule));
        }
    }
}
