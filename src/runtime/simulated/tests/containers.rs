//! Tests of containers whose commands are followed: order, ends, restarts and hooks.

use super::*;

#[tokio::test(start_paused = true)]
async fn containers_end_and_are_started_again() {
    let container = |script: &str| scripted(Role::Main, "main", script);
    for (last, restart, script, expected) in [
        (40, RestartPolicy::Never, "echo hello; sleep 2; exit 3", (0, Some(3))),
        (41, RestartPolicy::OnFailure, "sleep 1", (0, Some(0))),
        (42, RestartPolicy::Always, "false", (2, None)),
    ] {
        let mut spec = spec(last, &[]);
        spec.containers.push(container(script));
        spec.restart = restart;
        let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
        let mut events = runtime.events();
        runtime.ensure(spec.clone()).await;
        let state = loop {
            let Some(state) = events.next().await.unwrap().state.containers.pop() else { continue };
            let done = matches!(state.now, Activity::Exited(_)) || state.restarts == 2;
            if done {
                break state;
            }
        };
        let code = match &state.now {
            Activity::Exited(exit) => Some(exit.code),
            _ => None,
        };
        assert_eq!((state.restarts, code), expected, "{script}");
        let log = runtime.container(&spec.uid, "main").unwrap().log(0);
        let lines: Vec<_> = log.lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines, if last == 40 { vec!["hello"] } else { vec![] });
        runtime.stop(&spec.uid, Duration::ZERO).await;
    }
}

/// The states of a pod with these containers, up to the one that is searched.
async fn states_of_pod(
    last: u8,
    restart: RestartPolicy,
    containers: Vec<Container>,
    is_last: impl Fn(&PodState) -> bool,
) -> Vec<PodState> {
    let mut spec = spec(last, &[]);
    (spec.containers, spec.restart) = (containers, restart);
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    let mut states = Vec::new();
    while !states.last().is_some_and(&is_last) {
        states.push(events.next().await.unwrap().state);
    }
    runtime.stop(&spec.uid, Duration::ZERO).await;
    states
}

fn state_of<'a>(state: &'a PodState, name: &str) -> Option<&'a Activity> {
    state.containers.iter().find(|container| container.name == name).map(|c| &c.now)
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order() {
    let containers = vec![
        scripted(Role::Init, "first", "sleep 1"),
        scripted(Role::Sidecar, "beside", ""),
        scripted(Role::Init, "image", ""),
        scripted(Role::Init, "second", "sleep 1"),
        scripted(Role::Main, "main", "sleep 5"),
    ];
    let states =
        states_of_pod(43, RestartPolicy::Never, containers, |s| s.stage == Stage::Ended).await;
    for state in &states {
        let done =
            |name| matches!(state_of(state, name), Some(Activity::Exited(exit)) if exit.code == 0);
        assert!(state_of(state, "beside").is_none() || done("first"), "{state:?}");
        assert!(state_of(state, "second").is_none() || done("image"), "{state:?}");
        assert!(state_of(state, "main").is_none() || done("second"), "{state:?}");
        assert_eq!(state.stage == Stage::Initializing, !done("second"), "{state:?}");
    }
    assert!(states.iter().any(|state| state.stage == Stage::Running));
    // The sidecar ends too.
    assert!(matches!(state_of(states.last().unwrap(), "beside"), Some(Activity::Exited(_))));
}

#[tokio::test(start_paused = true)]
async fn init_containers_fail() {
    let containers =
        || vec![scripted(Role::Init, "init", "exit 2"), scripted(Role::Main, "main", "")];
    let never =
        states_of_pod(44, RestartPolicy::Never, containers(), |s| s.stage == Stage::Ended).await;
    let last = never.last().unwrap();
    assert!(matches!(state_of(last, "init"), Some(Activity::Exited(exit)) if exit.code == 2));
    assert_eq!(state_of(last, "main"), None);
    let waits = |state: &PodState| matches!(state_of(state, "init"), Some(Activity::BackOff(_)));
    let again = states_of_pod(45, RestartPolicy::Always, containers(), waits).await;
    assert!(again.iter().all(|state| state.stage == Stage::Initializing));
    let failed = |state: &&PodState| matches!(state_of(state, "init"), Some(Activity::Exited(exit)) if exit.code == 2);
    assert!(again.iter().any(|state| failed(&state)));
}

#[tokio::test]
async fn ephemeral_containers_come_later() {
    let mut spec = spec(46, &[]);
    spec.containers.push(scripted(Role::Main, "main", ""));
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    assert_eq!(events.next().await.unwrap().state, PodState::running());
    spec.containers.push(scripted(Role::Ephemeral, "debugger", ""));
    runtime.ensure(spec.clone()).await;
    let state = events.next().await.unwrap().state;
    assert!(matches!(state_of(&state, "debugger"), Some(Activity::Running(_))));
    assert_eq!(state.stage, Stage::Running);
    spec.containers.push(scripted(Role::Ephemeral, "look", "exit 1"));
    runtime.ensure(spec.clone()).await;
    let state = loop {
        let state = events.next().await.unwrap().state;
        if matches!(state_of(&state, "look"), Some(Activity::Exited(_))) {
            break state;
        }
    };
    assert_eq!(state.stage, Stage::Running, "its end concerns nobody");
    runtime.stop(&spec.uid, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn each_container_has_its_log() {
    let mut spec = spec(50, &[]);
    let (first, second) = (free_port(&spec).await, free_port(&spec).await);
    spec.ports = vec![tcp(first), tcp(second)];
    spec.containers = vec![
        scripted(Role::Init, "init", "echo i"),
        scripted(Role::Main, "main", ""),
        Container { ports: vec![tcp(second)], ..scripted(Role::Main, "other", "") },
    ];
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    while events.next().await.unwrap().state.stage != Stage::Running {}
    for port in [first, second] {
        exchange((spec.ip, port).into(), &format!("GET /{port} HTTP/1.0\r\n\r\n")).await;
    }
    for (name, expected) in [
        ("init", "i".to_owned()),
        ("main", format!("GET /{first} 200")),
        ("other", format!("GET /{second} 200")),
    ] {
        let log = runtime.container(&spec.uid, name).unwrap().log(0);
        let [(_, line)] = log.lines.as_slice() else { panic!("{name}: {log:?}") };
        assert!(line.ends_with(&expected), "{name}: {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_and_messages_of_one_container() {
    for (last, script, from_log, message) in [
        (47, "echo a; echo why > /dev/termination-log; exit 3", true, "why\n"),
        (48, "echo a; echo b; exit 3", true, "a\nb\n"),
        (49, "echo a; exit 3", false, ""),
    ] {
        let mut container = scripted(Role::Main, "main", script);
        container.message_from_log = from_log;
        let ended = states_of_pod(last, RestartPolicy::Never, vec![container.clone()], |s| {
            s.stage == Stage::Ended
        });
        let states = ended.await;
        let Some(Activity::Exited(exit)) = state_of(states.last().unwrap(), "main") else {
            panic!()
        };
        assert_eq!((exit.code, exit.message.as_str()), (3, message), "{script}");
        let rules = [(true, vec![3], true), (false, vec![0, 3], false), (false, vec![4], true)];
        for (listed, codes, again) in rules {
            container.restart = RestartOverrides {
                rules: vec![RestartRule { on: ExitCodes { listed, codes }, whole_pod: false }],
                policy: Some(RestartPolicy::Never),
            };
            let containers = vec![container.clone()];
            let done = |s: &PodState| {
                s.stage == Stage::Ended || s.containers.first().is_some_and(|own| own.restarts == 1)
            };
            let states = states_of_pod(last, RestartPolicy::Always, containers, done).await;
            assert_eq!(
                states.last().unwrap().stage != Stage::Ended,
                again,
                "{:?}",
                container.restart
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_come_before_the_end() {
    let hook = |text: &str| Some(text.split(' ').map(str::to_owned).collect());
    for (last, pre_stop, grace, takes) in [
        (50, hook("sleep 3"), 30, 3),
        (51, hook("sleep 300"), 5, 5),
        (52, hook("/bin/drain now"), 30, 0),
        (53, None, 30, 0),
    ] {
        let mut spec = spec(last, &[]);
        let mut container = scripted(Role::Main, "main", "");
        container.pre_stop = pre_stop;
        spec.containers.push(container);
        let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
        runtime.ensure(spec.clone()).await;
        let begun = tokio::time::Instant::now();
        runtime.stop(&spec.uid, Duration::from_secs(grace)).await;
        assert_eq!(begun.elapsed().as_secs(), takes, "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_starts_all_containers_again() {
    let on = |code| ExitCodes { listed: true, codes: vec![code] };
    let rules = vec![
        RestartRule { on: on(1), whole_pod: false },
        RestartRule { on: on(7), whole_pod: true },
    ];
    // The container that restarts the pod, and its script.
    for (last, role, script) in [
        (54, Role::Sidecar, "sleep 5; exit 7"),
        (55, Role::Main, "sleep 5; exit 7"),
        (39, Role::Init, "sleep 5; exit 7"),
    ] {
        let mut trigger = scripted(role, "trigger", script);
        trigger.restart = RestartOverrides { rules: rules.clone(), policy: None };
        let containers = vec![
            scripted(Role::Init, "first", "sleep 1"),
            trigger,
            scripted(Role::Main, "lasting", ""),
            scripted(Role::Main, "done", "sleep 1"),
        ];
        let again = |state: &PodState| {
            let trigger = state.containers.iter().find(|container| container.name == "trigger");
            trigger.is_some_and(|own| own.restarts == 3)
        };
        let begun = tokio::time::Instant::now();
        let states = states_of_pod(last, RestartPolicy::Never, containers, again).await;
        // Three rounds of 1 + 5 seconds, and each shows for one second that all are stopped. There is no back-off.
        assert_eq!(begun.elapsed().as_secs(), 3 * (1 + 5 + 1) + 1, "{script}");
        let stopped: Vec<_> =
            states.iter().filter(|state| state.stage == Stage::Restarting).collect();
        assert!(!stopped.is_empty());
        for state in stopped {
            let ended = |own: &ContainerState| matches!(&own.now, Activity::Exited(_));
            assert!(state.containers.iter().all(ended), "{state:?}");
        }
        let end = states.last().unwrap();
        for state in &end.containers {
            let name = state.name.as_str();
            let code = state.last.as_ref().map(|exit| exit.code);
            let expected = match name {
                "trigger" => 7,
                "lasting" => 137,
                _ => 0,
            };
            assert_eq!(code, Some(expected), "{name} {end:?}");
            assert!((2..=3).contains(&state.restarts), "{state:?}");
        }
        assert_eq!(end.containers.len(), if role == Role::Init { 2 } else { 4 }, "{end:?}");
    }
}

#[tokio::test]
async fn a_container_that_cannot_be_made_stops_no_other() {
    let mut spec = spec(38, &[]);
    let mut faulty = scripted(Role::Main, "faulty", "");
    faulty.fault = Some("configmap \"a\" not found".to_owned());
    spec.containers = vec![faulty, scripted(Role::Main, "other", "exit 0")];
    spec.restart = RestartPolicy::Never;
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    let state = loop {
        let state = events.next().await.unwrap().state;
        if matches!(state_of(&state, "other"), Some(Activity::Exited(_))) {
            break state;
        }
    };
    assert!(matches!(state_of(&state, "faulty"), Some(Activity::Faulty(_))));
    assert_eq!(state.stage, Stage::Running, "there is more to come");
    spec.containers[0].fault = None;
    runtime.ensure(spec.clone()).await;
    let state = events.next().await.unwrap().state;
    assert!(matches!(state_of(&state, "faulty"), Some(Activity::Running(_))), "{state:?}");
    runtime.stop(&spec.uid, Duration::ZERO).await;
}
