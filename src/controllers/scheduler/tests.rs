use serde_json::{Value, json};

use super::*;
use crate::controllers::testing::Cluster;

fn node(name: &str, zone: &str, spec: &Value, allocatable: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "disk": name}},
        "spec": spec, "status": {"allocatable": allocatable}})
}

fn pod(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "a", "image": "i"}]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": spec})
}

fn placed(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for pod in cluster.list(&kind::POD) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("-").to_owned();
        *count.entry(node).or_default() += 1;
    }
    count
}

#[test]
fn pods_spread_over_zones_then_nodes() {
    let mut cluster = Cluster::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        cluster.insert(&node(name, zone, &json!({}), &json!({"pods": "110"})));
    }
    for n in 0..8 {
        cluster.insert(&pod(&format!("p{n}"), &json!({})));
    }
    cluster.settle(&[&CONTROLLER], |_| {});
    let expected = [("n1", 2), ("n2", 2), ("n3", 4)].map(|(node, n)| (node.to_owned(), n));
    assert_eq!(placed(&cluster), BTreeMap::from(expected));
    let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p0"));
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    assert!(
        cluster.events.contains(&"Scheduled Successfully assigned default/p0 to n1".to_owned())
    );
}

#[test]
fn more_than_one_batch() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "1000"})));
    for n in 0..600 {
        cluster.insert(&pod(&format!("p{n}"), &json!({})));
    }
    assert_eq!(cluster.plan(&CONTROLLER, &everything()).requeue, Some(std::time::Duration::ZERO));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(placed(&cluster)["n1"], 600);
}

#[test]
fn what_does_not_fit_is_told() {
    let requests = |cpu: &str| json!({"containers": [{"name": "a", "image": "i", "resources": {"requests": {"cpu": cpu}}}]});
    let term = |operator: &str, values: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "disk", "operator": operator, "values": values}]}]}}}})
    };
    let tainted = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    for (spec, node_spec, expected) in [
        (json!({}), json!({}), "n1"),
        (requests("2"), json!({}), "n1"),
        (requests("2500m"), json!({}), "0/1 nodes are available: 1 Insufficient cpu."),
        (json!({"nodeSelector": {"disk": "n1"}}), json!({}), "n1"),
        (
            json!({"nodeSelector": {"disk": "x"}}),
            json!({}),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        (term("In", json!(["n1", "n2"])), json!({}), "n1"),
        (
            term("NotIn", json!(["n1"])),
            json!({}),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            json!({}),
            json!({"unschedulable": true}),
            "0/1 nodes are available: 1 node(s) were unschedulable.",
        ),
        (
            json!({}),
            tainted.clone(),
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
        ),
        (json!({"tolerations": [{"operator": "Exists"}]}), tainted.clone(), "n1"),
        (json!({"tolerations": [{"key": "gpu", "value": "yes"}]}), tainted.clone(), "n1"),
        (
            json!({"tolerations": [{"key": "gpu", "value": "no"}]}),
            tainted,
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
        ),
    ] {
        let mut cluster = Cluster::default();
        cluster.insert(&node("n1", "a", &node_spec, &json!({"pods": "1", "cpu": "2"})));
        cluster.insert(&pod("p", &spec));
        cluster.settle(&[&CONTROLLER], |_| {});
        let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
        let told = match pod["spec"]["nodeName"].as_str() {
            Some(node) => node,
            None => pod["status"]["conditions"][0]["message"].as_str().unwrap(),
        };
        let told = told.split(" preemption:").next().unwrap();
        assert_eq!(told, expected, "{spec}");
    }
}

#[test]
fn a_full_node_takes_no_more_until_a_pod_ends() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "1"})));
    cluster.insert(&pod("p1", &json!({})));
    cluster.settle(&[&CONTROLLER], |_| {});
    cluster.insert(&pod("p2", &json!({})));
    cluster.settle(&[&CONTROLLER], |_| {});
    let told = "FailedScheduling 0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod.";
    assert!(cluster.events.contains(&told.to_owned()), "{:?}", cluster.events);
    cluster.remove(&ObjectKey::new(&kind::POD, "default", "p1"));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(placed(&cluster), BTreeMap::from([("n1".to_owned(), 1)]));
}

/// Two zones of two nodes, and pods with these labels on the first ones.
fn zones(placed: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "b")] {
        cluster.insert(&node(name, zone, &json!({}), &json!({"pods": "110"})));
    }
    for (n, (node, app)) in placed.iter().enumerate() {
        let mut pod = pod(&format!("placed-{n}"), &json!({"nodeName": node}));
        pod["metadata"]["labels"]["app"] = (*app).into();
        cluster.insert(&pod);
    }
    cluster
}

/// Where a pod `app: web` with this spec goes, or why nowhere.
fn goes(cluster: &mut Cluster, spec: &Value) -> String {
    cluster.insert(&pod("p", spec));
    cluster.settle(&[&CONTROLLER], |_| {});
    let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
    match pod["spec"]["nodeName"].as_str() {
        Some(node) => node.to_owned(),
        None => pod["status"]["conditions"][0]["message"].as_str().unwrap().to_owned(),
    }
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

#[test]
fn pods_near_and_far_from_others() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    const HOST: &str = "kubernetes.io/hostname";
    let affinity = |which: &str, required: bool, term: Value| {
        let mut affinity = json!({});
        if required {
            affinity[which]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term]);
        } else {
            affinity[which]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{"weight": 10, "podAffinityTerm": term}]);
        }
        json!({"affinity": affinity})
    };
    let (near, far) = ("podAffinity", "podAntiAffinity");
    for (placed, spec, expected) in [
        (vec![("n3", "db")], affinity(near, true, term("db", HOST)), "n3"),
        (vec![("n3", "db")], affinity(near, true, term("db", ZONE)), "n4"),
        (vec![("n3", "db")], affinity(near, false, term("db", HOST)), "n3"),
        (vec![], affinity(near, true, term("web", ZONE)), "n1"),
        (
            vec![],
            affinity(near, true, term("db", ZONE)),
            "0/4 nodes are available: 4 node(s) didn't match pod affinity rules. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
        ),
        (vec![("n1", "db"), ("n3", "x"), ("n4", "x")], affinity(far, true, term("db", ZONE)), "n3"),
        (
            vec![("n1", "db"), ("n2", "x"), ("n3", "x"), ("n4", "x")],
            affinity(far, false, term("db", HOST)),
            "n2",
        ),
        (
            vec![("n1", "db"), ("n3", "db")],
            affinity(far, true, term("db", ZONE)),
            "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules. preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod.",
        ),
    ] {
        assert_eq!(goes(&mut zones(&placed), &spec), expected, "{spec}");
    }
    let mut cluster = zones(&[]);
    let mut lonely = pod("lonely", &affinity(far, true, term("web", ZONE)));
    lonely["spec"]["nodeName"] = "n1".into();
    cluster.insert(&lonely);
    assert_eq!(goes(&mut cluster, &json!({})), "n3", "it keeps its zone for itself");
}

#[test]
fn spread_constraints() {
    let spread = |unsatisfiable: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": unsatisfiable,
            "topologyKey": "disk", "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let three = [("n1", "web"), ("n2", "web"), ("n3", "web"), ("n4", "x"), ("n4", "x")];
    assert_eq!(goes(&mut zones(&three), &spread("DoNotSchedule")), "n4");
    assert_eq!(goes(&mut zones(&three), &spread("ScheduleAnyway")), "n4");
    let mut cluster = zones(&three);
    cluster.edit(&ObjectKey::cluster(&kind::NODE, "n4"), |node| {
        node["spec"]["unschedulable"] = true.into();
    });
    assert_eq!(
        goes(&mut cluster, &spread("DoNotSchedule")),
        "0/4 nodes are available: 1 node(s) were unschedulable, 3 node(s) didn't match pod topology spread constraints. preemption: 0/4 nodes are available: 1 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod."
    );
}

#[test]
fn wishes_about_nodes() {
    let wish = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["n4"]}]}}]}}});
    assert_eq!(goes(&mut zones(&[("n4", "x")]), &wish), "n4");
    let mut cluster = zones(&[("n2", "x"), ("n3", "x"), ("n4", "x")]);
    cluster.edit(&ObjectKey::cluster(&kind::NODE, "n1"), |node| {
        node["spec"]["taints"] = json!([{"key": "slow", "effect": "PreferNoSchedule"}]);
    });
    assert_ne!(goes(&mut cluster, &json!({})), "n1");
}

#[test]
fn which_domains_and_pods_a_spread_counts() {
    const SKEWED: &str = "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints. preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod.";
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "topologyKey": "topology.kubernetes.io/zone",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        json_patch::merge(&mut constraint, &more);
        json!({"topologySpreadConstraints": [constraint]})
    };
    let one_each = [("n1", "web"), ("n3", "web")];
    // With fewer domains than wanted, none may have more than `maxSkew`.
    assert_eq!(goes(&mut zones(&one_each), &spread(json!({"minDomains": 2}))), "n2");
    assert_eq!(goes(&mut zones(&one_each), &spread(json!({"minDomains": 3}))), SKEWED);
    // Only pods of the same version count.
    let versions = |own: &str| {
        let mut cluster = zones(&[("n1", "web"), ("n3", "web"), ("n2", "web")]);
        for (name, version) in [("placed-0", "1"), ("placed-1", "2"), ("placed-2", "1")] {
            cluster.edit(&ObjectKey::new(&kind::POD, "default", name), |pod| {
                pod["metadata"]["labels"]["version"] = version.into();
            });
        }
        let mut pod = pod("p", &spread(json!({"matchLabelKeys": ["version", "absent"]})));
        pod["metadata"]["labels"]["version"] = own.into();
        cluster.insert(&pod);
        cluster.settle(&[&CONTROLLER], |_| {});
        let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
        pod["spec"]["nodeName"].as_str().unwrap()[..2].to_owned()
    };
    assert!(["n3", "n4"].contains(&&*versions("1")));
    assert!(["n1", "n2"].contains(&&*versions("2")));
}

#[test]
fn which_nodes_a_spread_counts() {
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "topologyKey": "disk", "labelSelector": {"matchLabels": {"app": "web"}}});
        json_patch::merge(&mut constraint, &more);
        json!({"nodeSelector": {"topology.kubernetes.io/zone": "a"},
            "topologySpreadConstraints": [constraint]})
    };
    let full = [("n1", "web"), ("n2", "web")];
    // Zone b is empty, but the pod cannot be there.
    assert_eq!(goes(&mut zones(&full), &spread(json!({}))), "n1");
    let told = goes(&mut zones(&full), &spread(json!({"nodeAffinityPolicy": "Ignore"})));
    assert!(told.contains("2 node(s) didn't match pod topology spread constraints"), "{told}");
    for (spec, honored) in [
        (json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}), true),
        (json!({"unschedulable": true}), true),
        (json!({"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}), false),
    ] {
        for (policy, counted) in [("Honor", !honored), ("Ignore", true)] {
            let mut cluster = zones(&[("n1", "web")]);
            cluster.edit(&ObjectKey::cluster(&kind::NODE, "n2"), |node| {
                node["spec"] = spec.clone();
            });
            let told = goes(&mut cluster, &spread(json!({"nodeTaintsPolicy": policy})));
            // An empty n2 that counts keeps n1 from having another.
            assert_eq!(told != "n1", counted, "{spec} {policy}: {told}");
        }
    }
    // Nodes without a label that another constraint needs do not count.
    let mut cluster = zones(&full);
    let mut two = spread(json!({}));
    let mut other = two["topologySpreadConstraints"][0].clone();
    other["topologyKey"] = "rack".into();
    two["topologySpreadConstraints"].as_array_mut().unwrap().push(other);
    two["nodeSelector"] = json!({});
    for name in ["n1", "n2"] {
        cluster.edit(&ObjectKey::cluster(&kind::NODE, name), |node| {
            node["metadata"]["labels"]["rack"] = "r1".into();
        });
    }
    assert_eq!(goes(&mut cluster, &two), "n1");
}

#[test]
fn affinity_by_the_pods_own_labels() {
    for (which, field, expected) in [
        ("podAffinity", "matchLabelKeys", "n1"),
        ("podAffinity", "mismatchLabelKeys", "n2"),
        ("podAntiAffinity", "matchLabelKeys", "n3"),
        ("podAntiAffinity", "mismatchLabelKeys", "n3"),
    ] {
        let mut cluster = zones(&[("n1", "db"), ("n2", "db")]);
        for (name, tenant) in [("placed-0", "x"), ("placed-1", "y")] {
            cluster.edit(&ObjectKey::new(&kind::POD, "default", name), |pod| {
                pod["metadata"]["labels"]["tenant"] = tenant.into();
            });
        }
        let zone = "topology.kubernetes.io/zone";
        let mut term = term("db", if which == "podAffinity" { "disk" } else { zone });
        term[field] = json!(["tenant", "absent"]);
        let mut spec = json!({});
        spec["affinity"][which]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term]);
        let mut pod = pod("p", &spec);
        pod["metadata"]["labels"]["tenant"] = "x".into();
        cluster.insert(&pod);
        cluster.settle(&[&CONTROLLER], |_| {});
        let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
        assert_eq!(pod["spec"]["nodeName"], expected, "{which} {field}");
    }
}

/// A node with so much cpu, and pods there: name, priority, cpu.
fn crowded(pods: &[(&str, &str, i32, &str)]) -> Cluster {
    const ALWAYS: &str = "PreemptLowerPriority";
    let mut cluster = Cluster::default();
    for name in ["n1", "n2"] {
        let allocatable = json!({"pods": "110", "cpu": "2"});
        cluster.insert(&node(name, name, &json!({}), &allocatable));
    }
    for (class, priority, policy) in [
        ("p1", 1, ALWAYS),
        ("p2", 2, ALWAYS),
        ("p3", 3, ALWAYS),
        ("p5", 5, ALWAYS),
        ("p10", 10, ALWAYS),
        ("p20", 20, ALWAYS),
        ("never", 10, "Never"),
    ] {
        cluster.insert(&json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": class}, "value": priority, "preemptionPolicy": policy}));
    }
    for (name, node, priority, cpu) in pods {
        let mut spec = asking(*priority, cpu);
        spec["nodeName"] = (*node).into();
        let mut pod = pod(name, &spec);
        pod["metadata"]["labels"]["app"] = (*name).into();
        pod["status"] = json!({"conditions": [{"type": "PodScheduled", "status": "True"}]});
        cluster.insert(&pod);
    }
    cluster
}

fn asking(priority: i32, cpu: &str) -> Value {
    json!({"priorityClassName": format!("p{priority}"),
        "containers": [{"name": "a", "image": "i", "resources": {"requests": {"cpu": cpu}}}]})
}

/// Who must go for a pod with this spec, and where it wants to be.
fn victims(cluster: &mut Cluster, spec: &Value) -> (Vec<String>, String) {
    cluster.insert(&pod("p", spec));
    cluster.settle(&[&CONTROLLER], |_| {});
    let going = cluster.view.list(&kind::POD, None).filter(|pod| pod.is_terminating());
    let going = going.map(|pod| pod.key.name.clone()).collect();
    let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
    let claim = pod["status"]["nominatedNodeName"].as_str().unwrap_or_default();
    (going, claim.to_owned())
}

#[test]
fn who_is_preempted() {
    let text = |text: &str| text.to_owned();
    for (placed, spec, expected, at) in [
        // The least important victims; among them as few as will do.
        (vec![("a", "n1", 5, "2"), ("b", "n2", 3, "2")], asking(10, "1"), vec!["b"], "n2"),
        (
            vec![("a", "n1", 1, "1"), ("b", "n1", 2, "1"), ("c", "n2", 2, "2")],
            asking(10, "1"),
            vec!["a"],
            "n1",
        ),
        (
            vec![("a", "n1", 1, "1"), ("b", "n1", 1, "1"), ("c", "n2", 1, "2")],
            asking(10, "2"),
            vec!["c"],
            "n2",
        ),
        // Nobody of the same priority, and nobody without need or use.
        (vec![("a", "n1", 10, "2"), ("b", "n2", 10, "2")], asking(10, "1"), vec![], ""),
        (vec![("a", "n1", 1, "2")], asking(10, "1"), vec![], ""),
        (vec![("a", "n1", 1, "2"), ("b", "n2", 1, "2")], asking(10, "3"), vec![], ""),
        (
            vec![("a", "n1", 1, "1"), ("b", "n1", 10, "1"), ("c", "n2", 10, "2")],
            asking(10, "2"),
            vec![],
            "",
        ),
    ] {
        let mut cluster = crowded(&placed);
        let expected: Vec<_> = expected.into_iter().map(text).collect();
        assert_eq!(victims(&mut cluster, &spec), (expected, text(at)), "{placed:?}");
    }
    let mut never = asking(10, "1");
    never["priorityClassName"] = "never".into();
    let mut cluster = crowded(&[("a", "n1", 1, "2"), ("b", "n2", 1, "2")]);
    assert_eq!(victims(&mut cluster, &never), (vec![], String::new()));
    let told = "FailedScheduling 0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.";
    assert!(cluster.events.contains(&told.to_owned()), "{:?}", cluster.events);
}

#[test]
fn the_course_of_a_preemption() {
    let mut cluster = crowded(&[("a", "n1", 1, "2"), ("b", "n2", 5, "2")]);
    assert_eq!(victims(&mut cluster, &asking(10, "1")), (vec!["a".to_owned()], "n1".to_owned()));
    let victim = ObjectKey::new(&kind::POD, "default", "a");
    let condition = &cluster.get(&victim)["status"]["conditions"];
    let condition = condition.as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(condition.unwrap()["reason"], "PreemptionByScheduler");
    let key = ObjectKey::new(&kind::POD, "default", "p");
    let uid = cluster.get(&key)["metadata"]["uid"].as_str().unwrap().to_owned();
    for told in [
        format!("Preempted Preempted by pod {uid} on node n1"),
        "FailedScheduling 0/2 nodes are available: 2 Insufficient cpu.".to_owned(),
        "FailedScheduling 0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a \
         terminating pod on the nominated node."
            .to_owned(),
    ] {
        assert!(cluster.events.contains(&told), "{told} in {:?}", cluster.events);
    }
    // Somebody less important comes and does not get the place; the rest of it is free for all.
    cluster.insert(&pod("late", &asking(2, "2")));
    cluster.settle(&[&CONTROLLER], |_| {});
    cluster.remove(&victim);
    cluster.insert(&pod("later", &asking(2, "1")));
    cluster.settle(&[&CONTROLLER], |_| {});
    let at = |name| {
        cluster.get(&ObjectKey::new(&kind::POD, "default", name))["spec"]["nodeName"].clone()
    };
    assert_eq!((at("p"), at("later"), at("late")), (json!("n1"), json!("n1"), Value::Null));
    assert!(cluster.get(&key)["status"]["nominatedNodeName"].is_null());
}

#[test]
fn budgets_and_affinity_in_preemption() {
    let mut cluster = crowded(&[("a", "n1", 1, "2"), ("b", "n2", 5, "2")]);
    cluster.insert(&json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}));
    assert_eq!(victims(&mut cluster, &asking(10, "1")), (vec!["b".to_owned()], "n2".to_owned()));
    // Who goes need not be short of room: here it keeps the pod away.
    let mut spec = asking(10, "1");
    spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!([{"labelSelector": {}, "topologyKey": "disk"}]);
    let mut cluster = crowded(&[("a", "n1", 1, "100m"), ("b", "n2", 20, "100m")]);
    assert_eq!(victims(&mut cluster, &spec), (vec!["a".to_owned()], "n1".to_owned()));
}

#[test]
fn ports_of_nodes_and_other_resources() {
    let port = |address: &str, protocol: &str| {
        json!({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80, "hostPort": 8080,
            "hostIP": address, "protocol": protocol}]}]})
    };
    for (taken, wanted, fits) in [
        (port("", "TCP"), port("", "TCP"), false),
        (port("", "TCP"), port("127.0.0.1", "TCP"), false),
        (port("127.0.0.2", "TCP"), port("127.0.0.1", "TCP"), true),
        (port("", "UDP"), port("", "TCP"), true),
    ] {
        let mut cluster = Cluster::default();
        cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "110"})));
        let mut first = pod("first", &taken);
        first["spec"]["nodeName"] = "n1".into();
        cluster.insert(&first);
        let told = goes(&mut cluster, &wanted);
        let expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. ";
        assert_eq!(told == "n1", fits, "{taken} {wanted}: {told}");
        assert!(fits || told.starts_with(expected), "{told}");
    }
    let gpu = json!({"containers": [{"name": "a", "image": "i", "resources": {"limits": {"example.com/gpu": "1"}}}]});
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "110"})));
    assert_eq!(
        goes(&mut cluster, &gpu),
        "0/1 nodes are available: 1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
    cluster.edit(&ObjectKey::cluster(&kind::NODE, "n1"), |node| {
        node["status"]["allocatable"]["example.com/gpu"] = "1".into();
    });
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(placed(&cluster), BTreeMap::from([("n1".to_owned(), 1)]));
}
