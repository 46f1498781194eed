//! CronJobs: defaults, schedule and time zone.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus};
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind, schedule},
    registry::{
        Subresource,
        printing::{Cells, Column, age::since, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill, fill_text, text},
            job, job_policies, pod_warnings, workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::CRON_JOB,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Schedule", "When a job is made."),
        Column::text("Timezone", "Time zone of the schedule."),
        Column::boolean("Suspend", "Whether no more jobs are made."),
        Column::number("Active", "Jobs that run."),
        Column::text("Last Schedule", "Time since the last job was made."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
        Column::SELECTOR,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<CronJob> = Rules { default, validate, warnings, ..Rules::STORED };

/// A job's name is this one's, a dash and ten digits, and at most 63 characters.
const NAME_MAX: usize = 52;
const SUCCESSFUL_JOBS: i32 = 3;
const FAILED_JOBS: i32 = 1;

fn default(new: &mut CronJob, old: Option<&CronJob>, _context: &Context<'_>) {
    let spec = &mut new.spec;
    fill_text(&mut spec.concurrency_policy, "Allow");
    fill(&mut spec.suspend, false);
    fill(&mut spec.successful_jobs_history_limit, SUCCESSFUL_JOBS);
    fill(&mut spec.failed_jobs_history_limit, FAILED_JOBS);
    let job = spec.job_template.spec.get_or_insert_default();
    job_policies::default(job);
    workload::default_template(&mut job.template);
    if old.is_none() {
        new.status = Some(CronJobStatus::default());
    }
}

fn validate(new: &CronJob, old: Option<&CronJob>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        return causes;
    }
    let spec = &new.spec;
    let name = new.metadata.name.as_deref().unwrap_or_default();
    if old.is_none() && name.len() > NAME_MAX {
        let rule = format!("must be no more than {NAME_MAX} characters");
        causes.push(Cause::invalid("metadata.name", name, &rule));
    }
    if spec.schedule.is_empty() {
        causes.push(Cause::required("spec.schedule", ""));
    } else if spec.schedule.contains("TZ") {
        let rule = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        causes.push(Cause::invalid("spec.schedule", spec.schedule.as_str(), rule));
    } else if let Err(error) = spec.schedule.parse::<schedule::Schedule>() {
        let shown = spec.schedule.as_str();
        causes.push(Cause::invalid("spec.schedule", shown, &error.to_string()));
    }
    if let Some(zone) = &spec.time_zone
        && let Err(error) = schedule::zone(Some(zone))
    {
        causes.push(Cause::invalid("spec.timeZone", zone.as_str(), &error.to_string()));
    }
    checks::not_negative(
        &mut causes,
        "spec.startingDeadlineSeconds",
        spec.starting_deadline_seconds,
    );
    let known = ["Allow", "Forbid", "Replace"];
    checks::one_of(&mut causes, "spec.concurrencyPolicy", text(&spec.concurrency_policy), &known);
    let (successful, failed) = (spec.successful_jobs_history_limit, spec.failed_jobs_history_limit);
    checks::not_negative(&mut causes, "spec.successfulJobsHistoryLimit", successful);
    checks::not_negative(&mut causes, "spec.failedJobsHistoryLimit", failed);
    if let Some(template) = &spec.job_template.spec {
        job::validate_spec(&mut causes, "spec.jobTemplate.spec", template);
        if let Some(selector) = &template.selector {
            let field = "spec.jobTemplate.spec.selector";
            let rule = "`selector` will be auto-generated";
            causes.push(Cause::invalid(field, checks::shown(selector), rule));
        }
        if template.manual_selector == Some(true) {
            let known = ["nil", "false"];
            let field = "spec.jobTemplate.spec.manualSelector";
            causes.push(Cause::not_supported(field, true, &known));
        }
    }
    causes
}

fn warnings(new: &CronJob, old: Option<&CronJob>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(job) = new.spec.job_template.spec.as_ref()
        && old.is_none_or(|old| old.spec != new.spec)
    {
        pod_warnings::of_template(&mut all, "spec.jobTemplate.spec.template.", &job.template);
    }
    all
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let job: CronJob = object.parse()?;
    let (spec, status) = (job.spec, job.status.as_ref());
    let last = status.and_then(|status| status.last_schedule_time.as_ref());
    let active = status.and_then(|status| status.active.as_ref()).map_or(0, Vec::len);
    let suspended = match spec.suspend {
        Some(true) => "True",
        Some(false) => "False",
        None => row::UNSET,
    };
    let mut row = row::plain(
        object,
        now,
        [
            Value::from(spec.schedule),
            row::or(spec.time_zone.unwrap_or_default(), row::NONE).into(),
            suspended.into(),
            active.into(),
            last.map_or_else(|| row::NONE.to_owned(), |time| since(Some(time.0), now)).into(),
        ],
    );
    let jobs = spec.job_template.spec.as_ref();
    row.extend(row::containers(jobs.map(|spec| &spec.template)));
    let selected = jobs.and_then(|spec| spec.selector.as_ref()).map(row::selector);
    row.push(row::or(selected.unwrap_or_default(), row::NONE).into());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    #[test]
    fn defaults_and_rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let check = |change: Value| {
            let base = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
                "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec":
                    {"restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "a:1"}]}}}}}});
            let mut new: CronJob = object(merged(base, &json!({"spec": change})));
            default(&mut new, None, &context);
            (lines(&validate(&new, None, &context)), new)
        };
        let (faults, new) = check(json!({"timeZone": "Europe/Berlin"}));
        assert_eq!(faults, [""; 0]);
        assert_eq!(new.spec.concurrency_policy.as_deref(), Some("Allow"));
        for (change, expected) in [
            (
                json!({"schedule": "* *"}),
                "spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]",
            ),
            (
                json!({"timeZone": "europe/Berlin"}),
                "spec.timeZone: Invalid value: \"europe/Berlin\": unknown time zone europe/Berlin",
            ),
            (
                json!({"timeZone": "Mars/Base"}),
                "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
            ),
            (
                json!({"concurrencyPolicy": "Deny"}),
                "spec.concurrencyPolicy: Unsupported value: \"Deny\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                json!({"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": null}}}}}),
                "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                json!({"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}}}}),
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
            ),
        ] {
            assert_eq!(check(change).0, [expected]);
        }
    }
}
