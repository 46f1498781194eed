//! Nodes: allocatable resources, taints, and what an update may change.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind, well_known::NODE_READY},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks,
            fields::{is_empty, items, text},
            metadata::validate_label_value,
            pod_validation::TAINT_EFFECTS,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::NODE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether the node is ready, and whether it takes new pods."),
        Column::text("Roles", "Roles, from the node's labels."),
        Column::AGE,
        Column::text("Version", "Version that the node reports."),
        Column::text("Internal-IP", "Address inside the cluster.").wide(),
        Column::text("External-IP", "Address outside the cluster.").wide(),
        Column::text("OS-Image", "Operating system.").wide(),
        Column::text("Kernel-Version", "Kernel.").wide(),
        Column::text("Container-Runtime", "What runs the containers.").wide(),
    ],
    cells,
    selectable_fields: &[as_named("spec.unschedulable")],
    ..BuiltIn::STORED
};

static RULES: Rules<Node> = Rules { default, validate, ..Rules::STORED };

const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
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

fn cells(object: &Object, now: Timestamp) -> Cells {
    let node: Node = object.parse()?;
    let status = node.status.unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == NODE_READY);
    let mut states = vec![match ready.map(|condition| condition.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        states.push("SchedulingDisabled");
    }
    let info = status.node_info.unwrap_or_default();
    let address = |kind: &str| {
        let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
        found.map_or_else(|| row::NONE.to_owned(), |address| address.address.clone())
    };
    let roles = row::or(row::joined(roles(object)), row::NONE);
    let mut row = row::plain(object, now, [row::joined(states), roles]);
    row.push(info.kubelet_version.into());
    row.extend([address("InternalIP").into(), address("ExternalIP").into()]);
    let software = [info.os_image, info.kernel_version, info.container_runtime_version];
    row.extend(software.map(|text| Value::from(row::or(text, row::UNKNOWN))));
    Ok(row)
}

/// From the labels of a node.
fn roles(object: &Object) -> BTreeSet<&str> {
    let roles = object.metadata.labels.iter().map(|(key, value)| {
        match key.strip_prefix(ROLE_LABEL_PREFIX) {
            Some(role) => role,
            None if key == ROLE_LABEL => value,
            None => "",
        }
    });
    roles.filter(|role| !role.is_empty()).collect()
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
