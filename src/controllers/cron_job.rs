//! CronJobs: a Job at each scheduled time, as far as deadline and concurrency policy allow.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job, JobStatus},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership, to_value},
    model::{
        Object, ObjectKey, kind,
        schedule::{self, Schedule},
        time::time_text,
        well_known::{JOB_COMPLETE, JOB_FAILED},
    },
    registry::View,
};

/// The time that a Job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are worth a warning.
const MISSED_MAX: usize = 100;

pub(crate) static CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::CRON_JOB), keys: itself },
        Trigger { kind: Some(&kind::JOB), keys: cron_jobs_of },
    ],
    plan,
};

fn cron_jobs_of(_: &View, job: &Object) -> Vec<ObjectKey> {
    let owner = job.controller().filter(|owner| owner.kind == kind::CRON_JOB.kind);
    let key = |name: &str| ObjectKey::new(&kind::CRON_JOB, &*job.key.namespace, name);
    owner.map(|owner| key(&owner.name)).into_iter().collect()
}

/// One Job of a CronJob.
struct Run<'a> {
    object: &'a Object,
    status: JobStatus,
}

/// One CronJob as a plan sees it.
struct Cron<'a> {
    world: &'a World<'a>,
    object: &'a Object,
    spec: &'a CronJobSpec,
    status: CronJobStatus,
    runs: Vec<Run<'a>>,
    steps: Vec<Step>,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|object| !object.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(parsed) = world.view.parse::<CronJob>(key) else { return Plan::nothing() };
    let jobs = world.view.controlled_by(&kind::JOB, &key.namespace, &object.metadata.uid);
    let runs = jobs.filter_map(|object| {
        let status = object.parse::<Job>().ok()?.status.unwrap_or_default();
        Some(Run { object, status })
    });
    let old = parsed.status.clone().unwrap_or_default();
    let (runs, steps) = (runs.collect(), Vec::new());
    let mut cron = Cron { world, object, spec: &parsed.spec, status: old.clone(), runs, steps };
    cron.observe();
    let requeue = cron.fire();
    cron.clean_up();
    if cron.status != old {
        cron.steps.extend(Step::status(object, &cron.status));
    }
    Plan { steps: cron.steps, requeue }
}

impl Run<'_> {
    fn ended(&self) -> Option<&str> {
        let mut conditions = self.status.conditions.iter().flatten();
        let end = conditions.find(|condition| {
            condition.status == "True"
                && matches!(condition.type_.as_str(), JOB_COMPLETE | JOB_FAILED)
        });
        end.map(|condition| condition.type_.as_str())
    }

    fn is_active(&self) -> bool {
        self.ended().is_none()
    }

    fn reference(&self) -> ObjectReference {
        let key = &self.object.key;
        ObjectReference {
            api_version: Some(key.kind.api_version()),
            kind: Some(key.kind.kind.to_string()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            resource_version: Some(self.object.revision.to_string()),
            uid: Some(self.object.metadata.uid.clone()),
            ..<_>::default()
        }
    }
}

impl Cron<'_> {
    /// Takes over what became of the Jobs.
    fn observe(&mut self) {
        let was_active = self.status.active.take().unwrap_or_default();
        for reference in &was_active {
            let run = self
                .runs
                .iter()
                .find(|run| Some(&run.object.metadata.uid) == reference.uid.as_ref());
            let name = reference.name.clone().unwrap_or_default();
            match run.map(|run| run.ended()) {
                None => {
                    let message = format!("Active job went missing: {name}");
                    self.steps.push(Step::note(self.object, "MissingJob", message));
                }
                Some(Some(end)) => {
                    let message = format!("Saw completed job: {name}, condition: {end}");
                    self.steps.push(Step::note(self.object, "SawCompletedJob", message));
                }
                Some(None) => {}
            }
        }
        // A reference keeps the version that it was made with.
        let kept = |run: &Run<'_>| {
            let uid = Some(&run.object.metadata.uid);
            was_active.iter().find(|reference| reference.uid.as_ref() == uid).cloned()
        };
        let active = self.runs.iter().filter(|run| run.is_active());
        let active: Vec<_> =
            active.map(|run| kept(run).unwrap_or_else(|| run.reference())).collect();
        self.status.active = (!active.is_empty()).then_some(active);
        let succeeded = self.runs.iter().filter(|run| run.ended() == Some(JOB_COMPLETE));
        let last = succeeded.filter_map(|run| run.status.completion_time.clone()).max();
        if last > self.status.last_successful_time {
            self.status.last_successful_time = last;
        }
    }

    /// Makes the Job that is due, and tells when to look again.
    fn fire(&mut self) -> Option<Duration> {
        if self.spec.suspend == Some(true) {
            return None;
        }
        let zone = match schedule::zone(self.spec.time_zone.as_deref()) {
            Ok(zone) => zone,
            Err(error) => {
                let message = error.to_string();
                self.steps.push(Step::warning(self.object, "UnknownTimeZone", message));
                return None;
            }
        };
        let schedule: Schedule = self.spec.schedule.parse().ok()?;
        let now = self.world.now;
        let due = self.due(|after| schedule.next(after, &zone));
        let next = schedule.next(now, &zone);
        let requeue = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        let Some(due) = due else { return requeue };
        if self.is_late(due) {
            let message = format!("Missed scheduled time to start a job: {}", time_text(due));
            self.steps.push(Step::warning(self.object, "MissSchedule", message));
            // Told once.
            self.status.last_schedule_time = Some(Time(due));
            return requeue;
        }
        self.start(due);
        requeue
    }

    /// The newest scheduled time that no Job was made for.
    fn due(&mut self, next: impl Fn(Timestamp) -> Option<Timestamp>) -> Option<Timestamp> {
        let created = self.object.metadata.creation_timestamp.as_ref()?.parse().ok()?;
        let mut after = self.status.last_schedule_time.as_ref().map_or(created, |time| time.0);
        if let Some(seconds) = self.spec.starting_deadline_seconds {
            // One that leads to before the first time there is sets no bound.
            if let Ok(earliest) = self.world.now.checked_sub(SignedDuration::from_secs(seconds)) {
                after = after.max(earliest);
            }
        }
        let (mut due, mut missed) = (None, 0);
        while let Some(at) = next(after).filter(|at| *at <= self.world.now) {
            (due, after, missed) = (Some(at), at, missed + 1);
            if missed > MISSED_MAX {
                let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds \
                     or check clock skew";
                self.steps.push(Step::warning(
                    self.object,
                    "TooManyMissedTimes",
                    message.to_owned(),
                ));
                return newest(&next, after, self.world.now).or(due);
            }
        }
        due
    }

    fn is_late(&self, due: Timestamp) -> bool {
        let deadline = self.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        deadline.is_some_and(|deadline| self.world.now.duration_since(due) > deadline)
    }

    fn start(&mut self, due: Timestamp) {
        let name = format!("{}-{}", self.object.key.name, due.as_second().div_euclid(60));
        let key = ObjectKey::new(&kind::JOB, &*self.object.key.namespace, name.as_str());
        if self.world.view.get(&key).is_some() {
            self.status.last_schedule_time = Some(Time(due));
            return;
        }
        let active: Vec<_> = self.runs.iter().filter(|run| run.is_active()).collect();
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                let known = self.status.last_schedule_time.as_ref().map(|time| time.0) == Some(due);
                if !known {
                    self.steps.push(Step::note(
                        self.object,
                        "JobAlreadyActive",
                        message.to_owned(),
                    ));
                }
                return;
            }
            Some("Replace") => {
                for run in active.into_iter().filter(|run| !run.object.is_terminating()) {
                    self.steps.push(Step::delete(run.object));
                    let message = format!("Deleted job {}", run.object.key.name);
                    self.steps.push(Step::note(self.object, "SuccessfulDelete", message));
                }
            }
            _ => {}
        }
        self.steps.push(Step::Create(kind::JOB.clone(), self.job(&name, due)));
        let message = format!("Created job {name}");
        self.steps.push(Step::note(self.object, "SuccessfulCreate", message));
        self.status.last_schedule_time = Some(Time(due));
    }

    fn job(&self, name: &str, due: Timestamp) -> Value {
        let template = &self.spec.job_template;
        let metadata = template.metadata.as_ref();
        let mut annotations =
            metadata.and_then(|metadata| metadata.annotations.clone()).unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), time_text(due));
        json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": self.object.key.namespace,
                "labels": metadata.and_then(|metadata| metadata.labels.clone()),
                "annotations": annotations,
                "ownerReferences": [ownership::reference(self.object)]},
            "spec": to_value(&template.spec)})
    }

    /// Deletes the oldest ended Jobs beyond the limits.
    fn clean_up(&mut self) {
        for (end, limit) in [
            (JOB_COMPLETE, self.spec.successful_jobs_history_limit.unwrap_or(3)),
            (JOB_FAILED, self.spec.failed_jobs_history_limit.unwrap_or(1)),
        ] {
            let ended = |run: &&Run<'_>| run.ended() == Some(end) && !run.object.is_terminating();
            let mut ended: Vec<_> = self.runs.iter().filter(ended).collect();
            let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            ended.sort_by_key(|run| (run.status.start_time.clone(), run.object.key.name.clone()));
            for run in ended.into_iter().take(surplus) {
                self.steps.push(Step::delete(run.object));
                let message = format!("Deleted job {}", run.object.key.name);
                self.steps.push(Step::note(self.object, "SuccessfulDelete", message));
            }
        }
    }
}

/// The newest scheduled time after one and up to another, without walking through what may be centuries of them: looks
/// back over spans that double.
fn newest(
    next: impl Fn(Timestamp) -> Option<Timestamp>,
    after: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let until_now = |from| next(from).filter(|at| *at <= now);
    let mut span = SignedDuration::from_mins(1);
    loop {
        let from = now.checked_sub(span).unwrap_or(after).max(after);
        if let Some(first) = until_now(from) {
            return std::iter::successors(Some(first), |at| until_now(*at)).last();
        }
        if from == after {
            return None;
        }
        span = span.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const CRON: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '*/5 * * * *'
  successfulJobsHistoryLimit: 1
  jobTemplate:
    metadata: {labels: {a: b}}
    spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: i}]}}}
";

    fn key() -> ObjectKey {
        ObjectKey::new(&kind::CRON_JOB, "default", "tick")
    }

    fn at(cluster: &mut Cluster, time: &str) {
        cluster.now = format!("2026-01-01T{time}Z").parse().unwrap();
        cluster.settle(&[&CONTROLLER], |_| {});
    }

    fn jobs(cluster: &Cluster) -> Vec<String> {
        cluster.view.list(&kind::JOB, None).map(|job| job.key.name.clone()).collect()
    }

    fn complete(cluster: &mut Cluster, name: &str) {
        let now = cluster.now;
        cluster.edit(&ObjectKey::new(&kind::JOB, "default", name), |job| {
            job["status"] = json!({"completionTime": now, "startTime": now,
                "conditions": [{"type": "Complete", "status": "True"}]});
        });
    }

    fn with(change: &str) -> Cluster {
        Cluster::of(&CRON.replace("schedule:", &format!("{change}\n  schedule:")))
    }

    #[test]
    fn fires_on_time_and_forgets_old_jobs() {
        let mut cluster = with("suspend: false");
        at(&mut cluster, "00:04:30");
        assert_eq!(jobs(&cluster), [""; 0]);
        assert_eq!(cluster.plan(&CONTROLLER, &key()).requeue, Some(Duration::from_secs(30)));
        at(&mut cluster, "00:05:00");
        // Minutes since 1970, as upstream.
        assert_eq!(jobs(&cluster), ["tick-29453765"]);
        let job = cluster.list(&kind::JOB).remove(0);
        assert_eq!(job["metadata"]["annotations"][SCHEDULED], "2026-01-01T00:05:00Z");
        assert_eq!(job["metadata"]["labels"]["a"], "b");
        let status = cluster.get(&key())["status"].clone();
        assert_eq!(status["lastScheduleTime"], "2026-01-01T00:05:00Z");
        assert_eq!(status["active"][0]["name"], "tick-29453765");
        complete(&mut cluster, "tick-29453765");
        at(&mut cluster, "00:10:02");
        let status = cluster.get(&key())["status"].clone();
        assert_eq!(status["lastSuccessfulTime"], "2026-01-01T00:05:00Z");
        assert_eq!(jobs(&cluster).len(), 2);
        complete(&mut cluster, "tick-29453770");
        at(&mut cluster, "00:10:03");
        assert_eq!(jobs(&cluster), ["tick-29453770"]);
    }

    #[test]
    fn concurrency() {
        for (policy, expected) in [
            ("Allow", vec!["tick-29453765", "tick-29453770"]),
            ("Forbid", vec!["tick-29453765"]),
            ("Replace", vec!["tick-29453770"]),
        ] {
            let mut cluster = with(&format!("concurrencyPolicy: {policy}"));
            at(&mut cluster, "00:05:00");
            at(&mut cluster, "00:06:00");
            let plan = {
                cluster.now = "2026-01-01T00:10:00Z".parse().unwrap();
                cluster.plan(&CONTROLLER, &key())
            };
            plan.steps.into_iter().for_each(|step| cluster.apply(step));
            assert_eq!(jobs(&cluster), expected, "{policy}");
        }
    }

    #[test]
    fn missed_times() {
        let mut cluster = with("suspend: true");
        at(&mut cluster, "00:12:00");
        assert_eq!(jobs(&cluster), [""; 0]);
        cluster.edit(&key(), |cron| cron["spec"]["suspend"] = false.into());
        at(&mut cluster, "00:12:00");
        assert_eq!(jobs(&cluster), ["tick-29453770"], "only the newest");
        let mut cluster = with("startingDeadlineSeconds: 60");
        at(&mut cluster, "00:12:00");
        assert_eq!(jobs(&cluster), [""; 0], "too late");
        let mut endless = with(&format!("startingDeadlineSeconds: {}", i64::MAX));
        at(&mut endless, "00:12:00");
        assert_eq!(jobs(&endless), ["tick-29453770"]);
        at(&mut cluster, "00:15:30");
        assert_eq!(jobs(&cluster), ["tick-29453775"]);
    }

    #[test]
    fn the_newest_of_many_missed_times() {
        for (schedule, expected) in [
            ("*/5 * * * *", "2026-01-01T00:10:00Z"),
            ("0 0 * * *", "2026-01-01T00:00:00Z"),
            ("59 23 31 12 *", "2025-12-31T23:59:00Z"),
        ] {
            let mut cluster = Cluster::of(&CRON.replace("*/5 * * * *", schedule));
            cluster.edit(&key(), |cron| {
                cron["status"] = json!({"lastScheduleTime": "0001-01-02T01:59:59Z"});
            });
            at(&mut cluster, "00:12:00");
            let status = cluster.get(&key())["status"].clone();
            assert_eq!(status["lastScheduleTime"], expected, "{schedule}");
        }
    }
}
