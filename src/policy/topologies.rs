//! [`Topologies`]: which endpoints the clients at a place may use, as the topology policies score them.
//!
//! Enter at [`Topologies::ask`]. It has an answer at once, or none yet: a guest is started, configured and asked for all
//! scores away from the caller's thread, once per service port, place and generation, then dropped. A policy that fails is
//! asked again after a pause, without anybody's doing; meanwhile its `onFailure` decides.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustix::time::ClockId;
use tokio::{
    sync::{Semaphore, watch},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use crate::{
    policy::{
        Candidates, Failure, FailureKind, InstanceKey,
        health::{FAILURES_MAX, Health, OUT_OF_USE, OutOfUse, PAUSE_MIN},
        highest,
        library::{Found, Library},
        version::{OnFailure, Version},
        wasm::{WasmPolicy, time},
    },
    route::RouteName,
};

/// What all scores for one place may take of a thread's time, besides the bound of each call.
const SCORES_TIME_MAX: Duration = Duration::from_millis(500);

/// How many places core modules may score at a time, and how many components: one of these takes up to 2 s to start, and
/// the traffic needs the CPU too.
const CORE_MODULES_MAX: usize = 4;
const COMPONENTS_MAX: usize = 2;

/// Asks topology policies, and keeps what they answered.
pub struct Topologies {
    library: Arc<Library>,
    seats: Mutex<BTreeMap<InstanceKey, Seat>>,
    next_number: AtomicU64,
    /// How many answers there have been.
    answers: watch::Sender<u64>,
    core_modules: Arc<Semaphore>,
    components: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// What is asked about the clients at a place.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name of the policy.
    pub policy: Arc<str>,
    /// Changes whenever the candidates do, and is never used for others.
    pub generation: u64,
    /// The endpoints that could be used.
    pub candidates: Candidates,
    /// The clients' zone.
    pub zone: u32,
    /// The clients' node.
    pub node: u32,
}

/// What clients at a place may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These candidates, by index; none resets connections.
    These(Arc<[usize]>),
    /// What they may without a topology policy: it is not loaded, or failed.
    WithoutPolicy,
    /// It is not known yet. Since when it is being found out.
    Pending(Instant),
}

/// The last question of one asker.
struct Seat {
    question: Question,
    /// The version of the policy that is asked; `None` if it is not loaded.
    version: Option<u64>,
    answer: Answer,
    /// Finds out the answer, or waits to ask the policy again.
    task: Option<AbortHandle>,
    /// Which question it is, among all of the process: answers to earlier ones are dropped.
    number: u64,
    failures: Failures,
}

/// Failures in a row of one version.
#[derive(Clone, Default)]
struct Failures {
    count: u32,
    /// It is not asked again before.
    until: Option<Instant>,
    /// There were too many.
    out_of_use: Option<Arc<OutOfUse>>,
}

/// One question that a policy is asked.
struct Asking {
    key: InstanceKey,
    number: u64,
    question: Question,
    version: Arc<Version>,
}

impl Topologies {
    /// For the policies of a library of topology policies.
    pub fn new(library: Arc<Library>) -> Arc<Self> {
        Arc::new(Self {
            library,
            seats: Mutex::default(),
            next_number: AtomicU64::default(),
            answers: watch::Sender::new(0),
            core_modules: Arc::new(Semaphore::new(CORE_MODULES_MAX)),
            components: Arc::new(Semaphore::new(COMPONENTS_MAX)),
            tasks: TaskTracker::new(),
        })
    }

    /// As long as this stays, [`Self::ask`] has the same answer to the same question.
    pub fn changes(&self) -> u64 {
        self.library.changes() + *self.answers.borrow()
    }

    /// Changes whenever an answer is found.
    pub fn answers(&self) -> watch::Receiver<u64> {
        self.answers.subscribe()
    }

    /// Which candidates the clients may use. A new question of an asker takes the place of its last one. A tokio runtime must
    /// be there. May be called under a lock: this waits for nobody.
    pub fn ask(self: &Arc<Self>, key: &InstanceKey, question: &Question) -> Answer {
        let found = self.library.find(&question.policy);
        let mut seats = self.seats.lock();
        let last = seats.get_mut(key);
        let (known, failures) = match (last, &found) {
            (Some(seat), Found::Loaded(version)) if seat.version == Some(version.number) => {
                (seat.is_about(question).then(|| seat.answer.clone()), seat.failures.clone())
            }
            _ => (None, Failures::default()),
        };
        if let Some(answer) = known {
            return answer;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let (version, answer) = match found {
            Found::Loaded(version) => (Some(version), Answer::Pending(now)),
            Found::Rejected => (None, Answer::These(Arc::from([]))),
            Found::Missing => (None, Answer::WithoutPolicy),
        };
        let seat = Seat {
            question: question.clone(),
            version: version.as_ref().map(|version| version.number),
            answer: answer.clone(),
            task: None,
            number,
            failures: failures.clone(),
        };
        let last = seats.insert(key.clone(), seat);
        if let Some(task) = last.and_then(|last| last.task) {
            task.abort();
        }
        let Some(version) = version else {
            drop(seats);
            if answer == Answer::WithoutPolicy {
                self.library.missed(&question.policy, &key.route);
            }
            return answer;
        };
        let asking = Asking { key: key.clone(), number, question: question.clone(), version };
        let topologies = Arc::clone(self);
        let task = self.tasks.spawn(async move { topologies.find_out(&asking, failures).await });
        if let Some(seat) = seats.get_mut(key) {
            seat.task = Some(task.abort_handle());
        }
        answer
    }

    /// Drops what is kept of a service port.
    pub fn forget(&self, route: &RouteName) {
        let first = InstanceKey { route: route.clone(), scope: Arc::from("") };
        let mut seats = self.seats.lock();
        let keys = seats.range(first..).map(|(key, _)| key);
        let keys: Vec<_> = keys.take_while(|key| key.route == *route).cloned().collect();
        for key in keys {
            if let Some(task) = seats.remove(&key).and_then(|seat| seat.task) {
                task.abort();
            }
        }
    }

    /// Asks the policy until it answers.
    async fn find_out(&self, asking: &Asking, mut failures: Failures) {
        let Asking { key, question, version, .. } = asking;
        loop {
            if let Some(until) = failures.until.filter(|until| *until > Instant::now()) {
                let instead = self.instead(asking).await;
                self.settle(asking, instead, failures.clone());
                sleep_until(until).await;
            }
            match self.score(&version.policy, question).await {
                Ok(chosen) => {
                    self.library.scored(version, false);
                    return self.settle(asking, Answer::These(chosen), Failures::default());
                }
                Err(failure) => {
                    self.library.scored(version, true);
                    self.library.failed(version, &key.route, &failure);
                    failures = failures.again(&version.health);
                }
            }
        }
    }

    /// What serves while the policy fails.
    async fn instead(&self, asking: &Asking) -> Answer {
        match (asking.version.on_failure, &asking.version.last_good) {
            (OnFailure::Reject, _) => Answer::These(Arc::from([])),
            (OnFailure::LastGood, Some(policy)) => {
                let chosen = self.score(policy, &asking.question).await;
                chosen.map_or(Answer::WithoutPolicy, Answer::These)
            }
            (OnFailure::Fallback | OnFailure::LastGood, _) => Answer::WithoutPolicy,
        }
    }

    async fn score(
        &self,
        policy: &Arc<WasmPolicy>,
        question: &Question,
    ) -> Result<Arc<[usize]>, Failure> {
        let permits = match policy.program().is_component() {
            true => &self.components,
            false => &self.core_modules,
        };
        let permit = Arc::clone(permits).acquire_owned().await;
        let (policy, question) = (Arc::clone(policy), question.clone());
        let scored = spawn_blocking(move || {
            let _permit = permit;
            score_all(&policy, &question)
        });
        scored
            .await
            .unwrap_or_else(|_panicked| Err(Failure::new(FailureKind::Trap, "its host failed")))
    }

    fn settle(&self, asking: &Asking, answer: Answer, failures: Failures) {
        {
            let mut seats = self.seats.lock();
            let seat = seats.get_mut(&asking.key).filter(|seat| {
                seat.number == asking.number && seat.version == Some(asking.version.number)
            });
            let Some(seat) = seat else { return };
            seat.answer = answer;
            seat.failures = failures;
        }
        self.answers.send_modify(|count| *count += 1);
    }
}

impl Seat {
    fn is_about(&self, question: &Question) -> bool {
        let Question { policy, generation, zone, node, .. } = &self.question;
        (policy, *generation, *zone, *node)
            == (&question.policy, question.generation, question.zone, question.node)
    }
}

impl Failures {
    /// After one more failure.
    fn again(self, health: &Arc<Health>) -> Self {
        let count = self.count.saturating_add(1);
        let is_too_many = count >= FAILURES_MAX;
        let pause = if is_too_many { OUT_OF_USE } else { PAUSE_MIN * 2_u32.pow(self.count) };
        let take_out = || is_too_many.then(|| Arc::new(health.take_out_of_use()));
        let out_of_use = self.out_of_use.or_else(take_out);
        Self { count, until: Instant::now().checked_add(pause), out_of_use }
    }
}

/// Has a throw-away instance score all candidates.
fn score_all(policy: &WasmPolicy, question: &Question) -> Result<Arc<[usize]>, Failure> {
    let Question { generation, candidates, zone, node, .. } = question;
    let mut guest = policy.scorer()?;
    guest.configure(*generation, candidates)?;
    let (began, used) = (time(ClockId::Monotonic), time(ClockId::ThreadCPUTime));
    let mut scores = Vec::with_capacity(candidates.len());
    for index in (0..).take(candidates.len()) {
        scores.push(guest.score(*zone, *node, index)?);
        // The thread's own time costs more to read, and decides: the system may not have let it run.
        let is_late = time(ClockId::Monotonic).saturating_sub(began) > SCORES_TIME_MAX;
        if is_late && time(ClockId::ThreadCPUTime).saturating_sub(used) > SCORES_TIME_MAX {
            let (limit, count) = (SCORES_TIME_MAX.as_millis(), candidates.len());
            let scored = scores.len();
            let reason = format!(
                "score: {scored} of {count} endpoints took longer than the {limit} ms for all"
            );
            return Err(Failure::new(FailureKind::Deadline, reason));
        }
    }
    Ok(highest(&scores).into())
}

#[cfg(test)]
mod tests;
