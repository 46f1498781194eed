//! When a Job is over: completed, failed, too late; and what its status tells then.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::batch::v1::JobStatus, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    controllers::{
        Step,
        job::{Work, indexes},
    },
    model::well_known::{JOB_COMPLETE, JOB_FAILED, JOB_FAILURE_TARGET, JOB_SUCCESS_CRITERIA_MET},
};

/// When the Job was over.
pub(super) fn over(status: &JobStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter().flatten();
    let end = conditions
        .find(|c| matches!(c.type_.as_str(), JOB_COMPLETE | JOB_FAILED) && c.status == "True")?;
    let completed = status.completion_time.as_ref().or(end.last_transition_time.as_ref());
    Some(completed.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

impl Work<'_> {
    /// Whether it is decided how the Job ends; decides it when it is time.
    pub(super) fn is_ending(&mut self) -> bool {
        let decided = |kind| self.condition(kind).is_some_and(|c| c.status == "True");
        if decided(JOB_SUCCESS_CRITERIA_MET) || decided(JOB_FAILURE_TARGET) {
            return true;
        }
        if let Some((reason, message)) = self.failure() {
            self.set_condition(JOB_FAILURE_TARGET, true, reason, &message);
            return true;
        }
        if let Some((reason, message)) = self.success() {
            self.set_condition(JOB_SUCCESS_CRITERIA_MET, true, reason, &message);
            return true;
        }
        false
    }

    fn failure(&mut self) -> Option<(&'static str, String)> {
        let told = |reason, message: &str| Some((reason, message.to_owned()));
        if let Some(message) = self.tally.fail_job.clone() {
            return Some(("PodFailurePolicy", message));
        }
        if self.exceeds_backoff_limit() {
            return told("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.is_late() {
            let message = "Job was active longer than specified deadline";
            return told("DeadlineExceeded", message);
        }
        let failed = i32::try_from(self.tally.failed_indexes.len()).unwrap_or(i32::MAX);
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return told("MaxFailedIndexesExceeded", message);
        }
        let done = self.tally.succeeded().saturating_add(failed);
        if failed > 0 && self.spec.completions.is_some_and(|all| done >= all) {
            return told("FailedIndexes", "Job has failed indexes");
        }
        None
    }

    fn exceeds_backoff_limit(&self) -> bool {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.tally.failed() > limit {
            return true;
        }
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let active = self.pods.iter().filter(|pod| pod.is_active());
        let restarts: i64 = active.map(|pod| pod.restarts()).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit.into() }
    }

    fn is_late(&mut self) -> bool {
        let (Some(seconds), Some(start)) =
            (self.spec.active_deadline_seconds, self.status.start_time.clone())
        else {
            return false;
        };
        if self.spec.suspend == Some(true) {
            return false;
        }
        let active = self.world.now.duration_since(start.0);
        let left = SignedDuration::from_secs(seconds).saturating_sub(active);
        if left.is_positive() {
            self.look_again(left);
        }
        !left.is_positive()
    }

    fn success(&self) -> Option<(&'static str, String)> {
        let rules = self.spec.success_policy.iter().flat_map(|policy| &policy.rules);
        for (index, rule) in rules.enumerate() {
            let end = self.spec.completions.unwrap_or(0);
            let wanted = rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, end));
            let done = match &wanted {
                Some(wanted) => wanted.intersection(&self.tally.completed).count(),
                None => self.tally.completed.len(),
            };
            let count = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
            if done >= count.or(wanted.map(|wanted| wanted.len())).unwrap_or(usize::MAX) {
                return Some(("SuccessPolicy", format!("Matched rules at index {index}")));
            }
        }
        let succeeded = self.tally.succeeded();
        let complete = match self.spec.completions {
            Some(wanted) => succeeded >= wanted,
            // Without a number, the first success ends the work; who is still at it may finish.
            None => succeeded > 0 && self.tally.active == 0,
        };
        let message = "Reached expected number of succeeded pods";
        complete.then(|| ("CompletionsReached", message.to_owned()))
    }

    /// Once all pods have ended and are counted, the Job is over.
    pub(super) fn finish(&mut self, nothing_to_delete: bool) {
        let running = self.tally.active > 0 || self.tally.terminating > 0;
        if !nothing_to_delete || running || !self.tally.is_settled() {
            return;
        }
        let decided = |kind| self.condition(kind).filter(|c| c.status == "True").cloned();
        let text = |text: Option<String>| text.unwrap_or_default();
        if let Some(condition) = decided(JOB_SUCCESS_CRITERIA_MET) {
            let (reason, message) = (text(condition.reason), text(condition.message));
            self.set_condition(JOB_COMPLETE, true, &reason, &message);
            self.status.completion_time = Some(Time(self.world.now));
            self.notes.push(Step::note(self.object, "Completed", "Job completed".to_owned()));
        } else if let Some(condition) = decided(JOB_FAILURE_TARGET) {
            let (reason, message) = (text(condition.reason), text(condition.message));
            self.set_condition(JOB_FAILED, true, &reason, &message);
            let reason = match reason.as_str() {
                "BackoffLimitExceeded" => "BackoffLimitExceeded",
                "DeadlineExceeded" => "DeadlineExceeded",
                "PodFailurePolicy" => "PodFailurePolicy",
                "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
                _ => "FailedIndexes",
            };
            self.notes.push(Step::warning(self.object, reason, message));
        }
    }
}
