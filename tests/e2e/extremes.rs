//! Numbers and times that no sane client sends: in every field of every kind, as the served OpenAPI documents tell
//! them, and in every query parameter. They are refused or taken; nothing panics, and what else there is goes on.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    kinds::{SAMPLES, Sample},
    place::Place,
    tools::{Tool, can_use, eventually_in, wanted},
};

/// How long the strange objects may take to go.
const GONE_IN: Duration = Duration::from_secs(60);
/// Requests at a time.
const AT_ONCE: usize = 16;
/// Templates of pods are the same everywhere: they are gone through for pods, and for one kind that has them.
const TEMPLATES_OF: [&str; 2] = ["Pod", "Job"];
/// Fields that ask for so many pods; the machine would have to keep them.
const COUNTS: [&str; 3] = ["replicas", "parallelism", "completions"];
const TIMES: [&str; 4] = [
    "9999-12-30T22:00:00Z",
    "-009999-01-02T01:59:59Z",
    "0001-01-01T00:00:00Z",
    "2262-04-11T23:47:17Z",
];

/// A place in a document: names of fields, `0` for the first item of a list, `*` for any key of a map.
type Path = Vec<String>;

/// What stands in the place of a number or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Integer,
    Time,
    /// A number or percentage.
    Either,
    Quantity,
}

impl Leaf {
    fn extremes(self) -> Vec<Value> {
        match self {
            Self::Integer => vec![
                i64::MAX.into(),
                i64::MIN.into(),
                i32::MAX.into(),
                i32::MIN.into(),
                (-1).into(),
            ],
            Self::Time => TIMES.map(Value::from).into(),
            Self::Either => vec![
                i32::MAX.into(),
                i32::MIN.into(),
                "2147483647%".into(),
                "99999999999999999999%".into(),
            ],
            Self::Quantity => {
                ["9223372036854775807Ei", "-9E", "1e999", "0.0000000001"].map(Value::from).into()
            }
        }
    }
}

/// The places of all numbers and times below a schema.
fn places(
    components: &Value,
    schema: &Value,
    at: &Path,
    seen: &[String],
    found: &mut Vec<(Path, Leaf)>,
) {
    if let Some(reference) = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str()) {
        let name = reference.rsplit('/').next().expect("a name").to_owned();
        if name.ends_with(".Quantity") {
            found.push((at.clone(), Leaf::Quantity));
        } else if name.ends_with(".IntOrString") {
            found.push((at.clone(), Leaf::Either));
        } else if !seen.contains(&name) {
            let seen = [seen, std::slice::from_ref(&name)].concat();
            places(components, &components[&name], at, &seen, found);
        }
        return;
    }
    let below = |part: &str| [at.as_slice(), &[part.to_owned()]].concat();
    if schema["format"] == "date-time" || schema["format"] == "micro-time" {
        found.push((at.clone(), Leaf::Time));
    } else if schema["format"] == "int-or-string" {
        found.push((at.clone(), Leaf::Either));
    } else if schema["type"] == "integer" || schema["type"] == "number" {
        found.push((at.clone(), Leaf::Integer));
    } else if schema["items"].is_object() {
        places(components, &schema["items"], &below("0"), seen, found);
    } else if schema["additionalProperties"].is_object() {
        places(components, &schema["additionalProperties"], &below("*"), seen, found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        places(components, field, &below(name), seen, found);
    }
}

/// Puts a value there, with all that must be around it.
fn put(document: &mut Value, path: &[String], value: &Value) {
    let Some((part, rest)) = path.split_first() else {
        *document = value.clone();
        return;
    };
    if part == "0" {
        if document.as_array().is_none_or(Vec::is_empty) {
            *document = json!([null]);
        }
        put(&mut document[0], rest, value);
        return;
    }
    let part = if part == "*" { "cpu" } else { part };
    if !document.is_object() {
        *document = json!({});
    }
    put(&mut document[part], rest, value);
}

struct Server {
    cluster: Cluster,
    client: Client,
}

impl Server {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> (u16, String) {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("Accept", accept);
        let request = request.header("Content-Type", "application/json").body(body.into());
        let answer = self.client.send(request.expect("valid")).await.expect("an answer");
        let status = answer.status().as_u16();
        // A watch has no end.
        if path.contains("watch=") || path.contains("follow=") {
            return (status, String::new());
        }
        let body = answer.into_body().collect().await.expect("the whole answer").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// The same, where only a panic or the like is wrong.
    async fn takes(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> (u16, String) {
        let (status, text) = self.ask(method.clone(), path, body, accept).await;
        assert!(status < 500, "{method} {path} {body:?}: {status} {text}");
        (status, text)
    }

    /// Creates an object with one strange value, looks at it as a table, and writes its status.
    async fn try_value(&self, list: &str, name: String, base: &Value, path: &Path, value: &Value) {
        let mut document = base.clone();
        document["metadata"]["name"] = name.clone().into();
        let of_status = path[0] == "status";
        if !of_status {
            put(&mut document, path, value);
        }
        let (status, _) = self.takes(Method::POST, list, Some(&document), JSON).await;
        if status != 201 {
            return;
        }
        let one = format!("{list}/{name}");
        if of_status {
            let (_, text) = self.takes(Method::GET, &one, None, JSON).await;
            let mut document: Value = serde_json::from_str(&text).unwrap_or_default();
            document["metadata"]["resourceVersion"] = Value::Null;
            put(&mut document, path, value);
            self.takes(Method::PUT, &format!("{one}/status"), Some(&document), JSON).await;
        }
        self.takes(Method::GET, &one, None, TABLE).await;
    }
}

const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// One kind and its strange objects.
struct Subject {
    /// Where its objects are.
    list: String,
    base: Value,
    cases: Vec<(Path, Value)>,
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        let cluster = Cluster::start_at(Place::new(), &[&["--store=memory"], arguments].concat());
        let client = cluster.client().await;
        Self { cluster, client }
    }

    async fn subject(&self, sample: &Sample) -> Subject {
        let base: Value = serde_yaml::from_str(sample.manifest).expect("YAML");
        let text = |field: &str| base[field].as_str().expect("text").to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let group = if api_version.contains('/') { "apis" } else { "api" };
        let namespace = if sample.namespaced { "namespaces/default/" } else { "" };
        let plural = sample.resource.split('.').next().expect("a name");
        let list = format!("/{group}/{api_version}/{namespace}{plural}");
        let document = format!("/openapi/v3/{group}/{api_version}");
        let (status, text) = self.ask(Method::GET, &document, None, JSON).await;
        assert_eq!(status, 200, "{document}");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let components = &document["components"]["schemas"];
        let is_root = |schema: &&Value| {
            schema["x-kubernetes-group-version-kind"][0]["kind"] == kind.as_str()
                && schema["properties"]["metadata"].is_object()
        };
        let all = components.as_object().expect("schemas");
        let schema = all.values().find(is_root).unwrap_or_else(|| panic!("a schema of {kind}"));
        let mut found = Vec::new();
        places(components, schema, &Vec::new(), &[], &mut found);
        let in_template = |path: &Path| path.iter().any(|part| part == "template");
        found.retain(|(path, _)| {
            path[0] != "metadata" && (TEMPLATES_OF.contains(&kind.as_str()) || !in_template(path))
        });
        let is_many = |path: &Path, value: &Value| {
            path.last().is_some_and(|field| COUNTS.contains(&field.as_str()))
                && value.as_i64().is_some_and(|count| count > 0)
        };
        // All for what is a time; else each field has one of them, and other kinds have others.
        let cases = found.into_iter().enumerate().flat_map(|(nth, (path, leaf))| {
            let values = leaf.extremes();
            let is_time = leaf == Leaf::Time || path.iter().any(|part| part.ends_with("Seconds"));
            let (skip, take) = if is_time { (0, values.len()) } else { (nth % values.len(), 1) };
            let values = values.into_iter().skip(skip).take(take);
            values.map(move |value| (path.clone(), value)).collect::<Vec<_>>()
        });
        let cases = cases.filter(|(path, value)| !is_many(path, value)).collect();
        Subject { list, base, cases }
    }

    /// Tries all values of a kind, and deletes the objects with grace periods that are no less strange.
    async fn try_all(&self, subject: &Subject) {
        let Subject { list, base, cases } = subject;
        let tries = cases.iter().enumerate().map(|(nth, (path, value))| {
            self.try_value(list, format!("x-{nth}"), base, path, value)
        });
        stream::iter(tries).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        self.takes(Method::GET, list, None, TABLE).await;
        let graces = [i64::MAX, i64::MIN, -1, 0].into_iter().cycle();
        let deletions = (0..cases.len()).zip(graces).map(|(nth, grace)| async move {
            let options = json!({"gracePeriodSeconds": grace, "propagationPolicy": "Background"});
            self.takes(Method::DELETE, &format!("{list}/x-{nth}"), Some(&options), JSON).await;
        });
        stream::iter(deletions).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// The names of the strange objects that are there.
    async fn left(&self, list: &str) -> BTreeSet<String> {
        let (_, text) = self.takes(Method::GET, list, None, JSON).await;
        let objects: Value = serde_json::from_str(&text).expect("JSON");
        let items = objects["items"].as_array().cloned().unwrap_or_default();
        let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
        // Not the Events about them.
        let strange = names.filter(|name| name.starts_with("x-") && !name.contains('.'));
        strange.map(str::to_owned).collect()
    }

    fn has_not_panicked(&self) {
        let log = self.cluster.log();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panic")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_and_time_of_every_kind() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let server = Server::start(&["--nodes=1"]).await;
    let mut lists = vec!["/api/v1/namespaces/default/pods".to_owned()];
    let mut count = 0;
    for sample in SAMPLES {
        let subject = server.subject(sample).await;
        count += subject.cases.len();
        server.try_all(&subject).await;
        lists.push(subject.list);
    }
    println!("{count} values");
    assert!(count > 500, "the documents tell {count} values");
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        for list in &lists {
            eventually_in(GONE_IN, &format!("{list} are gone"), || {
                let left = runtime.block_on(server.left(list));
                wanted(left.is_empty(), format!("{left:?}\n{}", server.cluster.log()))
            });
        }
        server.has_not_panicked();
        workers_live(&server.cluster);
    });
}

/// Each controller still does its work.
fn workers_live(cluster: &Cluster) {
    cluster.kubectl("create namespace live");
    for resource in ["deployments", "statefulsets", "daemonsets", "jobs", "replicationcontrollers"]
    {
        let sample = SAMPLES.iter().find(|sample| sample.resource == resource).expect("a sample");
        cluster.apply(&format!(
            "{}metadata: {{name: {resource}, namespace: live}}\n",
            sample.manifest
        ));
    }
    for (what, condition) in [
        ("deployment/deployments", "condition=Available"),
        ("job/jobs", "condition=Complete"),
        ("statefulset/statefulsets", "jsonpath={.status.readyReplicas}=1"),
        ("daemonset/daemonsets", "jsonpath={.status.numberReady}=1"),
    ] {
        cluster.kubectl(&format!("wait -n live {what} --for={condition} --timeout=30s"));
    }
    cluster.kubectl("delete namespace live --timeout=30s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_of_a_query() {
    let server = Server::start(&["--nodes=1"]).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod =
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    server.takes(Method::POST, pods, Some(&pod), JSON).await;
    let values = [
        "-9223372036854775808",
        "-1",
        "0",
        "1",
        "2147483648",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e9",
        "0.5",
        "x",
        "",
    ];
    let asked = [
        (Method::GET, "?limit="),
        (Method::GET, "?timeoutSeconds="),
        (Method::GET, "?resourceVersion="),
        (Method::GET, "?resourceVersionMatch=Exact&resourceVersion="),
        (Method::GET, "?limit=1&continue="),
        (Method::GET, "?watch=1&timeoutSeconds="),
        (Method::GET, "?watch=1&timeoutSeconds=1&resourceVersion="),
        (Method::GET, "/web?resourceVersion="),
        (Method::GET, "/web/log?sinceSeconds="),
        (Method::GET, "/web/log?follow=1&sinceSeconds="),
        (Method::GET, "/web/log?tailLines="),
        (Method::GET, "/web/log?limitBytes="),
        (Method::GET, "/web/log?sinceTime="),
        (Method::DELETE, "/web?dryRun=All&gracePeriodSeconds="),
        (Method::DELETE, "/other?gracePeriodSeconds="),
    ];
    let all = asked.iter().flat_map(|(method, path)| {
        let values = values.iter().chain(&TIMES);
        // A revision that is still to come is waited for, and kube asks for it again and again.
        let to_come = |value: &&&str| path.ends_with("resourceVersion=") && value.len() > 9;
        let values = values.filter(move |value| !to_come(value));
        values.map(move |value| (method.clone(), format!("{pods}{path}{value}")))
    });
    let answers = all.map(|(method, path)| {
        let server = &server;
        async move {
            let (status, text) = server.ask(method.clone(), &path, None, JSON).await;
            assert!(status < 500, "{method} {path}: {status} {text}");
            let told: Result<Value, _> = serde_json::from_str(&text);
            let is_status = told.is_ok_and(|told| told["kind"] == "Status");
            assert!(
                status < 400 || text.is_empty() || is_status,
                "{method} {path}: {status} {text}"
            );
        }
    });
    stream::iter(answers).buffer_unordered(4 * AT_ONCE).collect::<Vec<()>>().await;
    server.has_not_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_a_grace_period_of_ages_can_be_deleted() {
    let server = Server::start(&["--nodes=1"]).await;
    let pods = "/api/v1/namespaces/default/pods";
    let graces = [i64::MAX, i64::MAX / 1000, i64::MIN, -1];
    for (nth, grace) in graces.into_iter().enumerate() {
        let pod = json!({"metadata": {"name": format!("x-{nth}")}, "spec": {
            "terminationGracePeriodSeconds": grace,
            "containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 8080}]}]}});
        let (status, text) = server.takes(Method::POST, pods, Some(&pod), JSON).await;
        assert_eq!(status, 201, "{text}");
    }
    let runtime = tokio::runtime::Handle::current();
    let pod = |name: &str| -> Value {
        let path = format!("{pods}/{name}");
        let (_, text) = runtime.block_on(server.takes(Method::GET, &path, None, JSON));
        serde_json::from_str(&text).expect("JSON")
    };
    tokio::task::block_in_place(|| {
        // A client that stays holds the pod up to its grace period.
        let address = eventually_in(GONE_IN, "the pod runs", || {
            let pod = pod("x-0");
            let ip = pod["status"]["podIP"].as_str().map(str::to_owned);
            let bound = pod["metadata"]["annotations"]["snowglobe.dev/bound-ports"].as_str();
            let port = bound.and_then(|bound| serde_json::from_str::<Value>(bound).ok());
            let port = port.and_then(|port| port["8080/TCP"].as_u64()).unwrap_or(8080);
            match ip.filter(|_| pod["status"]["phase"] == "Running") {
                Some(ip) => Ok(format!("{ip}:{port}")),
                None => Err(pod.to_string()),
            }
        });
        let client = eventually_in(GONE_IN, "the pod listens", || {
            std::net::TcpStream::connect(&address).map_err(|error| format!("{address}: {error}"))
        });
        for nth in 0..graces.len() {
            let path = format!("{pods}/x-{nth}");
            let (status, text) = runtime.block_on(server.takes(Method::DELETE, &path, None, JSON));
            assert_eq!(status, 200, "{text}");
        }
        eventually_in(GONE_IN, "all but the one with a client are gone", || {
            let left = runtime.block_on(server.left(pods));
            wanted(left == BTreeSet::from(["x-0".to_owned()]), format!("{left:?}"))
        });
        let terminating = pod("x-0");
        assert_eq!(terminating["metadata"]["deletionGracePeriodSeconds"], i64::MAX);
        assert_eq!(terminating["metadata"]["deletionTimestamp"], "9999-12-30T22:00:00Z");
        let sooner = format!("{pods}/x-0?gracePeriodSeconds=1");
        runtime.block_on(server.takes(Method::DELETE, &sooner, None, JSON));
        eventually_in(GONE_IN, "it is gone", || {
            let left = runtime.block_on(server.left(pods));
            wanted(left.is_empty(), format!("{left:?}"))
        });
        drop(client);
        server.has_not_panicked();
    });
}
