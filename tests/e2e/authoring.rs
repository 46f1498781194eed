//! Policies of one's own with `snowglobe policy`: a project in each language that builds with the tools of that language,
//! keeps its contract, and serves; and what the commands say when something is wrong.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    http::pod_at,
    place::Place,
    policies::Web,
    tools::{self, Ran, Tool, can_use, eventually, leave_out, wanted},
    traffic::tally,
};

/// Where `tests/run --install` has put compilers and the packages of Node.js and Python.
const TOOLCHAINS: &str = "SNOWGLOBE_TEST_TOOLCHAINS";
/// Compilers share two cores with all other tests.
const BUILD_MAX: Duration = Duration::from_secs(600);

/// A directory to write projects in, and the tools to build them with.
struct Desk {
    place: Place,
    toolchains: PathBuf,
}

impl Desk {
    /// `None` if the tools are not there, which was said then.
    fn new() -> Option<Self> {
        let toolchains = env::var_os(TOOLCHAINS).map(PathBuf::from).filter(|path| path.is_dir());
        if toolchains.is_none() {
            leave_out("toolchains of the languages", "`tests/run --install` installs them");
        }
        Some(Self { place: Place::new(), toolchains: toolchains? })
    }

    /// `snowglobe policy ...` in the directory.
    fn policy(&self, arguments: &[&str]) -> Command {
        let mut command = policy(self.place.home(), arguments);
        let tools = |path: &str| self.toolchains.join(path);
        let own = env::var_os("PATH").unwrap_or_default();
        let paths = [tools("python/bin"), tools("python/go/bin")];
        let paths = paths.into_iter().chain(env::split_paths(&own));
        command.env("PATH", env::join_paths(paths).expect("no path has a colon"));
        command.env("PYTHONPATH", tools("python"));
        for (variable, cache) in [
            ("GOCACHE", "cache/go"),
            ("GOPATH", "cache/go-path"),
            ("ZIG_GLOBAL_CACHE_DIR", "cache/zig"),
            ("ZIG_LOCAL_CACHE_DIR", "cache/zig"),
            ("CARGO_TARGET_DIR", "cache/rust"),
        ] {
            command.env(variable, tools(cache));
        }
        let rust = tools("rust");
        if rust.is_dir() {
            // Without the standard library for WASM: a compiler whose library is there as source.
            command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_UNSTABLE_BUILD_STD", "core,panic_abort");
            command.env("RUSTC", rust.join("usr/bin/rustc"));
            command.env("LD_LIBRARY_PATH", rust.join("usr/lib/x86_64-linux-gnu"));
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", rust.join("rust-lld"));
        }
        command
    }

    /// Makes a project and builds it; gives the module's path.
    #[track_caller]
    fn build(&self, name: &str, language: &str, world: &str) -> PathBuf {
        let arguments = ["new", name, "--lang", language, "--world", world, "-o", "json"];
        let new = parsed(tools::run(self.policy(&arguments)));
        let project = self.place.home().join(name);
        assert!(self.place.home().join(new["source"].as_str().unwrap()).is_file(), "{new}");
        if project.join("package.json").is_file() {
            let packages = self.toolchains.join("node/node_modules");
            std::os::unix::fs::symlink(packages, project.join("node_modules")).unwrap();
        }
        let build = self.policy(&["build", name, "-o", "json"]);
        let built = parsed(tools::run_for(build, BUILD_MAX));
        assert!(built["digest"].as_str().unwrap().starts_with("sha256:"), "{built}");
        self.place.home().join(built["module"].as_str().unwrap())
    }

    /// What `policy test` finds; it must find no fault.
    #[track_caller]
    fn test(&self, module: &Path) -> Value {
        let test = self.policy(&["test", &module.display().to_string(), "-o", "json"]);
        let report = parsed(tools::run_for(test, BUILD_MAX));
        let checks = report["checks"].as_array().unwrap();
        let failed: Vec<&Value> = checks.iter().filter(|one| one["verdict"] == "failed").collect();
        assert!(failed.is_empty() && report["passed"] == true, "{failed:?}");
        report
    }

    /// A least-connections scheduler in this language works. Gives its module.
    #[track_caller]
    fn scheduler(&self, language: &str) -> PathBuf {
        let module = self.build("least", language, "load-balancer");
        let report = self.test(&module);
        assert_eq!(report["world"], "load-balancer", "{report}");
        // The large endpoints serve most, the slow one least: it is not round robin.
        let picks = |at: usize| report["workload"]["endpoints"][at]["picks"].as_u64().unwrap();
        assert!(picks(7) > picks(0) && picks(9) < picks(0), "{}", report["workload"]);
        let p99 = |of: &Value| of["p99Us"].as_u64().unwrap();
        let workload = &report["workload"];
        assert!(p99(&workload["times"]) * 4 < p99(&workload["roundRobin"]), "{workload}");
        module
    }

    /// A topology policy in this language keeps clients in their zone.
    #[track_caller]
    fn topology(&self, language: &str) {
        let module = self.build("near", language, "topology");
        let report = self.test(&module);
        assert_eq!(report["world"], "topology", "{report}");
        let seen = |at: usize| &report["places"][at]["endpoints"];
        assert_eq!(seen(1), &json!([1, 4, 7]), "clients in zone 1: {report}");
        assert_eq!(seen(4).as_array().unwrap().len(), 10, "in a zone without endpoints: {report}");
    }
}

fn policy(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = tools::snowglobe();
    command.arg("policy").args(arguments).current_dir(directory);
    command
}

#[track_caller]
fn parsed(ran: Ran) -> Value {
    let text = ran.succeeded();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Web {
    /// `snowglobe policy ...` at the cluster.
    #[track_caller]
    fn policy(&self, arguments: &str) -> Ran {
        let mut command = self.cluster.place.snowglobe("policy");
        command.args(arguments.split_whitespace()).current_dir(tools::root());
        tools::run_for(command, BUILD_MAX)
    }

    #[track_caller]
    fn policy_json(&self, arguments: &str) -> Value {
        parsed(self.policy(&format!("{arguments} -o json")))
    }

    /// What `policy list` says of a policy.
    #[track_caller]
    fn listed(&self, name: &str) -> Value {
        let list = self.policy_json("list");
        let found = list.as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {list}")).clone()
    }
}

#[test]
fn webassembly_text() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("wat");
    desk.topology("wat");
}

#[test]
fn c() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("c");
    desk.topology("c");
}

#[test]
fn zig() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("zig");
    desk.topology("zig");
}

#[test]
fn assemblyscript() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("assemblyscript");
    desk.topology("assemblyscript");
}

#[test]
fn rust() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("rust");
    desk.topology("rust");
}

#[test]
fn go() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("go");
    desk.topology("go");
}

#[test]
#[ignore = "its runtime takes minutes to compile: tests/run --long"]
fn python() {
    let Some(desk) = Desk::new() else { return };
    desk.scheduler("python");
}

/// And one that is too large for an object: it becomes a file of the data directory.
#[test]
#[ignore = "its runtime takes minutes to compile: tests/run --long"]
fn javascript_serves_as_a_component() {
    let Some(desk) = Desk::new() else { return };
    let module = desk.scheduler("javascript");
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    let module = module.display();
    let loaded = web.policy_json(&format!("load {module} --name least --service web"));
    assert_eq!(loaded["services"], json!(["default/web"]), "{loaded}");
    let spec = &web.cluster.json("get loadbalancerpolicy least")["spec"]["module"];
    let file = web.cluster.place.data().join("policies").join(spec["path"].as_str().unwrap());
    assert!(file.is_file(), "{spec}");
    // It starts at the first connection; until then, round robin picks.
    eventually("the component picks", || {
        pod_at(&web.address, 8080);
        let listed = web.listed("least");
        let picks = listed["stats"]["pickNanoseconds"]["mean"].as_f64();
        wanted(picks.is_some() && listed["stats"]["form"] == "component", listed)
    });
    web.policy("unload least").succeeded();
    assert!(!file.exists(), "unloaded, and its file is gone");
}

#[test]
fn a_module_is_loaded_swapped_under_load_and_unloaded() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let web = Web::start();
    let first = web.policy_json("load tests/policies/first.wat --name mine --service default/web");
    assert_eq!(loaded_parts(&first), ("LoadBalancerPolicy", "loaded"), "{first}");
    let picks: Vec<String> = (0..6).map(|_| pod_at(&web.address, 8080)).collect();
    assert_eq!(tally(&picks).len(), 1, "always the first: {picks:?}");
    let listed = web.listed("mine");
    assert_eq!(listed["digest"], first["digest"]);
    assert_eq!((&listed["ready"], &listed["services"]), (&json!("True"), &json!(["default/web"])));
    assert!(listed["stats"]["picks"].as_u64().unwrap() >= 6, "{listed}");

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
        for module in ["last", "first", "last"] {
            let loaded = web.policy(&format!("load tests/policies/{module}.wat --name mine"));
            if loaded.code != Some(0) {
                done.store(true, Ordering::Relaxed);
            }
            loaded.succeeded();
        }
        done.store(true, Ordering::Relaxed);
        assert!(traffic.join().expect("every connection was served") > 0);
    });
    let last: Vec<String> = (0..6).map(|_| pod_at(&web.address, 8080)).collect();
    assert_eq!(tally(&last).len(), 1, "always the last: {last:?}");
    assert_ne!(last[0], picks[0]);

    let refused = web.policy("load tests/policies/traps.wat --name mine").failed();
    assert!(refused.contains("mine") && refused.contains("unreachable"), "{refused}");
    assert_eq!(pod_at(&web.address, 8080), last[0], "what was loaded goes on");

    let unloaded = web.policy("unload mine").succeeded();
    assert!(unloaded.contains("still named by default/web"), "{unloaded}");
    let after: Vec<String> = (0..6).map(|_| pod_at(&web.address, 8080)).collect();
    assert_eq!(tally(&after).len(), 3, "round robin: {after:?}");
    let refused = web.policy("unload mine").failed();
    assert!(refused.contains("there is no policy \"mine\""), "{refused}");
    let table = web.policy("list -o wide").succeeded();
    let (header, rr) =
        (table.lines().next().unwrap(), table.lines().find(|line| line.starts_with("rr ")));
    assert!(header.contains("SERVICES") && header.contains("DIGEST"), "{table}");
    assert!(rr.is_some_and(|line| line.contains("load-balancer")), "{table}");
}

fn loaded_parts(loaded: &Value) -> (&str, &str) {
    (loaded["kind"].as_str().unwrap_or_default(), loaded["action"].as_str().unwrap_or_default())
}

#[test]
fn what_is_wrong_is_said_with_the_remedy() {
    let place = Place::new();
    let failed = |arguments: &[&str]| tools::run(policy(place.home(), arguments)).failed();
    let refused = failed(&["new", "My_Policy", "--lang", "c"]);
    assert!(refused.contains("has 'M' in it") && refused.contains("DNS label"), "{refused}");
    tools::run(policy(place.home(), &["new", "mine", "--lang", "go"])).succeeded();
    let refused = failed(&["new", "mine", "--lang", "wat"]);
    assert!(refused.contains("nothing is overwritten") && refused.contains("--dir"), "{refused}");
    let refused = failed(&["build", "."]);
    assert!(refused.contains("no policy's project") && refused.contains("policy new"), "{refused}");
    let mut build = policy(place.home(), &["build", "mine"]);
    build.env("PATH", place.home());
    let refused = tools::run(build).failed();
    assert!(refused.contains("no `go` on the PATH") && refused.contains("go.dev"), "{refused}");

    let module = |text: &str| place.file("module.wat", text).display().to_string();
    let cases = [
        ("(module)", "does not export `pick`", "export_name"),
        (r#"(module (func (export "pick")))"#, "must be (type (func", "policy.wit"),
        (
            r#"(module (import "env" "f" (func)) (func (export "pick") (param i64 i32 i32) (result i32) unreachable))"#,
            "`f` from `env`",
            "declared and defined nowhere",
        ),
    ];
    for (text, reason, remedy) in cases {
        let refused = failed(&["test", &module(text)]);
        assert!(refused.contains(reason) && refused.contains(remedy), "{refused}");
    }
    let broken =
        r#"(module (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 1)))"#;
    let ran = tools::run(policy(place.home(), &["test", &module(broken)]));
    assert!(ran.stdout.contains("FAILED    one endpoint"), "{}", ran.stdout);
    assert!(ran.stdout.contains("chose endpoint 1 of 1"), "{}", ran.stdout);
    assert!(ran.failed().contains("of "), "how many checks failed");
}
