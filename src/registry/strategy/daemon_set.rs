//! DaemonSets: defaults, update strategy, immutable selector.

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DaemonSet, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

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
    kind: &kind::DAEMON_SET,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::number("Desired", "Nodes that should run the pod."),
        Column::number("Current", "Nodes that run the pod."),
        Column::number("Ready", "Pods that are ready."),
        Column::number("Up-to-date", "Pods made from the current template."),
        Column::number("Available", "Pods that have been ready for minReadySeconds."),
        Column::text("Node Selector", "Labels of the nodes that run the pod."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
        Column::SELECTOR,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<DaemonSet> = Rules { default, validate, warnings, ..Rules::STORED };

const REVISIONS: i32 = 10;
/// Counts templates; `apps/v1` keeps the field of older versions in this annotation.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn default(new: &mut DaemonSet, old: Option<&DaemonSet>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    fill(&mut spec.revision_history_limit, REVISIONS);
    let strategy = spec.update_strategy.get_or_insert_default();
    fill_text(&mut strategy.type_, "RollingUpdate");
    if text(&strategy.type_) == "RollingUpdate" {
        let update = strategy.rolling_update.get_or_insert_default();
        fill(&mut update.max_unavailable, IntOrString::Int(1));
        fill(&mut update.max_surge, IntOrString::Int(0));
    }
    workload::default_template(&mut spec.template);
    count_templates(new, old);
    if old.is_none() {
        new.status = Some(DaemonSetStatus::default());
    }
}

fn count_templates(new: &mut DaemonSet, old: Option<&DaemonSet>) {
    let number = |set: &DaemonSet| -> i64 {
        let annotations = set.metadata.annotations.as_ref();
        let number = annotations.and_then(|all| all.get(TEMPLATE_GENERATION)?.parse().ok());
        number.unwrap_or(1)
    };
    let template = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.template.clone());
    let number = match old {
        None => 1,
        Some(old) if template(old) == template(new) => number(old),
        Some(old) => number(old).saturating_add(1),
    };
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), number.to_string());
}

fn validate(new: &DaemonSet, old: Option<&DaemonSet>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        validate_status(&mut causes, new.status.as_ref());
        return causes;
    }
    workload::selector_and_template(&mut causes, &spec.selector, &spec.template, "DaemonSet");
    checks::not_negative(&mut causes, "spec.minReadySeconds", spec.min_ready_seconds);
    if let Some(strategy) = &spec.update_strategy {
        validate_strategy(&mut causes, strategy);
    }
    checks::not_negative(&mut causes, "spec.revisionHistoryLimit", spec.revision_history_limit);
    if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
        checks::immutable(&mut causes, "spec.selector", &spec.selector, &old.selector);
    }
    causes
}

fn validate_status(causes: &mut Vec<Cause>, status: Option<&DaemonSetStatus>) {
    let Some(status) = status else { return };
    for (field, count) in [
        ("currentNumberScheduled", Some(status.current_number_scheduled)),
        ("numberMisscheduled", Some(status.number_misscheduled)),
        ("desiredNumberScheduled", Some(status.desired_number_scheduled)),
        ("numberReady", Some(status.number_ready)),
        ("updatedNumberScheduled", status.updated_number_scheduled),
        ("numberAvailable", status.number_available),
        ("numberUnavailable", status.number_unavailable),
        ("collisionCount", status.collision_count),
    ] {
        checks::not_negative(causes, &format!("status.{field}"), count);
    }
}

fn validate_strategy(causes: &mut Vec<Cause>, strategy: &DaemonSetUpdateStrategy) {
    const FIELD: &str = "spec.updateStrategy";
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", Some(update)) => validate_rolling_update(causes, update),
        ("RollingUpdate", None) => {
            causes.push(Cause::required(format!("{FIELD}.rollingUpdate"), ""));
        }
        _ => {
            let known = ["RollingUpdate", "OnDelete"];
            causes.push(Cause::not_supported(FIELD, checks::shown(strategy), &known));
        }
    }
}

fn validate_rolling_update(causes: &mut Vec<Cause>, update: &RollingUpdateDaemonSet) {
    const FIELD: &str = "spec.updateStrategy.rollingUpdate";
    let (unavailable_field, surge_field) =
        (format!("{FIELD}.maxUnavailable"), format!("{FIELD}.maxSurge"));
    let none = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&none);
    let surge = update.max_surge.as_ref().unwrap_or(&none);
    for (field, value) in [(&unavailable_field, unavailable), (&surge_field, surge)] {
        checks::count_or_percent(causes, field, value);
        checks::not_above_all(causes, field, value);
    }
    match (workload::is_zero(unavailable), workload::is_zero(surge)) {
        (false, false) => {
            let rule = "may not be set when maxUnavailable is non-zero";
            causes.push(Cause::invalid(surge_field, checks::shown(surge), rule));
        }
        (true, true) => {
            causes.push(Cause::required(unavailable_field, "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}

fn warnings(new: &DaemonSet, old: Option<&DaemonSet>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(None, new.spec.as_ref(), old, |spec| Some(&spec.template))
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let set: DaemonSet = object.parse()?;
    let (spec, status) = (set.spec.as_ref(), set.status.clone().unwrap_or_default());
    let template = spec.map(|spec| &spec.template);
    let nodes = template.and_then(|t| t.spec.as_ref()).and_then(|pod| pod.node_selector.as_ref());
    let mut row = row::plain(
        object,
        now,
        [
            Value::from(status.desired_number_scheduled),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or_default().into(),
            status.number_available.unwrap_or_default().into(),
            row::labels(nodes).into(),
        ],
    );
    row.extend(row::containers(template));
    let selected = spec.map(|spec| row::selector(&spec.selector)).unwrap_or_default();
    row.push(row::or(selected, row::NONE).into());
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

    fn check(change: &Value, old: Option<&DaemonSet>) -> (Vec<String>, DaemonSet) {
        let base = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}},
                         "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: DaemonSet = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, set) = check(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        let spec = set.spec.clone().unwrap();
        assert_eq!(spec.revision_history_limit, Some(10));
        assert_eq!(
            checks::shown(&spec.update_strategy),
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
        assert_eq!(set.metadata.annotations.as_ref().unwrap()[TEMPLATE_GENERATION], "1");
        let template = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}});
        let (faults, changed) = check(&template, Some(&set));
        assert_eq!(faults, [""; 0]);
        assert_eq!(changed.metadata.annotations.unwrap()[TEMPLATE_GENERATION], "2");
    }

    #[test]
    fn rules() {
        let (_, old) = check(&json!({}), None);
        for (change, expected) in [
            (
                json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ),
            (
                json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
            (
                json!({"template": {"spec": {"restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"selector": {"matchLabels": {"app": null, "x": "y"}},
                       "template": {"metadata": {"labels": {"x": "y"}}}}),
                "spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable",
            ),
        ] {
            assert_eq!(check(&json!({"spec": change}), Some(&old)).0, [expected]);
        }
    }
}
