//! HorizontalPodAutoscalers: bounds that fit together, metrics with one source and one target, rules of scaling.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    model::{
        Cause, Object,
        kind::extension::{HORIZONTAL_POD_AUTOSCALER, HORIZONTAL_POD_AUTOSCALER_V1},
        quantity,
    },
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, checks,
            document::DocumentRules,
            json::{above_zero, fill, is_set, items, number, stored_only, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &HORIZONTAL_POD_AUTOSCALER,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Reference", "What is scaled."),
        Column::text("Targets", "Metrics as they are measured, and as they are wanted."),
        Column::text("MinPods", "Pods that there are at least."),
        Column::text("MaxPods", "Pods that there are at most."),
        Column::text("Replicas", "Pods that there were when the autoscaler looked last."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

/// The form of `autoscaling/v1`.
pub(super) static V1: BuiltIn = BuiltIn { kind: &HORIZONTAL_POD_AUTOSCALER_V1, ..DESCRIPTOR };

static RULES: DocumentRules = DocumentRules {
    default,
    validate,
    warnings: |new, old| stored_only(new, old, "scales nothing by it"),
    ..DocumentRules::STORED
};

/// Types of metrics, in the order of Kubernetes' message.
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Types and their fields, in the order in which Kubernetes looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
/// Metrics that are shown before `+ n more...`.
const METRICS_MAX: usize = 2;
const STABILIZATION_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

fn default(new: &mut Value, _old: Option<&Value>, _context: &Context<'_>) {
    let spec = &mut new["spec"];
    fill(spec, "minReplicas", 1);
    if items(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] =
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    if let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) {
        let all = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let four = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [four, all]});
        let down = json!({"selectPolicy": "Max", "policies": [all]});
        for (field, rules) in [("scaleUp", up), ("scaleDown", down)] {
            fill(behavior, field, json!({}));
            for (name, value) in rules.as_object().into_iter().flatten() {
                fill(&mut behavior[field], name, value.clone());
            }
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        for field in ["currentReplicas", "desiredReplicas"] {
            let path = format!("status.{field}");
            checks::not_negative(&mut causes, &path, number(&new["status"], field));
        }
        return causes;
    }
    let spec = &new["spec"];
    let (min, max) = (number(spec, "minReplicas"), number(spec, "maxReplicas").unwrap_or_default());
    let had_zero = old.is_some_and(|old| number(&old["spec"], "minReplicas") == Some(0));
    let bound = if had_zero { 0 } else { 1 };
    if let Some(min) = min.filter(|min| *min < bound) {
        let rule = format!("must be greater than or equal to {bound}");
        causes.push(Cause::invalid("spec.minReplicas", min, &rule));
    }
    match max {
        0 => causes.push(Cause::required("spec.maxReplicas", "must be set and greater than 0")),
        _ => above_zero(&mut causes, "spec.maxReplicas", max, "must be greater than 0"),
    }
    if min.is_some_and(|min| max < min) {
        let rule = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", max, rule));
    }
    reference(&mut causes, "spec.scaleTargetRef", &spec["scaleTargetRef"]);
    let of_version = |spec: &Value| version_fault(&spec["scaleTargetRef"]);
    if old.is_none_or(|old| of_version(&old["spec"]).is_none()) {
        causes.extend(of_version(spec));
    }
    metrics(&mut causes, items(spec, "metrics"));
    let scaling_from_zero = ["Object", "External"];
    if min == Some(0)
        && !items(spec, "metrics").iter().any(|m| scaling_from_zero.contains(&text(m, "type")))
    {
        let rule = "must specify at least one Object or External metric to support scaling to zero replicas";
        causes.push(Cause::forbidden("spec.metrics", rule));
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["behavior"][direction];
        if rules.is_object() {
            scaling_rules(&mut causes, &format!("spec.behavior.{direction}"), rules);
        }
    }
    causes
}

fn reference(causes: &mut Vec<Cause>, path: &str, target: &Value) {
    for field in ["kind", "name"] {
        checks::path_segment(causes, &format!("{path}.{field}"), text(target, field));
    }
}

/// What is wrong with the `apiVersion` of the target. Only ReplicationControllers have no group.
fn version_fault(target: &Value) -> Option<Cause> {
    const FIELD: &str = "spec.scaleTargetRef.apiVersion";
    let version = text(target, "apiVersion");
    let slashes = version.matches('/').count();
    if slashes > 1 {
        let rule = format!("unexpected GroupVersion string: {version}");
        return Some(Cause::invalid(FIELD, version, &rule));
    }
    let needs_group = text(target, "kind") != "ReplicationController";
    (needs_group && (slashes == 0 || version.starts_with('/')))
        .then(|| Cause::invalid(FIELD, version, "apiVersion must specify API group"))
}

fn metrics(causes: &mut Vec<Cause>, metrics: &[Value]) {
    for (i, metric) in metrics.iter().enumerate() {
        let path = format!("spec.metrics[{i}]");
        let kind = text(metric, "type");
        if kind.is_empty() {
            let rule = "must specify a metric source type";
            causes.push(Cause::required(format!("{path}.type"), rule));
        }
        let is_known = |causes: &mut Vec<Cause>| {
            checks::one_of(causes, &format!("{path}.type"), kind, &TYPES);
        };
        is_known(causes);
        let given: Vec<_> =
            SOURCES.into_iter().filter(|(_, field)| metric[*field].is_object()).collect();
        if let Some((_, field)) = given.first() {
            source(causes, &format!("{path}.{field}"), field, &metric[*field]);
        }
        let wanted = SOURCES.iter().find(|(name, _)| *name == kind);
        if let Some((_, field)) = wanted.filter(|wanted| !given.contains(wanted)) {
            let rule = "must populate information for the given metric source";
            causes.push(Cause::required(format!("{path}.{field}"), rule));
        }
        if wanted.is_none() {
            is_known(causes);
        }
        if given.len() != 1 {
            let others = given.iter().filter(|(name, _)| *name != kind);
            causes.extend(others.map(|(_, field)| {
                let rule = "must populate the given metric source only";
                Cause::forbidden(format!("{path}.{field}"), rule)
            }));
        }
    }
}

fn source(causes: &mut Vec<Cause>, path: &str, field: &str, of: &Value) {
    let target = &of["target"];
    let has = |amount: &str| is_set(target, amount);
    if field == "object" {
        reference(causes, &format!("{path}.describedObject"), &of["describedObject"]);
    }
    match field {
        "resource" | "containerResource" => {
            if text(of, "name").is_empty() {
                causes
                    .push(Cause::required(format!("{path}.name"), "must specify a resource name"));
            }
            let container = text(of, "container");
            if field == "containerResource" && container.is_empty() {
                let rule = "must specify a container";
                causes.push(Cause::required(format!("{path}.container"), rule));
            } else if field == "containerResource" {
                checks::name(causes, &format!("{path}.container"), container, NameForm::Label);
            }
        }
        _ => metric_name(causes, &format!("{path}.metric"), &of["metric"]),
    }
    target_of(causes, &format!("{path}.target"), target);
    let at = |amount: &str| format!("{path}.target.{amount}");
    let (value, average, utilization) =
        (has("value"), has("averageValue"), has("averageUtilization"));
    match field {
        "object" if !value && !average => causes.push(Cause::required(
            at("averageValue"),
            "must set either a target value or averageValue",
        )),
        "external" if !value && !average => causes.push(Cause::required(
            at("averageValue"),
            "must set either a target value for metric or a per-pod target",
        )),
        "external" if value && average => causes.push(Cause::forbidden(
            at("value"),
            "may not set both a target value for metric and a per-pod target",
        )),
        "pods" if !average => causes.push(Cause::required(
            at("averageValue"),
            "must specify a positive target averageValue",
        )),
        "resource" | "containerResource" if !utilization && !average => {
            causes.push(Cause::required(
                at("averageUtilization"),
                "must set either a target raw value or a target utilization",
            ));
        }
        "resource" | "containerResource" if utilization && average => {
            causes.push(Cause::forbidden(
                at("averageValue"),
                "may not set both a target raw value and a target utilization",
            ));
        }
        _ => {}
    }
}

fn metric_name(causes: &mut Vec<Cause>, path: &str, metric: &Value) {
    let (name, path) = (text(metric, "name"), format!("{path}.name"));
    if name.is_empty() {
        causes.push(Cause::required(path, "must specify a metric name"));
    } else {
        checks::name(causes, &path, name, NameForm::PathSegment);
    }
}

fn target_of(causes: &mut Vec<Cause>, path: &str, target: &Value) {
    let kind = text(target, "type");
    let at = format!("{path}.type");
    if kind.is_empty() {
        causes.push(Cause::required(at.clone(), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let rule = "must be either Utilization, Value, or AverageValue";
        causes.push(Cause::invalid(at, kind, rule));
    }
    for field in ["value", "averageValue"] {
        let amount = text(target, field);
        if quantity::nano(amount).is_some_and(|amount| amount <= 0) {
            causes.push(Cause::invalid(format!("{path}.{field}"), amount, "must be positive"));
        }
    }
    if let Some(percent) = number(target, "averageUtilization") {
        let path = format!("{path}.averageUtilization");
        above_zero(causes, &path, percent, "must be greater than 0");
    }
}

fn scaling_rules(causes: &mut Vec<Cause>, path: &str, rules: &Value) {
    let at = |field: &str| format!("{path}.{field}");
    let mut broken = |field: &str, value: i64, rule: &str| {
        causes.push(Cause::invalid(at(field), value, rule));
    };
    match number(rules, "stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => {
            broken("stabilizationWindowSeconds", seconds, "must be greater than or equal to zero");
        }
        Some(seconds) if seconds > STABILIZATION_SECONDS_MAX => {
            let rule = format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}");
            broken("stabilizationWindowSeconds", seconds, &rule);
        }
        _ => {}
    }
    if is_set(rules, "selectPolicy") {
        let policy = text(rules, "selectPolicy");
        checks::one_of(causes, &at("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let policies = items(rules, "policies");
    if policies.is_empty() {
        causes.push(Cause::required(at("policies"), "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        scaling_policy(causes, &format!("{path}.policies[{i}]"), policy);
    }
    let tolerance = text(rules, "tolerance");
    if quantity::nano(tolerance).is_some_and(|tolerance| tolerance < 0) {
        let rule = "must be greater than or equal to 0";
        causes.push(Cause::invalid(at("tolerance"), tolerance, rule));
    }
}

fn scaling_policy(causes: &mut Vec<Cause>, path: &str, policy: &Value) {
    let kind = text(policy, "type");
    checks::one_of(causes, &format!("{path}.type"), kind, &["Percent", "Pods"]);
    let amount = |field: &str| number(policy, field).unwrap_or_default();
    let rule = "must be greater than zero";
    above_zero(causes, &format!("{path}.value"), amount("value"), rule);
    let (at, seconds) = (format!("{path}.periodSeconds"), amount("periodSeconds"));
    above_zero(causes, &at, seconds, rule);
    if seconds > PERIOD_SECONDS_MAX {
        let rule = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        causes.push(Cause::invalid(at, seconds, &rule));
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let document: Value = row::stored(object)?;
    let (spec, status) = (&document["spec"], &document["status"]);
    let target = &spec["scaleTargetRef"];
    let least = number(spec, "minReplicas").map(|least| least.to_string());
    let cells: [Value; 5] = [
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        targets(&spec["metrics"], &status["currentMetrics"]).into(),
        least.unwrap_or_else(|| row::UNSET.to_owned()).into(),
        number(spec, "maxReplicas").unwrap_or_default().into(),
        number(status, "currentReplicas").unwrap_or_default().into(),
    ];
    Ok(row::plain(object, now, cells))
}

fn targets(metrics: &Value, current: &Value) -> String {
    let metrics = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.is_empty() {
        return row::NONE.to_owned();
    }
    let shown = metrics.iter().take(METRICS_MAX).enumerate();
    let shown: Vec<String> = shown.map(|(i, metric)| printed(metric, &current[i])).collect();
    let listed = shown.join(", ");
    match metrics.len().saturating_sub(METRICS_MAX) {
        0 => listed,
        more => format!("{listed} + {more} more..."),
    }
}

/// What is measured, and what is wanted.
fn printed(metric: &Value, current: &Value) -> String {
    let kind = text(metric, "type");
    let Some((_, source)) = SOURCES.into_iter().find(|(name, _)| *name == kind) else {
        return "<unknown type>".to_owned();
    };
    let (wanted, measured) = (&metric[source]["target"], &current[source]["current"]);
    let measured_as = |field: &str| row::or(text(measured, field), row::UNKNOWN);
    let average = wanted["averageValue"].as_str();
    if matches!(kind, "Resource" | "ContainerResource") {
        let name = text(&metric[source], "name");
        if let Some(average) = average {
            return format!("{name}: {}/{average}", measured_as("averageValue"));
        }
        let percent = |of: &Value, instead: &str| {
            let number = number(of, "averageUtilization");
            number.map_or_else(|| instead.to_owned(), |number| format!("{number}%"))
        };
        return format!(
            "{name}: {}/{}",
            percent(measured, row::UNKNOWN),
            percent(wanted, "<auto>")
        );
    }
    match (average, kind) {
        (Some(average), "Pods") => format!("{}/{average}", measured_as("averageValue")),
        (Some(average), _) => format!("{}/{average} (avg)", measured_as("averageValue")),
        (None, _) => format!("{}/{}", measured_as("value"), text(wanted, "value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::kind::extension::HORIZONTAL_POD_AUTOSCALER as KIND,
        registry::strategy::json::testing::{admitted, check_faults},
    };

    fn autoscaler() -> Value {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"maxReplicas": 3, "minReplicas": 1,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
    }

    #[test]
    fn defaults() {
        let mut given = autoscaler();
        given["spec"]["metrics"] = json!([]);
        let (_, document) = admitted(&RULES, &KIND, given, None);
        let spec = &document["spec"];
        assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 5);
        assert_eq!(spec["behavior"]["scaleUp"]["policies"][0]["type"], "Pods");
        assert_eq!(spec["behavior"]["scaleDown"]["policies"][0]["value"], 100);
        assert!(!is_set(&spec["behavior"]["scaleDown"], "stabilizationWindowSeconds"));
    }

    #[test]
    fn rules() {
        let metric = |metric: Value| ("/spec/metrics/0", metric);
        let (at, value) = metric(
            json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "X"}}}),
        );
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/minReplicas",
                json!(0),
                &[
                    "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                    "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to \
                     zero replicas",
                ],
            ),
            (
                "/spec/maxReplicas",
                json!(0),
                &[
                    "spec.maxReplicas: Required value: must be set and greater than 0",
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                ],
            ),
            ("/spec/scaleTargetRef/name", json!(""), &["spec.scaleTargetRef.name: Required value"]),
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("v1"),
                &[
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
                ],
            ),
            (
                at,
                value,
                &[
                    "spec.metrics[0].pods.target.type: Invalid value: \"X\": must be either Utilization, Value, or AverageValue",
                    "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
                ],
            ),
            (
                "/spec/metrics/0/resource",
                Value::Null,
                &[
                    "spec.metrics[0].resource: Required value: must populate information for the given metric source",
                ],
            ),
            (
                "/spec/metrics/0/resource/target/averageUtilization",
                json!(0),
                &[
                    "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                ],
            ),
            (
                "/spec/behavior/scaleUp",
                json!({"stabilizationWindowSeconds": 3601, "selectPolicy": "All",
                    "policies": [{"type": "Percent", "value": 0, "periodSeconds": 1801}]}),
                &[
                    "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                    "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"All\": supported values: \"Disabled\", \"Max\", \"Min\"",
                    "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                    "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                ],
            ),
        ];
        check_faults(&RULES, &KIND, &autoscaler(), cases);
    }

    #[test]
    fn targets_of_autoscalers() {
        let resource = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        let cpu = resource(json!({"averageUtilization": 50}));
        let measured =
            json!({"resource": {"current": {"averageUtilization": 40, "averageValue": "3"}}});
        for (metrics, current, expected) in [
            (json!([]), json!([]), "<none>"),
            (json!([cpu]), json!([]), "cpu: <unknown>/50%"),
            (json!([cpu]), json!([measured]), "cpu: 40%/50%"),
            (json!([resource(json!({}))]), json!([]), "cpu: <unknown>/<auto>"),
            (json!([resource(json!({"averageValue": "5"}))]), json!([measured]), "cpu: 3/5"),
            (
                json!([{"type": "Pods", "pods": {"target": {"averageValue": "5"}}}, cpu, cpu]),
                json!([]),
                "<unknown>/5, cpu: <unknown>/50% + 1 more...",
            ),
            (
                json!([{"type": "External", "external": {"target": {"averageValue": "5"}}},
                       {"type": "Object", "object": {"target": {"value": "7"}}}]),
                json!([{"external": {"current": {"averageValue": "4"}}}]),
                "4/5 (avg), <unknown>/7",
            ),
        ] {
            assert_eq!(targets(&metrics, &current), expected, "{metrics}");
        }
    }
}
