//! Validation of security contexts: users, groups and kernel parameters.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext, Sysctl};

use crate::{
    model::Cause,
    registry::strategy::{checks, fields::items},
};

const ID_RULE: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL_MAX: usize = 253;
const SYSCTL_RULE: &str = "must have at most 253 characters and match regex \
     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// The security context of a pod, `path` being its spec's.
pub(super) fn of_pod(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) {
    let Some(context) = &spec.security_context else { return };
    let at = |field: &str| format!("{path}.securityContext.{field}");
    id(causes, &at("fsGroup"), context.fs_group);
    id(causes, &at("runAsUser"), context.run_as_user);
    id(causes, &at("runAsGroup"), context.run_as_group);
    for group in items(&context.supplemental_groups) {
        id(causes, &at("supplementalGroups"), Some(*group));
    }
    sysctls(causes, &at("sysctls"), items(&context.sysctls), spec);
    if let Some(policy) = &context.fs_group_change_policy {
        checks::one_of(causes, &at("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    if let Some(policy) = &context.supplemental_groups_policy {
        checks::one_of(causes, &at("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    }
}

/// The security context of a container.
pub(super) fn of_container(causes: &mut Vec<Cause>, path: &str, context: &SecurityContext) {
    id(causes, &format!("{path}.runAsUser"), context.run_as_user);
    id(causes, &format!("{path}.runAsGroup"), context.run_as_group);
    if let Some(mount) = &context.proc_mount {
        checks::one_of(causes, &format!("{path}.procMount"), mount, &["Default", "Unmasked"]);
    }
    if context.allow_privilege_escalation == Some(false) {
        let added = context.capabilities.iter().flat_map(|own| items(&own.add));
        for (broken, other) in [
            (context.privileged == Some(true), "`privileged` to true"),
            (added.clone().any(|one| one == "CAP_SYS_ADMIN"), "`capabilities.Add` CAP_SYS_ADMIN"),
        ] {
            if broken {
                let rule = format!("cannot set `allowPrivilegeEscalation` to false and {other}");
                causes.push(Cause::invalid(path, checks::shown(context), &rule));
            }
        }
    }
}

fn id(causes: &mut Vec<Cause>, field: &str, id: Option<i64>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        causes.push(Cause::invalid(field, id, ID_RULE));
    }
}

fn sysctls(causes: &mut Vec<Cause>, path: &str, sysctls: &[Sysctl], spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let (field, name) = (format!("{path}[{i}].name"), sysctl.name.as_str());
        if name.is_empty() {
            causes.push(Cause::required(field.as_str(), ""));
        } else if name.len() > SYSCTL_MAX || !name.split(['.', '/']).all(is_segment) {
            causes.push(Cause::invalid(field.as_str(), name, SYSCTL_RULE));
        } else if seen.contains(name) {
            causes.push(Cause::duplicate(field.as_str(), name));
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        for (shares, prefix, host) in [
            (spec.host_network, "net.", "hostNetwork"),
            (spec.host_ipc, "kernel.shm", "hostIPC"),
            (spec.host_ipc, "kernel.msg", "hostIPC"),
            (spec.host_ipc, "kernel.sem", "hostIPC"),
            (spec.host_ipc, "fs.mqueue.", "hostIPC"),
        ] {
            if shares == Some(true) && dotted.starts_with(prefix) {
                let rule = format!("may not be specified when '{host}' is true");
                causes.push(Cause::invalid(field.as_str(), name, &rule));
            }
        }
    }
}

fn is_segment(text: &str) -> bool {
    let ends = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| ends(*c))
        && bytes.last().is_some_and(|c| ends(*c))
        && bytes.iter().all(|c| ends(*c) || matches!(c, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, merged, object};

    #[test]
    fn users_and_sysctls() {
        for (spec, expected) in [
            (
                json!({"runAsUser": 0, "fsGroup": 2_147_483_647_i64, "sysctls": [{"name": "net/ipv4/tcp_x", "value": "1"}]}),
                vec![],
            ),
            (
                json!({"runAsUser": -1, "supplementalGroups": [1, -2]}),
                vec![
                    "s.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                    "s.securityContext.supplementalGroups: Invalid value: -2: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                json!({"sysctls": [{"name": "a.b"}, {"name": "a.b"}, {"name": ""}]}),
                vec![
                    "s.securityContext.sysctls[1].name: Duplicate value: \"a.b\"",
                    "s.securityContext.sysctls[2].name: Required value",
                ],
            ),
        ] {
            let spec = merged(json!({"containers": []}), &json!({"securityContext": spec}));
            let mut causes = Vec::new();
            of_pod(&mut causes, "s", &object(spec.clone()));
            assert_eq!(lines(&causes), expected, "{spec}");
        }
        for name in ["A.b", "a..b", ".a", "a_", "a b"] {
            let mut causes = Vec::new();
            let sysctl = object(json!({"name": name, "value": ""}));
            sysctls(&mut causes, "s", &[sysctl], &PodSpec::default());
            assert!(lines(&causes).concat().contains("must have at most 253"), "{name}");
        }
        let mut causes = Vec::new();
        let both = json!({"privileged": true, "allowPrivilegeEscalation": false, "runAsGroup": -3});
        of_container(&mut causes, "c", &object(both));
        let told = lines(&causes);
        assert!(told[0].starts_with("c.runAsGroup: Invalid value: -3"), "{told:?}");
        assert!(told[1].ends_with("to false and `privileged` to true"), "{told:?}");
    }
}
