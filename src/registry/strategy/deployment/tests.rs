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
    let (view, options) = (View::default(), options());
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
    let (view, options) = (View::default(), options());
    let context = context(&view, &options, Subresource::Status);
    let (_, mut new) = check(&json!({}), None);
    new.status = Some(object(json!({"replicas": 1, "readyReplicas": 2})));
    assert_eq!(
        lines(&validate(&new, None, &context)),
        ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
    );
}
