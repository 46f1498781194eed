//! Jobs: pods that run to completion, counted once each.
//!
//! A pod carries a finalizer until it is counted: its uid goes into `status.uncountedTerminatedPods`, then the finalizer is
//! taken away, then the counter rises. Each step is a write of its own, so that a restart in between loses nothing.
//! [`tally`] looks at the pods, [`finish`] decides whether the Job is over, [`pods`] makes new ones.

mod annotations;
mod finish;
mod indexes;
mod pods;
mod tally;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, earlier, finalizers::without_finalizer,
        itself, ownership, pod::Pod,
    },
    model::{
        LabelSelector, Object, ObjectKey, kind,
        well_known::{JOB_NAME_LABEL, JOB_SUSPENDED},
    },
    registry::{Propagation, View},
};

use tally::Tally;

/// Keeps a pod until it is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Jobs that name another controller are left alone.
const OWN_NAME: &str = "kubernetes.io/job-controller";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "job-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::JOB), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: jobs_of_pod },
    ],
    plan,
};

fn jobs_of_pod(view: &View, pod: &Object) -> Vec<ObjectKey> {
    let mut keys = ownership::managers(view, &kind::JOB, pod);
    if is_tracked(pod) && pod.controller().is_none() {
        // Its Job may be gone and have left it behind.
        let name = pod.metadata.labels.get(JOB_NAME_LABEL);
        keys.extend(
            name.map(|name| ObjectKey::new(&kind::JOB, &*pod.key.namespace, name.as_str())),
        );
    }
    keys
}

/// One Job as a plan sees it.
struct Work<'a> {
    world: &'a World<'a>,
    object: &'a Object,
    spec: &'a JobSpec,
    pods: Vec<Pod<'a>>,
    /// What the status becomes.
    status: JobStatus,
    tally: Tally,
    /// When to look again, and why one must wait.
    requeue: Option<Duration>,
    /// Events.
    notes: Vec<Step>,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let freed = Plan::all(
        abandoned(world.view, key)
            .into_iter()
            .map(|pod| without_finalizer(pod, TRACKING))
            .collect(),
    );
    if !freed.steps.is_empty() {
        return freed;
    }
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(job) = world.view.parse::<Job>(key) else { return Plan::nothing() };
    let Some(spec) = &job.spec else { return Plan::nothing() };
    if spec.managed_by.as_deref().is_some_and(|name| name != OWN_NAME) {
        return Plan::nothing();
    }
    let status = job.status.clone().unwrap_or_default();
    if let Some(over) = finish::over(&status) {
        return after_the_end(world, object, spec, over);
    }
    let Some(selector) = &spec.selector else { return Plan::nothing() };
    let (_selector, claimed) = match ownership::selected(world.view, &kind::POD, object, selector) {
        Ok(selected) => selected,
        Err(plan) => return plan,
    };
    let pods: Vec<_> = claimed.into_iter().map(Pod::of).collect();
    let tally = Tally::new(object, spec, &status, &pods);
    let work = Work { world, object, spec, pods, status, tally, requeue: None, notes: Vec::new() };
    work.plan(job.status.as_ref())
}

/// Pods that still wait to be counted by a Job that is gone.
fn abandoned<'a>(view: &'a View, job: &ObjectKey) -> Vec<&'a Object> {
    let uid = view.get(job).map(|job| job.metadata.uid.as_str());
    let was_its = |pod: &&Arc<Object>| match pod.controller() {
        Some(owner) => {
            owner.kind == "Job" && owner.name == job.name && Some(owner.uid.as_str()) != uid
        }
        None => uid.is_none(),
    };
    let label = BTreeMap::from([(JOB_NAME_LABEL.to_owned(), job.name.clone())]);
    let selector = LabelSelector::from_map(&label);
    let pods = view.matching(&kind::POD, &job.namespace, &selector);
    pods.filter(|pod| is_tracked(pod)).filter(was_its).map(AsRef::as_ref).collect()
}

fn is_tracked(pod: &Object) -> bool {
    pod.has_finalizer(TRACKING)
}

/// A Job that is over: its last pods are let go, and after `ttlSecondsAfterFinished` it goes itself.
fn after_the_end(world: &World<'_>, object: &Object, spec: &JobSpec, over: Timestamp) -> Plan {
    let namespace = object.key.namespace.as_str();
    let pods = world.view.controlled_by(&kind::POD, namespace, &object.metadata.uid);
    let kept: Vec<_> =
        pods.filter(|pod| is_tracked(pod)).map(|pod| without_finalizer(pod, TRACKING)).collect();
    let mut plan = Plan::all(kept);
    if let Some(ttl) = spec.ttl_seconds_after_finished
        && !object.is_terminating()
    {
        let left =
            SignedDuration::from_secs(ttl.into()).saturating_sub(world.now.duration_since(over));
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => plan.requeue = Some(left),
            _ => plan.steps.push(Step::Delete {
                key: object.key.clone(),
                uid: object.metadata.uid.clone(),
                propagation: Propagation::Foreground,
            }),
        }
    }
    plan
}

impl Work<'_> {
    fn plan(mut self, old: Option<&JobStatus>) -> Plan {
        let ending = self.is_ending();
        if ending || self.object.is_terminating() {
            self.tally.count_delayed(self.object, self.spec, &self.pods);
        }
        self.tally.write(&mut self.status);
        let suspended = !ending && self.spec.suspend == Some(true);
        let mut changes = Vec::new();
        if !self.object.is_terminating() {
            self.note_suspension(suspended);
            if ending || suspended {
                changes = self.delete_pods(|_| true);
            } else {
                changes = self.manage();
            }
        }
        if ending {
            self.finish(changes.is_empty());
        }
        let mut steps = Vec::new();
        if old != Some(&self.status) {
            steps.extend(Step::status(self.object, &self.status));
        }
        // Counted by now: nothing holds them any more.
        let counted = self.pods.iter().filter(|pod| self.tally.releases(pod));
        steps.extend(
            Plan::all(counted.map(|pod| without_finalizer(pod.object, TRACKING)).collect()).steps,
        );
        steps.extend(Plan::all(changes).steps);
        steps.extend(Plan::all(self.notes).steps);
        Plan { steps, requeue: self.requeue }
    }

    /// Looks again no later than after this time.
    fn look_again(&mut self, after: SignedDuration) {
        let after = Duration::try_from(after).unwrap_or_default().max(Duration::from_millis(1));
        self.requeue = earlier(self.requeue, after);
    }

    fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    fn set_condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let now = Some(Time(self.world.now));
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: now.clone(),
            last_transition_time: now,
        });
    }

    /// While a Job is suspended, its clock stands still.
    fn note_suspension(&mut self, suspended: bool) {
        let noted = self.condition(JOB_SUSPENDED).is_some_and(|c| c.status == "True");
        match (suspended, noted) {
            (true, false) => {
                self.status.start_time = None;
                self.set_condition(JOB_SUSPENDED, true, "JobSuspended", "Job suspended");
                let note = Step::note(self.object, "Suspended", "Job suspended".to_owned());
                self.notes.push(note);
            }
            (false, true) if self.spec.suspend != Some(true) => {
                self.status.start_time = Some(Time(self.world.now));
                self.set_condition(JOB_SUSPENDED, false, "JobResumed", "Job resumed");
                self.notes.push(Step::note(self.object, "Resumed", "Job resumed".to_owned()));
            }
            _ => {}
        }
        if !suspended && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.world.now));
        }
    }
}

#[cfg(test)]
mod tests;
