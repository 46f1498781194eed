//! Nodes: allocatable resources, taints, and what an update may change.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    model::Cause,
    registry::{
        Subresource,
        strategy::{
            Context, Rules, checks,
            fields::{is_empty, items, text},
            metadata::validate_label_value,
            pod_validation::TAINT_EFFECTS,
        },
    },
};

pub(super) static RULES: Rules<Node> = Rules { default, validate, ..Rules::STORED };

const UPDATABLE: &str = "node updates may only change labels, taints, or capacity (or configSource, if the \
     DynamicKubeletConfig feature gate is enabled)";

fn default(new: &mut Node, old: Option<&Node>, context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    let known = old.and_then(|old| old.spec.as_ref()?.taints.as_deref()).unwrap_or_default();
    // Pods may tolerate such a taint for a while: from when on is told here.
    let timeless = |taint: &&mut Taint| taint.effect == "NoExecute" && taint.time_added.is_none();
    for taint in spec.taints.iter_mut().flatten().filter(timeless) {
        let same = |old: &&Taint| old.key == taint.key && old.effect == taint.effect;
        let since = known.iter().find(same).and_then(|old| old.time_added.clone());
        taint.time_added = Some(since.unwrap_or(Time(context.now)));
    }
    if is_empty(&spec.pod_cidrs) {
        spec.pod_cidrs = spec.pod_cidr.clone().map(|range| vec![range]);
    }
    let status = new.status.get_or_insert_default();
    if status.allocatable.is_none() {
        status.allocatable.clone_from(&status.capacity);
    }
}

fn validate(new: &Node, old: Option<&Node>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        return causes;
    }
    validate_taints(&mut causes, spec);
    if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
        validate_update(&mut causes, spec, old);
    }
    causes
}

fn validate_taints(causes: &mut Vec<Cause>, spec: &NodeSpec) {
    let mut seen = BTreeSet::new();
    for (i, taint) in items(&spec.taints).iter().enumerate() {
        let path = format!("spec.taints[{i}]");
        checks::qualified_name(causes, &format!("{path}.key"), &taint.key);
        let value = text(&taint.value);
        // Here kube-apiserver joins the rules.
        let rules = validate_label_value(value);
        if !rules.is_empty() {
            causes.push(Cause::invalid(format!("{path}.value"), value, &rules.join(";")));
        }
        let field = format!("{path}.effect");
        checks::required_one_of(causes, &field, &taint.effect, TAINT_EFFECTS);
        if !seen.insert((&taint.key, &taint.effect)) {
            let mut cause = Cause::duplicate(path, checks::shown(taint));
            cause.message.push_str(": taints must be unique by key and effect pair");
            causes.push(cause);
        }
    }
}

fn validate_update(causes: &mut Vec<Cause>, new: &NodeSpec, old: &NodeSpec) {
    if !is_empty(&old.pod_cidrs) && new.pod_cidrs != old.pod_cidrs {
        let rule = "node updates may not change podCIDR except from \"\" to valid";
        causes.push(Cause::forbidden("spec.podCIDRs", rule));
    }
    if !text(&old.provider_id).is_empty() && new.provider_id != old.provider_id {
        let rule = "node updates may not change providerID except from \"\" to valid";
        causes.push(Cause::forbidden("spec.providerID", rule));
    }
    let allowed = NodeSpec {
        pod_cidr: new.pod_cidr.clone(),
        pod_cidrs: new.pod_cidrs.clone(),
        provider_id: new.provider_id.clone(),
        taints: new.taints.clone(),
        unschedulable: new.unschedulable,
        ..old.clone()
    };
    if allowed != *new {
        causes.push(Cause::forbidden("spec", UPDATABLE));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn check(change: &Value, old: Option<&Node>) -> (Vec<String>, Node) {
        let base = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "spec": {"podCIDR": "127.244.0.0/24"}, "status": {"capacity": {"pods": "110"}}});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: Node = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn defaults_and_rules() {
        let (faults, node) = check(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(node.spec.as_ref().unwrap().pod_cidrs, Some(vec!["127.244.0.0/24".to_owned()]));
        assert_eq!(
            node.status.as_ref().unwrap().allocatable,
            node.status.as_ref().unwrap().capacity
        );
        let cordon = json!({"spec": {"unschedulable": true, "taints": [
            {"key": "a", "effect": "NoSchedule"}]}});
        assert_eq!(check(&cordon, Some(&node)).0, [""; 0]);
        let taints = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"},
            {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "Never"}]}});
        assert_eq!(
            check(&taints, None).0,
            [
                "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
                "spec.taints[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ]
        );
        let moved = json!({"spec": {"podCIDR": "10.0.0.0/24", "externalID": "x"}});
        assert_eq!(
            check(&moved, Some(&node)).0,
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid".to_owned(),
                format!("spec: Forbidden: {UPDATABLE}"),
            ]
        );
    }
}
