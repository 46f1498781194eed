//! Topology policies are WASM modules: they choose which endpoints the clients of a zone or node get.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    cluster::Cluster,
    http::curl,
    policies::Ending,
    tools::{self, Tool, can_use, eventually, wanted},
    topology::{WEB, answering, each_stays_at_home, everybody_gets_all},
};

/// Six pods on three nodes, one node in each zone.
struct Web(Cluster);

impl Web {
    fn start(view: &str) -> Self {
        let cluster = Cluster::start_with(&["--nodes=3", "--zones=a,b,c", "--proxy-view", view]);
        cluster.apply(WEB);
        cluster.endpoints_ready("web", 6);
        Self(cluster)
    }

    fn use_policy(&self, name: &str) {
        let annotation = format!("snowglobe.dev/topology-policy={name}");
        self.0.kubectl(&format!("annotate service web {annotation} --overwrite"));
    }

    /// A policy with a module of `tests/policies`, as a file in the data directory.
    fn load(&self, name: &str, file: &str, more: &str) {
        self.write(name, file);
        let module = format!("{{path: {name}.wat}}");
        self.0.apply(&policy(name, &module, more));
        self.status(name, "True");
    }

    fn write(&self, name: &str, file: &str) {
        let text = fs::read(tools::root().join("tests/policies").join(file)).expect("a module");
        let directory = self.0.place.data().join("policies");
        fs::write(directory.join(format!("{name}.wat")), text).expect("it is writable");
    }

    fn digest(&self, name: &str) -> String {
        self.0.kubectl(&format!("get topologypolicy {name} -o jsonpath={{.status.digest}}"))
    }

    /// Waits for the Ready condition of a policy and gives its message.
    fn status(&self, name: &str, status: &str) -> String {
        eventually(&format!("policy {name} is Ready={status}"), || {
            let policy = self.0.json(&format!("get topologypolicy {name}"));
            let condition = &policy["status"]["conditions"][0];
            let is_current =
                policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
            wanted(is_current && condition["status"] == status, &policy)?;
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// How many nodes serve each client, its own among them or not.
    fn check_nodes(&self, count: usize, own: bool) {
        // Only a policy that answers within a tenth of a second is waited for, and this machine may be busy.
        eventually(&format!("{count} nodes serve each client"), || {
            let answering = answering(&self.0);
            let is_right = |(client, nodes): &(String, BTreeSet<String>)| {
                nodes.len() == count && nodes.contains(client) == own
            };
            wanted(answering.iter().all(is_right), format!("{answering:?}"))
        });
    }
}

fn policy(name: &str, module: &str, more: &str) -> String {
    format!(
        "{{apiVersion: snowglobe.dev/v1alpha1, kind: TopologyPolicy, metadata: {{name: {name}}}, \
         spec: {{module: {module}{more}}}}}"
    )
}

#[test]
fn built_in_policies_choose_by_the_client_s_place() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    for view in ["per-node", "global"] {
        let web = Web::start(view);
        everybody_gets_all(&web.0);
        for name in ["same-zone", "same-node", "spread"] {
            web.use_policy(name);
            each_stays_at_home(&web.0);
        }
        // Two endpoints in each zone are too few, so another zone joins.
        web.0.apply(&policy("roomy", "{builtin: spread}", ", config: minimum=3"));
        web.status("roomy", "True");
        web.use_policy("roomy");
        web.check_nodes(2, true);
        let patch = "{\"spec\":{\"config\":\"minimum=5\"}}";
        web.0.kubectl(&format!("patch topologypolicy roomy --type=merge -p {patch}"));
        web.status("roomy", "True");
        web.check_nodes(3, true);
        web.0.kubectl("annotate service web snowglobe.dev/topology-policy-");
        everybody_gets_all(&web.0);
    }
}

#[test]
fn a_topology_policy_takes_the_place_of_hints_until_it_is_gone() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start("per-node");
    let patch = "{\"spec\":{\"trafficDistribution\":\"PreferSameZone\"}}";
    web.0.kubectl(&format!("patch service web --type=merge -p {patch}"));
    each_stays_at_home(&web.0);
    web.use_policy("nobody-made-this");
    web.check_nodes(1, true);
    let message = web.0.event("default", "web", "PolicyMissing");
    assert_eq!(
        message,
        "topology policy \"nobody-made-this\" is not loaded; the Service is served as without one"
    );

    web.load("mine", "other-zones.wat", "");
    web.use_policy("mine");
    web.check_nodes(2, false);
    let row = web.0.kubectl("get topologypolicies");
    assert!(row.lines().any(|line| line.starts_with("mine ") && line.contains("True")), "{row}");
    for builtin in ["same-node", "same-zone", "spread"] {
        assert!(row.contains(builtin), "{row}");
    }
    let described = web.0.kubectl("describe tp mine");
    assert!(described.contains("mine.wat") && described.contains("sha256:"), "{described}");
    let explained = web.0.kubectl("explain topologypolicy.spec.onFailure");
    assert!(explained.contains("without a\n    topology policy"), "{explained}");
    web.0.kubectl("delete topologypolicy mine");
    eventually("hints count again", || {
        let answering = answering(&web.0);
        let at_home =
            answering.iter().all(|(client, nodes)| nodes.len() == 1 && nodes.contains(client));
        wanted(at_home, format!("{answering:?}"))
    });

    web.write("picks", "first.wat");
    web.0.apply(&policy("picks", "{path: picks.wat}", ""));
    let reason = web.status("picks", "False");
    let expected = "exports `pick` and not `score`: a load balancer; make a LoadBalancerPolicy of it; \
                    Services that name it are served as without a topology policy";
    assert_eq!(reason, expected);
    assert!(web.0.event("default", "picks", "ModuleRefused").contains("exports `pick`"));
}

#[test]
fn a_failing_topology_policy_is_told_and_tried_again() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start("per-node");
    web.load("few", "few-only.wat", "");
    web.use_policy("few");
    web.check_nodes(3, true);
    let message = web.0.event("default", "few", "PolicyFailed");
    assert!(
        message.contains("service default/web") && message.contains("unreachable"),
        "{message}"
    );
    // By itself, once it can.
    web.0.kubectl("scale deployment web --replicas=3");
    web.0.endpoints_ready("web", 3);
    let one_for_all = |web: &Web| {
        let nodes: BTreeSet<_> = answering(&web.0).into_iter().map(|(_, nodes)| nodes).collect();
        wanted(nodes.len() == 1 && nodes.iter().all(|nodes| nodes.len() == 1), format!("{nodes:?}"))
    };
    eventually("the first endpoint serves all", || one_for_all(&web));

    web.0.kubectl("scale deployment web --replicas=6");
    web.0.endpoints_ready("web", 6);
    eventually("all serve all again", || {
        let answering = answering(&web.0);
        wanted(answering.iter().all(|(_, nodes)| nodes.len() == 3), format!("{answering:?}"))
    });
    let patch = "{\"spec\":{\"onFailure\":\"Reject\"}}";
    web.0.kubectl(&format!("patch topologypolicy few --type=merge -p {patch}"));
    web.status("few", "True");
    let address = web.0.cluster_ip("web");
    eventually("connections are reset", || {
        let asked = curl(&format!("http://{address}:8000/"));
        wanted(asked.code != Some(0), asked.stdout)
    });
}

#[test]
fn swapping_a_topology_policy_under_load_fails_no_connection() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start("per-node");
    web.load("mine", "own-zone.wat", "");
    web.use_policy("mine");
    web.check_nodes(1, true);
    let address = web.0.cluster_ip("web");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                curl(&format!("http://{address}:8000/")).succeeded();
                served += 1;
            }
            served
        });
        let end = Ending(&done);
        for (module, count, own) in [
            ("other-zones.wat", 2, false),
            ("own-zone.wat", 1, true),
            ("other-zones.wat", 2, false),
        ] {
            let before = web.digest("mine");
            web.write("mine", module);
            eventually("the module is swapped", || {
                let digest = web.digest("mine");
                wanted(digest != before, digest)
            });
            web.check_nodes(count, own);
        }
        drop(end);
        let served = traffic.join().expect("every connection was served");
        assert!(served > 10, "{served}");
    });
}
