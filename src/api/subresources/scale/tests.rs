//! Writes of a scale, as tables.

use super::*;
use crate::model::{Kind, ObjectKey, kind, object::to_stored, patch};

const TIME: &str = "2026-01-01T00:00:00Z";

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
    let selector = match kind.kind {
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
    let live = managed_scale(workload)?;
    let (document, warnings) = scaled(workload, &live, write(&live)?, FieldValidation::Warn)?;
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
    write(workload, |live| patch::apply(&SCALE, Some(live), config, &manager, force))
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
    let live = managed_scale(&creator).unwrap();
    let config = config(&json!({"replicas": 5}));
    let wanted = patch::apply(&SCALE, Some(&live), &config, &manager_of("scaler"), true).unwrap();
    let (document, _) = scaled(&creator, &live, wanted, FieldValidation::Warn).unwrap();
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
    let live = managed_scale(&workload).unwrap();
    let mut sent = live.clone();
    sent["spec"]["replica"] = 4.into();
    let sent = |validation| {
        scaled(&workload, &live, Wanted::updated(sent.clone(), manager_of("x")), validation)
    };
    let warnings = sent(FieldValidation::Warn).unwrap().1;
    assert_eq!(warnings, ["unknown field \"spec.replica\""]);
    let refused = sent(FieldValidation::Strict).unwrap_err();
    assert_eq!(refused.message, "strict decoding error: unknown field \"spec.replica\"");
}

#[test]
fn the_scale_of_a_workload() {
    let mut scale = scale_of(&workload(&kind::STATEFUL_SET, 0, &[])).unwrap();
    assert_eq!(scale["spec"], json!({}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
    scale = scale_of(&workload(&kind::REPLICATION_CONTROLLER, 4, &[])).unwrap();
    assert_eq!(scale["spec"], json!({"replicas": 4}));
    assert_eq!(scale["status"]["selector"], "app=web");
    let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"tier": "front"},
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]},
            {"key": "zone", "operator": "NotIn", "values": ["a"]}, {"key": "x", "operator": "Exists"},
            {"key": "y", "operator": "DoesNotExist"}]}))
    .unwrap();
    assert_eq!(selector_text(&selector), "app in (api,web),tier=front,x,!y,zone notin (a)");
}
