//! HorizontalPodAutoscalers of `autoscaling/v1`. That version knows only a target for CPU; it keeps the rest of v2 as JSON
//! in annotations, where the metrics have fields of their own names.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

const TARGET_CPU: &str = "targetCPUUtilizationPercentage";
const CURRENT_CPU: &str = "currentCPUUtilizationPercentage";
/// The field of each type of metric.
const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

/// Whether metrics are what is wanted or what is measured.
#[derive(Clone, Copy)]
enum Side {
    Target,
    Current,
}

/// The v2 form of a document of v1.
pub(super) fn to_v2(mut document: Value) -> Value {
    let kept = take_annotations(&mut document);
    let saved = |name: &str| -> Value {
        let text = kept.get(name).and_then(Value::as_str);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("metrics");
        spec.remove("behavior");
        let mut metrics = all_metrics(&saved(METRICS), Side::Target, metric_to_v2);
        if let Some(percent) = spec.remove(TARGET_CPU).filter(|percent| !percent.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            metrics
                .push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        insert(spec, "metrics", metrics.into());
        insert(spec, "behavior", saved(BEHAVIOR));
    }
    let (conditions, saved_current) = (saved(CONDITIONS), saved(CURRENT_METRICS));
    let has_status = document.get("status").is_some_and(Value::is_object);
    if (has_status || !conditions.is_null() || !saved_current.is_null())
        && let Some(fields) = document.as_object_mut()
        && let Some(status) = fields.entry("status").or_insert_with(|| json!({})).as_object_mut()
    {
        status.remove("currentMetrics");
        status.remove("conditions");
        let mut metrics = all_metrics(&saved_current, Side::Current, metric_to_v2);
        let percent = status.remove(CURRENT_CPU).filter(|percent| !percent.is_null());
        if let Some(percent) = percent.filter(|_| metrics.is_empty()) {
            let current = json!({"averageUtilization": percent});
            metrics
                .push(json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
        }
        insert(status, "currentMetrics", metrics.into());
        insert(status, "conditions", conditions);
    }
    document
}

/// The v1 form of a document of v2.
pub(super) fn from_v2(mut document: Value) -> Value {
    take_annotations(&mut document);
    let mut kept = Map::new();
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = spec.remove("metrics").unwrap_or_default();
        let cpu = cpu_utilization(&metrics, "target");
        let others =
            metrics.as_array().into_iter().flatten().filter(|metric| !is_cpu(metric, "target"));
        let others: Vec<Value> = others.map(|metric| metric_to_v1(metric, Side::Target)).collect();
        keep(&mut kept, METRICS, &others.into());
        insert(spec, TARGET_CPU, cpu);
        keep(&mut kept, BEHAVIOR, &spec.remove("behavior").unwrap_or_default());
    }
    if let Some(status) = document.get_mut("status").and_then(Value::as_object_mut) {
        let metrics = status.remove("currentMetrics").unwrap_or_default();
        insert(status, CURRENT_CPU, cpu_utilization(&metrics, "current"));
        keep(
            &mut kept,
            CURRENT_METRICS,
            &all_metrics(&metrics, Side::Current, metric_to_v1).into(),
        );
        keep(&mut kept, CONDITIONS, &status.remove("conditions").unwrap_or_default());
    }
    if !kept.is_empty()
        && let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
    {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.extend(kept);
        }
    }
    document
}

/// Takes out the annotations that hold what v1 has no fields for.
fn take_annotations(document: &mut Value) -> Map<String, Value> {
    let mut taken = Map::new();
    let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) else {
        return taken;
    };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return taken;
    };
    for name in ANNOTATIONS {
        taken.extend(annotations.remove(name).map(|value| (name.to_owned(), value)));
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken
}

fn keep(annotations: &mut Map<String, Value>, name: &str, value: &Value) {
    if !is_nothing(value) {
        annotations.insert(name.to_owned(), value.to_string().into());
    }
}

fn insert(fields: &mut Map<String, Value>, name: &str, value: Value) {
    if !is_nothing(&value) {
        fields.insert(name.to_owned(), value);
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn is_cpu(metric: &Value, side: &str) -> bool {
    let resource = &metric["resource"];
    metric["type"] == "Resource"
        && resource["name"] == "cpu"
        && !resource[side]["averageUtilization"].is_null()
}

fn cpu_utilization(metrics: &Value, side: &str) -> Value {
    let mut all = metrics.as_array().into_iter().flatten();
    let cpu = all.find(|metric| is_cpu(metric, side));
    cpu.map(|metric| metric["resource"][side]["averageUtilization"].clone()).unwrap_or_default()
}

fn all_metrics(metrics: &Value, side: Side, convert: fn(&Value, Side) -> Value) -> Vec<Value> {
    metrics.as_array().into_iter().flatten().map(|metric| convert(metric, side)).collect()
}

/// The names in v1 of value, average value and average utilization of a source, as far as it has them.
fn amounts(source: &str, side: Side) -> [(&'static str, &'static str); 3] {
    let (value, average, utilization) = match side {
        Side::Target => ("targetValue", "targetAverageValue", "targetAverageUtilization"),
        Side::Current => ("currentValue", "currentAverageValue", "currentAverageUtilization"),
    };
    let average = if source == "object" { "averageValue" } else { average };
    [("value", value), ("averageValue", average), ("averageUtilization", utilization)]
}

fn selector_name(source: &str) -> &'static str {
    if source == "external" { "metricSelector" } else { "selector" }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Target => "target",
        Side::Current => "current",
    }
}

/// The names that a source has in both versions.
const SAME: [&str; 2] = ["name", "container"];

fn metric_to_v1(metric: &Value, side: Side) -> Value {
    each_source(metric, |source, of| {
        let mut fields = Map::new();
        let mut put = |name: &str, value: &Value| insert(&mut fields, name, value.clone());
        put("target", &of["describedObject"]);
        for name in SAME {
            put(name, &of[name]);
        }
        put("metricName", &of["metric"]["name"]);
        put(selector_name(source), &of["metric"]["selector"]);
        for (new, old) in amounts(source, side) {
            put(old, &of[side_name(side)][new]);
        }
        fields
    })
}

fn metric_to_v2(metric: &Value, side: Side) -> Value {
    each_source(metric, |source, of| {
        let mut amount = Map::new();
        for (new, old) in amounts(source, side) {
            insert(&mut amount, new, of[old].clone());
        }
        if matches!(side, Side::Target) {
            let kinds = [
                ("averageUtilization", "Utilization"),
                ("averageValue", "AverageValue"),
                ("value", "Value"),
            ];
            let kind = kinds.into_iter().find(|(field, _)| amount.contains_key(*field));
            insert(&mut amount, "type", kind.map_or(Value::Null, |(_, kind)| kind.into()));
        }
        let mut named = Map::new();
        insert(&mut named, "name", of["metricName"].clone());
        insert(&mut named, "selector", of[selector_name(source)].clone());
        let mut fields = Map::new();
        insert(&mut fields, "describedObject", of["target"].clone());
        for name in SAME {
            insert(&mut fields, name, of[name].clone());
        }
        if !named.is_empty() {
            fields.insert("metric".to_owned(), named.into());
        }
        fields.insert(side_name(side).to_owned(), amount.into());
        fields
    })
}

/// A metric with the fields of its sources changed.
fn each_source(metric: &Value, change: impl Fn(&str, &Value) -> Map<String, Value>) -> Value {
    let mut changed = Map::new();
    insert(&mut changed, "type", metric["type"].clone());
    for source in SOURCES {
        let of = &metric[source];
        if of.is_object() {
            changed.insert(source.to_owned(), change(source, of).into());
        }
    }
    changed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_version_keeps_the_rest_in_annotations() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "5"}}});
        let object = json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
            "metric": {"name": "m"}, "target": {"type": "Value", "value": "7"}}});
        let current = json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 40, "averageValue": "1"}}});
        let new = json!({"metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [pods, object, cpu], "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 1, "currentMetrics": [current], "conditions": [{"type": "AbleToScale"}]}});
        let old = from_v2(new.clone());
        assert_eq!(old["spec"], json!({"maxReplicas": 3, TARGET_CPU: 50}));
        assert_eq!(old["status"], json!({"currentReplicas": 1, CURRENT_CPU: 40}));
        let saved = |name: &str| -> Value {
            serde_json::from_str(old["metadata"]["annotations"][name].as_str().unwrap()).unwrap()
        };
        assert_eq!(
            saved(METRICS),
            json!([
                {"type": "Pods", "pods": {"metricName": "m", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "5"}},
                {"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "m", "targetValue": "7"}},
            ])
        );
        assert_eq!(
            saved(CURRENT_METRICS),
            json!([{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 40, "currentAverageValue": "1"}}])
        );
        assert_eq!(to_v2(old), new);
        let plain = json!({"metadata": {}, "spec": {"maxReplicas": 3}});
        assert_eq!(to_v2(from_v2(plain.clone())), plain);
    }
}
