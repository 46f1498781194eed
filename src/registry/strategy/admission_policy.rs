//! Admission policies and their bindings: expressions about requests, and where they hold. What the expressions say is not
//! read yet.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::{
    model::{
        Cause, Object,
        kind::extension::{
            MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING,
            VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING,
        },
    },
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context,
            admission_match::{
                FAILURE_POLICIES, REINVOCATION_POLICIES, default_match, dns_1035_faults,
                match_conditions, match_resources,
            },
            checks,
            document::DocumentRules,
            json::{
                fill, is_set, items, required_name, required_one_of, stored_only, text, texts,
                unique,
            },
            metadata::NameForm,
        },
    },
};

pub(super) static MUTATING_POLICY: BuiltIn = BuiltIn {
    kind: &MUTATING_ADMISSION_POLICY,
    rules: &POLICY_RULES,
    columns: &[
        Column::NAME,
        Column::number("Mutations", "Number of mutations."),
        PARAM_KIND,
        Column::AGE,
    ],
    cells: |object, now| policy_cells(object, now, "mutations"),
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static VALIDATING_POLICY: BuiltIn = BuiltIn {
    kind: &VALIDATING_ADMISSION_POLICY,
    rules: &POLICY_RULES,
    columns: &[
        Column::NAME,
        Column::number("Validations", "Number of validations."),
        PARAM_KIND,
        Column::AGE,
    ],
    cells: |object, now| policy_cells(object, now, "validations"),
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static MUTATING_BINDING: BuiltIn = BuiltIn {
    kind: &MUTATING_ADMISSION_POLICY_BINDING,
    rules: &BINDING_RULES,
    columns: &[
        Column::NAME,
        Column::text("PolicyName", "Policy that holds."),
        Column::text("ParamRef", "Object with the policy's parameters."),
        Column::AGE,
    ],
    cells: binding_cells,
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static VALIDATING_BINDING: BuiltIn =
    BuiltIn { kind: &VALIDATING_ADMISSION_POLICY_BINDING, ..MUTATING_BINDING };

static POLICY_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| default_policy(new),
    validate: validate_policy,
    warnings,
    ..DocumentRules::STORED
};

static BINDING_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| {
        if let Some(resources) = new.pointer_mut("/spec/matchResources") {
            default_match(resources, &RULE_LISTS);
        }
    },
    validate: validate_binding,
    warnings,
    ..DocumentRules::STORED
};

const PARAM_KIND: Column<'static> =
    Column::text("ParamKind", "Kind of the objects that parameterize the policy.");
const RULE_LISTS: [&str; 2] = ["resourceRules", "excludeResourceRules"];
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
/// Patch types and the fields that they need.
const PATCH_TYPES: [(&str, &str); 2] =
    [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const VALUE_EXPRESSION_BYTES_MAX: usize = 5 * 1024;

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    stored_only(new, old, "evaluates no admission policies")
}

fn default_policy(new: &mut Value) {
    let spec = &mut new["spec"];
    fill(spec, "failurePolicy", "Fail");
    if let Some(constraints) = spec.get_mut("matchConstraints") {
        default_match(constraints, &RULE_LISTS);
    }
}

fn mutates(document: &Value) -> bool {
    text(document, "kind").starts_with("Mutating")
}

fn validate_policy(new: &Value, _old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        type_checking(&mut causes, new);
        return causes;
    }
    let spec = &new["spec"];
    required_one_of(&mut causes, "spec", (spec, "failurePolicy"), &FAILURE_POLICIES);
    if is_set(spec, "paramKind") {
        param_kind(&mut causes, &spec["paramKind"]);
    }
    match_constraints(&mut causes, &spec["matchConstraints"]);
    match_conditions(&mut causes, "spec", spec);
    variables(&mut causes, spec);
    if mutates(new) {
        let constraints = &spec["matchConstraints"];
        mutating_operations(&mut causes, "spec.matchConstraints.resourceRules", constraints);
        mutations(&mut causes, spec);
        required_one_of(&mut causes, "spec", (spec, "reinvocationPolicy"), &REINVOCATION_POLICIES);
        return causes;
    }
    let (validations, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let rule = "validations or auditAnnotations must contain at least one item";
        for field in ["spec.validations", "spec.auditAnnotations"] {
            causes.push(Cause::required(field, rule));
        }
    }
    for (i, validation) in validations.iter().enumerate() {
        validation_of(&mut causes, &format!("spec.validations[{i}]"), validation);
    }
    audit_annotations(&mut causes, text(&new["metadata"], "name"), annotations);
    causes
}

fn param_kind(causes: &mut Vec<Cause>, kind: &Value) {
    const VERSION: &str = "spec.paramKind.apiVersion";
    let api_version = text(kind, "apiVersion");
    if api_version.is_empty() {
        causes.push(Cause::required(VERSION, ""));
    } else if api_version.matches('/').count() > 1 {
        let rule = format!("unexpected GroupVersion string: {api_version}");
        causes.push(Cause::invalid(VERSION, api_version, &rule));
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if !group.is_empty() {
            checks::name(causes, VERSION, group, NameForm::Subdomain);
        }
        if version.is_empty() {
            causes.push(Cause::invalid(VERSION, api_version, "version must be specified"));
        } else {
            let faults = dns_1035_faults(version);
            causes.extend(faults.iter().map(|fault| Cause::invalid(VERSION, version, fault)));
        }
    }
    let (name, field) = (text(kind, "kind"), "spec.paramKind.kind");
    let faults = dns_1035_faults(&name.to_lowercase());
    if name.is_empty() {
        causes.push(Cause::required(field, ""));
    } else if !faults.is_empty() {
        let rule = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
        causes.push(Cause::invalid(field, name, &rule));
    }
}

fn match_constraints(causes: &mut Vec<Cause>, constraints: &Value) {
    const PATH: &str = "spec.matchConstraints";
    if constraints.is_null() {
        causes.push(Cause::required(PATH, ""));
        return;
    }
    match_resources(causes, PATH, constraints);
    if items(constraints, "resourceRules").is_empty() {
        causes.push(Cause::required(format!("{PATH}.resourceRules"), ""));
    }
}

/// Nothing can be changed in an object that goes.
fn mutating_operations(causes: &mut Vec<Cause>, path: &str, resources: &Value) {
    let rules = items(resources, "resourceRules").iter();
    for operation in rules.flat_map(|rule| texts(rule, "operations")) {
        if operation == "DELETE" {
            checks::one_of(causes, &format!("{path}.operations"), operation, &MUTATING_OPERATIONS);
        }
    }
}

fn variables(causes: &mut Vec<Cause>, spec: &Value) {
    for (i, variable) in items(spec, "variables").iter().enumerate() {
        let at = |field: &str| format!("spec.variables[{i}].{field}");
        let name = text(variable, "name");
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() {
            causes.push(Cause::required(at("name"), "name is not specified"));
        } else if name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(is_inner) {
            let rule = "name is not a valid CEL identifier";
            causes.push(Cause::invalid(at("name"), name, rule));
        }
        if text(variable, "expression").is_empty() {
            causes.push(Cause::required(at("expression"), "expression is not specified"));
        }
    }
}

fn validation_of(causes: &mut Vec<Cause>, path: &str, validation: &Value) {
    let at = |field: &str| format!("{path}.{field}");
    if text(validation, "expression").trim().is_empty() {
        causes.push(Cause::required(at("expression"), "expression is not specified"));
    }
    for (field, rule) in [
        ("messageExpression", "must be non-empty if specified"),
        ("message", "message must be non-empty if specified"),
    ] {
        let given = text(validation, field);
        if !given.is_empty() && given.trim().is_empty() {
            causes.push(Cause::invalid(at(field), given, rule));
        }
    }
    let message = text(validation, "message").trim();
    if message.contains(['\n', '\r']) {
        let rule = "message must not contain line breaks";
        causes.push(Cause::invalid(at("message"), text(validation, "message"), rule));
    }
    if is_set(validation, "reason") {
        checks::one_of(causes, &at("reason"), text(validation, "reason"), &REASONS);
    }
}

fn audit_annotations(causes: &mut Vec<Cause>, policy: &str, annotations: &[Value]) {
    const PATH: &str = "spec.auditAnnotations";
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let rule = "must not have more than 20 auditAnnotations";
        causes.push(Cause::invalid(PATH, json!(annotations), rule));
    }
    for (i, annotation) in annotations.iter().enumerate() {
        let at = |field: &str| format!("{PATH}[{i}].{field}");
        checks::qualified_name(
            causes,
            &at("key"),
            &format!("{policy}/{}", text(annotation, "key")),
        );
        let expression = text(annotation, "valueExpression");
        if expression.trim().is_empty() {
            causes.push(Cause::required(at("valueExpression"), "valueExpression is not specified"));
        } else if expression.len() > VALUE_EXPRESSION_BYTES_MAX {
            let rule = "must not exceed 5120 bytes in length";
            causes.push(Cause::required(at("valueExpression"), rule));
        }
    }
    let keys = annotations.iter().map(|annotation| text(annotation, "key")).enumerate();
    unique(causes, keys.map(|(i, key)| (format!("{PATH}[{i}].key"), key)));
}

fn mutations(causes: &mut Vec<Cause>, spec: &Value) {
    let mutations = items(spec, "mutations");
    if mutations.is_empty() {
        let rule = "mutations must contain at least one item";
        causes.push(Cause::required("spec.mutations", rule));
    }
    for (i, mutation) in mutations.iter().enumerate() {
        let at = |field: &str| format!("spec.mutations[{i}].{field}");
        let patch_type = text(mutation, "patchType");
        let known = PATCH_TYPES.map(|(name, _)| name);
        checks::required_one_of(causes, &at("patchType"), patch_type, &known);
        if !known.contains(&patch_type) {
            continue;
        }
        for (name, field) in PATCH_TYPES {
            let given = is_set(mutation, field);
            if name != patch_type && given {
                let rule = format!("must not be specified when patchType is {patch_type}");
                causes.push(Cause::invalid(at(field), format!("{{{field}}}"), &rule));
            } else if name == patch_type && !given {
                let rule = format!("must be specified when patchType is {patch_type}");
                causes.push(Cause::required(at(field), &rule));
            } else if given && text(&mutation[field], "expression").trim().is_empty() {
                let rule = "expression is not specified";
                causes.push(Cause::required(format!("{}.expression", at(field)), rule));
            }
        }
    }
}

fn type_checking(causes: &mut Vec<Cause>, new: &Value) {
    const PATH: &str = "status.typeChecking.expressionWarnings";
    let warnings = items(&new["status"]["typeChecking"], "expressionWarnings");
    for (i, warning) in warnings.iter().enumerate() {
        for field in ["warning", "fieldRef"] {
            if text(warning, field).is_empty() {
                causes.push(Cause::required(format!("{PATH}[{i}].{field}"), ""));
            }
        }
    }
}

fn validate_binding(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &new["spec"];
    let policy = text(spec, "policyName");
    required_name(&mut causes, "spec.policyName", policy, NameForm::Subdomain);
    if is_set(spec, "paramRef") {
        param_ref(&mut causes, &spec["paramRef"]);
    }
    if is_set(spec, "matchResources") {
        match_resources(&mut causes, "spec.matchResources", &spec["matchResources"]);
    }
    if mutates(new) {
        let resources = &spec["matchResources"];
        mutating_operations(&mut causes, "spec.matchResources.resourceRules", resources);
    } else {
        validation_actions(&mut causes, &texts(spec, "validationActions"));
    }
    causes
}

fn param_ref(causes: &mut Vec<Cause>, reference: &Value) {
    const PATH: &str = "spec.paramRef";
    let name = text(reference, "name");
    checks::name(causes, &format!("{PATH}.name"), name, NameForm::PathSegment);
    match (!name.is_empty(), is_set(reference, "selector")) {
        (true, true) => {
            for field in ["name", "selector"] {
                let rule = "name and selector are mutually exclusive";
                causes.push(Cause::forbidden(format!("{PATH}.{field}"), rule));
            }
        }
        (false, false) => {
            causes.push(Cause::required(PATH, "one of name or selector must be specified"));
        }
        _ => {}
    }
    let action = (reference, "parameterNotFoundAction");
    required_one_of(causes, PATH, action, &["Deny", "Allow"]);
}

fn validation_actions(causes: &mut Vec<Cause>, actions: &[&str]) {
    const PATH: &str = "spec.validationActions";
    for (i, action) in actions.iter().enumerate() {
        checks::one_of(causes, &format!("{PATH}[{i}]"), action, &ACTIONS);
    }
    let places = actions.iter().enumerate();
    unique(causes, places.map(|(i, action)| (format!("{PATH}[{i}]"), *action)));
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let rule = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                    response and headers serves no purpose)";
        causes.push(Cause::invalid(PATH, json!(actions), rule));
    }
    if actions.is_empty() {
        causes.push(Cause::required(PATH, "at least one validation action is required"));
    }
}

fn policy_cells(object: &Object, now: Timestamp, expressions: &str) -> Cells {
    let spec = object.parse::<Value>()?["spec"].take();
    let kind = match &spec["paramKind"] {
        Value::Null => row::UNSET.to_owned(),
        kind => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")),
    };
    Ok(row::plain(object, now, [Value::from(items(&spec, expressions).len()), kind.into()]))
}

fn binding_cells(object: &Object, now: Timestamp) -> Cells {
    let spec = object.parse::<Value>()?["spec"].take();
    let policy = text(&spec, "policyName").to_owned();
    Ok(row::plain(object, now, [policy, printed_ref(&spec["paramRef"])]))
}

fn printed_ref(reference: &Value) -> String {
    if reference.is_null() {
        return row::UNSET.to_owned();
    }
    let name = text(reference, "name");
    if name.is_empty() {
        let chosen = serde_json::from_value::<LabelSelector>(reference["selector"].clone());
        return chosen.map(|chosen| row::selector(&chosen)).unwrap_or_default();
    }
    format!("{}/{name}", row::or(text(reference, "namespace"), "*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::kind::extension::{
            MUTATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY,
            VALIDATING_ADMISSION_POLICY_BINDING,
        },
        registry::strategy::json::testing::{admitted, check_faults},
    };

    fn document(kind: &str, spec: &Value) -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    }

    fn constraints() -> Value {
        json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods"]}]})
    }

    #[test]
    fn policies_that_judge() {
        let policy = document(
            "ValidatingAdmissionPolicy",
            &json!({"matchConstraints": constraints(), "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "x", "expression": "1"}],
                "validations": [{"expression": "true", "reason": "Invalid"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}]}),
        );
        let (_, defaulted) =
            admitted(&POLICY_RULES, &VALIDATING_ADMISSION_POLICY, policy.clone(), None);
        assert_eq!(defaulted["spec"]["failurePolicy"], "Fail");
        assert_eq!(defaulted["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
        assert_eq!(defaulted["spec"]["matchConstraints"]["resourceRules"][0]["scope"], "*");
        let cases: &[(&str, Value, &[&str])] = &[
            ("/spec/matchConstraints", Value::Null, &["spec.matchConstraints: Required value"]),
            (
                "/spec/matchConstraints",
                json!({}),
                &["spec.matchConstraints.resourceRules: Required value"],
            ),
            (
                "/spec/variables/0",
                json!({"name": "1x", "expression": ""}),
                &[
                    "spec.variables[0].name: Invalid value: \"1x\": name is not a valid CEL identifier",
                    "spec.variables[0].expression: Required value: expression is not specified",
                ],
            ),
            (
                "/spec/validations/0",
                json!({"expression": " ", "message": "a\nb", "reason": "No"}),
                &[
                    "spec.validations[0].expression: Required value: expression is not specified",
                    "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                    "spec.validations[0].reason: Unsupported value: \"No\": supported values: \"Forbidden\", \"Invalid\", \
                     \"RequestEntityTooLarge\", \"Unauthorized\"",
                ],
            ),
            (
                "/spec/paramKind",
                json!({"apiVersion": "a/b/c"}),
                &[
                    "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                    "spec.paramKind.kind: Required value",
                ],
            ),
        ];
        check_faults(&POLICY_RULES, &VALIDATING_ADMISSION_POLICY, &policy, cases);
    }

    #[test]
    fn policies_that_change() {
        let policy = document(
            "MutatingAdmissionPolicy",
            &json!({"matchConstraints": constraints(), "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}),
        );
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/mutations",
                json!([]),
                &["spec.mutations: Required value: mutations must contain at least one item"],
            ),
            (
                "/spec/mutations/0",
                json!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}),
                &[
                    "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
                     patchType is JSONPatch",
                    "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                ],
            ),
            (
                "/spec/matchConstraints/resourceRules/0/operations",
                json!(["DELETE"]),
                &[
                    "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                   \"CONNECT\", \"CREATE\", \"UPDATE\"",
                ],
            ),
            ("/spec/reinvocationPolicy", json!(""), &["spec.reinvocationPolicy: Required value"]),
        ];
        check_faults(&POLICY_RULES, &MUTATING_ADMISSION_POLICY, &policy, cases);
    }

    #[test]
    fn bindings() {
        let binding = document(
            "ValidatingAdmissionPolicyBinding",
            &json!({"policyName": "p", "validationActions": ["Deny"],
                "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}}),
        );
        let cases: &[(&str, Value, &[&str])] = &[
            ("/spec/policyName", json!(""), &["spec.policyName: Required value"]),
            (
                "/spec/paramRef",
                json!({}),
                &[
                    "spec.paramRef: Required value: one of name or selector must be specified",
                    "spec.paramRef.parameterNotFoundAction: Required value",
                ],
            ),
            (
                "/spec/validationActions",
                json!([]),
                &[
                    "spec.validationActions: Required value: at least one validation action is required",
                ],
            ),
            (
                "/spec/validationActions",
                json!(["Deny", "Warn", "Warn"]),
                &[
                    "spec.validationActions[2]: Duplicate value: \"Warn\"",
                    "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Warn\"]: must not contain both Deny and \
                     Warn (repeating the same validation failure information in the API response and headers serves no \
                     purpose)",
                ],
            ),
        ];
        check_faults(&BINDING_RULES, &VALIDATING_ADMISSION_POLICY_BINDING, &binding, cases);
    }
}
