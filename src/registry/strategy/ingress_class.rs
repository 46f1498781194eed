//! IngressClasses: a controller that stays, and parameters that can be found.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill_text, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::INGRESS_CLASS,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Controller", "Who serves Ingresses of this class."),
        Column::text("Parameters", "Object with the controller's parameters."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<IngressClass> = Rules { default, validate, ..Rules::STORED };

const CONTROLLER: &str = "spec.controller";
const CONTROLLER_MAX: usize = 250;
const CLUSTER: &str = "Cluster";
const NAMESPACE: &str = "Namespace";
const PATH_RULE: &str =
    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";

fn default(new: &mut IngressClass, _old: Option<&IngressClass>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    if let Some(parameters) = &mut spec.parameters {
        fill_text(&mut parameters.scope, CLUSTER);
    }
}

fn validate(new: &IngressClass, old: Option<&IngressClass>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let controller = |class: &IngressClass| {
        class.spec.as_ref().and_then(|spec| spec.controller.clone()).unwrap_or_default()
    };
    if let Some(old) = old {
        checks::immutable(&mut causes, CONTROLLER, &controller(new), &controller(old));
    }
    validate_controller(&mut causes, &controller(new));
    if let Some(parameters) = new.spec.as_ref().and_then(|spec| spec.parameters.as_ref()) {
        validate_parameters(&mut causes, parameters);
    }
    causes
}

/// `acme.io/controller`.
fn validate_controller(causes: &mut Vec<Cause>, controller: &str) {
    if controller.is_empty() {
        causes.push(Cause::required(CONTROLLER, ""));
        return;
    }
    if controller.len() > CONTROLLER_MAX {
        causes.push(Cause::too_long(CONTROLLER, CONTROLLER_MAX));
    }
    let Some((domain, path)) =
        controller.split_once('/').filter(|(d, p)| !d.is_empty() && !p.is_empty())
    else {
        let rule = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        causes.push(Cause::invalid(CONTROLLER, controller, rule));
        return;
    };
    checks::name(causes, CONTROLLER, domain, NameForm::Subdomain);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(allowed) {
        causes.push(Cause::invalid(CONTROLLER, path, PATH_RULE));
    }
}

fn validate_parameters(causes: &mut Vec<Cause>, parameters: &IngressClassParametersReference) {
    let at = |field: &str| format!("spec.parameters.{field}");
    if let Some(group) = &parameters.api_group {
        checks::name(causes, &at("apiGroup"), group, NameForm::Subdomain);
    }
    checks::path_segment(causes, &at("kind"), &parameters.kind);
    checks::path_segment(causes, &at("name"), &parameters.name);
    match (text(&parameters.scope), &parameters.namespace) {
        (NAMESPACE, None) => {
            let rule = "`parameters.scope` is set to 'Namespace'";
            causes.push(Cause::required(at("namespace"), rule));
        }
        (NAMESPACE, Some(namespace)) => checks::label(causes, &at("namespace"), namespace),
        (CLUSTER, Some(_)) => {
            let rule = "`parameters.scope` is set to 'Cluster'";
            causes.push(Cause::forbidden(at("namespace"), rule));
        }
        (CLUSTER, None) => {}
        (other, _) => {
            causes.push(Cause::not_supported(at("scope"), other, &[CLUSTER, NAMESPACE]));
        }
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let spec = object.parse::<IngressClass>()?.spec.unwrap_or_default();
    let parameters = spec.parameters.map(|parameters| {
        let group = parameters.api_group.map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", parameters.kind, parameters.name)
    });
    let parameters = parameters.unwrap_or_else(|| row::NONE.to_owned());
    Ok(row::plain(object, now, [spec.controller.unwrap_or_default(), parameters]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, object, options},
    };

    fn check(spec: &Value, old: Option<&IngressClass>) -> (Vec<String>, IngressClass) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: IngressClass =
            object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": {"name": "a"}, "spec": spec}));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn rules() {
        let parameters = |fields: Value| {
            let mut all = json!({"kind": "Config", "name": "c"});
            json_patch::merge(&mut all, &fields);
            json!({"controller": "a.example/c", "parameters": all})
        };
        let (faults, class) = check(&parameters(json!({})), None);
        assert_eq!(faults, [""; 0]);
        for (spec, expected) in [
            (json!({}), "spec.controller: Required value"),
            (
                json!({"controller": "nginx"}),
                "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                parameters(json!({"scope": "Namespace"})),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                parameters(json!({"namespace": "x"})),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (
                parameters(json!({"scope": "Zone"})),
                "spec.parameters.scope: Unsupported value: \"Zone\": supported values: \"Cluster\", \"Namespace\"",
            ),
            (parameters(json!({"name": ""})), "spec.parameters.name: Required value"),
        ] {
            assert_eq!(check(&spec, None).0, [expected]);
        }
        assert_eq!(
            check(&json!({"controller": "b.example/c"}), Some(&class)).0,
            ["spec.controller: Invalid value: \"b.example/c\": field is immutable"]
        );
    }
}
