//! `snowglobe policy load`: puts a module into the running cluster. One of that name is replaced under traffic.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    cli::{
        Output,
        client::{self, ApiError, Cluster, Flags},
        policy::{self, World, check_name, grouped, services, test, text},
        print,
    },
    policy::wasm::{Engine, digest},
};

#[derive(Args)]
pub(super) struct Arguments {
    /// The module: binary (.wasm) or text (.wat)
    file: PathBuf,
    /// Name of the policy in the cluster; the module of an existing one is replaced under traffic
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Make this Service use it
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    service: Option<String>,
    /// File with the text that the module gets as its configuration [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What happens to connections when the module fails
    #[arg(long, default_value = "fallback")]
    on_failure: OnFailure,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// Round robin picks
    Fallback,
    /// They are reset
    Reject,
    /// The module before this one picks
    LastGood,
}

/// Larger modules go to the data directory as files. Their base64 is within the 2 MiB that the API takes.
const INLINE_BYTES_MAX: usize = 3 << 19;
/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A component with a language's runtime takes seconds to compile; on a busy machine, many.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { file, name, service, config, on_failure, output, cluster: flags } = arguments;
    check_name(&name)?;
    let bytes = policy::read(&file)?;
    let config = policy::read_config(config.as_deref())?;
    // What cannot be loaded must not replace what is.
    let engine = Engine::new(None)?;
    let compiled = test::compile(&engine, &bytes, None);
    let (world, _) = compiled.map_err(|error| test::refused(&file, &error))?;
    let cluster = flags.connect().await?;
    let (module, kept) = module(&flags, &name, &bytes)?;
    let mut spec = json!({"module": module, "onFailure": on_failure.word()});
    if let Some(config) = config {
        spec["config"] = config.into();
    }
    let generation = write(&cluster, world, &name, spec).await?;
    let status = ready(&cluster, world, &name, generation).await?;
    if let Some(kept) = &kept {
        kept.remove_others();
    }
    let service = match service {
        Some(service) => Some(services::choose(&cluster, &service, world, &name).await?),
        None => None,
    };
    let users = services::users(&cluster, world, &name).await?;
    let line = match output {
        Some(Output::Json) => {
            let result = json!({"kind": world.kind().kind, "name": name, "action": "loaded",
                "digest": status["digest"], "bytes": bytes.len(), "compileMs": status["compileMs"],
                "service": service, "services": users});
            format!("{result}\n")
        }
        None => said(world, &name, &status, &bytes, &users),
    };
    print(&line)
}

fn said(world: World, name: &str, status: &Value, bytes: &[u8], users: &[String]) -> String {
    let kind = &world.kind().kind;
    let compiled = status["compileMs"].as_f64().unwrap_or_default();
    let size = grouped(bytes.len() as u64);
    let used = if users.is_empty() {
        format!(
            "no Service uses it yet: snowglobe policy load ... --service NAME, or kubectl annotate --overwrite service \
             NAME {}={name}",
            world.annotation()
        )
    } else {
        format!("used by {}, from the next connection on", users.join(", "))
    };
    format!(
        "{kind} {name} is loaded: {size} bytes, compiled in {compiled:.1} ms\n{}\n{used}\n",
        text(status, "/digest")
    )
}

impl OnFailure {
    fn word(self) -> &'static str {
        match self {
            Self::Fallback => "Fallback",
            Self::Reject => "Reject",
            Self::LastGood => "LastGood",
        }
    }
}

/// A module in the `policies` directory of the cluster.
struct Kept {
    directory: PathBuf,
    file: String,
    policy: String,
}

/// What `spec.module` says. A module that is too large for an object becomes a file of the data directory.
fn module(flags: &Flags, name: &str, bytes: &[u8]) -> anyhow::Result<(Value, Option<Kept>)> {
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok((json!({"inline": STANDARD.encode(bytes)}), None));
    }
    let directory = flags.data_directory()?.join("policies");
    if !directory.is_dir() {
        bail!(
            "{} bytes are too many for an object, and there is no directory {} to put the file into: name the data \
             directory of the cluster with --data-dir",
            grouped(bytes.len() as u64),
            directory.display()
        );
    }
    // By its digest: another module has another path, so that its status cannot be taken for that of this one.
    let digest = digest(bytes);
    let start = digest.trim_start_matches("sha256:").get(..16).unwrap_or_default();
    let kept = Kept { directory, file: format!("{name}.{start}.wasm"), policy: name.to_owned() };
    kept.write(bytes)?;
    Ok((json!({"path": kept.file}), Some(kept)))
}

impl Kept {
    fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.directory.join(&self.file);
        let write = || -> anyhow::Result<()> {
            let file = tempfile::NamedTempFile::new_in(&self.directory)?;
            fs::write(file.path(), bytes)?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes the files of earlier loads under this name. One that cannot be removed takes some space.
    fn remove_others(&self) {
        for file in kept_files(&self.directory, &self.policy) {
            if file.file_name().is_none_or(|name| name != &*self.file) {
                fs::remove_file(file).ok();
            }
        }
    }
}

/// The files of loads under a name.
pub(super) fn kept_files(directory: &Path, policy: &str) -> Vec<PathBuf> {
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = name.strip_prefix(policy).and_then(|rest| rest.strip_prefix('.'));
        let digest = digest.and_then(|rest| rest.strip_suffix(".wasm")).unwrap_or_default();
        digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_kept).collect()
}

/// Creates the policy, or replaces the spec of the one that is there. Gives the generation of the spec.
async fn write(cluster: &Cluster, world: World, name: &str, spec: Value) -> anyhow::Result<i64> {
    let kind = world.kind();
    let one = client::path(kind, None, Some(name));
    let (method, path, document) = match find(cluster, &one).await? {
        None => {
            let (api_version, kind) = (kind.api_version(), &kind.kind);
            let metadata = json!({"name": name});
            let document = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
            (Method::POST, client::path(world.kind(), None, None), document)
        }
        Some(mut present) => {
            present["spec"] = spec;
            (Method::PUT, one, present)
        }
    };
    let headers = [("content-type", "application/json")];
    let path = format!("{path}?fieldManager=snowglobe-policy&fieldValidation=Strict");
    let written = cluster.request(method, &path, &headers, document.to_string().into_bytes()).await;
    let written = written.with_context(|| format!("cannot load the {} {name}", kind.kind))?;
    written["metadata"]["generation"].as_i64().context("the cluster gave the policy no generation")
}

/// An object; `None` if there is none.
async fn find(cluster: &Cluster, path: &str) -> anyhow::Result<Option<Value>> {
    match cluster.request(Method::GET, path, &[], Vec::new()).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.downcast_ref().is_some_and(|ApiError { code, .. }| *code == 404) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Waits until the cluster has loaded the module, and gives the status. Fails if it was refused.
async fn ready(
    cluster: &Cluster,
    world: World,
    name: &str,
    generation: i64,
) -> anyhow::Result<Value> {
    let path = client::path(world.kind(), None, Some(name));
    let began = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < PATIENCE {
        looks.tick().await;
        let policy = cluster.request(Method::GET, &path, &[], Vec::new()).await?;
        let status = &policy["status"];
        if status["observedGeneration"].as_i64().is_none_or(|observed| observed < generation) {
            continue;
        }
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.iter().find(|condition| condition["type"] == "Ready");
        match condition.and_then(|condition| condition["status"].as_str()) {
            Some("True") => return Ok(status.clone()),
            Some("False") => {
                let why = condition.map_or("", |condition| text(condition, "/message"));
                bail!("the cluster refused the {} {name}: {why}", world.kind().kind);
            }
            _ => {}
        }
    }
    bail!(
        "the cluster has not loaded the {} {name} after {} s; `snowglobe policy list` shows what became of it",
        world.kind().kind,
        PATIENCE.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_files_are_those_of_loads() {
        let place = tempfile::tempdir().unwrap();
        let kept = |file: &str| Kept {
            directory: place.path().to_owned(),
            file: file.to_owned(),
            policy: "mine".to_owned(),
        };
        let others = ["mine.wasm", "mine.wat", "mine.2.wasm", "mine-2.0123456789abcdef.wasm"];
        for file in others.iter().chain(&["mine.0123456789abcdef.wasm"]) {
            fs::write(place.path().join(file), "x").unwrap();
        }
        let new = kept("mine.00000000000000ff.wasm");
        new.write(b"module").unwrap();
        new.remove_others();
        let files = kept_files(place.path(), "mine");
        assert_eq!(files, [place.path().join("mine.00000000000000ff.wasm")]);
        assert_eq!(fs::read(&files[0]).unwrap(), b"module");
        for file in others {
            assert!(place.path().join(file).is_file(), "{file} is somebody else's");
        }
    }
}
