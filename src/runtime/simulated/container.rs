//! Containers that end by themselves: their course, restarts and back-off.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::runtime::{
    Activity, Container, ContainerState, Exit, PodSpec, Restart, Role,
    simulated::{
        pod::Pod,
        script::{self, Outcome, Step},
    },
};

/// First pause before a container is started for the third time; doubled each time (as kubelet does).
const BACK_OFF_MIN: Duration = Duration::from_secs(10);
/// Longest such pause.
const BACK_OFF_MAX: Duration = Duration::from_mins(5);
/// A container that ran for so long begins with the shortest pause again.
const BACK_OFF_RESET: Duration = Duration::from_mins(10);

/// A failed init container shows its error for so long before anything else happens to it (kubelet's relist period).
const ERROR_SHOWN: Duration = Duration::from_secs(1);

/// What a container will do, when it is known to end.
pub(super) fn course(spec: &PodSpec, container: &Container) -> Option<Vec<Step>> {
    match script::outcome(&container.command, &container.env) {
        Outcome::Ends(steps) => Some(steps),
        Outcome::Unknown if container.role == Role::Init && container.command.is_empty() => {
            Some(vec![Step::Exit(0)])
        }
        Outcome::Unknown if spec.runs_to_completion || container.role == Role::Init => {
            let command = container.command.join(" ");
            let line = format!("simulated: the command is not run and counts as done: {command}");
            Some(vec![Step::Print(line), Step::Exit(0)])
        }
        Outcome::Unknown | Outcome::Forever => None,
    }
}

/// Runs a container until it is not started again or the pod stops.
pub(super) async fn run(pod: Arc<Pod>, container: Container, steps: Vec<Step>, restart: Restart) {
    let stopping = pod.stopping.clone();
    stopping.run_until_cancelled(start_again_and_again(&pod, &container, &steps, restart)).await;
}

/// Runs the init containers one after the other, and starts the sidecars in their turn. False when one failed for good.
pub(super) async fn initialize(pod: &Arc<Pod>, spec: &PodSpec) -> bool {
    let restart = if spec.restart == Restart::Never { Restart::Never } else { Restart::OnFailure };
    for container in &spec.containers {
        match (container.role, course(spec, container)) {
            (Role::Main | Role::Ephemeral, _) => {}
            (Role::Sidecar, Some(steps)) => {
                drop(pod.spawn(run(Arc::clone(pod), container.clone(), steps, Restart::Always)));
            }
            (Role::Sidecar, None) => pod.note_container(running(container)).await,
            (Role::Init, Some(steps)) => {
                if start_again_and_again(pod, container, &steps, restart).await != 0 {
                    return false;
                }
            }
            (Role::Init, None) => {
                pod.note_container(running(container)).await;
                std::future::pending::<()>().await;
            }
        }
    }
    true
}

/// The state of a container that was just started.
pub(super) fn running(container: &Container) -> ContainerState {
    let now = Activity::Running(Timestamp::now());
    ContainerState { name: container.name.clone(), restarts: 0, now, last: None }
}

/// Gives the last exit code.
async fn start_again_and_again(
    pod: &Pod,
    container: &Container,
    steps: &[Step],
    restart: Restart,
) -> i32 {
    let mut state = running(container);
    let mut pause = BACK_OFF_MIN;
    loop {
        let started = Timestamp::now();
        state.now = Activity::Running(started);
        pod.note_container(state.clone()).await;
        let code = follow(pod, steps).await;
        let exit = Exit { code, started, finished: Timestamp::now() };
        let again = match restart {
            Restart::Always => true,
            Restart::OnFailure => code != 0,
            Restart::Never => false,
        };
        if !again {
            state.now = Activity::Exited(exit);
            pod.note_container(state).await;
            return code;
        }
        if container.role == Role::Init {
            state.now = Activity::Exited(exit.clone());
            pod.note_container(state.clone()).await;
            tokio::time::sleep(ERROR_SHOWN).await;
        }
        let ran = Duration::try_from(exit.finished.duration_since(started)).unwrap_or_default();
        if ran >= BACK_OFF_RESET {
            pause = BACK_OFF_MIN;
        }
        state.last = Some(exit);
        if state.restarts > 0 {
            state.now = Activity::BackOff(pause);
            pod.note_container(state.clone()).await;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(BACK_OFF_MAX);
        }
        state.restarts = state.restarts.saturating_add(1);
    }
}

async fn follow(pod: &Pod, steps: &[Step]) -> i32 {
    for step in steps {
        match step {
            Step::Sleep(time) => tokio::time::sleep(*time).await,
            Step::Print(line) => pod.print(line.clone()),
            Step::Date => {
                pod.print(Timestamp::now().strftime("%a %b %e %H:%M:%S UTC %Y").to_string());
            }
            Step::Exit(code) => return i32::from(*code),
        }
    }
    0
}
