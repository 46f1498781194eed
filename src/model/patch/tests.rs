//! Semantic cases of patches, in the words of the Kubernetes documentation.

mod properties;

use serde_json::{Value, json};

use super::{
    FieldManager, PatchType, Resource, Wanted, apply_patch, check_options, decode_apply,
    decode_patch,
};
use crate::model::{Kind, Status, kind};

const T0: &str = "2026-01-01T00:00:00Z";

fn manager(name: &str) -> FieldManager<'_> {
    FieldManager { name, subresource: "", now: T0.parse().unwrap() }
}

/// Applies and settles at once, as for a kind without defaults.
fn apply(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    manager: &FieldManager<'_>,
    force: bool,
) -> Result<Value, Status> {
    let resource = Resource::built_in(kind);
    let Wanted { mut document, ownership, .. } =
        super::apply(resource, live, config, manager, force)?;
    ownership.settle(resource, live, &mut document)?;
    Ok(document)
}

fn record_update(
    kind: &Kind,
    live: Option<&Value>,
    updated: &mut Value,
    manager: &FieldManager<'_>,
) {
    let Wanted { document, ownership, .. } = Wanted::updated(updated.take(), *manager);
    *updated = document;
    ownership.settle(Resource::built_in(kind), live, updated).unwrap();
}

#[track_caller]
fn check(kind: &Kind, patch_type: PatchType, current: &Value, patch: &Value, expected: &Value) {
    let patched = apply_patch(kind, patch_type, current, patch.clone()).unwrap();
    assert_eq!(patched, *expected, "\npatch {patch}\n  got {patched}");
}

#[track_caller]
fn fails(kind: &Kind, patch_type: PatchType, current: &Value, patch: &str, code: u16) -> Status {
    let patch_value = decode_patch(patch.as_bytes()).map(|parsed| parsed.value);
    let status =
        patch_value.and_then(|value| apply_patch(kind, patch_type, current, value)).unwrap_err();
    assert_eq!(status.code, code, "{patch}: {status}");
    status
}

#[test]
fn json_patches() {
    let current = json!({"spec": {"replicas": 1}});
    let check = |patch: Value, expected: Value| {
        check(&kind::DEPLOYMENT, PatchType::Json, &current, &patch, &expected);
    };
    check(
        json!([{"op": "test", "path": "/spec/replicas", "value": 1},
               {"op": "replace", "path": "/spec/replicas", "value": 2}]),
        json!({"spec": {"replicas": 2}}),
    );
    check(json!([{"op": "remove", "path": "/spec/replicas"}]), json!({"spec": {}}));
    check(
        json!([{"op": "copy", "from": "/spec", "path": "/status"}]),
        json!({"spec": {"replicas": 1}, "status": {"replicas": 1}}),
    );
    check(
        json!([{"op": "test", "path": "/spec/paused", "value": null},
               {"op": "add", "path": "/spec/paused", "value": true}]),
        json!({"spec": {"replicas": 1, "paused": true}}),
    );
    let fails =
        |patch: &str, code| fails(&kind::DEPLOYMENT, PatchType::Json, &current, patch, code);
    fails(r#"[{"op":"test","path":"/spec/replicas","value":null}]"#, 422);
    fails(r#"[{"op":"test","path":"/status/replicas","value":null}]"#, 422);
    fails(r#"[{"op":"test","path":"/spec/paused","value":false}]"#, 422);
    let status = fails(r#"[{"op":"test","path":"/spec/replicas","value":3}]"#, 422);
    assert!(
        status.message.ends_with("testing value /spec/replicas failed: test failed"),
        "{status}"
    );
    assert_eq!(status.reason, "Invalid");
    fails(r#"[{"op":"remove","path":"/spec/nothing"}]"#, 422);
    fails(r#"[{"op":"replace","path":"","value":1}]"#, 422);
    fails(r#"{"op":"remove"}"#, 400);
    fails(r#"[{"op":"frob","path":"/a"}]"#, 400);
    fails("[", 400);
}

#[test]
fn json_patch_copies_are_bounded() {
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1000)]})];
    operations.extend((0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})));
    let patch = Value::Array(operations).to_string();
    fails(&kind::CONFIG_MAP, PatchType::Json, &json!({}), &patch, 422);
}

#[test]
fn json_patches_have_a_depth() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let into_itself = json!({"op": "copy", "from": "", "path": "/a"}).to_string();
    let value = nested(100);
    let deeper =
        |n: usize| format!(r#"{{"op":"add","path":"{}","value":{value}}}"#, "/0".repeat(n * 100));
    let (there, below) = (nested(125), "[[]]");
    let moved = format!(
        r#"{{"op":"add","path":"/b","value":{there}}},{{"op":"add","path":"/a","value":{below}}},
           {{"op":"move","from":"/b","path":"/a/0/0"}}"#
    );
    for operations in [vec![into_itself; 200], (0..3).map(deeper).collect(), vec![moved]] {
        let patch = format!("[{}]", operations.join(","));
        let status = fails(&kind::CONFIG_MAP, PatchType::Json, &json!({}), &patch, 422);
        assert!(status.message.ends_with("within each other"), "{status}");
    }
    let deepest = format!(r#"[{{"op":"add","path":"/a","value":{there}}}]"#);
    let patch = decode_patch(deepest.as_bytes()).unwrap().value;
    apply_patch(&kind::CONFIG_MAP, PatchType::Json, &json!({}), patch).unwrap();
}

#[test]
fn merge_patches() {
    let current = json!({"spec": {"ports": [{"port": 1}], "type": "ClusterIP"}});
    check(
        &kind::SERVICE,
        PatchType::Merge,
        &current,
        &json!({"spec": {"ports": [{"port": 2}], "type": null, "x": {"y": null}}}),
        &json!({"spec": {"ports": [{"port": 2}], "x": {}}}),
    );
    fails(&kind::SERVICE, PatchType::Merge, &current, "[]", 400);
    fails(&kind::SERVICE, PatchType::Merge, &current, "{", 400);
}

#[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
fn containers(list: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": list}}}})
}

#[test]
fn strategic_patches_merge_lists_by_key() {
    let check = |current: Value, patch: Value, expected: Value| {
        check(&kind::DEPLOYMENT, PatchType::Strategic, &current, &patch, &expected);
    };
    check(
        containers(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
                          {"name": "b", "image": "1"}])),
        containers(json!([{"name": "b", "image": "2"},
                          {"name": "a", "env": [{"name": "Y", "value": "2"}]},
                          {"name": "c", "image": "3"}])),
        containers(json!([{"name": "b", "image": "2"},
            {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "c", "image": "3"}])),
    );
    check(
        containers(json!([{"name": "a"}, {"name": "b"}])),
        containers(json!([{"name": "a", "$patch": "delete"}])),
        containers(json!([{"name": "b"}])),
    );
    check(
        containers(json!([{"name": "a"}, {"name": "b"}])),
        containers(json!([{"name": "c"}, {"$patch": "replace"}])),
        containers(json!([{"name": "c"}])),
    );
    // A list without a strategy is replaced.
    let args = |args: Value| containers(json!([{"name": "a", "args": args}]));
    check(args(json!(["1", "2"])), args(json!(["3"])), args(json!(["3"])));
    // A new item brings no directives and no nulls with it.
    check(
        containers(json!([])),
        containers(
            json!([{"name": "a", "image": null, "ports": [{"containerPort": 1, "$patch": "delete"}]}]),
        ),
        containers(json!([{"name": "a", "ports": []}])),
    );
}

#[test]
fn strategic_patches_of_services_merge_ports_by_number() {
    check(
        &kind::SERVICE,
        PatchType::Strategic,
        &json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}}),
        &json!({"spec": {"ports": [{"port": 80, "nodePort": 30080}]}}),
        &json!({"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 30080}, {"port": 81}]}}),
    );
}

#[test]
fn strategic_directives_on_objects() {
    let check = |current: Value, patch: Value, expected: Value| {
        check(&kind::DEPLOYMENT, PatchType::Strategic, &current, &patch, &expected);
    };
    let labels = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    check(
        labels.clone(),
        json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
        json!({"metadata": {"labels": {"c": "3"}}}),
    );
    check(
        labels.clone(),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"metadata": {"labels": {}}}),
    );
    check(
        labels,
        json!({"metadata": {"labels": {"$patch": "merge", "a": null}}}),
        json!({"metadata": {"labels": {"b": "2"}}}),
    );
    check(
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
}

#[test]
fn strategic_element_order_and_primitive_lists() {
    let check = |current: Value, patch: Value, expected: Value| {
        check(&kind::POD, PatchType::Strategic, &current, &patch, &expected);
    };
    let spec = |list: Value| json!({"spec": {"containers": list}});
    // Server-only items keep their place relative to items of the original.
    check(
        spec(json!([{"name": "a"}, {"name": "injected"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                        "containers": [{"name": "b", "image": "2"}]}}),
        spec(json!([{"name": "injected"}, {"name": "b", "image": "2"}, {"name": "a"}])),
    );
    check(
        spec(json!([{"name": "a"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
        spec(json!([{"name": "b"}, {"name": "a"}])),
    );
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    check(
        finalizers(json!(["a", "b"])),
        finalizers(json!(["c", "a"])),
        finalizers(json!(["c", "a", "b"])),
    );
    check(
        finalizers(json!(["a", "b", "c"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"],
                            "$setElementOrder/finalizers": ["c", "a"]}}),
        finalizers(json!(["c", "a"])),
    );
    check(
        finalizers(json!(["a", "b"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"],
                            "$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"]}}),
        finalizers(json!(["c", "a"])),
    );
    for broken in [
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
        json!({"spec": {"containers": [{"image": "no name"}]}}),
        json!({"spec": {"$patch": "frob"}}),
        json!({"spec": {"$retainKeys": ["a"], "b": 1}}),
        json!(["not an object"]),
    ] {
        let current = spec(json!([{"name": "a"}]));
        fails(&kind::POD, PatchType::Strategic, &current, &broken.to_string(), 400);
    }
}

#[test]
fn options_of_patches() {
    let status = check_options(PatchType::Apply, "", None).unwrap_err();
    assert_eq!(
        status.message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    assert_eq!(check_options(PatchType::Merge, "x", Some(true)).unwrap_err().code, 422);
    assert_eq!(check_options(PatchType::Merge, &"x".repeat(129), None).unwrap_err().code, 422);
    assert_eq!(check_options(PatchType::Apply, "x", Some(true)), Ok(()));
    let strategic = "application/strategic-merge-patch+json; charset=utf-8";
    assert_eq!(PatchType::from_content_type(&kind::POD, strategic), Ok(PatchType::Strategic));
    let refused = PatchType::from_content_type(&kind::LOAD_BALANCER_POLICY, strategic).unwrap_err();
    assert_eq!(refused.code, 415);
}

#[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
fn deployment(containers: Value, more: Value) -> Value {
    let mut document = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": containers}}}});
    json_patch::merge(&mut document, &more);
    document
}

#[test]
fn apply_creates_and_owns() {
    let config = deployment(json!([{"name": "a", "image": "1"}]), json!({"spec": {"replicas": 1}}));
    let made = apply(&kind::DEPLOYMENT, None, &config, &manager("me"), false).unwrap();
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": T0,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {
                "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}}}])
    );
    let again = FieldManager { now: "2027-01-01T00:00:00Z".parse().unwrap(), ..manager("me") };
    let unchanged = apply(&kind::DEPLOYMENT, Some(&made), &config, &again, false).unwrap();
    assert_eq!(unchanged, made, "applying the same again changes nothing, not even a time");
}

#[test]
fn apply_keeps_what_others_added_and_removes_what_it_drops() {
    let kind = &kind::DEPLOYMENT;
    let mine = deployment(
        json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]),
        json!({"metadata": {"labels": {"l": "1"}}}),
    );
    let live = apply(kind, None, &mine, &manager("me"), false).unwrap();
    let theirs = deployment(json!([{"name": "sidecar", "image": "s"}]), json!({}));
    let live = apply(kind, Some(&live), &theirs, &manager("them"), false).unwrap();
    let names = |live: &Value| -> Vec<String> {
        let list = live.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap();
        list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&live), ["a", "b", "sidecar"]);
    let less = deployment(json!([{"name": "a", "image": "2"}]), json!({}));
    let live = apply(kind, Some(&live), &less, &manager("me"), false).unwrap();
    assert_eq!(names(&live), ["a", "sidecar"]);
    let first = &live["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(*first, json!({"name": "a", "image": "2"}), "dropped args are gone");
    assert_eq!(live["metadata"].get("labels"), None);
}

#[test]
fn apply_conflicts() {
    let kind = &kind::DEPLOYMENT;
    let replicas = |n: i32| deployment(json!([{"name": "a"}]), json!({"spec": {"replicas": n}}));
    let live = apply(kind, None, &replicas(1), &manager("me"), false).unwrap();
    // Somebody scales.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 5.into();
    let scaler = FieldManager { subresource: "scale", ..manager("hpa") };
    record_update(kind, Some(&live), &mut scaled, &scaler);

    let status = apply(kind, Some(&scaled), &replicas(1), &manager("me"), false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    assert_eq!((status.code, status.causes.len()), (409, 1));
    assert_eq!(status.causes[0].field, ".spec.replicas");

    // The same value is co-ownership, no conflict.
    let shared = apply(kind, Some(&scaled), &replicas(5), &manager("me"), false).unwrap();
    // Giving the field up leaves it to its other owner.
    let less = deployment(json!([{"name": "a"}]), json!({}));
    let left = apply(kind, Some(&shared), &less, &manager("me"), false).unwrap();
    assert_eq!(left["spec"]["replicas"], 5);

    let forced = apply(kind, Some(&scaled), &replicas(1), &manager("me"), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 1);
    let managers = forced["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1, "the scaler has lost its only field");

    let both = deployment(json!([{"name": "a", "image": "x"}]), json!({"spec": {"replicas": 9}}));
    let other = deployment(json!([{"name": "a", "image": "y"}]), json!({"spec": {"replicas": 8}}));
    let live = apply(kind, None, &both, &manager("me"), false).unwrap();
    let status = apply(kind, Some(&live), &other, &manager("you"), false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"me\":\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"a\"].image"
    );
}

#[test]
fn apply_identifies_service_ports_by_port_and_protocol() {
    let kind = &kind::SERVICE;
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": ports}});
    let live = service(json!([{"port": 53, "protocol": "UDP", "nodePort": 30053},
                              {"port": 53, "protocol": "TCP", "nodePort": 30054}]));
    let config = service(json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "name": "tcp"}]));
    let merged = apply(kind, Some(&live), &config, &manager("me"), false).unwrap();
    assert_eq!(
        merged["spec"]["ports"][1],
        json!({"port": 53, "protocol": "TCP", "nodePort": 30054, "name": "tcp"})
    );
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 2);
    let double = service(json!([{"port": 53}, {"port": 53, "protocol": "TCP"}]));
    let status = apply(kind, Some(&live), &double, &manager("me"), false).unwrap_err();
    assert_eq!(
        status.message,
        "failed to create typed patch object (/web; v1, Kind=Service): .spec.ports: \
         duplicate entries for key [port=53,protocol=\"TCP\"]"
    );
}

#[test]
fn apply_refuses_what_is_no_configuration() {
    let kind = &kind::SERVICE;
    for (config, code) in [
        (json!({"apiVersion": "v2", "kind": "Service"}), 400),
        (json!({"apiVersion": "v1", "kind": "Pod"}), 400),
        (json!({"apiVersion": "v1", "kind": "Service", "metadata": {"managedFields": []}}), 400),
        (
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"name": "x"}, {"name": "y"}]}}),
            500,
        ),
        (json!([]), 400),
    ] {
        assert_eq!(
            apply(kind, None, &config, &manager("me"), false).unwrap_err().code,
            code,
            "{config}"
        );
    }
}

#[test]
fn updates_are_tracked() {
    let kind = &kind::CONFIG_MAP;
    let object = |data: Value| json!({"metadata": {"name": "c", "uid": "u"}, "data": data});
    let mut live = object(json!({"a": "1", "b": "1"}));
    record_update(kind, None, &mut live, &manager("creator"));
    let mut next = object(json!({"a": "2", "c": "1"}));
    record_update(kind, Some(&live), &mut next, &manager("editor"));
    let fields = |document: &Value, name: &str| -> Value {
        let list = document["metadata"]["managedFields"].as_array().unwrap();
        list.iter().find(|e| e["manager"] == name).map_or(Value::Null, |e| e["fieldsV1"].clone())
    };
    assert_eq!(fields(&live, "creator"), json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    assert_eq!(fields(&next, "creator"), json!({"f:data": {}}));
    assert_eq!(fields(&next, "editor"), json!({"f:data": {"f:a": {}, "f:c": {}}}));
    // A client clears the record; from then on updates are not tracked.
    let mut cleared = next.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    record_update(kind, Some(&next), &mut cleared, &manager("editor"));
    assert_eq!(cleared["metadata"].get("managedFields"), None);
    // Until somebody applies: what was there is nobody's in particular, and a conflict when changed.
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "3"}});
    let status = apply(kind, Some(&cleared), &config, &manager("me"), false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
}

#[test]
fn status_and_spec_have_separate_owners() {
    let kind = &kind::POD;
    let mut live = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}});
    record_update(kind, None, &mut live, &manager("me"));
    let mut next = live.clone();
    next["status"]["phase"] = "Running".into();
    let node = FieldManager { subresource: "status", ..manager("node") };
    record_update(kind, Some(&live), &mut next, &node);
    let managers = next["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers[0]["fieldsV1"], json!({"f:spec": {"f:nodeName": {}}}));
    assert_eq!(managers[1]["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    assert_eq!(managers[1]["subresource"], "status");
}

#[test]
fn metadata_belongs_to_whose_status_write_may_change_it() {
    for (kind, metadata) in [
        (&kind::POD, json!({"f:annotations": {"f:a": {}}, "f:labels": {"f:l": {}}})),
        (&kind::DEPLOYMENT, json!({"f:annotations": {"f:a": {}}})),
        (&kind::LOAD_BALANCER_POLICY, Value::Null),
    ] {
        let mut live =
            json!({"metadata": {"name": "p", "annotations": {"b": ""}, "labels": {"b": ""}}});
        record_update(kind, None, &mut live, &manager("me"));
        let mut next = live.clone();
        next["metadata"]["annotations"]["a"] = "1".into();
        next["metadata"]["labels"]["l"] = "1".into();
        next["spec"]["paused"] = true.into();
        next["status"]["replicas"] = 1.into();
        let teller = FieldManager { subresource: "status", ..manager("teller") };
        record_update(kind, Some(&live), &mut next, &teller);
        let fields = &next["metadata"]["managedFields"][1]["fieldsV1"];
        assert_eq!(fields["f:metadata"], metadata, "{}", kind.kind);
        assert_eq!(fields["f:spec"], Value::Null, "{}", kind.kind);
    }
}

#[test]
fn many_updaters_are_capped() {
    let kind = &kind::CONFIG_MAP;
    let mut live = json!({"metadata": {"name": "c"}, "data": {"x": "0"}});
    record_update(kind, None, &mut live, &manager("first"));
    for n in 0..15 {
        let mut next = live.clone();
        next["data"][format!("k{n}")] = "v".into();
        record_update(kind, Some(&live), &mut next, &manager(&format!("m{n:02}")));
        live = next;
    }
    let list = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(list.len(), 10);
    assert!(list.iter().any(|entry| entry["manager"] == "ancient-changes"));
}

#[test]
fn kubectl_takes_over_its_client_side_apply() {
    let kind = &kind::CONFIG_MAP;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let mut live = config.clone();
    live["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": config.to_string()});
    record_update(kind, None, &mut live, &manager("kubectl-client-side-apply"));
    let mut wanted = config;
    wanted["data"]["a"] = "<".into();
    assert!(apply(kind, Some(&live), &wanted, &manager("other"), false).is_err());
    let taken = apply(kind, Some(&live), &wanted, &manager("kubectl"), false).unwrap();
    assert_eq!(taken["data"]["a"], "<");
    let annotation =
        &taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    // As Go writes it.
    let expected =
        r#"{"apiVersion":"v1","data":{"a":"\u003c"},"kind":"ConfigMap","metadata":{"name":"c"}}"#;
    assert_eq!(annotation.as_str().unwrap(), format!("{expected}\n"));
}

#[test]
fn apply_bodies_may_be_yaml() {
    assert_eq!(decode_apply(b"a: [1, 2]\n").unwrap().value, json!({"a": [1, 2]}));
    assert_eq!(decode_apply(b"{\"a\": 1}").unwrap().value, json!({"a": 1}));
    assert_eq!(decode_apply(b"a: [").unwrap_err().code, 400);
}

#[test]
fn a_list_that_is_not_in_its_order_is_shown_as_json() {
    let patch = r#"{"spec": {"$setElementOrder/ports": [{"port": 2}, {"port": 1}],
                             "ports": [{"port": 1, "name": "a"}, {"port": 2}]}}"#;
    let status = fails(&kind::SERVICE, PatchType::Strategic, &json!({"spec": {}}), patch, 400);
    assert_eq!(
        status.message,
        "The order in patch list:\n[{\"port\":1,\"name\":\"a\"},{\"port\":2}]\n doesn't match \
         $setElementOrder/ports list:\n[{\"port\":2},{\"port\":1}]\n"
    );
}
