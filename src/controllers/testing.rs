//! For tests: a cluster over a registry in memory, to which plans are applied one after the other. What the registry refuses
//! fails the test.

use std::{cell::Cell, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    controllers::{Controller, Options, Plan, SecretToken, Step, World, document},
    model::{Kind, ObjectKey, Status, kind, time::time_text},
    registry::{
        DeleteOptions, Preconditions, Propagation, Registry, Subresource, View, WriteOptions,
    },
};

pub(crate) struct Cluster {
    /// What the registry has; it is renewed after every write.
    pub(crate) view: View,
    /// The time of plans and writes.
    pub(crate) now: Timestamp,
    pub(crate) options: Options,
    /// `reason message` of every Event.
    pub(crate) events: Vec<String>,
    registry: Registry,
    runtime: Runtime,
}

thread_local! {
    /// The time of writes: all those of a test happen on its thread.
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) };
}

pub(crate) fn options() -> Options {
    Options {
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
    }
}

impl Default for Cluster {
    fn default() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let registry = runtime.block_on(Registry::for_tests_at(|| NOW.get()));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (view, events) = (View::for_tests(), Vec::new());
        Self { view, now, options: options(), events, registry, runtime }
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

    /// Creates an object, then gives it its status, then deletes it if the document says so; replaces one that is there. A
    /// namespace that is missing is made.
    pub(crate) fn insert(&mut self, document: &Value) -> ObjectKey {
        let (key, document) = keyed(document);
        if self.view.get(&key).is_some() {
            self.update(&key, Subresource::None, document.clone());
        } else {
            let options = WriteOptions::default();
            let (kind, namespace) = (&key.kind, key.namespace.as_str());
            if kind.namespaced {
                self.ensure_namespace(namespace);
            }
            let created = document.clone();
            self.perform(async |registry| {
                registry.create(kind, namespace, created, &options).await.map(|_| ())
            })
            .unwrap_or_else(|refused| panic!("{refused}: {document}"));
        }
        if key.kind.has_status && document["status"].is_object() {
            self.write_status(&key, &document["status"]);
        }
        let metadata = &document["metadata"];
        if metadata["deletionTimestamp"].is_string() {
            let grace_seconds = metadata["deletionGracePeriodSeconds"].as_i64();
            self.delete_with(&key, DeleteOptions { grace_seconds, ..DeleteOptions::default() });
        }
        key
    }

    fn ensure_namespace(&mut self, name: &str) {
        if self.view.get(&ObjectKey::cluster(&kind::NAMESPACE, name)).is_none() {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.insert(&namespace);
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Value {
        self.view.get(key).map_or(Value::Null, |object| object.parse().unwrap())
    }

    pub(crate) fn uid(&self, key: &ObjectKey) -> String {
        self.view.get(key).map_or_else(String::new, |object| object.metadata.uid.clone())
    }

    pub(crate) fn list(&self, kind: &Kind) -> Vec<Value> {
        self.view.list(kind, None).map(|object| object.parse().unwrap()).collect()
    }

    /// Changes an object as clients do: its status by a write of its own.
    pub(crate) fn edit(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Value)) {
        let old = self.get(key);
        let mut document = old.clone();
        change(&mut document);
        self.update(key, Subresource::None, document.clone());
        if key.kind.has_status && document["status"] != old["status"] {
            self.write_status(key, &document["status"]);
        }
    }

    fn write_status(&mut self, key: &ObjectKey, status: &Value) {
        let mut document = self.get(key);
        document["status"] = status.clone();
        self.update(key, Subresource::Status, document);
    }

    fn update(&mut self, key: &ObjectKey, subresource: Subresource, document: Value) {
        let options = WriteOptions::default();
        let updated = self.perform(async |registry| {
            registry.update(key, subresource, document, &options).await.map(|_| ())
        });
        updated.unwrap_or_else(|refused| panic!("{subresource:?} of {key}: {refused}"));
    }

    /// Carries a write out, while the cache follows the store.
    fn perform<T>(&mut self, write: impl AsyncFnOnce(&Registry) -> T) -> T {
        NOW.set(self.now);
        let (registry, token) = (&self.registry, CancellationToken::new());
        let done = self.runtime.block_on(async {
            tokio::select! {
                done = write(registry) => done,
                ended = registry.run(token) => panic!("the store is lost: {ended:?}"),
            }
        });
        self.view = self.registry.view();
        done
    }

    pub(crate) fn plan(&self, controller: &Controller, key: &ObjectKey) -> Plan {
        let world = World { view: &self.view, now: self.now, options: &self.options };
        (controller.plan)(&world, key)
    }

    /// Carries a step out as the runner does, but that it must succeed.
    pub(crate) fn apply(&mut self, step: Step) {
        match step {
            Step::Create(kind, document) => self.create(&kind, &document),
            Step::Update(key, document) => self.update(&key, Subresource::None, document),
            Step::UpdateStatus(key, document) => self.update(&key, Subresource::Status, document),
            Step::Finalize(key, document) => self.update(&key, Subresource::Finalize, document),
            Step::Bind(key, document) => self.update(&key, Subresource::Binding, document),
            Step::Delete { key, uid, propagation } => {
                if self.uid(&key) == uid {
                    let preconditions = Preconditions::of_uid(uid.as_str());
                    let propagation = Some(propagation);
                    let options =
                        DeleteOptions { preconditions, propagation, ..DeleteOptions::default() };
                    self.delete_with(&key, options);
                }
            }
            Step::Event(note) => self.events.push(format!("{} {}", note.reason, note.message)),
            Step::All(steps) | Step::Chain(steps) => {
                steps.into_iter().for_each(|step| self.apply(step));
            }
        }
    }

    fn create(&mut self, kind: &Kind, document: &Value) {
        let namespace = document["metadata"]["namespace"].as_str().unwrap_or_default();
        let namespace = if kind.namespaced { namespace } else { "" };
        let options = WriteOptions::default();
        let created = self.perform(async |registry| {
            registry.create(kind, namespace, document.clone(), &options).await.map(|_| ())
        });
        match created {
            Err(status) if status.reason == "AlreadyExists" => {}
            created => created.unwrap_or_else(|refused| panic!("{refused}: {document}")),
        }
    }

    /// Deletes as a client that gives no options: finalizers and a bound pod's grace period hold the object.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        self.delete_with(key, DeleteOptions::default());
    }

    #[expect(clippy::needless_pass_by_value, reason = "the options are made for each call")]
    fn delete_with(&mut self, key: &ObjectKey, options: DeleteOptions) {
        let deleted: Result<_, Status> =
            self.perform(async |registry| registry.delete(key, &options).await.map(|_| ()));
        deleted.unwrap_or_else(|refused| panic!("deletion of {key}: {refused}"));
    }

    /// Deletes at once: without grace period, and whatever the finalizers wait for is done.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        let propagation = Some(Propagation::Background);
        self.delete_with(
            key,
            DeleteOptions { grace_seconds: Some(0), propagation, ..DeleteOptions::default() },
        );
        if let Some(object) = self.view.get(key) {
            let mut document = document(object);
            document["metadata"]["finalizers"] = json!([]);
            self.update(key, Subresource::None, document);
        }
        assert!(self.view.get(key).is_none(), "{key} is held");
    }

    /// Plans every key that any object wakes, again and again, until no plan has a step left. `check` sees the
    /// cluster after each plan.
    pub(crate) fn settle(
        &mut self,
        controllers: &[&'static Controller],
        mut check: impl FnMut(&Self),
    ) {
        let mut last = Plan::nothing();
        for _round in 0..500 {
            let mut quiet = true;
            for controller in controllers {
                for key in self.keys(controller) {
                    let plan = self.plan(controller, &key);
                    // Kubernetes repeats some Events as long as nothing changes.
                    if plan.steps.iter().any(|step| !matches!(step, Step::Event(_))) {
                        quiet = false;
                        last = plan.clone();
                    }
                    plan.steps.into_iter().for_each(|step| self.apply(step));
                    check(self);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("controllers do not come to rest; the last plan: {last:?}");
    }

    fn keys(&self, controller: &Controller) -> BTreeSet<ObjectKey> {
        let mut keys = BTreeSet::new();
        for trigger in controller.triggers {
            let kinds = self.view.kinds().stored();
            let watched = kinds.filter(|kind| trigger.kind.is_none_or(|only| only == *kind));
            for object in watched.flat_map(|kind| self.view.list(kind, None)) {
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
        let mut status = self.get(key)["status"].clone();
        let n = self.view.revision;
        let stamp = time_text(self.now);
        let address = format!("127.244.{}.{}", n / 250 % 250, n % 250 + 1);
        let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "Ready");
        conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": stamp}));
        status["phase"] = "Running".into();
        status["podIP"] = address.as_str().into();
        status["podIPs"] = json!([{"ip": address}]);
        status["conditions"] = conditions.into();
        self.write_status(key, &status);
    }
}

/// The document with its namespace, and its key.
fn keyed(document: &Value) -> (ObjectKey, Value) {
    let mut document = document.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = kind::built_in(&text(&document["apiVersion"]), &text(&document["kind"]))
        .expect("kind is served");
    let metadata = &mut document["metadata"];
    if kind.namespaced && metadata["namespace"].is_null() {
        metadata["namespace"] = "default".into();
    }
    let namespace = if kind.namespaced { text(&metadata["namespace"]) } else { String::new() };
    let key = ObjectKey::new(kind, namespace, text(&metadata["name"]));
    assert!(!key.name.is_empty(), "{document}");
    (key, document)
}
