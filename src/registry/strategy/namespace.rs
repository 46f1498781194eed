//! Namespaces: their own name as a label, the `kubernetes` finalizer that empties them first, their phase.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::{
    model::{
        Cause, kind,
        well_known::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER},
    },
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks,
            fields::{fill_text, items, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::NAMESPACE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether the namespace is in use or going away."),
        Column::AGE,
    ],
    cells: |object, now| {
        let phase = object.parse::<Namespace>()?.status.and_then(|status| status.phase);
        Ok(row::plain(object, now, [phase.unwrap_or_default()]))
    },
    selectable_fields: &[as_named("status.phase")],
    ..BuiltIn::STORED
};

static RULES: Rules<Namespace> =
    Rules { default, validate, undeletable, name: NameForm::Label, ..Rules::STORED };

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";
/// Finalizers without a domain that Kubernetes knows.
const STANDARD_FINALIZERS: [&str; 3] = [FINALIZER, ORPHAN_FINALIZER, FOREGROUND_FINALIZER];

/// As the admission plugin NamespaceLifecycle has it for the first three.
const SYSTEM: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

fn undeletable(name: &str) -> Option<&'static str> {
    SYSTEM.contains(&name).then_some("this namespace may not be deleted")
}

fn default(new: &mut Namespace, old: Option<&Namespace>, context: &Context<'_>) {
    if let Some(name) = new.metadata.name.clone() {
        new.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
    }
    let finalizers = new.spec.get_or_insert_default().finalizers.get_or_insert_default();
    match old {
        None => {
            if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                finalizers.push(FINALIZER.to_owned());
            }
            let phase = Some("Active".to_owned());
            new.status = Some(NamespaceStatus { phase, ..NamespaceStatus::default() });
        }
        Some(old) => {
            if context.subresource != Subresource::Finalize {
                let held = old.spec.as_ref().map(|spec| items(&spec.finalizers));
                *finalizers = held.unwrap_or_default().to_vec();
            }
            fill_text(&mut new.status.get_or_insert_default().phase, "Active");
        }
    }
}

fn validate(new: &Namespace, _old: Option<&Namespace>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        let phase = new.status.as_ref().map(|status| text(&status.phase)).unwrap_or_default();
        let (expected, state) = match new.metadata.deletion_timestamp {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        if phase != expected {
            let rule = format!("may only be '{expected}' if `deletionTimestamp` is {state}");
            causes.push(Cause::invalid("status.Phase", phase, &rule));
        }
        return causes;
    }
    for finalizer in new.spec.iter().flat_map(|spec| items(&spec.finalizers)) {
        checks::qualified_name(&mut causes, "spec.finalizers", finalizer);
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.as_str()) {
            let rule = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid("spec.finalizers", finalizer.as_str(), rule));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::{
            shown,
            testing::{context, lines, merged, object, options},
        },
    };

    fn admit(
        change: &Value,
        old: Option<&Namespace>,
        subresource: Subresource,
    ) -> (Vec<String>, Namespace) {
        let base = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, subresource);
        let mut new: Namespace = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn system_namespaces_are_not_deleted() {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            assert_eq!(undeletable(name), Some("this namespace may not be deleted"));
        }
        assert_eq!(undeletable("shop"), None);
    }

    #[test]
    fn a_new_namespace() {
        let (faults, new) = admit(&json!({}), None, Subresource::None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(
            shown(&new),
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        let change = json!({"spec": {"finalizers": ["mine"]}});
        assert_eq!(
            admit(&change, None, Subresource::None).0,
            [
                "spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
    }

    #[test]
    fn finalizers_change_only_by_finalize() {
        let (_, mut old) = admit(&json!({}), None, Subresource::None);
        let change = |old: &Namespace, subresource, finalizers: Value| {
            let change = json!({"spec": {"finalizers": finalizers}});
            admit(&change, Some(old), subresource).1.spec.unwrap().finalizers.unwrap()
        };
        for deletion in [None, Some("2026-01-01T00:00:00Z")] {
            old.metadata.deletion_timestamp = deletion.map(|time| object(json!(time)));
            assert_eq!(change(&old, Subresource::None, json!([])), ["kubernetes"]);
            assert_eq!(change(&old, Subresource::Finalize, json!([])), [""; 0]);
            let more = json!(["kubernetes", "example.com/mine"]);
            assert_eq!(
                change(&old, Subresource::Finalize, more),
                ["kubernetes", "example.com/mine"]
            );
        }
    }

    #[test]
    fn the_phase_follows_deletion() {
        let (_, old) = admit(&json!({}), None, Subresource::None);
        let change = json!({"status": {"phase": "Terminating"}});
        assert_eq!(
            admit(&change, Some(&old), Subresource::Status).0,
            [
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
            ]
        );
    }
}
