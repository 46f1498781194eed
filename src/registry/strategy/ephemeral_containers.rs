//! Ephemeral containers: added to a running pod for debugging, and never changed or removed again.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EphemeralContainer, PodSpec};

use crate::{
    model::{Cause, pod::all_containers},
    registry::strategy::{
        checks,
        fields::{is_empty, items, text},
    },
};

const FIELD: &str = "spec.ephemeralContainers";

/// The rules of the subresource `ephemeralcontainers`.
pub(super) fn validate(causes: &mut Vec<Cause>, spec: &PodSpec, old: &[EphemeralContainer]) {
    let new = items(&spec.ephemeral_containers);
    for old in old {
        let rule = match new.iter().find(|new| new.name == old.name) {
            None => "may not be removed",
            Some(new) if new != old => "may not be changed",
            Some(_) => continue,
        };
        let message = format!("existing ephemeral containers \"{}\" {rule}\n", old.name);
        causes.push(Cause::forbidden(FIELD, &message));
    }
    let others: BTreeSet<&str> = all_containers(spec).map(|c| c.name.as_str()).collect();
    let mut names = others.clone();
    for (i, container) in new.iter().enumerate() {
        let path = format!("{FIELD}[{i}]");
        if container.name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if names.insert(&container.name) {
            checks::label(causes, &format!("{path}.name"), &container.name);
        } else {
            causes.push(Cause::duplicate(format!("{path}.name"), container.name.as_str()));
        }
        if text(&container.image).is_empty() {
            causes.push(Cause::required(format!("{path}.image"), ""));
        }
        let target = text(&container.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            causes.push(Cause::not_found(format!("{path}.targetContainerName"), target));
        }
        without_what_lasts(causes, &path, container);
    }
}

/// What only makes sense for containers that serve somebody.
fn without_what_lasts(causes: &mut Vec<Cause>, path: &str, container: &EphemeralContainer) {
    let resources = container.resources.clone().unwrap_or_default();
    for (field, is_set) in [
        ("ports", !is_empty(&container.ports)),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
        ("resources", resources.limits.is_some() || resources.requests.is_some()),
        ("restartPolicy", container.restart_policy.is_some()),
    ] {
        if is_set {
            let rule = "cannot be set for an Ephemeral Container";
            causes.push(Cause::forbidden(format!("{path}.{field}"), rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, object};

    fn check(old: &Value, new: &Value, expected: &[&str]) {
        let spec: PodSpec = object(json!({"containers": [{"name": "main", "image": "a"}],
            "ephemeralContainers": new}));
        let old: Vec<EphemeralContainer> = object(old.clone());
        let mut causes = Vec::new();
        validate(&mut causes, &spec, &old);
        assert_eq!(lines(&causes), expected, "{new}");
    }

    #[test]
    fn they_are_only_added() {
        let one = json!({"name": "one", "image": "b"});
        let targeted = json!({"name": "two", "image": "b", "targetContainerName": "main"});
        check(&json!([]), &json!([one]), &[]);
        check(&json!([one]), &json!([one, targeted]), &[]);
        let removed = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"one\" may not be removed\n";
        check(&json!([one]), &json!([]), &[removed]);
        let changed = json!({"name": "one", "image": "c"});
        let told = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"one\" may not be changed\n";
        check(&json!([one]), &json!([changed]), &[told]);
        check(
            &json!([]),
            &json!([{"name": "main", "targetContainerName": "x", "ports": [{"containerPort": 1}]}]),
            &[
                "spec.ephemeralContainers[0].name: Duplicate value: \"main\"",
                "spec.ephemeralContainers[0].image: Required value",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }
}
