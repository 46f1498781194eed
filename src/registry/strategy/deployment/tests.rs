use serde_json::Value;

use super::*;
use crate::registry::{
    View,
    strategy::checks::testing::{context, lines, merged, object, options},
};

fn check(spec: &Value, old: Option<&Deployment>) -> (Vec<String>, Deployment) {
    let base = json!({
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
                     "spec": {"containers": [{"name": "a", "image": "a:1"}]}}});
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::None);
    let mut new: Deployment = object(json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": merged(base, spec)}));
    default(&mut new, old, &context);
    (lines(&validate(&new, old, &context)), new)
}

#[test]
fn defaults() {
    let (faults, deployment) = check(&json!({}), None);
    assert_eq!(faults, [""; 0]);
    let spec = checks::shown(&deployment.spec);
    for (path, expected) in [
        ("/replicas", json!(1)),
        ("/revisionHistoryLimit", json!(10)),
        ("/progressDeadlineSeconds", json!(600)),
        (
            "/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("/template/spec/restartPolicy", json!("Always")),
        ("/template/spec/containers/0/imagePullPolicy", json!("IfNotPresent")),
    ] {
        assert_eq!(spec.pointer(path), Some(&expected), "{path}");
    }
    assert_eq!(spec.pointer("/template/spec/enableServiceLinks"), None);
    assert_eq!(checks::shown(&deployment.status), json!({}));
}

#[test]
fn rules() {
    for (spec, expected) in [
        (
            json!({"selector": null}),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"selector": {"matchLabels": {"app": "api"}}}),
            vec![
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"replicas": -1}),
            vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            vec![
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        ),
        (
            json!({"template": {"spec": {"containers": []}}}),
            vec!["spec.template.spec.containers: Required value"],
        ),
        (
            json!({"template": {"spec": {"activeDeadlineSeconds": 5}}}),
            vec![
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
            vec![
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            json!({"strategy": {"type": "Slow"}}),
            vec![
                "spec.strategy: Unsupported value: {\"Type\":\"Slow\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            vec![
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}),
            vec![
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ],
        ),
        (
            json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            vec![
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ],
        ),
    ] {
        assert_eq!(check(&spec, None).0, expected, "{spec}");
    }
}

#[test]
fn further_rules() {
    for (spec, expected) in [
        (
            json!({"strategy": {"type": "Slow", "rollingUpdate": {"maxSurge": "50%"}}}),
            vec![
                "spec.strategy: Unsupported value: {\"Type\":\"Slow\",\"RollingUpdate\":{\"MaxUnavailable\":0,\"MaxSurge\":\"50%\"}}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": -1}}}),
            vec![
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "x"}}}),
            vec![
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            json!({"minReadySeconds": -1}),
            vec!["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            json!({"revisionHistoryLimit": -1}),
            vec![
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"progressDeadlineSeconds": -1}),
            vec![
                "spec.progressDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: -1: must be greater than minReadySeconds",
            ],
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}}),
            vec![
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}),
            vec![
                "spec.selector.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
                "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Near\"}],\"matchLabels\":{\"app\":\"web\"}}: invalid label selector",
            ],
        ),
        (
            json!({"template": {"spec": {"ephemeralContainers": [{"name": "e", "image": "e"}]}}}),
            vec![
                "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
            ],
        ),
        (
            json!({"template": {"metadata": {"labels": {"a.b/": "x"}}}}),
            vec![
                "spec.template.labels: Invalid value: \"a.b/\": name part must be non-empty",
                "spec.template.labels: Invalid value: \"a.b/\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
    ] {
        assert_eq!(check(&spec, None).0, expected, "{spec}");
    }
}

#[test]
fn the_selector_stays() {
    let (_, old) = check(&json!({}), None);
    let change = json!({"selector": {"matchLabels": {"app": null, "x": "y"}},
        "template": {"metadata": {"labels": {"x": "y"}}}});
    assert_eq!(
        check(&change, Some(&old)).0,
        ["spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable"]
    );
    assert_eq!(check(&json!({"replicas": 5}), Some(&old)).0, [""; 0]);
}

#[test]
fn status_counts() {
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::Status);
    let (_, mut new) = check(&json!({}), None);
    let old = Deployment { status: Some(object(json!({"collisionCount": 2}))), ..new.clone() };
    for (status, expected) in [
        (
            json!({"replicas": 2, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}),
            &[][..],
        ),
        (
            json!({"replicas": 1, "readyReplicas": 2}),
            &["readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        ),
        (
            json!({"replicas": 3, "updatedReplicas": 4, "availableReplicas": 2}),
            &[
                "updatedReplicas: Invalid value: 4: cannot be greater than status.replicas",
                "availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
            ],
        ),
        (
            json!({"observedGeneration": -1, "unavailableReplicas": -1, "terminatingReplicas": -1}),
            &[
                "observedGeneration: Invalid value: -1: must be greater than or equal to 0",
                "unavailableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "terminatingReplicas: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"collisionCount": 1}),
            &["collisionCount: Invalid value: 1: cannot be decremented"],
        ),
        (
            json!({"collisionCount": null}),
            &["collisionCount: Invalid value: 0: cannot be decremented"],
        ),
    ] {
        let mut status = status;
        if status.get("collisionCount").is_none() {
            status["collisionCount"] = 2.into();
        }
        new.status = Some(object(status.clone()));
        let expected: Vec<_> = expected.iter().map(|line| format!("status.{line}")).collect();
        assert_eq!(lines(&validate(&new, Some(&old), &context)), expected, "{status}");
    }
}
