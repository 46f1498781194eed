//! What kube-apiserver says of definitions.

use serde_json::{Value, json};

use super::*;
use crate::registry::{
    View,
    strategy::checks::testing::{admitted, context, lines, merged, object, options},
};

fn lamps() -> Value {
    json!({"metadata": {"name": "lamps.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "colour": {"type": "string"}, "rooms": {"type": "array", "items": {"type": "string"}}}}}}}}]}})
}

fn told(document: Value, old: Option<&Value>) -> Vec<String> {
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::None);
    let old: Option<CustomResourceDefinition> = old.cloned().map(object);
    let mut new: CustomResourceDefinition = object(document);
    default(&mut new, old.as_ref(), &context);
    lines(&validation::validate(&new, old.as_ref(), &context))
}

#[test]
fn what_is_left_out_is_filled_in() {
    let (view, options) = (View::for_tests(), options());
    let context = context(&view, &options, Subresource::None);
    let mut new: CustomResourceDefinition = object(lamps());
    default(&mut new, None, &context);
    assert_eq!(new.spec.names.singular.as_deref(), Some("lamp"));
    assert_eq!(new.spec.names.list_kind.as_deref(), Some("LampList"));
    assert_eq!(new.spec.conversion.unwrap().strategy, "None");
    assert_eq!(new.status.unwrap().stored_versions.unwrap(), ["v1"]);
}

#[test]
fn definitions_are_checked() {
    let check = |change: Value, expected: &[&str]| {
        let found = told(merged(lamps(), &change), None);
        assert_eq!(found.len(), expected.len(), "{change}: {found:#?}");
        for (line, expected) in found.iter().zip(expected) {
            assert!(line.starts_with(expected), "{change}: {line}");
        }
    };
    check(json!({}), &[]);
    check(
        json!({"spec": {"names": {"plural": "Lamps"}}, "metadata": {"name": "Lamps.example.com"}}),
        &["spec.names.plural: Invalid value: \"Lamps\": a DNS-1035 label must consist of"],
    );
    check(
        json!({"spec": {"group": "example"}, "metadata": {"name": "lamps.example"}}),
        &["spec.group: Invalid value: \"example\": should be a domain with at least one dot"],
    );
    check(
        json!({"spec": {"names": {"listKind": "Lamp"}}}),
        &["spec.names.listKind: Invalid value: \"Lamp\": kind and listKind may not be the same"],
    );
    check(
        json!({"spec": {"preserveUnknownFields": true}}),
        &[
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve",
        ],
    );
    check(
        json!({"spec": {"conversion": {"strategy": "Webhook"}}}),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    check(
        json!({"spec": {"conversion": {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}}}),
        &[
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ],
    );
    check(
        json!({"spec": {"group": "lamps.k8s.io"}, "metadata": {"name": "lamps.lamps.k8s.io"}}),
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval",
        ],
    );
    check(
        json!({"spec": {"group": "lamps.k8s.io"}, "metadata": {"name": "lamps.lamps.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://example.com/1"}}}),
        &[],
    );
}

#[test]
fn versions_are_checked() {
    let check = |change: Value, expected: &[&str]| {
        let mut document = lamps();
        let version = document["spec"]["versions"][0].take();
        document["spec"]["versions"][0] = merged(version, &change);
        let found = told(document, None);
        assert_eq!(found.len(), expected.len(), "{change}: {found:#?}");
        for (line, expected) in found.iter().zip(expected) {
            assert!(line.starts_with(expected), "{change}: {line}");
        }
    };
    check(json!({"schema": null}), &["spec.versions[0].schema.openAPIV3Schema: Required value"]);
    check(
        json!({"deprecationWarning": "old"}),
        &[
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
        ],
    );
    check(
        json!({"subresources": {"scale": {"specReplicasPath": ".status.a", "statusReplicasPath": ".status.b"}}}),
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.a\": should be a json path under .spec",
        ],
    );
    check(
        json!({"additionalPrinterColumns": [{"name": "A", "type": "text", "jsonPath": ".spec.colour"}]}),
        &[
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        ],
    );
    check(
        json!({"selectableFields": [{"jsonPath": ".spec.rooms"}, {"jsonPath": ".spec.none"}]}),
        &[
            "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.rooms\": must point to a field of type",
            "spec.versions[0].selectableFields[1].jsonPath: Invalid value: \".spec.none\": is an invalid path",
        ],
    );
    check(
        json!({"schema": {"openAPIV3Schema": {"properties": {"spec": {"type": null}}}}}),
        &[
            "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified",
        ],
    );
}

#[test]
fn some_names_stay() {
    let established = json!({"status": {"storedVersions": ["v1"], "acceptedNames": {"plural": "lamps", "kind": "Lamp"},
        "conditions": [{"type": "Established", "status": "True"}]}});
    let old = merged(lamps(), &established);
    let found = told(merged(old.clone(), &json!({"spec": {"scope": "Cluster"}})), Some(&old));
    assert_eq!(found, ["spec.scope: Invalid value: \"Cluster\": field is immutable"]);
    let mut renamed = old.clone();
    renamed["spec"]["versions"][0]["name"] = "v2".into();
    let found = told(renamed, Some(&old));
    assert!(
        found[0].starts_with(
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"
        ),
        "{found:?}"
    );
    assert_eq!(admitted(&RULES, lamps(), None).0, Vec::<String>::new());
}
