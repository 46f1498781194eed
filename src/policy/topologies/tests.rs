//! What topology policies answer, when they are asked again, and what happens when they fail.

use std::sync::atomic::Ordering::Relaxed;

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{self, Receiver},
    time::{advance, timeout},
};

use super::*;
use crate::{
    policy::{
        PolicyKind,
        library::{Info, Source},
        wasm::trial_candidates,
    },
    route::{NamespacedName, Notice, Protocol, notice::NOTICES_MAX},
};

/// No test waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// Scores one endpoint highest.
fn prefers(index: u32) -> Source {
    text(&format!(
        r#"(module (func (export "score") (param i32 i32 i32) (result i32)
             (select (i32.const 2) (i32.const 1) (i32.eq (local.get 2) (i32.const {index})))))"#
    ))
}

/// Excludes all.
fn nobody() -> Source {
    text(r#"(module (func (export "score") (param i32 i32 i32) (result i32) (i32.const 0)))"#)
}

/// Scores the endpoint with the number of the client's zone highest, and logs each score.
fn logs() -> Source {
    text(
        r#"(module
             (import "snowglobe:policy/host@0.1.0" "log" (func $log (param i32 i64)))
             (func (export "score") (param i32 i32 i32) (result i32)
               (call $log (local.get 2) (i64.extend_i32_u (local.get 0)))
               (i32.eq (local.get 2) (local.get 0))))"#,
    )
}

/// Traps when there is a fourth endpoint.
fn traps_at_four() -> Source {
    text(
        r#"(module
             (func (export "configure") (param i64 i32)
               (if (i32.gt_u (local.get 1) (i32.const 3)) (then unreachable)))
             (func (export "score") (param i32 i32 i32) (result i32)
               (select (i32.const 2) (i32.const 1) (i32.eqz (local.get 2)))))"#,
    )
}

fn text(source: &str) -> Source {
    Source::Module(source.as_bytes().to_vec())
}

/// The clients of one node of a service port with a policy.
struct Asker {
    /// Its time stands still but for [`Asker::advance`].
    runtime: Runtime,
    topologies: Arc<Topologies>,
    notices: Receiver<Notice>,
    key: InstanceKey,
    question: Question,
}

impl Asker {
    fn new(policy: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let topologies = Topologies::new(Library::new(sender, None).unwrap().for_topologies());
        let service = NamespacedName { namespace: "default".into(), name: "web".into() };
        let route = RouteName { service, port: 80, protocol: Protocol::Tcp };
        let question = Question {
            policy: policy.into(),
            generation: 1,
            candidates: trial_candidates(3),
            zone: 1,
            node: 1,
        };
        let key = InstanceKey { route, scope: "node-1".into() };
        Self { runtime: runtime.unwrap(), topologies, notices, key, question }
    }

    fn load(&self, source: Source, on_failure: OnFailure) {
        let _time = self.runtime.enter();
        let name = &self.question.policy;
        self.topologies.library.compile(name, source, String::new(), on_failure).unwrap();
    }

    fn with_endpoints(&mut self, count: u16) {
        self.question.generation += 1;
        self.question.candidates = trial_candidates(count);
    }

    fn ask_now(&self) -> Answer {
        let _time = self.runtime.enter();
        self.topologies.ask(&self.key, &self.question)
    }

    /// Asks until there is an answer.
    fn ask(&self) -> Answer {
        let answered = async {
            loop {
                let mut answers = self.topologies.answers();
                match self.topologies.ask(&self.key, &self.question) {
                    Answer::Pending(_) => answers.changed().await.unwrap(),
                    answer => return answer,
                }
            }
        };
        self.runtime.block_on(answered)
    }

    /// Lets time pass, and the next answer come.
    fn next_answer_after(&self, time: Duration) -> Answer {
        let mut answers = self.topologies.answers();
        self.runtime.block_on(async {
            advance(time).await;
            timeout(LONG, answers.changed()).await.expect("another answer").unwrap();
        });
        self.ask()
    }

    fn info(&self) -> Info {
        let all = self.topologies.library.list();
        all.into_iter().find(|info| info.name == *self.question.policy).unwrap()
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }
}

fn these(indices: &[usize]) -> Answer {
    Answer::These(Arc::from(indices))
}

#[test]
fn the_highest_are_chosen() {
    for (scores, expected) in [
        (&[][..], &[][..]),
        (&[0, 0], &[]),
        (&[1, 1], &[0, 1]),
        (&[1, 3, 0, 3], &[1, 3]),
        (&[0, u32::MAX], &[1]),
    ] {
        assert_eq!(highest(scores), expected, "{scores:?}");
    }
}

#[test]
fn scores_are_asked_for_once_per_place_and_generation() {
    let mut asker = Asker::new("mine");
    asker.load(logs(), OnFailure::Fallback);
    assert!(matches!(asker.ask_now(), Answer::Pending(_)));
    assert_eq!(asker.ask(), these(&[1]));
    let scored = |asker: &mut Asker| {
        let logs = asker.notices().into_iter();
        logs.filter(|notice| matches!(notice, Notice::PolicyLog { .. })).count()
    };
    assert_eq!(scored(&mut asker), 3);
    let changes = asker.topologies.changes();
    for _ in 0..3 {
        assert_eq!(asker.ask_now(), these(&[1]));
    }
    assert_eq!((scored(&mut asker), asker.topologies.changes()), (0, changes));
    asker.question.zone = 2;
    assert_eq!(asker.ask(), these(&[2]));
    assert_eq!(scored(&mut asker), 3, "another place");
    asker.with_endpoints(2);
    assert_eq!(asker.ask(), these(&[]));
    assert_eq!(scored(&mut asker), 2, "another generation");
    assert_eq!(asker.info().picks, 3);
}

#[test]
fn another_module_is_asked_at_once() {
    let asker = Asker::new("mine");
    asker.load(prefers(0), OnFailure::Fallback);
    assert_eq!(asker.ask(), these(&[0]));
    let changes = asker.topologies.changes();
    asker.load(prefers(2), OnFailure::Fallback);
    assert_ne!(asker.topologies.changes(), changes, "whoever has the answer can know");
    assert!(matches!(asker.ask_now(), Answer::Pending(_)), "the old answer is not given any more");
    assert_eq!(asker.ask(), these(&[2]));
    asker.load(nobody(), OnFailure::Fallback);
    assert_eq!(asker.ask(), these(&[]));
}

#[test]
fn a_missing_policy_is_told_and_left_out() {
    let mut asker = Asker::new("mine");
    assert_eq!(asker.ask(), Answer::WithoutPolicy);
    let missing = Notice::PolicyMissing {
        kind: PolicyKind::Topology,
        policy: "mine".to_owned(),
        route: asker.key.route.clone(),
    };
    assert_eq!(asker.notices(), [missing]);
    asker.topologies.library.refuse("mine", OnFailure::Reject);
    assert_eq!(asker.ask(), these(&[]), "its connections are to be reset");
    asker.load(prefers(1), OnFailure::Reject);
    assert_eq!(asker.ask(), these(&[1]));
    asker.topologies.library.remove("mine");
    assert_eq!(asker.ask(), Answer::WithoutPolicy);
}

#[test]
fn builtins_need_no_object() {
    let asker = Asker::new("same-zone");
    asker.topologies.library.load_builtins();
    assert_eq!(asker.ask(), these(&[1]), "the endpoint of the trial in zone 1");
}

#[test]
fn failures_are_told_counted_and_tried_again() {
    for (on_failure, instead) in [
        (OnFailure::Fallback, Answer::WithoutPolicy),
        (OnFailure::Reject, these(&[])),
        (OnFailure::LastGood, these(&[1])),
    ] {
        let mut asker = Asker::new("mine");
        asker.load(prefers(1), on_failure);
        assert_eq!(asker.ask(), these(&[1]));
        asker.load(traps_at_four(), on_failure);
        assert_eq!(asker.ask(), these(&[0]));
        asker.with_endpoints(4);
        assert_eq!(asker.ask(), instead, "{on_failure:?}");
        let info = asker.info();
        assert_eq!((info.failures, info.fallbacks), (1, 1));
        let told = Notice::PolicyFailed {
            kind: PolicyKind::Topology,
            policy: "mine".to_owned(),
            route: asker.key.route.clone(),
            reason: info.last_failure.unwrap(),
        };
        assert_eq!(asker.notices(), [told]);
        // It is tried again by itself, after longer and longer pauses.
        assert_eq!(asker.next_answer_after(PAUSE_MIN), instead);
        assert_eq!(asker.info().failures, 2);
        assert_eq!(asker.next_answer_after(PAUSE_MIN * 2), instead);
        assert_eq!(asker.info().failures, 3);
        // Not sooner because the endpoints change.
        asker.with_endpoints(5);
        assert_eq!(asker.ask(), instead);
        assert_eq!(asker.info().failures, 3, "the pause goes on");
        // Endpoints with which it works.
        asker.with_endpoints(2);
        assert_eq!(asker.ask(), instead);
        assert_eq!(asker.next_answer_after(PAUSE_MIN * 4), these(&[0]), "{on_failure:?}");
        assert_eq!(asker.info().failures, 3);
    }
}

#[test]
fn a_new_module_does_not_wait_for_the_pause_of_the_last() {
    let mut asker = Asker::new("mine");
    asker.load(traps_at_four(), OnFailure::Fallback);
    asker.with_endpoints(4);
    assert_eq!(asker.ask(), Answer::WithoutPolicy);
    asker.load(prefers(3), OnFailure::Fallback);
    assert_eq!(asker.ask(), these(&[3]));
}

/// Each score within its bound, all together not.
#[test]
fn a_slow_module_is_ended() {
    let mut asker = Asker::new("mine");
    asker.load(
        text(
            r#"(module (func (export "score") (param i32 i32 i32) (result i32) (local $step i32)
                 (if (i32.gt_u (local.get 2) (i32.const 2)) (then
                   (loop $again
                     (local.set $step (i32.add (local.get $step) (i32.const 1)))
                     (br_if $again (i32.lt_u (local.get $step) (i32.const 2000000))))))
                 (i32.const 1)))"#,
        ),
        OnFailure::Fallback,
    );
    asker.with_endpoints(20_000);
    // Real time passes in the guest.
    assert_eq!(asker.ask(), Answer::WithoutPolicy);
    let reason = asker.info().last_failure.unwrap();
    assert!(reason.contains("of 20000 endpoints took longer than the 500 ms for all"), "{reason}");
}

#[test]
fn what_is_forgotten_is_not_tried_again() {
    let mut asker = Asker::new("mine");
    asker.load(traps_at_four(), OnFailure::Fallback);
    asker.with_endpoints(4);
    assert_eq!(asker.ask(), Answer::WithoutPolicy);
    asker.topologies.forget(&asker.key.route);
    asker.runtime.block_on(async {
        advance(OUT_OF_USE * 2).await;
        asker.topologies.tasks.close();
        timeout(LONG, asker.topologies.tasks.wait()).await.expect("nothing runs any more");
    });
    assert_eq!(asker.info().failures, 1);
    assert!(asker.topologies.seats.lock().is_empty());
    assert_eq!(asker.topologies.next_number.load(Relaxed), 1);
}
