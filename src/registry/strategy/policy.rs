//! LoadBalancerPolicies and TopologyPolicies, our own kinds: where the module comes from, and what happens when it fails.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{
        Cause, Object, kind,
        policy::{Policy, PolicyModule},
        well_known::POLICY_READY,
    },
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill_text, text},
            json::condition,
            metadata::NameForm,
        },
    },
};

/// Their columns are those of a custom resource, where an age is a date.
pub(super) static LOAD_BALANCER: BuiltIn = BuiltIn {
    kind: &kind::LOAD_BALANCER_POLICY,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Module", "Where the module comes from."),
        Column::text("Ready", "Whether the module is loaded."),
        Column::DATE,
        Column::text("Digest", "Digest of the loaded module.").wide(),
        Column::text("Message", "What became of the module.").wide(),
    ],
    cells,
    ..BuiltIn::STORED
};

pub(super) static TOPOLOGY: BuiltIn = BuiltIn { kind: &kind::TOPOLOGY_POLICY, ..LOAD_BALANCER };

static RULES: Rules<Policy> = Rules { default, validate, ..Rules::STORED };

const MODULE: &str = "spec.module";
const ON_FAILURE: [&str; 3] = ["Fallback", "Reject", "LastGood"];
/// Base64 of a module; a larger one belongs in a file. Request bodies end at 3 MiB.
const INLINE_MAX: usize = 2 * 1024 * 1024;

fn default(new: &mut Policy, _old: Option<&Policy>, _context: &Context<'_>) {
    fill_text(&mut new.spec.on_failure, "Fallback");
}

fn validate(new: &Policy, _old: Option<&Policy>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::None {
        validate_module(&mut causes, &new.spec.module);
        let field = "spec.onFailure";
        checks::one_of(&mut causes, field, text(&new.spec.on_failure), &ON_FAILURE);
    }
    causes
}

fn validate_module(causes: &mut Vec<Cause>, module: &PolicyModule) {
    let given = [
        module.builtin.is_some(),
        module.path.is_some(),
        module.config_map.is_some(),
        module.inline.is_some(),
    ];
    let count = given.into_iter().filter(|given| *given).count();
    if count != 1 {
        let rule = "exactly one of `builtin`, `path`, `configMap` or `inline` must be set";
        causes.push(if count == 0 {
            Cause::required(MODULE, rule)
        } else {
            Cause::forbidden(MODULE, rule)
        });
        return;
    }
    if let Some(name) = &module.builtin {
        checks::label(causes, &format!("{MODULE}.builtin"), name);
    }
    if let Some(path) = &module.path {
        validate_path(causes, path);
    }
    if let Some(source) = &module.config_map {
        let at = |field: &str| format!("{MODULE}.configMap.{field}");
        checks::label(causes, &at("namespace"), &source.namespace);
        checks::name(causes, &at("name"), &source.name, NameForm::Subdomain);
        checks::data_key(causes, &at("key"), &source.key);
    }
    if let Some(inline) = &module.inline {
        let field = format!("{MODULE}.inline");
        if inline.len() > INLINE_MAX {
            causes.push(Cause::too_long(field, INLINE_MAX));
        } else if module.inline_bytes().is_none() {
            causes.push(Cause::invalid(field, "<module>", "must be base64 of a module"));
        }
    }
}

/// A path stays within the directory of policies.
fn validate_path(causes: &mut Vec<Cause>, path: &str) {
    let rule = if path.is_empty() {
        "must not be empty"
    } else if path.starts_with('/') {
        "must be a relative path"
    } else if path.split('/').any(|part| part == "..") {
        "must not contain '..'"
    } else if path.contains('\0') {
        "must not contain a NUL character"
    } else {
        return;
    };
    causes.push(Cause::invalid(format!("{MODULE}.path"), path, rule));
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let policy: Value = object.parse()?;
    let text = |path: &str| policy.pointer(path).and_then(Value::as_str);
    let module = if let Some(name) = text("/spec/module/builtin") {
        name.to_owned()
    } else if let Some(path) = text("/spec/module/path") {
        path.to_owned()
    } else if let Some(name) = text("/spec/module/configMap/name") {
        let namespace = text("/spec/module/configMap/namespace").unwrap_or_default();
        let key = text("/spec/module/configMap/key").unwrap_or_default();
        format!("configmap/{namespace}/{name}:{key}")
    } else if text("/spec/module/inline").is_some() {
        "<inline>".to_owned()
    } else {
        row::NONE.to_owned()
    };
    let ready = condition(&policy["status"], POLICY_READY);
    let said = |field: &str| ready.and_then(|condition| condition[field].as_str());
    let state = said("status").unwrap_or("Unknown").to_owned();
    let mut row = row::plain(object, now, [module, state]);
    row.push(text("/status/digest").unwrap_or(row::NONE).into());
    row.push(said("message").unwrap_or(row::NONE).into());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, object, options},
    };

    fn check(spec: &Value) -> (Vec<String>, Policy) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: Policy =
            object(json!({"apiVersion": "snowglobe.dev/v1alpha1", "kind": "LoadBalancerPolicy",
                "metadata": {"name": "mine"}, "spec": spec}));
        default(&mut new, None, &context);
        (lines(&validate(&new, None, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, policy) = check(&json!({"module": {"builtin": "rr"}}));
        assert_eq!(faults, [""; 0]);
        assert_eq!(policy.spec.on_failure.as_deref(), Some("Fallback"));
    }

    #[test]
    fn rules() {
        const ONE: &str = "exactly one of `builtin`, `path`, `configMap` or `inline` must be set";
        for (spec, expected) in [
            (json!({}), vec![format!("spec.module: Required value: {ONE}")]),
            (
                json!({"module": {"builtin": "rr", "path": "a.wasm"}}),
                vec![format!("spec.module: Forbidden: {ONE}")],
            ),
            (json!({"module": {"path": "team/a.wasm"}}), vec![]),
            (
                json!({"module": {"path": "/etc/a.wasm"}}),
                vec!["spec.module.path: Invalid value: \"/etc/a.wasm\": must be a relative path".to_owned()],
            ),
            (
                json!({"module": {"path": "a/../../b"}}),
                vec!["spec.module.path: Invalid value: \"a/../../b\": must not contain '..'".to_owned()],
            ),
            (json!({"module": {"inline": "AGFzbQEAAAA="}}), vec![]),
            (
                json!({"module": {"inline": "not base64!"}}),
                vec!["spec.module.inline: Invalid value: \"<module>\": must be base64 of a module".to_owned()],
            ),
            (
                json!({"module": {"configMap": {"namespace": "a", "name": "b", "key": ".."}}}),
                vec!["spec.module.configMap.key: Invalid value: \"..\": must not be '..'".to_owned()],
            ),
            (
                json!({"module": {"builtin": "rr"}, "onFailure": "Panic"}),
                vec!["spec.onFailure: Unsupported value: \"Panic\": supported values: \"Fallback\", \"Reject\", \"LastGood\"".to_owned()],
            ),
        ] {
            assert_eq!(check(&spec).0, expected);
        }
    }
}
