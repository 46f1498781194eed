//! Validation of references to fields and resources of a pod, in variables and in volumes.

use k8s_openapi::api::core::v1::{ObjectFieldSelector, ResourceFieldSelector};

use crate::{
    model::{Cause, quantity},
    registry::strategy::{checks, fields::text},
};

/// What a variable can refer to, besides single labels and annotations.
pub(super) const OF_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file can.
pub(super) const OF_FILES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that exist and can be referred to from nowhere.
const OF_NOBODY: &[&str] =
    &["spec.host", "spec.restartPolicy", "spec.schedulerName", "status.phase"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];
const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] =
    &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A `fieldRef`, to one of `allowed`.
pub(super) fn field(
    causes: &mut Vec<Cause>,
    path: &str,
    reference: &ObjectFieldSelector,
    allowed: &[&str],
) {
    let (version, name) = (text(&reference.api_version), reference.field_path.as_str());
    let at = format!("{path}.fieldPath");
    let unknown = |rule: String| {
        Cause::invalid(at.as_str(), name, &format!("error converting fieldPath: {rule}"))
    };
    if version.is_empty() {
        causes.push(Cause::required(format!("{path}.apiVersion"), ""));
    } else if name.is_empty() {
        causes.push(Cause::required(at, ""));
    } else if version != "v1" {
        causes.push(unknown(format!("unsupported pod version: {version}")));
    } else if let Some((map, key)) = subscripted(name) {
        match map {
            "metadata.annotations" => checks::qualified_name(causes, path, &key.to_lowercase()),
            "metadata.labels" => checks::qualified_name(causes, path, key),
            _ => causes.push(unknown(format!("field label does not support subscript: {name}"))),
        }
    } else if ![OF_VARIABLES, OF_FILES, OF_NOBODY].iter().any(|all| all.contains(&name)) {
        causes.push(unknown(format!("field label not supported: {name}")));
    } else {
        checks::one_of(causes, &at, name, allowed);
    }
}

/// `metadata.labels['key']`.
fn subscripted(name: &str) -> Option<(&str, &str)> {
    name.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// A `resourceFieldRef`; from a file it names a container.
pub(super) fn resource(
    causes: &mut Vec<Cause>,
    path: &str,
    reference: &ResourceFieldSelector,
    from_file: bool,
) {
    let name = reference.resource.as_str();
    let huge = HUGE_PAGES.iter().any(|prefix| name.starts_with(prefix));
    if from_file && text(&reference.container_name).is_empty() {
        causes.push(Cause::required(format!("{path}.containerName"), ""));
    } else if name.is_empty() {
        causes.push(Cause::required(format!("{path}.resource"), ""));
    } else if !huge {
        checks::one_of(causes, &format!("{path}.resource"), name, RESOURCES);
    }
    let (divisors, what) = match name {
        "limits.cpu" | "requests.cpu" => (CPU_DIVISORS, "cpu resource"),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, "memory resource"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTE_DIVISORS, "local ephemeral storage resource")
        }
        _ if huge => (BYTE_DIVISORS, "hugepages resource"),
        _ => return,
    };
    let divisor = reference.divisor.as_ref().and_then(|own| quantity::canonical(&own.0));
    let Some(divisor) = divisor.filter(|divisor| divisor != "0") else { return };
    if !divisors.contains(&divisor.as_str()) {
        let listed = match divisors {
            [one, other] => format!("{one} and {other}"),
            many => many.join(", "),
        };
        let rule = format!("only divisor's values {listed} are supported with the {what}");
        causes.push(Cause::invalid(format!("{path}.divisor"), name, &rule));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, object};

    #[test]
    fn fields() {
        for (name, expected) in [
            ("status.podIP", ""),
            ("metadata.labels['a.b/c']", ""),
            ("metadata.annotations['UPPER']", ""),
            ("", "f.fieldPath: Required value"),
            ("metadata.labels['-']", "f: Invalid value: \"-\": name part must consist"),
            (
                "spec.nodeName['x']",
                "f.fieldPath: Invalid value: \"spec.nodeName['x']\": error converting fieldPath: field label does not support subscript",
            ),
            (
                "spec.image",
                "f.fieldPath: Invalid value: \"spec.image\": error converting fieldPath: field label not supported: spec.image",
            ),
            (
                "status.phase",
                "f.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\"",
            ),
            ("metadata.labels", "f.fieldPath: Unsupported value: \"metadata.labels\""),
        ] {
            let mut causes = Vec::new();
            let reference = object(json!({"apiVersion": "v1", "fieldPath": name}));
            field(&mut causes, "f", &reference, OF_VARIABLES);
            assert!(lines(&causes).concat().starts_with(expected), "{name}: {:?}", lines(&causes));
            assert_eq!(causes.is_empty(), expected.is_empty(), "{name}: {:?}", lines(&causes));
        }
    }

    #[test]
    fn resources() {
        for (reference, from_file, expected) in [
            (json!({"resource": "limits.cpu", "divisor": "1m"}), false, vec![]),
            (json!({"resource": "requests.memory", "divisor": "1024Ki"}), false, vec![]),
            (json!({"resource": "limits.hugepages-2Mi"}), false, vec![]),
            (json!({"resource": "limits.cpu"}), true, vec!["r.containerName: Required value"]),
            (
                json!({"resource": "limits.gpu"}),
                false,
                vec![
                    "r.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \
                     \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \
                     \"requests.memory\"",
                ],
            ),
            (
                json!({"resource": "limits.cpu", "divisor": "1k"}),
                false,
                vec![
                    "r.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
                ],
            ),
        ] {
            let mut causes = Vec::new();
            resource(&mut causes, "r", &object(reference.clone()), from_file);
            assert_eq!(lines(&causes), expected, "{reference}");
        }
    }
}
