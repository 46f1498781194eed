//! Watches under fire: writers at random, watchers that go and come back anywhere, compaction, a process that is killed.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    sync::watch::{Receiver, channel},
    task::JoinSet,
    time::timeout,
};

use crate::cluster::Cluster;

const WRITERS: u64 = 4;
const WATCHERS: u64 = 6;
const OBJECTS: u32 = 24;
/// Values so large that the history, which ends at 64 MiB, is some 1,100 revisions long.
const VALUE_BYTES: usize = 60_000;
const WRITES_PER_WRITER: u32 = 300;
/// How often the process is killed.
const KILLS: usize = 2;
/// A watcher leaves after so many events at most.
const STAY_MAX: usize = 120;
/// How long a watcher waits for an event before it comes back.
const LULL: Duration = Duration::from_millis(500);
/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Objects by name, each with its revision.
type State = BTreeMap<String, u64>;

/// The client of the process that runs now, and the state in which everything ends.
struct Now {
    client: Client,
    end: Option<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Added(String, u64),
    Modified(String, u64),
    Deleted(String, u64),
}

impl Event {
    fn revision(&self) -> u64 {
        let (Self::Added(_, revision) | Self::Modified(_, revision) | Self::Deleted(_, revision)) =
            self;
        *revision
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_see_everything_once_and_in_order() {
    let mut cluster = Cluster::start_with(&[]);
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let (tell, now) = channel(Now { client: cluster.client().await, end: None });
    let mut watchers = JoinSet::new();
    for nth in 0..WATCHERS {
        watchers.spawn(Watcher::new(seed ^ nth, nth % 2 == 1).run(now.clone()));
    }
    for phase in 0..=KILLS {
        let mut writers = JoinSet::new();
        for nth in 0..WRITERS {
            let seed = seed.rotate_left(8) ^ nth ^ (u64::try_from(phase).expect("few") << 32);
            writers.spawn(write(now.borrow().client.clone(), StdRng::seed_from_u64(seed)));
        }
        if phase < KILLS {
            // In the midst of it: when the first writer is done.
            writers.join_next().await.expect("a writer").expect("no panic");
            cluster.end(Signal::KILL);
            writers.join_all().await;
            cluster.start_again();
        } else {
            writers.join_all().await;
        }
        let client = cluster.client().await;
        tell.send_modify(|now| now.client = client);
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(now.borrow().client.clone());
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let expected: State = list.iter().map(named).collect();
    tell.send_modify(|now| now.end = Some(expected.clone()));
    let mut totals = Totals::default();
    while let Some(watcher) = watchers.join_next().await {
        let (state, seen) = watcher.expect("every watcher is content");
        assert_eq!(state, expected);
        totals.events += seen.events;
        totals.replayed += seen.replayed;
        totals.relists += seen.relists;
    }
    println!("{totals:?}");
    assert!(totals.replayed > 0, "a watcher has come back to an earlier revision: {totals:?}");
    assert!(
        totals.relists > usize::try_from(WATCHERS).expect("few"),
        "a revision was compacted: {totals:?}"
    );
}

/// Writes at random until enough was written or the process is gone.
async fn write(client: Client, mut random: StdRng) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for nth in 0..WRITES_PER_WRITER {
        let name = format!("map-{}", random.random_range(0..OBJECTS));
        let value = char::from(random.random_range(b'a'..=b'z')).to_string().repeat(VALUE_BYTES);
        let map =
            json!({"metadata": {"name": name}, "data": {"nth": nth.to_string(), "value": value}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        let written = match random.random_range(0..4) {
            0 => maps.create(&PostParams::default(), &map).await.map(drop),
            1 => maps.delete(&name, &DeleteParams::default()).await.map(drop),
            _ => maps.replace(&name, &PostParams::default(), &map).await.map(drop),
        };
        match written {
            Ok(()) => {}
            // It exists, or does not; both are as likely.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(kube::Error::Api(status)) => panic!("{status:?}"),
            Err(_the_process_is_gone) => return,
        }
    }
}

#[derive(Debug, Default)]
struct Totals {
    events: usize,
    replayed: usize,
    relists: usize,
}

/// One watcher, and what it has seen since its last list.
struct Watcher {
    random: StdRng,
    /// Whether it asks for metadata alone.
    metadata: bool,
    state: State,
    listed: u64,
    log: Vec<Event>,
    totals: Totals,
}

/// Why a watcher left its watch.
enum Left {
    /// By its own choice, or because the process ended.
    Early,
    /// There is no process.
    Alone,
    /// Its revision is compacted.
    Expired,
    /// It has seen everything.
    Done,
}

impl Watcher {
    fn new(seed: u64, metadata: bool) -> Self {
        let (random, state, log) = (StdRng::seed_from_u64(seed), BTreeMap::new(), Vec::new());
        Self { random, metadata, state, listed: 0, log, totals: Totals::default() }
    }

    async fn run(mut self, mut now: Receiver<Now>) -> (State, Totals) {
        let mut left = Left::Expired;
        loop {
            let client = now.borrow_and_update().client.clone();
            left = match left {
                Left::Done => return (self.state, self.totals),
                Left::Expired => self.list(client.clone()).await,
                Left::Early | Left::Alone => self.watch(client, &now).await,
            };
            if matches!(left, Left::Alone) {
                // The next process announces itself.
                timeout(PATIENCE, now.changed()).await.expect("in time").expect("the test goes on");
            }
        }
    }

    async fn list(&mut self, client: Client) -> Left {
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let Ok(list) = maps.list_metadata(&ListParams::default()).await else {
            return Left::Alone;
        };
        let last = self.last();
        self.listed = number(list.metadata.resource_version.as_deref());
        assert!(last <= self.listed, "a list after {last} is of {}", self.listed);
        self.state = list.iter().map(named).collect();
        self.log.clear();
        self.totals.relists += 1;
        Left::Early
    }

    /// Watches for a while, from the last revision or any one before it; what was seen before must come again.
    async fn watch(&mut self, client: Client, now: &Receiver<Now>) -> Left {
        let mut next = match self.random.random_bool(0.5) {
            true => self.random.random_range(0..=self.log.len()),
            false => self.log.len(),
        };
        let from = next.checked_sub(1).map_or(self.listed, |last| self.log[last].revision());
        let mut events = match events(client, self.metadata, from).await {
            Ok(events) => events,
            Err(kube::Error::Api(status)) if status.code == 410 => return Left::Expired,
            Err(kube::Error::Api(status)) => panic!("{status:?}"),
            Err(_no_connection) => return Left::Alone,
        };
        for _ in 0..self.random.random_range(1..STAY_MAX) {
            if next == self.log.len() && now.borrow().end.as_ref() == Some(&self.state) {
                return Left::Done;
            }
            // Without a limit it would miss that everything is written.
            let event = match timeout(LULL, events.next()).await {
                Ok(Some(Ok(WatchEvent::Added((name, revision))))) => Event::Added(name, revision),
                Ok(Some(Ok(WatchEvent::Modified((name, revision))))) => {
                    Event::Modified(name, revision)
                }
                Ok(Some(Ok(WatchEvent::Deleted((name, revision))))) => {
                    Event::Deleted(name, revision)
                }
                Ok(Some(Ok(WatchEvent::Error(status)))) if status.code == 410 => {
                    return Left::Expired;
                }
                Ok(Some(Ok(other))) => panic!("{other:?}"),
                Ok(Some(Err(_)) | None) | Err(_) => return Left::Early,
            };
            self.totals.events += 1;
            match self.log.get(next) {
                Some(before) => {
                    assert_eq!(*before, event, "told again from {from}");
                    self.totals.replayed += 1;
                }
                None => self.take(event),
            }
            next += 1;
        }
        Left::Early
    }

    /// The last revision that it knows of.
    fn last(&self) -> u64 {
        self.log.last().map_or(self.listed, Event::revision)
    }

    /// Takes an event that is new; it must fit to what is known.
    fn take(&mut self, event: Event) {
        let last = self.last();
        assert!(event.revision() > last, "{event:?} after {last}");
        let fits = match &event {
            Event::Added(name, revision) => self.state.insert(name.clone(), *revision).is_none(),
            Event::Modified(name, revision) => self.state.insert(name.clone(), *revision).is_some(),
            Event::Deleted(name, _) => self.state.remove(name).is_some(),
        };
        assert!(fits, "{event:?}");
        self.log.push(event);
    }
}

type Events = BoxStream<'static, kube::Result<WatchEvent<(String, u64)>>>;

/// A watch of objects, or of their metadata alone.
async fn events(client: Client, metadata: bool, from: u64) -> kube::Result<Events> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let (parameters, from) = (WatchParams::default().timeout(60), from.to_string());
    Ok(if metadata {
        let events = maps.watch_metadata(&parameters, &from).await?;
        events.map(|event| event.map(|event| plain(&event))).boxed()
    } else {
        let events = maps.watch(&parameters, &from).await?;
        events.map(|event| event.map(|event| plain(&event))).boxed()
    })
}

fn plain<K: ResourceExt>(event: &WatchEvent<K>) -> WatchEvent<(String, u64)> {
    match event {
        WatchEvent::Added(object) => WatchEvent::Added(named(object)),
        WatchEvent::Modified(object) => WatchEvent::Modified(named(object)),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(named(object)),
        WatchEvent::Bookmark(bookmark) => WatchEvent::Bookmark(bookmark.clone()),
        WatchEvent::Error(status) => WatchEvent::Error(status.clone()),
    }
}

fn named(object: &impl ResourceExt) -> (String, u64) {
    (object.name_any(), number(object.resource_version().as_deref()))
}

fn number(revision: Option<&str>) -> u64 {
    revision.and_then(|text| text.parse().ok()).expect("a revision is a number")
}
