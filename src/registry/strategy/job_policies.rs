//! Validation of what a Job says about the failures and the success of its pods.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicyRule,
};
use serde_json::{Value, json};

use crate::{
    model::{Cause, pod::all_containers},
    registry::strategy::{
        checks,
        fields::{fill_text, items, text},
    },
};

/// Of either policy.
const RULES_MAX: usize = 20;
const CONDITIONS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_BYTES_MAX: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];
const NEEDS_INDEXES: &str = "requires indexed completion mode";

/// A condition of a pod is meant to be true.
pub(super) fn default(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for condition in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        fill_text(&mut condition.status, "True");
    }
}

/// `podFailurePolicy`.
pub(super) fn failures(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec) {
    let Some(policy) = &spec.pod_failure_policy else { return };
    let path = format!("{path}.podFailurePolicy.rules");
    if policy.rules.len() > RULES_MAX {
        causes.push(Cause::too_many(path.as_str(), policy.rules.len(), RULES_MAX));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        failure_rule(causes, &format!("{path}[{i}]"), spec, rule);
    }
}

fn failure_rule(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec, rule: &PodFailurePolicyRule) {
    let field = format!("{path}.action");
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        let why = "requires the backoffLimitPerIndex to be set";
        causes.push(Cause::invalid(field, rule.action.as_str(), why));
    } else {
        one_of(causes, &field, &rule.action, ACTIONS);
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(causes, &format!("{path}.onExitCodes"), spec, codes);
    }
    let conditions = items(&rule.on_pod_conditions);
    if conditions.len() > CONDITIONS_MAX {
        let field = format!("{path}.onPodConditions");
        causes.push(Cause::too_many(field, conditions.len(), CONDITIONS_MAX));
    }
    for (i, condition) in conditions.iter().enumerate() {
        let PodFailurePolicyOnPodConditionsPattern { status, type_ } = condition;
        let path = format!("{path}.onPodConditions[{i}]");
        checks::qualified_name(causes, &format!("{path}.type"), type_);
        one_of(causes, &format!("{path}.status"), text(status), STATUSES);
    }
    let rule = match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (None, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    causes.push(Cause::broken(path, rule));
}

fn exit_codes(
    causes: &mut Vec<Cause>,
    path: &str,
    spec: &JobSpec,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) {
    one_of(causes, &format!("{path}.operator"), &codes.operator, OPERATORS);
    if let Some(name) = &codes.container_name {
        let pod = spec.template.spec.as_ref();
        let known = pod.is_some_and(|pod| all_containers(pod).any(|own| own.name == *name));
        if !known {
            let rule = "must be one of the container or initContainer names in the pod template";
            causes.push(Cause::invalid(format!("{path}.containerName"), name.as_str(), rule));
        }
    }
    let (path, values) = (format!("{path}.values"), &codes.values);
    if values.is_empty() {
        causes.push(Cause::invalid(path.as_str(), Value::Null, "at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        causes.push(Cause::too_many(path.as_str(), values.len(), EXIT_CODES_MAX));
    }
    let mut seen = BTreeSet::new();
    for (i, code) in values.iter().enumerate() {
        let field = format!("{path}[{i}]");
        if codes.operator == "In" && *code == 0 {
            let rule = "must not be 0 for the In operator";
            causes.push(Cause::invalid(field.as_str(), *code, rule));
        }
        if !seen.insert(code) {
            causes.push(Cause::duplicate(field, *code));
        }
    }
    if !values.is_sorted() {
        causes.push(Cause::invalid(path, json!(values), "must be ordered"));
    }
}

/// One of a closed list, which is told when it is missing.
fn one_of(causes: &mut Vec<Cause>, path: &str, value: &str, known: &[&str]) {
    if value.is_empty() {
        let quoted: Vec<String> = known.iter().map(|value| format!("\"{value}\"")).collect();
        causes.push(Cause::required(path, &format!("valid values: [{}]", quoted.join(" "))));
    } else {
        checks::one_of(causes, path, value, known);
    }
}

/// `successPolicy`.
pub(super) fn success(causes: &mut Vec<Cause>, path: &str, spec: &JobSpec) {
    let Some(policy) = &spec.success_policy else { return };
    let path = format!("{path}.successPolicy");
    if text(&spec.completion_mode) != "Indexed" {
        causes.push(Cause::invalid(path, checks::shown(policy), NEEDS_INDEXES));
        return;
    }
    let path = format!("{path}.rules");
    if policy.rules.is_empty() {
        let rule = "at least one rules must be specified when the successPolicy is specified";
        causes.push(Cause::required(path.as_str(), rule));
    } else if policy.rules.len() > RULES_MAX {
        causes.push(Cause::too_many(path.as_str(), policy.rules.len(), RULES_MAX));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        success_rule(causes, &format!("{path}[{i}]"), rule, spec.completions.unwrap_or_default());
    }
}

fn success_rule(causes: &mut Vec<Cause>, path: &str, rule: &SuccessPolicyRule, completions: i32) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let rule = "at least one of succeededCount or succeededIndexes must be specified";
        causes.push(Cause::required(path, rule));
    }
    let mut listed = 0;
    if let Some(indexes) = &rule.succeeded_indexes {
        let field = format!("{path}.succeededIndexes");
        if indexes.len() > INDEXES_BYTES_MAX {
            causes.push(Cause::too_long(field.as_str(), INDEXES_BYTES_MAX));
        }
        listed = count_indexes(indexes, completions).unwrap_or_else(|error| {
            let rule = format!("error parsing succeededIndexes: {error}");
            causes.push(Cause::invalid(field, indexes.as_str(), &rule));
            0
        });
    }
    let Some(count) = rule.succeeded_count else { return };
    let field = format!("{path}.succeededCount");
    checks::not_negative(causes, &field, Some(count));
    let bounds = [
        (true, completions, "specified completions"),
        (
            rule.succeeded_indexes.is_some(),
            listed,
            "indexes in the specified succeededIndexes field",
        ),
    ];
    for (applies, max, what) in bounds {
        if applies && count > max {
            let rule = format!("must be less than or equal to {max} (the number of {what})");
            causes.push(Cause::invalid(field.as_str(), count, &rule));
        }
    }
}

/// How many indexes a text like `1,3-5` lists, or what is wrong with it.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    let number = |text: &str| {
        let number: i32 = text
            .parse()
            .map_err(|_number| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
    };
    let (mut total, mut before) = (0_i32, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = part.split('-').collect();
        let (first, last) = match ends.as_slice() {
            [one] => (number(one)?, number(one)?),
            [first, last] => (number(first)?, number(last)?),
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two \
                     parts separated by '-'"
                ));
            }
        };
        let order = |previous: i32, current: i32| {
            format!("non-increasing order, previous: {previous}, current: {current}")
        };
        if ends.len() == 2 && first >= last {
            return Err(order(first, last));
        }
        if let Some(before) = before.filter(|before| *before >= first) {
            return Err(order(before, first));
        }
        total = total.saturating_add(last.saturating_sub(first).saturating_add(1));
        before = Some(last);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::strategy::checks::testing::{lines, object};

    fn check(spec: &Value, expected: &[&str]) {
        let mut whole = spec.clone();
        whole["template"] = json!({"spec": {"containers": [{"name": "main"}]}});
        let (mut causes, mut whole) = (Vec::new(), object::<JobSpec>(whole));
        default(&mut whole);
        failures(&mut causes, "spec", &whole);
        success(&mut causes, "spec", &whole);
        assert_eq!(lines(&causes), expected, "{spec}");
    }

    #[test]
    fn failures_have_rules() {
        let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
        let condition = json!([{"type": "DisruptionTarget"}]);
        let codes = |values: Value| json!({"operator": "In", "values": values});
        check(&rule(json!({"action": "Ignore", "onPodConditions": condition})), &[]);
        check(&rule(json!({"action": "FailJob", "onExitCodes": codes(json!([1, 42]))})), &[]);
        check(
            &rule(json!({"action": ""})),
            &[
                "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \
                 \"FailJob\" \"Ignore\"]",
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is \
                 required",
            ],
        );
        check(
            &rule(json!({"action": "FailIndex", "onExitCodes": codes(json!([0, 2, 2, 1])),
                "onPodConditions": condition})),
            &[
                "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the \
                 backoffLimitPerIndex to be set",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In \
                 operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [0,2,2,1]: must be ordered",
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is \
                 not supported",
            ],
        );
        check(
            &rule(json!({"action": "Stop", "onExitCodes":
                {"operator": "Is", "values": [], "containerName": "side"}})),
            &[
                "spec.podFailurePolicy.rules[0].action: Unsupported value: \"Stop\": supported values: \"Count\", \
                 \"FailIndex\", \"FailJob\", \"Ignore\"",
                "spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: \"Is\": supported values: \
                 \"In\", \"NotIn\"",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"side\": must be one of \
                 the container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: null: at least one value is \
                 required",
            ],
        );
        check(
            &rule(json!({"action": "Count", "onPodConditions": [{"type": "A", "status": "Yes"}]})),
            &[
                "spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: \"Yes\": supported \
               values: \"False\", \"True\", \"Unknown\"",
            ],
        );
    }

    #[test]
    fn success_has_rules() {
        let indexed = |rules: Value| json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": rules}});
        check(&indexed(json!([{"succeededIndexes": "0,2-4", "succeededCount": 4}])), &[]);
        check(
            &json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
            &[
                "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion \
               mode",
            ],
        );
        check(
            &indexed(json!([{}, {"succeededIndexes": "0-1", "succeededCount": 6}])),
            &[
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes \
                 must be specified",
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 6: must be less than or equal to 5 (the \
                 number of specified completions)",
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 6: must be less than or equal to 2 (the \
                 number of indexes in the specified succeededIndexes field)",
            ],
        );
        for (indexes, expected) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0-2,4", Ok(4)),
            ("5", Err("too large index: \"5\"")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
            ("2-1", Err("non-increasing order, previous: 2, current: 1")),
            ("1,1", Err("non-increasing order, previous: 1, current: 1")),
        ] {
            let found = count_indexes(indexes, 5);
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        }
    }
}
