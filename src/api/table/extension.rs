//! The cells of kinds by which a cluster is extended and run: autoscaling, admission, aggregation, flow control, signing
//! and devices.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::{
    api::table::{
        age::human,
        row::{NONE, age, joined, or, plain, selector},
    },
    model::Object,
};

const UNKNOWN: &str = "<unknown>";
const UNSET: &str = "<unset>";
/// Metrics that are shown before `+ n more...`.
const METRICS_MAX: usize = 2;

/// All cells of a row; `None` for other kinds.
pub(super) fn cells(object: &Object, document: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (spec, status) = (&document["spec"], &document["status"]);
    Some(match &*object.key.kind.kind {
        "HorizontalPodAutoscaler" => plain(object, now, autoscaler(spec, status)),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            plain(object, now, [count(&document["webhooks"])])
        }
        "MutatingAdmissionPolicy" => {
            plain(object, now, [count(&spec["mutations"]).into(), param_kind(spec)])
        }
        "ValidatingAdmissionPolicy" => {
            plain(object, now, [count(&spec["validations"]).into(), param_kind(spec)])
        }
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => {
            plain(object, now, [text(spec, "policyName"), param_ref(spec)])
        }
        "APIService" => plain(object, now, api_service(spec, status)),
        "FlowSchema" => {
            let level = text(&spec["priorityLevelConfiguration"], "name");
            let precedence = spec["matchingPrecedence"].as_i64().unwrap_or_default();
            let method = or(text(&spec["distinguisherMethod"], "type"), NONE);
            let mut row =
                plain(object, now, [level.into(), precedence.into(), Value::from(method)]);
            let dangling = condition(status, "Dangling").map(|found| text(found, "status"));
            row.push(dangling.unwrap_or_else(|| "?".to_owned()).into());
            row
        }
        "PriorityLevelConfiguration" => plain(object, now, priority_level(spec)),
        "CertificateSigningRequest" => signing_request(object, spec, status, now),
        "ComponentStatus" => component_status(object, document),
        "ResourceClaim" => plain(object, now, [claim_state(document)]),
        "ResourceSlice" => {
            let driver = spec["driver"].clone();
            let pool = spec["pool"]["name"].clone();
            let node = Some(&spec["nodeName"]).filter(|node| *node != "").cloned();
            plain(object, now, [node.unwrap_or_default(), driver, pool])
        }
        _ => return None,
    })
}

fn text(of: &Value, field: &str) -> String {
    of[field].as_str().unwrap_or_default().to_owned()
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array().into_iter().flatten().find(|found| found["type"] == kind)
}

fn autoscaler(spec: &Value, status: &Value) -> [Value; 5] {
    let target = &spec["scaleTargetRef"];
    let min = spec["minReplicas"].as_i64().map_or_else(|| UNSET.to_owned(), |min| min.to_string());
    [
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        targets(&spec["metrics"], &status["currentMetrics"]).into(),
        min.into(),
        spec["maxReplicas"].as_i64().unwrap_or_default().into(),
        status["currentReplicas"].as_i64().unwrap_or_default().into(),
    ]
}

fn targets(metrics: &Value, current: &Value) -> String {
    let metrics = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.is_empty() {
        return NONE.to_owned();
    }
    let shown = metrics.iter().take(METRICS_MAX).enumerate();
    let shown: Vec<String> = shown.map(|(i, metric)| target(metric, &current[i])).collect();
    let listed = shown.join(", ");
    match metrics.len().saturating_sub(METRICS_MAX) {
        0 => listed,
        more => format!("{listed} + {more} more..."),
    }
}

/// What is measured, and what is wanted.
fn target(metric: &Value, current: &Value) -> String {
    let (source, by_name) = match &*text(metric, "type") {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, measured) = (&metric[source]["target"], &current[source]["current"]);
    let measured_as = |field: &str| or(text(measured, field), UNKNOWN);
    let average = wanted["averageValue"].as_str();
    if by_name {
        let name = text(&metric[source], "name");
        if let Some(average) = average {
            return format!("{name}: {}/{average}", measured_as("averageValue"));
        }
        let percent = |of: &Value, instead: &str| {
            let number = of["averageUtilization"].as_i64();
            number.map_or_else(|| instead.to_owned(), |number| format!("{number}%"))
        };
        return format!("{name}: {}/{}", percent(measured, UNKNOWN), percent(wanted, "<auto>"));
    }
    match (average, source) {
        (Some(average), "pods") => format!("{}/{average}", measured_as("averageValue")),
        (Some(average), _) => format!("{}/{average} (avg)", measured_as("averageValue")),
        (None, _) => format!("{}/{}", measured_as("value"), text(wanted, "value")),
    }
}

fn param_kind(spec: &Value) -> Value {
    let kind = &spec["paramKind"];
    if kind.is_null() {
        return UNSET.into();
    }
    format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into()
}

fn param_ref(spec: &Value) -> String {
    let reference = &spec["paramRef"];
    if reference.is_null() {
        return UNSET.to_owned();
    }
    let name = text(reference, "name");
    if name.is_empty() {
        let chosen = serde_json::from_value::<LabelSelector>(reference["selector"].clone());
        return chosen.map(|chosen| selector(&chosen)).unwrap_or_default();
    }
    format!("{}/{name}", or(text(reference, "namespace"), "*"))
}

fn api_service(spec: &Value, status: &Value) -> [String; 2] {
    let service = &spec["service"];
    let service = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    };
    let available = match condition(status, "Available") {
        None => "Unknown".to_owned(),
        Some(found) if found["status"] == "True" => "True".to_owned(),
        Some(found) => format!("{} ({})", text(found, "status"), text(found, "reason")),
    };
    [service, available]
}

fn priority_level(spec: &Value) -> [Value; 5] {
    let limited = &spec["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |of: &Value, field: &str| match &of[field] {
        Value::Null => NONE.into(),
        number => number.clone(),
    };
    [
        text(spec, "type").into(),
        shown(limited, "nominalConcurrencyShares"),
        shown(queuing, "queues"),
        shown(queuing, "handSize"),
        shown(queuing, "queueLengthLimit"),
    ]
}

fn signing_request(object: &Object, spec: &Value, status: &Value, now: Timestamp) -> Vec<Value> {
    let seconds = spec["expirationSeconds"].as_i64().map(SignedDuration::from_secs);
    let has = |kind: &str| condition(status, kind).is_some();
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state += ",Failed";
    }
    if !text(status, "certificate").is_empty() {
        state += ",Issued";
    }
    vec![
        object.key.name.as_str().into(),
        age(object, now),
        or(text(spec, "signerName"), NONE).into(),
        text(spec, "username").into(),
        seconds.map_or_else(|| NONE.to_owned(), human).into(),
        state.into(),
    ]
}

fn component_status(object: &Object, document: &Value) -> Vec<Value> {
    let healthy = condition(document, "Healthy").cloned().unwrap_or_default();
    let state = match healthy["status"].as_str() {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let (message, error) = (text(&healthy, "message"), text(&healthy, "error"));
    vec![object.key.name.as_str().into(), state.into(), message.into(), error.into()]
}

fn claim_state(claim: &Value) -> String {
    let (is_deleted, status) =
        (!claim["metadata"]["deletionTimestamp"].is_null(), &claim["status"]);
    let is_allocated = !status["allocation"].is_null();
    let states = [
        (is_deleted, "deleted"),
        (!is_deleted && !is_allocated, "pending"),
        (is_allocated, "allocated"),
        (is_allocated && count(&status["reservedFor"]) > 0, "reserved"),
    ];
    joined(states.into_iter().filter_map(|(holds, state)| holds.then_some(state)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    #[test]
    fn states() {
        let requested = |status: Value| {
            let states = ["Denied", "Approved", "Failed"];
            let conditions: Vec<_> = states
                .into_iter()
                .filter(|state| status[*state] == true)
                .map(|state| json!({"type": state, "status": "True"}))
                .collect();
            json!({"conditions": conditions, "certificate": status["certificate"]})
        };
        let key = crate::model::ObjectKey::cluster(
            &crate::model::kind::extension::CERTIFICATE_SIGNING_REQUEST,
            "x",
        );
        let stored = crate::model::object::to_stored(&key.kind, json!({"metadata": {"name": "x"}}));
        let object = Object::from_stored(key, 1, stored).unwrap();
        for (status, expected) in [
            (json!({}), "Pending"),
            (json!({"Approved": true, "certificate": "eA=="}), "Approved,Issued"),
            (json!({"Denied": true}), "Denied"),
            (json!({"Approved": true, "Failed": true}), "Approved,Failed"),
        ] {
            let spec =
                json!({"signerName": "example.com/a", "username": "me", "expirationSeconds": 3600});
            let row = signing_request(&object, &spec, &requested(status), Timestamp::UNIX_EPOCH);
            assert_eq!(
                row,
                [
                    json!("x"),
                    json!("<unknown>"),
                    json!("example.com/a"),
                    json!("me"),
                    json!("60m"),
                    json!(expected)
                ]
            );
        }
        assert_eq!(claim_state(&json!({})), "pending");
        assert_eq!(
            claim_state(&json!({"status": {"allocation": {}, "reservedFor": [{}]}})),
            "allocated,reserved"
        );
        let unavailable =
            json!({"conditions": [{"type": "Available", "status": "False", "reason": "Gone"}]});
        let service = json!({"service": {"namespace": "n", "name": "s"}});
        assert_eq!(api_service(&service, &unavailable), ["n/s", "False (Gone)"]);
        assert_eq!(api_service(&json!({}), &json!({})), ["Local", "Unknown"]);
    }
}
