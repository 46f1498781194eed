use serde_json::{Value, json};

use super::*;
use crate::{
    model::{Object, ObjectKey, object::to_stored},
    registry::{
        View,
        strategy::checks::{
            shown,
            testing::{context, lines, merged, object, options},
        },
    },
};

fn admit(spec: &Value, old: Option<&Pod>) -> (Vec<String>, Pod) {
    let base = json!({"containers": [{"name": "a", "image": "a:1"}]});
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::None);
    let mut new: Pod =
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": merged(base, spec)}));
    new.status = old.and_then(|old| old.status.clone());
    default(&mut new, old, &context);
    super::admit(&mut new, old, &context);
    (lines(&validate(&new, old, &context)), new)
}

#[test]
fn admission() {
    let (faults, pod) = admit(&json!({}), None);
    assert_eq!(faults, [""; 0]);
    let spec = shown(&pod.spec);
    for (path, expected) in [
        ("/enableServiceLinks", json!(true)),
        ("/serviceAccountName", json!("default")),
        ("/serviceAccount", json!("default")),
        ("/priority", json!(0)),
        ("/preemptionPolicy", json!("PreemptLowerPriority")),
        (
            "/tolerations",
            json!([
                {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists",
                 "tolerationSeconds": 300},
                {"effect": "NoExecute", "key": "node.kubernetes.io/unreachable", "operator": "Exists",
                 "tolerationSeconds": 300},
            ]),
        ),
    ] {
        assert_eq!(spec.pointer(path), Some(&expected), "{path}");
    }
    assert_eq!(shown(&pod.status), json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let (_, all) = admit(&json!({"tolerations": [{"operator": "Exists"}]}), None);
    assert_eq!(items(&all.spec.unwrap().tolerations).len(), 1);
}

#[test]
fn quality_of_service() {
    for (resources, expected) in [
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            "Burstable",
        ),
        (json!({"requests": {"cpu": "500m"}}), "Burstable"),
        (json!({"limits": {"cpu": "0"}}), "BestEffort"),
    ] {
        let spec = json!({"containers": [{"name": "a", "image": "a:1", "resources": resources}]});
        let (faults, pod) = admit(&spec, None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(pod.status.unwrap().qos_class.as_deref(), Some(expected), "{resources}");
    }
}

fn refused(cases: &[(Value, &[&str])]) {
    for (spec, expected) in cases {
        assert_eq!(admit(spec, None).0, *expected, "{spec}");
    }
}

/// A spec with one container that has these fields too.
fn container(fields: &Value) -> Value {
    json!({"containers": [merged(json!({"name": "a", "image": "a:1"}), fields)]})
}

#[test]
fn container_rules() {
    refused(&[
        (json!({"containers": []}), &["spec.containers: Required value"]),
        (
            json!({"containers": [{}]}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "a"}, {"name": "a", "image": " a"}]}),
            &[
                "spec.containers[1].name: Duplicate value: \"a\"",
                "spec.containers[1].image: Invalid value: \" a\": must not have leading or trailing whitespace",
            ],
        ),
        (
            container(
                &json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "p"},
                                       {"containerPort": 1, "name": "p"}]}),
            ),
            &[
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[2].name: Duplicate value: \"p\"",
            ],
        ),
        (
            container(&json!({"env": [{"name": ""}, {"name": "A=B"}]})),
            &[
                "spec.containers[0].env[0].name: Required value",
                "spec.containers[0].env[1].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        ),
        (
            container(&json!({"volumeMounts": [{"name": "x", "mountPath": ""}]})),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
                "spec.containers[0].volumeMounts[0].mountPath: Required value",
            ],
        ),
    ]);
}

#[test]
fn probe_and_resource_rules() {
    refused(&[
        (
            container(&json!({"readinessProbe": {"periodSeconds": 5}})),
            &["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
        ),
        (
            container(
                &json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1},
                                               "successThreshold": 2}}),
            ),
            &[
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            container(&json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            container(&json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            container(&json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}},
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}]})),
            &[],
        ),
        (
            container(&json!({"restartPolicy": "Sometimes", "restartPolicyRules": [
                {"action": "Stop", "exitCodes": {"operator": "Is"}}]})),
            &[
                "spec.containers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
            ],
        ),
        (
            container(&json!({"restartPolicyRules": [{"action": "Restart"}]})),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
            &[
                "spec.initContainers[0].name: Duplicate value: \"a\"",
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
    ]);
}

#[test]
fn pod_rules() {
    refused(&[
        (
            json!({"restartPolicy": "Sometimes"}),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "x"]}}),
            &[
                "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"x\"]: must not have more than 3 nameservers",
                "spec.dnsConfig.nameservers[3]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}),
            &[
                "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ],
        ),
        (
            json!({"nodeName": "n", "schedulingGates": [{"name": "g"}]}),
            &[
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        ),
        (
            json!({"volumes": [{"name": "v"}, {"name": "v"}]}),
            &["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ],
        ),
    ]);
    let (faults, _) = admit(&json!({"hostname": "Web.1"}), None);
    assert!(
        faults[0]
            .starts_with("spec.hostname: Invalid value: \"Web.1\": a lowercase RFC 1123 label")
    );
}

#[test]
fn updates() {
    let (_, old) = admit(&json!({"automountServiceAccountToken": false}), None);
    let update = |change: Value, old: &Pod| {
        let live = shown(&old.spec);
        admit(&merged(live, &change), Some(old)).0
    };
    let image = json!({"containers": [{"name": "a", "image": "a:2"}]});
    let more =
        json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]});
    assert_eq!(update(json!({}), &old), [""; 0]);
    assert_eq!(update(image, &old), [""; 0]);
    assert_eq!(update(json!({"activeDeadlineSeconds": 5}), &old), [""; 0]);
    assert!(
        update(json!({"nodeName": "node-1"}), &old)[0].ends_with("\nspec.nodeName"),
        "it is bound"
    );
    assert_eq!(
        update(more, &old),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    assert_eq!(
        update(json!({"hostname": "x", "enableServiceLinks": false}), &old),
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\nspec.enableServiceLinks, spec.hostname"
        ]
    );
    // What admission gave may be left out.
    assert_eq!(update(json!({"tolerations": [], "priority": null}), &old), [""; 0]);
    let (_, tolerant) = admit(&json!({"tolerations": [{"key": "a", "operator": "Exists"}]}), None);
    assert_eq!(
        update(json!({"tolerations": []}), &tolerant),
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
    let (_, bound) = admit(&json!({"nodeName": "node-1", "activeDeadlineSeconds": 5}), None);
    assert!(update(json!({"nodeName": "node-2"}), &bound)[0].ends_with("\nspec.nodeName"));
    assert_eq!(
        update(json!({"activeDeadlineSeconds": 6}), &bound),
        [
            "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"
        ]
    );
}

#[test]
fn grace_periods() {
    let pod = |spec: Value, phase: &str| {
        let (_, mut pod) = admit(&spec, None);
        pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        pod
    };
    for (spec, phase, expected) in [
        (json!({}), "Pending", None),
        (json!({"nodeName": "n"}), "Running", Some(30)),
        (json!({"nodeName": "n", "terminationGracePeriodSeconds": 5}), "Pending", Some(5)),
        (json!({"nodeName": "n"}), "Succeeded", None),
        (json!({"nodeName": "n"}), "Failed", None),
    ] {
        assert_eq!(grace_seconds(&pod(spec.clone(), phase)), expected, "{spec} {phase}");
    }
}

#[test]
fn label_keys_become_part_of_selectors() {
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["version", "absent"]});
    let term =
        json!({"topologyKey": "zone", "labelSelector": {}, "mismatchLabelKeys": ["version"]});
    let spec = json!({"topologySpreadConstraints": [constraint], "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let mut spec: PodSpec = object(merged(json!({"containers": []}), &spec));
    let labels = [("version".to_owned(), "1".to_owned())].into();
    pod_defaults::merge_label_keys(&mut spec, Some(&labels));
    let spec = shown(&spec);
    assert_eq!(
        spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
        json!([{"key": "version", "operator": "In", "values": ["1"]}])
    );
    let terms = "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    assert_eq!(
        spec.pointer(terms).unwrap()[0]["labelSelector"]["matchExpressions"],
        json!([{"key": "version", "operator": "NotIn", "values": ["1"]}])
    );
}

#[test]
fn priorities_come_from_classes() {
    let mut view = View::for_tests();
    for (name, class) in [
        ("high", json!({"value": 100, "preemptionPolicy": "Never"})),
        (
            "usual",
            json!({"value": 7, "globalDefault": true, "preemptionPolicy": "PreemptLowerPriority"}),
        ),
    ] {
        let key = ObjectKey::cluster(&kind::PRIORITY_CLASS, name);
        let class =
            to_stored(&kind::PRIORITY_CLASS, merged(json!({"metadata": {"name": name}}), &class));
        view.insert(&std::sync::Arc::new(Object::from_stored(key, 1, class).unwrap()));
    }
    let options = options();
    let context = context(&view, &options, Subresource::None);
    let admitted = |spec: Value| {
        let mut pod: Pod = object(json!({"metadata": {"name": "web"},
            "spec": merged(json!({"containers": [{"name": "a", "image": "a:1"}]}), &spec)}));
        default(&mut pod, None, &context);
        super::admit(&mut pod, None, &context);
        let why = refuse(&pod, None, &context);
        let spec = pod.spec.unwrap();
        (spec.priority_class_name, spec.priority, spec.preemption_policy, why)
    };
    let text = |text: &str| Some(text.to_owned());
    let preempt = text("PreemptLowerPriority");
    assert_eq!(admitted(json!({})), (text("usual"), Some(7), preempt.clone(), None));
    let high = json!({"priorityClassName": "high", "priority": 100});
    assert_eq!(admitted(high), (text("high"), Some(100), text("Never"), None));
    let system = json!({"priorityClassName": "system-node-critical"});
    let expected = (text("system-node-critical"), Some(2_000_001_000), preempt, None);
    assert_eq!(admitted(system), expected);
    for (spec, expected) in [
        (json!({"priorityClassName": "lost"}), "no PriorityClass with name lost was found"),
        (
            json!({"priority": 8}),
            "the integer value of priority (8) must not be provided in pod spec; priority admission controller \
             computed 7 from the given PriorityClass name",
        ),
        (
            json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission \
             controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ] {
        assert_eq!(admitted(spec.clone()).3.as_deref(), Some(expected), "{spec}");
    }
}

#[test]
fn the_class_of_quality_stays_when_a_status_leaves_it_out() {
    let (_, old) = admit(&json!({}), None);
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::Status);
    for (class, faults) in [(Value::Null, 0), (json!("BestEffort"), 0), (json!("Guaranteed"), 1)] {
        let mut new = old.clone();
        new.status = object(json!({"phase": "Running", "qosClass": class}));
        default(&mut new, Some(&old), &context);
        assert_eq!(validate(&new, Some(&old), &context).len(), faults, "{class}");
    }
}

#[test]
fn a_gated_pod_is_not_scheduled() {
    let (_, pod) = admit(&json!({"schedulingGates": [{"name": "example.com/g"}]}), None);
    assert_eq!(
        shown(&pod.status)["conditions"],
        json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"}])
    );
}
