//! The status of a Deployment: counts, the conditions Available and Progressing, and when to look again.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::{
    api::apps::v1::{DeploymentCondition, DeploymentStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::controllers::{
    deployment::{
        Rollout,
        sets::{self, Set},
    },
    replica_set::REPLICA_FAILURE,
};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
/// The reason of a rollout that is done.
const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const DEADLINE_DEFAULT: i32 = 600;

impl Rollout<'_> {
    /// Seconds without progress after which a rollout counts as stuck; `None` for no such limit.
    fn deadline(&self) -> Option<i32> {
        let seconds = self.spec.progress_deadline_seconds.unwrap_or(DEADLINE_DEFAULT);
        (seconds != i32::MAX).then_some(seconds)
    }

    fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Time(self.world.now);
        let mut since = now.clone();
        if let Some(old) = self.condition(kind).filter(|old| old.status == status) {
            if old.reason.as_deref() == Some(reason) {
                return;
            }
            since = old.last_transition_time.clone().unwrap_or(since);
        }
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(since),
            last_update_time: Some(now),
        });
    }

    pub(super) fn set_progressing(&mut self, status: &str, reason: &str, message: &str) {
        if self.deadline().is_some() {
            self.set_condition(PROGRESSING, status, reason, message);
        }
    }

    /// While paused, the clock of the progress deadline stands still.
    pub(super) fn note_pause(&mut self) {
        let reason = self.condition(PROGRESSING).and_then(|c| c.reason.clone()).unwrap_or_default();
        let paused = reason == "DeploymentPaused";
        if reason == TIMED_OUT || paused == self.is_paused() {
            return;
        }
        if paused {
            self.set_progressing("Unknown", "DeploymentResumed", "Deployment is resumed");
        } else {
            self.set_progressing("Unknown", "DeploymentPaused", "Deployment is paused");
        }
    }

    /// All pods are of the present template, and all are available.
    pub(super) fn is_complete(&self) -> bool {
        is_complete(&self.counts(), self.replicas)
    }

    fn counts(&self) -> DeploymentStatus {
        let sum = |count: fn(&Set) -> i32| sets::sum(self.sets.all().map(count));
        let available = sum(Set::available);
        let some = |count: i32| (count > 0).then_some(count);
        DeploymentStatus {
            available_replicas: some(available),
            ready_replicas: some(sum(|set| set.status.ready_replicas.unwrap_or(0))),
            replicas: some(sum(|set| set.status.replicas)),
            terminating_replicas: some(sum(|set| set.status.terminating_replicas.unwrap_or(0))),
            unavailable_replicas: some(self.sets.total().saturating_sub(available)),
            updated_replicas: self.sets.new.as_ref().and_then(|new| some(new.status.replicas)),
            observed_generation: Some(self.object.metadata.generation),
            ..self.status.clone()
        }
    }

    /// Fills in the new status; gives the time until a stuck rollout must be noticed.
    pub(super) fn update_status(&mut self) -> Option<Duration> {
        self.status = self.counts();
        if self.status.available_replicas.unwrap_or(0) >= self.replicas - self.unavailable {
            let message = "Deployment has minimum availability.";
            self.set_condition(AVAILABLE, "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.";
            self.set_condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
        }
        self.copy_replica_failure();
        if self.is_paused() {
            return None;
        }
        let Some(deadline) = self.deadline() else {
            let conditions = self.status.conditions.iter_mut();
            conditions.for_each(|list| list.retain(|condition| condition.type_ != PROGRESSING));
            return None;
        };
        let reason = self.condition(PROGRESSING).and_then(|condition| condition.reason.as_deref());
        let replicas = self.status.replicas.unwrap_or(0);
        let done_before =
            reason == Some(DONE) && replicas == self.status.updated_replicas.unwrap_or(0);
        if done_before {
            return None;
        }
        self.update_progress(deadline)
    }

    /// Shows why a ReplicaSet cannot have its pods, the newest one first.
    fn copy_replica_failure(&mut self) {
        let sets = self.sets.new.iter().chain(&self.sets.old);
        let mut conditions = sets.flat_map(|set| set.status.conditions.iter().flatten());
        let failure = conditions.find(|condition| condition.type_ == REPLICA_FAILURE).cloned();
        let Some(failure) = failure else {
            if let Some(conditions) = &mut self.status.conditions {
                conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
            }
            return;
        };
        let known = self.condition(REPLICA_FAILURE);
        if known.is_some_and(|old| old.status == failure.status && old.reason == failure.reason) {
            return;
        }
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
        conditions.push(DeploymentCondition {
            type_: failure.type_,
            status: failure.status,
            reason: failure.reason,
            message: failure.message,
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time,
        });
    }

    fn update_progress(&mut self, deadline: i32) -> Option<Duration> {
        let subject = match &self.sets.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.object.key.name),
            None => format!("Deployment \"{}\"", self.object.key.name),
        };
        if is_complete(&self.status, self.replicas) && self.sets.new.is_some() {
            let message = format!("{subject} has successfully progressed.");
            self.set_progressing("True", DONE, &message);
            return None;
        }
        if is_progress(&self.old_status, &self.status) {
            self.renew_progress(&format!("{subject} is progressing."));
        } else if self.condition(PROGRESSING).is_none() {
            let message = format!("Found new {subject}").replace("ReplicaSet", "replica set");
            self.set_progressing("True", "FoundNewReplicaSet", &message);
        }
        let condition = self.condition(PROGRESSING)?;
        if matches!(condition.reason.as_deref(), Some(DONE | TIMED_OUT)) {
            return None;
        }
        let updated = condition.last_update_time.as_ref()?.0;
        let waited = self.world.now.duration_since(updated);
        let left = SignedDuration::from_secs(deadline.into()).saturating_sub(waited);
        if left.is_negative() {
            let message = format!("{subject} has timed out progressing.");
            self.set_progressing("False", TIMED_OUT, &message);
            return None;
        }
        // Whole seconds are compared; one more is surely past it.
        let left = Duration::try_from(left).unwrap_or_default();
        Some(left.saturating_add(Duration::from_secs(1)))
    }

    /// Progress was made: the deadline counts from now.
    fn renew_progress(&mut self, message: &str) {
        let old = self.condition(PROGRESSING).filter(|condition| condition.status == "True");
        let since = old.and_then(|condition| condition.last_transition_time.clone());
        if let Some(conditions) = &mut self.status.conditions {
            conditions.retain(|condition| condition.type_ != PROGRESSING);
        }
        self.set_progressing("True", "ReplicaSetUpdated", message);
        let conditions = self.status.conditions.iter_mut().flatten();
        if let (Some(since), Some(condition)) =
            (since, conditions.into_iter().find(|condition| condition.type_ == PROGRESSING))
        {
            condition.last_transition_time = Some(since);
        }
    }
}

fn is_complete(status: &DeploymentStatus, replicas: i32) -> bool {
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|count| count.unwrap_or(0) == replicas)
}

/// More new, fewer old, more ready or more available pods than before.
fn is_progress(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let of = |count: Option<i32>| count.unwrap_or(0);
    let outdated =
        |status: &DeploymentStatus| of(status.replicas).saturating_sub(of(status.updated_replicas));
    of(new.updated_replicas) > of(old.updated_replicas)
        || outdated(new) < outdated(old)
        || of(new.ready_replicas) > of(old.ready_replicas)
        || of(new.available_replicas) > of(old.available_replicas)
}
