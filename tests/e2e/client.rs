//! The `kube` crate as a client: typed objects, watches, conflicts.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn objects_are_typed_and_versions_are_checked() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"k": "1"}}))
            .expect("typed");
    let created = maps.create(&PostParams::default(), &map).await.expect("created");
    let exists = maps.create(&PostParams::default(), &map).await.expect_err("it exists");
    assert!(
        matches!(exists, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
    );
    let mut first = created.clone();
    first.data.get_or_insert_default().insert("k".to_owned(), "2".to_owned());
    let replaced = maps.replace("a", &PostParams::default(), &first).await.expect("replaced");
    assert_ne!(replaced.metadata.resource_version, created.metadata.resource_version);
    let stale = maps.replace("a", &PostParams::default(), &created).await.expect_err("it is stale");
    assert!(
        matches!(stale, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
    );
    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"other": "3"}});
    let patched = maps
        .patch("a", &PatchParams::apply("tests"), &Patch::Apply(&patch))
        .await
        .expect("applied");
    assert_eq!(patched.data.expect("data").len(), 2);
    for i in 0..7 {
        let name = format!("page-{i}");
        let map = json!({"metadata": {"name": name, "labels": {"page": "yes"}}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        maps.create(&PostParams::default(), &map).await.expect("created");
    }
    let mut seen = 0;
    let mut page = ListParams::default().labels("page=yes").limit(3);
    loop {
        let list = maps.list(&page).await.expect("a page");
        seen += list.items.len();
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(seen, 7, "all pages together");
    maps.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert!(maps.get_opt("a").await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_watch_tells_everything_once_and_in_order() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let start = maps.list(&ListParams::default()).await.expect("a list").metadata.resource_version;
    let start = start.expect("a version");
    let watch = WatchParams::default().labels("watched=yes").timeout(60);
    let mut events = maps.watch(&watch, &start).await.expect("a watch").boxed();
    for i in 0..3 {
        let map = json!({"metadata": {"name": format!("map-{i}"), "labels": {"watched": "yes"}}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        maps.create(&PostParams::default(), &map).await.expect("created");
        let unlabelled = json!({"metadata": {"name": format!("other-{i}")}});
        let unlabelled: ConfigMap = serde_json::from_value(unlabelled).expect("typed");
        maps.create(&PostParams::default(), &unlabelled).await.expect("created");
    }
    let change = json!({"data": {"a": "b"}});
    maps.patch("map-1", &PatchParams::default(), &Patch::Merge(&change)).await.expect("patched");
    // An object that the selector no longer selects is gone for this watch.
    let unlabel = json!({"metadata": {"labels": {"watched": null}}});
    maps.patch("map-2", &PatchParams::default(), &Patch::Merge(&unlabel)).await.expect("patched");
    maps.delete("map-0", &DeleteParams::default()).await.expect("deleted");
    let mut seen = Vec::new();
    let mut last = 0;
    while seen.len() < 6 {
        let event = events.try_next().await.expect("a stream").expect("it goes on");
        let (word, map) = match event {
            WatchEvent::Added(map) => ("added", map),
            WatchEvent::Modified(map) => ("modified", map),
            WatchEvent::Deleted(map) => ("deleted", map),
            other => panic!("{other:?}"),
        };
        let revision: u64 =
            map.metadata.resource_version.expect("a version").parse().expect("a number");
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        seen.push(format!("{word} {}", map.metadata.name.expect("a name")));
    }
    assert_eq!(
        seen,
        [
            "added map-0",
            "added map-1",
            "added map-2",
            "modified map-1",
            "deleted map-2",
            "deleted map-0"
        ]
    );
}

#[tokio::test]
async fn a_watch_from_long_ago_resumes_or_is_told_to_list() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("typed");
    let created = maps.create(&PostParams::default(), &map).await.expect("created");
    maps.delete("a", &DeleteParams::default()).await.expect("deleted");
    let version = created.metadata.resource_version.expect("a version");
    let watch = WatchParams::default().timeout(60);
    let mut events = maps.watch(&watch, &version).await.expect("a watch").boxed();
    let event = events.try_next().await.expect("a stream").expect("an event");
    assert!(matches!(event, WatchEvent::Deleted(map) if map.metadata.name.as_deref() == Some("a")));
    let mut events = maps.watch(&watch, "99999999").await.expect("a watch").boxed();
    let event = events.try_next().await.expect("a stream");
    assert!(matches!(event, Some(WatchEvent::Error(_))), "a version of the future: {event:?}");
}

#[tokio::test]
async fn a_service_and_a_pod_by_types() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let client = cluster.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web", "ports": [{"containerPort": 8080}]}]}});
    let pod: Pod = serde_json::from_value(pod).expect("typed");
    let pod = pods.create(&PostParams::default(), &pod).await.expect("created");
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"), "defaults are filled in");
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    let services: Api<Service> = Api::default_namespaced(client);
    let service = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8000, "targetPort": 8080}]}});
    let service: Service = serde_json::from_value(service).expect("typed");
    let service = services.create(&PostParams::default(), &service).await.expect("created");
    let spec = service.spec.expect("a spec");
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(spec.cluster_ips, spec.cluster_ip.map(|ip| vec![ip]));
    let watch = WatchParams::default().fields("metadata.name=web").timeout(60);
    let mut events = pods.watch(&watch, "0").await.expect("a watch").boxed();
    loop {
        let event = events.try_next().await.expect("a stream").expect("it goes on");
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            break;
        }
    }
}
