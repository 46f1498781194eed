//! CustomResourceDefinitions and their objects, by the verbs of kubectl, and what hurts.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams,
        WatchParams,
    },
};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    cluster::{Cluster, items},
    tools::{Tool, can_use, eventually, wanted},
};

const NAME: &str = "lamps.home.example.com";
const PATIENCE: Duration = Duration::from_secs(30);

const LAMPS: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.home.example.com}
spec:
  group: home.example.com
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, shortNames: [la], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.bulbs, statusReplicasPath: .status.bulbs}
    additionalPrinterColumns:
    - {name: Colour, type: string, jsonPath: .spec.colour}
    - {name: Bulbs, type: integer, jsonPath: .spec.bulbs}
    - {name: Lit, type: string, jsonPath: '.status.conditions[?(@.type==\"On\")].status', priority: 1}
    selectableFields: [{jsonPath: .spec.colour}]
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            description: What the lamp is like.
            required: [colour]
            properties:
              colour: {type: string, enum: [red, green]}
              bulbs: {type: integer, minimum: 1, default: 2}
              rooms:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, size: {type: integer}}
            x-kubernetes-validations:
            - {rule: 'self.bulbs <= 5', message: no lamp has more than 5 bulbs}
            - {rule: 'self.colour == oldSelf.colour', message: colours stay}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
  - name: v1alpha1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

fn lamp(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: home.example.com/v1\nkind: Lamp\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn with_lamps() -> Cluster {
    let cluster = Cluster::start_with(&["--store=memory"]);
    cluster.apply(LAMPS);
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    cluster
}

#[test]
fn objects_follow_their_schema() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = with_lamps();
    cluster.apply(&lamp("desk", "{colour: red}"));
    assert_eq!(cluster.json("get lamp desk")["spec"]["bulbs"], 2, "the default");
    for (spec, expected) in [
        (
            "{colour: blue}",
            "spec.colour: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        ("{}", "spec.colour: Required value"),
        (
            "{colour: red, bulbs: 0}",
            "spec.bulbs: Invalid value: 0: spec.bulbs in body should be greater than or equal to 1",
        ),
        (
            "{colour: red, bulbs: many}",
            "spec.bulbs: Invalid value: \"string\": spec.bulbs in body must be of type integer: \"string\"",
        ),
        ("{colour: red, bulbs: 9}", "no lamp has more than 5 bulbs"),
        (
            "{colour: red, rooms: [{name: a}, {name: a}]}",
            "spec.rooms[1]: Duplicate value: {\"name\":\"a\"}",
        ),
        ("{colour: red, shade: wide}", "unknown field \"spec.shade\""),
    ] {
        let told = cluster.try_apply(&lamp("other", spec)).failed();
        assert!(told.contains(expected), "{spec}: {told}");
    }
    let told = cluster.try_apply(&lamp("desk", "{colour: green}")).failed();
    assert!(told.contains("colours stay"), "{told}");
    let unknown = cluster.try_kubectl("get lamps --field-selector spec.bulbs=2").failed();
    assert!(unknown.contains("field label not supported: spec.bulbs"), "{unknown}");
    let red = cluster.json("get lamps --field-selector spec.colour=red");
    assert_eq!(items(&red).count(), 1);
}

#[test]
fn clients_find_and_show_them() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = with_lamps();
    cluster.apply(&lamp("desk", "{colour: red}"));
    let status = r#"{"status":{"bulbs":1,"conditions":[{"type":"On","status":"True"}]}}"#;
    let patch = ["patch", "lamp", "desk", "--subresource=status", "--type=merge", "-p", status];
    crate::tools::run(cluster.kubectl_command(&patch)).succeeded();
    let table = cluster.kubectl("get la -o wide");
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [["NAME", "COLOUR", "BULBS", "LIT"], ["desk", "red", "2", "True"]],
        "{table}"
    );
    assert!(cluster.kubectl("get all").contains("lamp.home.example.com/desk"));
    let explained = cluster.kubectl("explain lamp.spec");
    assert!(
        explained.contains("What the lamp is like.") && explained.contains("bulbs"),
        "{explained}"
    );
    cluster.kubectl("scale lamp desk --replicas=3");
    let lamp = cluster.json("get lamp desk");
    assert_eq!((&lamp["spec"]["bulbs"], &lamp["metadata"]["generation"]), (&3.into(), &2.into()));
    let scale = cluster.json("get lamp desk --subresource=scale");
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&3.into(), &1.into()));
    let old =
        crate::tools::run(cluster.kubectl_command(&["get", "lamps.v1alpha1.home.example.com"]));
    assert!(old.stderr.contains("home.example.com/v1alpha1 Lamp is deprecated"), "{}", old.stderr);
    let other = cluster.json("get lamps.v1alpha1.home.example.com desk");
    assert_eq!(other["apiVersion"], "home.example.com/v1alpha1");
}

#[test]
fn two_appliers_share_a_list() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = with_lamps();
    let apply = |manager: &str, spec: &str| {
        let place =
            std::env::temp_dir().join(format!("lamp-{}-{manager}.yaml", std::process::id()));
        std::fs::write(&place, lamp("desk", spec)).expect("written");
        let file = place.to_str().expect("text");
        let arguments = ["apply", "--server-side", "--field-manager", manager, "-f", file];
        let ran = crate::tools::run(cluster.kubectl_command(&arguments));
        std::fs::remove_file(&place).expect("removed");
        ran
    };
    apply("one", "{colour: red, rooms: [{name: kitchen, size: 1}]}").succeeded();
    apply("two", "{colour: red, rooms: [{name: hall, size: 2}]}").succeeded();
    let rooms = cluster.kubectl("get lamp desk -o jsonpath={.spec.rooms[*].name}");
    assert_eq!(rooms, "kitchen hall");
    let conflict = apply("two", "{colour: red, rooms: [{name: kitchen, size: 9}]}").failed();
    assert!(
        conflict.contains("conflict with \"one\": .spec.rooms[name=\"kitchen\"].size"),
        "{conflict}"
    );
    apply("one", "{colour: red}").succeeded();
    assert_eq!(cluster.kubectl("get lamp desk -o jsonpath={.spec.rooms[*].name}"), "hall");
}

#[test]
fn a_definition_goes_with_its_objects() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply(LAMPS);
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    cluster.apply(&lamp("desk", "{colour: red}"));
    cluster.stop();
    cluster.start_again();
    assert_eq!(cluster.json("get lamp desk")["spec"]["colour"], "red", "after a restart");
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    let patch = ["patch", "lamp", "desk", "--type=merge", "-p", hold];
    crate::tools::run(cluster.kubectl_command(&patch)).succeeded();
    cluster.kubectl("delete crd lamps.home.example.com --wait=false");
    let refused = cluster.try_apply(&lamp("other", "{colour: red}")).failed();
    assert!(
        refused.contains("create not allowed while custom resource definition is terminating"),
        "{refused}"
    );
    let release =
        ["patch", "lamp", "desk", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#];
    crate::tools::run(cluster.kubectl_command(&release)).succeeded();
    cluster.kubectl("wait --for=delete crd/lamps.home.example.com --timeout=20s");
    let gone = cluster.try_kubectl("get --raw /apis/home.example.com/v1/lamps").failed();
    assert!(gone.contains("NotFound") || gone.contains("could not find"), "{gone}");
    // The same name anew has none of the old objects.
    cluster.apply(LAMPS);
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    assert_eq!(items(&cluster.json("get lamps")).count(), 0);
}

#[test]
fn definitions_are_checked() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    for (from, to, expected) in [
        (
            "name: lamps.home.example.com",
            "name: x.home.example.com",
            "metadata.name: Invalid value: \"x.home.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        ("scope: Namespaced", "scope: World", "spec.scope: Unsupported value: \"World\""),
        (
            "storage: true",
            "storage: false",
            "must have exactly one version marked as storage version",
        ),
        ("self.bulbs <= 5", "self.legs <= 5", "undefined field 'legs'"),
        ("self.bulbs <= 5", "self.bulbs", "must evaluate to a bool"),
        ("type: integer, minimum", "type: whole, minimum", "Unsupported value: \"whole\""),
        (
            "jsonPath: .spec.bulbs}",
            "jsonPath: spec.bulbs}",
            "must be a simple json path starting with .",
        ),
        (
            "selectableFields: [{jsonPath: .spec.colour}]",
            "selectableFields: [{jsonPath: .spec.rooms}]",
            "must point to a field of type string, boolean or integer",
        ),
    ] {
        let told = cluster.try_apply(&LAMPS.replace(from, to)).failed();
        assert!(told.contains(expected), "{to}: {told}");
    }
    cluster.apply(LAMPS);
    let rival = LAMPS.replace("lamps", "lanterns").replace("singular: lamp,", "singular: lantern,");
    cluster.apply(&rival);
    let conditions = "get crd lanterns.home.example.com -o jsonpath={.status.conditions[*].reason}";
    eventually("the names are in use", || {
        let reasons = cluster.kubectl(conditions);
        wanted(reasons == "ListKindConflict NotAccepted", reasons)
    });
}

#[test]
fn webhooks_do_not_convert_yet() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let webhook = "spec:\n  conversion:\n    strategy: Webhook\n    webhook:\n      conversionReviewVersions: [v1]\n      \
                   clientConfig: {url: 'https://127.0.0.1:1/convert'}\n";
    cluster.apply(&LAMPS.replace("spec:\n  group", &format!("{webhook}  group")));
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    cluster.apply(&lamp("desk", "{colour: red}"));
    let refused = cluster.try_kubectl("get lamps.v1alpha1.home.example.com desk").failed();
    assert!(refused.contains("Snowglobe calls no webhooks yet"), "{refused}");
}

/// Definitions come and go while others write and watch their objects: whoever comes at a bad moment is told so, and
/// nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_come_and_go_under_others() {
    const ROUNDS: usize = 12;
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let client = cluster.client().await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("home.example.com", "v1", "Lamp"));
    let lamps: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let definition: CustomResourceDefinition =
        serde_yaml::from_str(LAMPS).expect("a definition in YAML");
    let mut others = JoinSet::new();
    for writer in 0..3 {
        let lamps = lamps.clone();
        others.spawn(async move {
            for number in 0.. {
                let document = json!({"apiVersion": "home.example.com/v1", "kind": "Lamp",
                    "metadata": {"name": format!("lamp-{writer}-{number}")}, "spec": {"colour": "red"}});
                let lamp: DynamicObject = serde_json::from_value(document).expect("an object");
                match lamps.create(&PostParams::default(), &lamp).await {
                    // 405: it is being deleted.
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if [404, 405].contains(&status.code) => {}
                    Err(error) => panic!("writing a lamp: {error}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..3 {
        let lamps = lamps.clone();
        others.spawn(async move {
            loop {
                match lamps.watch(&WatchParams::default(), "0").await {
                    // It ends with the kind.
                    Ok(events) => events.for_each(|_| async {}).await,
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => panic!("watching lamps: {error}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let churn = async {
        for round in 0..ROUNDS {
            definitions.create(&PostParams::default(), &definition).await.expect("defined");
            while !is_established(&definitions).await {}
            let name = format!("round-{round}");
            let map = json!({"metadata": {"name": name}});
            let map: ConfigMap = serde_json::from_value(map).expect("typed");
            maps.create(&PostParams::default(), &map).await.expect("others go on");
            while lamps.list(&ListParams::default()).await.expect("listed").items.is_empty() {}
            definitions.delete(NAME, &DeleteParams::default()).await.expect("deleted");
            while definitions.get_opt(NAME).await.expect("read").is_some() {}
        }
    };
    tokio::select! {
        done = timeout(PATIENCE, churn) => done.expect("in time"),
        failed = others.join_next() => failed.expect("there are others").expect("nothing else fails"),
    }
    others.shutdown().await;
    let gone = lamps.list(&ListParams::default()).await.expect_err("the kind is gone");
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 404));
    cluster.apply(LAMPS);
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    assert_eq!(items(&cluster.json("get lamps")).count(), 0, "nothing is left of earlier rounds");
}

async fn is_established(definitions: &Api<CustomResourceDefinition>) -> bool {
    let definition = definitions.get(NAME).await.expect("there");
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Definitions made to hurt are refused with the reason, or do no harm.
#[test]
fn hostile_definitions_do_no_harm() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let bulbs = "{type: integer, minimum: 1, default: 2}";
    let nested = |depth: usize| {
        let open = "{type: object, properties: {a: ".repeat(depth);
        format!("{open}{{type: string}}{}", "}}".repeat(depth))
    };
    let rooms = "self.rooms.all(a, self.rooms.all(b, self.rooms.all(c, a.name != b.name || b.name != c.name)))";
    for (from, to, expected) in [
        (
            "self.bulbs <= 5",
            rooms,
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
        ("self.bulbs <= 5", &"(".repeat(5_000), "compilation failed"),
        ("{type: string, enum: [red, green]}", "{type: string, pattern: '('}", "pattern"),
        (bulbs, &nested(2_000), "recursion limit exceeded"),
    ] {
        let told = cluster.try_apply(&LAMPS.replace(from, to)).failed();
        assert!(told.contains(expected), "{to:.80}: {told:.500}");
    }
    // Exponential for engines that try and go back; here the time is linear in the text.
    let slow = "{type: string, pattern: '^(a+)+$'}";
    cluster.apply(&LAMPS.replace("{type: string, enum: [red, green]}", slow));
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    let text = format!("{}b", "a".repeat(50_000));
    let told = cluster.try_apply(&lamp("desk", &format!("{{colour: {text}}}"))).failed();
    assert!(told.contains("should match '^(a+)+$'"), "{told:.300}");
}

/// What was stored before is shown as the definition wants it now, in each version, and nothing is written for that.
#[test]
fn a_changed_definition_shows_in_old_objects() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply(LAMPS);
    cluster.kubectl("wait --for=condition=Established crd/lamps.home.example.com --timeout=20s");
    cluster.apply(&lamp("desk", "{colour: red, bulbs: 3}"));
    let revision = cluster.kubectl("get lamp desk -o jsonpath={.metadata.resourceVersion}");
    let service = |version: &str| format!("get apiservice {version}.home.example.com");
    eventually("its versions have APIServices", || {
        let ran = cluster.try_kubectl(&service("v1"));
        wanted(ran.code == Some(0), ran.stdout)
    });

    let with_shade = LAMPS.replace(
        "bulbs: {type: integer, minimum: 1, default: 2}",
        "bulbs: {type: integer, minimum: 1, default: 2}\n              shade: {type: string, default: plain}",
    );
    let as_wanted = |lamp: &serde_json::Value| {
        wanted(lamp["spec"] == json!({"colour": "red", "bulbs": 3, "shade": "plain"}), lamp)
    };
    cluster.apply(&with_shade);
    eventually("the new default", || as_wanted(&cluster.json("get lamp desk")));
    assert_eq!(
        cluster.kubectl("get lamp desk -o jsonpath={.metadata.resourceVersion}"),
        revision,
        "nothing was written"
    );

    // The next version is another place for the same fields, and is stored from now on.
    let versions = with_shade.replace("    storage: true\n", "    storage: false\n");
    let v2 = "  - name: v2\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        \
              properties:\n          spec: {type: object, properties: {colour: {type: string}, watts: {type: integer, default: 5}}}\n";
    cluster.apply(&versions.replace("  - name: v1alpha1\n", &format!("{v2}  - name: v1alpha1\n")));
    let newest = "get lamps.v2.home.example.com desk";
    let check = |cluster: &Cluster| {
        eventually("the new version", || {
            let ran = cluster.try_kubectl(&format!("{newest} -o jsonpath={{.apiVersion}}"));
            wanted(ran.stdout == "home.example.com/v2", ran.stdout)
        });
        assert_eq!(cluster.json(newest)["spec"], json!({"colour": "red", "watts": 5}));
        assert_eq!(cluster.json("get lamps.v2.home.example.com")["items"][0]["kind"], "Lamp");
        let before = cluster.json("get lamps.v1.home.example.com desk");
        assert_eq!(before["apiVersion"], "home.example.com/v1");
    };
    check(&cluster);
    cluster.kubectl(&service("v2"));
    assert_eq!(
        cluster.json("get crd lamps.home.example.com")["status"]["storedVersions"],
        json!(["v1", "v2"])
    );
    cluster.stop();
    cluster.start_again();
    check(&cluster);
    cluster.kubectl("delete crd lamps.home.example.com");
    for version in ["v1", "v2"] {
        cluster.kubectl(&format!(
            "wait --for=delete apiservice/{version}.home.example.com --timeout=20s"
        ));
    }
}
