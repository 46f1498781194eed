//! The process that is killed. Sixteen writers report each commit before and after it, in lines on standard output.
//! The phases of the committer are reported there too.

use std::{
    collections::BTreeMap,
    env,
    future::pending,
    io::{Write as _, stdout},
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use tracing::{Subscriber, span};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::store::{
    Error, Revision, Store,
    sled::{
        Sled,
        tests::{
            crash::{
                TUNING,
                attempt::{Attempt, KeyWrite},
            },
            dir_of_child, everything,
        },
    },
};

/// The number of this child among all children of the store.
pub(super) const RUN: &str = "SNOWGLOBE_STORE_TEST_RUN";
/// Tells the child to open the store and do nothing else.
pub(super) const IDLE: &str = "SNOWGLOBE_STORE_TEST_IDLE";
const WRITERS: u64 = 16;
/// The number of keys of each writer. It creates, changes and deletes them.
const KEYS: u32 = 20;
/// Keys that all writers change.
const SHARED_KEYS: u32 = 4;
const SHARED: &str = "shared/";
const SIZE_MIN: usize = 100;
const SIZE_MAX: usize = 1024 * 1024;

#[tokio::test]
async fn writing_child() {
    let Some(dir) = dir_of_child() else {
        return;
    };
    // Ends the line that the test harness has begun.
    say("");
    tracing::subscriber::set_global_default(Registry::default().with(Phases)).unwrap();
    let store = Arc::new(Sled::open_tuned(&dir, TUNING).unwrap());
    if env::var_os(IDLE).is_some() {
        return pending().await;
    }
    let run: u64 = env::var(RUN).unwrap().parse().unwrap();
    // A single thread, so that a writer reports the end of a commit soon.
    let mut writers = JoinSet::new();
    let found = everything(&store).await.0;
    for number in 0..WRITERS {
        let prefix = format!("{number}/");
        let own = found.iter().filter(|record| record.key.starts_with(prefix.as_bytes()));
        let name = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        let own = own.map(|record| (name(&record.key), record.revision.0)).collect();
        let writer = Writer {
            next: run << 32 | number << 24,
            prefix,
            own,
            random: StdRng::seed_from_u64(run << 8 | number),
        };
        writers.spawn(writer.run(Arc::clone(&store)));
    }
    writers.join_all().await;
}

/// Each line is one write to the pipe, so that it is complete or absent.
fn say(line: &str) {
    stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

struct Writer {
    /// The number of the next attempt.
    next: u64,
    prefix: String,
    /// Its existing keys and their revisions.
    own: BTreeMap<String, u64>,
    random: StdRng,
}

impl Writer {
    async fn run(mut self, store: Arc<Sled>) {
        loop {
            let attempt = self.attempt(&store).await;
            say(&attempt.line());
            match store.commit(attempt.writes()).await {
                Ok(Revision(revision)) => {
                    say(&format!("done {} {revision}", attempt.id));
                    for KeyWrite { key, size, .. } in attempt.parts {
                        match size {
                            Some(_) => self.own.insert(key, revision),
                            None => self.own.remove(&key),
                        };
                    }
                }
                Err(Error::Conflict { key, .. }) if key.starts_with(SHARED.as_bytes()) => {
                    say(&format!("refused {}", attempt.id));
                }
                Err(error) => panic!("{error}: {attempt:?}"),
            }
        }
    }

    async fn attempt(&mut self, store: &Sled) -> Attempt {
        let id = self.next;
        self.next += 1;
        let count =
            if self.random.random_ratio(1, 4) { self.random.random_range(2..=6) } else { 1 };
        let mut parts: Vec<KeyWrite> = Vec::new();
        while parts.len() < count {
            let part = self.part(store).await;
            if parts.iter().all(|other| other.key != part.key) {
                parts.push(part);
            }
        }
        Attempt { id, parts }
    }

    async fn part(&mut self, store: &Sled) -> KeyWrite {
        let (key, at) = if self.random.random_ratio(1, 12) {
            let key = format!("{SHARED}{}", self.random.random_range(0..SHARED_KEYS));
            let found = store.get(key.as_bytes(), None).await.unwrap();
            (key, found.map(|record| record.revision.0))
        } else {
            let key = format!("{}{}", self.prefix, self.random.random_range(0..KEYS));
            let at = self.own.get(&key).copied();
            (key, at)
        };
        let delete = at.is_some() && self.random.random_ratio(1, 3);
        let size = (!delete).then(|| self.size());
        KeyWrite { key, at, size }
    }

    /// Most values are small, a few have up to a mebibyte.
    fn size(&mut self) -> usize {
        let range = match self.random.random_range(0..100) {
            0 => 256 * 1024..SIZE_MAX + 1,
            1..8 => 4 * 1024..64 * 1024,
            _ => SIZE_MIN..2000,
        };
        self.random.random_range(range)
    }
}

/// Reports when the committer enters and leaves a phase.
struct Phases;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Phases {
    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        say(&format!("enter {}", context.span(id).unwrap().name()));
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        say(&format!("exit {}", context.span(id).unwrap().name()));
    }
}
