//! The past of a running cluster, snapshots of it, and new clusters made of them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams, VersionMatch},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    cluster::{Cluster, items, names},
    tools::{self, Ran, Tool, can_use, eventually, wanted},
};

const WRITERS: u64 = 4;
/// How many writes each writer has done before the snapshot, and after it.
const WRITES: u64 = 25;

fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = tools::snowglobe();
    command.args(arguments).env("KUBECONFIG", &cluster.line.kubeconfig);
    command
}

fn snowglobe(cluster: &Cluster, arguments: &str) -> Ran {
    tools::run(command(cluster, &arguments.split_whitespace().collect::<Vec<_>>()))
}

fn restore(file: &Path, data_dir: &Path) -> Ran {
    let mut command = tools::snowglobe();
    command.args(["snapshot", "restore"]).arg(file).arg("--data-dir").arg(data_dir);
    tools::run(command)
}

/// A GET of the API, whatever it answers.
async fn get(client: &Client, path: &str) -> Result<Value, kube::core::Status> {
    let request = ::http::Request::get(path).body(Vec::new()).expect("a valid path");
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(other) => panic!("{path}: {other}"),
    }
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a resourceVersion");
    text.parse().expect("a number")
}

/// Creates, replaces and deletes ConfigMaps until it is told to end.
async fn write(maps: Api<ConfigMap>, writer: u64, written: Arc<AtomicU64>, end: Arc<AtomicBool>) {
    let mut last = None;
    for count in 0.. {
        if end.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("writer-{writer}-{}", count / 3 % 7);
        let mut map: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"written": "yes"}},
            "data": {"count": count.to_string(), "filling": "x".repeat(500)}
        }))
        .expect("typed");
        last = match (count % 3, last.take()) {
            (0, _) => {
                // One of a round before may be there.
                maps.delete(&name, &DeleteParams::default()).await.ok();
                Some(maps.create(&PostParams::default(), &map).await.expect("created"))
            }
            (1, Some(before)) => {
                map.metadata = before.metadata;
                Some(maps.replace(&name, &PostParams::default(), &map).await.expect("replaced"))
            }
            (_, last) => last,
        };
        written.fetch_add(1, Ordering::Relaxed);
    }
}

/// ConfigMaps and Secrets of the tests by kind and name, as they are now or were at a revision.
async fn kept(client: &Client, at: Option<&str>) -> BTreeMap<String, Value> {
    let mut list = ListParams::default().labels("written=yes");
    if let Some(at) = at {
        list = list.at(at).matching(VersionMatch::Exact);
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let maps = maps.list(&list).await.expect("a list");
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secrets = secrets.list(&list).await.expect("a list");
    if let Some(at) = at {
        assert_eq!(maps.metadata.resource_version.as_deref(), Some(at));
    }
    let name = |metadata: &kube::api::ObjectMeta| metadata.name.clone().expect("a name");
    let to_value = |object| serde_json::to_value(object).expect("JSON");
    let maps = maps
        .items
        .iter()
        .map(|m| (format!("map {}", name(&m.metadata)), serde_json::to_value(m).expect("JSON")));
    let secrets =
        secrets.items.iter().map(|s| (format!("secret {}", name(&s.metadata)), to_value(s)));
    maps.chain(secrets).collect()
}

async fn with_secret(client: &Client) {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secret = json!({"metadata": {"name": "password", "labels": {"written": "yes"}},
        "stringData": {"a": "b"}});
    let secret: Secret = serde_json::from_value(secret).expect("typed");
    secrets.create(&PostParams::default(), &secret).await.expect("created");
}

/// Saves while writers write; gives the snapshot's revision and what there was at it.
async fn save_under_load(cluster: &Cluster, file: &Path) -> (String, BTreeMap<String, Value>) {
    let client = cluster.client().await;
    with_secret(&client).await;
    let (end, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    let counts: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for (writer, count) in (0..).zip(&counts) {
        let maps = Api::default_namespaced(client.clone());
        tasks.spawn(write(maps, writer, count.clone(), end.clone()));
    }
    let all_reach = |goals: Vec<u64>| {
        let counts = counts.clone();
        tokio::task::spawn_blocking(move || {
            eventually("all writers write", || {
                let now: Vec<_> = counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
                let reached = now.iter().zip(&goals).all(|(now, goal)| now >= goal);
                wanted(reached, format!("{now:?}"))
            });
        })
    };
    all_reach(vec![WRITES; counts.len()]).await.expect("they do");
    let mut save = command(cluster, &["snapshot", "save", "-o", "json"]);
    save.arg(file);
    let saved = tokio::task::spawn_blocking(|| tools::run(save)).await.expect("no panic");
    let saved: Value = serde_json::from_str(&saved.succeeded()).expect("a JSON line");
    let goals = counts.iter().map(|count| count.load(Ordering::Relaxed) + WRITES).collect();
    all_reach(goals).await.expect("they go on");
    end.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a writer has no error");
    }
    let at = saved["revision"].as_u64().expect("a revision").to_string();
    let expected = kept(&client, Some(&at)).await;
    assert!(expected.len() > 4, "{expected:?}");
    assert_ne!(expected, kept(&client, None).await, "they wrote after the snapshot");
    (at, expected)
}

/// Pages and errors of a cluster that was just restored, which has no past.
async fn nothing_before(cluster: &Cluster, client: &Client, at: &str, token: &str) {
    let maps = "/api/v1/namespaces/default/configmaps";
    let exact = format!("{maps}?resourceVersion={at}&resourceVersionMatch=Exact");
    let gone = get(client, &exact).await.expect_err("it is gone");
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
    assert_eq!(gone.message, "The resourceVersion for the provided list is too old.");
    let paged = format!("get --raw {maps}?labelSelector=written%3Dyes&limit=2&continue=");
    let gone = cluster.try_kubectl(&format!("{paged}{token}")).failed();
    assert!(gone.contains("The provided continue parameter is too old"), "{gone}");
    let text = snowglobe(cluster, &format!("get configmaps --at {at}")).failed();
    let history = snowglobe(cluster, "status -o json").succeeded();
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let oldest = history["revisions"]["oldest"].as_u64().expect("a number");
    let told = format!("revision {at} is no longer kept: the oldest is {oldest};");
    assert!(text.contains(&told) && text.contains("5 minutes"), "{text}");
    let after = at.parse::<u64>().expect("a number") + 3;
    let watch = format!("get --raw {maps}?watch=1&timeoutSeconds=1&resourceVersion={after}");
    let watched = cluster.kubectl(&watch);
    assert!(watched.contains("\"code\":410"), "a revision of the old cluster: {watched}");
}

#[tokio::test]
async fn a_snapshot_taken_under_load_is_one_revision() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start_with(&[]);
    let file = cluster.place.home().join("saved");
    let (at, expected) = save_under_load(&cluster, &file).await;
    let page = "/api/v1/namespaces/default/configmaps?labelSelector=written%3Dyes&limit=2";
    let page = get(&cluster.client().await, page).await.expect("a page");
    let token = page["metadata"]["continue"].as_str().expect("there are more").to_owned();
    cluster.stop();
    let new = cluster.place.home().join("new");
    let told = restore(&file, &new).succeeded();
    assert!(told.starts_with(&format!("restored revision {at} of ")), "{told}");
    let told = restore(&file, &new).failed();
    assert!(told.contains("is not empty"), "{told}");
    let data_dir = format!("--data-dir={}", new.display());
    for _ in 0..2 {
        cluster.start_again_with(&[&data_dir]);
        let client = cluster.client().await;
        assert_eq!(kept(&client, None).await, expected);
        nothing_before(&cluster, &client, &at, &token).await;
        cluster.stop();
    }
    cluster.start_again_with(&[&data_dir]);
    let map = json!({"metadata": {"name": "after"}});
    let map: ConfigMap = serde_json::from_value(map).expect("typed");
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let map = maps.create(&PostParams::default(), &map).await.expect("created");
    let version = map.metadata.resource_version.expect("a version");
    assert!(version.parse::<u64>().expect("a number") > at.parse().expect("a number"));
}

#[test]
fn what_cannot_be_restored_is_refused() {
    let mut cluster = Cluster::start_with(&["--store=memory"]);
    let home = cluster.place.home().to_owned();
    let file = home.join("saved");
    let path = file.to_str().expect("UTF-8");
    snowglobe(&cluster, &format!("snapshot save {path}")).succeeded();
    let again = snowglobe(&cluster, &format!("snapshot save {path}")).failed();
    assert!(again.contains("exists") && again.contains("--force"), "{again}");
    snowglobe(&cluster, &format!("snapshot save {path} --force")).succeeded();
    cluster.stop();
    let again = snowglobe(&cluster, &format!("snapshot save {path} --force")).failed();
    assert!(again.contains("is the cluster running?"), "{again}");
    assert!(!home.join("saved.partial").exists());

    let bytes = fs::read(&file).expect("it was saved");
    let middle = bytes.len() / 2;
    let mut altered = bytes.clone();
    altered[middle] ^= 1;
    let new = home.join("new");
    for (what, bytes, told) in [
        ("altered", &altered[..], "is damaged"),
        ("cut", &bytes[..middle], "is damaged: its end is missing"),
        ("cut at its end", &bytes[..bytes.len() - 1], "is damaged: its end is missing"),
        ("longer", &[&bytes[..], b"x"].concat(), "is damaged: something follows its end"),
        ("empty", b"", "is not a snapshot"),
        ("something else", b"apiVersion: v1\n", "is not a snapshot"),
    ] {
        let other = home.join("other");
        fs::write(&other, bytes).expect("the directory is writable");
        let text = restore(&other, &new).failed();
        assert!(text.contains(told) && text.contains("other"), "{what}: {text}");
        assert!(!new.exists(), "{what}: nothing was written");
    }
    let absent = restore(&home.join("absent"), &new).failed();
    assert!(absent.contains("absent") && !new.exists(), "{absent}");
    // Any directory with something in it, above all that of a cluster.
    for directory in [cluster.place.data(), home] {
        let text = restore(&file, &directory).failed();
        assert!(text.contains("is not empty"), "{text}");
    }
    fs::create_dir(&new).expect("the directory is writable");
    restore(&file, &new).succeeded();
}

/// A restore that is killed once it has begun to write leaves what nobody takes for a cluster.
#[tokio::test]
async fn a_killed_restore_leaves_no_half_cluster() {
    let mut cluster = Cluster::start_with(&["--store=memory"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    for i in 0..20 {
        let map = json!({"metadata": {"name": format!("large-{i}")},
            "data": {"filling": "x".repeat(900_000)}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        maps.create(&PostParams::default(), &map).await.expect("created");
    }
    let file = cluster.place.home().join("saved");
    snowglobe(&cluster, &format!("snapshot save {}", file.display())).succeeded();
    cluster.stop();
    let mut killed = 0;
    for nth in 0..4 {
        let directory = cluster.place.home().join(format!("new-{nth}"));
        let mut command = tools::snowglobe();
        command.args(["snapshot", "restore"]).arg(&file).arg("--data-dir").arg(&directory);
        let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
        let begun = directory.join("store/gen-1/db");
        eventually("the restore has begun or ended", || {
            let ended = child.try_wait().expect("it is our child").is_some();
            wanted(ended || begun.exists(), "neither")
        });
        child.kill().ok();
        child.wait().expect("it is our child");
        let told = restore(&file, &directory).failed();
        assert!(told.contains("is not empty"), "{told}");
        let data_dir = format!("--data-dir={}", directory.display());
        if directory.join("store/CURRENT").exists() {
            cluster.start_again_with(&[&data_dir]);
            let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
            for i in 0..20 {
                maps.get(&format!("large-{i}")).await.expect("it is there");
            }
            cluster.stop();
        } else {
            killed += 1;
            let mut up = cluster.place.snowglobe("up");
            up.arg(&data_dir);
            let told = tools::run(up).failed();
            assert!(told.contains("is damaged"), "{told}");
        }
    }
    println!("{killed} were killed in time");
}

/// Asks for a kind's list in each form that clients know.
async fn forms(client: &Client, at: u64, expected: &[&str]) {
    let exact = format!("resourceVersion={at}&resourceVersionMatch=Exact&labelSelector=app%3Dweb");
    let path = format!("/apis/apps/v1/namespaces/default/deployments?{exact}");
    for (accept, list, rows) in [
        ("application/json", "DeploymentList", "items"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", "Table", "rows"),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "PartialObjectMetadataList",
            "items",
        ),
    ] {
        let request = ::http::Request::get(&path).header("accept", accept).body(Vec::new());
        let answer: Value =
            client.request(request.expect("a valid path")).await.expect("an answer");
        assert_eq!(answer["kind"], list);
        assert_eq!(revision(&answer), at, "{accept}");
        // As with kube-apiserver, a list of metadata without items is null.
        let rows = answer[rows].as_array().map_or(&[][..], Vec::as_slice);
        let metadata = rows.iter().map(|row| {
            if row["object"].is_null() { &row["metadata"] } else { &row["object"]["metadata"] }
        });
        let names: Vec<_> = metadata.map(|metadata| metadata["name"].as_str()).collect();
        assert_eq!(names, expected.iter().map(|name| Some(*name)).collect::<Vec<_>>(), "{accept}");
    }
}

#[tokio::test]
async fn the_past_can_be_looked_at() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start_with(&[]);
    cluster.kubectl("create deployment web --image=nginx --port=8080 --replicas=2");
    cluster.kubectl("wait deployment web --for=condition=Available --timeout=30s");
    let client = cluster.client().await;
    let now = async || revision(&get(&client, "/apis/apps/v1/deployments").await.expect("a list"));
    let two = now().await;
    cluster.kubectl("scale deployment web --replicas=3");
    let three = now().await;
    cluster.kubectl("delete deployment web");
    let none = now().await;
    for _ in 0..2 {
        let client = cluster.client().await;
        forms(&client, two, &["web"]).await;
        forms(&client, three, &["web"]).await;
        forms(&client, none, &[]).await;
        for (at, replicas) in [(two, 2), (three, 3)] {
            let text = snowglobe(&cluster, &format!("get deployment web --at {at} -o json"));
            let deployment: Value = serde_json::from_str(&text.succeeded()).expect("JSON");
            assert_eq!(deployment["spec"]["replicas"], replicas, "at {at}");
            assert_eq!(deployment["kind"], "Deployment", "at {at}");
            let text = snowglobe(&cluster, &format!("get deployment web --at {at}")).succeeded();
            let ready = format!("/{replicas}");
            assert!(text.contains("READY") && text.contains(&ready), "{text}");
        }
        let text = snowglobe(&cluster, &format!("get pods -l app=web --at {two}")).succeeded();
        assert_eq!(text.lines().count(), 3, "{text}");
        let gone = snowglobe(&cluster, &format!("get deployment web --at {none}")).failed();
        let told = format!("deployments.apps \"web\" not found at revision {none}");
        assert!(gone.contains(&told), "{gone}");
        let ahead = snowglobe(&cluster, &format!("get pods --at {}", none + 100_000)).failed();
        assert!(ahead.contains("has not happened yet"), "{ahead}");
        let status = snowglobe(&cluster, "status").succeeded();
        assert!(status.contains("kept since 1\n"), "{status}");
        // The past is on disk too.
        cluster.stop();
        cluster.start_again();
    }
}

#[tokio::test]
async fn pages_show_one_revision() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let client = cluster.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let create = async |name: &str| {
        let map = json!({"metadata": {"name": name, "labels": {"page": "yes"}}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        maps.create(&PostParams::default(), &map).await.expect("created")
    };
    for i in 0..7 {
        create(&format!("page-{i}")).await;
    }
    let path = "/api/v1/namespaces/default/configmaps?labelSelector=page%3Dyes";
    let at = revision(&get(&client, path).await.expect("a list"));
    for start in ["", &format!("&resourceVersion={at}&resourceVersionMatch=Exact")] {
        let mut seen = Vec::new();
        let mut page = get(&client, &format!("{path}&limit=3{start}")).await.expect("a page");
        let first = revision(&page);
        assert!(if start.is_empty() { first >= at } else { first == at });
        loop {
            assert_eq!(revision(&page), first);
            seen.extend(names(&page));
            let Some(token) = page["metadata"]["continue"].as_str() else { break };
            // The list goes on as it was, whatever is written meanwhile; more than any server keeps for paging.
            for i in 0..20 {
                let name = format!("page-{}-{i}", seen.len());
                create(&name).await;
                get(&client, &format!("{path}&limit=1")).await.expect("a page of another list");
                maps.delete(&name, &DeleteParams::default()).await.expect("deleted");
            }
            let next = format!("{path}&limit=3&continue={token}");
            page = get(&client, &next).await.expect("a page");
        }
        let expected: Vec<_> = (0..7).map(|i| format!("page-{i}")).collect();
        assert_eq!(seen, expected, "{start}");
    }
    let page = get(&client, &format!("{path}&limit=3&resourceVersion={at}")).await;
    let page = page.expect("a revision and a limit are meant exactly");
    assert_eq!((revision(&page), items(&page).count()), (at, 3));
    assert!(page["metadata"]["remainingItemCount"].is_null(), "not counted under a selector");
    let all = path.split('?').next().expect("a path");
    let page = get(&client, &format!("{all}?limit=3")).await.expect("a page");
    assert!(page["metadata"]["remainingItemCount"].as_u64() > Some(3), "{page}");
}

#[tokio::test]
async fn revisions_that_cannot_be_shown() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    let config = kube::config::Kubeconfig::read_from(&cluster.line.kubeconfig).expect("valid");
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
    let mut config = config.expect("usable");
    // The answer itself is wanted.
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");
    for path in [
        "/api/v1/pods?resourceVersion=999999&resourceVersionMatch=Exact",
        "/api/v1/pods?resourceVersion=999999&resourceVersionMatch=NotOlderThan",
        "/api/v1/pods?resourceVersion=999999",
        "/api/v1/namespaces/default?resourceVersion=999999",
    ] {
        let status = get(&client, path).await.expect_err("it has not happened");
        assert_eq!((status.code, status.reason.as_str()), (504, "Timeout"), "{path}");
        assert!(
            status.message.starts_with("Timeout: Too large resource version: 999999, current: ")
        );
        let details = status.details.expect("details");
        assert_eq!(details.retry_after_seconds, 1);
        assert_eq!(details.causes[0].reason, "ResourceVersionTooLarge");
    }
    for (path, code, told) in [
        ("?resourceVersionMatch=Exact", 422, "is forbidden unless resourceVersion is provided"),
        (
            "?resourceVersion=0&resourceVersionMatch=Exact",
            422,
            "\"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("?resourceVersion=1&resourceVersionMatch=Old", 422, "Unsupported value: \"Old\""),
        ("?resourceVersion=1&continue=eA", 400, "not allowed when using continue"),
        ("?continue=eA", 400, "continue key is not valid"),
        ("?resourceVersion=x", 400, "invalid resource version"),
        ("/default?resourceVersion=x", 400, "invalid resource version"),
    ] {
        let path = format!("/api/v1/namespaces{path}");
        let status = get(&client, &path).await.expect_err("it is refused");
        assert_eq!(status.code, code, "{path}: {status:?}");
        assert!(status.message.contains(told), "{path}: {status:?}");
    }
    // Nobody may have a snapshot without a certificate.
    if can_use(&[Tool::Curl]) {
        let url = format!("{}/apis/snowglobe.dev/v1alpha1/snapshot", cluster.line.api);
        assert_eq!(crate::http::status_of(&format!("-k {url}")), "401");
    }
}
