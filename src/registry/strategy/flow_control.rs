//! FlowSchemas and PriorityLevelConfigurations: which requests are how important. This server serves all requests alike.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    model::{
        Cause, Object,
        kind::extension::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION},
    },
    registry::{
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, checks,
            document::DocumentRules,
            json::{
                above_zero, condition, fill, fill_number, is_set, items, items_mut, number,
                required_name, stored_only, text, texts,
            },
            metadata::{NameForm, validate_name},
        },
    },
};

pub(super) static SCHEMA: BuiltIn = BuiltIn {
    kind: &FLOW_SCHEMA,
    rules: &SCHEMA_RULES,
    columns: &[
        Column::NAME,
        Column::text("PriorityLevel", "Priority of the requests that match."),
        Column::text(
            "MatchingPrecedence",
            "Of the schemas that match, that with the smallest number wins.",
        ),
        Column::text("DistinguisherMethod", "How the requests are parted into flows."),
        Column::AGE,
        Column::text("MissingPL", "Whether the priority does not exist."),
    ],
    cells: schema_cells,
    ..BuiltIn::STORED
};

pub(super) static LEVEL: BuiltIn = BuiltIn {
    kind: &PRIORITY_LEVEL_CONFIGURATION,
    rules: &LEVEL_RULES,
    columns: &[
        Column::NAME,
        Column::text("Type", "Whether the number of requests is limited."),
        Column::text("NominalConcurrencyShares", "Share of the requests that are served at once."),
        Column::text("Queues", "Number of queues."),
        Column::text("HandSize", "Number of queues that one flow may use."),
        Column::text("QueueLengthLimit", "Requests that wait in one queue at most."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, printed_level(&document["spec"])))
    },
    ..BuiltIn::STORED
};

static SCHEMA_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| fill_number(&mut new["spec"], "matchingPrecedence", PRECEDENCE),
    validate: validate_schema,
    warnings,
    name: NameForm::PathSegment,
};

static LEVEL_RULES: DocumentRules = DocumentRules {
    default: |new, _, _| default_level(&mut new["spec"]),
    validate: validate_level,
    warnings,
    name: NameForm::PathSegment,
};

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const PRECEDENCE: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const SHARES: i64 = 30;
const QUEUES: i64 = 64;
const QUEUES_MAX: i64 = 10_000_000;
const HAND_SIZE: i64 = 8;
const QUEUE_LENGTH_LIMIT: i64 = 50;
/// Bits of randomness that the choice of a hand may need.
const ENTROPY_BITS_MAX: u32 = 60;
const VERBS: [&str; 10] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
    "*",
];
/// Kinds of subjects, and the fields that say more of them.
const SUBJECTS: [(&str, &str); 3] =
    [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    stored_only(new, old, "serves all requests alike")
}

/// The specs of the schemas that every cluster has. They cannot be changed.
fn mandatory_schema(name: &str) -> Option<Value> {
    let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
        "namespaces": ["*"]});
    let any_path = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let rule = |subjects: Value| json!([{"subjects": subjects, "resourceRules": [everything], "nonResourceRules": [any_path]}]);
    match name {
        EXEMPT => {
            Some(json!({"priorityLevelConfiguration": {"name": EXEMPT}, "matchingPrecedence": 1,
            "rules": rule(json!([group("system:masters")]))}))
        }
        CATCH_ALL => Some(
            json!({"priorityLevelConfiguration": {"name": CATCH_ALL}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": rule(json!([group("system:unauthenticated"), group("system:authenticated")]))}),
        ),
        _ => None,
    }
}

/// Whether two specs say the same; the subjects may be in any order.
fn is_same_schema(one: &Value, other: &Value) -> bool {
    let sorted = |spec: &Value| {
        let mut spec = spec.clone();
        for rule in items_mut(&mut spec, "rules") {
            if let Some(subjects) = rule["subjects"].as_array_mut() {
                subjects.sort_by_key(Value::to_string);
            }
        }
        spec
    };
    sorted(one) == sorted(other)
}

fn validate_schema(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (name, spec) = (text(&new["metadata"], "name"), &new["spec"]);
    if mandatory_schema(name).is_some_and(|fixed| !is_same_schema(&fixed, spec)) {
        let rule = format!("spec of '{name}' must equal the fixed value");
        causes.push(Cause::invalid("spec", spec.clone(), &rule));
    }
    const PRECEDENCE_PATH: &str = "spec.matchingPrecedence";
    let precedence = number(spec, "matchingPrecedence").unwrap_or_default();
    above_zero(&mut causes, PRECEDENCE_PATH, precedence, "must be a positive value");
    if precedence > PRECEDENCE_MAX {
        let rule = "must not be greater than 10000";
        causes.push(Cause::invalid(PRECEDENCE_PATH, precedence, rule));
    }
    if precedence == 1 && name != EXEMPT {
        let rule = "only the schema named 'exempt' may have matchingPrecedence 1";
        causes.push(Cause::invalid(PRECEDENCE_PATH, precedence, rule));
    }
    if is_set(spec, "distinguisherMethod") {
        let method = text(&spec["distinguisherMethod"], "type");
        let known = ["ByNamespace", "ByUser"];
        checks::one_of(&mut causes, "spec.distinguisherMethod.type", method, &known);
    }
    const LEVEL_PATH: &str = "spec.priorityLevelConfiguration.name";
    let level = text(&spec["priorityLevelConfiguration"], "name");
    if level.is_empty() {
        causes.push(Cause::required(LEVEL_PATH, "must reference a priority level"));
    } else {
        checks::name(&mut causes, LEVEL_PATH, level, NameForm::PathSegment);
    }
    for (i, rule) in items(spec, "rules").iter().enumerate() {
        policy_rule(&mut causes, &format!("spec.rules[{i}]"), rule);
    }
    conditions(&mut causes, &new["status"]);
    causes
}

fn policy_rule(causes: &mut Vec<Cause>, path: &str, rule: &Value) {
    let subjects = items(rule, "subjects");
    if subjects.is_empty() {
        let detail = "subjects must contain at least one value";
        causes.push(Cause::required(format!("{path}.subjects"), detail));
    }
    for (i, of) in subjects.iter().enumerate() {
        subject(causes, &format!("{path}.subjects[{i}]"), of);
    }
    let (resources, others) = (items(rule, "resourceRules"), items(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        causes.push(Cause::required(path, detail));
    }
    for (i, of) in resources.iter().enumerate() {
        resource_rule(causes, &format!("{path}.resourceRules[{i}]"), of);
    }
    for (i, of) in others.iter().enumerate() {
        let path = format!("{path}.nonResourceRules[{i}]");
        verbs(causes, &path, of);
        let (urls, at) = (texts(of, "nonResourceURLs"), format!("{path}.nonResourceURLs"));
        let missing = "nonResourceURLs must contain at least one value";
        star_alone(causes, &at, &urls, missing, "non-resource URLs");
        for (j, url) in urls.iter().enumerate() {
            if let Some(rule) = url_fault(url).filter(|_| *url != "*") {
                causes.push(Cause::invalid(format!("{at}[{j}]"), *url, rule));
            }
        }
    }
}

fn subject(causes: &mut Vec<Cause>, path: &str, subject: &Value) {
    let kind = text(subject, "kind");
    checks::one_of(causes, &format!("{path}.kind"), kind, &SUBJECTS.map(|(kind, _)| kind));
    for (name, field) in SUBJECTS {
        let at = format!("{path}.{field}");
        match (name == kind, is_set(subject, field)) {
            (true, false) => {
                let rule = format!("{field} is required when subject kind is '{name}'");
                causes.push(Cause::required(at, &rule));
            }
            (false, true) => {
                let rule = format!("{field} is forbidden when subject kind is not '{name}'");
                causes.push(Cause::forbidden(at, &rule));
            }
            (true, true) => subject_of(causes, &at, name, &subject[field]),
            (false, false) => {}
        }
    }
}

fn subject_of(causes: &mut Vec<Cause>, path: &str, kind: &str, of: &Value) {
    let (name, at) = (text(of, "name"), format!("{path}.name"));
    if kind != "ServiceAccount" || name == "*" {
        if name.is_empty() {
            causes.push(Cause::required(at, ""));
        }
    } else {
        required_name(causes, &at, name, NameForm::Subdomain);
    }
    if kind == "ServiceAccount" {
        let (namespace, at) = (text(of, "namespace"), format!("{path}.namespace"));
        if namespace.is_empty() {
            causes.push(Cause::required(at, "must specify namespace for service account"));
        } else {
            checks::label(causes, &at, namespace);
        }
    }
}

fn resource_rule(causes: &mut Vec<Cause>, path: &str, rule: &Value) {
    verbs(causes, path, rule);
    for (field, what, missing) in [
        ("apiGroups", "API groups", "resource rules must supply at least one api group"),
        ("resources", "resources", "resource rules must supply at least one resource"),
    ] {
        star_alone(causes, &format!("{path}.{field}"), &texts(rule, field), missing, what);
    }
    let (namespaces, at) = (texts(rule, "namespaces"), format!("{path}.namespaces"));
    if !namespaces.is_empty() || rule["clusterScope"] != true {
        let missing =
            "resource rules that are not cluster scoped must supply at least one namespace";
        star_alone(causes, &at, &namespaces, missing, "namespaces");
    }
    for (i, namespace) in namespaces.iter().enumerate().filter(|(_, name)| **name != "*") {
        for fault in validate_name(namespace, NameForm::Label) {
            let rule = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
            causes.push(Cause::invalid(format!("{at}[{i}]"), *namespace, &rule));
        }
    }
}

fn verbs(causes: &mut Vec<Cause>, path: &str, rule: &Value) {
    let (verbs, at) = (texts(rule, "verbs"), format!("{path}.verbs"));
    star_alone(causes, &at, &verbs, "verbs must contain at least one value", "verbs");
    if verbs.iter().any(|verb| !VERBS.contains(verb)) {
        causes.push(Cause::not_supported(at, json!(verbs), &VERBS[..VERBS.len() - 1]));
    }
}

/// A list that says something, and nothing besides a star.
fn star_alone(causes: &mut Vec<Cause>, path: &str, values: &[&str], missing: &str, what: &str) {
    if values.is_empty() {
        causes.push(Cause::required(path, missing));
    } else if values.len() > 1 && values.contains(&"*") {
        let rule = format!("if '*' is present, must not specify other {what}");
        causes.push(Cause::invalid(path, json!(values), &rule));
    }
}

/// The first rule that a path breaks.
fn url_fault(url: &str) -> Option<&'static str> {
    let before_star = url.strip_suffix("/*").unwrap_or(url);
    let rules = [
        (url.is_empty(), "must not be empty"),
        (!url.starts_with('/'), "must start with slash"),
        (url.contains(' '), "must not contain white-space"),
        (url.contains("//"), "must not contain double slash"),
        (before_star.contains('*'), "wildcard can only do suffix matching"),
    ];
    rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule))
}

fn conditions(causes: &mut Vec<Cause>, status: &Value) {
    let conditions = items(status, "conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let (kind, path) = (text(condition, "type"), format!("status.conditions[{i}].type"));
        if conditions[..i].iter().any(|earlier| text(earlier, "type") == kind) {
            causes.push(Cause::duplicate(path.clone(), kind));
        }
        if kind.is_empty() {
            causes.push(Cause::required(path, "must not be empty"));
        }
    }
}

fn default_level(spec: &mut Value) {
    if let Some(exempt) = spec.get_mut("exempt") {
        fill(exempt, "nominalConcurrencyShares", 0);
        fill(exempt, "lendablePercent", 0);
    }
    let Some(limited) = spec.get_mut("limited") else { return };
    fill(limited, "nominalConcurrencyShares", SHARES);
    fill(limited, "lendablePercent", 0);
    if let Some(queuing) = limited.pointer_mut("/limitResponse/queuing") {
        fill_number(queuing, "queues", QUEUES);
        fill_number(queuing, "handSize", HAND_SIZE);
        fill_number(queuing, "queueLengthLimit", QUEUE_LENGTH_LIMIT);
    }
}

/// The level that every cluster has besides `exempt`. It cannot be changed.
fn catch_all_level() -> Value {
    json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
        "limitResponse": {"type": "Reject"}}})
}

fn validate_level(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (name, spec) = (text(&new["metadata"], "name"), &new["spec"]);
    if name == CATCH_ALL && *spec != catch_all_level() {
        let rule = "spec of 'catch-all' must equal the fixed value";
        causes.push(Cause::invalid("spec", spec.clone(), rule));
    }
    let kind = text(spec, "type");
    if (name == EXEMPT) != (kind == "Exempt") {
        let rule = "type must be 'Exempt' if and only if name is 'exempt'";
        causes.push(Cause::invalid("spec.type", kind, rule));
    }
    let (exempt, limited) = (&spec["exempt"], &spec["limited"]);
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                let rule = "must be nil if the type is not Limited";
                causes.push(Cause::forbidden("spec.limited", rule));
            }
            if !exempt.is_null() {
                shares(&mut causes, "spec.exempt", exempt);
            }
        }
        "Limited" => {
            if !exempt.is_null() {
                let rule = "must be nil if the type is Limited";
                causes.push(Cause::forbidden("spec.exempt", rule));
            }
            if limited.is_null() {
                let rule = "must not be empty when type is Limited";
                causes.push(Cause::required("spec.limited", rule));
            } else {
                limited_level(&mut causes, limited);
            }
        }
        _ => checks::one_of(&mut causes, "spec.type", kind, &["Exempt", "Limited"]),
    }
    conditions(&mut causes, &new["status"]);
    causes
}

fn shares(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    if let Some(shares) = number(of, "nominalConcurrencyShares").filter(|shares| *shares < 0) {
        let path = format!("{path}.nominalConcurrencyShares");
        causes.push(Cause::invalid(path, shares, "must be a non-negative integer"));
    }
    let percent = number(of, "lendablePercent").unwrap_or_default();
    if !(0..=100).contains(&percent) {
        let rule = "must be between 0 and 100, inclusive";
        causes.push(Cause::invalid(format!("{path}.lendablePercent"), percent, rule));
    }
}

fn limited_level(causes: &mut Vec<Cause>, limited: &Value) {
    shares(causes, "spec.limited", limited);
    if let Some(percent) = number(limited, "borrowingLimitPercent").filter(|percent| *percent < 0) {
        let rule = "if specified, must be a non-negative integer";
        causes.push(Cause::invalid("spec.limited.borrowingLimitPercent", percent, rule));
    }
    const QUEUING: &str = "spec.limited.limitResponse.queuing";
    let response = &limited["limitResponse"];
    match (text(response, "type"), is_set(response, "queuing")) {
        ("Reject", true) => causes.push(Cause::forbidden(
            QUEUING,
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Queue", false) => causes.push(Cause::required(
            QUEUING,
            "must not be empty if limited.limitResponse.type is Limited",
        )),
        ("Queue", true) => queuing(causes, QUEUING, &response["queuing"]),
        (kind, _) => {
            let path = "spec.limited.limitResponse.type";
            checks::one_of(causes, path, kind, &["Queue", "Reject"]);
        }
    }
}

fn queuing(causes: &mut Vec<Cause>, path: &str, queuing: &Value) {
    let amount = |field: &str| number(queuing, field).unwrap_or_default();
    let at = |field: &str| format!("{path}.{field}");
    let (queues, hand) = (amount("queues"), amount("handSize"));
    for field in ["queueLengthLimit", "queues"] {
        above_zero(causes, &at(field), amount(field), "must be positive");
    }
    if queues > QUEUES_MAX {
        let rule = "must not be greater than 10000000";
        causes.push(Cause::invalid(at("queues"), queues, rule));
    }
    above_zero(causes, &at("handSize"), hand, "must be positive");
    if hand > queues {
        let rule = format!("should not be greater than queues ({queues})");
        causes.push(Cause::invalid(at("handSize"), hand, &rule));
    } else if entropy_bits(queues, hand) > ENTROPY_BITS_MAX {
        let rule = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than \
             {ENTROPY_BITS_MAX}"
        );
        causes.push(Cause::invalid(at("handSize"), hand, &rule));
    }
}

/// Bits that number all hands: the falling factorial of the number of queues.
fn entropy_bits(queues: i64, hand: i64) -> u32 {
    let mut hands: u128 = 1;
    for dealt in 0..hand {
        hands = hands.saturating_mul(u128::try_from(queues - dealt).unwrap_or_default());
        if hands > 1 << ENTROPY_BITS_MAX {
            return ENTROPY_BITS_MAX + 1;
        }
    }
    u128::BITS - hands.saturating_sub(1).leading_zeros()
}

fn schema_cells(object: &Object, now: Timestamp) -> Cells {
    let document: Value = object.parse()?;
    let spec = &document["spec"];
    let level = text(&spec["priorityLevelConfiguration"], "name");
    let precedence = number(spec, "matchingPrecedence").unwrap_or_default();
    let method = row::or(text(&spec["distinguisherMethod"], "type"), row::NONE);
    let mut row = row::plain(object, now, [level.into(), precedence.into(), Value::from(method)]);
    let dangling = condition(&document["status"], "Dangling").map(|found| text(found, "status"));
    row.push(dangling.unwrap_or("?").into());
    Ok(row)
}

fn printed_level(spec: &Value) -> [Value; 5] {
    let limited = &spec["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |of: &Value, field: &str| match &of[field] {
        Value::Null => row::NONE.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::kind::extension::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION},
        registry::strategy::json::testing::{admitted, check_faults},
    };

    #[test]
    fn schemas() {
        let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "a"},
            "spec": {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": 0,
                "rules": [{"subjects": [{"kind": "Group", "group": {"name": "g"}}],
                    "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/a/*"]}]}]}});
        let (_, document) = admitted(&SCHEMA_RULES, &FLOW_SCHEMA, schema.clone(), None);
        assert_eq!(document["spec"]["matchingPrecedence"], 1000);
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/matchingPrecedence",
                json!(1),
                &[
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ],
            ),
            (
                "/spec/rules/0/subjects/0/kind",
                json!("User"),
                &[
                    "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                    "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                ],
            ),
            (
                "/spec/rules/0/resourceRules/0/namespaces",
                json!([]),
                &[
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped \
                   must supply at least one namespace",
                ],
            ),
            (
                "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                json!(["a", "/a*"]),
                &[
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": wildcard can only do \
                     suffix matching",
                ],
            ),
        ];
        check_faults(&SCHEMA_RULES, &FLOW_SCHEMA, &schema, cases);
        for name in [EXEMPT, CATCH_ALL] {
            let mut fixed = schema.clone();
            fixed["metadata"]["name"] = name.into();
            let (faults, _) = admitted(&SCHEMA_RULES, &FLOW_SCHEMA, fixed.clone(), None);
            assert!(faults[0].ends_with("must equal the fixed value"), "{faults:?}");
            fixed["spec"] = mandatory_schema(name).unwrap();
            assert_eq!(admitted(&SCHEMA_RULES, &FLOW_SCHEMA, fixed, None).0, [""; 0]);
        }
    }

    #[test]
    fn levels() {
        let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "a"},
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 64}}}}});
        let (_, document) =
            admitted(&LEVEL_RULES, &PRIORITY_LEVEL_CONFIGURATION, level.clone(), None);
        let limited = &document["spec"]["limited"];
        assert_eq!(limited["nominalConcurrencyShares"], 30);
        assert_eq!(
            limited["limitResponse"]["queuing"],
            json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50})
        );
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/type",
                json!("Exempt"),
                &[
                    "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                    "spec.limited: Forbidden: must be nil if the type is not Limited",
                ],
            ),
            (
                "/spec/limited/limitResponse/type",
                json!("Reject"),
                &[
                    "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
                ],
            ),
            (
                "/spec/limited/limitResponse/queuing",
                json!({"queues": 4, "handSize": 5, "queueLengthLimit": -1}),
                &[
                    "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive",
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
                ],
            ),
            (
                "/spec/limited/limitResponse/queuing/queues",
                json!(10_000),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 10000 \
                   and handSize 8 should not be greater than 60",
                ],
            ),
        ];
        check_faults(&LEVEL_RULES, &PRIORITY_LEVEL_CONFIGURATION, &level, cases);
    }
}
