//! ControllerRevisions: the numbered templates of a DaemonSet or StatefulSet, for `kubectl rollout history|undo`.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    controllers::{Step, World, document, ownership, template, to_value},
    model::{LabelSelector, Object, ObjectKey, go_json, kind},
};

/// Tells the pods made from revisions apart, and the revisions of a DaemonSet.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";
/// The same of a StatefulSet.
const OWN_HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// All templates of one owner.
pub(crate) struct History {
    /// Oldest first.
    revisions: Vec<Revision>,
    /// Name of the present template's revision.
    pub(crate) name: String,
    /// Its hash.
    pub(crate) hash: String,
    /// Creates the present revision or gives it the highest number.
    pub(crate) steps: Vec<Step>,
    /// Somebody else's object has the name: the owner's `status.collisionCount` must be raised.
    pub(crate) collided: bool,
}

struct Revision {
    object: Arc<Object>,
    number: i64,
    data: Value,
}

/// The history of `owner` with its present template; or the adoptions that are due before.
pub(crate) fn history(
    world: &World<'_>,
    owner: &Object,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    collisions: i32,
) -> Result<History, Vec<Step>> {
    let claimed = ownership::claim(world.view, &kind::CONTROLLER_REVISION, owner, selector);
    if !claimed.steps.is_empty() {
        return Err(claimed.steps);
    }
    let mut revisions: Vec<_> = claimed.objects.into_iter().filter_map(Revision::of).collect();
    revisions.sort_by_key(|revision| revision.number);
    let data = patch(template);
    // Only what is hashed of a StatefulSet is no dump of Go's memory.
    let (hash, label) = if owner.key.kind == kind::STATEFUL_SET {
        (data_hash(&data, collisions), OWN_HASH_LABEL)
    } else {
        (template::hash(template, collisions), HASH_LABEL)
    };
    let name = format!("{}-{hash}", owner.key.name);
    let mut history = History { revisions, name, hash, steps: Vec::new(), collided: false };
    if owner.is_terminating() {
        return Ok(history);
    }
    let last = history.revisions.last().map_or(0, |revision| revision.number);
    if let Some(same) = history.revisions.iter().rev().find(|revision| revision.data == data) {
        history.name.clone_from(&same.object.key.name);
        let known = same.object.metadata.labels.get(label);
        history.hash = known.cloned().unwrap_or(history.hash);
        if same.number < last {
            let mut document = document(&same.object);
            document["revision"] = last.saturating_add(1).into();
            history.steps.push(Step::Update(same.object.key.clone(), document));
        }
        return Ok(history);
    }
    let key =
        ObjectKey::new(&kind::CONTROLLER_REVISION, &*owner.key.namespace, history.name.as_str());
    history.collided = world.view.get(&key).is_some();
    if !history.collided {
        let mut labels = to_value(&template.metadata.as_ref().map(|metadata| &metadata.labels));
        labels[label] = history.hash.as_str().into();
        let document = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": history.name, "namespace": owner.key.namespace, "labels": labels,
                "annotations": owner.metadata.annotations,
                "ownerReferences": [ownership::reference(owner)]},
            "data": data, "revision": last.saturating_add(1)});
        history.steps.push(Step::Create(kind::CONTROLLER_REVISION.clone(), document));
    }
    Ok(history)
}

/// The patch that brings an owner back to this template. Sorted, as Go writes maps.
fn patch(template: &PodTemplateSpec) -> Value {
    let mut template = to_value(template);
    template["$patch"] = "replace".into();
    let mut patch = json!({"spec": {"template": template}});
    patch.sort_all_objects();
    patch
}

/// Kubernetes' `HashControllerRevision`: FNV-1 of the data as Go writes it, and of the collisions.
fn data_hash(data: &Value, collisions: i32) -> String {
    let mut bytes = go_json::to_bytes(data);
    bytes.extend(collisions.to_string().bytes());
    template::safe_encode(&fnv(&bytes).to_string())
}

/// FNV-1 of 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(*byte))
}

impl Revision {
    fn of(object: &Arc<Object>) -> Option<Self> {
        let revision: ControllerRevision = object.parse().ok()?;
        let data = revision.data.map(|data| data.0).unwrap_or_default();
        Some(Self { object: object.clone(), number: revision.revision, data })
    }
}

impl History {
    /// The template of an earlier revision.
    pub(crate) fn template(&self, name: &str) -> Option<PodTemplateSpec> {
        let revision = self.revisions.iter().find(|revision| revision.object.key.name == name)?;
        let mut template = revision.data["spec"]["template"].clone();
        template.as_object_mut()?.remove("$patch");
        PodTemplateSpec::deserialize(&template).ok()
    }

    /// Deletes the oldest revisions beyond the limit, but none that is in use.
    pub(crate) fn clean_up(&self, limit: Option<i32>, used: impl Fn(&Object) -> bool) -> Vec<Step> {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
        let unused = |revision: &&Revision| {
            revision.object.key.name != self.name
                && !revision.object.is_terminating()
                && !used(&revision.object)
        };
        let unused: Vec<_> = self.revisions.iter().filter(unused).collect();
        let surplus = unused.len().saturating_sub(limit);
        unused.into_iter().take(surplus).map(|revision| Step::delete(&revision.object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kubernetes() {
        // Test vectors of the hash's authors.
        for (text, expected) in [("", 0x811c_9dc5), ("a", 0x050c_5d7e), ("foobar", 0x31f0_b262)] {
            assert_eq!(fnv(text.as_bytes()), expected, "{text}");
        }
        let check = |data: &Value, collisions, hashed: &str| {
            let expected = template::safe_encode(&fnv(hashed.as_bytes()).to_string());
            assert_eq!(data_hash(data, collisions), expected, "{hashed}");
        };
        check(&json!({"a": "<"}), 0, r#"{"a":"\u003c"}0"#);
        check(&json!({"a": "<"}), 12, r#"{"a":"\u003c"}12"#);
    }
}
