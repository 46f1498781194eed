//! An object store that fails takes no more writes, which everybody says, and keeps what it acknowledged; and two
//! processes on one directory.

use std::{fs, process::Command};

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

use crate::{
    cluster::Cluster,
    errors::fails_with,
    http::pod_at,
    tools::{self, Tool, can_use},
};

/// Above what the log needs, below what the database has.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const WRITERS: usize = 8;

/// What became of one writer's objects.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    /// The code and the message of the first answer that was none.
    refused: Option<(u16, String)>,
}

/// Creates objects until one is refused, or nobody answers any more.
async fn write_until_it_fails(maps: Api<ConfigMap>, writer: usize) -> Told {
    let mut told = Told::default();
    for i in 0.. {
        let name = format!("map-{writer}-{i}");
        let map = json!({"metadata": {"name": name}, "data": {"text": "x".repeat(1000)}});
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        match maps.create(&PostParams::default(), &map).await {
            Ok(_) => told.acknowledged.push(name),
            Err(kube::Error::Api(status)) => {
                told.refused = Some((status.code, status.message));
                break;
            }
            Err(_gone) => break,
        }
    }
    told
}

/// A cluster with a Service, and that Service's address.
fn serving() -> (Cluster, String) {
    let cluster = Cluster::start();
    cluster.kubectl("create configmap before");
    cluster.kubectl("create deployment web --image=nginx --port=8080 --replicas=2");
    cluster.kubectl("expose deployment web --port=8000 --target-port=8080");
    cluster.endpoints_ready("web", 2);
    let address = cluster.cluster_ip("web");
    (cluster, address)
}

/// Nothing can be written, which everybody says, and all else goes on.
#[track_caller]
fn only_writes_have_stopped(cluster: &Cluster, address: &str, reasons: &[&str]) {
    let mut status = tools::snowglobe();
    status.args(["status", "--kubeconfig"]).arg(&cluster.line.kubeconfig);
    let said = [
        cluster.try_kubectl("create configmap late").failed(),
        cluster.try_kubectl("get --raw /readyz").failed(),
        tools::run(status).succeeded(),
        cluster.log(),
    ];
    let store = cluster.place.data().join("store");
    let parts =
        ["takes no more writes", store.to_str().expect("UTF-8"), "start again", "snapshot save"];
    for said in said {
        for part in parts.iter().chain(reasons) {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
    assert!(cluster.log().contains("NOTHING CAN BE WRITTEN ANY MORE"));
    assert!(pod_at(address, 8000).starts_with("web-"));
    assert_eq!(cluster.addresses_of("web.default.svc.cluster.local"), [address]);
    let maps = cluster.kubectl("get configmaps -o name");
    assert!(maps.contains("configmap/before") && !maps.contains("late"), "{maps}");
    let saved = cluster.place.home().join("saved");
    let mut save = tools::snowglobe();
    save.args(["snapshot", "save"]).arg(&saved);
    save.arg("--kubeconfig").arg(&cluster.line.kubeconfig);
    tools::run(save).succeeded();
}

/// The kernel refuses every write beyond a size, which for sled is an I/O error like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_stops_writes_and_nothing_else() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Dig]) {
        return;
    }
    let (mut cluster, address) = serving();
    let client = cluster.client().await;
    let writers = (0..WRITERS)
        .map(|writer| write_until_it_fails(Api::default_namespaced(client.clone()), writer));
    let pid = i32::try_from(cluster.line.pid).ok().and_then(Pid::from_raw);
    let unlimited = getrlimit(Resource::Fsize);
    let limited = Rlimit { current: Some(FILE_BYTES_MAX), ..unlimited };
    let fail = async {
        // Only once writes are under way.
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        while maps.get_opt("map-0-3").await.expect("an answer").is_none() {}
        prlimit(pid, Resource::Fsize, limited)
    };
    let (told, limited) = futures::join!(join_all(writers), fail);
    limited.expect("a process of ours");
    for told in &told {
        let (code, message) = told.refused.as_ref().expect("who waits is told");
        // Nobody knows what became of the first, the others were not written.
        assert_eq!(*code, 500, "{message}");
        assert!(message.contains("File too large"), "{code} {message}");
    }
    // It does not begin anew when the disk is well again.
    prlimit(pid, Resource::Fsize, unlimited).expect("a process of ours");
    only_writes_have_stopped(&cluster, &address, &["File too large"]);
    cluster.stop();
    cluster.start_again();
    let maps = cluster.kubectl("get configmaps -o name");
    for name in told.iter().flat_map(|told| &told.acknowledged).chain([&"before".to_owned()]) {
        assert!(maps.contains(&format!("configmap/{name}\n")), "{name} was acknowledged: {maps}");
    }
    cluster.kubectl("create configmap after");
}

#[test]
fn a_removed_directory_stops_writes_and_nothing_else() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Dig]) {
        return;
    }
    let (mut cluster, address) = serving();
    fs::remove_dir_all(cluster.place.data().join("store")).expect("it is the test's");
    // Whatever is first, a write or a look.
    cluster.try_kubectl("create configmap late").failed();
    only_writes_have_stopped(&cluster, &address, &["it was removed or moved away"]);
    cluster.stop();
}

/// A killed process cannot tidy up; its locks must go with it.
#[test]
fn a_killed_process_leaves_no_lock() {
    let mut cluster = Cluster::start();
    let data = cluster.place.data();
    let data = data.to_str().expect("UTF-8");
    fails_with(cluster.place.snowglobe("up"), &[data, "in use by another", "--data-dir"]);
    assert_eq!(cluster.end(Signal::KILL).code(), None, "killed");
    cluster.start_again();
    fails_with(cluster.place.snowglobe("up"), &[data, "in use by another", "--data-dir"]);
    // The one that has it is not disturbed.
    let alive = Command::new("kill").args(["-0", &cluster.line.pid.to_string()]).status();
    assert!(alive.expect("kill is there").success());
    cluster.stop();
}
