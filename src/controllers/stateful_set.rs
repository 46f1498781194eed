//! StatefulSets: numbered pods with stable names, made, updated and removed in order.
//!
//! Former templates are ControllerRevisions: a pod that must be made anew below the partition of a rolling update
//! gets the one that it had.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership,
        pod::Pod,
        replica_set::{next_available_in, some},
        revisions::{self, HASH_LABEL, History},
        template,
    },
    model::{LabelSelector, Object, ObjectKey, kind},
    registry::View,
};

mod claims;

/// Changes of one plan, however many replicas are asked for; each brings the next plan about.
const BURST: usize = 500;
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::STATEFUL_SET), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: sets_of },
        Trigger { kind: Some(&kind::CONTROLLER_REVISION), keys: sets_of },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: sets_beside },
    ],
    plan,
};

fn sets_of(view: &View, object: &Object) -> Vec<ObjectKey> {
    ownership::managers(view, &kind::STATEFUL_SET, object)
}

/// Which set a claim is for is told by its name alone; there are few sets in a namespace.
fn sets_beside(view: &View, claim: &Object) -> Vec<ObjectKey> {
    let sets = view.list(&kind::STATEFUL_SET, Some(&claim.key.namespace));
    sets.map(|set| set.key.clone()).collect()
}

/// One StatefulSet as a plan sees it.
struct Set<'a> {
    world: &'a World<'a>,
    object: &'a Object,
    spec: &'a StatefulSetSpec,
    history: History,
    /// Name of the revision that pods below the partition have.
    current: String,
    /// Pods by ordinal; those that should be there and those that should not.
    pods: BTreeMap<i64, Pod<'a>>,
    first: i64,
    /// One past the last ordinal.
    end: i64,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(parsed) = world.view.parse::<StatefulSet>(key) else { return Plan::nothing() };
    let Some(spec) = &parsed.spec else { return Plan::nothing() };
    let Ok(selector) = LabelSelector::from_object(&spec.selector) else { return Plan::nothing() };
    let claimed = ownership::claim(world.view, &kind::POD, object, &selector);
    // Of the pods that match, only those with a name of this set are taken in.
    let ours = |step: &Step| match step {
        Step::Update(pod, _) => ordinal(&key.name, &pod.name).is_some(),
        _ => true,
    };
    let adoptions: Vec<_> = claimed.steps.into_iter().filter(ours).collect();
    if !adoptions.is_empty() {
        return Plan::all(adoptions);
    }
    let pods = claimed
        .objects
        .into_iter()
        .filter_map(|pod| Some((ordinal(&key.name, &pod.key.name)?, Pod::of(pod))));
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).into();
    let old = parsed.status.clone().unwrap_or_default();
    let collisions = old.collision_count.unwrap_or(0);
    let history = match revisions::history(world, object, &selector, &spec.template, collisions) {
        Ok(history) => history,
        Err(adoptions) => return Plan::all(adoptions),
    };
    if history.collided {
        let collision_count = Some(collisions.saturating_add(1));
        let status = StatefulSetStatus { collision_count, ..old };
        return Vec::from_iter(Step::status(object, &status)).into();
    }
    let settled = old.current_revision.filter(|name| !name.is_empty());
    let set = Set {
        world,
        object,
        spec,
        current: settled.unwrap_or_else(|| history.name.clone()),
        history,
        pods: pods.collect(),
        first,
        end: first + i64::from(spec.replicas.unwrap_or(1).max(0)),
    };
    set.plan(parsed.status.as_ref())
}

fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl<'a> Set<'a> {
    fn plan(&self, old: Option<&StatefulSetStatus>) -> Plan {
        let status = self.status(old);
        let mut steps = Vec::new();
        if old != Some(&status) {
            steps.extend(Step::status(self.object, &status));
        }
        if !self.object.is_terminating() {
            steps.extend(self.history.steps.iter().cloned());
            steps.extend(Plan::all(self.owned_claims()).steps);
            let (writes, notes): (Vec<_>, Vec<_>) =
                self.changes().into_iter().partition(|step| !matches!(step, Step::Event(_)));
            steps.extend(Plan::all(writes).steps);
            steps.extend(Plan::all(notes).steps);
            let used = |revision: &Object| {
                let name = &revision.key.name;
                *name == self.current
                    || self.pods.values().any(|pod| self.revision_of(pod) == Some(name))
            };
            steps.extend(self.history.clean_up(self.spec.revision_history_limit, used));
        }
        let seconds = self.spec.min_ready_seconds.filter(|seconds| *seconds > 0);
        let pods: Vec<_> = self.pods.values().cloned().collect();
        let requeue = seconds.and_then(|s| next_available_in(self.world.now, s, &pods));
        Plan { steps, requeue }
    }

    fn is_available(&self, pod: &Pod<'_>) -> bool {
        let minimum = self.spec.min_ready_seconds.unwrap_or(0);
        pod.is_active() && pod.is_available(minimum, self.world.now)
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    /// What to create and delete now: missing pods upwards, surplus ones downwards, outdated ones downwards. With
    /// ordered management one step at a time, each only when what comes before it is well.
    fn changes(&self) -> Vec<Step> {
        let ordered = self.is_ordered();
        let mut steps = Vec::new();
        for ordinal in self.first..self.end {
            match self.pods.get(&ordinal) {
                None if self.has_stale_claim(&self.pod_name(ordinal)) => {}
                None => steps.extend(self.create(ordinal)),
                Some(pod) if pod.is_finished() && !pod.object.is_terminating() => {
                    let (what, reason) = match pod.facts.status.phase.as_str() {
                        "Failed" => ("failed", "RecreatingFailedPod"),
                        _ => ("terminated", "RecreatingTerminatedPod"),
                    };
                    let (name, namespace) = (&self.object.key.name, &self.object.key.namespace);
                    let message = format!(
                        "StatefulSet {namespace}/{name} is recreating {what} Pod {}",
                        pod.object.key.name
                    );
                    steps.push(Step::warning(self.object, reason, message));
                    steps.push(Step::delete(pod.object));
                }
                Some(pod) if !ordered || self.is_available(pod) => continue,
                // Wait for it.
                Some(_) => return steps,
            }
            if ordered || steps.len() >= BURST {
                return steps;
            }
        }
        let surplus = self.pods.iter().rev().filter(|(o, _)| !(self.first..self.end).contains(*o));
        for (_, pod) in surplus {
            if !pod.object.is_terminating() {
                steps.extend(self.delete(pod));
            }
            if ordered {
                return steps;
            }
        }
        if steps.is_empty() { self.update() } else { steps }
    }

    /// The next steps of a rolling update: the highest outdated pods, as long as no more than `maxUnavailable` are
    /// unavailable.
    fn update(&self) -> Vec<Step> {
        if self.is_on_delete() {
            return Vec::new();
        }
        let mut left = self.unavailable_max();
        let mut steps = Vec::new();
        for (_, pod) in self.pods.range(self.partition().min(self.end)..self.end).rev() {
            if left == 0 {
                break;
            }
            let outdated = self.revision_of(pod) != Some(&self.history.name);
            if outdated && !pod.object.is_terminating() {
                steps.extend(self.delete(pod));
                left -= 1;
            } else if !self.is_available(pod) {
                left -= 1;
            }
        }
        steps
    }

    /// Pods that an update may make unavailable at the same time.
    fn unavailable_max(&self) -> usize {
        let strategy = self.spec.update_strategy.as_ref();
        let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let count = usize::try_from(self.end - self.first).unwrap_or(0);
        match update.and_then(|update| update.max_unavailable.as_ref()) {
            Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(1).max(1),
            Some(IntOrString::String(text)) => {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                (count.saturating_mul(percent.unwrap_or(0)) / 100).max(1)
            }
            None => 1,
        }
    }

    fn revision_of<'b>(&self, pod: &'b Pod<'_>) -> Option<&'b String> {
        pod.object.metadata.labels.get(HASH_LABEL)
    }

    fn create(&self, ordinal: i64) -> Vec<Step> {
        let pod = self.pod(ordinal);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let set = &self.object.key.name;
        let message = format!("create Pod {name} in StatefulSet {set} successful");
        let note = Step::note(self.object, "SuccessfulCreate", message);
        let mut writes = self.missing_claims(name);
        writes.push(Step::Create(kind::POD.clone(), pod));
        vec![Step::Chain(writes), note]
    }

    fn delete(&self, pod: &Pod<'_>) -> Vec<Step> {
        let (name, set) = (&pod.object.key.name, &self.object.key.name);
        let message = format!("delete Pod {name} in StatefulSet {set} successful");
        vec![Step::delete(pod.object), Step::note(self.object, "SuccessfulDelete", message)]
    }

    /// The first ordinal that a rolling update reaches.
    fn partition(&self) -> i64 {
        let strategy = self.spec.update_strategy.as_ref();
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition);
        self.first + i64::from(partition.unwrap_or(0))
    }

    fn is_on_delete(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"))
    }

    /// The revision and template that a new pod is made from: below the partition, the former one.
    fn template_for(&self, ordinal: i64) -> (&str, PodTemplateSpec) {
        if !self.is_on_delete()
            && ordinal < self.partition()
            && self.current != self.history.name
            && let Some(former) = self.history.template(&self.current)
        {
            return (&self.current, former);
        }
        (&self.history.name, self.spec.template.clone())
    }

    fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.object.key.name)
    }

    fn pod(&self, ordinal: i64) -> Value {
        let set = &self.object.key.name;
        let name = self.pod_name(ordinal);
        let (revision, template) = self.template_for(ordinal);
        let mut pod = template::pod(&template, self.object);
        pod["metadata"]["name"] = name.as_str().into();
        pod["metadata"]["generateName"] = format!("{set}-").into();
        let labels = &mut pod["metadata"]["labels"];
        labels[POD_NAME_LABEL] = name.as_str().into();
        labels[INDEX_LABEL] = ordinal.to_string().into();
        labels[HASH_LABEL] = revision.into();
        pod["spec"]["hostname"] = name.as_str().into();
        if let Some(service) = self.spec.service_name.as_ref().filter(|name| !name.is_empty()) {
            pod["spec"]["subdomain"] = service.as_str().into();
        }
        let claims = self.spec.volume_claim_templates.iter().flatten();
        let claims: Vec<_> = claims.filter_map(|claim| claim.metadata.name.as_deref()).collect();
        if !claims.is_empty() {
            let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
            volumes.retain(|volume| !claims.iter().any(|claim| volume["name"] == *claim));
            volumes.extend(claims.iter().map(|claim| {
                json!({"name": claim, "persistentVolumeClaim": {"claimName": format!("{claim}-{name}")}})
            }));
            pod["spec"]["volumes"] = volumes.into();
        }
        pod
    }

    fn status(&self, old: Option<&StatefulSetStatus>) -> StatefulSetStatus {
        let mut current = self.current.clone();
        let alive = |pod: &&Pod<'_>| pod.is_active();
        let of = |revision: &str| {
            let of_revision =
                |pod: &&Pod<'_>| self.revision_of(pod).is_some_and(|label| label == revision);
            self.pods.values().filter(alive).filter(of_revision).count()
        };
        let ready = self.pods.values().filter(alive).filter(|pod| pod.is_ready()).count();
        let updated = of(&self.history.name);
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        if rolling != Some("OnDelete") && updated == self.pods.len() && ready == self.pods.len() {
            current.clone_from(&self.history.name);
        }
        let available = self.pods.values().filter(|pod| self.is_available(pod)).count();
        StatefulSetStatus {
            available_replicas: Some(i32::try_from(available).unwrap_or(i32::MAX)),
            collision_count: Some(old.and_then(|status| status.collision_count).unwrap_or(0)),
            conditions: old.and_then(|status| status.conditions.clone()),
            current_replicas: some(of(&current)),
            current_revision: Some(current),
            observed_generation: Some(self.object.metadata.generation),
            ready_replicas: some(ready),
            replicas: i32::try_from(self.pods.len()).unwrap_or(i32::MAX),
            update_revision: Some(self.history.name.clone()),
            updated_replicas: some(updated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  serviceName: db-hl
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {nodeName: n1, containers: [{name: a, image: v1}]}
";

    fn key() -> ObjectKey {
        ObjectKey::new(&kind::STATEFUL_SET, "default", "db")
    }

    fn names(cluster: &Cluster) -> Vec<String> {
        cluster.view.list(&kind::POD, None).map(|pod| pod.key.name.clone()).collect()
    }

    fn images(cluster: &Cluster) -> Vec<String> {
        let image =
            |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        cluster.list(&kind::POD).iter().map(image).collect()
    }

    /// Runs controller and pods in turn until nothing moves.
    fn rest(cluster: &mut Cluster) {
        loop {
            cluster.settle(&[&CONTROLLER], |_| {});
            if !cluster.run_pods(1) {
                return;
            }
        }
    }

    #[test]
    fn pods_come_and_go_in_order() {
        let mut cluster = Cluster::of(SET);
        for expected in [vec!["db-0"], vec!["db-0", "db-1"], vec!["db-0", "db-1", "db-2"]] {
            cluster.settle(&[&CONTROLLER], |_| {});
            assert_eq!(names(&cluster), expected);
            cluster.run_pods(1);
        }
        let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "db-1"));
        assert_eq!(pod["spec"]["hostname"], "db-1");
        assert_eq!(pod["spec"]["subdomain"], "db-hl");
        assert_eq!(pod["metadata"]["labels"][INDEX_LABEL], "1");
        assert_eq!(pod["metadata"]["labels"][POD_NAME_LABEL], "db-1");
        rest(&mut cluster);
        let status = cluster.get(&key())["status"].clone();
        assert_eq!(status["readyReplicas"], 3);
        assert_eq!(status["currentRevision"], pod["metadata"]["labels"][HASH_LABEL]);
        cluster.edit(&key(), |set| set["spec"]["replicas"] = 1.into());
        cluster.settle(&[&CONTROLLER], |_| {});
        let going = cluster.view.list(&kind::POD, None).filter(|pod| pod.is_terminating());
        assert_eq!(going.map(|pod| &*pod.key.name).collect::<Vec<_>>(), ["db-2"]);
        rest(&mut cluster);
        assert_eq!(names(&cluster), ["db-0"]);
    }

    #[test]
    fn parallel_and_start_ordinal() {
        let yaml = SET.replace(
            "replicas: 3",
            "replicas: 3\n  podManagementPolicy: Parallel\n  ordinals: {start: 5}",
        );
        let mut cluster = Cluster::of(&yaml);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(names(&cluster), ["db-5", "db-6", "db-7"]);
        cluster.edit(&key(), |set| set["spec"]["replicas"] = i32::MAX.into());
        let plan = cluster.plan(&CONTROLLER, &key());
        assert!(plan.steps.len() < 2 * BURST + 10, "{} steps", plan.steps.len());
    }

    #[test]
    fn updates_roll_down_to_the_partition() {
        let mut cluster = Cluster::of(SET);
        rest(&mut cluster);
        let image = |cluster: &mut Cluster, image: &str, strategy: Value| {
            cluster.edit(&key(), |set| {
                set["spec"]["updateStrategy"] = strategy;
                set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
            });
            rest(cluster);
        };
        image(
            &mut cluster,
            "v2",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
        );
        assert_eq!(images(&cluster), ["v1", "v1", "v2"]);
        cluster.delete(&ObjectKey::new(&kind::POD, "default", "db-0"));
        rest(&mut cluster);
        assert_eq!(images(&cluster), ["v1", "v1", "v2"], "made anew from the former template");
        let status = cluster.get(&key())["status"].clone();
        assert_ne!(status["currentRevision"], status["updateRevision"]);
        assert_eq!(status["updatedReplicas"], 1);
        image(&mut cluster, "v2", json!({"type": "RollingUpdate"}));
        assert_eq!(images(&cluster), ["v2", "v2", "v2"]);
        image(&mut cluster, "v3", json!({"type": "OnDelete"}));
        assert_eq!(images(&cluster), ["v2", "v2", "v2"]);
        let pod = ObjectKey::new(&kind::POD, "default", "db-1");
        cluster.delete(&pod);
        rest(&mut cluster);
        assert_eq!(images(&cluster), ["v2", "v3", "v2"]);
    }

    #[test]
    fn ordinals_are_canonical_numbers() {
        for (name, expected) in [
            ("db-0", Some(0)),
            ("db-12", Some(12)),
            ("db-01", None),
            ("db-x", None),
            ("dbx-1", None),
            ("db-", None),
        ] {
            assert_eq!(ordinal("db", name), expected, "{name}");
        }
    }
}
