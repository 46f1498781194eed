//! For tests: a cluster in memory, without store and rules, to which plans are applied one after the other.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    controllers::{Controller, Options, Plan, SecretToken, Step, World},
    model::{Kind, Object, ObjectKey, kind, object, time::time_text},
    registry::View,
};

pub(crate) struct Cluster {
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    pub(crate) options: Options,
    /// `reason message` of every Event.
    pub(crate) events: Vec<String>,
    revision: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        let options = Options {
            load_balancer_cidr: "127.100.0.0/24".parse().unwrap(),
            services_within: "127.0.0.0/8".parse().unwrap(),
            taken_ranges: vec![("pod-cidr", "127.244.0.0/16".parse().unwrap())],
            endpoints_per_slice_max: 100,
            event_ttl: std::time::Duration::from_hours(1),
            cluster_ca: "PEM".to_owned(),
            secret_token: SecretToken::new(|secret, account| {
                format!("{} of {} {}", secret.name, account.key.name, account.metadata.uid)
            }),
            kept: Arc::default(),
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { view: View::default(), now, options, events: Vec::new(), revision: 0 }
    }
}

impl Cluster {
    /// A cluster with these objects: YAML documents, separated by `---`.
    pub(crate) fn of(yaml: &str) -> Self {
        let mut cluster = Self::default();
        for document in yaml.split("---\n").filter(|text| !text.trim().is_empty()) {
            cluster.insert(&serde_yaml::from_str(document).unwrap());
        }
        cluster
    }

    /// Stores a document; uid, creation time and generation are filled in.
    pub(crate) fn insert(&mut self, document: &Value) -> ObjectKey {
        let mut document = document.clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = kind::by_api_version(&text(&document["apiVersion"]), &text(&document["kind"]))
            .expect("kind is served");
        let metadata = &mut document["metadata"];
        if kind.namespaced && metadata["namespace"].is_null() {
            metadata["namespace"] = "default".into();
        }
        let key = ObjectKey::new(kind, text(&metadata["namespace"]), text(&metadata["name"]));
        assert!(!key.name.is_empty(), "{document}");
        self.revision += 1;
        let metadata = &mut document["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.revision).into();
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = time_text(self.now).into();
        }
        if kind.has_generation && metadata["generation"].is_null() {
            metadata["generation"] = 1.into();
        }
        let stored = object::to_stored(kind, document);
        let object = Object::from_stored(key.clone(), self.revision, stored).unwrap();
        self.view.insert(&Arc::new(object));
        self.view.revision = self.revision;
        key
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Value {
        self.view.get(key).map_or(Value::Null, |object| object.parse().unwrap())
    }

    pub(crate) fn list(&self, kind: &'static Kind) -> Vec<Value> {
        self.view.list(kind, None).map(|object| object.parse().unwrap()).collect()
    }

    /// Changes a document in place, as a client's update of the whole object.
    pub(crate) fn edit(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Value)) {
        let mut document = self.get(key);
        let spec = document["spec"].clone();
        change(&mut document);
        if document["spec"] != spec && key.kind.has_generation {
            document["metadata"]["generation"] =
                (document["metadata"]["generation"].as_i64().unwrap() + 1).into();
        }
        self.insert(&document);
    }

    pub(crate) fn plan(&self, controller: &Controller, key: &ObjectKey) -> Plan {
        let world = World { view: &self.view, now: self.now, options: &self.options };
        (controller.plan)(&world, key)
    }

    pub(crate) fn apply(&mut self, step: Step) {
        match step {
            Step::Create(kind, document) => {
                let text = |field: &str| document["metadata"][field].as_str().unwrap_or_default();
                let mut name = text("name").to_owned();
                if name.is_empty() {
                    name = format!("{}{:05}", text("generateName"), self.revision);
                }
                let key = ObjectKey::new(kind, text("namespace"), name.as_str());
                let mut document = document.clone();
                document["metadata"]["name"] = name.into();
                if self.view.get(&key).is_none() {
                    self.insert(&document);
                }
            }
            Step::Update(key, document)
            | Step::Finalize(key, document)
            | Step::Bind(key, document) => {
                self.update(&key, document, false);
            }
            Step::UpdateStatus(key, document) => self.update(&key, document, true),
            Step::Delete { key, uid, .. } => {
                if self.view.get(&key).is_some_and(|object| object.metadata.uid == uid) {
                    self.delete(&key);
                }
            }
            Step::Event(note) => self.events.push(format!("{} {}", note.reason, note.message)),
            Step::All(steps) | Step::Chain(steps) => {
                steps.into_iter().for_each(|step| self.apply(step));
            }
        }
    }

    fn update(&mut self, key: &ObjectKey, mut document: Value, status: bool) {
        let old = self.get(key);
        assert_eq!(
            document["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"],
            "conflict on {key}"
        );
        if status {
            let status = document["status"].take();
            document = old;
            document["status"] = status;
        } else if key.kind.has_generation && document["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            document["metadata"]["generation"] = (generation + 1).into();
        }
        let finalizers = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        if document["metadata"]["deletionTimestamp"].is_string()
            && !finalizers(&document["metadata"]["finalizers"])
            && !finalizers(&document["spec"]["finalizers"])
            && document["metadata"]["deletionGracePeriodSeconds"].is_null()
        {
            return self.remove(key);
        }
        self.insert(&document);
    }

    /// Deletes as the registry does: finalizers and a bound pod's grace period hold the object.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        let mut document = self.get(key);
        let holds = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        let ended = matches!(document["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let grace = document["spec"]["nodeName"].is_string() && !ended;
        if holds(&document["metadata"]["finalizers"])
            || holds(&document["spec"]["finalizers"])
            || grace
        {
            document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            if grace {
                document["metadata"]["deletionGracePeriodSeconds"] = 30.into();
            }
            self.insert(&document);
        } else {
            self.remove(key);
        }
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.revision += 1;
        self.view.remove(key);
        self.view.revision = self.revision;
    }

    /// Plans every key that any object wakes, again and again, until no plan has a step left. `check` sees the
    /// cluster after each plan.
    pub(crate) fn settle(
        &mut self,
        controllers: &[&'static Controller],
        mut check: impl FnMut(&Self),
    ) {
        for _round in 0..2000 {
            let mut quiet = true;
            for controller in controllers {
                for key in self.keys(controller) {
                    let plan = self.plan(controller, &key);
                    quiet &= plan.steps.is_empty();
                    plan.steps.into_iter().for_each(|step| self.apply(step));
                    check(self);
                }
            }
            if quiet {
                return;
            }
        }
        panic!(
            "controllers do not come to rest; last events: {:?}",
            self.events.iter().rev().take(5)
        );
    }

    fn keys(&self, controller: &Controller) -> BTreeSet<ObjectKey> {
        let mut keys = BTreeSet::new();
        for trigger in controller.triggers {
            for object in self.view.list(trigger.kind, None) {
                keys.extend((trigger.keys)(&self.view, object));
            }
        }
        keys
    }

    /// What a node would do to at most `count` pods: bound pods become ready, terminating ones vanish.
    /// Tells whether there was something to do.
    pub(crate) fn run_pods(&mut self, count: usize) -> bool {
        let mut left = count;
        for pod in self.list(&kind::POD) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let namespace = pod["metadata"]["namespace"].as_str().unwrap();
            let key = ObjectKey::new(&kind::POD, namespace, name);
            let ready = pod["status"]["phase"] == "Running";
            if left == 0 || (ready && pod["metadata"]["deletionTimestamp"].is_null()) {
                continue;
            }
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.remove(&key);
            } else if pod["spec"]["nodeName"].is_string() {
                self.ready(&key);
            } else {
                continue;
            }
            left -= 1;
        }
        left < count
    }

    /// Makes a pod Running and Ready, with an address of its own.
    pub(crate) fn ready(&mut self, key: &ObjectKey) {
        let mut pod = self.get(key);
        let n = self.revision;
        let stamp = time_text(self.now);
        let address = format!("127.244.{}.{}", n / 250 % 250, n % 250 + 1);
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "Ready");
        conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": stamp}));
        pod["status"] = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                               "conditions": conditions});
        self.insert(&pod);
    }
}
