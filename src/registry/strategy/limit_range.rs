//! LimitRanges: bounds and defaults that fit together.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    model::{Cause, kind, quantity},
    registry::strategy::{
        BuiltIn, Context, checks,
        document::DocumentRules,
        json::{items, text},
        resource_validation::{container_name, known_name, may_overcommit},
    },
};

pub(super) static DESCRIPTOR: BuiltIn =
    BuiltIn { kind: &kind::LIMIT_RANGE, rules: &RULES, created_by_put: true, ..BuiltIn::GENERIC };

static RULES: DocumentRules = DocumentRules { default, validate, ..DocumentRules::STORED };

const NANO: i128 = 1_000_000_000;
const RATIO: &str = "maxLimitRequestRatio";

fn default(new: &mut Value, _old: Option<&Value>, _context: &Context<'_>) {
    let limits = new["spec"]["limits"].as_array_mut();
    for item in limits.into_iter().flatten().filter(|item| item["type"] == "Container") {
        for (from, to) in
            [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
        {
            let amounts = item[from].as_object().cloned().unwrap_or_default();
            if amounts.is_empty() {
                continue;
            }
            if !item[to].is_object() {
                item[to] = json!({});
            }
            for (name, amount) in amounts {
                if item[to][&name].is_null() {
                    item[to][&name] = amount;
                }
            }
        }
    }
}

fn validate(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut types = BTreeSet::new();
    for (i, item) in items(&new["spec"], "limits").iter().enumerate() {
        let path = format!("spec.limits[{i}]");
        let of = text(item, "type");
        type_name(&mut causes, &format!("{path}.type"), of);
        if !types.insert(of) {
            causes.push(Cause::duplicate(format!("{path}.type"), of));
        }
        fields(&mut causes, &path, of, item);
        let maps = ["max", "min", "default", "defaultRequest", RATIO];
        let names = maps.iter().filter_map(|map| item[map].as_object()).flat_map(Map::keys);
        for name in names.collect::<BTreeSet<_>>() {
            bounds(&mut causes, &path, name, item);
            ratio(&mut causes, &path, name, item);
        }
    }
    causes
}

fn type_name(causes: &mut Vec<Cause>, path: &str, name: &str) {
    let before = causes.len();
    checks::qualified_name(causes, path, name);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"];
    if causes.len() == before && !name.contains('/') && !standard.contains(&name) {
        let rule = "must be a standard limit type or fully qualified";
        causes.push(Cause::invalid(path, name, rule));
    }
}

/// Which fields a type has, and the names of resources.
fn fields(causes: &mut Vec<Cause>, path: &str, of: &str, item: &Value) {
    let name_rules = if matches!(of, "Pod" | "Container") { container_name } else { known_name };
    let names = |causes: &mut Vec<Cause>, map: &str| {
        for name in item[map].as_object().into_iter().flat_map(Map::keys) {
            name_rules(causes, &format!("{path}.{map}[{name}]"), name);
        }
    };
    names(causes, "max");
    names(causes, "min");
    for map in ["default", "defaultRequest"] {
        if of != "Pod" {
            names(causes, map);
        } else if item[map].as_object().is_some_and(|amounts| !amounts.is_empty()) {
            let rule = "may not be specified when `type` is 'Pod'";
            causes.push(Cause::forbidden(format!("{path}.{map}"), rule));
        }
    }
    let bounded = ["min", "max"].iter().any(|map| !item[map]["storage"].is_null());
    if of == "PersistentVolumeClaim" && !bounded {
        let rule = "either minimum or maximum storage value is required, but neither was provided";
        causes.push(Cause::required(format!("{path}.limits"), rule));
    }
    names(causes, RATIO);
}

/// An amount with its text.
type Amount<'a> = (i128, &'a str);

fn amount<'a>(item: &'a Value, map: &str, name: &str) -> Option<Amount<'a>> {
    let amount = item[map][name].as_str()?;
    Some((quantity::nano(amount)?, amount))
}

fn bounds(causes: &mut Vec<Cause>, path: &str, name: &str, item: &Value) {
    const MIN: (&str, &str) = ("min", "min");
    const MAX: (&str, &str) = ("max", "max");
    const DEFAULT: (&str, &str) = ("default", "default");
    const LIMIT: (&str, &str) = ("default", "default limit");
    const REQUEST: (&str, &str) = ("defaultRequest", "default request");
    // The lower one, the higher one, the field that is named, and the map whose value is shown.
    for (low, high, field, shown) in [
        (MIN, MAX, "min", "min"),
        (MIN, REQUEST, "defaultRequest", "defaultRequest"),
        (REQUEST, MAX, "defaultRequest", "defaultRequest"),
        (REQUEST, LIMIT, "defaultRequest", "defaultRequest"),
        (MIN, DEFAULT, "default", "min"),
        (DEFAULT, MAX, "default", "max"),
    ] {
        let ((low, low_word), (high, high_word)) = (low, high);
        let (Some(low), Some(high)) = (amount(item, low, name), amount(item, high, name)) else {
            continue;
        };
        if low.0 > high.0 {
            let rule =
                format!("{low_word} value {} is greater than {high_word} value {}", low.1, high.1);
            let shown = text(&item[shown], name);
            causes.push(Cause::invalid(format!("{path}.{field}[{name}]"), shown, &rule));
        }
    }
}

fn ratio(causes: &mut Vec<Cause>, path: &str, name: &str, item: &Value) {
    let of = |map: &str| amount(item, map, name);
    let field = format!("{path}.{RATIO}[{name}]");
    if let Some((ratio, shown)) = of(RATIO) {
        if ratio < NANO {
            let rule = format!("ratio {shown} is less than 1");
            causes.push(Cause::invalid(field.as_str(), shown, &rule));
        }
        if let (Some((min, _)), Some((max, _))) = (of("min"), of("max")) {
            let widest = quotient(max, min);
            if quotient(ratio, NANO) > widest {
                let rule = format!("ratio {shown} is greater than max/min = {widest:.6}");
                causes.push(Cause::invalid(field, shown, &rule));
            }
        }
    }
    if let (Some((limit, limit_text)), Some((request, request_text))) =
        (of("default"), of("defaultRequest"))
        && !may_overcommit(name)
        && limit != request
    {
        let rule = format!(
            "default value {limit_text} must equal to defaultRequest value {request_text} in {name}"
        );
        causes.push(Cause::invalid(format!("{path}.defaultRequest[{name}]"), limit_text, &rule));
    }
}

/// What Go's floats say; infinite for a divisor of zero.
#[expect(clippy::cast_precision_loss, reason = "Kubernetes compares floating point numbers too")]
pub(super) fn quotient(dividend: i128, divisor: i128) -> f64 {
    dividend as f64 / divisor as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::strategy::json::testing::admitted;

    fn range(limits: &Value) -> Value {
        json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})
    }

    #[test]
    fn defaults() {
        let given = json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
            "default": {"memory": "2Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]);
        let (faults, range) = admitted(&RULES, &kind::LIMIT_RANGE, range(&given), None);
        assert_eq!(faults, [""; 0]);
        let limits = &range["spec"]["limits"];
        assert_eq!(limits[0]["default"], json!({"cpu": "2", "memory": "2Mi"}));
        assert_eq!(limits[0]["defaultRequest"], json!({"cpu": "2", "memory": "2Mi"}));
        assert_eq!(limits[1]["default"], Value::Null);
    }

    #[test]
    fn rules() {
        for (limits, expected) in [
            (
                json!([{"type": "Pod"}, {"type": "Pod", "default": {"cpu": "1"}}, {"type": "Volume"}]),
                vec![
                    "spec.limits[1].type: Duplicate value: \"Pod\"",
                    "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
                    "spec.limits[2].type: Invalid value: \"Volume\": must be a standard limit type or fully qualified",
                ],
            ),
            (
                json!([{"type": "PersistentVolumeClaim"}]),
                vec![
                    "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but \
                 neither was provided",
                ],
            ),
            (
                json!([{"type": "Container", "min": {"cpu": "3"}, "max": {"cpu": "2"},
                "default": {"cpu": "4"}, "defaultRequest": {"cpu": "5"}}]),
                vec![
                    "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than \
                 max value 2",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than \
                 default limit value 4",
                    "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 4 is greater than max value 2",
                ],
            ),
            (
                json!([{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"},
                "maxLimitRequestRatio": {"cpu": "3", "memory": "500m"}}]),
                vec![
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = \
                 2.000000",
                    "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"500m\": ratio 500m is less than 1",
                ],
            ),
        ] {
            assert_eq!(admitted(&RULES, &kind::LIMIT_RANGE, range(&limits), None).0, expected);
        }
    }
}
