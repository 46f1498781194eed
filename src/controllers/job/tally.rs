//! The pods of a Job, counted: what was counted before, what ended since, what still runs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{JobSpec, JobStatus, PodFailurePolicyRule, UncountedTerminatedPods},
    core::v1 as core,
};

use crate::{
    controllers::{
        job::{
            annotations::{FAILURES, IGNORED_FAILURES, counter, index_of},
            indexes, is_tracked,
        },
        pod::Pod,
        replica_set::some,
    },
    model::Object,
};

pub(super) struct Tally {
    /// Pods whose end is counted for ever.
    succeeded: i32,
    failed: i32,
    /// Uids of pods that are being counted.
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    /// Ended pods that count as nothing.
    ignored: BTreeSet<String>,
    pub(super) active: usize,
    ready: usize,
    pub(super) terminating: usize,
    indexed: bool,
    pub(super) completed: BTreeSet<i32>,
    pub(super) failed_indexes: BTreeSet<i32>,
    pub(super) per_index: bool,
    /// By index, the failed pod that is not counted yet, since its replacement shall know how often the index failed.
    delayed: BTreeMap<i32, Failure>,
    /// A rule of `podFailurePolicy` fails the Job, for this reason.
    pub(super) fail_job: Option<String>,
}

/// A failed pod of an index that may be tried again.
pub(super) struct Failure {
    uid: String,
    /// How often the index failed, with this one, and how often that was ignored.
    pub(super) failures: i32,
    pub(super) ignored: i32,
    pub(super) ended: Timestamp,
    /// Whether it counts for the Job.
    counts: bool,
}

enum Verdict {
    Count,
    Ignore,
    FailIndex,
    FailJob(String),
}

impl Tally {
    pub(super) fn new(job: &Object, spec: &JobSpec, status: &JobStatus, pods: &[Pod<'_>]) -> Self {
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let end = spec.completions.unwrap_or(0);
        let set = |text: &Option<String>| indexes::parse(text.as_deref().unwrap_or(""), end);
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let mut tally = Self {
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            uncounted_succeeded: BTreeSet::new(),
            uncounted_failed: BTreeSet::new(),
            ignored: BTreeSet::new(),
            active: pods.iter().filter(|pod| pod.is_active()).count(),
            ready: pods.iter().filter(|pod| pod.is_active() && pod.is_ready()).count(),
            terminating: 0,
            indexed,
            completed: set(&status.completed_indexes),
            failed_indexes: set(&status.failed_indexes),
            per_index: spec.backoff_limit_per_index.is_some(),
            delayed: BTreeMap::new(),
            fail_job: None,
        };
        let ending = |pod: &&Pod<'_>| pod.object.is_terminating() && !pod.is_finished();
        tally.terminating = pods.iter().filter(ending).count();
        tally.flush(&uncounted, pods);
        let tracked: Vec<_> = pods.iter().filter(|pod| is_tracked(pod.object)).collect();
        for pod in &tracked {
            tally.count_success(spec, pod);
        }
        let failed: Vec<_> = tracked.into_iter().filter(|pod| has_failed(spec, pod)).collect();
        if let Some(limit) = spec.backoff_limit_per_index {
            tally.judge_indexes(job, spec, limit, &failed);
            tally.delay(job, spec, pods, &failed);
        }
        for pod in failed {
            if !tally.delayed.values().any(|last| last.uid == pod.object.metadata.uid) {
                tally.count_failure(job, spec, pod);
            }
        }
        tally
    }

    /// Pods that were noted before and have lost their finalizer since are counted for good.
    fn flush(&mut self, noted: &UncountedTerminatedPods, pods: &[Pod<'_>]) {
        let tracked: BTreeSet<&str> = pods
            .iter()
            .filter(|pod| is_tracked(pod.object))
            .map(|pod| pod.object.metadata.uid.as_str())
            .collect();
        for uid in noted.succeeded.iter().flatten() {
            if tracked.contains(uid.as_str()) {
                self.uncounted_succeeded.insert(uid.clone());
            } else {
                self.succeeded = self.succeeded.saturating_add(1);
            }
        }
        for uid in noted.failed.iter().flatten() {
            if tracked.contains(uid.as_str()) {
                self.uncounted_failed.insert(uid.clone());
            } else {
                self.failed = self.failed.saturating_add(1);
            }
        }
    }

    fn count_success(&mut self, spec: &JobSpec, pod: &Pod<'_>) {
        let uid = pod.object.metadata.uid.clone();
        if pod.facts.status.phase != "Succeeded" {
            return;
        }
        if !self.indexed {
            self.uncounted_succeeded.insert(uid);
            return;
        }
        // A second success of an index does not count.
        match valid_index(spec, pod).filter(|index| !self.completed.contains(index)) {
            Some(index) => {
                self.completed.insert(index);
                self.uncounted_succeeded.insert(uid);
            }
            None if self.uncounted_succeeded.contains(&uid) => {}
            None => drop(self.ignored.insert(uid)),
        }
    }

    fn count_failure(&mut self, job: &Object, spec: &JobSpec, pod: &Pod<'_>) {
        let uid = pod.object.metadata.uid.clone();
        if self.uncounted_failed.contains(&uid) {
            return;
        }
        if self.indexed && valid_index(spec, pod).is_none() {
            self.ignored.insert(uid);
            return;
        }
        match verdict(job, spec, pod) {
            Verdict::Ignore => drop(self.ignored.insert(uid)),
            Verdict::Count | Verdict::FailIndex => drop(self.uncounted_failed.insert(uid)),
            Verdict::FailJob(message) => {
                self.fail_job.get_or_insert(message);
                self.uncounted_failed.insert(uid);
            }
        }
    }

    /// Which indexes have failed for good: more often than they may, or by a rule of `podFailurePolicy`.
    fn judge_indexes(&mut self, job: &Object, spec: &JobSpec, limit: i32, failed: &[&Pod<'_>]) {
        for pod in failed {
            let Some(index) = valid_index(spec, pod) else { continue };
            let lost = match verdict(job, spec, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => counter(pod.object, FAILURES) >= limit,
            };
            if lost && !self.completed.contains(&index) {
                self.failed_indexes.insert(index);
            }
        }
    }

    /// Holds the last failed pod of each index that is to be tried again and has no new pod yet.
    fn delay(&mut self, job: &Object, spec: &JobSpec, pods: &[Pod<'_>], failed: &[&Pod<'_>]) {
        let active = pods.iter().filter(|pod| pod.is_active());
        let active: BTreeSet<i32> = active.filter_map(|pod| index_of(pod.object)).collect();
        for pod in failed {
            let Some(index) = valid_index(spec, pod) else { continue };
            if active.contains(&index)
                || self.completed.contains(&index)
                || self.failed_indexes.contains(&index)
            {
                continue;
            }
            let counts = match verdict(job, spec, pod) {
                Verdict::FailJob(_) => continue,
                verdict => !matches!(verdict, Verdict::Ignore),
            };
            let (failures, ignored) =
                (counter(pod.object, FAILURES), counter(pod.object, IGNORED_FAILURES));
            let failure = Failure {
                uid: pod.object.metadata.uid.clone(),
                failures: failures.saturating_add(i32::from(counts)),
                ignored: ignored.saturating_add(i32::from(!counts)),
                ended: pod.ended_at(),
                counts: counts && !self.uncounted_failed.contains(&pod.object.metadata.uid),
            };
            let known = self.delayed.get(&index);
            if known.is_none_or(|known| {
                known.tries() <= failure.tries() && known.ended <= failure.ended
            }) {
                self.delayed.insert(index, failure);
            }
        }
    }

    /// The failed pod of an index that waits for its replacement.
    pub(super) fn last_failure(&self, index: i32) -> Option<&Failure> {
        self.delayed.get(&index)
    }

    /// Counts the pods that no replacement follows, since the Job ends.
    pub(super) fn count_delayed(&mut self, job: &Object, spec: &JobSpec, pods: &[Pod<'_>]) {
        let delayed = std::mem::take(&mut self.delayed);
        let uids: BTreeSet<String> = delayed.into_values().map(|last| last.uid).collect();
        for pod in pods.iter().filter(|pod| uids.contains(&pod.object.metadata.uid)) {
            self.count_failure(job, spec, pod);
        }
    }

    /// Whether the end of this pod is written down, so that it need not be kept.
    pub(super) fn releases(&self, pod: &Pod<'_>) -> bool {
        let uid = &pod.object.metadata.uid;
        is_tracked(pod.object)
            && (self.uncounted_succeeded.contains(uid)
                || self.uncounted_failed.contains(uid)
                || self.ignored.contains(uid))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.uncounted_succeeded.is_empty()
            && self.uncounted_failed.is_empty()
            && self.delayed.is_empty()
    }

    /// Pods that succeeded; of an indexed Job, indexes.
    pub(super) fn succeeded(&self) -> i32 {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        if self.indexed {
            return number(self.completed.len());
        }
        self.succeeded.saturating_add(number(self.uncounted_succeeded.len()))
    }

    pub(super) fn failed(&self) -> i32 {
        let delayed = self.delayed.values().filter(|last| last.counts).count();
        let number = i32::try_from(self.uncounted_failed.len() + delayed).unwrap_or(i32::MAX);
        self.failed.saturating_add(number)
    }

    pub(super) fn write(&self, status: &mut JobStatus) {
        let list = |set: &BTreeSet<String>| {
            (!set.is_empty()).then(|| set.iter().cloned().collect::<Vec<_>>())
        };
        let positive = |number: i32| (number > 0).then_some(number);
        status.active = some(self.active);
        status.ready = Some(i32::try_from(self.ready).unwrap_or(i32::MAX));
        status.terminating = Some(i32::try_from(self.terminating).unwrap_or(i32::MAX));
        let succeeded = if self.indexed { self.succeeded() } else { self.succeeded };
        status.succeeded = positive(succeeded);
        status.failed = positive(self.failed);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
        if self.indexed {
            let text = Some(indexes::format(&self.completed));
            status.completed_indexes = text.filter(|text| !text.is_empty());
        }
        if self.per_index {
            status.failed_indexes = Some(indexes::format(&self.failed_indexes));
        }
    }
}

/// The completion index of a pod, when the Job has it.
fn valid_index(spec: &JobSpec, pod: &Pod<'_>) -> Option<i32> {
    index_of(pod.object).filter(|index| (0..spec.completions.unwrap_or(0)).contains(index))
}

/// Failed, or on its way out where that counts as much: an orphan never gets as far as to fail.
fn has_failed(spec: &JobSpec, pod: &Pod<'_>) -> bool {
    let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed");
    match pod.facts.status.phase.as_str() {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.object.is_terminating() && !only_failed,
    }
}

impl Failure {
    /// How often the index was tried.
    pub(super) fn tries(&self) -> i32 {
        self.failures.saturating_add(self.ignored)
    }
}

/// The first rule of `podFailurePolicy` that fits a failed pod.
fn verdict(job: &Object, spec: &JobSpec, pod: &Pod<'_>) -> Verdict {
    let Some(policy) = &spec.pod_failure_policy else { return Verdict::Count };
    let Ok(typed) = pod.object.parse::<core::Pod>() else { return Verdict::Count };
    let status = typed.status.unwrap_or_default();
    for (index, rule) in policy.rules.iter().enumerate() {
        let Some(cause) = matched(rule, &status) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => {
                let (namespace, name) = (&job.key.namespace, &pod.object.key.name);
                let cause = cause.replace("{pod}", &format!("{namespace}/{name}"));
                Verdict::FailJob(format!("{cause} matching FailJob rule at index {index}"))
            }
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matched(rule: &PodFailurePolicyRule, status: &core::PodStatus) -> Option<String> {
    if let Some(wanted) = &rule.on_exit_codes {
        let (main, init) = (&status.container_statuses, &status.init_container_statuses);
        let ended = main.iter().flatten().chain(init.iter().flatten()).filter(|container| {
            wanted.container_name.as_ref().is_none_or(|name| *name == container.name)
        });
        return ended.into_iter().find_map(|container| {
            let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
            let listed = wanted.values.contains(&code);
            let fits = code != 0 && listed == (wanted.operator == "In");
            fits.then(|| {
                format!("Container {} for pod {{pod}} failed with exit code {code}", container.name)
            })
        });
    }
    rule.on_pod_conditions.iter().flatten().find_map(|wanted| {
        let mut conditions = status.conditions.iter().flatten();
        let status = wanted.status.as_deref().unwrap_or("True");
        let fits = conditions.any(|c| c.type_ == wanted.type_ && c.status == status);
        fits.then(|| format!("Pod {{pod}} has condition {}", wanted.type_))
    })
}
