//! Containers whose commands are followed: their steps, restarts, back-off and termination messages.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::runtime::{
    Activity, Container, ContainerState, Exit, PodSpec, RestartPolicy, Role,
    simulated::{
        pod::Pod,
        script::{self, Step},
    },
};

/// The pause before the third start of a container. It doubles with each start, as in kubelet.
const BACK_OFF_MIN: Duration = Duration::from_secs(10);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_mins(5);
/// After running for this time, a container begins with the shortest pause again.
const BACK_OFF_RESET: Duration = Duration::from_mins(10);

/// A failed init container keeps its error for this time before it is restarted (kubelet's relist period).
const ERROR_SHOWN: Duration = Duration::from_secs(1);

/// Longest termination message. kubelet has the same limit.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Most lines of a termination message from the log. kubelet has the same limit.
const MESSAGE_LOG_LINES: usize = 80;
const MESSAGE_LOG_BYTES_MAX: usize = 2048;

/// The steps of a container, if its command can be followed.
pub(super) fn predicted_steps(spec: &PodSpec, container: &Container) -> Option<Vec<Step>> {
    let steps = script::steps(&container.command, &container.env, &container.message_path);
    if steps.is_some() {
        return steps;
    }
    if container.role == Role::Init && container.command.is_empty() {
        return Some(vec![Step::Exit(0)]);
    }
    (spec.runs_to_completion || container.role == Role::Init).then(|| {
        let command = container.command.join(" ");
        let line = format!("simulated: the command is not run and counts as done: {command}");
        vec![Step::Print(line), Step::Exit(0)]
    })
}

/// Runs the preStop hook of a container.
pub(super) async fn pre_stop(pod: &Pod, container: &Container) {
    let command = container.pre_stop.as_deref().unwrap_or_default();
    let steps = script::steps(command, &container.env, &container.message_path);
    // The output of a hook is not logged.
    let steps =
        steps.into_iter().flatten().filter(|step| !matches!(step, Step::Print(_) | Step::Date));
    follow(pod, &container.name, &steps.collect::<Vec<_>>()).await;
}

/// What happens after a container has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    /// The container is restarted.
    Again,
    /// All containers of the pod are restarted.
    WholePod,
}

/// Runs a container until it is not restarted any more or `round` is cancelled.
pub(super) async fn run(
    pod: Arc<Pod>,
    round: CancellationToken,
    container: Container,
    steps: Vec<Step>,
    restart: RestartPolicy,
) {
    let restarts = start_again_and_again(&pod, &round, &container, &steps, restart);
    round.run_until_cancelled(restarts).await;
}

/// Runs the init containers one after another, and starts the sidecars in their turn. Returns false if one has failed
/// and is not restarted.
pub(super) async fn initialize(pod: &Arc<Pod>, round: &CancellationToken, spec: &PodSpec) -> bool {
    let restart = if spec.restart == RestartPolicy::Never {
        RestartPolicy::Never
    } else {
        RestartPolicy::OnFailure
    };
    for container in &spec.containers {
        match (container.role, predicted_steps(spec, container)) {
            (Role::Main | Role::Ephemeral, _) => {}
            (Role::Sidecar, Some(steps)) => {
                let (own, round) = (container.clone(), round.clone());
                let sidecar = run(Arc::clone(pod), round, own, steps, RestartPolicy::Always);
                drop(pod.spawn(sidecar));
            }
            (Role::Sidecar, None) => pod.note_container(round, starting(pod, container)).await,
            (Role::Init, Some(steps)) => {
                if start_again_and_again(pod, round, container, &steps, restart).await != 0 {
                    return false;
                }
            }
            (Role::Init, None) => {
                pod.note_container(round, starting(pod, container)).await;
                std::future::pending::<()>().await;
            }
        }
    }
    true
}

/// The state of a container that starts now. `before` is its state from before all containers were stopped.
pub(super) fn running(container: &Container, before: Option<&ContainerState>) -> ContainerState {
    let now = Activity::Running(Timestamp::now());
    match before.filter(|before| before.now == Activity::Waiting) {
        Some(before) => {
            ContainerState { restarts: before.restarts.saturating_add(1), now, ..before.clone() }
        }
        None => ContainerState { name: container.name.clone(), restarts: 0, now, last: None },
    }
}

/// The state of a container that cannot be created.
pub(super) fn faulty(container: &Container, fault: &str) -> ContainerState {
    let now = Activity::Faulty(fault.to_owned());
    ContainerState { name: container.name.clone(), restarts: 0, now, last: None }
}

fn starting(pod: &Pod, container: &Container) -> ContainerState {
    running(container, pod.status.lock().containers.get(&container.name))
}

/// Restarts the container until the restart policy ends that. Returns the last exit code.
async fn start_again_and_again(
    pod: &Arc<Pod>,
    round: &CancellationToken,
    container: &Container,
    steps: &[Step],
    restart: RestartPolicy,
) -> i32 {
    let mut state = starting(pod, container);
    let first = state.restarts;
    let mut pause = BACK_OFF_MIN;
    loop {
        let started = Timestamp::now();
        state.now = Activity::Running(started);
        pod.note_container(round, state.clone()).await;
        let (code, mut message) = follow(pod, &container.name, steps).await;
        if message.is_empty() && code != 0 && container.message_from_log {
            message = pod.last_lines(&container.name, MESSAGE_LOG_LINES, MESSAGE_LOG_BYTES_MAX);
        }
        let exit = Exit { code, started, finished: Timestamp::now(), message };
        let next = next(container, restart, code);
        if next != Next::Again {
            state.now = Activity::Exited(exit);
            if next == Next::WholePod {
                pod.restart(round, state);
                std::future::pending::<()>().await;
            } else {
                pod.note_container(round, state).await;
            }
            return code;
        }
        if container.role == Role::Init {
            state.now = Activity::Exited(exit.clone());
            pod.note_container(round, state.clone()).await;
            tokio::time::sleep(ERROR_SHOWN).await;
        }
        let ran = Duration::try_from(exit.finished.duration_since(started)).unwrap_or_default();
        if ran >= BACK_OFF_RESET {
            pause = BACK_OFF_MIN;
        }
        state.last = Some(exit);
        if state.restarts > first {
            state.now = Activity::BackOff(pause);
            pod.note_container(round, state.clone()).await;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(BACK_OFF_MAX);
        }
        state.restarts = state.restarts.saturating_add(1);
    }
}

/// The rules of the container come first, then its own restart policy, then `restart`.
fn next(container: &Container, restart: RestartPolicy, code: i32) -> Next {
    let mut rules = container.restart.rules.iter();
    if let Some(rule) = rules.find(|rule| rule.on.codes.contains(&code) == rule.on.listed) {
        return if rule.whole_pod { Next::WholePod } else { Next::Again };
    }
    match container.restart.policy.unwrap_or(restart) {
        RestartPolicy::Always => Next::Again,
        RestartPolicy::OnFailure if code != 0 => Next::Again,
        RestartPolicy::OnFailure | RestartPolicy::Never => Next::Nothing,
    }
}

/// Runs the steps once. Returns the exit code and the termination message.
async fn follow(pod: &Pod, container: &str, steps: &[Step]) -> (i32, String) {
    let mut message = String::new();
    for step in steps {
        match step {
            Step::Message(line) => {
                message.push_str(line);
                message.push('\n');
                message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            }
            Step::Forever(again) => forever(pod, container, again).await,
            Step::Exit(code) => return (i32::from(*code), message),
            simple => act(pod, container, simple).await,
        }
    }
    (0, message)
}

/// Repeats the steps until it is cancelled. Steps that take no time would use all CPU, so they run only once.
async fn forever(pod: &Pod, container: &str, steps: &[Step]) {
    let takes_time = |step: &Step| matches!(step, Step::Sleep(time) if !time.is_zero());
    loop {
        for step in steps {
            act(pod, container, step).await;
        }
        if !steps.iter().any(takes_time) {
            std::future::pending::<()>().await;
        }
    }
}

async fn act(pod: &Pod, container: &str, step: &Step) {
    match step {
        Step::Sleep(time) => tokio::time::sleep(*time).await,
        Step::Print(line) => pod.print(container, line.clone()),
        Step::Date => {
            let now = Timestamp::now().strftime("%a %b %e %H:%M:%S UTC %Y");
            pod.print(container, now.to_string());
        }
        Step::Message(_) | Step::Forever(_) | Step::Exit(_) => {}
    }
}
