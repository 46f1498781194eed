//! StatefulSets: defaults, and which fields an update may change.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{
            RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PersistentVolumeClaimStatus, PersistentVolumeClaimVolumeSource, Volume},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill, fill_text, text},
            pod_warnings, workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::STATEFUL_SET,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Ready pods, of those that are wanted."),
        Column::AGE,
        Column::CONTAINERS,
        Column::IMAGES,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<StatefulSet> = Rules { default, validate, warnings, ..Rules::STORED };

const REVISIONS: i32 = 10;
const UPDATABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
     forbidden";

fn default(new: &mut StatefulSet, old: Option<&StatefulSet>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    fill(&mut spec.replicas, 1);
    fill(&mut spec.revision_history_limit, REVISIONS);
    fill_text(&mut spec.pod_management_policy, "OrderedReady");
    let strategy = spec.update_strategy.get_or_insert_default();
    fill_text(&mut strategy.type_, "RollingUpdate");
    if text(&strategy.type_) == "RollingUpdate" {
        fill(&mut strategy.rolling_update.get_or_insert_default().partition, 0);
    }
    let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
    fill_text(&mut retention.when_deleted, "Retain");
    fill_text(&mut retention.when_scaled, "Retain");
    workload::default_template(&mut spec.template);
    for claim in spec.volume_claim_templates.iter_mut().flatten() {
        fill_text(&mut claim.spec.get_or_insert_default().volume_mode, "Filesystem");
        let status = claim.status.get_or_insert_with(PersistentVolumeClaimStatus::default);
        fill_text(&mut status.phase, "Pending");
    }
    if old.is_none() {
        let available_replicas = Some(0);
        new.status = Some(StatefulSetStatus { available_replicas, ..<_>::default() });
    }
}

fn validate(new: &StatefulSet, old: Option<&StatefulSet>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            workload::validate_counts(
                &mut causes,
                &[
                    ("replicas", Some(status.replicas)),
                    ("readyReplicas", status.ready_replicas),
                    ("currentReplicas", status.current_replicas),
                    ("updatedReplicas", status.updated_replicas),
                    ("availableReplicas", status.available_replicas),
                    ("collisionCount", status.collision_count),
                ],
            );
        }
        return causes;
    }
    validate_spec(&mut causes, spec);
    let old = old.and_then(|old| old.spec.as_ref());
    if old.is_none_or(|old| old.service_name != spec.service_name) {
        workload::service_name(&mut causes, &spec.service_name);
    }
    if old.is_some_and(|old| with_allowed_changes(spec, old) != *old) {
        causes.push(Cause::forbidden("spec", UPDATABLE));
    }
    causes
}

fn validate_spec(causes: &mut Vec<Cause>, spec: &StatefulSetSpec) {
    let policy = text(&spec.pod_management_policy);
    if !["OrderedReady", "Parallel"].contains(&policy) {
        let rule = "must be 'OrderedReady' or 'Parallel'";
        causes.push(Cause::invalid("spec.podManagementPolicy", policy, rule));
    }
    if let Some(strategy) = &spec.update_strategy {
        validate_strategy(causes, strategy);
    }
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        const FIELD: &str = "spec.persistentVolumeClaimRetentionPolicy";
        for (field, policy) in
            [("whenDeleted", &retention.when_deleted), ("whenScaled", &retention.when_scaled)]
        {
            let field = format!("{FIELD}.{field}");
            checks::one_of(causes, &field, text(policy), &["Delete", "Retain"]);
        }
    }
    checks::not_negative(causes, "spec.replicas", spec.replicas);
    checks::not_negative(causes, "spec.minReadySeconds", spec.min_ready_seconds);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    checks::not_negative(causes, "spec.ordinals.start", start);
    checks::not_negative(causes, "spec.revisionHistoryLimit", spec.revision_history_limit);
    // The controller gives every claim template a volume of its name, so mounts may refer to it.
    let mut template = spec.template.clone();
    if let Some(pod) = &mut template.spec {
        for claim in spec.volume_claim_templates.iter().flatten() {
            let name = claim.metadata.name.clone().unwrap_or_default();
            let volumes = pod.volumes.get_or_insert_default();
            if !volumes.iter().any(|volume| volume.name == name) {
                let claim =
                    PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
                let persistent_volume_claim = Some(claim);
                volumes.push(Volume { name, persistent_volume_claim, ..Volume::default() });
            }
        }
    }
    workload::selector_and_template(causes, &spec.selector, &template, "StatefulSet");
}

fn validate_strategy(causes: &mut Vec<Cause>, strategy: &StatefulSetUpdateStrategy) {
    const FIELD: &str = "spec.updateStrategy";
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", Some(update)) => {
            let rule = "only allowed for updateStrategy 'RollingUpdate'";
            let field = format!("{FIELD}.rollingUpdate");
            causes.push(Cause::invalid(field, checks::shown(update), rule));
        }
        ("RollingUpdate", Some(update)) => validate_rolling_update(causes, update),
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let rule = "must be 'RollingUpdate' or 'OnDelete'";
            causes.push(Cause::invalid(FIELD, checks::shown(strategy), rule));
        }
    }
}

fn validate_rolling_update(causes: &mut Vec<Cause>, update: &RollingUpdateStatefulSetStrategy) {
    const FIELD: &str = "spec.updateStrategy.rollingUpdate";
    checks::not_negative(causes, &format!("{FIELD}.partition"), update.partition);
    if let Some(unavailable) = &update.max_unavailable {
        let field = format!("{FIELD}.maxUnavailable");
        checks::count_or_percent(causes, &field, unavailable);
        if *unavailable == IntOrString::Int(0) {
            causes.push(Cause::invalid(field.as_str(), 0, "cannot be 0"));
        }
        checks::not_above_all(causes, &field, unavailable);
    }
}

/// The new spec with those fields taken from the old one that an update may change.
fn with_allowed_changes(new: &StatefulSetSpec, old: &StatefulSetSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        replicas: old.replicas,
        ordinals: old.ordinals.clone(),
        template: old.template.clone(),
        update_strategy: old.update_strategy.clone(),
        revision_history_limit: old.revision_history_limit,
        min_ready_seconds: old.min_ready_seconds,
        persistent_volume_claim_retention_policy: old
            .persistent_volume_claim_retention_policy
            .clone(),
        ..new.clone()
    }
}

fn warnings(new: &StatefulSet, old: Option<&StatefulSet>) -> Vec<String> {
    let old = old.and_then(|old| old.spec.as_ref());
    pod_warnings::of_workload(new.metadata.name.as_ref(), new.spec.as_ref(), old, |spec| {
        Some(&spec.template)
    })
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let set: StatefulSet = object.parse()?;
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    let mut row = row::plain(object, now, [format!("{ready}/{wanted}")]);
    row.extend(row::containers(spec.map(|spec| &spec.template)));
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn base() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [
                {"name": "a", "image": "a:1", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}}})
    }

    fn check(change: &Value, old: Option<&StatefulSet>) -> (Vec<String>, StatefulSet) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: StatefulSet = object(merged(base(), change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, set) = check(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        let spec = checks::shown(&set.spec);
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        assert_eq!(checks::shown(&set.status), json!({"availableReplicas": 0, "replicas": 0}));
    }

    #[test]
    fn rules() {
        for (change, expected) in [
            (
                json!({"podManagementPolicy": "Fast"}),
                "spec.podManagementPolicy: Invalid value: \"Fast\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                json!({"updateStrategy": {"type": "Later"}}),
                "spec.updateStrategy: Invalid value: {\"type\":\"Later\"}: must be 'RollingUpdate' or 'OnDelete'",
            ),
            (
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ),
            (
                json!({"updateStrategy": {"rollingUpdate": {"partition": -1}}}),
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"ordinals": {"start": -1}}),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"template": {"spec": {"activeDeadlineSeconds": 5}}}),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
            ),
            (
                json!({"template": {"spec": {"restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"}}),
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
            ),
        ] {
            assert_eq!(check(&json!({"spec": change}), None).0, [expected]);
        }
    }

    #[test]
    fn updates() {
        let (_, old) = check(&json!({}), None);
        let allowed = json!({"spec": {"replicas": 3, "minReadySeconds": 2, "revisionHistoryLimit": 1,
            "updateStrategy": {"type": "OnDelete"}, "template": {"metadata": {"annotations": {"a": "b"}}}}});
        assert_eq!(check(&allowed, Some(&old)).0, [""; 0]);
        let refused = json!({"spec": {"serviceName": "other"}});
        assert_eq!(check(&refused, Some(&old)).0, [format!("spec: Forbidden: {UPDATABLE}")]);
    }
}
