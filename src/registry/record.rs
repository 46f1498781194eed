//! Recording Events: what happened to an object, for people. Repetitions are counted in one Event, many similar ones
//! are combined, and a source that is too noisy about an object is cut short, with client-go's numbers.
//!
//! An Event's name ends in the time of its first recording, so that lists show Events of one second in their order; what
//! makes two Events the same is remembered with that name.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    hash::{Hash, Hasher},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use siphasher::sip::SipHasher13;
use tokio::{sync::Notify, time::Instant};

use crate::{
    model::{ObjectKey, Status, kind, time::time_text},
    registry::{Registry, Subresource, WriteOptions, retry::until_written},
};

/// An Event to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object that it is about.
    pub about: ObjectKey,
    /// That object's uid, empty when unknown.
    pub uid: String,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// CamelCase word, `ScalingReplicaSet`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Different messages of one reason about one object within [`SIMILAR_WINDOW`] before they are combined.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_mins(10);
/// Events in a row from one component about one object; then one each [`REFILL`].
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_mins(5);
/// Components and objects that are remembered; beyond that all is forgotten, which only means more Events.
const SOURCES_MAX: usize = 4096;
/// Where Events about cluster-scoped objects are kept.
const CLUSTER_EVENTS: &str = "default";
const NAME_MAX: usize = 253;
const TIME_LENGTH: usize = 16;
/// Names of Events that are remembered; beyond that all are forgotten, and a repetition is a new Event.
const NAMES_MAX: usize = 4096;
/// Events that wait for a store that is away; beyond that the oldest are dropped.
const PUT_OFF_MAX: usize = 1024;

/// The Events that were recorded lately.
#[derive(Default)]
pub(crate) struct Recorder {
    sources: Mutex<BTreeMap<(String, ObjectKey), Source>>,
    /// The names of recorded Events, by the hash of what they say.
    names: Mutex<BTreeMap<u64, String>>,
    /// Events that the store did not take.
    put_off: Mutex<VecDeque<PendingEvent>>,
    more_put_off: Notify,
}

/// An Event that is not written yet.
struct PendingEvent {
    key: ObjectKey,
    component: String,
    note: Note,
    message: String,
    stamp: String,
}

struct Source {
    left: u32,
    refilled: Instant,
    reasons: BTreeMap<&'static str, SimilarEvents>,
}

struct SimilarEvents {
    since: Instant,
    messages: BTreeSet<u64>,
}

impl Recorder {
    /// Whether to record an Event, and whether to combine it with similar ones. `None` if it is one too many.
    fn admit(&self, component: &str, note: &Note, now: Instant) -> Option<bool> {
        let mut sources = self.sources.lock();
        let key = (component.to_owned(), note.about.clone());
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&key) {
            sources.clear();
        }
        let fresh = || Source { left: BURST, refilled: now, reasons: BTreeMap::new() };
        let source = sources.entry(key).or_insert_with(fresh);
        let similar = source
            .reasons
            .entry(note.reason)
            .or_insert_with(|| SimilarEvents { since: now, messages: BTreeSet::new() });
        if now.duration_since(similar.since) > SIMILAR_WINDOW {
            *similar = SimilarEvents { since: now, messages: BTreeSet::new() };
        }
        if similar.messages.len() < SIMILAR_MAX {
            similar.messages.insert(hash_of(&note.message));
        }
        let combined = !similar.messages.contains(&hash_of(&note.message));
        while source.left < BURST
            && let Some(refilled) = source.refilled.checked_add(REFILL)
            && refilled <= now
        {
            source.left += 1;
            source.refilled = refilled;
        }
        if source.left == BURST {
            source.refilled = now;
        }
        source.left = source.left.checked_sub(1)?;
        Some(combined)
    }

    fn put_off(&self, event: PendingEvent) {
        let mut put_off = self.put_off.lock();
        if put_off.len() >= PUT_OFF_MAX {
            put_off.pop_front();
        }
        put_off.push_back(event);
        drop(put_off);
        self.more_put_off.notify_one();
    }

    /// `OBJECT.HEX`; the number is the time in nanoseconds when this was first recorded.
    fn key(&self, component: &str, note: &Note, combined: bool, now: Timestamp) -> ObjectKey {
        let message = if combined { "" } else { note.message.as_str() };
        let content = (component, &note.about, &note.uid, note.warning, note.reason, message);
        let mut names = self.names.lock();
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let new = || {
            let kept = NAME_MAX - TIME_LENGTH - 1;
            let name: String = note.about.name.chars().take(kept).collect();
            format!("{name}.{:016x}", now.as_nanosecond())
        };
        let name = names.entry(hash_of(&content)).or_insert_with(new).clone();
        let namespace = match note.about.namespace.as_str() {
            "" => CLUSTER_EVENTS,
            namespace => namespace,
        };
        ObjectKey::new(&kind::EVENT, namespace, name)
    }
}

impl Registry {
    /// Records an Event. If the store is away, it is recorded when the store is back. Events are for people, so a failure is
    /// only logged.
    pub async fn record(&self, component: &str, note: &Note) {
        let Some(combined) = self.recorder.admit(component, note, Instant::now()) else { return };
        let message = match combined {
            true => format!("(combined from similar events): {}", note.message),
            false => note.message.clone(),
        };
        let now = (self.clock)();
        let key = self.recorder.key(component, note, combined, now);
        let (component, note) = (component.to_owned(), note.clone());
        let event = PendingEvent { key, component, note, message, stamp: time_text(now) };
        match self.write_event(&event).await {
            Err(status) if status.is_unavailable() => self.recorder.put_off(event),
            Err(status) => tracing::debug!(key = %event.key, %status, "event not recorded"),
            Ok(()) => {}
        }
    }

    /// Records the Events that were put off. Runs until cancelled.
    pub(crate) async fn record_put_off(&self) -> Infallible {
        loop {
            let next = self.recorder.put_off.lock().pop_front();
            let Some(event) = next else {
                self.recorder.more_put_off.notified().await;
                continue;
            };
            if let Err(status) = until_written(&event.key, || self.write_event(&event)).await {
                tracing::debug!(key = %event.key, %status, "event not recorded");
            }
        }
    }

    async fn write_event(&self, event: &PendingEvent) -> Result<(), Status> {
        match self.count(&event.key, &event.message, &event.stamp).await {
            Err(status) if status.reason == "NotFound" => {
                let (kind, namespace) = (&event.key.kind, &event.key.namespace);
                let document = event_document(event);
                self.create(kind, namespace, document, &WriteOptions::default()).await.map(|_| ())
            }
            other => other,
        }
    }

    async fn count(&self, key: &ObjectKey, message: &str, stamp: &str) -> Result<(), Status> {
        let again = |old: &crate::model::Object| {
            let mut document: Value = old.parse()?;
            document["count"] = (document["count"].as_i64().unwrap_or(1) + 1).into();
            document["lastTimestamp"] = stamp.into();
            document["message"] = message.into();
            Ok(document)
        };
        self.modify(key, Subresource::None, &WriteOptions::default(), again).await.map(|_| ())
    }
}

fn event_document(event: &PendingEvent) -> Value {
    let PendingEvent { key, component, note, message, stamp } = event;
    let mut about = json!({
        "apiVersion": note.about.kind.api_version(),
        "kind": note.about.kind.kind,
        "name": note.about.name,
    });
    for (field, value) in [("namespace", &note.about.namespace), ("uid", &note.uid)] {
        if !value.is_empty() {
            about[field] = value.as_str().into();
        }
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "involvedObject": about,
        "reason": note.reason, "message": message,
        "type": if note.warning { "Warning" } else { "Normal" },
        "source": {"component": component},
        "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1,
        "reportingComponent": component, "reportingInstance": "",
    })
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        let about = ObjectKey::new(&kind::REPLICA_SET, "default", "web");
        Note {
            about,
            uid: "u".into(),
            warning: false,
            reason: "SuccessfulCreate",
            message: message.into(),
        }
    }

    #[test]
    fn repetitions_share_a_name_that_tells_the_order() {
        let recorder = Recorder::default();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let name =
            |note: &Note, combined, second| recorder.key("c", note, combined, at(second)).name;
        let (first, second) = (name(&note("b"), false, 1), name(&note("a"), false, 2));
        assert!(first < second, "{first} {second}");
        assert_eq!(first, name(&note("b"), false, 3));
        assert_eq!(name(&note("a"), true, 4), name(&note("b"), true, 5));
        let node = Note { about: ObjectKey::cluster(&kind::NODE, "n1"), ..note("a") };
        assert_eq!(recorder.key("c", &node, false, at(6)).namespace, "default");
        for i in 0..NAMES_MAX {
            name(&note(&i.to_string()), false, 7);
        }
        assert!(recorder.names.lock().len() <= NAMES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn noise_is_combined_then_cut() {
        let recorder = Recorder::default();
        let now = Instant::now();
        let seen: Vec<_> =
            (0..30).map(|i| recorder.admit("c", &note(&i.to_string()), now)).collect();
        assert_eq!(seen.iter().filter(|s| **s == Some(false)).count(), 10);
        assert_eq!(seen.iter().filter(|s| **s == Some(true)).count(), 15);
        assert_eq!(seen.iter().filter(|s| s.is_none()).count(), 5);
        assert!(recorder.admit("other", &note("x"), now).is_some());
        assert!(recorder.admit("c", &note("x"), now + REFILL).is_some());
        assert!(recorder.admit("c", &note("x"), now + REFILL).is_none());
    }
}
