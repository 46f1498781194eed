//! Schedulers are WASM modules: chosen per Service, loaded and replaced under traffic, refused when broken.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    http::{curl, pod_at},
    tools::{self, Tool, can_use, eventually, eventually_in, wanted},
    traffic::tally,
};

/// Three pods behind the Service `web`, port 8080.
pub(crate) struct Web {
    pub(crate) cluster: Cluster,
    pub(crate) address: String,
}

impl Web {
    pub(crate) fn start() -> Self {
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
        self.cluster.apply(&policy_at(name, &format!("{name}.wat")));
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
        status_of(&self.cluster, name, status)
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
    let configure = |fields: &str| {
        web.cluster.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-proxy, namespace: kube-system}}\ndata:\n  \
             config.conf: |\n    apiVersion: kubeproxy.config.k8s.io/v1alpha1\n    \
             kind: KubeProxyConfiguration\n    {fields}\n"
        ));
    };
    configure("mode: iptables");
    eventually("picks at random", || {
        let picks = web.picks(12);
        wanted(twice_in_a_row(&picks), format!("{picks:?}"))
    });
    configure("mode: ipvs\n    ipvs: {strictARP: true, scheduler: lblc}");
    eventually("round robin", || {
        let picks = web.picks(24);
        wanted(!twice_in_a_row(&picks), format!("{picks:?}"))
    });
    let event = |reason| web.cluster.event("kube-system", "kube-proxy", reason);
    assert_eq!(event("FieldsIgnored"), "without effect in config.conf: ipvs.strictARP");
    let unknown = event("UnknownScheduler");
    assert!(unknown.contains("\"lblc\"") && unknown.ends_with("rr is used"), "{unknown}");
}

#[test]
fn what_policies_did_is_told() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    web.use_policy("lc");
    web.picks(5);
    let stats = web.cluster.json("get policystats lc");
    assert_eq!(
        (&stats["apiVersion"], &stats["kind"]),
        (&"snowglobe.dev/v1alpha1".into(), &"PolicyStats".into())
    );
    assert_eq!((&stats["world"], &stats["form"]), (&"load-balancer".into(), &"core".into()));
    assert_eq!((&stats["picks"], &stats["instances"]), (&5.into(), &1.into()), "{stats}");
    assert!(stats["compileSeconds"].as_f64() > Some(0.0), "{stats}");
    assert!(stats["pickNanoseconds"]["p99"].as_f64() > Some(0.0), "{stats}");
    assert_eq!(stats["failures"]["trap"], 0, "{stats}");
    let table = web.cluster.kubectl("get policystats");
    let policies = web.cluster.kubectl("get loadbalancerpolicies -o name");
    let rows = table.lines().filter(|line| line.contains(" load-balancer ")).count();
    assert_eq!(
        (rows, policies.lines().count()),
        (14, 14),
        "every built-in one has an object\n{table}\n{policies}"
    );
    let lc = table.lines().find(|line| line.starts_with("lc ")).expect("a row for lc");
    assert!(lc.contains("load-balancer") && lc.contains(" core ") && lc.ends_with("ns"), "{lc}");
    let denied = web.cluster.try_kubectl("delete policystats lc").failed();
    assert!(denied.contains("MethodNotAllowed"), "{denied}");
    let metrics = curl(&format!("{}/metrics", web.cluster.line.metrics)).succeeded();
    let line = "snowglobe_policy_picks_total{world=\"load-balancer\",policy=\"lc\"} 5";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
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
    web.cluster.apply(&policy_at("absent", "absent.wat"));
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
    // After pauses of six seconds together.
    eventually_in(Duration::from_secs(90), "it is out of use", || {
        web.picks(25);
        let policy = web.cluster.json("get loadbalancerpolicy loops");
        let condition = &policy["status"]["conditions"][1];
        let is_so = condition["type"] == "Healthy" && condition["status"] == "False";
        wanted(is_so && condition["reason"] == "Disabled", &policy)
    });
    let message = web.cluster.event("default", "loops", "PolicyDisabled");
    assert!(message.contains("ran longer than 20 ms"), "{message}");
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

/// A FIFO that nobody writes, a link out of the directory and modules that are slow to load hold up neither other
/// policies nor the end of the process, and each refusal says its reason.
#[test]
fn loading_reads_regular_files_only_and_waits_for_none() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start_with(&[]);
    let policies = cluster.place.data().join("policies");
    let secret = cluster.place.file("secret.wat", "(module)");
    let (user, permissions) = (rustix::fs::CWD, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    let fifo = policies.join("fifo.wat");
    rustix::fs::mknodat(user, &fifo, rustix::fs::FileType::Fifo, permissions, 0).expect("a FIFO");
    std::os::unix::fs::symlink(&secret, policies.join("out.wat")).expect("a link");
    let first = tools::root().join("tests/policies/first.wat");
    fs::copy(&first, policies.join("good.wat")).expect("a module");
    for name in ["slow-0", "slow-1", "slow-2", "slow-3"] {
        fs::write(policies.join(format!("{name}.wat")), slow_to_load(name)).expect("a module");
    }
    let names = ["fifo", "out", "slow-0", "slow-1", "slow-2", "good"];
    let manifests = names.map(|name| policy_at(name, &format!("{name}.wat")));
    cluster.apply(&manifests.join("\n---\n"));
    assert_eq!(status_of(&cluster, "good", "True"), "the module is in use");
    let reason = status_of(&cluster, "fifo", "False");
    assert!(reason.contains("fifo.wat is a FIFO, not a regular file"), "{reason}");
    let reason = status_of(&cluster, "out", "False");
    assert!(reason.contains("out.wat leads out of"), "{reason}");
    fs::remove_file(&fifo).expect("it is there");
    fs::copy(&first, &fifo).expect("a module");
    status_of(&cluster, "fifo", "True");
    let loaded_at = |name: &str| {
        status_of(&cluster, name, "True");
        let time = "jsonpath={.status.conditions[0].lastTransitionTime}";
        cluster.kubectl(&format!("get loadbalancerpolicy {name} -o {time}"))
    };
    // It came last, and did not wait for those before.
    assert!(loaded_at("good") <= loaded_at("slow-2"));
    cluster.apply(&policy_at("slow-3", "slow-3.wat"));
    let asked = Instant::now();
    cluster.stop();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// While a component starts, its Service is served by round robin, and everybody else as ever.
#[test]
fn a_component_that_starts_slowly_holds_up_nobody() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    let slow = web.cluster.place.data().join("policies/slow.wat");
    fs::write(slow, slow_to_start()).expect("the data directory is writable");
    web.cluster.apply(&policy_at("slow", "slow.wat"));
    status_of(&web.cluster, "slow", "True");
    web.use_policy("slow");
    assert!(tally(&web.picks(6)).len() > 1, "round robin until it has started");
    eventually("the component picks", || {
        let picks = web.picks(6);
        wanted(tally(&picks).len() == 1, format!("{picks:?}"))
    });
}

fn policy_at(name: &str, path: &str) -> String {
    format!(
        "{{apiVersion: snowglobe.dev/v1alpha1, kind: LoadBalancerPolicy, metadata: {{name: {name}}}, \
         spec: {{module: {{path: {path}}}}}}}"
    )
}

/// Waits for the Ready condition of a policy and gives its message.
fn status_of(cluster: &Cluster, name: &str, status: &str) -> String {
    eventually(&format!("policy {name} is Ready={status}"), || {
        let policy = cluster.json(&format!("get loadbalancerpolicy {name}"));
        let condition = &policy["status"]["conditions"][0];
        wanted(condition["type"] == "Ready" && condition["status"] == status, &policy)?;
        Ok(condition["message"].as_str().unwrap_or_default().to_owned())
    })
}

/// A module with so much code that a compiler needs a while, another one for each name.
fn slow_to_load(name: &str) -> String {
    let step = "(local.set 3 (i64.mul (i64.add (local.get 3) (local.get 0)) (i64.const 31)))";
    let body = format!("(local i64) {} (i32.const 0)", step.repeat(1000));
    let function = format!("(func (param i64 i32 i32) (result i32) {body})");
    let pick = r#"(func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#;
    format!("(module {pick} {}) ;; {name}", function.repeat(20))
}

/// A component that takes longer to start than a connection waits, but not half of the CPU time that it may use, and
/// picks the first endpoint.
fn slow_to_start() -> &'static str {
    r#"(component
         (core module $code
           (func $begin (local $step i32)
             (loop $again
               (local.set $step (i32.add (local.get $step) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $step) (i32.const 800000000)))))
           (start $begin)
           (func (export "configure") (param i64 i32))
           (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0)))
         (core instance $guest (instantiate $code))
         (func (export "configure") (param "generation" u64) (param "count" u32)
           (canon lift (core func $guest "configure")))
         (func (export "pick") (param "source-hash" u64) (param "client-zone" u32)
           (param "client-node" u32) (result u32) (canon lift (core func $guest "pick"))))"#
}

/// Ends the traffic, also when the test fails.
pub(crate) struct Ending<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
