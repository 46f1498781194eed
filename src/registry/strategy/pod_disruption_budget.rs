//! PodDisruptionBudgets: one of two bounds, and when unhealthy pods may go.

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{BuiltIn, Context, Rules, checks},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::POD_DISRUPTION_BUDGET,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Min Available", "Pods that must stay."),
        Column::text("Max Unavailable", "Pods that may be away."),
        Column::number("Allowed Disruptions", "Pods that may be evicted now."),
        Column::AGE,
    ],
    cells,
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

static RULES: Rules<PodDisruptionBudget> = Rules { default, validate, ..Rules::STORED };

fn default(
    new: &mut PodDisruptionBudget,
    old: Option<&PodDisruptionBudget>,
    _context: &Context<'_>,
) {
    if old.is_none() {
        // Nothing may be evicted before the controller has counted.
        new.status = Some(PodDisruptionBudgetStatus {
            current_healthy: Some(0),
            desired_healthy: Some(0),
            disruptions_allowed: Some(0),
            expected_pods: Some(0),
            ..<_>::default()
        });
    }
}

fn validate(
    new: &PodDisruptionBudget,
    _old: Option<&PodDisruptionBudget>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            for (field, count) in [
                ("disruptionsAllowed", status.disruptions_allowed),
                ("currentHealthy", status.current_healthy),
                ("desiredHealthy", status.desired_healthy),
                ("expectedPods", status.expected_pods),
            ] {
                checks::not_negative(&mut causes, &format!("status.{field}"), count);
            }
        }
        return causes;
    }
    let Some(spec) = &new.spec else { return causes };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let rule = "minAvailable and maxUnavailable cannot be both set";
        causes.push(Cause::invalid("spec", checks::shown(spec), rule));
    }
    let bounds = [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)];
    for (field, bound) in bounds {
        if let Some(bound) = bound {
            let field = format!("spec.{field}");
            checks::count_or_percent(&mut causes, &field, bound);
            checks::not_above_all(&mut causes, &field, bound);
        }
    }
    if let Some(selector) = &spec.selector {
        checks::selector(&mut causes, "spec.selector", selector);
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        checks::one_of(&mut causes, "spec.unhealthyPodEvictionPolicy", policy, &known);
    }
    causes
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let budget: PodDisruptionBudget = object.parse()?;
    let spec = budget.spec.unwrap_or_default();
    let shown = |value: Option<IntOrString>| match value {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(text)) => text,
        None => "N/A".to_owned(),
    };
    let allowed = budget.status.and_then(|status| status.disruptions_allowed).unwrap_or_default();
    let (least, most) = (shown(spec.min_available), shown(spec.max_unavailable));
    Ok(row::plain(object, now, [Value::from(least), most.into(), allowed.into()]))
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
    fn rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        for (spec, expected) in [
            (json!({"minAvailable": 1, "selector": {}}), vec![]),
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                vec![
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
                ],
            ),
            (
                json!({"minAvailable": "200%"}),
                vec!["spec.minAvailable: Invalid value: \"200%\": must not be greater than 100%"],
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                vec![
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ] {
            let new: PodDisruptionBudget = object(json!({"apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec}));
            assert_eq!(lines(&validate(&new, None, &context)), expected);
        }
    }
}
