//! Server-side apply of custom resources, as tables.

use std::sync::{Arc, LazyLock};

use proptest::{
    collection::btree_map,
    option,
    prelude::*,
    sample::{select, subsequence},
    test_runner::RngSeed,
};
use serde_json::{Value, json};

use crate::{
    model::{
        Kind, Status,
        kind::Identity,
        patch::{self, FieldManager, Resource, Wanted},
    },
    schema::{Path, Schema, resource},
};

const SCHEMA: &str = r"
type: object
properties:
  spec:
    type: object
    properties:
      set: &set {type: array, x-kubernetes-list-type: set, items: {type: string}}
      points:
        type: array
        x-kubernetes-list-type: set
        items:
          type: object
          x-kubernetes-map-type: atomic
          properties: {x: {type: integer}, y: {type: integer}}
      ports:
        type: array
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [port, protocol]
        items:
          type: object
          required: [port]
          properties:
            port: {type: integer}
            protocol: {type: string, default: TCP}
            name: {type: string}
            tags: *set
      env:
        type: array
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [name]
        items: {type: object, properties: {name: {type: string}, value: {type: string}}}
      plain: {type: array, items: {type: string}}
      objects: {type: array, items: {type: object, properties: {a: {type: string}}}}
      whole: {type: object, x-kubernetes-map-type: atomic, properties: {a: {type: string}, b: {type: string}}}
      labels: &labels {type: object, additionalProperties: {type: string}}
      nested: {type: object, additionalProperties: *labels}
      sets: {type: object, additionalProperties: *set}
      scale: {type: object, properties: {count: {type: integer, default: 1}, max: {type: integer}}}
      any: {x-kubernetes-preserve-unknown-fields: true}
      free: {type: object}
      template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
  status:
    type: object
    properties: {phase: {type: string}}
";

fn schema() -> &'static Schema {
    static PARSED: LazyLock<Schema> = LazyLock::new(|| {
        let schema: Value = serde_yaml::from_str(SCHEMA).unwrap();
        Schema::parse(&schema, &Path::root("")).unwrap()
    });
    &PARSED
}

fn kind(version: &'static str) -> Kind {
    Kind::Custom(Arc::new(Identity {
        group: "example.com".into(),
        version: version.into(),
        kind: "Web".into(),
        plural: "webs".into(),
        singular: "web".into(),
        list_kind: "WebList".into(),
        short_names: [].as_slice().into(),
        categories: [].as_slice().into(),
        namespaced: true,
        has_status: true,
        has_scale: false,
        has_generation: true,
        kept_by_status: None,
        stored_as: None,
    }))
}

/// What a manager does to a web.
#[derive(Clone, Copy)]
enum Verb {
    Apply,
    Force,
    Update,
}

/// Does it, with the defaults of the schema in between.
fn write(
    resource: Resource<'_>,
    schema: &Schema,
    live: Option<&Value>,
    (name, verb, content): (&str, Verb, &Value),
) -> Result<Value, Status> {
    let manager =
        FieldManager { name, subresource: "", now: "2026-01-01T00:00:00Z".parse().unwrap() };
    let identity = json!({"apiVersion": resource.kind().api_version(), "kind": "Web", "metadata": {"name": "w"}});
    let mut sent = identity;
    json_patch::merge(&mut sent, content);
    let Wanted { mut document, ownership, .. } = match verb {
        Verb::Update => Wanted::updated(sent, manager),
        Verb::Apply => patch::apply(resource, live, &sent, &manager, false)?,
        Verb::Force => patch::apply(resource, live, &sent, &manager, true)?,
    };
    resource::decode(&mut document, schema).unwrap();
    resource::default(&mut document, schema).unwrap();
    ownership.settle(resource, live, &mut document)?;
    Ok(document)
}

/// Takes the steps `MANAGER VERB SPEC`, the specification in YAML.
fn taken(steps: &[&str]) -> Result<Value, Status> {
    let (schema, kind) = (schema(), kind("v1"));
    let resource = Resource::custom(&kind, schema);
    let mut live = None;
    for step in steps {
        let mut words = step.splitn(3, ' ');
        let (name, verb, spec) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let verb = match verb {
            "apply" => Verb::Apply,
            "force" => Verb::Force,
            "update" => Verb::Update,
            other => panic!("{other}"),
        };
        let spec: Value = serde_yaml::from_str(spec).unwrap();
        let content = json!({"spec": spec});
        live = Some(write(resource, schema, live.as_ref(), (name, verb, &content))?);
    }
    Ok(live.unwrap())
}

/// The paths in `fieldsV1`, without those of a parent's name.
fn paths(fields: &Value, at: &str, out: &mut Vec<String>) {
    for (step, below) in fields.as_object().unwrap() {
        let here = match step.split_at(step.len().min(2)) {
            (".", _) => {
                out.push(at.to_owned());
                continue;
            }
            ("f:", name) => format!("{at}.{name}"),
            ("k:", keys) => format!("{at}[{keys}]"),
            ("v:", value) => format!("{at}[={value}]"),
            other => panic!("{other:?}"),
        };
        match below.as_object().unwrap().is_empty() {
            true => out.push(here),
            false => paths(below, &here, out),
        }
    }
}

fn owners(document: &Value) -> Vec<String> {
    let entries = document["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let told = |entry: &Value| {
        let mut out = Vec::new();
        paths(&entry["fieldsV1"]["f:spec"], "", &mut out);
        format!("{}: {}", entry["manager"].as_str().unwrap(), out.join(" "))
    };
    entries.iter().map(told).collect()
}

#[track_caller]
fn check(steps: &[&str], spec: &str, owned: &[&str]) {
    let document = taken(steps).unwrap_or_else(|status| panic!("{steps:?}: {status}"));
    let spec: Value = serde_yaml::from_str(spec).unwrap();
    assert_eq!(document["spec"], spec, "{steps:?}");
    assert_eq!(owners(&document), owned, "{steps:?}");
}

#[track_caller]
fn refused(steps: &[&str], code: u16, message: &str) {
    let status = taken(steps).unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (code, message), "{steps:?}");
}

#[test]
fn sets() {
    let shared = ["a apply {set: [x, y]}", "b apply {set: [y, z]}"];
    check(
        &shared,
        "{set: [x, y, z]}",
        &[r#"a: .set[="x"] .set[="y"]"#, r#"b: .set[="y"] .set[="z"]"#],
    );
    // What another one applies too stays.
    let [one, other] = shared;
    check(
        &[one, other, "a apply {set: [x]}"],
        "{set: [x, y, z]}",
        &[r#"a: .set[="x"]"#, r#"b: .set[="y"] .set[="z"]"#],
    );
    check(&[one, "a apply {set: [y]}"], "{set: [y]}", &[r#"a: .set[="y"]"#]);
    // What somebody has added by an update stays.
    check(
        &["a apply {set: [x]}", "b update {set: [x, y]}", "a apply {set: [x]}"],
        "{set: [x, y]}",
        &[r#"a: .set[="x"]"#, r#"b: .set[="y"]"#],
    );
    check(
        &["a apply {points: [{x: 1, y: 2}]}", "b apply {points: [{y: 2, x: 1}, {x: 3}]}"],
        "{points: [{x: 1, y: 2}, {x: 3}]}",
        &[r#"a: .points[={"x":1,"y":2}]"#, r#"b: .points[={"x":1,"y":2}] .points[={"x":3}]"#],
    );
    check(
        &["a apply {sets: {s: [x]}}", "b apply {sets: {s: [y]}}"],
        "{sets: {s: [x, y]}}",
        &[r#"a: .sets.s[="x"]"#, r#"b: .sets.s[="y"]"#],
    );
}

#[test]
fn lists_by_key() {
    // A default is a key, too.
    check(
        &[
            "a apply {ports: [{port: 80, name: web}]}",
            "b apply {ports: [{port: 80, protocol: TCP, tags: [t]}]}",
        ],
        "{ports: [{port: 80, protocol: TCP, name: web, tags: [t]}]}",
        &[
            r#"a: .ports[{"port":80,"protocol":"TCP"}] .ports[{"port":80,"protocol":"TCP"}].name .ports[{"port":80,"protocol":"TCP"}].port"#,
            r#"b: .ports[{"port":80,"protocol":"TCP"}] .ports[{"port":80,"protocol":"TCP"}].port .ports[{"port":80,"protocol":"TCP"}].protocol .ports[{"port":80,"protocol":"TCP"}].tags[="t"]"#,
        ],
    );
    let names = |steps: &[&str]| {
        let ports = taken(steps).unwrap()["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let name = |port: &Value| {
            format!("{}{}", port["port"], port["protocol"].as_str().unwrap_or_default())
        };
        ports.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    for (steps, expected) in [
        (&["a apply {ports: [{port: 53}, {port: 53, protocol: UDP}]}"][..], "53TCP 53UDP"),
        // The configuration orders its items.
        (
            &["a apply {ports: [{port: 1}, {port: 2}]}", "a apply {ports: [{port: 2}, {port: 1}]}"],
            "2TCP 1TCP",
        ),
        (&["a apply {ports: [{port: 1}, {port: 2}]}", "a apply {ports: [{port: 2}]}"], "2TCP"),
        (
            &[
                "a apply {ports: [{port: 1}, {port: 2}]}",
                "b apply {ports: [{port: 1}]}",
                "a apply {ports: [{port: 2}]}",
            ],
            "1TCP 2TCP",
        ),
        (
            &[
                "a apply {ports: [{port: 1}]}",
                "b update {ports: [{port: 1}, {port: 2}]}",
                "a apply {ports: [{port: 3}]}",
            ],
            "2TCP 3TCP",
        ),
    ] {
        assert_eq!(names(steps), expected, "{steps:?}");
    }
}

#[test]
fn objects_and_what_is_owned_as_a_whole() {
    check(
        &["a apply {labels: {a: '1'}}", "b apply {labels: {b: '2'}}"],
        "{labels: {a: '1', b: '2'}}",
        &["a: .labels.a", "b: .labels.b"],
    );
    check(
        &["a apply {nested: {x: {k: '1'}, y: {k: '1'}}}", "a apply {nested: {x: {k: '1'}}}"],
        "{nested: {x: {k: '1'}}}",
        &["a: .nested.x.k"],
    );
    check(
        &[
            "a apply {nested: {x: {k: '1'}}}",
            "b apply {nested: {x: {l: '1'}}}",
            "a apply {set: [x]}",
        ],
        "{nested: {x: {l: '1'}}, set: [x]}",
        &[r#"a: .set[="x"]"#, "b: .nested.x.l"],
    );
    check(
        &["a apply {plain: [x]}", "b apply {plain: [x]}"],
        "{plain: [x]}",
        &["a: .plain", "b: .plain"],
    );
    check(&["a apply {plain: [x]}", "b force {plain: [y]}"], "{plain: [y]}", &["b: .plain"]);
    check(
        &["a apply {whole: {a: x}}", "b force {whole: {b: y}}"],
        "{whole: {b: y}}",
        &["b: .whole"],
    );
    check(
        &["a apply {any: {x: {y: [1, 2]}}}", "b apply {any: {z: 1}}"],
        "{any: {x: {y: [1, 2]}, z: 1}}",
        &["a: .any.x.y", "b: .any.z"],
    );
    check(
        &[
            "a apply {template: {apiVersion: v1, kind: X, metadata: {finalizers: [x/a]}, spec: {l: [1]}}}",
            "b apply {template: {metadata: {finalizers: [x/b]}}}",
        ],
        "{template: {apiVersion: v1, kind: X, metadata: {finalizers: [x/a, x/b]}, spec: {l: [1]}}}",
        &[
            r#"a: .template.apiVersion .template.kind .template.metadata.finalizers[="x/a"] .template.spec.l"#,
            r#"b: .template.metadata.finalizers[="x/b"]"#,
        ],
    );
}

#[test]
fn updates() {
    // The first one owns what it makes.
    check(&["a update {labels: {a: '1'}}"], "{labels: {a: '1'}}", &["a:  .labels .labels.a"]);
    check(
        &["a apply {labels: {a: '1', b: '1'}}", "b update {labels: {a: '2', b: '1'}}"],
        "{labels: {a: '2', b: '1'}}",
        &["a: .labels.b", "b: .labels.a"],
    );
    check(
        &["a update {labels: {a: '1'}}", "b apply {labels: {a: '1'}}"],
        "{labels: {a: '1'}}",
        &["b: .labels.a", "a:  .labels .labels.a"],
    );
}

#[test]
fn defaults_and_unknown_fields() {
    check(&["a apply {scale: {max: 3}}"], "{scale: {count: 1, max: 3}}", &["a: .scale.max"]);
    check(
        &["a apply {scale: {max: 3}}", "b apply {scale: {count: 2}}"],
        "{scale: {count: 2, max: 3}}",
        &["a: .scale.max", "b: .scale.count"],
    );
    check(
        &["a apply {scale: {count: 5, max: 3}}", "a apply {scale: {max: 3}}"],
        "{scale: {count: 1, max: 3}}",
        &["a: .scale.max"],
    );
    // An object without properties may have any for a typed configuration, but keeps none.
    check(&["a apply {free: {x: 1}}"], "{free: {}}", &["a: .free"]);
    check(&["a update {nope: 1, set: [x]}"], "{set: [x]}", &[r#"a:  .set .set[="x"]"#]);
}

#[test]
fn conflicts() {
    for (steps, message) in [
        (
            ["a apply {plain: [x]}", "b apply {plain: [y]}"],
            "1 conflict: conflict with \"a\": .spec.plain",
        ),
        (
            ["a apply {whole: {a: x}}", "b apply {whole: {b: y}}"],
            "1 conflict: conflict with \"a\": .spec.whole",
        ),
        (
            ["a apply {nested: {x: {k: '1'}}}", "b apply {nested: {x: {k: '2'}}}"],
            "1 conflict: conflict with \"a\": .spec.nested.x.k",
        ),
        (
            ["a update {labels: {a: '1'}}", "b apply {labels: {a: '2'}}"],
            "1 conflict: conflict with \"a\" using example.com/v1: .spec.labels.a",
        ),
        (
            ["a apply {ports: [{port: 1, name: x}]}", "b apply {ports: [{port: 1, name: y}]}"],
            "1 conflict: conflict with \"a\": .spec.ports[port=1,protocol=\"TCP\"].name",
        ),
        (
            ["a apply {plain: [x], labels: {a: '1'}}", "b apply {plain: [y], labels: {a: '2'}}"],
            "2 conflicts: conflicts with \"a\":\n- .spec.plain\n- .spec.labels.a",
        ),
    ] {
        refused(&steps, 409, &format!("Apply failed with {message}"));
    }
}

#[test]
fn configurations_that_are_refused() {
    const UNKNOWN: &str = "field not declared in schema";
    for (spec, message) in [
        ("{set: [x, x]}", ".spec.set: duplicate entries for key [=\"x\"]".to_owned()),
        (
            "{ports: [{port: 53}, {port: 53, protocol: TCP}]}",
            ".spec.ports: duplicate entries for key [port=53,protocol=\"TCP\"]".to_owned(),
        ),
        (
            "{env: [{value: x}]}",
            ".spec.env: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and \
             doesn't have default values for any key fields)"
                .to_owned(),
        ),
        ("{nope: 1}", format!(".spec.nope: {UNKNOWN}")),
        ("{env: [{name: x, nope: 1}]}", format!(".spec.env[name=\"x\"].nope: {UNKNOWN}")),
        (
            "{whole: {nope: 1}, objects: [{a: x}, {nope: 1}]}",
            format!("errors:\n  .spec.whole.nope: {UNKNOWN}\n  .spec.objects[1].nope: {UNKNOWN}"),
        ),
    ] {
        let what = "failed to create typed patch object (/w; example.com/v1, Kind=Web)";
        refused(&[&format!("a apply {spec}")], 500, &format!("{what}: {message}"));
    }
}

#[test]
fn metadata_is_that_of_kubernetes() {
    let (schema, kind) = (schema(), kind("v1"));
    let resource = Resource::custom(&kind, schema);
    let content = |finalizer: &str, uid: &str| {
        json!({"metadata": {"finalizers": [finalizer], "labels": {uid: "1"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid}]}})
    };
    let one = write(resource, schema, None, ("a", Verb::Apply, &content("x/a", "u1"))).unwrap();
    let both =
        write(resource, schema, Some(&one), ("b", Verb::Apply, &content("x/b", "u2"))).unwrap();
    let metadata = &both["metadata"];
    assert_eq!(metadata["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(metadata["ownerReferences"].as_array().unwrap().len(), 2);
    let fields = &metadata["managedFields"][0]["fieldsV1"];
    assert_eq!(
        *fields,
        json!({"f:metadata": {"f:finalizers": {"v:\"x/a\"": {}}, "f:labels": {"f:u1": {}},
            "f:ownerReferences": {"k:{\"uid\":\"u1\"}": {}}}})
    );
}

#[test]
fn versions_share_paths() {
    let schema = schema();
    let (old, new) = (kind("v1"), kind("v2"));
    let (old, new) = (Resource::custom(&old, schema), Resource::custom(&new, schema));
    let content = |label: &str| json!({"spec": {"labels": {"a": label}}});
    let first = write(old, schema, None, ("a", Verb::Apply, &content("1"))).unwrap();
    // An applier is itself in any version.
    let mut again = write(new, schema, Some(&first), ("a", Verb::Apply, &content("2"))).unwrap();
    let entries = again["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["apiVersion"], "example.com/v2");
    let status = write(old, schema, Some(&again), ("b", Verb::Apply, &content("3"))).unwrap_err();
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.labels.a");
    // An updater is another one in each version.
    let managers = again["metadata"]["managedFields"].take();
    let mut content = content("3");
    content["metadata"] = json!({"managedFields": managers});
    let third = write(old, schema, Some(&first), ("c", Verb::Update, &content)).unwrap();
    content["spec"]["plain"] = json!(["x"]);
    content["metadata"] = json!({"managedFields": third["metadata"]["managedFields"]});
    let fourth = write(new, schema, Some(&third), ("c", Verb::Update, &content)).unwrap();
    let versions = fourth["metadata"]["managedFields"].as_array().unwrap().iter();
    let versions: Vec<_> = versions.map(|entry| entry["apiVersion"].as_str().unwrap()).collect();
    assert_eq!(versions, ["example.com/v1", "example.com/v2"]);
}

/// A specification with lists and maps of every sort.
fn specification() -> impl Strategy<Value = Value> {
    let names = || option::of(subsequence(vec!["x", "y", "z"], 1..=3).prop_shuffle());
    let ports =
        subsequence(vec![(1, "TCP"), (1, "UDP"), (2, "TCP"), (3, "")], 1..=4).prop_shuffle();
    let port = |((port, protocol), name): ((i32, &str), Option<&str>)| {
        let mut item = json!({"port": port});
        if !protocol.is_empty() {
            item["protocol"] = protocol.into();
        }
        if let Some(name) = name {
            item["name"] = name.into();
        }
        item
    };
    let called = proptest::collection::vec(option::of(select(vec!["p", "q"])), 4);
    let labels = option::of(btree_map("[ab]", "[12]", 1..3));
    (names(), names(), option::of(ports), called, labels, option::of(0..3)).prop_map(
        move |(set, plain, ports, called, labels, max)| {
            let ports =
                ports.map(|ports| ports.into_iter().zip(called).map(port).collect::<Value>());
            let scale = max.map(|max| json!({"max": max}));
            let fields = [
                ("set", json!(set)),
                ("plain", json!(plain)),
                ("ports", json!(ports)),
                ("labels", json!(labels)),
                ("scale", json!(scale)),
            ];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            let fields: Value = fields.map(|(name, value)| (name.to_owned(), value)).collect();
            json!({"spec": fields})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn an_apply_again_changes_nothing(
        live in option::of(specification()), other in specification(), first in specification(),
        config in specification()
    ) {
        let (schema, kind) = (schema(), kind("v1"));
        let resource = Resource::custom(&kind, schema);
        let mut document = live.map(|live| {
            write(resource, schema, None, ("creator", Verb::Update, &live)).unwrap()
        });
        for (name, config) in [("other", &other), ("own", &first), ("own", &config)] {
            let step = (name, Verb::Force, config);
            document = Some(write(resource, schema, document.as_ref(), step).unwrap());
        }
        for verb in [Verb::Apply, Verb::Force] {
            let again = write(resource, schema, document.as_ref(), ("own", verb, &config));
            prop_assert_eq!(again.as_ref().ok(), document.as_ref());
        }
    }

    #[test]
    fn what_is_applied_is_there(live in specification(), config in specification()) {
        let (schema, kind) = (schema(), kind("v1"));
        let resource = Resource::custom(&kind, schema);
        let created = write(resource, schema, None, ("creator", Verb::Update, &live)).unwrap();
        let applied =
            write(resource, schema, Some(&created), ("own", Verb::Force, &config)).unwrap();
        let (wanted, found) = (&config["spec"], &applied["spec"]);
        for field in ["plain", "scale"] {
            if let Some(wanted) = wanted.get(field).and_then(|value| value.get("max").or(Some(value))) {
                let found = &found[field];
                prop_assert!(found == wanted || found["max"] == *wanted, "{}", applied);
            }
        }
        for (name, value) in wanted["labels"].as_object().into_iter().flatten() {
            prop_assert_eq!(&found["labels"][name], value);
        }
        for item in wanted["set"].as_array().into_iter().flatten() {
            prop_assert!(found["set"].as_array().is_some_and(|set| set.contains(item)));
        }
    }
}
