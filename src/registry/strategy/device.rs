//! Kinds of dynamic resource allocation: claims of devices and their templates, classes, and what nodes have. The rules
//! of requests and of immutable fields are checked; those of expressions, of allocations and of attributes are not yet.

use serde_json::Value;

use crate::{
    model::{
        Cause,
        kind::extension::{DEVICE_CLASS, RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE, RESOURCE_SLICE},
        time::time_text,
    },
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, as_named,
            checks::{self, IMMUTABLE},
            document::DocumentRules,
            json::{
                above_zero, fill, is_set, items, items_mut, number, required_name, stored_only,
                text, unique,
            },
            metadata::NameForm,
        },
    },
};

pub(super) static CLASS: BuiltIn =
    BuiltIn { kind: &DEVICE_CLASS, rules: &CLASS_RULES, ..BuiltIn::STORED };

pub(super) static CLAIM: BuiltIn = BuiltIn {
    kind: &RESOURCE_CLAIM,
    rules: &CLAIM_RULES,
    columns: &[
        Column::NAME,
        Column::text("State", "Whether devices are allocated and reserved."),
        Column::AGE,
    ],
    cells: |object, now| Ok(row::plain(object, now, [claim_state(&object.parse()?)])),
    ..BuiltIn::STORED
};

pub(super) static TEMPLATE: BuiltIn =
    BuiltIn { kind: &RESOURCE_CLAIM_TEMPLATE, rules: &TEMPLATE_RULES, ..BuiltIn::STORED };

pub(super) static SLICE: BuiltIn = BuiltIn {
    kind: &RESOURCE_SLICE,
    rules: &SLICE_RULES,
    columns: &[
        Column::NAME,
        Column::text("Node", "Node that has the devices."),
        Column::text("Driver", "Driver that gives the devices."),
        Column::text("Pool", "Pool that the devices belong to."),
        Column::AGE,
    ],
    cells: |object, now| {
        let spec = object.parse::<Value>()?["spec"].take();
        let node = Some(&spec["nodeName"]).filter(|node| *node != "").cloned();
        let (driver, pool) = (spec["driver"].clone(), spec["pool"]["name"].clone());
        Ok(row::plain(object, now, [node.unwrap_or_default(), driver, pool]))
    },
    selectable_fields: &[as_named("spec.nodeName"), as_named("spec.driver")],
    ..BuiltIn::STORED
};

static CLASS_RULES: DocumentRules = DocumentRules {
    validate: |new, _, _| {
        let mut causes = Vec::new();
        selectors(&mut causes, "spec", &new["spec"]);
        causes
    },
    warnings,
    ..DocumentRules::STORED
};

static CLAIM_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| default_claim(&mut new["spec"]),
    validate: |new, old, context| match context.subresource {
        Subresource::Status => Vec::new(),
        _ => claim(&new["spec"], old.map(|old| &old["spec"]), "spec"),
    },
    warnings,
    ..DocumentRules::STORED
};

static TEMPLATE_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| default_claim(&mut new["spec"]["spec"]),
    validate: |new, old, _| {
        let mut causes = claim(&new["spec"]["spec"], None, "spec.spec");
        if old.is_some_and(|old| old["spec"] != new["spec"]) {
            causes.push(Cause::invalid("spec", new["spec"].clone(), IMMUTABLE));
        }
        causes
    },
    warnings,
    ..DocumentRules::STORED
};

static SLICE_RULES: DocumentRules = DocumentRules {
    default: default_slice,
    validate: validate_slice,
    warnings,
    ..DocumentRules::STORED
};

const REQUESTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;
/// The ways in which a slice says where its devices are; exactly one is needed.
const PLACES: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    stored_only(new, old, "allocates no devices")
}

fn default_claim(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            default_request(exactly);
        }
        items_mut(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    fill(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        fill(request, "count", 1);
    }
    for toleration in items_mut(request, "tolerations") {
        fill(toleration, "operator", "Equal");
    }
}

fn claim(spec: &Value, old: Option<&Value>, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if old.is_some_and(|old| old != spec) {
        causes.push(Cause::invalid(path, spec.clone(), IMMUTABLE));
    }
    let requests = items(&spec["devices"], "requests");
    let path = format!("{path}.devices.requests");
    if requests.len() > REQUESTS_MAX {
        causes.push(Cause::too_many(path.clone(), requests.len(), REQUESTS_MAX));
    }
    for (i, of) in requests.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let name = text(of, "name");
        required_name(&mut causes, &format!("{path}.name"), name, NameForm::Label);
        let choices = items(of, "firstAvailable");
        let rule = "exactly one of `exactly` or `firstAvailable` is required";
        match (is_set(of, "exactly"), choices.is_empty()) {
            (true, true) => request(&mut causes, &format!("{path}.exactly"), &of["exactly"]),
            (false, true) => causes.push(Cause::required(path, rule)),
            (true, false) => {
                let rule = format!("{rule}, but multiple fields are set");
                causes.push(Cause::invalid(path, Value::Null, &rule));
            }
            (false, false) => {
                for (j, choice) in choices.iter().enumerate() {
                    let path = format!("{path}.firstAvailable[{j}]");
                    let name = text(choice, "name");
                    required_name(&mut causes, &format!("{path}.name"), name, NameForm::Label);
                    request(&mut causes, &path, choice);
                }
            }
        }
    }
    let names = requests.iter().map(|request| text(request, "name")).enumerate();
    unique(&mut causes, names.map(|(i, name)| (format!("{path}[{i}]"), name)));
    causes
}

fn request(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    let class = text(of, "deviceClassName");
    required_name(causes, &format!("{path}.deviceClassName"), class, NameForm::Subdomain);
    selectors(causes, path, of);
    let at = format!("{path}.count");
    let count = number(of, "count").unwrap_or_default();
    match text(of, "allocationMode") {
        "All" if count != 0 => {
            let rule = "must not be specified when allocationMode is 'All'";
            causes.push(Cause::invalid(at, count, rule));
        }
        "All" => {}
        "ExactCount" => above_zero(causes, &at, count, "must be greater than zero"),
        mode => {
            let path = format!("{path}.allocationMode");
            checks::one_of(causes, &path, mode, &["All", "ExactCount"]);
        }
    }
    for (i, toleration) in items(of, "tolerations").iter().enumerate() {
        let at = |field: &str| format!("{path}.tolerations[{i}].{field}");
        if !text(toleration, "key").is_empty() {
            checks::qualified_name(causes, &at("key"), text(toleration, "key"));
        }
        let value = text(toleration, "value");
        match text(toleration, "operator") {
            "Exists" if !value.is_empty() => {
                let rule = "must be empty for operator `Exists`";
                causes.push(Cause::invalid(at("value"), value, rule));
            }
            "Exists" => {}
            "Equal" => checks::label_value(causes, &at("value"), value),
            operator => {
                checks::required_one_of(causes, &at("operator"), operator, &["Equal", "Exists"]);
            }
        }
        if is_set(toleration, "effect") {
            let effect = text(toleration, "effect");
            checks::one_of(causes, &at("effect"), effect, &["NoExecute", "NoSchedule"]);
        }
    }
}

fn selectors(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    let (selectors, path) = (items(of, "selectors"), format!("{path}.selectors"));
    if selectors.len() > SELECTORS_MAX {
        causes.push(Cause::too_many(path.clone(), selectors.len(), SELECTORS_MAX));
    }
    for (i, selector) in selectors.iter().enumerate() {
        if !is_set(selector, "cel") {
            causes.push(Cause::required(format!("{path}[{i}].cel"), ""));
        }
    }
}

fn default_slice(new: &mut Value, _old: Option<&Value>, context: &Context<'_>) {
    let now = time_text(context.now);
    for device in items_mut(&mut new["spec"], "devices") {
        for taint in items_mut(device, "taints") {
            if is_set(taint, "effect") {
                fill(taint, "timeAdded", now.as_str());
            }
        }
    }
}

fn validate_slice(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &new["spec"];
    let (driver, pool) = (text(spec, "driver"), &spec["pool"]);
    required_name(&mut causes, "spec.driver", driver, NameForm::Subdomain);
    let name = text(pool, "name");
    if name.is_empty() {
        causes.push(Cause::required("spec.pool.name", ""));
    }
    for part in name.split('/').filter(|_| !name.is_empty()) {
        checks::name(&mut causes, "spec.pool.name", part, NameForm::Subdomain);
    }
    let count = number(pool, "resourceSliceCount").unwrap_or_default();
    let rule = "must be greater than zero";
    above_zero(&mut causes, "spec.pool.resourceSliceCount", count, rule);
    checks::not_negative(&mut causes, "spec.pool.generation", number(pool, "generation"));
    let given: Vec<String> = PLACES
        .iter()
        .filter(|place| is_set(spec, place))
        .map(|place| format!("`{place}`"))
        .collect();
    let rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => causes.push(Cause::required("spec", rule)),
        1 => {}
        _ => {
            let rule = format!("{rule}, but multiple fields are set");
            causes.push(Cause::invalid("spec", format!("{{{}}}", given.join(", ")), &rule));
        }
    }
    let devices = items(spec, "devices");
    if devices.len() > DEVICES_MAX {
        causes.push(Cause::too_many("spec.devices", devices.len(), DEVICES_MAX));
    }
    for (i, device) in devices.iter().enumerate() {
        let path = format!("spec.devices[{i}].name");
        required_name(&mut causes, &path, text(device, "name"), NameForm::Label);
    }
    let names = devices.iter().map(|device| text(device, "name")).enumerate();
    unique(&mut causes, names.map(|(i, name)| (format!("spec.devices[{i}].name"), name)));
    if let Some(old) = old.map(|old| &old["spec"]) {
        checks::immutable(&mut causes, "spec.driver", &spec["driver"], &old["driver"]);
        checks::immutable(&mut causes, "spec.pool.name", &pool["name"], &old["pool"]["name"]);
        checks::immutable(&mut causes, "spec.nodeName", &spec["nodeName"], &old["nodeName"]);
    }
    causes
}

fn claim_state(claim: &Value) -> String {
    let (is_deleted, status) =
        (!claim["metadata"]["deletionTimestamp"].is_null(), &claim["status"]);
    let is_allocated = is_set(status, "allocation");
    let states = [
        (is_deleted, "deleted"),
        (!is_deleted && !is_allocated, "pending"),
        (is_allocated, "allocated"),
        (is_allocated && !items(status, "reservedFor").is_empty(), "reserved"),
    ];
    row::joined(states.into_iter().filter_map(|(holds, state)| holds.then_some(state)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::kind::extension::{RESOURCE_CLAIM, RESOURCE_SLICE},
        registry::strategy::json::testing::{admitted, check_faults},
    };

    #[test]
    fn claims() {
        let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}});
        let (_, document) = admitted(&CLAIM_RULES, &RESOURCE_CLAIM, claim.clone(), None);
        let exactly = &document["spec"]["devices"]["requests"][0]["exactly"];
        assert_eq!(
            (&exactly["allocationMode"], &exactly["count"]),
            (&json!("ExactCount"), &json!(1))
        );
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/devices/requests/0",
                json!({"name": "r"}),
                &[
                    "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                ],
            ),
            (
                "/spec/devices/requests/0/exactly",
                json!({"deviceClassName": "", "allocationMode": "All", "count": 2}),
                &[
                    "spec.devices.requests[0].exactly.deviceClassName: Required value",
                    "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is \
                     'All'",
                ],
            ),
        ];
        check_faults(&CLAIM_RULES, &RESOURCE_CLAIM, &claim, cases);
        let mut old = document.clone();
        old["spec"]["devices"]["requests"][0]["name"] = "other".into();
        let (faults, _) = admitted(&CLAIM_RULES, &RESOURCE_CLAIM, claim, Some(&old));
        assert!(faults[0].ends_with(IMMUTABLE), "{faults:?}");
    }

    #[test]
    fn slices() {
        let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "a"},
            "spec": {"driver": "d.example", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "nodeName": "n", "devices": [{"name": "d"}]}});
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/nodeName",
                Value::Null,
                &[
                    "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
                   required",
                ],
            ),
            ("/spec/driver", json!(""), &["spec.driver: Required value"]),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
            ),
        ];
        check_faults(&SLICE_RULES, &RESOURCE_SLICE, &slice, cases);
    }

    #[test]
    fn states_of_claims() {
        assert_eq!(claim_state(&json!({})), "pending");
        assert_eq!(
            claim_state(&json!({"status": {"allocation": {}, "reservedFor": [{}]}})),
            "allocated,reserved"
        );
    }
}
