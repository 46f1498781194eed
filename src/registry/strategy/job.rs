//! Jobs: defaults, the generated selector, and which fields an update may change.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, JobStatus},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    model::{
        self, Cause, Object, kind,
        well_known::{
            JOB_COMPLETE, JOB_FAILED, JOB_FAILURE_TARGET, JOB_NAME_LABEL, JOB_SUCCESS_CRITERIA_MET,
            JOB_SUSPENDED,
        },
    },
    registry::{
        Subresource,
        printing::{Cells, Column, age::human, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            container_validation::Place,
            fields::{fill, fill_text, text},
            job_policies,
            metadata::{self, NameForm},
            pod_validation, pod_warnings, workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::JOB,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Status", "What the job is doing."),
        Column::text("Completions", "Pods that succeeded, of those that are wanted."),
        Column::text("Duration", "Time that the job took, or has taken."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
        Column::SELECTOR,
    ],
    cells,
    selectable_fields: &[("status.successful", "status.succeeded")],
    ..BuiltIn::STORED
};

static RULES: Rules<Job> = Rules { default, validate, warnings, ..Rules::STORED };

const BACKOFF_LIMIT: i32 = 6;
/// Bounds of kube-apiserver's for indexed jobs.
const INDEXES_MAX: i32 = 100_000;
/// Completions beyond this count as many: with back-off per index, other bounds are tighter then.
const MANY_COMPLETIONS: i32 = 100_000;
const INDEXES_OF_MANY_MAX: i32 = 10_000;
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// The labels' names before they had a prefix; pods still have both.
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

fn default(new: &mut Job, old: Option<&Job>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    fill(&mut spec.parallelism, 1);
    let per_index = spec.backoff_limit_per_index.is_some();
    fill(&mut spec.backoff_limit, if per_index { i32::MAX } else { BACKOFF_LIMIT });
    fill_text(&mut spec.completion_mode, "NonIndexed");
    fill(&mut spec.suspend, false);
    fill(&mut spec.manual_selector, false);
    let replacement =
        if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill_text(&mut spec.pod_replacement_policy, replacement);
    job_policies::default(spec);
    workload::default_template(&mut spec.template);
    if old.is_none() {
        if spec.manual_selector == Some(false) {
            let name = new.metadata.name.clone().unwrap_or_default();
            generate_selector(spec, &name, new.metadata.uid.as_deref().unwrap_or_default());
        }
        new.status = Some(JobStatus::default());
    }
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    if new.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
        new.metadata.labels = labels;
    }
}

/// Selector and labels that no other Job has.
fn generate_selector(spec: &mut JobSpec, name: &str, uid: &str) {
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for (label, value) in
        [(UID_LABEL, uid), (OLD_UID_LABEL, uid), (JOB_NAME_LABEL, name), (OLD_NAME_LABEL, name)]
    {
        labels.insert(label.to_owned(), value.to_owned());
    }
    if spec.selector.is_none() {
        let own = [(UID_LABEL.to_owned(), uid.to_owned())].into();
        spec.selector = Some(LabelSelector { match_labels: Some(own), ..<_>::default() });
    }
}

fn validate(new: &Job, old: Option<&Job>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            for (field, count) in [
                ("active", status.active),
                ("succeeded", status.succeeded),
                ("failed", status.failed),
                ("ready", status.ready),
                ("terminating", status.terminating),
            ] {
                checks::not_negative(&mut causes, &format!("status.{field}"), count);
            }
        }
        return causes;
    }
    validate_selector(&mut causes, spec);
    validate_spec(&mut causes, "spec", spec);
    if old.is_none() {
        validate_name(&mut causes, new.metadata.name.as_deref().unwrap_or_default(), spec);
    }
    if let Some(old_spec) = old.and_then(|old| old.spec.as_ref()) {
        validate_update(&mut causes, spec, old_spec, old.and_then(|old| old.status.as_ref()));
    }
    causes
}

/// Pods of an indexed job are named by their indexes.
fn validate_name(causes: &mut Vec<Cause>, name: &str, spec: &JobSpec) {
    let completions = spec.completions.filter(|count| *count > 0);
    let Some(completions) = completions.filter(|_| text(&spec.completion_mode) == "Indexed") else {
        return;
    };
    let longest = format!("{name}-{}", completions - 1);
    if !metadata::validate_name(&longest, NameForm::Label).is_empty() {
        let rule = format!("will not able to create pod with invalid DNS label: {longest}");
        causes.push(Cause::invalid("metadata.name", name, &rule));
    }
}

fn validate_selector(causes: &mut Vec<Cause>, spec: &JobSpec) {
    let Some(selector) = &spec.selector else {
        causes.push(Cause::required("spec.selector", ""));
        return;
    };
    checks::selector(causes, "spec.selector", selector);
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let labels = labels.unwrap_or_default();
    if spec.manual_selector != Some(true) {
        let generated = selector.match_labels.as_ref().and_then(|own| own.get(UID_LABEL));
        if generated.is_none() || generated != labels.get(UID_LABEL) {
            let rule = "`selector` not auto-generated";
            causes.push(Cause::invalid("spec.selector", checks::shown(selector), rule));
            return;
        }
    }
    let matches =
        model::LabelSelector::from_object(selector).is_ok_and(|parsed| parsed.matches(&labels));
    if !matches {
        let rule = "`selector` does not match template `labels`";
        let field = "spec.template.metadata.labels";
        causes.push(Cause::invalid(field, checks::shown(&labels), rule));
    }
}

/// The rules of a job's spec, also of a CronJob's template; `path` is where it stands.
pub(super) fn validate_spec(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec) {
    let at = |field: &str| format!("{path}.{field}");
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        checks::not_negative(causes, &at(field), value);
    }
    let indexed = match text(&spec.completion_mode) {
        "" | "NonIndexed" => false,
        "Indexed" => true,
        other => {
            let known = ["NonIndexed", "Indexed"];
            causes.push(Cause::not_supported(at("completionMode"), other, &known));
            false
        }
    };
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let rule = "when maxFailedIndexes is specified";
        causes.push(Cause::required(at("backoffLimitPerIndex"), rule));
    }
    if indexed {
        validate_indexed(causes, path, spec);
    } else {
        for (field, value) in [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ] {
            if value.is_some() {
                let rule = "requires indexed completion mode";
                causes.push(Cause::invalid(at(field), value, rule));
            }
        }
    }
    job_policies::failures(causes, path, spec);
    job_policies::success(causes, path, spec);
    if let Some(policy) = &spec.pod_replacement_policy {
        let fails = spec.pod_failure_policy.is_some();
        let known: &[&str] = if fails { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        checks::one_of(causes, &at("podReplacementPolicy"), policy, known);
    }
    validate_template(causes, &at("template"), spec);
}

/// The bounds of counts where each pod has an index of its own.
fn validate_indexed(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec) {
    let at = |field: &str| format!("{path}.{field}");
    let (parallelism, failed) = (spec.parallelism, spec.max_failed_indexes);
    let Some(completions) = spec.completions else {
        causes.push(Cause::required(at("completions"), "when completion mode is Indexed"));
        return;
    };
    let many = completions > MANY_COMPLETIONS && spec.backoff_limit_per_index.is_some();
    if many && failed.is_none() {
        let rule = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        causes.push(Cause::required(at("maxFailedIndexes"), &rule));
    }
    let of_many = format!(
        " when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
    );
    for (field, value, applies, max, when) in [
        ("parallelism", parallelism, true, INDEXES_MAX, " when completion mode is Indexed"),
        ("maxFailedIndexes", failed, true, INDEXES_MAX, ""),
        ("parallelism", parallelism, many, INDEXES_OF_MANY_MAX, &of_many),
        ("maxFailedIndexes", failed, many, INDEXES_OF_MANY_MAX, &of_many),
    ] {
        if applies && value.is_some_and(|value| value > max) {
            let rule = format!("must be less than or equal to {max}{when}");
            causes.push(Cause::invalid(at(field), value, &rule));
        }
    }
    if failed.is_some_and(|failed| failed > completions) {
        let rule = "must be less than or equal to completions";
        causes.push(Cause::invalid(at("maxFailedIndexes"), failed, rule));
    }
}

fn validate_template(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec) {
    let PodTemplateSpec { metadata, spec: pod } = &spec.template;
    let labels = metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    checks::labels(causes, &format!("{path}.labels"), labels);
    let Some(pod) = pod else {
        causes.push(Cause::required(format!("{path}.spec.containers"), ""));
        return;
    };
    pod_validation::validate(causes, &format!("{path}.spec"), pod, Place::Template);
    let (field, policy) = (format!("{path}.spec.restartPolicy"), text(&pod.restart_policy));
    if ["", "Always"].contains(&policy) {
        // Mostly nothing was said, and `Always` is the default.
        causes.push(Cause::required(field, "valid values: \"OnFailure\", \"Never\""));
    } else if !["OnFailure", "Never"].contains(&policy) {
        causes.push(Cause::not_supported(field, policy, &["OnFailure", "Never"]));
    } else if spec.pod_failure_policy.is_some() && policy != "Never" {
        let rule = "only \"Never\" is supported when podFailurePolicy is specified";
        causes.push(Cause::invalid(field, policy, rule));
    }
}

fn validate_update(
    causes: &mut Vec<Cause>,
    new: &JobSpec,
    old: &JobSpec,
    status: Option<&JobStatus>,
) {
    // An indexed job may grow and shrink as long as it runs all its indexes side by side.
    if text(&new.completion_mode) != "Indexed" {
        checks::immutable(causes, "spec.completions", &new.completions, &old.completions);
    } else if new.completions != old.completions
        && let Some(completions) = new.completions
        && new.completions != new.parallelism
    {
        let rule = "can only be modified in tandem with spec.parallelism";
        causes.push(Cause::invalid("spec.completions", completions, rule));
    }
    checks::immutable(causes, "spec.selector", &new.selector, &old.selector);
    // Where pods of a suspended job will run may still be decided.
    let unstarted = old.suspend == Some(true) && status.is_none_or(|s| s.start_time.is_none());
    let mut template = new.template.clone();
    if unstarted && let (Some(pod), Some(old)) = (&mut template.spec, &old.template.spec) {
        pod.node_selector.clone_from(&old.node_selector);
        pod.affinity.clone_from(&old.affinity);
        pod.tolerations.clone_from(&old.tolerations);
        pod.scheduling_gates.clone_from(&old.scheduling_gates);
        template.metadata.clone_from(&new.template.metadata);
    }
    checks::immutable(causes, "spec.template", &template, &old.template);
    checks::immutable(causes, "spec.completionMode", &new.completion_mode, &old.completion_mode);
    let (field, limits) =
        ("spec.backoffLimitPerIndex", (&new.backoff_limit_per_index, &old.backoff_limit_per_index));
    checks::immutable(causes, field, limits.0, limits.1);
    let field = "spec.podFailurePolicy";
    checks::immutable(causes, field, &new.pod_failure_policy, &old.pod_failure_policy);
    checks::immutable(causes, "spec.managedBy", &new.managed_by, &old.managed_by);
    checks::immutable(causes, "spec.successPolicy", &new.success_policy, &old.success_policy);
}

fn warnings(new: &Job, old: Option<&Job>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(new.metadata.name.as_ref(), new.spec.as_ref(), old, |spec| {
        Some(&spec.template)
    })
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let job: Job = object.parse()?;
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
    let state = state(object, &status).to_owned();
    let mut row = row::plain(object, now, [state, completions, duration.unwrap_or_default()]);
    row.extend(row::containers(spec.map(|spec| &spec.template)));
    let selected = spec.and_then(|spec| spec.selector.as_ref()).map(row::selector);
    row.push(row::or(selected.unwrap_or_default(), row::NONE).into());
    Ok(row)
}

fn state(object: &Object, status: &JobStatus) -> &'static str {
    let has = |name: &str| {
        let mut all = status.conditions.iter().flatten();
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn check(change: &Value, old: Option<&Job>) -> (Vec<String>, Job) {
        let base = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "pi", "uid": "u1"},
            "spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "a", "image": "a:1"}]}}}});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let base = old.map_or(base, checks::shown);
        let mut new: Job = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, job) = check(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        let spec = checks::shown(&job.spec);
        for (field, value) in [
            ("parallelism", json!(1)),
            ("completions", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("suspend", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
            ("selector", json!({"matchLabels": {UID_LABEL: "u1"}})),
        ] {
            assert_eq!(spec[field], value, "{field}");
        }
        assert_eq!(job.metadata.labels.unwrap()[JOB_NAME_LABEL], "pi");
        let (_, queue) = check(&json!({"spec": {"parallelism": 2}}), None);
        assert_eq!(queue.spec.unwrap().completions, None);
    }

    #[test]
    fn rules() {
        for (change, expected) in [
            (
                json!({"template": {"spec": {"restartPolicy": null}}}),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                json!({"completionMode": "Both"}),
                "spec.completionMode: Unsupported value: \"Both\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (
                json!({"completionMode": "Indexed", "parallelism": 2}),
                "spec.completions: Required value: when completion mode is Indexed",
            ),
            (
                json!({"completionMode": "Indexed", "parallelism": 100_001, "completions": 100_000}),
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode \
                 is Indexed",
            ),
            (
                json!({"completionMode": "Indexed", "completions": i32::MAX, "backoffLimitPerIndex": 1}),
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
            ),
            (
                json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1,
                    "maxFailedIndexes": 3}),
                "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions",
            ),
            (
                json!({"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 1}),
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            ),
            (
                json!({"backoffLimitPerIndex": 1}),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ),
            (
                json!({"backoffLimit": -1}),
                "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"selector": {"matchLabels": {"a": "b"}}}),
                "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated",
            ),
        ] {
            assert_eq!(check(&json!({"spec": change}), None).0, [expected]);
        }
    }

    #[test]
    fn names_of_indexed_jobs_are_short() {
        let named = |length: usize, completions: u32| {
            let (view, options) = (View::for_tests(), options());
            let context = context(&view, &options, Subresource::None);
            let mut new: Job = object(json!({"apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": "x".repeat(length), "uid": "u1"},
                "spec": {"completionMode": "Indexed", "completions": completions, "template": {"spec":
                    {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}}}));
            default(&mut new, None, &context);
            lines(&validate(&new, None, &context))
        };
        assert_eq!(named(61, 10), [""; 0]);
        let name = "x".repeat(61);
        let expected = format!(
            "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10"
        );
        assert_eq!(named(61, 11), [expected]);
    }

    #[test]
    fn what_changes() {
        let (_, old) = check(&json!({}), None);
        assert_eq!(
            check(&json!({"spec": {"parallelism": 3, "suspend": true}}), Some(&old)).0,
            [""; 0]
        );
        assert_eq!(
            check(&json!({"spec": {"completions": 3}}), Some(&old)).0,
            ["spec.completions: Invalid value: 3: field is immutable"]
        );
        let indexed = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2});
        let (_, old) = check(&json!({"spec": indexed}), None);
        for (completions, parallelism, expected) in [
            (3, 3, &[][..]),
            (2, 1, &[]),
            (
                3,
                2,
                &[
                    "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism",
                ],
            ),
        ] {
            let change = json!({"completions": completions, "parallelism": parallelism});
            assert_eq!(check(&json!({"spec": change}), Some(&old)).0, expected);
        }
    }
}
