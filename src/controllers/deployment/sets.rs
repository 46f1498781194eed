//! The ReplicaSets of one Deployment, as one plan reads and changes them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{DeploymentSpec, ReplicaSet, ReplicaSetStatus},
    core::v1::PodTemplateSpec,
};
use serde_json::Value;

use crate::{
    controllers::{
        Step,
        deployment::{DESIRED_REPLICAS, HASH_LABEL, MAX_REPLICAS, REVISION, REVISION_HISTORY},
        document,
    },
    model::{Object, well_known::LAST_APPLIED_ANNOTATION},
};

/// Annotations of a Deployment that are about itself.
const OWN_ANNOTATIONS: &[&str] = &[
    LAST_APPLIED_ANNOTATION,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Characters of the revision history that are kept.
const HISTORY_MAX: usize = 2000;

pub(super) struct ReplicaSets {
    /// The one of the present template.
    pub(super) new: Option<Set>,
    /// The others, the oldest first.
    pub(super) old: Vec<Set>,
    /// Hash of the present template.
    pub(super) hash: String,
}

/// Names one of [`ReplicaSets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    New,
    Old(usize),
}

pub(super) struct Set {
    pub(super) object: Arc<Object>,
    pub(super) status: ReplicaSetStatus,
    /// Events about the Deployment that go with the change of this set.
    pub(super) notes: Vec<Step>,
    replicas: i32,
    min_ready_seconds: i32,
    /// The document as it shall be, once something changes.
    changed: Option<Value>,
}

/// A sum of counts, which clients may have written.
pub(super) fn sum(counts: impl Iterator<Item = i32>) -> i32 {
    counts.fold(0, i32::saturating_add)
}

impl ReplicaSets {
    pub(super) fn new(objects: &[&Arc<Object>], spec: &DeploymentSpec, hash: String) -> Self {
        let mut parsed: Vec<(ReplicaSet, &Arc<Object>)> =
            objects.iter().filter_map(|object| Some((object.parse().ok()?, *object))).collect();
        parsed.sort_by_key(|(_, object)| {
            (object.metadata.creation_timestamp.clone(), object.key.name.clone())
        });
        let labeled = |object: &Object| object.metadata.labels.get(HASH_LABEL) == Some(&hash);
        let template = without_hash(&spec.template);
        let same = |set: &ReplicaSet| {
            let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            own.is_some_and(|own| without_hash(own) == template)
        };
        let found = parsed
            .iter()
            .position(|(set, _)| same(set))
            .or_else(|| parsed.iter().position(|(_, object)| labeled(object)));
        let mut old: Vec<_> =
            parsed.into_iter().map(|(set, object)| Set::new(set, object)).collect();
        let new = found.map(|index| old.remove(index));
        Self { new, old, hash }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn take_all(self) -> impl Iterator<Item = Set> {
        self.old.into_iter().chain(self.new)
    }

    pub(super) fn get(&self, which: Which) -> Option<&Set> {
        match which {
            Which::New => self.new.as_ref(),
            Which::Old(index) => self.old.get(index),
        }
    }

    pub(super) fn get_mut(&mut self, which: Which) -> Option<&mut Set> {
        match which {
            Which::New => self.new.as_mut(),
            Which::Old(index) => self.old.get_mut(index),
        }
    }

    /// Wanted pods of all sets.
    pub(super) fn total(&self) -> i32 {
        sum(self.all().map(Set::replicas))
    }

    /// Old sets that want pods.
    pub(super) fn active_old(&self) -> impl Iterator<Item = usize> {
        let active = self.old.iter().enumerate().filter(|(_, set)| set.replicas() > 0);
        active.map(|(index, _)| index)
    }

    /// The number that the present template has: one more than all before.
    pub(super) fn next_revision(&self) -> i32 {
        let revisions = self.old.iter().filter_map(|set| set.number(REVISION));
        revisions.max().unwrap_or(0).saturating_add(1)
    }
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// Annotations that ReplicaSets take over from their Deployment.
pub(super) fn inherited_annotations(
    annotations: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let free = annotations.iter().filter(|(name, _)| !OWN_ANNOTATIONS.contains(&name.as_str()));
    free.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Set {
    fn new(set: ReplicaSet, object: &Arc<Object>) -> Self {
        let spec = set.spec.unwrap_or_default();
        Self {
            object: object.clone(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            status: set.status.unwrap_or_default(),
            notes: Vec::new(),
            changed: None,
        }
    }

    /// Wanted pods.
    pub(super) fn replicas(&self) -> i32 {
        self.replicas
    }

    pub(super) fn available(&self) -> i32 {
        self.status.available_replicas.unwrap_or(0)
    }

    /// An annotation that is a number.
    pub(super) fn number(&self, annotation: &str) -> Option<i32> {
        self.object.metadata.annotations.get(annotation)?.parse().ok()
    }

    /// Has no pods, wants none, and its status says so about the present spec.
    pub(super) fn is_empty(&self) -> bool {
        self.replicas == 0
            && self.status.replicas == 0
            && self.status.observed_generation.unwrap_or(0) >= self.object.metadata.generation
    }

    fn edit(&mut self) -> &mut Value {
        self.changed.get_or_insert_with(|| document(&self.object))
    }

    pub(super) fn annotate(&mut self, annotations: &BTreeMap<String, String>) {
        for (name, value) in annotations {
            if self.object.metadata.annotations.get(name) != Some(value) {
                self.edit()["metadata"]["annotations"][name.as_str()] = value.as_str().into();
            }
        }
    }

    /// Gives the set a higher revision number (after a rollback); the former one goes into the history.
    pub(super) fn set_revision(&mut self, revision: i32) {
        let old = self.number(REVISION);
        if old.is_some_and(|old| old >= revision) {
            return;
        }
        let history = self.object.metadata.annotations.get(REVISION_HISTORY).cloned();
        self.edit()["metadata"]["annotations"][REVISION] = revision.to_string().into();
        let Some(old) = old else { return };
        let mut history =
            history.map_or_else(|| old.to_string(), |former| format!("{former},{old}"));
        while history.len() > HISTORY_MAX
            && let Some((_, rest)) = history.split_once(',')
        {
            history = rest.to_owned();
        }
        self.edit()["metadata"]["annotations"][REVISION_HISTORY] = history.into();
    }

    pub(super) fn set_min_ready_seconds(&mut self, seconds: Option<i32>) {
        let wanted = seconds.unwrap_or(0);
        if self.min_ready_seconds != wanted {
            self.edit()["spec"]["minReadySeconds"] = wanted.into();
        }
    }

    pub(super) fn scale(&mut self, replicas: i32, desired: i32, most: i32) {
        if replicas != self.replicas {
            self.replicas = replicas;
            self.edit()["spec"]["replicas"] = replicas.into();
        }
        for (name, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, most)] {
            if self.number(name) != Some(value) {
                self.edit()["metadata"]["annotations"][name] = value.to_string().into();
            }
        }
    }

    /// The one write that carries all changes, and the Events.
    pub(super) fn into_steps(self) -> Vec<Step> {
        let key = self.object.key.clone();
        let update = self.changed.map(|document| Step::Update(key, document));
        update.into_iter().chain(self.notes).collect()
    }
}
