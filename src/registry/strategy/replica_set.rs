//! ReplicaSets: defaults, immutable selector.

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetStatus},
    core::v1::PodTemplateSpec,
};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks, fields::fill, pod_warnings, workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::REPLICA_SET,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::number("Desired", "Pods that are wanted."),
        Column::number("Current", "Pods that exist."),
        Column::number("Ready", "Pods that are ready."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
        Column::SELECTOR,
    ],
    cells,
    selectable_fields: &[as_named("status.replicas")],
    ..BuiltIn::STORED
};

static RULES: Rules<ReplicaSet> = Rules { default, validate, warnings, ..Rules::STORED };

fn default(new: &mut ReplicaSet, old: Option<&ReplicaSet>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    fill(&mut spec.replicas, 1);
    workload::default_template(spec.template.get_or_insert_default());
    if old.is_none() {
        new.status = Some(ReplicaSetStatus::default());
    }
}

fn validate(new: &ReplicaSet, old: Option<&ReplicaSet>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            let parts =
                [status.fully_labeled_replicas, status.ready_replicas, status.available_replicas];
            workload::validate_replicas(&mut causes, status.replicas, parts);
        }
        return causes;
    }
    checks::not_negative(&mut causes, "spec.replicas", spec.replicas);
    checks::not_negative(&mut causes, "spec.minReadySeconds", spec.min_ready_seconds);
    let empty = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&empty);
    workload::selector_and_template(&mut causes, &spec.selector, template, "ReplicaSet");
    if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
        checks::immutable(&mut causes, "spec.selector", &spec.selector, &old.selector);
    }
    causes
}

fn warnings(new: &ReplicaSet, old: Option<&ReplicaSet>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(new.metadata.name.as_ref(), new.spec.as_ref(), old, |spec| {
        spec.template.as_ref()
    })
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let set: ReplicaSet = object.parse()?;
    let (spec, status) = (set.spec.as_ref(), set.status.clone().unwrap_or_default());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or_default();
    let mut row = row::plain(object, now, [wanted, status.replicas, ready]);
    row.extend(row::containers(spec.and_then(|spec| spec.template.as_ref())));
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

    fn base() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}})
    }

    #[test]
    fn defaults_and_rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let check = |change: Value, old: Option<&ReplicaSet>| {
            let mut new: ReplicaSet = object(merged(base(), &change));
            default(&mut new, old, &context);
            (lines(&validate(&new, old, &context)), new)
        };
        let (faults, first) = check(json!({}), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(first.spec.as_ref().unwrap().replicas, Some(1));
        assert_eq!(first.status.as_ref().unwrap().replicas, 0);
        assert_eq!(
            check(json!({"spec": {"replicas": -1, "minReadySeconds": -2}}), None).0,
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0",
            ]
        );
        let other = json!({"spec": {"selector": {"matchLabels": {"app": null, "x": "y"}},
            "template": {"metadata": {"labels": {"x": "y"}}}}});
        assert_eq!(
            check(other, Some(&first)).0,
            ["spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable"]
        );
    }
}
