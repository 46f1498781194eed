//! The object store in an etcd: what users see of it, above all when etcd is away.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, launch},
    errors::fails_with,
    http::pod_at,
    place::Place,
    tools::{self, Ran, Tool, can_use, eventually, wanted},
    unfinished::Unfinished,
};

/// What every test here drives.
pub(crate) const TOOLS: &[Tool] = &[Tool::Kubectl, Tool::Curl, Tool::Etcd, Tool::Etcdctl];
/// How soon a client must hear that a write is not possible.
const REFUSAL_MAX: Duration = Duration::from_secs(2);

/// For so long an owner that is not heard of keeps its place.
const LEASE: Duration = Duration::from_secs(6);

/// An etcd of a test; killed when dropped. With TLS, its certificate is signed by `ca.pem` in its directory.
pub(crate) struct Etcd {
    dir: TempDir,
    host: String,
    tls: bool,
    child: Option<Child>,
}

impl Etcd {
    /// One that is to be started yet, at an address of the place that no part of the cluster has.
    fn at(place: &Place, tls: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("snowglobe-etcd-").tempdir();
        let dir = dir.expect("a temporary directory can be made");
        let etcd = Self { dir, host: place.address(131, 1).to_string(), tls, child: None };
        if tls {
            etcd.make_certificates();
        }
        etcd
    }

    pub(crate) fn started(place: &Place) -> Self {
        let mut etcd = Self::at(place, false);
        etcd.start();
        etcd
    }

    fn start(&mut self) {
        let url =
            |port| format!("{}://{}:{port}", if self.tls { "https" } else { "http" }, self.host);
        let (clients, peers) = (url(2379), format!("http://{}:2380", self.host));
        let log = File::create(self.file("log")).expect("the test's directory is writable");
        let mut etcd = Tool::Etcd.command();
        etcd.arg("--data-dir").arg(self.file("data"));
        etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.args(["--initial-cluster", &format!("default={peers}")]);
        if self.tls {
            etcd.arg("--cert-file").arg(self.file("etcd.pem"));
            etcd.arg("--key-file").arg(self.file("etcd.key"));
        }
        etcd.stdin(Stdio::null()).stderr(log.try_clone().expect("a descriptor")).stdout(log);
        self.child = Some(etcd.spawn().expect("etcd starts"));
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("etcd runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// `--store`
    pub(crate) fn location(&self) -> String {
        format!("{}://{}:2379", if self.tls { "etcds" } else { "etcd" }, self.host)
    }

    pub(crate) fn etcdctl(&self, arguments: &str) -> Ran {
        let mut etcdctl = Tool::Etcdctl.command();
        etcdctl.env("ETCDCTL_API", "3").args(["--command-timeout", "20s"]);
        let scheme = if self.tls { "https" } else { "http" };
        etcdctl.args(["--endpoints", &format!("{scheme}://{}:2379", self.host)]);
        if self.tls {
            etcdctl.arg("--cacert").arg(self.file("ca.pem"));
        }
        tools::run(prepared(etcdctl, arguments))
    }

    fn make_certificates(&self) {
        let write = |name: &str, text: String| {
            std::fs::write(self.file(name), text).expect("the test's directory is writable");
        };
        let key = || rcgen::KeyPair::generate().expect("a key can be made");
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        for name in ["ca.pem", "other-ca.pem"] {
            let key_of_ca = key();
            let certificate = authority.self_signed(&key_of_ca).expect("a certificate");
            write(name, certificate.pem());
            if name == "ca.pem" {
                let (own, issuer) = (key(), rcgen::Issuer::from_params(&authority, &key_of_ca));
                let params = rcgen::CertificateParams::new(vec![self.host.clone()]);
                let params = params.expect("an address is a name");
                let signed = params.signed_by(&own, &issuer).expect("a certificate");
                write("etcd.pem", signed.pem());
                write("etcd.key", own.serialize_pem());
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn prepared(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace());
    command
}

/// ConfigMaps by a client that hands every refusal over, instead of trying again.
async fn maps(cluster: &Cluster) -> Api<ConfigMap> {
    let config = kube::config::Kubeconfig::read_from(&cluster.line.kubeconfig);
    let config = config.expect("the kubeconfig is valid");
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
    let mut config = config.expect("the kubeconfig is usable");
    config.default_retry = false;
    Api::default_namespaced(kube::Client::try_from(config).expect("a client"))
}

fn map(name: &str, data: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"text": data}}))
        .expect("typed")
}

/// Tries to write until it works.
async fn written(cluster: &Cluster, name: &str) {
    let maps = maps(cluster).await;
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(error) = maps.create(&PostParams::default(), &map(name, "")).await {
        assert!(Instant::now() < until, "{name}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_and_reads_go_on_while_etcd_is_away() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let mut etcd = Etcd::started(&place);
    let cluster = Cluster::start_at(place, &["--store", &etcd.location()]);
    cluster.kubectl("create deployment web --image=nginx --port=8080 --replicas=2");
    cluster.kubectl("expose deployment web --port=8000 --target-port=8080");
    cluster.endpoints_ready("web", 2);
    let address = cluster.cluster_ip("web");
    assert!(pod_at(&address, 8000).starts_with("web-"));
    let output = cluster.place.home().join("watch");
    let mut watching = cluster.kubectl_command(&["get", "configmaps", "-w", "-o", "name"]);
    watching.stdout(File::create(&output).expect("a file")).stdin(Stdio::null());
    let mut watching = watching.spawn().expect("kubectl starts");
    let seen = |name: &str| {
        eventually(&format!("the watch tells of {name}"), || {
            let text = std::fs::read_to_string(&output).expect("UTF-8");
            wanted(text.contains(&format!("configmap/{name}\n")), text)
        });
    };
    seen("kube-root-ca.crt");
    etcd.kill();
    let maps = maps(&cluster).await;
    for _ in 0..3 {
        let began = Instant::now();
        let refused = maps.create(&PostParams::default(), &map("refused", "")).await;
        let took = began.elapsed();
        let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
        assert!(took < REFUSAL_MAX, "{took:?}");
        assert!(matches!(status.code, 503 | 504), "{status:?}");
        assert!(status.message.contains(&format!("http://{}:2379", etcd.host)), "{status:?}");
    }
    let refused = maps.create(&PostParams::default(), &map("refused", "")).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
    assert_eq!((status.code, &*status.reason), (503, "ServiceUnavailable"), "{status:?}");
    assert!(cluster.kubectl("get pods").contains("Running"));
    assert!(pod_at(&address, 8000).starts_with("web-"));
    etcd.start();
    written(&cluster, "after").await;
    seen("after");
    assert!(!cluster.kubectl("get configmaps").contains("refused"));
    cluster.kubectl("scale deployment web --replicas=3");
    cluster.endpoints_ready("web", 3);
    tools::signal(watching.id(), Signal::TERM);
    watching.wait().expect("kubectl ends");
}

#[test]
fn what_was_under_way_ends_when_etcd_is_back() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let mut etcd = Etcd::started(&place);
    let cluster = Cluster::start_at(place, &["--store", &etcd.location()]);
    let policies = cluster.place.data().join("policies");
    let mut unfinished = Unfinished::begin(&cluster, "paused", policies.clone());
    let pid = etcd.child.as_ref().expect("etcd runs").id();
    tools::signal(pid, Signal::STOP);
    unfinished.go_on(&cluster);
    tools::signal(pid, Signal::CONT);
    unfinished.ends(&cluster);
    let mut unfinished = Unfinished::begin(&cluster, "killed", policies);
    etcd.kill();
    unfinished.go_on(&cluster);
    etcd.start();
    unfinished.ends(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_restarts_and_compaction() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let mut etcd = Etcd::started(&place);
    let location = format!("{}/teams/blue", etcd.location());
    let mut cluster = Cluster::start_at(place, &["--store", &location]);
    cluster.kubectl("create configmap small --from-literal=a=b");
    // As JSON it is longer than what etcd takes in one request.
    let large = "\"".repeat(800_000);
    let map = map("large", &large);
    maps(&cluster).await.create(&PostParams::default(), &map).await.expect("it is stored");
    let compact = || {
        let text = etcd.etcdctl("get --write-out json /teams/blue/meta").succeeded();
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let revision = &answer["header"]["revision"];
        etcd.etcdctl(&format!("compact {revision}")).succeeded();
    };
    compact();
    cluster.kubectl("label configmap small after=compaction");
    cluster.stop();
    cluster.start_again();
    compact();
    assert!(cluster.kubectl("get configmap small --show-labels").contains("after=compaction"));
    let stored = maps(&cluster).await.get("large").await.expect("it is there");
    assert_eq!(stored.data.expect("data")["text"], large);
    let stored = stored.metadata.resource_version.expect("a version");
    cluster.kubectl("delete configmap large");
    let chunks = etcd.etcdctl("get --prefix --keys-only /teams/blue/chunk/").succeeded();
    assert_eq!(chunks.trim(), "", "nothing of it stays");
    // It stops in order, and says why it cannot start, without etcd.
    etcd.kill();
    cluster.stop();
    etcd.start();
    cluster.start_again();
    cluster.kubectl("create configmap later");
    let later = cluster.json("get configmap later")["metadata"]["resourceVersion"].clone();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    assert!(number(later.as_str().expect("a text")) > number(&stored), "{later} {stored}");
}

#[test]
fn snapshots_move_a_cluster_into_etcd_and_back() {
    if !can_use(TOOLS) {
        return;
    }
    let mut cluster = Cluster::start_with(&[]);
    cluster.kubectl("create configmap moved --from-literal=a=b");
    cluster.kubectl("create deployment web --image=nginx --port=8080 --replicas=2");
    cluster.kubectl("expose deployment web --port=8000 --target-port=8080");
    let address = cluster.cluster_ip("web");
    let uid = |cluster: &Cluster| cluster.json("get configmap moved")["metadata"]["uid"].clone();
    let moved = uid(&cluster);
    let home = cluster.place.home().to_owned();
    let snapshot = |name: &str| home.join(name).display().to_string();
    let (first, second) = (snapshot("first"), snapshot("second"));
    let save = |cluster: &Cluster, file: &str| {
        let mut save = tools::snowglobe();
        save.args(["snapshot", "save", file, "--kubeconfig"]).arg(&cluster.line.kubeconfig);
        tools::run(save).succeeded();
    };
    save(&cluster, &first);
    let place = Place::new();
    let etcd = Etcd::started(&place);
    let restore = |place: &Place, file: &str, store: &str| {
        let mut restore = place.snowglobe("snapshot");
        restore.args(["restore", file, "--store", store]);
        tools::run(restore)
    };
    let said = restore(&place, &first, &etcd.location()).succeeded();
    assert!(said.contains(&format!("into {}/snowglobe", etcd.location())), "{said}");
    let refused = restore(&place, &first, &etcd.location()).failed();
    assert!(refused.contains("already contains an object store"), "{refused}");
    // Services keep their addresses, so the range for them is still the first place's.
    cluster.stop();
    let octet = address.split('.').nth(1).expect("four parts").to_owned();
    let cidr = format!("--service-cidr=127.{octet}.0.0/18");
    let mut in_etcd = Cluster::start_at(place, &["--store", &etcd.location(), &cidr]);
    assert_eq!((uid(&in_etcd), in_etcd.cluster_ip("web")), (moved.clone(), address));
    in_etcd.endpoints_ready("web", 2);
    in_etcd.kubectl("label configmap moved by=etcd");
    save(&in_etcd, &second);
    let place = Place::new();
    restore(&place, &second, "sled").succeeded();
    in_etcd.stop();
    let back = Cluster::start_at(place, &[&cidr]);
    assert_eq!(uid(&back), moved);
    assert!(back.kubectl("get configmap moved --show-labels").contains("by=etcd"));
}

#[test]
fn a_start_waits_for_etcd() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let mut etcd = Etcd::at(&place, false);
    let mut up = place.snowglobe("up");
    up.args(["--store", &etcd.location()]);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| launch(&place, up));
        eventually("it says that it waits", || {
            let log = std::fs::read_to_string(place.home().join("stderr")).unwrap_or_default();
            wanted(log.contains("waiting for etcd"), log)
        });
        etcd.start();
        let (process, _line) = started.join().expect("it has started");
        assert!(process.end(Signal::TERM).success());
    });
}

#[test]
fn one_process_owns_the_store() {
    if !can_use(TOOLS) {
        return;
    }
    let (place, other) = (Place::new(), Place::new());
    let etcd = Etcd::started(&place);
    let location = etcd.location();
    let mut first = Cluster::start_at(place, &["--store", &location]);
    first.kubectl("create configmap before");
    let mut up = other.snowglobe("up");
    up.args(["--store", &location]);
    let owner = format!("{location}/snowglobe belongs to process {} on host", first.line.pid);
    fails_with(up, &[&owner, "stop that process", "-2)"]);
    // Whoever was killed is back at once.
    first.end(Signal::KILL);
    let began = Instant::now();
    first.start_again();
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert!(first.log().contains("the owner has ended without releasing the store"));
    // Whoever is not heard of for long has lost its place.
    tools::signal(first.line.pid, Signal::STOP);
    let mut second = Cluster::start_at(other, &["--store", &location]);
    assert!(second.kubectl("get configmaps").contains("before"));
    tools::signal(first.line.pid, Signal::CONT);
    let complaint = first.try_kubectl("create configmap late").failed();
    let taken = format!("process {} on host", second.line.pid);
    for part in [&taken, "has taken over etcd://", "stop one of the two"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert!(first.try_kubectl("get --raw /readyz").failed().contains(&taken));
    eventually("it says so", || {
        wanted(first.log().contains("NOTHING CAN BE WRITTEN"), first.log())
    });
    second.kubectl("create configmap theirs");
    eventually("the first follows", || {
        let maps = first.kubectl("get configmaps -o name");
        wanted(maps.contains("configmap/theirs") && !maps.contains("late"), maps)
    });
    first.stop();
    second.kubectl("create configmap last");
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_users() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let mut etcd = Etcd::at(&place, true);
    etcd.start();
    for step in [
        "user add root:top",
        "role add blue",
        "role grant-permission blue readwrite --prefix=true /teams/blue/",
        "user add snow:flake",
        "user grant-role snow blue",
        "user grant-role root root",
        "auth enable",
    ] {
        etcd.etcdctl(step).succeeded();
    }
    let right = place.file("password", "flake\n").display().to_string();
    let wrong = place.file("wrong-password", "flakes\n").display().to_string();
    let location = format!("{}/teams/blue", etcd.location());
    let other = format!("{}/teams/red", etcd.location());
    let (authority, stranger) = (etcd.path("ca.pem"), etcd.path("other-ca.pem"));
    let plain = location.replace("etcds", "etcd");
    let refusals: [(&str, &[&str], &str); 6] = [
        (&location, &["--etcd-cacert", &stranger], "is not trusted"),
        (&plain, &[], "--etcd-key may be necessary too"),
        (&plain, &["--etcd-cacert", &authority], "write etcds://"),
        (&location, &["--etcd-cacert", &authority], "requires a user: give --etcd-user"),
        (
            &location,
            &["--etcd-cacert", &authority, "--etcd-user=snow", "--etcd-password-file", &wrong],
            "wrong user or password",
        ),
        (
            &other,
            &["--etcd-cacert", &authority, "--etcd-user=snow", "--etcd-password-file", &right],
            "does not let user \"snow\" read and write below /teams/red/",
        ),
    ];
    for (store, arguments, expected) in refusals {
        let mut up = place.snowglobe("up");
        up.args(["--store", store]).args(arguments);
        let said = tools::run(up).failed();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains("flake"), "{said}");
    }
    let arguments = ["--store", &location, "--etcd-cacert", &authority, "--etcd-user=snow"];
    let mut up = place.snowglobe("up");
    up.args(arguments).env("SNOWGLOBE_ETCD_PASSWORD", "flake");
    let cluster = Cluster::by_command(place, up);
    written(&cluster, "before").await;
    // etcd forgets who was let in.
    etcd.kill();
    etcd.start();
    written(&cluster, "after").await;
    let maps = cluster.kubectl("get configmaps -o name");
    assert!(maps.contains("before") && maps.contains("after"), "{maps}");
}

#[test]
fn what_another_client_deleted_comes_back() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let etcd = Etcd::started(&place);
    let cluster = Cluster::start_at(place, &["--store", &etcd.location()]);
    let services = || cluster.kubectl("get services -A -o jsonpath={.items[*].spec.clusterIP}");
    let (services_before, pods_before) = (services(), cluster.kubectl("get pods -A -o name"));
    let keys = etcd.etcdctl("get --prefix --keys-only /snowglobe/data/").succeeded();
    let of = |kind: &'static str| keys.lines().filter(move |key| key.contains(kind));
    let gone: Vec<_> = of("/namespaces./").chain(of("/services./")).chain(of("/pods./")).collect();
    assert_eq!(gone.len(), 4 + 2 + 2, "{keys}");
    for key in gone {
        etcd.etcdctl(&format!("del {key}")).succeeded();
    }
    eventually("all that a cluster always has is back", || {
        let namespaces = cluster.kubectl("get namespaces -o name");
        let there = namespaces.lines().count() == 4
            && services() == services_before
            && cluster.kubectl("get pods -A -o name") == pods_before;
        wanted(there, cluster.kubectl("get namespaces,services,pods -A"))
    });
    cluster.endpoints_ready("kubernetes", 1);
    cluster.endpoints_ready("kube-system/kube-dns", 1);
}
