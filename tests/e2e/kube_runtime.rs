//! What operators are made of: the watcher, reflector and controller of the crate `kube`.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use serde_json::json;
use tokio::time::timeout;

use crate::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(30);

async fn create(maps: &Api<ConfigMap>, name: &str) {
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("typed");
    maps.create(&PostParams::default(), &map).await.expect("created");
}

fn names(store: &Store<ConfigMap>) -> BTreeSet<String> {
    store.state().iter().map(|map| map.name_any()).filter(|name| name.starts_with("map-")).collect()
}

/// With a list first, and with the list as a part of the watch.
#[tokio::test]
async fn a_reflector_holds_what_there_is() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    for (round, config) in
        [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()]
            .into_iter()
            .enumerate()
    {
        let name = |nth: usize| format!("map-{round}-{nth}");
        for nth in 0..3 {
            create(&maps, &name(nth)).await;
        }
        let (store, writer) = reflector::store();
        let mut changes = pin!(reflector::reflector(writer, watcher(maps.clone(), config)));
        let created = async {
            while names(&store).len() < 3 {
                changes.try_next().await.expect("no error").expect("it goes on");
            }
            create(&maps, &name(3)).await;
            maps.delete(&name(0), &DeleteParams::default()).await.expect("deleted");
            create(&maps, &name(4)).await;
            while !names(&store).contains(&name(4)) {
                changes.try_next().await.expect("no error").expect("it goes on");
            }
        };
        timeout(PATIENCE, created).await.expect("in time");
        let expected: BTreeSet<String> = [1, 2, 3, 4].map(name).into();
        assert_eq!(names(&store), expected);
        for name in expected {
            maps.delete(&name, &DeleteParams::default()).await.expect("deleted");
        }
    }
}

/// It gives each Service a ConfigMap of its own, which goes with it.
#[tokio::test]
async fn a_controller_reconciles() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let client = cluster.client().await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let reconcile = |service: Arc<Service>, client: Arc<Client>| async move {
        let owner = json!({"apiVersion": "v1", "kind": "Service", "name": service.name_any(),
            "uid": service.uid().expect("it is stored"), "controller": true});
        let port = service.spec.as_ref().and_then(|spec| Some(spec.ports.as_ref()?.first()?.port));
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": service.name_any(), "ownerReferences": [owner]},
            "data": {"port": port.unwrap_or_default().to_string()}});
        let maps: Api<ConfigMap> = Api::default_namespaced((*client).clone());
        let applying = PatchParams::apply("controller").force();
        maps.patch(&service.name_any(), &applying, &Patch::Apply(&map)).await?;
        Ok::<_, kube::Error>(Action::await_change())
    };
    let controller = Controller::new(services.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, error, _| panic!("{error}"), Arc::new(client))
        .for_each(|_| async {});
    let test = async {
        let service = json!({"metadata": {"name": "shop"}, "spec": {"ports": [{"port": 8000}]}});
        let service: Service = serde_json::from_value(service).expect("typed");
        services.create(&PostParams::default(), &service).await.expect("created");
        until(&maps, "shop", |map| map.is_some_and(|map| has_port(map, "8000"))).await;
        // What it owns comes back.
        maps.delete("shop", &DeleteParams::default()).await.expect("deleted");
        until(&maps, "shop", |map| map.is_some_and(|map| has_port(map, "8000"))).await;
        let change = json!({"spec": {"ports": [{"port": 9000}]}});
        services
            .patch("shop", &PatchParams::default(), &Patch::Merge(&change))
            .await
            .expect("patched");
        until(&maps, "shop", |map| map.is_some_and(|map| has_port(map, "9000"))).await;
        services.delete("shop", &DeleteParams::default()).await.expect("deleted");
        until(&maps, "shop", |map| map.is_none()).await;
    };
    tokio::select! {
        () = controller => panic!("the controller ended"),
        done = timeout(PATIENCE, test) => done.expect("in time"),
    }
}

fn has_port(map: &ConfigMap, port: &str) -> bool {
    map.data.as_ref().and_then(|data| data.get("port")).is_some_and(|found| found == port)
}

/// Watches one ConfigMap until it is as wanted.
async fn until(maps: &Api<ConfigMap>, name: &str, wanted: impl Fn(Option<&ConfigMap>) -> bool) {
    let mut states = pin!(watcher::watch_object(maps.clone(), name));
    loop {
        let state = states.try_next().await.expect("no error").expect("it goes on");
        if wanted(state.as_ref()) {
            return;
        }
    }
}
