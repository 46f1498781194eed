//! CustomResourceDefinitions and their objects, by the verbs of kubectl and as an operator sees them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    cluster::{Cluster, items},
    tools::{Tool, can_use, eventually, wanted},
};

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

/// An operator in small: for each lamp it keeps a ConfigMap that the lamp owns, and says so in the lamp's status.
#[tokio::test]
async fn a_controller_works_with_them() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = with_lamps();
    let client = cluster.client().await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("home.example.com", "v1", "Lamp"));
    let lamps: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let context = Arc::new((lamps.clone(), maps.clone()));
    let reconcile = |lamp: Arc<DynamicObject>,
                     context: Arc<(Api<DynamicObject>, Api<ConfigMap>)>| async move {
        let (lamps, maps) = &*context;
        let name = lamp.name_any();
        let owner = json!({"apiVersion": "home.example.com/v1", "kind": "Lamp", "name": name,
            "uid": lamp.uid(), "controller": true});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "data": {"colour": lamp.data["spec"]["colour"]}});
        let apply = PatchParams::apply("lamp-operator").force();
        maps.patch(&name, &apply, &Patch::Apply(&map)).await?;
        let status = json!({"status": {"ready": true}});
        lamps.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok::<_, kube::Error>(Action::await_change())
    };
    let controller = Controller::new_with(lamps.clone(), watcher::Config::default(), kind)
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), context);
    let mut running = JoinSet::new();
    running.spawn(controller.for_each(|_| async {}));
    let desk = json!({"apiVersion": "home.example.com/v1", "kind": "Lamp", "metadata": {"name": "desk"},
        "spec": {"colour": "red"}});
    let desk: DynamicObject = serde_json::from_value(desk).expect("an object");
    lamps.create(&PostParams::default(), &desk).await.expect("created");
    let made = async {
        loop {
            let lamp = lamps.get("desk").await.expect("there");
            if lamp.data["status"]["ready"] == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, made).await.expect("the status is written");
    assert_eq!(maps.get("desk").await.expect("made").data.expect("data")["colour"], "red");
    running.shutdown().await;
    cluster.kubectl("delete lamp desk");
    eventually("its map goes with it", || {
        let ran = cluster.try_kubectl("get configmap desk");
        wanted(ran.code != Some(0), ran.stdout)
    });
}
