//! The real program on a large store: how long until it is ready, and the memory that it takes.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use snowglobe::store::{Expect, Sled};

use crate::{OBJECT_BYTES, directory, median, writes::put};

const OBJECTS: [usize; 2] = [10_000, 100_000];
const ROUNDS: usize = 5;
const WRITERS: usize = 256;
/// Memory is read once start-up has settled.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn run() {
    println!("\nstart on a store of ConfigMaps of 1.5 KB, {ROUNDS} rounds");
    for objects in OBJECTS {
        let dir = directory();
        let data = dir.path().join("data");
        // Once empty, so that all that a cluster has by itself is there.
        drop(Up::start(&data));
        fill(&data, objects).await;
        let (mut ready, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let up = Up::start(&data);
            ready.push(up.ready_ms);
            tokio::time::sleep(SETTLE).await;
            memory.push(up.resident_mib());
        }
        println!(
            "  {objects:6} objects: ready after {:5.0} ms, resident {:5.0} MiB",
            median(ready),
            median(memory)
        );
    }
}

/// Writes the objects as the API server stores them.
async fn fill(data: &Path, objects: usize) {
    let store = Arc::new(Sled::open(data).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for nth in (writer..objects).step_by(WRITERS) {
                let key = format!("objects/configmaps./default/bench-{nth}");
                put(&*store, key, Expect::Absent, config_map(nth)).await;
            }
        });
    }
    writers.join_all().await;
}

fn config_map(nth: usize) -> bytes::Bytes {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": format!("bench-{nth}"), "namespace": "default",
        "uid": format!("00000000-0000-4000-8000-{nth:012}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "data": {"text": ""}});
    let mut random = rand::rng();
    let letters = OBJECT_BYTES - object.to_string().len();
    let text: String = (0..letters).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    object["data"]["text"] = text.into();
    object.to_string().into()
}

/// A running program.
struct Up {
    process: Child,
    ready_ms: f64,
}

impl Up {
    fn start(data: &Path) -> Self {
        let mut up = Command::new(env!("CARGO_BIN_EXE_snowglobe"));
        up.args(["up", "-o", "json", "--data-dir"]).arg(data);
        for listener in ["api", "dashboard", "dns", "metrics"] {
            up.arg(format!("--{listener}-listen=127.0.0.1:0"));
        }
        let log = File::create(data.with_extension("log")).unwrap();
        let mut process = up.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("{}", std::fs::read_to_string(data.with_extension("log")).unwrap())
        });
        Self { process, ready_ms: line["ready_ms"].as_f64().unwrap() }
    }

    fn resident_mib(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }
}
