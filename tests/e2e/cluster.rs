//! A running cluster: the real binary on ports and addresses of its own, and real clients to drive it with.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    place::Place,
    tools::{self, Ran, Tool, eventually, wanted},
};

/// The JSON line of `up -o json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) ready_ms: u64,
    pub(crate) api: String,
    pub(crate) dashboard: String,
    pub(crate) dns: String,
    pub(crate) metrics: String,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) pid: u32,
}

/// A cluster; it is stopped when dropped.
pub(crate) struct Cluster {
    pub(crate) place: Place,
    pub(crate) line: Line,
    pub(crate) kubectl: Tool,
    process: Option<Process>,
    arguments: Vec<String>,
}

impl Cluster {
    /// Three nodes in three zones.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--nodes=3", "--zones=zone-a,zone-b,zone-c"])
    }

    /// With these arguments of `up`, besides those of its place.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(Place::new(), arguments)
    }

    pub(crate) fn start_at(place: Place, arguments: &[&str]) -> Self {
        let mut up = place.snowglobe("up");
        up.args(arguments);
        let mut cluster = Self::by_command(place, up);
        cluster.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        cluster
    }

    /// Started by a command that was made of [`Place::snowglobe`].
    pub(crate) fn by_command(place: Place, command: Command) -> Self {
        let (process, line) = launch(&place, command);
        let (process, arguments) = (Some(process), Vec::new());
        Self { place, line, kubectl: Tool::Kubectl, process, arguments }
    }

    /// Starts again with other arguments of `up` after [`Self::stop`] or [`Self::end`].
    pub(crate) fn start_again_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.start_again();
    }

    /// Starts again on the same data directory after [`Self::stop`] or [`Self::end`].
    pub(crate) fn start_again(&mut self) {
        let mut up = self.place.snowglobe("up");
        up.args(&self.arguments);
        self.start_again_by(up);
    }

    /// The same, by a command that was made of [`Place::snowglobe`].
    pub(crate) fn start_again_by(&mut self, command: Command) {
        assert!(self.process.is_none(), "the cluster was stopped before");
        let (process, line) = launch(&self.place, command);
        (self.process, self.line) = (Some(process), line);
    }

    /// Asks it to end with this signal, and tells how it did.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.process.take().expect("the cluster runs").end(signal)
    }

    /// Stops it in order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let status = self.end(Signal::TERM);
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// What it printed.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.place.home().join("stdout")).expect("its stdout is a file")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.home().join("stderr")).expect("its stderr is a file")
    }

    /// `kubectl` with arguments that are divided by spaces.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        tools::run(self.kubectl_command(&arguments)).succeeded()
    }

    /// The same, however it ends.
    #[track_caller]
    pub(crate) fn try_kubectl(&self, arguments: &str) -> Ran {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        tools::run(self.kubectl_command(&arguments))
    }

    pub(crate) fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.client_command(self.kubectl, arguments)
    }

    /// A command of a client, in the directory that files of tests are named relative to.
    pub(crate) fn client_command(&self, client: Tool, arguments: &[&str]) -> Command {
        let mut command = client.command();
        command.args(arguments).env("KUBECONFIG", &self.line.kubeconfig);
        // Their caches of discovery go to the home directory.
        command.env("HOME", self.place.home()).current_dir(tools::root());
        command
    }

    /// `kubectl apply -f -`.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.try_apply(manifest).succeeded()
    }

    #[track_caller]
    pub(crate) fn try_apply(&self, manifest: &str) -> Ran {
        // What begins with a brace would be taken for JSON.
        let input = format!("---\n{manifest}");
        tools::run_with_input(self.kubectl_command(&["apply", "-f", "-"]), &input)
    }

    /// `kubectl ... -o json`.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &str) -> Value {
        let text = self.kubectl(&format!("{arguments} -o json"));
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// The ClusterIP of a Service in the namespace default or `NAMESPACE/NAME`.
    #[track_caller]
    pub(crate) fn cluster_ip(&self, service: &str) -> String {
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        self.kubectl(&format!("get service {name} -n {namespace} -o jsonpath={{.spec.clusterIP}}"))
    }

    /// Waits until a Service has so many ready endpoints.
    #[track_caller]
    pub(crate) fn endpoints_ready(&self, service: &str, count: usize) {
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        let list =
            format!("get endpointslices -n {namespace} -l kubernetes.io/service-name={name}");
        eventually(&format!("{count} ready endpoints of {service}"), || {
            let slices = self.json(&list);
            let ready = items(&slices)
                .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .count();
            wanted(ready == count, slices)
        });
    }

    /// Waits for an Event of this reason about an object and gives its message.
    #[track_caller]
    pub(crate) fn event(&self, namespace: &str, object: &str, reason: &str) -> String {
        let list = format!("get events -n {namespace}");
        eventually(&format!("an event {reason} of {object}"), || {
            let events = self.json(&list);
            let event = items(&events).find(|event| {
                event["reason"] == reason && event["involvedObject"]["name"] == object
            });
            let message = event.and_then(|event| event["message"].as_str());
            message.map(str::to_owned).ok_or_else(|| self.kubectl(&list))
        })
    }

    /// `dig` at the cluster's DNS, with arguments that are divided by spaces.
    #[track_caller]
    pub(crate) fn dig(&self, arguments: &str) -> String {
        let (server, port) = self.line.dns.rsplit_once(':').expect("IP:PORT");
        let mut dig = Tool::Dig.command();
        // No file of the user's may add options.
        dig.env("HOME", self.place.home());
        dig.args([&format!("@{server}"), "-p", port, "+tries=2", "+time=3"]);
        dig.args(arguments.split_whitespace());
        tools::run(dig).succeeded()
    }

    /// The addresses that a name has.
    #[track_caller]
    pub(crate) fn addresses_of(&self, name: &str) -> Vec<String> {
        let mut addresses: Vec<String> =
            self.dig(&format!("+short {name} A")).lines().map(str::to_owned).collect();
        addresses.sort();
        addresses
    }

    /// A client of the crate `kube`.
    pub(crate) async fn client(&self) -> kube::Client {
        let config = kube::config::Kubeconfig::read_from(&self.line.kubeconfig)
            .expect("the kubeconfig is valid");
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
        kube::Client::try_from(config.expect("the kubeconfig is usable")).expect("a client")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the cluster's log:\n{}", self.log());
        } else if self.process.is_some() {
            self.stop();
        }
    }
}

/// Starts a command that prints a JSON line with `-o json`, and waits for that line.
#[track_caller]
pub(crate) fn launch(place: &Place, command: Command) -> (Process, Line) {
    let (process, text) =
        launch_until(place, command, &["-o", "json"], |text| text.ends_with('\n'));
    let line: Line = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(line.pid, process.0.id());
    (process, line)
}

/// Starts a command and waits until its output is as wanted.
#[track_caller]
pub(crate) fn launch_until(
    place: &Place,
    mut command: Command,
    arguments: &[&str],
    done: impl Fn(&str) -> bool,
) -> (Process, String) {
    let output = |name: &str| File::create(place.home().join(name)).expect("a file of the test");
    let read = |name: &str| std::fs::read_to_string(place.home().join(name)).expect("it is UTF-8");
    command.args(arguments).stdin(Stdio::null());
    command.stdout(output("stdout")).stderr(output("stderr"));
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut process = Process(child);
    let text = eventually("the cluster has started", || {
        let ended = process.0.try_wait().expect("it is our child");
        assert!(ended.is_none(), "{command:?} ended\n{}{}", read("stdout"), read("stderr"));
        let text = read("stdout");
        if done(&text) { Ok(text) } else { Err(read("stderr")) }
    });
    (process, text)
}

/// A `snowglobe` process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// One that a test has started itself.
    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }

    /// Asks it to end with this signal, and tells how it did.
    #[track_caller]
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        tools::signal(self.0.id(), signal);
        eventually("the process has ended", || {
            let ended = self.0.try_wait().expect("it is our child");
            ended.ok_or_else(|| format!("process {} runs", self.0.id()))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The items of a list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// The names in a list, sorted.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<String> = items(list).map(name).collect();
    names.sort();
    names
}
