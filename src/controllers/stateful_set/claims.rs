//! Volume claims of a StatefulSet's pods: made with the pods, and gone with them or with the set where
//! `persistentVolumeClaimRetentionPolicy` says so.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy, core::v1::PersistentVolumeClaim,
};
use serde_json::Value;

use crate::{
    controllers::{Step, document, ownership, pod::Pod, stateful_set::Set, to_value},
    model::{Object, ObjectKey, OwnerReference, kind},
};

const DELETE: &str = "Delete";

impl Set<'_> {
    /// The claims of a pod by name, each with its template.
    fn claim_keys(&self, pod: &str) -> impl Iterator<Item = (ObjectKey, &PersistentVolumeClaim)> {
        let namespace = self.object.key.namespace.as_str();
        self.spec.volume_claim_templates.iter().flatten().filter_map(move |template| {
            let name = format!("{}-{pod}", template.metadata.name.as_deref()?);
            Some((ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, namespace, name), template))
        })
    }

    /// The claims of a pod that are not there yet.
    pub(super) fn missing_claims(&self, pod: &str) -> Vec<Step> {
        let missing = self.claim_keys(pod).filter(|(key, _)| self.world.view.get(key).is_none());
        let create = |(key, template): (ObjectKey, &PersistentVolumeClaim)| {
            let mut claim = to_value(template);
            let own = self.spec.selector.match_labels.iter().flatten();
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
            claim["metadata"]["name"] = key.name.into();
            claim["metadata"]["namespace"] = key.namespace.into();
            claim["metadata"]["labels"] = to_value(&labels);
            if self.goes_with(|policy| policy.when_deleted.as_deref()) {
                claim["metadata"]["ownerReferences"] =
                    vec![ownership::reference(self.object)].into();
            }
            Step::Create(kind::PERSISTENT_VOLUME_CLAIM.clone(), claim)
        };
        missing.map(create).collect()
    }

    /// A claim of this pod's name is about to go with a former pod: a new pod waits for a new claim.
    pub(super) fn has_stale_claim(&self, pod: &str) -> bool {
        let key = ObjectKey::new(&kind::POD, self.object.key.namespace.as_str(), pod);
        self.claim_keys(pod).filter_map(|(key, _)| self.world.view.get(&key)).any(|claim| {
            let goes = |owner: &OwnerReference| {
                owner.kind == "Pod"
                    && owner.name == pod
                    && self.world.view.get(&key).is_none_or(|pod| pod.metadata.uid != owner.uid)
            };
            claim.is_terminating() || claim.metadata.owner_references.iter().any(goes)
        })
    }

    /// Makes the owners of all claims those that the policy wants: the set, a surplus pod, or nobody.
    pub(super) fn owned_claims(&self) -> Vec<Step> {
        let of_pod = |(ordinal, pod): (&i64, &Pod<'_>)| -> Vec<Step> {
            let surplus = !(self.first..self.end).contains(ordinal);
            let owner = if surplus && self.goes_with(|policy| policy.when_scaled.as_deref()) {
                Some(ownership::reference(pod.object))
            } else if self.goes_with(|policy| policy.when_deleted.as_deref()) {
                Some(ownership::reference(self.object))
            } else {
                None
            };
            let claims = self.claim_keys(&pod.object.key.name);
            let claims = claims.filter_map(|(key, _)| self.world.view.get(&key));
            claims.filter_map(|claim| self.owned_by(claim, pod, owner.clone())).collect()
        };
        self.pods.iter().flat_map(of_pod).collect()
    }

    /// Whether claims go in a case that the policy names.
    fn goes_with(
        &self,
        case: impl Fn(&StatefulSetPersistentVolumeClaimRetentionPolicy) -> Option<&str>,
    ) -> bool {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        policy.and_then(case) == Some(DELETE)
    }

    fn owned_by(&self, claim: &Arc<Object>, pod: &Pod<'_>, owner: Option<Value>) -> Option<Step> {
        let mut document = document(claim);
        let old = document["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let ours = [&self.object.metadata.uid, &pod.object.metadata.uid];
        let is_ours = |owner: &Value| ours.iter().any(|uid| owner["uid"] == uid.as_str());
        // What somebody else manages is left alone.
        if claim.is_terminating() || old.iter().any(|o| o["controller"] == true && !is_ours(o)) {
            return None;
        }
        let others = old.iter().filter(|owner| !is_ours(owner)).cloned();
        let new: Vec<Value> = others.chain(owner).collect();
        if new == old {
            return None;
        }
        document["metadata"]["ownerReferences"] = new.into();
        Some(Step::Update(claim.key.clone(), document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::{stateful_set::CONTROLLER, testing::Cluster};

    const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: DELETED, whenScaled: SCALED}
  template:
    metadata: {labels: {app: db}}
    spec: {nodeName: n1, containers: [{name: a, image: v1}]}
";

    fn owners(cluster: &Cluster) -> Vec<String> {
        let claims = cluster.list(&kind::PERSISTENT_VOLUME_CLAIM);
        let owner = |claim: &Value| match &claim["metadata"]["ownerReferences"][0]["kind"] {
            Value::String(kind) => kind.clone(),
            _ => "-".to_owned(),
        };
        claims.iter().map(owner).collect()
    }

    #[test]
    fn claims_belong_to_what_they_go_with() {
        for (deleted, scaled, before, after) in [
            ("Retain", "Retain", ["-", "-"], ["-", "-"]),
            ("Delete", "Retain", ["StatefulSet"; 2], ["StatefulSet"; 2]),
            ("Retain", "Delete", ["-", "-"], ["-", "Pod"]),
            ("Delete", "Delete", ["StatefulSet"; 2], ["StatefulSet", "Pod"]),
        ] {
            let yaml = SET.replace("DELETED", deleted).replace("SCALED", scaled);
            let mut cluster = Cluster::of(&yaml);
            cluster.settle(&[&CONTROLLER], |_| {});
            cluster.run_pods(9);
            cluster.settle(&[&CONTROLLER], |_| {});
            assert_eq!(owners(&cluster), before, "{deleted} {scaled}");
            let set = ObjectKey::new(&kind::STATEFUL_SET, "default", "db");
            cluster.edit(&set, |set| set["spec"]["replicas"] = 1.into());
            cluster.settle(&[&CONTROLLER], |_| {});
            assert_eq!(owners(&cluster), after, "{deleted} {scaled}");
            cluster.edit(&set, |set| set["spec"]["replicas"] = 2.into());
            cluster.run_pods(9);
            cluster.settle(&[&CONTROLLER], |_| {});
            let made_anew = cluster.list(&kind::POD).len() == 2;
            assert_eq!(made_anew, scaled == "Retain", "a pod waits for its stale claim to go");
            let claim = ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, "default", "data-db-1");
            cluster.remove(&claim);
            cluster.settle(&[&CONTROLLER], |_| {});
            assert_eq!(cluster.list(&kind::POD).len(), 2);
        }
    }
}
