//! Containers that end by themselves: their course, restarts and back-off.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::runtime::{
    Activity, Container, ContainerState, Exit, PodSpec, Restart,
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

/// What a container will do, when it is known to end.
pub(super) fn course(spec: &PodSpec, container: &Container) -> Option<Vec<Step>> {
    match script::outcome(&container.command, &container.env) {
        Outcome::Ends(steps) => Some(steps),
        Outcome::Unknown if spec.runs_to_completion => {
            let command = container.command.join(" ");
            let line = format!("simulated: the command is not run and counts as done: {command}");
            Some(vec![Step::Print(line), Step::Exit(0)])
        }
        Outcome::Unknown | Outcome::Forever => None,
    }
}

/// Runs a container until it is not started again or the pod stops.
pub(super) async fn run(pod: Arc<Pod>, name: String, steps: Vec<Step>, restart: Restart) {
    let stopping = pod.stopping.clone();
    stopping.run_until_cancelled(start_again_and_again(&pod, name, &steps, restart)).await;
}

async fn start_again_and_again(pod: &Pod, name: String, steps: &[Step], restart: Restart) {
    let mut state =
        ContainerState { name, restarts: 0, now: Activity::Running(Timestamp::now()), last: None };
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
            return pod.note_container(state).await;
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
            pause = (pause * 2).min(BACK_OFF_MAX);
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
