//! Deletes Events that have not occurred for a while. A real API server lets them expire.

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
    triggers: &[Trigger { kind: Some(&kind::EVENT), keys: itself }],
    plan,
};

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|object| !object.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(event) = world.view.parse::<Event>(key) else { return Plan::nothing() };
    let seen = last_seen(&event, world.now).unwrap_or(world.now);
    let age = Duration::try_from(world.now.duration_since(seen)).unwrap_or_default();
    let ttl = world.options.event_ttl;
    if age >= ttl {
        return vec![Step::delete(object)].into();
    }
    Plan { requeue: Some(ttl.saturating_sub(age)), ..Plan::nothing() }
}

/// When the Event was last written, as far as it tells: a real API server counts from there. Times to come do not
/// count; they would keep it for as long as its client likes.
fn last_seen(event: &Event, now: Timestamp) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        series.map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    let managers = event.metadata.managed_fields.iter().flatten();
    let written = managers.filter_map(|manager| manager.time.as_ref()).map(|time| time.0);
    times.into_iter().flatten().chain(written).filter(|time| *time <= now).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn old_events_go_and_young_ones_wait() {
        let mut cluster = Cluster::default();
        cluster.now = "2026-01-01T09:00:00Z".parse().unwrap();
        let written = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {}, "time": "2026-01-01T11:45:00Z"}]);
        for (name, stamp, managers) in [
            ("old", "2026-01-01T10:00:00Z", json!([])),
            ("young", "2026-01-01T11:30:00Z", json!([])),
            ("written", "2026-01-01T10:00:00Z", written),
            ("to-come", "2027-01-01T00:00:00Z", json!([])),
        ] {
            cluster.insert(&json!({"apiVersion": "v1", "kind": "Event", "lastTimestamp": stamp,
                "metadata": {"name": name, "namespace": "default", "managedFields": managers}}));
        }
        cluster.now = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |name| cluster.plan(&CONTROLLER, &ObjectKey::new(&kind::EVENT, "default", name));
        assert!(matches!(at("old").steps.as_slice(), [Step::Delete { .. }]));
        assert!(matches!(at("to-come").steps.as_slice(), [Step::Delete { .. }]));
        assert_eq!(at("young").requeue, Some(Duration::from_mins(30)));
        assert_eq!(at("written").requeue, Some(Duration::from_mins(45)));
    }
}
