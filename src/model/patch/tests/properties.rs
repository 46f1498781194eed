//! Laws of patches, for documents that nobody thought of.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::{select, subsequence},
    test_runner::RngSeed,
};
use serde_json::{Map, Value, json};

use super::{FieldManager, PatchType, T0, apply, apply_patch, manager, record_update};
use crate::model::{Kind, kind};

/// Names that mean something in a patch or a document.
const NAMES: [&str; 24] = [
    "a",
    "metadata",
    "name",
    "finalizers",
    "ownerReferences",
    "uid",
    "managedFields",
    "manager",
    "operation",
    "apiVersion",
    "fieldsV1",
    "f:spec",
    "k:{\"name\":\"a\"}",
    "spec",
    "template",
    "containers",
    "ports",
    "containerPort",
    "status",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "strategy",
];

fn kinds() -> impl Strategy<Value = &'static Kind> {
    select(vec![&kind::DEPLOYMENT, &kind::POD, &kind::SERVICE, &kind::LOAD_BALANCER_POLICY])
}

/// Any JSON, with names that patches look for.
fn json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        select(vec!["", "a", "Apply", "Update", "delete", "replace", "merge", "v1", "apps/v1"])
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(6, 40, 4, |inner| {
        let fields = btree_map(select(&NAMES[..]), inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    btree_map(select(&NAMES[..]), json(), 0..5)
        .prop_map(|fields| fields.into_iter().map(|(name, v)| (name.to_owned(), v)).collect())
}

/// The same without nulls, which a merge patch cannot write.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

/// The merge patch from one document to another (RFC 7386 does not say how; this is the only way).
fn difference(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let changed = changed.map(|(name, value)| {
        (name.clone(), old.get(name).map_or_else(|| value.clone(), |old| difference(old, value)))
    });
    gone.chain(changed).collect::<Map<_, _>>().into()
}

/// Containers by name, in any order. Each field may be missing, but none is empty: an empty one is not stored.
fn containers() -> impl Strategy<Value = Value> {
    let env = subsequence(vec!["X", "Y", "Z"], 1..=3).prop_shuffle();
    let ports = subsequence(vec![80, 81, 82], 1..=3).prop_shuffle();
    let container = (option::of("[12]"), option::of(env), option::of(ports));
    let container = container.prop_map(|(image, env, ports)| {
        let env =
            env.map(|names| names.iter().map(|name| json!({"name": name})).collect::<Value>());
        let ports = ports.map(|ports| {
            ports.iter().map(|port| json!({"containerPort": port})).collect::<Value>()
        });
        without_nulls(json!({"image": image, "env": env, "ports": ports}))
    });
    let names = subsequence(vec!["a", "b", "c", "d"], 1..=4).prop_shuffle();
    (names, vec(container, 4)).prop_map(|(names, containers)| {
        let named = names.iter().zip(containers).map(|(name, mut container)| {
            container["name"] = (*name).into();
            container
        });
        named.collect()
    })
}

/// A Deployment with lists of every sort: merged by key, by value, and as a whole. Little is left out as a rule.
fn deployment() -> impl Strategy<Value = Value> {
    let finalizers = subsequence(vec!["x/a", "x/b", "x/c"], 1..=3).prop_shuffle();
    let labels = btree_map("[ab]", "[12]", 1..3);
    let arguments = vec("[12]", 0..3);
    (option::of(0..3), option::of(finalizers), option::of(labels), containers(), arguments)
        .prop_map(|(replicas, finalizers, labels, containers, arguments)| {
            let mut document = without_nulls(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "finalizers": finalizers, "labels": labels},
                "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
            }));
            let containers = &mut document["spec"]["template"]["spec"]["containers"];
            if let Some(first) = containers.get_mut(0) {
                first["args"] = arguments.into();
            }
            document
        })
}

/// A strategic merge patch of such a Deployment: it also removes fields and items.
fn strategic() -> impl Strategy<Value = Value> {
    (deployment(), select(vec!["a", "e"]), any::<[bool; 3]>()).prop_map(
        |(mut patch, name, [field, item, order])| {
            if field {
                patch["spec"]["replicas"] = Value::Null;
            }
            let spec = &mut patch["spec"]["template"]["spec"];
            let mut containers = spec["containers"].as_array().cloned().unwrap_or_default();
            if item {
                containers.retain(|container| container["name"] != name);
                containers.push(json!({"name": name, "$patch": "delete"}));
            }
            if order {
                let names = containers.iter().filter(|container| container["$patch"].is_null());
                let names = names.map(|container| json!({"name": container["name"]}));
                spec["$setElementOrder/containers"] = names.collect();
            }
            spec["containers"] = containers.into();
            patch
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn a_merge_patch_leads_to_its_target(from in object(), to in object()) {
        let (from, to) = (without_nulls(from), without_nulls(to));
        let patch = difference(&from, &to);
        let merged = |document: &Value| {
            apply_patch(&kind::DEPLOYMENT, PatchType::Merge, document, patch.clone()).unwrap()
        };
        prop_assert_eq!(&merged(&from), &to, "{}", patch);
        prop_assert_eq!(&merged(&to), &to, "{}", patch);
    }

    #[test]
    fn a_merge_patch_again_changes_nothing(document in object(), patch in object()) {
        let merged = |document: &Value| {
            apply_patch(&kind::DEPLOYMENT, PatchType::Merge, document, patch.clone()).unwrap()
        };
        let once = merged(&document);
        prop_assert_eq!(merged(&once), once);
    }

    #[test]
    fn a_strategic_patch_again_changes_nothing(document in deployment(), patch in strategic()) {
        let merged = |document: &Value| {
            apply_patch(&kind::DEPLOYMENT, PatchType::Strategic, document, patch.clone()).unwrap()
        };
        let once = merged(&document);
        prop_assert_eq!(merged(&once), once);
    }

    #[test]
    fn an_apply_again_changes_nothing(
        live in option::of(deployment()), other in deployment(), first in deployment(),
        config in deployment()
    ) {
        let kind = &kind::DEPLOYMENT;
        let mut document = live;
        if let Some(created) = &mut document {
            record_update(kind, None, created, &manager("creator"));
        }
        for (name, config) in [("other", &other), ("own", &first), ("own", &config)] {
            document = Some(apply(kind, document.as_ref(), config, &manager(name), true).unwrap());
        }
        let later = FieldManager { now: "2026-01-02T00:00:00Z".parse().unwrap(), ..manager("own") };
        for force in [false, true] {
            let again = apply(kind, document.as_ref(), &config, &later, force);
            prop_assert_eq!(again.as_ref().ok(), document.as_ref());
        }
        prop_assert!(document.is_some_and(|document| document.to_string().contains(T0)));
    }

    #[test]
    fn what_is_applied_is_there(live in deployment(), config in deployment()) {
        let kind = &kind::DEPLOYMENT;
        let mut created = live;
        record_update(kind, None, &mut created, &manager("creator"));
        let applied = apply(kind, Some(&created), &config, &manager("own"), true).unwrap();
        let containers = |document: &Value| -> Vec<Value> {
            let list = &document["spec"]["template"]["spec"]["containers"];
            list.as_array().cloned().unwrap_or_default()
        };
        for wanted in containers(&config) {
            let found = containers(&applied).into_iter().find(|c| c["name"] == wanted["name"]);
            prop_assert!(found.is_some_and(|found| found["image"] == wanted["image"]
                || wanted["image"].is_null()), "{}", applied);
        }
    }

    #[test]
    fn no_json_panics(kind in kinds(), current in object(), patch in json()) {
        for patch_type in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            if let Err(status) = apply_patch(kind, patch_type, &current, patch.clone()) {
                prop_assert!(matches!(status.code, 400 | 422), "{}", status);
            }
        }
        let mut config = patch;
        if let Some(fields) = config.as_object_mut() {
            fields.insert("apiVersion".to_owned(), kind.api_version().into());
            fields.insert("kind".to_owned(), (*kind.kind).into());
        }
        for live in [None, Some(&current)] {
            if let Ok(applied) = apply(kind, live, &config, &manager("own"), true) {
                let mut updated = applied.clone();
                record_update(kind, live, &mut updated, &manager("other"));
                prop_assert!(apply(kind, Some(&updated), &config, &manager("own"), false).is_ok());
            }
        }
    }

    #[test]
    fn no_operations_panic(current in object(), operations in vec(
        (select(vec!["add", "remove", "replace", "move", "copy", "test"]), path(), path(), json()),
        0..6
    )) {
        let operations = operations.into_iter().map(|(op, from, path, value)| {
            json!({"op": op, "from": from, "path": path, "value": value})
        });
        let patch = operations.collect();
        if let Err(status) = apply_patch(&kind::POD, PatchType::Json, &current, patch) {
            prop_assert!(matches!(status.code, 400 | 422), "{}", status);
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    let step =
        prop_oneof![select(&NAMES[..]).prop_map(str::to_owned), "[0-2]", "-", "~[01]?", ".?"];
    let path = vec(step, 0..4);
    path.prop_map(|steps| steps.iter().map(|step| format!("/{step}")).collect())
}
