//! Events that were not seen for a while are deleted, as a real API server lets them expire.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, itself},
    model::{ObjectKey, kind},
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "event-ttl-controller",
    workers: WORKERS,
    triggers: &[Trigger { kind: &kind::EVENT, keys: itself }],
    plan,
};

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|object| !object.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(event) = world.view.parse::<Event>(key) else { return Plan::nothing() };
    let seen = last_seen(&event).unwrap_or(world.now);
    let age = Duration::try_from(world.now.duration_since(seen)).unwrap_or_default();
    let ttl = world.options.event_ttl;
    if age >= ttl {
        return vec![Step::delete(object)].into();
    }
    Plan { requeue: Some(ttl - age), ..Plan::nothing() }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        series.map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn old_events_go_and_young_ones_wait() {
        let mut cluster = Cluster::default();
        for (name, stamp) in [("old", "2026-01-01T10:00:00Z"), ("young", "2026-01-01T11:30:00Z")] {
            cluster.insert(&json!({"apiVersion": "v1", "kind": "Event",
                "metadata": {"name": name, "namespace": "default"}, "lastTimestamp": stamp}));
        }
        cluster.now = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |name| cluster.plan(&CONTROLLER, &ObjectKey::new(&kind::EVENT, "default", name));
        assert!(matches!(at("old").steps.as_slice(), [Step::Delete { .. }]));
        assert_eq!(at("young").requeue, Some(Duration::from_mins(30)));
    }
}
