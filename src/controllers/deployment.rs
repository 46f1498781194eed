//! Deployments: one ReplicaSet per template, scaled against each other so that a rollout keeps within
//! `maxSurge` and `maxUnavailable`. The rules are those of Kubernetes' deployment controller.
//!
//! `sets` holds the ReplicaSets as a plan changes them, `rollout` the arithmetic, `progress` the status.

mod progress;
mod rollout;
mod sets;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document, itself, ownership, pod::Pod,
        template, to_value,
    },
    model::{Object, ObjectKey, kind},
    registry::View,
};

use sets::{ReplicaSets, Set};

/// Counts templates; `kubectl rollout history` shows it.
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the Deployment when its ReplicaSet was last scaled.
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Tells the ReplicaSets of a Deployment, and their pods, apart.
const HASH_LABEL: &str = "pod-template-hash";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::DEPLOYMENT), keys: itself },
        Trigger { kind: Some(&kind::REPLICA_SET), keys: deployments_of_set },
    ],
    plan,
};

fn deployments_of_set(view: &View, set: &Object) -> Vec<ObjectKey> {
    ownership::managers(view, &kind::DEPLOYMENT, set)
}

/// One Deployment as a plan sees it.
struct Rollout<'a> {
    world: &'a World<'a>,
    object: &'a Object,
    spec: &'a DeploymentSpec,
    old_status: DeploymentStatus,
    /// What the status becomes.
    status: DeploymentStatus,
    replicas: i32,
    surge: i32,
    unavailable: i32,
    sets: ReplicaSets,
    /// Number of the present template, once it has a ReplicaSet.
    revision: Option<String>,
    /// Creations and deletions of ReplicaSets, with their Events.
    steps: Vec<Step>,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(deployment) = world.view.parse::<Deployment>(key) else { return Plan::nothing() };
    let Some(spec) = &deployment.spec else { return Plan::nothing() };
    let selected = ownership::selected(world.view, &kind::REPLICA_SET, object, &spec.selector);
    let (_selector, claimed) = match selected {
        Ok(selected) => selected,
        Err(plan) => return plan,
    };
    let old_status = deployment.status.clone().unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1).max(0);
    let (surge, unavailable) = rollout::limits(spec, replicas);
    let hash = template::hash(&spec.template, old_status.collision_count.unwrap_or(0));
    let rollout = Rollout {
        world,
        object,
        spec,
        status: old_status.clone(),
        old_status,
        replicas,
        surge,
        unavailable,
        sets: ReplicaSets::new(&claimed, spec, hash),
        revision: None,
        steps: Vec::new(),
    };
    rollout.plan()
}

impl Rollout<'_> {
    fn plan(mut self) -> Plan {
        if !self.object.is_terminating() {
            self.note_pause();
            self.mark_sets();
            if self.is_paused() || self.is_scaled() {
                self.scale();
                if self.is_paused() {
                    self.clean_up();
                }
            } else if self.is_recreate() {
                self.recreate();
            } else {
                self.roll();
            }
        }
        self.finish()
    }

    fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    fn is_recreate(&self) -> bool {
        let strategy = self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy == Some("Recreate")
    }

    /// Somebody changed `spec.replicas` since the ReplicaSets were last scaled.
    fn is_scaled(&self) -> bool {
        let mut active = self.sets.all().filter(|set| set.replicas() > 0);
        active
            .any(|set| set.number(DESIRED_REPLICAS).is_some_and(|desired| desired != self.replicas))
    }

    /// Brings revision number and annotations of the newest ReplicaSet up to date.
    fn mark_sets(&mut self) {
        let revision = self.sets.next_revision();
        let minimum = self.spec.min_ready_seconds;
        let annotations = sets::inherited_annotations(&self.object.metadata.annotations);
        if let Some(new) = &mut self.sets.new {
            new.annotate(&annotations);
            new.set_revision(revision);
            new.set_min_ready_seconds(minimum);
            let own = new.number(REVISION).unwrap_or(0);
            self.revision = Some(own.max(revision).to_string());
        }
    }

    fn scale_set(&mut self, which: sets::Which, replicas: i32) {
        let (desired, most) = (self.replicas, self.replicas.saturating_add(self.surge));
        let Some(set) = self.sets.get_mut(which) else { return };
        let before = set.replicas();
        if before != replicas {
            let word = if before < replicas { "up" } else { "down" };
            let name = &set.object.key.name;
            let message = format!("Scaled {word} replica set {name} from {before} to {replicas}");
            set.notes.push(Step::note(self.object, "ScalingReplicaSet", message));
        }
        set.scale(replicas, desired, most);
    }

    /// The ReplicaSet of the present template, made when it is missing. False when it is only being made.
    fn ensure_new(&mut self) -> bool {
        if self.sets.new.is_some() {
            return true;
        }
        let name = format!("{}-{}", self.object.key.name, self.sets.hash);
        let key = ObjectKey::new(&kind::REPLICA_SET, &*self.object.key.namespace, name.as_str());
        if self.world.view.get(&key).is_some() {
            // Another's: try another name.
            let collisions = self.status.collision_count.unwrap_or(0);
            self.status.collision_count = Some(collisions.saturating_add(1));
            return false;
        }
        let (total, recreate) = (self.sets.total(), self.is_recreate());
        let size = rollout::new_set_size(self.replicas, self.surge, total, 0, recreate);
        let document = self.new_set(&name, size);
        self.steps.push(Step::Create(kind::REPLICA_SET.clone(), document));
        if size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            self.steps.push(Step::note(self.object, "ScalingReplicaSet", message));
        }
        let message = format!("Created new replica set \"{name}\"");
        self.set_progressing("True", "NewReplicaSetCreated", &message);
        false
    }

    fn new_set(&self, name: &str, replicas: i32) -> Value {
        let hash = Value::from(self.sets.hash.as_str());
        let mut template = to_value(&self.spec.template);
        template["metadata"]["labels"][HASH_LABEL] = hash.clone();
        let mut selector = to_value(&self.spec.selector);
        selector["matchLabels"][HASH_LABEL] = hash;
        let mut annotations = sets::inherited_annotations(&self.object.metadata.annotations);
        let most = self.replicas.saturating_add(self.surge);
        for (annotation, value) in [
            (REVISION, self.sets.next_revision().to_string()),
            (DESIRED_REPLICAS, self.replicas.to_string()),
            (MAX_REPLICAS, most.to_string()),
        ] {
            annotations.insert(annotation.to_owned(), value);
        }
        let mut spec = json!({"replicas": replicas, "selector": selector, "template": template});
        if let Some(seconds) = self.spec.min_ready_seconds {
            spec["minReadySeconds"] = seconds.into();
        }
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
               "metadata": {"name": name, "namespace": self.object.key.namespace,
                            "labels": template["metadata"]["labels"], "annotations": annotations,
                            "ownerReferences": [ownership::reference(self.object)]},
               "spec": spec})
    }

    /// RollingUpdate: first more of the new, else fewer of the old, else tidy up.
    fn roll(&mut self) {
        if !self.ensure_new() {
            return;
        }
        let Some(new) = &self.sets.new else { return };
        let (size, total) = (new.replicas(), self.sets.total());
        let target = rollout::new_set_size(self.replicas, self.surge, total, size, false);
        if target != size {
            return self.scale_set(sets::Which::New, target);
        }
        if !self.shrink_old() && self.is_complete() {
            self.clean_up();
        }
    }

    /// Scales old ReplicaSets down as far as availability allows: unhealthy pods first.
    fn shrink_old(&mut self) -> bool {
        let targets = rollout::shrink_old(&self.sets, self.replicas - self.unavailable);
        let changed = targets.iter().any(|(_, steps)| !steps.is_empty());
        for (index, sizes) in targets {
            for size in sizes {
                self.scale_set(sets::Which::Old(index), size);
            }
        }
        changed
    }

    /// Recreate: all old pods go before the first new one comes.
    fn recreate(&mut self) {
        let active: Vec<_> = self.sets.active_old().collect();
        if !active.is_empty() {
            active.into_iter().for_each(|index| self.scale_set(sets::Which::Old(index), 0));
            return;
        }
        let runs = |set: &Set| {
            let uid = &set.object.metadata.uid;
            let pods = self.world.view.controlled_by(&kind::POD, &self.object.key.namespace, uid);
            pods.map(Pod::of).any(|pod| !pod.is_finished())
        };
        if self.sets.old.iter().any(runs) || !self.ensure_new() {
            return;
        }
        self.scale_set(sets::Which::New, self.replicas);
        if self.is_complete() {
            self.clean_up();
        }
    }

    /// Applies a changed `spec.replicas` to what there is, in proportion when several ReplicaSets are active.
    fn scale(&mut self) {
        let targets = rollout::scaled(&self.sets, self.replicas, self.surge, !self.is_recreate());
        for (which, size) in targets {
            self.scale_set(which, size);
        }
    }

    /// Deletes old, empty ReplicaSets beyond `spec.revisionHistoryLimit`.
    fn clean_up(&mut self) {
        let limit = self.spec.revision_history_limit.unwrap_or(10);
        let mut old: Vec<_> =
            self.sets.old.iter().filter(|set| !set.object.is_terminating()).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| set.number(REVISION).unwrap_or(0));
        let empty = old.into_iter().take(surplus).filter(|set| set.is_empty());
        self.steps.extend(empty.map(|set| Step::delete(&set.object)));
    }

    /// The whole plan: scaling, then status; and the Deployment's own revision number once the status is settled.
    fn finish(mut self) -> Plan {
        let requeue = self.update_status();
        let mut steps = std::mem::take(&mut self.steps);
        for set in self.sets.take_all() {
            steps.extend(set.into_steps());
        }
        let changed = self.status != self.old_status;
        if let Some(step) = changed.then(|| Step::status(self.object, &self.status)).flatten() {
            steps.push(step);
        } else if let Some(revision) = self.revision.take()
            && !self.object.is_terminating()
            && self.object.metadata.annotations.get(REVISION) != Some(&revision)
        {
            let mut document = document(self.object);
            document["metadata"]["annotations"][REVISION] = revision.into();
            steps.push(Step::Update(self.object.key.clone(), document));
        }
        Plan { steps, requeue }
    }
}

#[cfg(test)]
mod tests;
