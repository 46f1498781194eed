//! An object store that fails ends its cluster, which says why and keeps what it acknowledged; and two processes on
//! one directory.

use std::process::Command;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::{
    cluster::Cluster,
    errors::fails_with,
    tools::{Tool, can_use},
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

/// The kernel refuses every write beyond a size, which for sled is an I/O error like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_ends_the_process() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.kubectl("create configmap before");
    let client = cluster.client().await;
    let writers = (0..WRITERS)
        .map(|writer| write_until_it_fails(Api::default_namespaced(client.clone()), writer));
    let pid = i32::try_from(cluster.line.pid).ok().and_then(Pid::from_raw);
    let limit = Some(FILE_BYTES_MAX);
    let fail = async {
        // Only once writes are under way.
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        while maps.get_opt("map-0-3").await.expect("an answer").is_none() {}
        prlimit(pid, Resource::Fsize, Rlimit { current: limit, maximum: limit })
    };
    let (told, limited) = futures::join!(join_all(writers), fail);
    limited.expect("a process of ours");
    let answered: Vec<_> = told.iter().filter_map(|told| told.refused.as_ref()).collect();
    assert!(!answered.is_empty(), "who waits is told");
    for (code, message) in answered {
        assert!(matches!(code, 500 | 503), "{code} {message}");
    }
    // A signal that does nothing: it ends by itself.
    let status = cluster.end(Signal::CONT);
    assert_eq!(status.code(), Some(1), "{}", cluster.log());
    let log = cluster.log();
    let last = log.lines().last().expect("it says why");
    let store = cluster.place.data().join("store");
    for part in [
        "snowglobe: ",
        "the object store is lost",
        "start again",
        "snowglobe snapshot restore",
        store.to_str().expect("UTF-8"),
        "File too large",
    ] {
        assert!(last.contains(part), "{part:?} is not in: {last}");
    }
    cluster.start_again();
    let maps = cluster.kubectl("get configmaps -o name");
    for name in told.iter().flat_map(|told| &told.acknowledged).chain([&"before".to_owned()]) {
        assert!(maps.contains(&format!("configmap/{name}\n")), "{name} was acknowledged: {maps}");
    }
    cluster.kubectl("create configmap after");
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
