//! The pods of a Job: how many there should be, which go, and what a new one looks like.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use crate::{
    controllers::{
        Step, earlier,
        job::{
            TRACKING, Work,
            annotations::{FAILURES, IGNORED_FAILURES, INDEX, index_of},
        },
        pod::Pod,
        template,
    },
    model::kind,
};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Pods that one plan creates or deletes at most, as in Kubernetes.
const BURST: usize = 500;
/// Pause after the first failure; doubled with each further one.
const BACK_OFF_MIN: SignedDuration = SignedDuration::from_secs(10);
const BACK_OFF_MAX: SignedDuration = SignedDuration::from_mins(10);
const DOUBLINGS_MAX: u32 = 10;

impl Work<'_> {
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// Creates or deletes pods, so that as many work as should.
    pub(super) fn manage(&mut self) -> Vec<Step> {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let (active, succeeded) = (self.tally.active, self.tally.succeeded());
        let wanted = match self.spec.completions {
            Some(all) => {
                let failed = i32::try_from(self.tally.failed_indexes.len()).unwrap_or(i32::MAX);
                let left = all.saturating_sub(succeeded).saturating_sub(failed);
                usize::try_from(left).unwrap_or(0).min(parallelism)
            }
            None if succeeded > 0 => active,
            None => parallelism,
        };
        let doubled = self.doubled();
        if active > wanted || !doubled.is_empty() {
            let mut surplus: Vec<_> = self.pods.iter().filter(|pod| pod.is_active()).collect();
            surplus.sort_by_key(|pod| (pod.is_ready(), Reverse(pod.created())));
            let count = active.saturating_sub(wanted);
            let chosen: BTreeSet<String> = surplus
                .into_iter()
                .take(count)
                .map(|pod| pod.object.metadata.uid.clone())
                .chain(doubled)
                .collect();
            return self.delete_pods(|pod| chosen.contains(&pod.object.metadata.uid));
        }
        // Pods on their way out count when only ended ones may be replaced.
        let only_failed = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let held = if only_failed { active + self.tally.terminating } else { active };
        let missing = wanted.saturating_sub(held).min(BURST);
        // With back-off per index, each index waits for itself.
        let wait = if self.tally.per_index { SignedDuration::ZERO } else { self.back_off() };
        if missing == 0 || wait.is_positive() {
            if missing > 0 {
                self.look_again(wait);
            }
            return Vec::new();
        }
        self.create(missing)
    }

    /// Pods that work on an index that another one works on, or that there is not.
    fn doubled(&self) -> Vec<String> {
        if !self.is_indexed() {
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let end = self.spec.completions.unwrap_or(0);
        let mut taken = |index: i32| (0..end).contains(&index) && seen.insert(index);
        let active = self.pods.iter().filter(|pod| pod.is_active());
        active
            .filter(|pod| !index_of(pod.object).is_some_and(&mut taken))
            .map(|pod| pod.object.metadata.uid.clone())
            .collect()
    }

    /// How long to wait after failures in a row.
    fn back_off(&self) -> SignedDuration {
        let mut ends: Vec<(Timestamp, bool)> = self
            .pods
            .iter()
            .filter(|pod| pod.is_finished())
            .map(|pod| (pod.ended_at(), pod.facts.status.phase == "Failed"))
            .collect();
        ends.sort_unstable();
        let failures = ends.iter().rev().take_while(|(_, failed)| *failed).count();
        let Some((last, true)) = ends.last().copied() else { return SignedDuration::ZERO };
        pause(failures).saturating_sub(self.world.now.duration_since(last))
    }

    /// Those of the indexes that need not wait after their last failure; sees to it that the others get their turn.
    fn due(&mut self, indexes: Vec<i32>) -> Vec<i32> {
        let mut due = Vec::new();
        let mut wait: Option<SignedDuration> = None;
        for index in indexes {
            let left = self.tally.last_failure(index).map_or(SignedDuration::ZERO, |last| {
                let tries = usize::try_from(last.tries()).unwrap_or(0);
                pause(tries).saturating_sub(self.world.now.duration_since(last.ended))
            });
            if left.is_positive() {
                wait = earlier(wait, left);
            } else {
                due.push(index);
            }
        }
        if let Some(wait) = wait {
            self.look_again(wait);
        }
        due
    }

    /// Deletes active pods.
    pub(super) fn delete_pods(&mut self, chosen: impl Fn(&Pod<'_>) -> bool) -> Vec<Step> {
        let active = self.pods.iter().filter(|pod| pod.is_active() && chosen(pod)).take(BURST);
        let mut steps = Vec::new();
        for pod in active {
            let message = format!("Deleted pod: {}", pod.object.key.name);
            self.notes.push(Step::note(self.object, "SuccessfulDelete", message));
            steps.push(Step::delete(pod.object));
        }
        steps
    }

    fn create(&mut self, count: usize) -> Vec<Step> {
        let indexes: Vec<Option<i32>> = if self.is_indexed() {
            let busy: BTreeSet<i32> = self
                .pods
                .iter()
                .filter(|pod| pod.is_active())
                .filter_map(|pod| index_of(pod.object))
                .collect();
            let open = |index: &i32| {
                !busy.contains(index)
                    && !self.tally.completed.contains(index)
                    && !self.tally.failed_indexes.contains(index)
            };
            let open = (0..self.spec.completions.unwrap_or(0)).filter(open);
            let open = open.take(count).collect();
            self.due(open).into_iter().map(Some).collect()
        } else {
            vec![None; count]
        };
        let mut steps = Vec::new();
        for (n, index) in indexes.into_iter().enumerate() {
            let pod = self.pod(index, n);
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!("Created pod: {name}");
            self.notes.push(Step::note(self.object, "SuccessfulCreate", message));
            steps.push(Step::Create(kind::POD.clone(), pod));
        }
        steps
    }

    fn pod(&self, index: Option<i32>, n: usize) -> Value {
        let mut template = self.spec.template.clone();
        let job = &self.object.key.name;
        let base = match index {
            None => format!("{job}-"),
            Some(index) => {
                if let Some(spec) = &mut template.spec {
                    spec.hostname = Some(format!("{job}-{index}"));
                    let inits = spec.init_containers.iter_mut().flatten();
                    spec.containers.iter_mut().chain(inits).for_each(add_index);
                }
                format!("{job}-{index}-")
            }
        };
        let mut pod = template::pod(&template, self.object);
        let metadata = &mut pod["metadata"];
        if let Some(index) = index {
            metadata["annotations"][INDEX] = index.to_string().into();
            metadata["labels"][INDEX] = index.to_string().into();
            if self.tally.per_index {
                let last = self.tally.last_failure(index);
                let (failures, ignored) = last.map_or((0, 0), |last| (last.failures, last.ignored));
                metadata["annotations"][FAILURES] = failures.to_string().into();
                if ignored > 0 {
                    metadata["annotations"][IGNORED_FAILURES] = ignored.to_string().into();
                }
            }
        }
        match metadata["finalizers"].as_array_mut() {
            Some(finalizers) => finalizers.push(TRACKING.into()),
            None => metadata["finalizers"] = json!([TRACKING]),
        }
        let seeds = (&self.object.metadata.uid, self.world.now, self.pods.len(), n);
        metadata["name"] = template::generated_name(&base, &seeds).into();
        metadata["generateName"] = base.into();
        pod
    }
}

/// Tells a container its index.
fn add_index(container: &mut core::Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field_path = format!("metadata.labels['{INDEX}']");
    let field_ref = Some(core::ObjectFieldSelector { field_path, ..<_>::default() });
    variables.push(core::EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(core::EnvVarSource { field_ref, ..<_>::default() }),
        ..<_>::default()
    });
}

/// How long to wait after so many failures in a row.
fn pause(failures: usize) -> SignedDuration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    BACK_OFF_MIN.saturating_mul(1 << doublings.min(DOUBLINGS_MAX)).min(BACK_OFF_MAX)
}
