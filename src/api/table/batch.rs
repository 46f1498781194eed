//! The cells of workloads that run pods without Deployments: in the order of the kind's columns.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        batch::v1::{CronJob, Job},
        core::v1::ReplicationController,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

use crate::{
    api::table::{
        age::{human, since},
        row::{NONE, containers, labels, or, plain, selector},
    },
    model::{
        Object,
        well_known::{
            JOB_COMPLETE, JOB_FAILED, JOB_FAILURE_TARGET, JOB_SUCCESS_CRITERIA_MET, JOB_SUSPENDED,
        },
    },
};

pub(super) fn daemon_set(object: &Object, set: &DaemonSet, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (set.spec.as_ref(), set.status.clone().unwrap_or_default());
    let template = spec.map(|spec| &spec.template);
    let nodes = template.and_then(|t| t.spec.as_ref()).and_then(|pod| pod.node_selector.as_ref());
    let mut row = plain(
        object,
        now,
        [
            Value::from(status.desired_number_scheduled),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or_default().into(),
            status.number_available.unwrap_or_default().into(),
            labels(nodes).into(),
        ],
    );
    row.extend(containers(template));
    row.push(or(spec.map(|spec| selector(&spec.selector)).unwrap_or_default(), NONE).into());
    row
}

pub(super) fn job(object: &Object, job: &Job, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (job.spec.as_ref(), job.status.clone().unwrap_or_default());
    let done = status.succeeded.unwrap_or_default();
    let parallelism = spec.and_then(|spec| spec.parallelism).unwrap_or_default();
    let completions = match spec.and_then(|spec| spec.completions) {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    };
    let end = status.completion_time.as_ref().map_or(now, |time| time.0);
    let duration = status.start_time.as_ref().map(|start| human(end.duration_since(start.0)));
    let mut row = plain(
        object,
        now,
        [job_state(object, job).to_owned(), completions, duration.unwrap_or_default()],
    );
    row.extend(containers(spec.map(|spec| &spec.template)));
    let selected = spec.and_then(|spec| spec.selector.as_ref()).map(selector);
    row.push(or(selected.unwrap_or_default(), NONE).into());
    row
}

fn job_state(object: &Object, job: &Job) -> &'static str {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let has = |name: &str| {
        let mut all = conditions.into_iter().flatten();
        all.any(|condition| condition.type_ == name && condition.status == "True")
    };
    let ended = [JOB_COMPLETE, JOB_FAILED].into_iter().find(|name| has(name));
    let ending = || object.is_terminating().then_some("Terminating");
    let others = || {
        let names = [JOB_SUSPENDED, JOB_FAILURE_TARGET, JOB_SUCCESS_CRITERIA_MET];
        names.into_iter().find(|name| has(name))
    };
    ended.or_else(ending).or_else(others).unwrap_or("Running")
}

pub(super) fn cron_job(object: &Object, job: &CronJob, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (job.spec.clone(), job.status.as_ref());
    let last = status.and_then(|status| status.last_schedule_time.as_ref());
    let active = status.and_then(|status| status.active.as_ref()).map_or(0, Vec::len);
    let suspended = match spec.suspend {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let mut row = plain(
        object,
        now,
        [
            Value::from(spec.schedule),
            or(spec.time_zone.unwrap_or_default(), NONE).into(),
            suspended.into(),
            active.into(),
            last.map_or_else(|| NONE.to_owned(), |time| since(Some(time.0), now)).into(),
        ],
    );
    let jobs = spec.job_template.spec.as_ref();
    row.extend(containers(jobs.map(|spec| &spec.template)));
    let selected = jobs.and_then(|spec| spec.selector.as_ref()).map(selector);
    row.push(or(selected.unwrap_or_default(), NONE).into());
    row
}

pub(super) fn replication_controller(
    object: &Object,
    controller: &ReplicationController,
    now: Timestamp,
) -> Vec<Value> {
    let spec = controller.spec.as_ref();
    let status = controller.status.clone().unwrap_or_default();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or_default();
    let mut row = plain(object, now, [wanted, status.replicas, ready]);
    row.extend(containers(spec.and_then(|spec| spec.template.as_ref())));
    row.push(labels(spec.and_then(|spec| spec.selector.as_ref())).into());
    row
}

pub(super) fn disruption_budget(
    object: &Object,
    budget: &PodDisruptionBudget,
    now: Timestamp,
) -> Vec<Value> {
    let spec = budget.spec.clone().unwrap_or_default();
    let shown = |value: Option<IntOrString>| match value {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(text)) => text,
        None => "N/A".to_owned(),
    };
    let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed);
    let (least, most) = (shown(spec.min_available), shown(spec.max_unavailable));
    plain(object, now, [Value::from(least), most.into(), allowed.unwrap_or_default().into()])
}

/// `statefulset.apps/web`, the revision, the age.
pub(super) fn controller_revision(object: &Object, revision: &Value, now: Timestamp) -> Vec<Value> {
    let owner = object.controller().map(|owner| {
        let group = owner.api_version.rsplit_once('/').map(|(group, _)| format!(".{group}"));
        format!("{}{}/{}", owner.kind.to_lowercase(), group.unwrap_or_default(), owner.name)
    });
    let owner = owner.unwrap_or_else(|| NONE.to_owned());
    let number = revision["revision"].as_i64().unwrap_or_default();
    plain(object, now, [Value::from(owner), number.into()])
}
