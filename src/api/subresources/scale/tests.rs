//! Writes of a scale, as tables.

use super::*;
use crate::model::{
    ObjectKey,
    kind::{self, Identity},
    object::to_stored,
    patch,
};

const TIME: &str = "2026-01-01T00:00:00Z";

fn built_in() -> Parts<'static> {
    Parts { paths: None, count: Count::of_workload() }
}

/// A Deployment or other workload with a replica count and these managers of it (name, operation, subresource).
fn workload(kind: &'static Kind, replicas: i64, managers: &[[&str; 3]]) -> Object {
    let entries: Vec<Value> = managers
        .iter()
        .map(|[manager, operation, subresource]| {
            let fields = json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
            let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": kind.api_version(),
                "time": TIME, "fieldsType": "FieldsV1", "fieldsV1": fields});
            if !subresource.is_empty() {
                entry["subresource"] = (*subresource).into();
                entry["fieldsV1"] = json!({"f:spec": {"f:replicas": {}}});
            }
            entry
        })
        .collect();
    let labels = json!({"app": "web"});
    let selector = match &*kind.kind {
        "ReplicationController" => labels,
        _ => json!({"matchLabels": labels}),
    };
    let document = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": TIME, "managedFields": entries},
        "spec": {"replicas": replicas, "selector": selector}, "status": {"replicas": 2}});
    let key = ObjectKey::new(kind, "shop", "web");
    Object::from_stored(key, 7, to_stored(kind, document)).unwrap()
}

/// Writes the scale by `write`, and returns the replica count and its owners, or the error.
fn write(
    workload: &Object,
    write: impl Fn(&Value) -> Result<Wanted<'static>, Status>,
) -> Result<(i64, String), Status> {
    let live = managed_scale(workload, &built_in())?;
    let (document, warnings) =
        scaled(workload, &built_in(), &live, write(&live)?, FieldValidation::Warn)?;
    assert_eq!(warnings, [""; 0]);
    let entries = document["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let owners = entries.iter().filter(|e| !e["fieldsV1"]["f:spec"]["f:replicas"].is_null());
    let owners = owners.map(|entry| {
        assert_eq!(entry["apiVersion"], workload.key.kind.api_version());
        let word = |name: &str| entry[name].as_str().map(str::to_owned);
        let words = [word("manager"), word("operation"), word("subresource")];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let owners = owners.collect::<Vec<_>>().join("; ");
    Ok((document["spec"]["replicas"].as_i64().unwrap(), owners))
}

fn manager_of(name: &'static str) -> FieldManager<'static> {
    FieldManager { name, subresource: "scale", now: TIME.parse().unwrap() }
}

fn config(spec: &Value) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
}

fn applied(
    workload: &Object,
    name: &'static str,
    config: &Value,
    force: bool,
) -> Result<(i64, String), Status> {
    let manager = manager_of(name);
    write(workload, |live| {
        patch::apply(Resource::built_in(&SCALE), Some(live), config, &manager, force)
    })
}

fn updated(
    workload: &Object,
    name: &'static str,
    change: impl Fn(&mut Value),
) -> Result<(i64, String), Status> {
    write(workload, |live| {
        let mut scale = live.clone();
        change(&mut scale);
        Ok(Wanted::updated(scale, manager_of(name)))
    })
}

#[test]
fn an_applied_scale() {
    let creator = [["creator", "Update", ""]];
    let applier = [["applier", "Apply", ""]];
    let scaler = [["scaler", "Apply", "scale"]];
    for (managers, replicas, force, expected) in [
        (&creator[..], 3, false, Ok((3, "scaler Apply scale; creator Update"))),
        (&creator, 5, false, Err("conflict with \"creator\" using autoscaling/v1: .spec.replicas")),
        (&creator, 5, true, Ok((5, "scaler Apply scale"))),
        (&creator, 0, true, Ok((0, "scaler Apply scale"))),
        (&applier, 3, false, Ok((3, "scaler Apply scale; applier Apply"))),
        (&applier, 5, false, Err("conflict with \"applier\": .spec.replicas")),
        (&applier, 5, true, Ok((5, "scaler Apply scale"))),
        (&scaler, 5, false, Ok((5, "scaler Apply scale"))),
        (&[["hpa", "Update", "scale"]], 5, true, Ok((5, "scaler Apply scale"))),
        (
            &[["hpa", "Update", "scale"]],
            5,
            false,
            Err(
                "conflict with \"hpa\" with subresource \"scale\" using autoscaling/v1: .spec.replicas",
            ),
        ),
        // Whoever set the count before anybody applied it is not known.
        (
            &[],
            5,
            false,
            Err(
                "conflict with \"before-first-apply\" with subresource \"scale\" using autoscaling/v1: .spec.replicas",
            ),
        ),
        (&[], 3, false, Ok((3, "scaler Apply scale; before-first-apply Update scale"))),
        (&[], 5, true, Ok((5, "scaler Apply scale"))),
    ] {
        for kind in [
            &kind::DEPLOYMENT,
            &kind::REPLICA_SET,
            &kind::STATEFUL_SET,
            &kind::REPLICATION_CONTROLLER,
        ] {
            let workload = workload(kind, 3, managers);
            let found =
                applied(&workload, "scaler", &config(&json!({"replicas": replicas})), force);
            let expected = expected.map(|(count, owners)| (count, owners.to_owned()));
            let expected =
                expected.map_err(|conflict| format!("Apply failed with 1 conflict: {conflict}"));
            assert_eq!(
                found.map_err(|status| status.message),
                expected,
                "{} {managers:?}, {replicas}, {force}",
                kind.kind
            );
        }
    }
}

#[test]
fn an_applier_that_leaves_the_count_out() {
    let empty = config(&json!({}));
    // The only owner takes the count along: a missing count is zero.
    let alone = workload(&kind::DEPLOYMENT, 3, &[["scaler", "Apply", "scale"]]);
    assert_eq!(applied(&alone, "scaler", &empty, false), Ok((0, String::new())));
    let shared = [["creator", "Update", ""], ["scaler", "Apply", "scale"]];
    let shared = workload(&kind::DEPLOYMENT, 3, &shared);
    assert_eq!(applied(&shared, "scaler", &empty, false), Ok((3, "creator Update".to_owned())));
}

#[test]
fn an_applied_scale_that_is_refused() {
    let workload = workload(&kind::DEPLOYMENT, 3, &[]);
    let with = |pointer: &str, value: Value| {
        let mut config = config(&json!({"replicas": 3}));
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[field] = value;
        config
    };
    for (config, code, message) in [
        (with("/apiVersion", "apps/v1".into()), 400, "invalid object type: apps/v1, Kind=Scale"),
        (
            with("/kind", "Deployment".into()),
            400,
            "invalid object type: autoscaling/v1, Kind=Deployment",
        ),
        (with("/kind", Value::Null), 400, "invalid object type: autoscaling/v1, Kind="),
        (with("/metadata/managedFields", json!([])), 400, "metadata.managedFields must be nil"),
        (
            with("/spec/replicas", (-1).into()),
            422,
            "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with("/metadata/uid", "other".into()),
            409,
            "Operation cannot be fulfilled on deployments/scale.apps \"web\": Precondition failed: UID in \
             precondition: other, UID in object meta: u",
        ),
        (
            with("/spec/replicas", "3".into()),
            400,
            "Scale in version \"v1\" cannot be handled as a Scale: json: field spec.replicas: invalid type: string \"3\", expected an \
             integer",
        ),
    ] {
        let status = applied(&workload, "scaler", &config, true).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message), "{config}");
    }
}

#[test]
fn an_updated_scale() {
    let creator = workload(&kind::DEPLOYMENT, 3, &[["creator", "Update", ""]]);
    let count = |count: i64| {
        updated(&creator, "scaler", move |scale| scale["spec"]["replicas"] = count.into()).unwrap()
    };
    assert_eq!(count(5), (5, "scaler Update scale".to_owned()));
    assert_eq!(count(3), (3, "creator Update".to_owned()), "nothing changes");
    // In Go a zero count is no field that anybody could own.
    assert_eq!(count(0), (0, String::new()));
    let status_only = updated(&creator, "scaler", |scale| scale["status"]["replicas"] = 42.into());
    assert_eq!(status_only, Ok((3, "creator Update".to_owned())));
    // A client may not set the managers through a subresource.
    let reset = updated(&creator, "scaler", |scale| scale["metadata"]["managedFields"] = json!([]));
    assert_eq!(reset, Ok((3, "creator Update".to_owned())));
    let renamed = updated(&creator, "scaler", |scale| scale["metadata"]["name"] = "x".into());
    assert_eq!(renamed.unwrap_err().code, 400);
}

#[test]
fn a_new_owner_of_the_count_has_no_time() {
    let creator = workload(&kind::DEPLOYMENT, 3, &[["creator", "Update", ""]]);
    let live = managed_scale(&creator, &built_in()).unwrap();
    let config = config(&json!({"replicas": 5}));
    let wanted =
        patch::apply(Resource::built_in(&SCALE), Some(&live), &config, &manager_of("scaler"), true)
            .unwrap();
    let (document, _) =
        scaled(&creator, &built_in(), &live, wanted, FieldValidation::Warn).unwrap();
    assert_eq!(
        document["metadata"]["managedFields"],
        json!([
            {"manager": "scaler", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"},
            {"manager": "creator", "operation": "Update", "apiVersion": "apps/v1", "time": TIME,
             "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:selector": {}}}},
        ])
    );
    assert_eq!(document["metadata"]["resourceVersion"], "7");
}

#[test]
fn unknown_fields_are_told() {
    let workload = workload(&kind::DEPLOYMENT, 3, &[]);
    let live = managed_scale(&workload, &built_in()).unwrap();
    let mut sent = live.clone();
    sent["spec"]["replica"] = 4.into();
    let sent = |validation| {
        scaled(
            &workload,
            &built_in(),
            &live,
            Wanted::updated(sent.clone(), manager_of("x")),
            validation,
        )
    };
    let warnings = sent(FieldValidation::Warn).unwrap().1;
    assert_eq!(warnings, ["unknown field \"spec.replica\""]);
    let refused = sent(FieldValidation::Strict).unwrap_err();
    assert_eq!(refused.message, "strict decoding error: unknown field \"spec.replica\"");
}

#[test]
fn the_scale_of_a_workload() {
    let mut scale = scale_of(&workload(&kind::STATEFUL_SET, 0, &[]), &built_in()).unwrap();
    assert_eq!(scale["spec"], json!({}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
    scale = scale_of(&workload(&kind::REPLICATION_CONTROLLER, 4, &[]), &built_in()).unwrap();
    assert_eq!(scale["spec"], json!({"replicas": 4}));
    assert_eq!(scale["status"]["selector"], "app=web");
    let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"tier": "front"},
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]},
            {"key": "zone", "operator": "NotIn", "values": ["a"]}, {"key": "x", "operator": "Exists"},
            {"key": "y", "operator": "DoesNotExist"}]}))
    .unwrap();
    assert_eq!(selector_text(&selector), "app in (api,web),tier=front,x,!y,zone notin (a)");
}

/// The paths of a custom kind that has its count in `.spec.size.count`.
fn paths() -> ScalePaths {
    ScalePaths {
        spec_replicas_path: ".spec.size.count".to_owned(),
        status_replicas_path: ".status.count".to_owned(),
        label_selector_path: Some(".status.selector".to_owned()),
    }
}

/// In `v1` the count is in `.spec.count`.
fn parts_of_custom(paths: &ScalePaths) -> Parts<'_> {
    let count = Count::at(&["spec", "size", "count"]);
    let count = count.with_version("example.com/v1".to_owned(), &["spec", "count"]);
    Parts { paths: Some(paths), count }
}

fn custom(spec: &Value, status: &Value, managers: &Value) -> Object {
    let kind = Kind::Custom(std::sync::Arc::new(Identity {
        group: "example.com".into(),
        version: "v2".into(),
        kind: "Web".into(),
        plural: "webs".into(),
        singular: "web".into(),
        list_kind: "WebList".into(),
        short_names: [].as_slice().into(),
        categories: [].as_slice().into(),
        namespaced: true,
        has_status: true,
        has_scale: true,
        has_generation: true,
        kept_by_status: None,
        stored_as: None,
    }));
    let document = json!({"apiVersion": "example.com/v2", "kind": "Web", "metadata": {"name": "web", "namespace": "shop",
        "uid": "u", "creationTimestamp": TIME, "managedFields": managers}, "spec": spec, "status": status});
    let key = ObjectKey::new(&kind, "shop", "web");
    Object::from_stored(key, 7, to_stored(&kind, document)).unwrap()
}

#[test]
fn the_scale_of_a_custom_resource() {
    let paths = paths();
    let parts = parts_of_custom(&paths);
    let scale = |spec: Value, status: Value| scale_of(&custom(&spec, &status, &json!([])), &parts);
    let found =
        scale(json!({"size": {"count": 3}}), json!({"count": 2, "selector": "app=web"})).unwrap();
    assert_eq!(found["spec"], json!({"replicas": 3}));
    assert_eq!(found["status"], json!({"replicas": 2, "selector": "app=web"}));
    assert_eq!((&found["apiVersion"], &found["kind"]), (&json!("autoscaling/v1"), &json!("Scale")));
    assert_eq!(found["metadata"]["uid"], "u");
    let none = scale(json!({}), json!({})).unwrap();
    let refused = check_count(&none, &parts, "does not exist", Status::internal).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (500, "the spec replicas field \".spec.size.count\" does not exist")
    );
    let mistyped = scale(json!({"size": {"count": "x"}}), json!({})).unwrap_err();
    assert_eq!(
        mistyped.message,
        ".spec.size.count accessor error: x is of the type string, expected int64"
    );
}

#[test]
fn a_written_scale_of_a_custom_resource() {
    let paths = paths();
    let parts = parts_of_custom(&paths);
    let owner = |name: &str, version: &str, fields: Value| {
        json!({"manager": name, "operation": "Update",
        "apiVersion": format!("example.com/{version}"), "time": TIME, "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let managers = json!([
        owner("new", "v2", json!({"f:spec": {"f:size": {"f:count": {}}, "f:other": {}}})),
        owner("old", "v1", json!({"f:spec": {"f:count": {}}})),
    ]);
    let workload = custom(&json!({"size": {"count": 3}, "other": 1}), &json!({}), &managers);
    let live = managed_scale(&workload, &parts).unwrap();
    let told = |document: &Value| -> Vec<String> {
        let entries = document["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let told = |entry: &Value| {
            let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", word("manager"), word("apiVersion"), entry["fieldsV1"])
        };
        entries.iter().map(told).collect()
    };
    let replicas = r#"autoscaling/v1 {"f:spec":{"f:replicas":{}}}"#;
    assert_eq!(told(&live), [format!("new {replicas}"), format!("old {replicas}")]);
    let scaled_by = |wanted| scaled(&workload, &parts, &live, wanted, FieldValidation::Warn);
    let apply = |force| {
        let config = config(&json!({"replicas": 5}));
        let resource = Resource::built_in(&SCALE);
        patch::apply(resource, Some(&live), &config, &manager_of("scaler"), force)
            .and_then(scaled_by)
    };
    let refused = apply(false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"new\" using autoscaling/v1:\n- .spec.replicas\n\
         conflicts with \"old\" using autoscaling/v1:\n- .spec.replicas"
    );
    let (document, warnings) = apply(true).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(document["spec"], json!({"size": {"count": 5}, "other": 1}));
    assert_eq!(document["metadata"]["resourceVersion"], "7");
    assert_eq!(
        told(&document),
        [
            r#"scaler example.com/v2 {"f:spec":{"f:size":{"f:count":{}}}}"#,
            r#"new example.com/v2 {"f:spec":{"f:other":{}}}"#,
        ]
    );
}

#[test]
fn a_custom_resource_without_a_count_gets_one() {
    let paths = paths();
    let parts = parts_of_custom(&paths);
    let workload = custom(&json!({}), &json!({}), &json!([]));
    let live = managed_scale(&workload, &parts).unwrap();
    let sent = |spec: Value| {
        let mut scale = live.clone();
        json_patch::merge(&mut scale["spec"], &spec);
        let wanted = Wanted::updated(scale, manager_of("scaler"));
        scaled(&workload, &parts, &live, wanted, FieldValidation::Warn)
    };
    let refused = sent(json!({})).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "the spec replicas field \".spec.size.count\" cannot be empty")
    );
    assert_eq!(sent(json!({"replicas": 2})).unwrap().0["spec"], json!({"size": {"count": 2}}));
    // Whether a count may be negative, the resource decides.
    assert_eq!(sent(json!({"replicas": -1})).unwrap().0["spec"]["size"]["count"], -1);
}
