//! The pods of a Job, counted: what was counted before, what ended since, what still runs.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    batch::v1::{JobSpec, JobStatus, PodFailurePolicyRule, UncountedTerminatedPods},
    core::v1 as core,
};

use crate::{
    controllers::{
        job::{indexes, is_tracked, pods::INDEX},
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
    per_index: bool,
    /// A rule of `podFailurePolicy` fails the Job, for this reason.
    pub(super) fail_job: Option<String>,
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
            fail_job: None,
        };
        let ending = |pod: &&Pod<'_>| pod.object.is_terminating() && !pod.is_finished();
        tally.terminating = pods.iter().filter(ending).count();
        tally.flush(&uncounted, pods);
        for pod in pods.iter().filter(|pod| is_tracked(pod.object)) {
            tally.count(job, spec, pod);
        }
        if let Some(limit) = spec.backoff_limit_per_index {
            tally.count_failed_indexes(limit, pods);
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

    fn count(&mut self, job: &Object, spec: &JobSpec, pod: &Pod<'_>) {
        let uid = pod.object.metadata.uid.clone();
        let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed");
        let index = index_of(pod.object).filter(|i| (0..spec.completions.unwrap_or(0)).contains(i));
        match pod.facts.status.phase.as_str() {
            "Succeeded" if self.indexed => {
                // A second success of an index does not count.
                match index.filter(|index| !self.completed.contains(index)) {
                    Some(index) => {
                        self.completed.insert(index);
                        self.uncounted_succeeded.insert(uid);
                    }
                    None if self.uncounted_succeeded.contains(&uid) => {}
                    None => drop(self.ignored.insert(uid)),
                }
            }
            "Succeeded" => drop(self.uncounted_succeeded.insert(uid)),
            phase if phase == "Failed" || pod.object.is_terminating() && !only_failed => {
                if self.uncounted_failed.contains(&uid) {
                    return;
                }
                match verdict(job, spec, pod) {
                    Verdict::Ignore => drop(self.ignored.insert(uid)),
                    Verdict::Count => drop(self.uncounted_failed.insert(uid)),
                    Verdict::FailIndex => {
                        self.failed_indexes.extend(index);
                        self.uncounted_failed.insert(uid);
                    }
                    Verdict::FailJob(message) => {
                        self.fail_job.get_or_insert(message);
                        self.uncounted_failed.insert(uid);
                    }
                }
            }
            _ => {}
        }
    }

    fn count_failed_indexes(&mut self, limit: i32, pods: &[Pod<'_>]) {
        let mut failures: BTreeMap<i32, i32> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| pod.facts.status.phase == "Failed") {
            let Some(index) = index_of(pod.object) else { continue };
            let count = failures.entry(index).or_default();
            *count += 1;
            if *count > limit {
                self.failed_indexes.insert(index);
            }
        }
        self.failed_indexes.retain(|index| !self.completed.contains(index));
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
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty()
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
        let number = i32::try_from(self.uncounted_failed.len()).unwrap_or(i32::MAX);
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

/// The completion index of a pod.
pub(super) fn index_of(pod: &Object) -> Option<i32> {
    pod.metadata.annotations.get(INDEX)?.parse().ok()
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
        let ended = status.container_statuses.iter().flatten().filter(|container| {
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
