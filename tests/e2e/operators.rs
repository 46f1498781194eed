//! Whole operators as people write them, one with kopf and one with kube-rs: a kind of their own, a finalizer, status,
//! Events, Deployments and Services that belong to its objects, and one leader.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ConfigMap, Service},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer::{self, finalizer},
        watcher,
    },
};
use rustix::process::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    cluster::{Cluster, Process},
    tools::{Tool, can_use, eventually, wanted},
};

/// What a shop is served by, from its creation to its end, with a second operator that stands by. `start` runs an
/// operator of this name, `stop` ends one.
fn shops_are_served<T>(cluster: &Cluster, start: impl Fn(&'static str) -> T, stop: impl Fn(T)) {
    let open = |name: &str, clerks: u32| {
        cluster.apply(&format!(
            "apiVersion: example.com/v1\nkind: Shop\nmetadata: {{name: {name}}}\nspec: {{clerks: {clerks}}}\n"
        ));
    };
    let opened_by = |name: &str, operator: &str| {
        eventually(&format!("{operator} has opened {name}"), || {
            let shop = cluster.json(&format!("get shop {name}"));
            let status = &shop["status"];
            wanted(status["phase"] == "Open" && status["by"] == operator, &shop)
        });
        cluster.endpoints_ready(name, 2);
    };
    let first = start("first");
    open("corner", 2);
    opened_by("corner", "first");
    assert_eq!(cluster.event("default", "corner", "Opened"), "corner is open");
    let second = start("second");
    cluster.kubectl("patch shop corner --type=merge -p {\"spec\":{\"clerks\":3}}");
    cluster.endpoints_ready("corner", 3);
    stop(first);
    open("market", 2);
    opened_by("market", "second");

    cluster.kubectl("delete shop corner --timeout=30s");
    cluster.kubectl("get configmap corner-is-closed");
    for what in ["deployment", "service"] {
        cluster.kubectl(&format!("wait --for=delete {what}/corner --timeout=20s"));
    }
    cluster.kubectl("get deployment,service market");
    stop(second);
}

#[test]
fn one_with_kopf() {
    if !can_use(&[Tool::Kubectl, Tool::PythonClient]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/clients/operator/shops.yaml");
    cluster.kubectl("wait --for=condition=Established crd --all --timeout=20s");
    cluster.apply("apiVersion: kopf.dev/v1\nkind: KopfPeering\nmetadata: {name: shops}\n");
    let start = |name: &'static str| {
        let priority = if name == "first" { "--priority=2" } else { "--priority=1" };
        let line = [
            "-m",
            "kopf",
            "run",
            "--namespace=default",
            "--peering=shops",
            priority,
            "tests/clients/operator/shops.py",
        ];
        let mut command = cluster.client_command(Tool::PythonClient, &line);
        let process = Process::of(command.env("OPERATOR", name).spawn().expect("kopf runs"));
        eventually(&format!("{name} is a peer"), || {
            let peering = cluster.json("get kopfpeering shops");
            let peers = peering["status"].as_object().map_or(0, serde_json::Map::len);
            wanted(peers == if name == "first" { 1 } else { 2 }, &peering)
        });
        process
    };
    // It leaves its peers, so that these need not wait until it is taken for dead.
    shops_are_served(&cluster, start, |operator| {
        operator.end(Signal::TERM);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_kube_rs() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let client = cluster.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &Shop::crd()).await.expect("created");
    cluster.kubectl("wait --for=condition=Established crd/shops.example.com --timeout=20s");
    let start = |name: &'static str| {
        let mut running = JoinSet::new();
        running.spawn(Operator::new(name, client.clone()).run());
        if name == "first" {
            eventually("it leads", || {
                let leases = cluster.json("get leases");
                wanted(leases["items"][0]["spec"]["holderIdentity"] == name, &leases)
            });
        }
        running
    };
    // Dropped, it does not give its lease back: as if it had crashed.
    shops_are_served(&cluster, start, drop);
}

/// What is wanted of a shop.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, Serialize)]
#[kube(group = "example.com", version = "v1", kind = "Shop", namespaced, status = "ShopStatus")]
struct ShopSpec {
    /// Pods that serve.
    #[schemars(range(min = 0))]
    clerks: i32,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
struct ShopStatus {
    phase: String,
    by: String,
}

struct Operator {
    name: &'static str,
    client: Client,
    recorder: Recorder,
}

impl Operator {
    const LEASE: &'static str = "shops";
    const LEASE_SECONDS: i32 = 1;

    fn new(name: &'static str, client: Client) -> Self {
        let reporter = Reporter { controller: "shops".to_owned(), instance: Some(name.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { name, client, recorder }
    }

    /// Works as long as it leads.
    async fn run(self) {
        while !self.leads().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let operator = Arc::new(self);
        let controller = Controller::new(operator.api::<Shop>(), watcher::Config::default())
            .owns(operator.api::<Deployment>(), watcher::Config::default())
            .owns(operator.api::<Service>(), watcher::Config::default())
            .run(reconcile, |_, error, _| panic!("{error}"), operator.clone());
        tokio::select! {
            () = controller.for_each(|_| async {}) => panic!("the controller ended"),
            () = operator.keeps_leading() => panic!("another one leads"),
        }
    }

    async fn keeps_leading(&self) {
        while self.leads().await {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Takes the lease or renews it, unless another one holds it.
    async fn leads(&self) -> bool {
        let leases = self.api::<Lease>();
        let now = Timestamp::now();
        let found = leases.get_opt(Self::LEASE).await.expect("read");
        let is_new = found.is_none();
        let mut lease = found.unwrap_or_default();
        if let Some(LeaseSpec { holder_identity, renew_time: Some(renewed), .. }) = &lease.spec {
            let over = renewed.0 + i64::from(Self::LEASE_SECONDS).seconds();
            if holder_identity.as_deref() != Some(self.name) && now < over {
                return false;
            }
        }
        lease.metadata.name = Some(Self::LEASE.to_owned());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.to_owned()),
            lease_duration_seconds: Some(Self::LEASE_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        });
        let written = match is_new {
            true => leases.create(&PostParams::default(), &lease).await,
            false => leases.replace(Self::LEASE, &PostParams::default(), &lease).await,
        };
        match written {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 409 => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn open(&self, shop: &Shop) -> Result<Action, kube::Error> {
        let name = shop.name_any();
        let labels = json!({"shop": name});
        let deployment = json!({
            "spec": {
                "replicas": shop.spec.clerks,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [
                        {"name": "clerk", "image": "clerk", "ports": [{"containerPort": 8080}]}
                    ]},
                },
            },
        });
        let ports = json!([{"port": 80, "targetPort": 8080}]);
        self.own::<Deployment>(shop, deployment).await?;
        self.own::<Service>(shop, json!({"spec": {"selector": labels, "ports": ports}})).await?;
        if shop.status.is_none() {
            let status = json!({"status": {"phase": "Open", "by": self.name}});
            let shops = self.api::<Shop>();
            shops.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
            let event = Event {
                type_: EventType::Normal,
                reason: "Opened".to_owned(),
                note: Some(format!("{name} is open")),
                action: "Open".to_owned(),
                secondary: None,
            };
            self.recorder.publish(&event, &shop.object_ref(&())).await?;
        }
        Ok(Action::await_change())
    }

    async fn close(&self, shop: &Shop) -> Result<Action, kube::Error> {
        let name = format!("{}-is-closed", shop.name_any());
        self.apply::<ConfigMap>(&name, json!({})).await?;
        Ok(Action::await_change())
    }

    /// Applies an object of the shop's name that belongs to it.
    async fn own<K>(&self, shop: &Shop, mut document: Value) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let owner = shop.controller_owner_ref(&()).expect("it is stored");
        document["metadata"]["ownerReferences"] = json!([owner]);
        self.apply::<K>(&shop.name_any(), document).await
    }

    async fn apply<K>(&self, name: &str, mut document: Value) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        document["apiVersion"] = K::api_version(&()).into();
        document["kind"] = K::kind(&()).into();
        document["metadata"]["name"] = name.into();
        let applying = PatchParams::apply("shops").force();
        self.api::<K>().patch(name, &applying, &Patch::Apply(document)).await?;
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }
}

async fn reconcile(
    shop: Arc<Shop>,
    operator: Arc<Operator>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    finalizer(&operator.api::<Shop>(), "example.com/shops", shop, |event| async {
        match event {
            finalizer::Event::Apply(shop) => operator.open(&shop).await,
            finalizer::Event::Cleanup(shop) => operator.close(&shop).await,
        }
    })
    .await
}
