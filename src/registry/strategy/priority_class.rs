//! PriorityClasses: a value that stays within its bounds and never changes, and at most one default.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill_text, text},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::PRIORITY_CLASS,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::number("Value", "Priority of its pods."),
        Column::boolean("Global-Default", "Whether pods that name no class are of this one."),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods make others go."),
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<PriorityClass> = Rules { default, validate, refuse, ..Rules::STORED };

/// Names and values of the classes that only the cluster itself may have.
pub(super) const SYSTEM: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const SYSTEM_PREFIX: &str = "system-";
const VALUE_MAX: i32 = 1_000_000_000;
pub(super) const PREEMPT: &str = "PreemptLowerPriority";
const PREEMPTION: &str = "preemptionPolicy";

fn default(new: &mut PriorityClass, _old: Option<&PriorityClass>, _context: &Context<'_>) {
    new.value.get_or_insert(0);
    fill_text(&mut new.preemption_policy, PREEMPT);
}

fn validate(
    new: &PriorityClass,
    old: Option<&PriorityClass>,
    _context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        if new.value != old.value {
            causes.push(Cause::forbidden("value", "may not be changed in an update."));
        }
        checks::immutable(&mut causes, PREEMPTION, &new.preemption_policy, &old.preemption_policy);
        return causes;
    }
    let name = text(&new.metadata.name);
    if name.starts_with(SYSTEM_PREFIX) {
        if let Err(why) = known_system_class(name, new) {
            let rule = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            causes.push(Cause::forbidden("metadata.name", &rule));
        }
    } else if new.value.unwrap_or_default() > VALUE_MAX {
        let rule = format!("maximum allowed value of a user defined priority is {VALUE_MAX}");
        causes.push(Cause::forbidden("value", &rule));
    }
    checks::one_of(&mut causes, PREEMPTION, text(&new.preemption_policy), &[PREEMPT, "Never"]);
    causes
}

fn known_system_class(name: &str, class: &PriorityClass) -> Result<(), String> {
    let Some((_, value)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if class.value != Some(*value) {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if class.global_default == Some(true) {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// What admission of pods reads.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Digest {
    pub(super) value: i32,
    pub(super) global_default: bool,
    pub(super) preemption_policy: String,
}

/// As the admission plugin `Priority`.
fn refuse(
    new: &PriorityClass,
    _old: Option<&PriorityClass>,
    context: &Context<'_>,
) -> Option<String> {
    if new.global_default != Some(true) {
        return None;
    }
    let others = context.view.list(&kind::PRIORITY_CLASS, None);
    let other = others
        .filter(|other| other.key.name != text(&new.metadata.name))
        .find(|other| other.digest::<Digest>().global_default)?;
    Some(format!(
        "PriorityClass {} is already marked as default. Only one default can exist",
        other.key.name
    ))
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let class: PriorityClass = object.parse()?;
    let value = class.value.unwrap_or_default();
    let is_default = class.global_default.unwrap_or_default();
    let mut row = row::plain(object, now, [Value::from(value), is_default.into()]);
    row.push(class.preemption_policy.unwrap_or_default().into());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Object, ObjectKey, object::to_stored},
        registry::{
            Subresource, View,
            strategy::checks::testing::{context, lines, object, options},
        },
    };

    fn class(fields: &Value) -> PriorityClass {
        let mut document = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "a"}, "value": 5, "preemptionPolicy": PREEMPT});
        json_patch::merge(&mut document, fields);
        object(document)
    }

    #[test]
    fn rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let check = |fields: Value, old: Option<&PriorityClass>| {
            lines(&validate(&class(&fields), old, &context))
        };
        let system =
            |value: i32| json!({"metadata": {"name": "system-node-critical"}, "value": value});
        assert_eq!(check(json!({"value": VALUE_MAX}), None), [""; 0]);
        assert_eq!(check(system(2_000_001_000), None), [""; 0]);
        for (fields, expected) in [
            (
                json!({"value": VALUE_MAX + 1}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                system(1),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                 error: value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                json!({"preemptionPolicy": "Ask"}),
                "preemptionPolicy: Unsupported value: \"Ask\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ] {
            assert_eq!(check(fields, None), [expected]);
        }
        assert_eq!(
            check(json!({"value": 6}), Some(&class(&json!({})))),
            ["value: Forbidden: may not be changed in an update."]
        );
    }

    #[test]
    fn one_default() {
        let mut view = View::for_tests();
        let options = options();
        let first = json!({"metadata": {"name": "first"}, "globalDefault": true});
        let key = ObjectKey::cluster(&kind::PRIORITY_CLASS, "first");
        let stored = to_stored(&kind::PRIORITY_CLASS, first);
        view.insert(&Object::from_stored(key, 1, stored).unwrap().into());
        let context = context(&view, &options, Subresource::None);
        assert_eq!(
            refuse(&class(&json!({"globalDefault": true})), None, &context).unwrap(),
            "PriorityClass first is already marked as default. Only one default can exist"
        );
        let itself = json!({"metadata": {"name": "first"}, "globalDefault": true});
        assert_eq!(refuse(&class(&itself), None, &context), None);
    }
}
