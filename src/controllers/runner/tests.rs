use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    controllers::{Trigger, WORKERS, itself, testing::options},
    registry::Propagation,
};

/// A registry in memory with running controllers.
struct Running {
    registry: Arc<Registry>,
    token: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn start(controllers: Vec<&'static Controller>) -> Self {
        let (registry, token) = (Registry::for_tests().await, CancellationToken::new());
        let mut tasks = JoinSet::new();
        let (follower, stop) = (registry.clone(), token.clone());
        tasks.spawn(async move { follower.run(stop).await.unwrap() });
        let options = options();
        tasks.spawn(run(registry.clone(), controllers, options, token.clone()));
        let running = Self { registry, token, tasks };
        running
            .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
            .await;
        running
    }

    async fn create(&self, document: Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = kind::built_in(&text(&document["apiVersion"]), &text(&document["kind"]));
        let kind = kind.unwrap();
        let namespace = if kind.namespaced { "shop" } else { "" };
        self.registry.create(kind, namespace, document, &WriteOptions::default()).await.unwrap();
    }

    /// Waits until the cluster is as it should be.
    async fn eventually(&self, what: &str, holds: impl Fn(&View) -> bool) {
        let mut revisions = self.registry.revisions();
        let reached = async {
            loop {
                revisions.mark_unchanged();
                if holds(&self.registry.view()) {
                    return;
                }
                revisions.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        if reached.is_err() {
            let view = self.registry.view();
            let pods = view.list(&kind::POD, None).count();
            let sets =
                view.list(&kind::DEPLOYMENT, None).chain(view.list(&kind::REPLICA_SET, None));
            let states: Vec<_> =
                sets.map(|set| parsed(&view, &set.key)["status"].clone()).collect();
            panic!("{what} in vain; {pods} pods, {states:#?}");
        }
    }

    async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// What a node does, for tests: bound pods turn ready, terminating ones go.
static NODE: Controller = Controller {
    name: "node",
    workers: WORKERS,
    triggers: &[Trigger { kind: Some(&kind::POD), keys: itself }],
    plan: |world, key| {
        let Some(object) = world.view.get(key) else { return Plan::nothing() };
        let mut pod: Value = object.parse().unwrap();
        if object.is_terminating() {
            return match pod["metadata"]["deletionGracePeriodSeconds"].as_i64() {
                Some(seconds) if seconds > 0 => vec![Step::delete(object)].into(),
                _ => Plan::nothing(),
            };
        }
        if pod["spec"]["nodeName"].is_null() || pod["status"]["phase"] == "Running" {
            return Plan::nothing();
        }
        let n = object.revision;
        let address = format!("127.244.{}.{}", n / 250 % 250, n % 250 + 1);
        let stamp = "2026-01-01T00:00:00Z";
        let conditions = ["PodScheduled", "Ready"]
            .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": stamp}));
        pod["status"]["phase"] = "Running".into();
        pod["status"]["podIPs"] = json!([{"ip": address}]);
        pod["status"]["podIP"] = address.into();
        pod["status"]["conditions"] = json!(conditions);
        vec![Step::UpdateStatus(key.clone(), pod)].into()
    },
};

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name,
           "labels": {"topology.kubernetes.io/zone": "a"}}, "status": {"allocatable": {"pods": "110"}}})
}

fn deployment(replicas: usize) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "a", "image": "echo"}]}}}})
}

fn parsed(view: &View, key: &ObjectKey) -> Value {
    view.get(key).map_or(Value::Null, |object| object.parse().unwrap())
}

fn endpoints(view: &View) -> usize {
    let slices = view.list(&kind::ENDPOINT_SLICE, Some("shop"));
    let count = |slice: &Arc<Object>| {
        let slice: Value = slice.parse().unwrap();
        slice["endpoints"].as_array().map_or(0, Vec::len)
    };
    slices.map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_deployment_to_endpoints_and_back() {
    let mut controllers = crate::controllers::all();
    controllers.push(&NODE);
    let running = Running::start(controllers).await;
    running.create(node("n1")).await;
    running.create(node("n2")).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    running.create(service).await;
    running.create(deployment(150)).await;
    let key = ObjectKey::new(&kind::DEPLOYMENT, "shop", "web");
    let complete = |view: &View| {
        let deployment = parsed(view, &key);
        let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
        deployment["status"]["availableReplicas"] == 150
            && conditions.iter().any(|c| c["reason"] == "NewReplicaSetAvailable")
            && deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    };
    running.eventually("all pods are available", complete).await;
    running.eventually("and in slices", |view| endpoints(view) == 150).await;
    let old = ObjectKey::new(&kind::ENDPOINTS, "shop", "web");
    running
        .eventually("and in Endpoints", |view| {
            let subsets = parsed(view, &old)["subsets"].clone();
            subsets[0]["addresses"].as_array().is_some_and(|list| list.len() == 150)
        })
        .await;
    let service = ObjectKey::new(&kind::SERVICE, "shop", "web");
    running
        .eventually("the Service has an address", |view| {
            parsed(view, &service)["status"]["loadBalancer"]["ingress"][0]["ip"] == "127.100.0.1"
        })
        .await;
    let options =
        DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    running.registry.delete(&key, &options).await.unwrap();
    running
        .eventually("everything goes with it", |view| {
            let gone = |kind| view.list(kind, None).next().is_none();
            gone(&kind::POD)
                && gone(&kind::REPLICA_SET)
                && gone(&kind::DEPLOYMENT)
                && endpoints(view) == 0
        })
        .await;
    let namespace = ObjectKey::cluster(&kind::NAMESPACE, "shop");
    running.registry.delete(&namespace, &DeleteOptions::default()).await.unwrap();
    running.eventually("the namespace goes", |view| view.get(&namespace).is_none()).await;
    assert!(running.registry.view().list(&kind::SERVICE, None).next().is_none());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_balancer_addresses_are_never_given_twice() {
    let running = Running::start(crate::controllers::all()).await;
    let create = |n: usize| {
        running.create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}),
        )
    };
    join_all((0..40).map(create)).await;
    let addresses = |view: &View| -> BTreeSet<String> {
        let services = view.list(&kind::SERVICE, None).map(|s| s.parse::<Value>().unwrap());
        let ips = services.filter_map(|s| {
            Some(s["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
        });
        ips.collect()
    };
    running.eventually("all have one", |view| addresses(view).len() == 40).await;
    running.stop().await;
}

#[tokio::test]
async fn a_panic_stays_in_its_key() {
    static FRAGILE: Controller = Controller {
        name: "fragile",
        workers: WORKERS,
        triggers: &[Trigger { kind: Some(&kind::CONFIG_MAP), keys: itself }],
        plan: |world, key| {
            assert_ne!(key.name, "bad", "as told");
            let mut document = parsed(world.view, key);
            document["data"] = json!({"seen": "yes"});
            vec![Step::Update(key.clone(), document)].into()
        },
    };
    let running = Running::start(vec![&FRAGILE]).await;
    for name in ["bad", "good"] {
        running
            .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}))
            .await;
    }
    let good = ObjectKey::new(&kind::CONFIG_MAP, "shop", "good");
    running
        .eventually("good is planned", |view| parsed(view, &good)["data"]["seen"] == "yes")
        .await;
    running
        .eventually("the object tells of it", |view| {
            let events = view.list(&kind::EVENT, None).map(|event| parsed(view, &event.key));
            let about = |event: &Value| event["involvedObject"]["name"].clone();
            let mut told = events.filter(|event| event["reason"] == "InternalError");
            told.next().is_some_and(|event| about(&event) == "bad" && event["type"] == "Warning")
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_pod_that_cannot_be_made_is_told() {
    static REFUSED: Controller = Controller {
        name: "refused",
        workers: WORKERS,
        triggers: &[Trigger { kind: Some(&kind::CONFIG_MAP), keys: itself }],
        plan: |_, _| {
            let pod =
                json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": []}});
            vec![Step::Create(kind::POD.clone(), pod)].into()
        },
    };
    let running = Running::start(vec![&REFUSED]).await;
    running
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}))
        .await;
    running
        .eventually("an Event counts the failures", |view| {
            view.list(&kind::EVENT, None).any(|event| {
                let event: Value = event.parse().unwrap();
                event["reason"] == "FailedCreate"
                    && event["type"] == "Warning"
                    && event["count"].as_i64() > Some(2)
            })
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_worker_that_ends_early_ends_the_controllers() {
    static BROKEN: Controller =
        Controller { name: "broken", workers: 1, triggers: &[], plan: |_, _| Plan::nothing() };
    let registry = Registry::for_tests().await;
    let runner = Runner::new(registry, vec![&BROKEN], options());
    let mut workers = JoinSet::new();
    workers.spawn(async { panic!("outside of any plan") });
    let token = CancellationToken::new();
    let running = runner.run(workers, &token);
    let ended = AssertUnwindSafe(running).catch_unwind().await.unwrap_err();
    assert_eq!(ended.downcast_ref(), Some(&"outside of any plan"));
}
