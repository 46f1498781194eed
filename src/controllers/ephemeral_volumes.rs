//! Generic ephemeral volumes: for each one of a pod, the claim that its template describes. The pod owns the claim.

use k8s_openapi::api::core::v1::{PersistentVolumeClaimTemplate, Pod as Typed};
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership, pod::Pod, to_value,
    },
    model::{Object, ObjectKey, kind},
    registry::View,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "ephemeral-volume-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::POD), keys: itself },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: owner },
    ],
    plan,
};

/// The pod that owns a claim.
fn owner(_: &View, claim: &Object) -> Vec<ObjectKey> {
    let owner = claim.controller().filter(|owner| owner.kind == "Pod");
    let key =
        owner.map(|owner| ObjectKey::new(&kind::POD, &*claim.key.namespace, owner.name.as_str()));
    key.into_iter().collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|pod| !pod.is_terminating()) else {
        return Plan::nothing();
    };
    if !Pod::of(object).is_active() {
        return Plan::nothing();
    }
    let Ok(typed) = object.parse::<Typed>() else { return Plan::nothing() };
    let volumes = typed.spec.and_then(|spec| spec.volumes).unwrap_or_default();
    let mut steps = Vec::new();
    for volume in volumes {
        let Some(template) = volume.ephemeral.and_then(|source| source.volume_claim_template)
        else {
            continue;
        };
        let name = format!("{}-{}", key.name, volume.name);
        let claim = ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, &*key.namespace, name);
        if world.view.get(&claim).is_none() {
            let made = made(object, &claim, &template);
            steps.push(Step::Create(kind::PERSISTENT_VOLUME_CLAIM.clone(), made));
        }
    }
    Plan::all(steps)
}

fn made(pod: &Object, key: &ObjectKey, template: &PersistentVolumeClaimTemplate) -> Value {
    let own = template.metadata.clone().unwrap_or_default();
    json!({
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": own.labels,
            "annotations": own.annotations, "ownerReferences": [ownership::reference(pod)]},
        "spec": to_value(&template.spec),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn claims_are_made_for_pods() {
        let mut cluster = Cluster::default();
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
        let pod =
            cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "image": "i"}],
                "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}}));
        cluster.settle(&[&CONTROLLER], |_| {});
        let key = ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, "default", "p-v");
        let claim = cluster.get(&key);
        assert_eq!(claim["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], cluster.uid(&pod));
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    }
}
