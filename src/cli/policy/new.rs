//! `snowglobe policy new`: writes a project of a small policy that works, to change.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use crate::cli::{
    Output,
    policy::{self, World, language::Language},
    print,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Name of the policy: a-z, 0-9 and '-'
    name: String,
    /// Language of the project
    #[arg(short, long)]
    lang: Language,
    /// What the policy decides
    #[arg(long, default_value = "load-balancer")]
    world: World,
    /// Directory of the project; it must be empty or not exist [default: NAME]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { name, lang, world, dir, output } = arguments;
    policy::check_name(name)?;
    let directory = dir.clone().unwrap_or_else(|| PathBuf::from(name));
    refuse_used(&directory)?;
    for file in lang.project(name, *world) {
        let path = directory.join(&file.path);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let source = directory.join(lang.source(name));
    let module = directory.join(lang.module(name));
    if *output == Some(Output::Json) {
        let line = json!({"directory": directory, "language": lang.to_string(), "world": world.name(),
            "source": source, "module": module});
        return print(&format!("{line}\n"));
    }
    print(&said(arguments, &directory, &source, &module))
}

/// What was done, and what to do next.
fn said(arguments: &Arguments, directory: &Path, source: &Path, module: &Path) -> String {
    let Arguments { name, lang, world, .. } = arguments;
    let (directory, source, module) = (directory.display(), source.display(), module.display());
    let what = match world {
        World::LoadBalancer => "a least-connections scheduler",
        World::Topology => "a topology policy that keeps traffic in the client's zone",
    };
    let build = match lang {
        Language::Wat => String::new(),
        _ => format!("  snowglobe policy build {directory}    # needs {}\n", lang.needs()),
    };
    format!(
        "{source} is {what} in {lang}. Change it, then:\n\n{build}  snowglobe policy test {module}\n  \
         snowglobe policy load {module} --name {name} --service NAMESPACE/NAME\n"
    )
}

fn refuse_used(directory: &Path) -> anyhow::Result<()> {
    let used = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot use {}", directory.display()));
        }
    };
    if used {
        bail!(
            "{} exists and is not empty, and nothing is overwritten: choose another place with --dir DIR",
            directory.display()
        );
    }
    Ok(())
}
