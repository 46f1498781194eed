//! Schedulers under traffic: what they pick, what happens when they fail, and changing them meanwhile.

mod counts;
mod slow;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{self, Receiver},
    time::advance,
};

use super::{Guests, Info, Library, OnFailure, PLACES_MAX, Places, Source};
use crate::{
    policy::{
        By, Candidates, Decision, InstanceKey, ModuleError, PickRequest, Picking, PolicyKind,
        Scheduler, Seat,
        wasm::{Engine, trial_candidates, trial_flow},
    },
    route::{NamespacedName, Notice, Protocol, RouteName, notice::NOTICES_MAX},
};

/// Picks the last endpoint until a failed connect of endpoint 0 is on record; then it traps.
const TRAPS_LATER: &str = r#"(module
    (import "snowglobe:policy/host@0.1.0" "failures" (func $failures (param i32) (result i32)))
    (global $last (mut i32) (i32.const 0))
    (func (export "configure") (param i64 i32)
      (global.set $last (i32.sub (local.get 1) (i32.const 1))))
    (func (export "pick") (param i64 i32 i32) (result i32)
      (if (call $failures (i32.const 0)) (then unreachable))
      (global.get $last)))"#;

/// No test waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// Picks one endpoint, as far as there is such a one, after so many steps in `configure` and in `pick`.
fn guest(index: usize, configure_steps: u32, pick_steps: u32) -> String {
    format!(
        r#"(global $count (mut i32) (i32.const 0))
           (func (export "configure") (param i64 i32) {} (global.set $count (local.get 1)))
           (func (export "pick") (param i64 i32 i32) (result i32) {}
             (select (i32.const {index}) (i32.const 0)
               (i32.lt_u (i32.const {index}) (global.get $count))))"#,
        spin(configure_steps),
        spin(pick_steps)
    )
}

/// Picks one endpoint, out of range or not, while there are three.
fn constant(index: i32) -> Source {
    text(&format!(
        r#"(module
             (global $chosen (mut i32) (i32.const 0))
             (func (export "configure") (param i64 i32)
               (global.set $chosen
                 (select (i32.const {index}) (i32.const 0)
                   (i32.eq (local.get 1) (i32.const 3)))))
             (func (export "pick") (param i64 i32 i32) (result i32) (global.get $chosen)))"#
    ))
}

/// A component that takes so many million steps (a third of a millisecond or so each) to start, and picks one endpoint.
fn slow_start(millions: u32, index: usize) -> Source {
    let (begin, guest) = (spin(millions * 1_000_000), guest(index, 0, 0));
    text(&format!(
        r#"(component
             (core module $code (func $begin {begin}) (start $begin) {guest})
             (core instance $guest (instantiate $code))
             (func (export "configure") (param "generation" u64) (param "count" u32)
               (canon lift (core func $guest "configure")))
             (func (export "pick")
               (param "source-hash" u64) (param "client-zone" u32) (param "client-node" u32)
               (result u32)
               (canon lift (core func $guest "pick"))))"#
    ))
}

/// The first part of a function, which takes so many steps.
fn spin(steps: u32) -> String {
    format!(
        "(local $step i32)
         (loop $again
           (local.set $step (i32.add (local.get $step) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $step) (i32.const {steps}))))"
    )
}

fn text(source: &str) -> Source {
    Source::Module(source.as_bytes().to_vec())
}

fn key(service: &str, view: &str) -> InstanceKey {
    let service = NamespacedName { namespace: "default".into(), name: service.into() };
    InstanceKey {
        route: RouteName { service, port: 80, protocol: Protocol::Tcp },
        scope: view.into(),
    }
}

struct Traffic {
    /// Its time stands still, so that no connection ever gives up a guest; [`Traffic::in_time`] makes another.
    runtime: Runtime,
    library: Arc<Library>,
    notices: Receiver<Notice>,
    candidates: Candidates,
    generation: u64,
    seats: Mutex<BTreeMap<InstanceKey, Arc<Seat>>>,
}

impl Traffic {
    fn over(count: u16) -> Self {
        let paused = Builder::new_current_thread().enable_all().start_paused(true).build();
        Self::on(paused.unwrap(), Places::new(PLACES_MAX), Guests::default(), count)
    }

    /// Over three endpoints, and no connection waits for a guest.
    fn impatient() -> Self {
        let mut traffic = Self::over(3);
        Arc::get_mut(&mut traffic.library).unwrap().guests.patience = Duration::ZERO;
        traffic
    }

    /// Over three endpoints on threads in real time.
    fn in_time(patience: Duration) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let mut guests = Guests::default();
        guests.patience = patience;
        Self::on(runtime.unwrap(), Places::new(PLACES_MAX), guests, 3)
    }

    fn on(runtime: Runtime, places: Places, guests: Guests, count: u16) -> Self {
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let library = Library::bounded(Engine::new(None).unwrap(), sender, places, guests);
        {
            let _time = runtime.enter();
            library.load_builtins();
        }
        let (candidates, seats) = (trial_candidates(count), Mutex::default());
        Self { runtime, library, notices, candidates, generation: 1, seats }
    }

    fn load(&self, name: &str, source: Source, on_failure: OnFailure) -> Result<(), ModuleError> {
        let _time = self.runtime.enter();
        self.library.compile(name, source, String::new(), on_failure).map(drop)
    }

    fn pick(&self, policy: &str) -> Option<usize> {
        self.pick_at(&key("web", "node-1"), policy)
    }

    fn pick_at(&self, place: &InstanceKey, policy: &str) -> Option<usize> {
        let picked = self.runtime.block_on(self.picking(place, Some(policy)));
        // What it began must not wait for the next one.
        self.runtime.block_on(tokio::task::yield_now());
        picked
    }

    async fn picking(&self, place: &InstanceKey, policy: Option<&str>) -> Option<usize> {
        self.deciding(place, policy).await.index
    }

    async fn deciding(&self, place: &InstanceKey, policy: Option<&str>) -> Decision {
        let seat = {
            let mut seats = self.seats.lock();
            let seat = seats.entry(place.clone());
            seat.or_insert_with(|| Arc::new(Seat::new(place.clone()))).clone()
        };
        let (generation, flow) = (self.generation, trial_flow(40_000));
        let candidates = &self.candidates;
        let request = PickRequest { seat: &seat, policy, generation, candidates, flow: &flow };
        match self.library.pick(request) {
            Picking::Now(decision) => decision,
            Picking::Later(decision) => decision.await,
        }
    }

    fn advance(&self, time: Duration) {
        self.runtime.block_on(advance(time));
    }

    /// Picks until it was the policy that chose.
    fn pick_until_started(&self, policy: &str) {
        loop {
            let before = self.info(policy).fallbacks;
            self.pick(policy).unwrap();
            if self.info(policy).fallbacks == before {
                return;
            }
        }
    }

    fn picks(&self, policy: &str, count: usize) -> Vec<usize> {
        (0..count).map(|_| self.pick(policy).unwrap()).collect()
    }

    fn break_endpoint(&self, failures: u32) {
        self.candidates[0].load.failures.store(failures, Ordering::Relaxed);
    }

    fn info(&self, name: &str) -> Info {
        self.library.list().into_iter().find(|info| info.name == name).unwrap()
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }
}

#[test]
fn rr_is_strict_also_when_endpoints_change() {
    for policy in ["rr", "no such policy"] {
        let mut traffic = Traffic::over(3);
        let mut picks = Vec::new();
        for _ in 0..6 {
            picks.extend(traffic.picks(policy, 5));
            traffic.generation += 1;
        }
        for endpoint in 0..3 {
            assert_eq!(picks.iter().filter(|pick| **pick == endpoint).count(), 10, "{policy}");
        }
        assert!(picks.windows(2).all(|pair| pair[0] != pair[1]), "{policy}: {picks:?}");

        // Endpoint 2 was last. It moves to the front, so that 0 is next though its index changed.
        traffic.candidates = [2, 0, 1].map(|i| trial_candidates(3)[i].clone()).into();
        traffic.generation += 1;
        assert_eq!(traffic.picks(policy, 3), [1, 2, 0], "{policy}");

        // The last one is gone: the round goes on where it stood.
        traffic.candidates = [0, 1].map(|i| trial_candidates(3)[i].clone()).into();
        traffic.generation += 1;
        assert_eq!(traffic.picks(policy, 3), [1, 0, 1], "{policy}");
    }
}

#[test]
fn rr_is_strict_per_view_and_route() {
    let traffic = Traffic::over(3);
    for place in [key("web", "node-1"), key("web", "node-2"), key("shop", "node-1")] {
        assert_eq!(traffic.pick_at(&place, "rr"), Some(0));
    }
    assert_eq!(traffic.pick("rr"), Some(1));
}

#[test]
fn random_covers_all() {
    let traffic = Traffic::over(5);
    let picks = traffic.picks("random", 1_000);
    for endpoint in 0..5 {
        let share = picks.iter().filter(|pick| **pick == endpoint).count();
        assert!((100..300).contains(&share), "{endpoint}: {share} of 1000");
    }
}

#[test]
fn p2c_prefers_less_load_per_weight() {
    let mut traffic = Traffic::over(4);
    traffic.candidates[3].load.active.store(50, Ordering::Relaxed);
    let picks = traffic.picks("p2c", 200);
    assert!(!picks.contains(&3), "the busiest never wins a comparison");
    assert!((0..3).all(|endpoint| picks.contains(&endpoint)));

    let mut weighted = trial_candidates(2).to_vec();
    (weighted[0].weight, weighted[1].weight) = (1, 4);
    weighted[1].load.active.store(2, Ordering::Relaxed);
    traffic.candidates = weighted.into();
    traffic.generation += 1;
    assert_eq!(traffic.picks("p2c", 20), [1; 20], "(2 + 1) / 4 is less than (0 + 1) / 1");

    (traffic.candidates, traffic.generation) = (trial_candidates(1), traffic.generation + 1);
    assert_eq!(traffic.picks("p2c", 2), [0, 0]);
}

#[test]
fn loading_reports_and_listing_shows() {
    let traffic = Traffic::in_time(LONG);
    let report =
        |source| traffic.library.compile("mine", source, String::new(), OnFailure::Reject).unwrap();
    let first = report(constant(1));
    assert!(first.digest.starts_with("sha256:") && first.digest.len() == 71, "{first:?}");
    assert_eq!((&*first.abi, first.component), ("snowglobe:policy@0.1.0", false));
    assert_eq!(traffic.pick("mine"), Some(1));
    let again = report(constant(1));
    assert_eq!(again.digest, first.digest);
    assert!(traffic.library.is_loaded("mine") && !traffic.library.is_loaded("other"));

    let info = traffic.info("mine");
    assert_eq!((info.picks, info.failures, info.digest), (1, 0, first.digest));
    assert_eq!(info.on_failure, OnFailure::Reject);
    traffic.picks("mine", 200);
    assert!(traffic.info("mine").pick_time.unwrap().mean_ns > 0.0);
}

#[test]
fn a_refused_module_leaves_the_good_one() {
    let traffic = Traffic::over(3);
    traffic.load("mine", constant(1), OnFailure::Fallback).unwrap();
    for bad in [constant(99), text("(module)"), Source::Builtin("none".to_owned())] {
        traffic.load("mine", bad, OnFailure::Fallback).unwrap_err();
        assert_eq!(traffic.picks("mine", 2), [1, 1]);
    }
}

#[test]
fn a_new_config_makes_new_instances() {
    let traffic = Traffic::over(3);
    // Picks endpoint `config-length`, as far as there is one.
    let source = r#"(module
        (import "snowglobe:policy/host@0.1.0" "config-length" (func $length (result i32)))
        (global $count (mut i32) (i32.const 0))
        (func (export "configure") (param i64 i32) (global.set $count (local.get 1)))
        (func (export "pick") (param i64 i32 i32) (result i32)
          (i32.rem_u (call $length) (global.get $count))))"#;
    let load = |config: &str| {
        let fallback = OnFailure::Fallback;
        traffic.library.compile("mine", text(source), config.to_owned(), fallback)
    };
    for (config, expected) in [("", 0), ("ab", 2), ("a", 1)] {
        load(config).unwrap();
        assert_eq!(traffic.pick("mine"), Some(expected));
    }
    load(&"x".repeat((1 << 20) + 1)).unwrap_err();
}

#[test]
fn removing_and_the_default() {
    let traffic = Traffic::over(3);
    let place = key("web", "");
    let default = || traffic.runtime.block_on(traffic.picking(&place, None)).unwrap();
    traffic.load("mine", constant(2), OnFailure::Fallback).unwrap();
    assert_eq!([default(), default()], [0, 1], "rr");
    traffic.library.set_default("mine");
    assert_eq!([default(), default()], [2, 2]);
    traffic.library.remove("mine");
    assert_eq!([default(), default()], [0, 1], "an unknown default: the fallback");

    traffic.load("rr", constant(2), OnFailure::Fallback).unwrap();
    assert_eq!(traffic.picks("rr", 2), [2, 2]);
    traffic.library.remove("rr");
    assert_eq!(traffic.picks("rr", 2), [0, 1], "the built-in one is back");
}

#[test]
fn failures_act_as_told() {
    let later = || text(TRAPS_LATER);
    let rows = [
        ("fallback", OnFailure::Fallback, vec![Some(0), Some(1), Some(2)]),
        ("reject", OnFailure::Reject, vec![None, None, None]),
        ("last-good", OnFailure::LastGood, vec![Some(1), Some(1), Some(1)]),
    ];
    for (name, on_failure, expected) in rows {
        let mut traffic = Traffic::over(3);
        traffic.load(name, constant(1), on_failure).unwrap();
        traffic.load(name, later(), on_failure).unwrap();
        assert_eq!(traffic.picks(name, 2), [2, 2], "{name}");
        traffic.break_endpoint(1);
        let picks = (0..3).map(|_| traffic.pick(name)).collect::<Vec<_>>();
        assert_eq!(picks, expected, "{name}");

        let reason = "pick: wasm trap: wasm `unreachable` instruction executed";
        let told = Notice::PolicyFailed {
            kind: PolicyKind::LoadBalancer,
            policy: name.to_owned(),
            route: key("web", "").route,
            reason: reason.to_owned(),
        };
        assert_eq!(traffic.notices(), [told], "{name}: once, not per connection");
        let info = traffic.info(name);
        assert_eq!((info.picks, info.fallbacks), (5, 3), "{name}");
        assert_eq!(info.last_failure.as_deref(), Some(reason), "{name}");
    }
}

#[test]
fn last_good_without_a_predecessor_is_the_fallback() {
    let traffic = Traffic::over(3);
    traffic.load("mine", text(TRAPS_LATER), OnFailure::LastGood).unwrap();
    traffic.break_endpoint(1);
    assert_eq!(traffic.picks("mine", 3), [0, 1, 2]);
}

#[test]
fn a_failed_version_is_not_what_last_good_goes_back_to() {
    let traffic = Traffic::over(3);
    traffic.load("mine", constant(1), OnFailure::LastGood).unwrap();
    for more in ["", "(memory 1)", "(memory 2)"] {
        let source = TRAPS_LATER.replace("(global $last", &format!("{more} (global $last"));
        traffic.load("mine", text(&source), OnFailure::LastGood).unwrap();
        traffic.break_endpoint(1);
        assert_eq!(traffic.pick("mine"), Some(1));
        traffic.break_endpoint(0);
    }
}

#[test]
fn a_failing_module_rests_and_recovers() {
    let mut traffic = Traffic::over(3);
    traffic.load("mine", text(TRAPS_LATER), OnFailure::Fallback).unwrap();
    traffic.break_endpoint(1);
    traffic.picks("mine", 100);
    assert_eq!(traffic.info("mine").failures, 2, "the first try is at once, then a pause");
    traffic.advance(Duration::from_millis(100));
    traffic.picks("mine", 100);
    assert_eq!(traffic.info("mine").failures, 3);
    for _ in 3..8 {
        assert!(traffic.library.out_of_use().is_empty());
        traffic.advance(Duration::from_secs(4));
        traffic.picks("mine", 100);
    }
    assert_eq!(traffic.info("mine").failures, 8, "one try per pause");
    assert_eq!(traffic.notices().len(), 2, "one notice in ten seconds");

    let reason = "pick: wasm trap: wasm `unreachable` instruction executed".to_owned();
    let out_of_use = BTreeMap::from([("mine".to_owned(), reason)]);
    for tries in 9..12 {
        assert_eq!(traffic.library.out_of_use(), out_of_use);
        traffic.advance(Duration::from_secs(59));
        traffic.picks("mine", 100);
        traffic.advance(Duration::from_secs(1));
        traffic.picks("mine", 100);
        assert_eq!(traffic.info("mine").failures, tries, "one try a minute");
    }
    let health = traffic.library.health();
    traffic.break_endpoint(0);
    traffic.advance(Duration::from_secs(60));
    assert_eq!(traffic.picks("mine", 2), [2, 2]);
    assert!(health.has_changed().unwrap() && traffic.library.out_of_use().is_empty());
    assert_eq!(traffic.info("mine").failures, 11);

    // The pauses begin anew, too.
    traffic.break_endpoint(1);
    traffic.picks("mine", 100);
    assert_eq!(traffic.info("mine").failures, 13);
}

#[test]
fn who_is_out_of_use_is_forgotten_with_its_place_or_version() {
    let traffic = Traffic::over(3);
    let fail = |source: &str| {
        traffic.load("mine", text(source), OnFailure::Fallback).unwrap();
        for _ in 0..8 {
            traffic.pick("mine");
            traffic.advance(Duration::from_secs(4));
        }
        assert_eq!(traffic.library.out_of_use().len(), 1);
    };
    traffic.break_endpoint(1);
    fail(TRAPS_LATER);
    traffic.load("mine", constant(1), OnFailure::Fallback).unwrap();
    assert!(traffic.library.out_of_use().is_empty(), "another version");
    fail(TRAPS_LATER);
    let _runtime = traffic.runtime.enter();
    traffic.library.forget(&key("web", "").route);
    traffic.runtime.block_on(traffic.library.guests.finished());
    assert!(traffic.library.out_of_use().is_empty(), "the place is gone");
}

#[test]
fn logs_are_told_and_bounded() {
    let mut traffic = Traffic::over(3);
    let source = r#"(module
        (import "snowglobe:policy/host@0.1.0" "log" (func $log (param i32 i64)))
        (func (export "pick") (param i64 i32 i32) (result i32)
          (call $log (i32.const 7) (i64.const 9)) (i32.const 0)))"#;
    traffic.load("mine", text(source), OnFailure::Fallback).unwrap();
    assert!(traffic.notices().is_empty(), "the trial run is silent");
    for _ in 0..2 {
        traffic.picks("mine", 100);
        let notices = traffic.notices();
        assert_eq!(notices.len(), 10);
        let kind = PolicyKind::LoadBalancer;
        let told = Notice::PolicyLog { kind, policy: "mine".to_owned(), code: 7, value: 9 };
        assert!(notices.contains(&told));
        traffic.advance(Duration::from_secs(10));
    }
}

#[test]
fn a_hanging_guest_costs_milliseconds_and_not_each_time() {
    let traffic = Traffic::over(3);
    let source = TRAPS_LATER.replace("unreachable", "(loop $forever (br $forever))");
    traffic.load("mine", text(&source), OnFailure::Fallback).unwrap();
    traffic.break_endpoint(1);
    assert_eq!(traffic.picks("mine", 6), [0, 1, 2, 0, 1, 2]);
    let info = traffic.info("mine");
    assert_eq!(info.last_failure.as_deref(), Some("pick: ran longer than 20 ms"));
    assert!(info.failures < 6, "{info:?}");
}

#[test]
fn swapping_under_traffic_fails_no_pick() {
    let traffic = Traffic::in_time(LONG);
    traffic.load("mine", constant(0), OnFailure::Reject).unwrap();
    let (stop, picks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (traffic, stop, picks, served) = (&traffic, &stop, &picks, &served);
            scope.spawn(move || {
                let places = [key("web", "node-1"), key("web", &format!("node-{number}"))];
                while !stop.load(Ordering::Relaxed) {
                    for place in &places {
                        served.fetch_add(
                            usize::from(traffic.pick_at(place, "mine").is_some()),
                            Ordering::Relaxed,
                        );
                        picks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let _stops = StopOnDrop(&stop);
        for round in 0..30 {
            let before = picks.load(Ordering::Relaxed);
            while picks.load(Ordering::Relaxed) < before + 100 {
                thread::yield_now();
            }
            let source = match round % 3 {
                0 => Source::Builtin("p2c".to_owned()),
                1 => constant(1),
                _ => Source::Builtin("rr".to_owned()),
            };
            traffic.load("mine", source, OnFailure::Reject).unwrap();
        }
    });
    let info = traffic.info("mine");
    assert_eq!((info.failures, info.fallbacks, info.last_failure), (0, 0, None));
    let picks = picks.into_inner();
    assert_eq!((usize::try_from(info.picks).unwrap(), served.into_inner()), (picks, picks));
}

/// Stops the other threads also when an assertion fails, or the test would hang.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_swap_is_visible_at_the_next_pick() {
    let traffic = Traffic::over(3);
    for index in [0, 2, 1] {
        traffic.load("mine", constant(index), OnFailure::Fallback).unwrap();
        assert_eq!(traffic.pick("mine"), usize::try_from(index).ok());
    }
}

#[test]
fn places_are_bounded_by_least_recent_use() {
    let mut traffic = Traffic::over(3);
    traffic = Traffic::on(traffic.runtime, Places::new(3), Guests::default(), 3);
    let library = &traffic.library;
    let pick =
        |service: &str| traffic.runtime.block_on(traffic.picking(&key(service, ""), None)).unwrap();
    assert_eq!([pick("a"), pick("b"), pick("c"), pick("a")], [0, 0, 0, 1]);
    pick("d");
    let left = library.places.keys();
    assert_eq!(left, [key("a", ""), key("c", ""), key("d", "")], "b was used least recently");
    assert_eq!(pick("a"), 2);
    assert_eq!(pick("b"), 0, "a new instance");

    let _runtime = traffic.runtime.enter();
    library.forget(&key("b", "").route);
    assert!(!library.places.keys().contains(&key("b", "")));
    assert_eq!(library.places.keys().len(), 2);
}

#[test]
fn a_decision_tells_who_chose() {
    let traffic = Traffic::over(3);
    traffic.pick_until_started("rr");
    let web = key("web", "node-1");
    let decide = |policy| traffic.runtime.block_on(traffic.deciding(&web, policy));
    for decision in [decide(None), decide(Some("rr"))] {
        assert_eq!((decision.by, decision.policy()), (By::Policy, Some("rr")));
        assert_eq!(decision.digest(), Some(traffic.info("rr").digest.as_str()));
    }
    let unknown = decide(Some("no such policy"));
    assert_eq!((unknown.by, unknown.policy(), unknown.digest()), (By::Fallback, None, None));
    traffic.load("opinionless", constant(-1), OnFailure::Fallback).unwrap();
    traffic.pick("opinionless");
    let opinionless = decide(Some("opinionless"));
    assert_eq!((opinionless.by, opinionless.policy()), (By::Fallback, Some("opinionless")));
}
