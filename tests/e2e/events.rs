//! Events do not grow for ever: each lives as long after it was last written as `--event-ttl` says.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::cluster::Cluster;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(5);

/// Events written by the test; the cluster writes others.
fn event(name: &str, more: &Value) -> Event {
    let mut event = json!({
        "metadata": {"name": name, "labels": {"of": "the-test"}},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
        "reason": "Tested", "message": "for a while", "type": "Normal",
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        event[field] = value.clone();
    }
    serde_json::from_value(event).expect("typed")
}

type Events = BoxStream<'static, kube::Result<WatchEvent<Event>>>;

/// Waits until the watch tells that an object is gone.
async fn next_deleted(events: &mut Events) -> String {
    let deleted = async {
        loop {
            match events.next().await.expect("the watch goes on").expect("an event") {
                WatchEvent::Deleted(event) => return event.name_any(),
                WatchEvent::Error(status) => panic!("{status:?}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, deleted).await.expect("an event expires")
}

#[tokio::test]
async fn events_expire_after_they_were_last_written() {
    let ttl = format!("--event-ttl={}s", TTL.as_secs());
    let cluster = Cluster::start_with(&["--store=memory", &ttl]);
    let events: Api<Event> = Api::default_namespaced(cluster.client().await);
    let mine = ListParams::default().labels("of=the-test");
    let start = events.list(&mine).await.expect("a list").metadata.resource_version;
    let watch = WatchParams::default().labels("of=the-test").timeout(120);
    let watch = events.watch(&watch, &start.expect("a revision")).await.expect("a watch");
    let mut watch: Events = watch.boxed();

    let begun = Instant::now();
    let series = json!({
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Test", "reportingComponent": "tests",
        "reportingInstance": "tests-0",
    });
    // Times of the past, and of the future, are the client's affair.
    for new in [
        event("alone", &json!({})),
        event("to-come", &json!({"lastTimestamp": "2099-01-01T00:00:00Z"})),
        event("again", &series),
    ] {
        events.create(&PostParams::default(), &new).await.expect("created");
    }
    // Seen again and again, until those that are not are gone.
    let (mut gone, mut count) = (Vec::new(), 1);
    while gone.len() < 2 {
        count += 1;
        let now = jiff::Timestamp::now();
        let seen = json!({"series": {"count": count, "lastObservedTime": format!("{now:.6}")}});
        let patched = events.patch("again", &PatchParams::default(), &Patch::Merge(&seen)).await;
        let series = patched.expect("it is still there").series.expect("a series");
        assert_eq!(series.count, Some(count));
        // Between two looks; far less than an event lives.
        if let Ok(name) = timeout(TTL / 20, next_deleted(&mut watch)).await {
            gone.push(name);
        }
        assert!(begun.elapsed() < PATIENCE, "only {gone:?} expired");
    }
    gone.sort();
    assert_eq!(gone, ["alone", "to-come"]);
    // Times have seconds; a part of one may be cut off.
    assert!(begun.elapsed() >= TTL - Duration::from_secs(1), "they lived as long as was said");
    let left = events.list(&mine).await.expect("a list");
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["again"]);
    assert_eq!(next_deleted(&mut watch).await, "again");
    assert_eq!(events.list(&mine).await.expect("a list").items.len(), 0);
}
