//! Repeated log lines are told a few times, then counted: a fault that lasts must not bury the others, nor fill a disk.
//!
//! Of one line (the same place in the code, the same fields) a few pass in a window, and of the lines of one place some
//! more; then one line tells how many were left out. What is asked for with a filter (debug, trace) always passes.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// How long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Equal lines that pass in a window.
const EQUAL_MAX: u32 = 5;
/// Lines of one place in the code that pass in a window, whatever they say: as many different objects may fail alike.
const SIMILAR_MAX: u32 = 50;
/// Different lines that are counted at a time; beyond, only places are.
const COUNTS_MAX: usize = 2048;
/// How much of a line is repeated when those like it are summed up.
const LIKE_CHARS_MAX: usize = 200;

/// The layer. Lines that it left out are summed up by a thread, until it is dropped together with [`Summaries`].
pub(super) struct Limit(Arc<Shared>);

/// Ends the thread of a `Limit` when dropped, after what is still to be told.
pub struct Summaries {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    counts: BTreeMap<u64, Count>,
    /// When those whose window was over were last removed.
    purged: Option<Instant>,
    /// Whether any count has something to tell.
    left_out: bool,
    stop: bool,
}

struct Count {
    since: Instant,
    passed: u32,
    left_out: u64,
    level: Level,
    /// One of the lines.
    like: String,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    level: Level,
    left_out: u64,
    like: String,
}

impl Limit {
    pub(super) fn new() -> (Self, Summaries) {
        let shared = Arc::new(Shared::default());
        let told = shared.clone();
        let thread = thread::Builder::new().name("log summaries".to_owned());
        // Without the thread lines are limited all the same; only their number is not told.
        let thread = thread.spawn(move || told.tell()).ok();
        (Self(shared.clone()), Summaries { shared, thread })
    }
}

impl Drop for Summaries {
    fn drop(&mut self) {
        self.shared.counts.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, the process ends now.
            thread.join().ok();
        }
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let mut hasher = DefaultHasher::new();
        metadata.callsite().hash(&mut hasher);
        let place = hasher.finish();
        line.0.hash(&mut hasher);
        let mut counts = self.0.counts.lock();
        let pass = counts.pass(place, hasher.finish(), *metadata.level(), &line.0, Instant::now());
        if !pass && !counts.left_out {
            counts.left_out = true;
            self.0.changed.notify_all();
        }
        pass
    }
}

impl Shared {
    /// Tells what was left out, a window later, until stopped.
    fn tell(&self) {
        let mut counts = self.counts.lock();
        while !counts.stop {
            if counts.left_out {
                self.changed.wait_for(&mut counts, WINDOW);
            } else {
                self.changed.wait(&mut counts);
                continue;
            }
            let summaries = counts.take(Instant::now(), WINDOW);
            // Telling them asks this very layer.
            parking_lot::MutexGuard::unlocked(&mut counts, || {
                summaries.iter().for_each(Summary::tell);
            });
        }
        let rest = counts.take(Instant::now(), Duration::ZERO);
        drop(counts);
        rest.iter().for_each(Summary::tell);
    }
}

impl Counts {
    fn pass(&mut self, place: u64, line: u64, level: Level, text: &str, now: Instant) -> bool {
        // Not for every line of a flood.
        let is_due = |purged| now.duration_since(purged) >= WINDOW;
        if self.counts.len() >= COUNTS_MAX && self.purged.is_none_or(is_due) {
            self.purge(now);
        }
        let has_room = self.counts.len() < COUNTS_MAX;
        if has_room || self.counts.contains_key(&line) {
            let count = self.counts.entry(line).or_insert_with(|| Count::new(level, text, now));
            if !count.pass(EQUAL_MAX, now) {
                return false;
            }
        }
        let count = self.counts.entry(place).or_insert_with(|| Count::new(level, text, now));
        count.pass(SIMILAR_MAX, now)
    }

    /// What is to be told of windows that began this long ago.
    fn take(&mut self, now: Instant, age: Duration) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for count in self.counts.values_mut() {
            if count.left_out > 0 && now.duration_since(count.since) >= age {
                let left_out = std::mem::take(&mut count.left_out);
                summaries.push(Summary { level: count.level, left_out, like: count.like.clone() });
            }
        }
        self.purge(now);
        self.left_out = self.counts.values().any(|count| count.left_out > 0);
        summaries
    }

    fn purge(&mut self, now: Instant) {
        self.counts
            .retain(|_, count| count.left_out > 0 || now.duration_since(count.since) < WINDOW);
        self.purged = Some(now);
    }
}

impl Count {
    fn new(level: Level, text: &str, now: Instant) -> Self {
        let like = text.chars().take(LIKE_CHARS_MAX).collect();
        Self { since: now, passed: 0, left_out: 0, level, like }
    }

    fn pass(&mut self, max: u32, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.passed) = (now, 0);
        }
        if self.passed >= max {
            self.left_out += 1;
            return false;
        }
        self.passed += 1;
        true
    }
}

impl Summary {
    fn tell(&self) {
        let Self { level, left_out, like } = self;
        match *level {
            Level::ERROR => tracing::error!(like, "{left_out} similar lines were left out"),
            Level::WARN => tracing::warn!(like, "{left_out} similar lines were left out"),
            _ => tracing::info!(like, "{left_out} similar lines were left out"),
        }
    }
}

/// The text of an event: what makes lines equal.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        if field.name() == "message" {
            write!(self.0, "{gap}{value:?}").ok();
        } else {
            write!(self.0, "{gap}{field}={value:?}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn lines(counts: &mut Counts, now: Instant, times: u32, place: u64, line: u64) -> u32 {
        let mut pass = || counts.pass(place, line, Level::WARN, &format!("line {line}"), now);
        (0..times).map(|_| u32::from(pass())).sum()
    }

    #[test]
    fn the_first_lines_pass_and_the_rest_is_summed_up() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        assert_eq!(lines(&mut counts, start, 100, 1, 10), EQUAL_MAX);
        assert_eq!(lines(&mut counts, start, 1, 1, 11), 1, "another error of the same place");
        assert_eq!(lines(&mut counts, start, 3, 2, 12), 3, "another place");
        assert_eq!(counts.take(start, WINDOW), [], "not before the window is over");
        let later = start + WINDOW;
        let summary = Summary { level: Level::WARN, left_out: 95, like: "line 10".to_owned() };
        assert_eq!(counts.take(later, WINDOW), [summary]);
        assert_eq!((counts.counts.len(), counts.left_out), (0, false));
        assert_eq!(lines(&mut counts, later, 7, 1, 10), EQUAL_MAX, "a new window");
        // It goes on: what was not told yet is not lost with the window.
        assert_eq!(lines(&mut counts, later + WINDOW, 7, 1, 10), EQUAL_MAX);
        assert_eq!(counts.take(later + WINDOW * 2, WINDOW)[0].left_out, 4);
    }

    #[test]
    fn one_place_cannot_flood_with_ever_new_lines_nor_with_memory() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        let passed: u32 = (100..100_100).map(|line| lines(&mut counts, now, 1, 1, line)).sum();
        assert_eq!(passed, SIMILAR_MAX);
        assert!(counts.counts.len() <= COUNTS_MAX + 1);
        assert_eq!(lines(&mut counts, now, 9, 2, 3), 9, "another place, counted as a whole");
        let summaries = counts.take(now + WINDOW, WINDOW);
        assert_eq!(summaries.iter().map(|summary| summary.left_out).sum::<u64>(), 100_000 - 50);
    }

    #[test]
    fn lines_of_a_subscriber() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = written.clone();
        let (limit, summaries) = Limit::new();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || Output(output.clone()))
            .finish()
            .with(limit);
        let dispatch = tracing::Dispatch::new(subscriber);
        tracing::dispatcher::with_default(&dispatch, || {
            for i in 0..30 {
                tracing::warn!(port = 80, "cannot listen");
                tracing::warn!(port = 80 + i % 2, "cannot accept");
                tracing::debug!("asked for");
            }
            tracing::error!(error = "another", "cannot accept");
            summaries
                .shared
                .counts
                .lock()
                .take(Instant::now(), Duration::ZERO)
                .iter()
                .for_each(Summary::tell);
        });
        drop(summaries);
        let text = String::from_utf8(written.lock().clone()).unwrap();
        let count = |part: &str| text.matches(part).count();
        assert_eq!(count("cannot listen port=80\n"), 5, "{text}");
        assert_eq!((count("cannot accept port=80\n"), count("cannot accept port=81\n")), (5, 5));
        assert_eq!(count("asked for\n"), 30);
        assert_eq!(count("cannot accept error=\"another\"\n"), 1);
        assert_eq!(count("25 similar lines were left out like=\"cannot listen port=80\""), 1);
        assert_eq!(count("10 similar lines were left out"), 2);
    }

    struct Output(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
