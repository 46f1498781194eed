//! Deployments: defaults, update strategy, immutable selector.

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill, fill_text, text},
            pod_warnings, workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::DEPLOYMENT,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Ready pods, of those that are wanted."),
        Column::text("Up-to-date", "Pods made from the current template."),
        Column::text("Available", "Pods that have been ready for minReadySeconds."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
        Column::SELECTOR,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<Deployment> = Rules { default, validate, warnings, ..Rules::STORED };

const REVISIONS: i32 = 10;
const PROGRESS_SECONDS: i32 = 600;
const QUARTER: &str = "25%";

fn default(new: &mut Deployment, old: Option<&Deployment>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    fill(&mut spec.replicas, 1);
    fill(&mut spec.revision_history_limit, REVISIONS);
    fill(&mut spec.progress_deadline_seconds, PROGRESS_SECONDS);
    let strategy = spec.strategy.get_or_insert_default();
    fill_text(&mut strategy.type_, "RollingUpdate");
    if text(&strategy.type_) == "RollingUpdate" {
        let update = strategy.rolling_update.get_or_insert_default();
        fill(&mut update.max_unavailable, IntOrString::String(QUARTER.to_owned()));
        fill(&mut update.max_surge, IntOrString::String(QUARTER.to_owned()));
    }
    workload::default_template(&mut spec.template);
    if old.is_none() {
        new.status = Some(<_>::default());
    }
}

fn validate(new: &Deployment, old: Option<&Deployment>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            let observed = status.observed_generation;
            checks::not_negative(&mut causes, "status.observedGeneration", observed);
            workload::validate_counts(
                &mut causes,
                &[
                    ("replicas", status.replicas),
                    ("updatedReplicas", status.updated_replicas),
                    ("readyReplicas", status.ready_replicas),
                    ("availableReplicas", status.available_replicas),
                    ("unavailableReplicas", status.unavailable_replicas),
                    ("terminatingReplicas", status.terminating_replicas),
                    ("collisionCount", status.collision_count),
                ],
            );
            let before = old.and_then(|old| old.status.as_ref()?.collision_count);
            let count = status.collision_count.unwrap_or_default();
            let is_less = |before| status.collision_count.is_none_or(|count| count < before);
            if before.is_some_and(is_less) {
                let rule = "cannot be decremented";
                causes.push(Cause::invalid("status.collisionCount", count, rule));
            }
        }
        return causes;
    }
    checks::not_negative(&mut causes, "spec.replicas", spec.replicas);
    workload::selector_and_template(&mut causes, &spec.selector, &spec.template, "Deployment");
    if let Some(strategy) = &spec.strategy {
        validate_strategy(&mut causes, strategy);
    }
    checks::not_negative(&mut causes, "spec.minReadySeconds", spec.min_ready_seconds);
    checks::not_negative(&mut causes, "spec.revisionHistoryLimit", spec.revision_history_limit);
    let deadline = spec.progress_deadline_seconds;
    checks::not_negative(&mut causes, "spec.progressDeadlineSeconds", deadline);
    if let Some(deadline) = deadline.filter(|d| *d <= spec.min_ready_seconds.unwrap_or_default()) {
        let rule = "must be greater than minReadySeconds";
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", deadline, rule));
    }
    if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
        checks::immutable(&mut causes, "spec.selector", &spec.selector, &old.selector);
    }
    causes
}

fn validate_strategy(causes: &mut Vec<Cause>, strategy: &DeploymentStrategy) {
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            let rule = "may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::forbidden("spec.strategy.rollingUpdate", rule));
        }
        ("RollingUpdate", Some(update)) => validate_rolling_update(causes, update),
        ("Recreate" | "RollingUpdate", None) => {}
        (other, _) => {
            // As Go writes a type without JSON names.
            let update = strategy.rolling_update.as_ref().map(|update| {
                let shown = |count: &Option<IntOrString>| {
                    checks::shown(count.as_ref().unwrap_or(&IntOrString::Int(0)))
                };
                json!({"MaxUnavailable": shown(&update.max_unavailable), "MaxSurge": shown(&update.max_surge)})
            });
            let shown = json!({"Type": other, "RollingUpdate": update});
            let known = ["Recreate", "RollingUpdate"];
            causes.push(Cause::not_supported("spec.strategy", shown, &known));
        }
    }
}

fn validate_rolling_update(causes: &mut Vec<Cause>, update: &RollingUpdateDeployment) {
    const FIELD: &str = "spec.strategy.rollingUpdate";
    let unavailable_field = format!("{FIELD}.maxUnavailable");
    let none = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&none);
    let surge = update.max_surge.as_ref().unwrap_or(&none);
    checks::count_or_percent(causes, &unavailable_field, unavailable);
    checks::count_or_percent(causes, &format!("{FIELD}.maxSurge"), surge);
    if workload::is_zero(unavailable) && workload::is_zero(surge) {
        let shown = checks::shown(unavailable);
        let rule = "may not be 0 when `maxSurge` is 0";
        causes.push(Cause::invalid(unavailable_field.as_str(), shown, rule));
    }
    checks::not_above_all(causes, &unavailable_field, unavailable);
}

fn warnings(new: &Deployment, old: Option<&Deployment>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(new.metadata.name.as_ref(), new.spec.as_ref(), old, |spec| {
        Some(&spec.template)
    })
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let deployment: Deployment = object.parse()?;
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.clone().unwrap_or_default());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = format!("{}/{wanted}", status.ready_replicas.unwrap_or_default());
    let mut row = row::plain(
        object,
        now,
        [
            Value::from(ready),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
        ],
    );
    row.extend(row::containers(spec.map(|spec| &spec.template)));
    row.push(spec.map(|spec| row::selector(&spec.selector)).unwrap_or_default().into());
    Ok(row)
}

#[cfg(test)]
mod tests;
