//! `snowglobe policy build`: calls the tools of a project's language, and says what is missing.

use std::{
    env, fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        Output,
        policy::{
            self, World,
            language::{self, CLANG, Language, ZIG, ZIG_CC},
        },
        print,
    },
    policy::wasm,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Directory of the project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { dir, output } = arguments;
    let language = Language::of_project(dir).with_context(|| no_project(dir))?;
    let project = Project { directory: dir, language };
    let module = project.build().with_context(|| format!("cannot build {}", dir.display()))?;
    let bytes = policy::read(&module)?;
    let (size, digest) = (bytes.len(), wasm::digest(&bytes));
    let text = match output {
        Some(Output::Json) => {
            let language = language.to_string();
            let line =
                json!({"module": module, "language": language, "bytes": size, "digest": digest});
            format!("{line}\n")
        }
        None => {
            let size = policy::grouped(size as u64);
            format!("{}  {size} bytes  {digest}\n", module.display())
        }
    };
    print(&text)
}

fn no_project(directory: &Path) -> String {
    format!(
        "there is no policy's project in {}: no Cargo.toml, go.mod or package.json, and not exactly one file *.c, *.zig, \
         *.wat or *.py; `snowglobe policy new NAME --lang LANGUAGE` writes one",
        directory.display()
    )
}

struct Project<'a> {
    directory: &'a Path,
    language: Language,
}

impl Project<'_> {
    /// Makes the module and gives its path.
    fn build(&self) -> anyhow::Result<PathBuf> {
        match self.language {
            Language::Rust => self.cargo(),
            Language::AssemblyScript | Language::JavaScript => self.npm(),
            Language::Go => self.go(),
            Language::C => self.c(),
            Language::Zig => self.zig(),
            Language::Python => self.python(),
            Language::Wat => Ok(self.directory.join(format!("{}.wat", self.stem()?))),
        }
    }

    /// Cargo says itself where the module is: `CARGO_TARGET_DIR` and configuration files have a say in that.
    fn cargo(&self) -> anyhow::Result<PathBuf> {
        let mut cargo = self.command("cargo")?;
        cargo.args(["build", "--release", "--target", "wasm32-unknown-unknown"]);
        cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let ended = cargo.output().context("cannot run cargo")?;
        if !ended.status.success() {
            bail!(
                "cargo failed. If it misses the crate `core`: `rustup target add wasm32-unknown-unknown` installs that"
            );
        }
        let messages = String::from_utf8_lossy(&ended.stdout);
        let made = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact")
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|file| file.as_str().map(PathBuf::from))
            .rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        made.context("cargo made no module: Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`")
    }

    fn npm(&self) -> anyhow::Result<PathBuf> {
        let package = fs::read_to_string(self.directory.join("package.json"))?;
        let package: Value = serde_json::from_str(&package).context("package.json is no JSON")?;
        let name = package["name"].as_str().context("package.json has no name")?;
        if !self.directory.join("node_modules").is_dir() {
            bail!(
                "its packages are not installed: run `npm install` in {}",
                self.directory.display()
            );
        }
        let mut npm = self.command("npm")?;
        npm.args(["run", "--silent", "build"]);
        self.run(npm, self.output(name)?)
    }

    fn go(&self) -> anyhow::Result<PathBuf> {
        let text = fs::read_to_string(self.directory.join("go.mod"))?;
        let module = text.lines().find_map(|line| line.trim().strip_prefix("module "));
        let module = module.context("go.mod has no line `module NAME`")?.trim();
        let name = module.rsplit('/').next().unwrap_or(module);
        let output = self.output(name)?;
        let mut go = self.command("go")?;
        go.env("GOOS", "wasip1").env("GOARCH", "wasm");
        go.args(["build", "-buildmode=c-shared", "-o", &output, "."]);
        self.run(go, output)
    }

    fn c(&self) -> anyhow::Result<PathBuf> {
        let name = self.stem()?;
        let output = self.output(&name)?;
        let mut compiler = if is_clang_for_wasm() {
            let mut clang = self.command("clang")?;
            clang.args(CLANG);
            clang
        } else {
            let mut zig = self.zig_command()?;
            zig.arg("cc").args(ZIG_CC);
            zig
        };
        compiler.args(["-o", &output, &format!("{name}.c")]);
        self.run(compiler, output)
    }

    fn zig(&self) -> anyhow::Result<PathBuf> {
        let name = self.stem()?;
        let output = self.output(&name)?;
        let mut zig = self.zig_command()?;
        zig.args(["build-exe", &format!("{name}.zig")]).args(ZIG);
        zig.arg(format!("-femit-bin={output}"));
        self.run(zig, output)
    }

    fn python(&self) -> anyhow::Result<PathBuf> {
        let name = self.stem()?;
        let directory = fs::canonicalize(self.directory)?;
        let project = directory.file_name().and_then(|name| name.to_str()).unwrap_or(&name);
        let output = self.output(project)?;
        let source = fs::read_to_string(self.directory.join(format!("{name}.py")))?;
        let world = match source.contains("def score(") {
            true => World::Topology,
            false => World::LoadBalancer,
        };
        let mut tool = self.command("componentize-py")?;
        tool.args([
            "-d",
            "wit",
            "-w",
            world.name(),
            "componentize",
            "--stub-wasi",
            &name,
            "-o",
            &output,
        ]);
        self.run(tool, output)
    }

    /// The name without extension of the one source file.
    fn stem(&self) -> anyhow::Result<String> {
        let extension = self.language.extension().context("the language has many source files")?;
        let sources = language::sources(self.directory, extension);
        sources.into_iter().next().with_context(|| format!("there is no file *.{extension}"))
    }

    /// The module's path relative to the project, in a directory that exists.
    fn output(&self, name: &str) -> anyhow::Result<String> {
        let output = self.language.module(name);
        let path = self.directory.join(&output);
        let parent = path.parent().context("a module is in a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        Ok(output)
    }

    /// A command in the project's directory whose output goes to standard error, since ours is the result.
    fn command(&self, program: &str) -> anyhow::Result<Command> {
        if !is_on_path(program) {
            let needs = self.language.needs();
            bail!("there is no `{program}` on the PATH: {} needs {needs}", self.language);
        }
        let mut command = Command::new(program);
        command.current_dir(self.directory);
        command.stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
        Ok(command)
    }

    fn zig_command(&self) -> anyhow::Result<Command> {
        if is_on_path("zig") {
            return self.command("zig");
        }
        let mut probe = Command::new("python3");
        probe.args(["-m", "ziglang", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            let mut zig = self.command("python3")?;
            zig.args(["-m", "ziglang"]);
            return Ok(zig);
        }
        bail!("there is no compiler: {} needs {}", self.language, self.language.needs())
    }

    /// Runs a tool to its end; gives the module that it must have made.
    fn run(&self, mut command: Command, output: String) -> anyhow::Result<PathBuf> {
        let program = command.get_program().display().to_string();
        let path = self.directory.join(output);
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("{program} failed ({status}); what it said is above");
        }
        if !path.is_file() {
            bail!("{program} ended well but made no {}", path.display());
        }
        Ok(path)
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Not every clang can make modules, and its linker for them is a package of its own.
fn is_clang_for_wasm() -> bool {
    let targets = Command::new("clang").arg("--print-targets").output();
    let knows =
        targets.is_ok_and(|ended| String::from_utf8_lossy(&ended.stdout).contains("wasm32"));
    let linker = Command::new("clang").arg("--print-prog-name=wasm-ld").output();
    let linker = linker.map(|ended| String::from_utf8_lossy(&ended.stdout).trim().to_owned());
    knows && linker.is_ok_and(|linker| Path::new(&linker).is_file() || is_on_path(&linker))
}
