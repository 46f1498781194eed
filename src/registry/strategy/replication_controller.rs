//! ReplicationControllers: defaults from the pod template, and rules of selector and template.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerStatus},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks, fields::fill, pod_warnings, replica_set,
            workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::REPLICATION_CONTROLLER,
    rules: &RULES,
    columns: replica_set::DESCRIPTOR.columns,
    cells,
    selectable_fields: &[as_named("status.replicas")],
    ..BuiltIn::STORED
};

static RULES: Rules<ReplicationController> = Rules { default, validate, warnings, ..Rules::STORED };

fn default(
    new: &mut ReplicationController,
    old: Option<&ReplicationController>,
    _context: &Context<'_>,
) {
    let spec = new.spec.get_or_insert_default();
    fill(&mut spec.replicas, 1);
    let template = spec.template.get_or_insert_default();
    workload::default_template(template);
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    if let Some(labels) = labels {
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if new.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
            new.metadata.labels = Some(labels);
        }
    }
    if old.is_none() {
        new.status = Some(ReplicationControllerStatus::default());
    }
}

fn validate(
    new: &ReplicationController,
    _old: Option<&ReplicationController>,
    context: &Context<'_>,
) -> Vec<Cause> {
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
    checks::not_negative(&mut causes, "spec.minReadySeconds", spec.min_ready_seconds);
    checks::not_negative(&mut causes, "spec.replicas", spec.replicas);
    let empty = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&empty);
    let selector = LabelSelector { match_labels: spec.selector.clone(), ..<_>::default() };
    workload::selector_and_template(&mut causes, &selector, template, "ReplicationController");
    causes
}

fn warnings(new: &ReplicationController, old: Option<&ReplicationController>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(new.metadata.name.as_ref(), new.spec.as_ref(), old, |spec| {
        spec.template.as_ref()
    })
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let controller: ReplicationController = object.parse()?;
    let spec = controller.spec.as_ref();
    let status = controller.status.clone().unwrap_or_default();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or_default();
    let mut row = row::plain(object, now, [wanted, status.replicas, ready]);
    row.extend(row::containers(spec.and_then(|spec| spec.template.as_ref())));
    row.push(row::labels(spec.and_then(|spec| spec.selector.as_ref())).into());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, object, options},
    };

    #[test]
    fn selector_and_labels_come_from_the_template() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let check = |selector: serde_json::Value| {
            let mut new: ReplicationController = object(json!({"apiVersion": "v1",
                "kind": "ReplicationController", "metadata": {"name": "old"},
                "spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "old"}},
                    "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}));
            default(&mut new, None, &context);
            (lines(&validate(&new, None, &context)), new)
        };
        let (faults, new) = check(json!(null));
        assert_eq!(faults, [""; 0]);
        assert_eq!(new.metadata.labels.unwrap()["app"], "old");
        assert_eq!(new.spec.unwrap().selector.unwrap()["app"], "old");
        assert_eq!(
            check(json!({"app": "other"})).0,
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"old\"}: `selector` does not match template `labels`"
            ]
        );
    }
}
