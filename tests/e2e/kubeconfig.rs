//! A cluster's entry in a kubeconfig that its user has already.

use std::{fs, path::Path, process::Command};

use crate::{
    cluster::Cluster,
    place::Place,
    tools::{self, Ran, Tool, can_use},
};

const THEIRS: &str = "\
# mine
apiVersion: v1
kind: Config
clusters:
- name: prod # do not touch
  cluster: {server: \"https://prod.invalid\", insecure-skip-tls-verify: true}
contexts:
- context:
    cluster: prod
    user: admin
    namespace: \"shop\"
  name: prod
current-context: prod # really
users:
- name: admin
  user:
    token: secret
x-unknown: [1, 2]
";

/// With nothing but the file to find a cluster by.
fn with_config(place: &Place, mut command: Command, config: &Path, arguments: &str) -> Ran {
    command.args(arguments.split_whitespace()).env("KUBECONFIG", config);
    command.env("HOME", place.home()).env_remove("SNOWGLOBE_DATA_DIR");
    tools::run(command)
}

fn kubectl(place: &Place, config: &Path, arguments: &str) -> Ran {
    with_config(place, Tool::Kubectl.command(), config, arguments)
}

#[test]
fn two_clusters_join_the_user_s_own_file_at_once() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let (place, other_place) = (Place::new(), Place::new());
    let config = place.file("config", THEIRS);
    let flag = format!("--kubeconfig={}", config.display());
    let settings = other_place.file("settings.yaml", "store: memory\nswitch-context: true\n");
    let (mut first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| Cluster::start_at(place, &["--store=memory", &flag]));
        let mut up = other_place.snowglobe("up");
        up.args([&flag, "--config"]).arg(&settings).env("SNOWGLOBE_CONTEXT", "second");
        let second = Cluster::by_command(other_place, up);
        (first.join().expect("it starts"), second)
    });
    let text = fs::read_to_string(&config).expect("it is UTF-8");
    // Every line of theirs is there, in order.
    let mut lines = text.lines();
    let theirs = THEIRS.replace("current-context: prod #", "current-context: second #");
    for line in theirs.lines() {
        assert!(lines.any(|other| other == line), "{line}\nis not in, or not in order:\n{text}");
    }
    let contexts = kubectl(&first.place, &config, "config get-contexts -o name").succeeded();
    let mut contexts: Vec<_> = contexts.lines().collect();
    contexts.sort_unstable();
    assert_eq!(contexts, ["prod", "second", "snowglobe"]);
    for (context, cluster) in [("snowglobe", &first), ("second", &second)] {
        let line = format!("get endpoints kubernetes --context={context}");
        let port = cluster.line.api.rsplit(':').next().expect("a port");
        let shown = kubectl(&first.place, &config, &line).succeeded();
        assert!(shown.contains(port), "{context}: {shown}");
    }
    // kubectl can go on with what was written.
    kubectl(&first.place, &config, "config use-context snowglobe").succeeded();
    kubectl(&first.place, &config, "create configmap here").succeeded();
    first.kubectl("get configmap here --context=snowglobe");
    let snowglobe = |arguments: &str| {
        let paths = format!("{}/missing:{}", first.place.home().display(), config.display());
        with_config(&first.place, tools::snowglobe(), Path::new(&paths), arguments)
    };
    assert!(snowglobe("get cm").succeeded().contains("here"));
    assert!(!snowglobe("get cm --context second").succeeded().contains("here"));
    first.stop();
    drop(second);
    let text = fs::read_to_string(&config).expect("it is UTF-8");
    assert_eq!(text.matches("name: snowglobe").count(), 3, "the entry stays: {text}");
    assert!(!config.with_extension("lock").exists());
}

#[test]
fn what_is_no_kubeconfig_is_left_alone_and_nothing_starts() {
    let place = Place::new();
    let list = place.file("list.json", "[{\"kind\": \"Config\"}]");
    let pod = place.file("pod.yaml", "apiVersion: v1\nkind: Pod\n");
    let binary = place.home().join("binary");
    fs::write(&binary, [0, 159, 146, 150]).expect("it can be written");
    let directory = place.home().join("directory");
    fs::create_dir(&directory).expect("it can be made");
    for (command, path, why) in [
        ("up", &list, "it is no YAML map"),
        ("up", &pod, "its kind is Pod, not Config"),
        ("up", &binary, "it is not text in UTF-8"),
        ("up", &directory, "it is a directory"),
        ("demo", &pod, "its kind is Pod, not Config"),
    ] {
        let before = fs::read(path).ok();
        let mut up = place.snowglobe(command);
        up.arg("--kubeconfig").arg(path);
        let error = tools::run(up).failed();
        let file = path.display().to_string();
        for part in [why, &file, "was left as it is", "choose another file with --kubeconfig"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(fs::read(path).ok(), before);
        assert!(!place.data().exists(), "nothing was started");
    }
}
