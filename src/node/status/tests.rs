use serde_json::{Value, json};

use super::*;
use crate::{node::Size, runtime::Port};

fn node() -> NodeOptions {
    NodeOptions {
        name: "n1".to_owned(),
        address: "127.64.0.1".parse().unwrap(),
        pod_cidr: "127.244.0.0/24".parse().unwrap(),
        zone: None,
        labels: <_>::default(),
        size: Size { cpu: "1".parse().unwrap(), memory: "1".parse().unwrap(), pods: 1 },
    }
}

fn pod(spec: &Value, status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status}))
        .unwrap()
}

fn told(status: &PodStatus, kind: &str) -> (String, String, String) {
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| condition.type_ == kind).unwrap();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (found.status.clone(), text(&found.reason), text(&found.message))
}

#[test]
fn gates_keep_a_pod_unready() {
    let spec = json!({"containers": [{"name": "a"}],
        "readinessGates": [{"conditionType": "x/one"}, {"conditionType": "x/two"}]});
    let state = PodState::running();
    let absent = "corresponding condition of pod readiness gate \"x/one\" does not exist.";
    let unknown = "the status of pod readiness gate \"x/two\" is not \"True\", but Unknown";
    for (one, two, message) in [
        ("", "True", absent.to_owned()),
        ("True", "Unknown", unknown.to_owned()),
        ("", "Unknown", format!("{absent}, {unknown}")),
        ("True", "True", String::new()),
    ] {
        let conditions = [("x/one", one), ("x/two", two)];
        let conditions = conditions.iter().filter(|(_, status)| !status.is_empty());
        let conditions: Vec<_> =
            conditions.map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        let mut pod = pod(&spec, &json!({"conditions": conditions}));
        let ip = "127.244.0.1".parse().unwrap();
        let status = running(&pod, ip, &node(), &state, Timestamp::UNIX_EPOCH);
        let ready = message.is_empty();
        let (value, reason) =
            if ready { ("True", "") } else { ("False", "ReadinessGatesNotReady") };
        let expected = (value.to_owned(), reason.to_owned(), message);
        assert_eq!(told(&status, "Ready"), expected);
        assert_eq!(told(&status, "ContainersReady").0, "True");
        pod.status = Some(status);
        assert!(!conditions_moved(&pod, &state), "{one} {two}");
        let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
        let two = conditions.iter_mut().find(|condition| condition.type_ == "x/two").unwrap();
        two.status = "False".to_owned();
        assert!(conditions_moved(&pod, &state), "{one}");
    }
}

#[test]
fn containers_that_last_make_a_pod_ready() {
    let now = Timestamp::UNIX_EPOCH;
    let exit = |code| Exit { code, started: now, finished: now, message: String::new() };
    let one = |name: &str, now| {
        let name = name.to_owned();
        vec![ContainerState { name, restarts: 0, now, last: None }]
    };
    let (running, failed) = (Activity::Running(now), Activity::Exited(exit(1)));
    let fine = PodState::running();
    let unserved = vec![(Port { number: 80, udp: false }, "taken".to_owned())];
    for (state, asked, ready) in [
        (fine.clone(), None, true),
        (fine.clone(), Some("false"), false),
        (fine.clone(), Some("true"), true),
        (PodState { failed: unserved, ..fine.clone() }, None, false),
        (PodState { stage: Stage::Initializing, ..fine.clone() }, None, false),
        (PodState { stage: Stage::Ended, ..fine.clone() }, None, false),
        (PodState { containers: one("main", running), ..fine.clone() }, None, true),
        (PodState { containers: one("main", failed.clone()), ..fine.clone() }, None, false),
        (PodState { containers: one("beside", failed.clone()), ..fine.clone() }, None, false),
        (PodState { containers: one("init", failed.clone()), ..fine.clone() }, None, true),
        (PodState { containers: one("debugger", failed), ..fine }, None, true),
    ] {
        let spec = json!({"containers": [{"name": "main"}, {"name": "more"}],
            "initContainers": [{"name": "init"}, {"name": "beside", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "debugger"}]});
        let mut pod = pod(&spec, &json!({}));
        assert!(!conditions_moved(&pod, &state), "it has none yet");
        let annotation = asked.map(|asked| (READY_ANNOTATION.to_owned(), asked.to_owned()));
        pod.metadata.annotations = annotation.map(|annotation| [annotation].into());
        let ip = "127.244.0.1".parse().unwrap();
        let status = self::running(&pod, ip, &node(), &state, now);
        let expected = if ready { "True" } else { "False" };
        for condition in ["Ready", "ContainersReady"] {
            assert_eq!(told(&status, condition).0, expected, "{state:?} {asked:?}");
        }
        pod.status = Some(status);
        assert!(!conditions_moved(&pod, &state));
        let other = if asked == Some("false") { "true" } else { "false" };
        pod.metadata.annotations = Some([(READY_ANNOTATION.to_owned(), other.to_owned())].into());
        let can_be = ready || asked.is_some();
        assert_eq!(conditions_moved(&pod, &state), can_be, "{state:?} {asked:?}");
    }
}

#[test]
fn pods_that_are_held_tell_why() {
    let volume = Missing { volumes: vec!["v".to_owned()], ..Missing::default() };
    let variable =
        Missing { containers: [("a".to_owned(), "c".to_owned())].into(), ..Missing::default() };
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let init = json!({"containers": [{"name": "b"}], "initContainers": [{"name": "a"}]});
    for (spec, missing, started, initialized, reasons) in [
        (&plain, &volume, "False", "True", ["ContainerCreating", "ContainerCreating"]),
        (&plain, &variable, "True", "True", ["CreateContainerConfigError", "ContainerCreating"]),
        (&init, &volume, "False", "False", ["PodInitializing", "PodInitializing"]),
        (&init, &variable, "True", "False", ["CreateContainerConfigError", "PodInitializing"]),
    ] {
        let status = held(&pod(spec, &json!({})), &node(), missing, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(told(&status, "PodReadyToStartContainers").0, started);
        assert_eq!(told(&status, "Initialized").0, initialized);
        let names = if initialized == "True" { "a b" } else { "b" };
        let message = format!("containers with unready status: [{names}]");
        let unready = ("False".to_owned(), "ContainersNotReady".to_owned(), message);
        assert_eq!(told(&status, "Ready"), unready);
        let init = status.init_container_statuses.iter().flatten();
        let all = init.chain(status.container_statuses.iter().flatten());
        let waiting = all.map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
        let expected = reasons.map(|reason| Some(reason.to_owned()));
        assert_eq!(waiting.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_restart_of_all_containers_is_told() {
    let rule =
        json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]);
    let spec = json!({"initContainers": [{"name": "init"}],
        "containers": [{"name": "main", "restartPolicyRules": rule}]});
    let exit = |code| Exit {
        code,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        message: String::new(),
    };
    let own =
        |name: &str, now, last| ContainerState { name: name.to_owned(), restarts: 2, now, last };
    let state = |stage, init, main, last: Option<Exit>| PodState {
        stage,
        containers: vec![own("init", init, last.clone()), own("main", main, last)],
        ..PodState::running()
    };
    let waits = Some("PodInitializing".to_owned());
    let done = || Activity::Exited(exit(0));
    let stopped = state(Stage::Restarting, done(), Activity::Exited(exit(7)), None);
    let again = state(
        Stage::Initializing,
        Activity::Running(Timestamp::UNIX_EPOCH),
        Activity::Waiting,
        Some(exit(7)),
    );
    let ended = state(Stage::Ended, done(), done(), None);
    for (state, phase, restarting, reason, waiting) in [
        (&stopped, "Running", "True", "", None),
        (&again, "Running", "False", "", waits),
        (&ended, "Succeeded", "False", "PodCompleted", None),
    ] {
        let (pod, ip) = (pod(&spec, &json!({})), "127.244.0.1".parse().unwrap());
        let status = running(&pod, ip, &node(), state, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some(phase));
        let expected = (restarting.to_owned(), reason.to_owned(), String::new());
        assert_eq!(told(&status, "AllContainersRestarting"), expected);
        assert_eq!(told(&status, "Ready").0, "False");
        let main = &status.container_statuses.unwrap()[0];
        assert_eq!(main.restart_count, 2);
        let reason = main.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.clone());
        assert_eq!(reason, waiting);
        assert_eq!(main.last_state.is_some(), waiting.is_some());
    }
    let plain = running(
        &pod(&json!({"containers": [{"name": "main"}]}), &json!({})),
        "127.244.0.1".parse().unwrap(),
        &node(),
        &PodState::running(),
        Timestamp::UNIX_EPOCH,
    );
    assert!(plain.conditions.iter().flatten().all(|own| own.type_ != "AllContainersRestarting"));
}

#[test]
fn one_container_that_cannot_be_made_is_told() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let now = Activity::Faulty("configmap \"m\" not found".to_owned());
    let state = PodState {
        containers: vec![ContainerState { name: "a".to_owned(), restarts: 0, now, last: None }],
        ..PodState::running()
    };
    let ip = "127.244.0.1".parse().unwrap();
    let status = running(&pod(&spec, &json!({})), ip, &node(), &state, Timestamp::UNIX_EPOCH);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(told(&status, "Initialized").0, "True");
    let unready = "containers with unready status: [a]".to_owned();
    let expected = ("False".to_owned(), "ContainersNotReady".to_owned(), unready);
    assert_eq!(told(&status, "Ready"), expected);
    let states: Vec<_> =
        status.container_statuses.iter().flatten().map(|own| own.state.clone().unwrap()).collect();
    let waiting = states[0].waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CreateContainerConfigError"));
    assert_eq!(waiting.message.as_deref(), Some("configmap \"m\" not found"));
    assert!(states[1].running.is_some());
}
