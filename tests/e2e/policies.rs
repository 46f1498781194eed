//! Schedulers are WASM modules: chosen per Service, loaded and replaced under traffic, refused when broken.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    cluster::Cluster,
    http::pod_at,
    tools::{self, Tool, can_use, eventually, wanted},
    traffic::tally,
};

/// Three pods behind the Service `web`, port 8080.
struct Web {
    cluster: Cluster,
    address: String,
}

impl Web {
    fn start() -> Self {
        let cluster = Cluster::start();
        cluster.kubectl("create deployment web --image=web --port=8080 --replicas=3");
        cluster.kubectl("expose deployment web");
        cluster.endpoints_ready("web", 3);
        let address = cluster.cluster_ip("web");
        Self { cluster, address }
    }

    fn picks(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| pod_at(&self.address, 8080)).collect()
    }

    fn use_policy(&self, name: &str) {
        let annotation = format!("snowglobe.dev/load-balancer-policy={name}");
        self.cluster.kubectl(&format!("annotate service web {annotation} --overwrite"));
    }

    /// A policy with a module of `tests/policies`, as a file in the data directory.
    fn load(&self, name: &str, file: &str) {
        self.write(name, file);
        self.cluster.apply(&format!(
            "{{apiVersion: snowglobe.dev/v1alpha1, kind: LoadBalancerPolicy, metadata: {{name: {name}}}, \
             spec: {{module: {{path: {name}.wat}}}}}}"
        ));
    }

    fn write(&self, name: &str, file: &str) {
        let source = tools::root().join("tests/policies").join(file);
        let directory = self.cluster.place.data().join("policies");
        fs::create_dir_all(&directory).expect("the data directory is writable");
        let text = fs::read(source).expect("a module of the tests");
        fs::write(directory.join(format!("{name}.wat")), text).expect("it is writable");
    }

    fn digest(&self, name: &str) -> String {
        self.cluster
            .kubectl(&format!("get loadbalancerpolicy {name} -o jsonpath={{.status.digest}}"))
    }

    /// Waits for the Ready condition of a policy and gives its message.
    fn status(&self, name: &str, status: &str) -> String {
        eventually(&format!("policy {name} is Ready={status}"), || {
            let policy = self.cluster.json(&format!("get loadbalancerpolicy {name}"));
            let condition = &policy["status"]["conditions"][0];
            wanted(condition["type"] == "Ready" && condition["status"] == status, &policy)?;
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
    }
}

fn twice_in_a_row(picks: &[String]) -> bool {
    picks.windows(2).any(|pair| pair[0] == pair[1])
}

#[test]
fn an_annotation_changes_the_next_pick() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    assert!(!twice_in_a_row(&web.picks(9)), "round robin by default");
    web.use_policy("random");
    // By chance alone, a wrong verdict once in 10^8 runs.
    let picks = web.picks(45);
    assert!(twice_in_a_row(&picks), "{picks:?}");
    assert_eq!(tally(&picks).len(), 3, "{picks:?}");
    web.use_policy("p2c");
    assert_eq!(tally(&web.picks(30)).len(), 3);
    web.use_policy("rr");
    assert!(!twice_in_a_row(&web.picks(9)));
    web.cluster.kubectl("annotate service web snowglobe.dev/load-balancer-policy-");
    assert!(!twice_in_a_row(&web.picks(9)));
}

#[test]
fn the_cluster_s_default_comes_from_kube_proxy_s_configuration() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    let configure = |mode: &str| {
        web.cluster.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-proxy, namespace: kube-system}}\ndata:\n  \
             config.conf: |\n    apiVersion: kubeproxy.config.k8s.io/v1alpha1\n    \
             kind: KubeProxyConfiguration\n    mode: {mode}\n"
        ));
    };
    configure("iptables");
    eventually("picks at random", || {
        let picks = web.picks(12);
        wanted(twice_in_a_row(&picks), format!("{picks:?}"))
    });
    configure("ipvs");
    eventually("round robin", || {
        let picks = web.picks(24);
        wanted(!twice_in_a_row(&picks), format!("{picks:?}"))
    });
}

#[test]
fn a_module_of_one_s_own() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    web.load("mine", "first.wat");
    web.status("mine", "True");
    let digest = web.digest("mine");
    assert!(digest.starts_with("sha256:"), "{digest}");
    let policy = web.cluster.json("get loadbalancerpolicy mine");
    assert_eq!(policy["status"]["abi"], "snowglobe:policy@0.1.0");
    web.use_policy("mine");
    let first = web.picks(6);
    assert_eq!(tally(&first).len(), 1, "always the first: {first:?}");

    web.write("mine", "last.wat");
    eventually("the replaced file is in use", || {
        let now = web.digest("mine");
        wanted(now != digest, now)
    });
    let last = web.picks(6);
    assert_eq!(tally(&last).len(), 1, "always the last: {last:?}");
    assert_ne!(first[0], last[0]);

    web.write("mine", "no-pick.wat");
    let reason = web.status("mine", "False");
    assert!(reason.contains("pick") && reason.contains("stays in use"), "{reason}");
    assert_eq!(web.picks(6), last, "the last good one goes on");
    let table = web.cluster.kubectl("get loadbalancerpolicies");
    assert!(
        table.lines().any(|line| line.starts_with("mine ") && line.contains("False")),
        "{table}"
    );
    web.write("mine", "first.wat");
    web.status("mine", "True");
    assert_eq!(web.picks(6), first);
}

#[test]
fn broken_modules_are_refused_and_traffic_goes_on() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    web.cluster.apply(
        "{apiVersion: snowglobe.dev/v1alpha1, kind: LoadBalancerPolicy, metadata: {name: absent}, \
         spec: {module: {path: absent.wat}}}",
    );
    let reason = web.status("absent", "False");
    assert!(reason.contains("absent.wat"), "{reason}");
    for (name, part) in [("no-pick", "pick"), ("traps", "unreachable"), ("other-abi", "0.1.0")] {
        web.load(name, &format!("{name}.wat"));
        let reason = web.status(name, "False");
        assert!(reason.contains(part), "{name}: {reason}");
        let event = web.cluster.event("default", name, "ModuleRefused");
        assert!(event.contains(part), "{name}: {event}");
        web.use_policy(name);
        assert!(!twice_in_a_row(&web.picks(6)), "round robin instead of {name}");
    }
    web.use_policy("nobody-made-this");
    assert!(!twice_in_a_row(&web.picks(6)));
    let unknown = web.cluster.try_apply(
        "{apiVersion: snowglobe.dev/v1alpha1, kind: LoadBalancerPolicy, metadata: {name: two}, \
         spec: {module: {builtin: rr, path: a.wat}}}",
    );
    assert!(unknown.failed().contains("exactly one of"));
}

#[test]
fn an_endless_loop_is_ended_and_told() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    web.load("loops", "loops.wat");
    web.status("loops", "True");
    web.use_policy("loops");
    let picks = web.picks(20);
    assert_eq!(tally(&picks).len(), 1, "as the module says: {picks:?}");
    // The fallback picks, then a new instance; the fallback's turns go round.
    eventually("round robin picks", || {
        let picks = web.picks(25);
        wanted(tally(&picks).len() > 1, format!("{picks:?}"))
    });
    let message = web.cluster.event("default", "loops", "PolicyFailed");
    assert!(message.contains("default/web"), "{message}");
    assert_eq!(web.picks(10).len(), 10, "no connection failed");
}

#[test]
fn swapping_under_load_fails_no_connection() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    web.load("mine", "first.wat");
    web.status("mine", "True");
    web.use_policy("mine");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                pod_at(&web.address, 8080);
                served += 1;
            }
            served
        });
        let end = Ending(&done);
        for module in ["last.wat", "first.wat", "last.wat", "first.wat"] {
            let before = web.digest("mine");
            web.write("mine", module);
            eventually("the module is swapped", || {
                let digest = web.digest("mine");
                wanted(digest != before, digest)
            });
        }
        drop(end);
        let served = traffic.join().expect("every connection was served");
        assert!(served > 10, "{served}");
    });
}

/// Ends the traffic, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
