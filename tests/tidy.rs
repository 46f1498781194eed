//! House rules a compiler cannot check: the layering of `src/`, file size, file names, module docs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules of the crate, lowest first, each with the modules it may import.
/// An entry may name only entries above it, so a cycle cannot be written down.
const LAYERS: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("descriptors", &[]),
    ("admission", &["descriptors"]),
    ("http_server", &["admission", "descriptors"]),
    ("model", &[]),
    ("store", &[]),
    ("registry", &["model", "store"]),
    ("route", &["model"]),
    ("policy", &["route"]),
    ("lab", &["route", "policy"]),
    ("proxy", &["admission", "descriptors", "route", "policy"]),
    ("dns", &["admission", "descriptors", "route"]),
    ("runtime", &["admission", "descriptors", "model"]),
    ("node", &["model", "registry", "runtime"]),
    ("controllers", &["model", "registry", "route", "policy", "dns", "proxy"]),
    (
        "api",
        &[
            "admission",
            "descriptors",
            "http_server",
            "model",
            "registry",
            "node",
            "route",
            "policy",
            "proxy",
            "dns",
            "lab",
        ],
    ),
    (
        "dashboard",
        &[
            "admission",
            "descriptors",
            "model",
            "registry",
            "route",
            "policy",
            "proxy",
            "dns",
            "lab",
        ],
    ),
    ("config", &["store", "policy", "proxy", "dns", "runtime", "node", "api", "dashboard"]),
    (
        "app",
        &[
            "telemetry",
            "descriptors",
            "admission",
            "http_server",
            "model",
            "store",
            "registry",
            "route",
            "policy",
            "lab",
            "proxy",
            "dns",
            "runtime",
            "node",
            "controllers",
            "api",
            "dashboard",
            "config",
        ],
    ),
    ("cli", &["telemetry", "model", "route", "policy", "lab", "config", "app"]),
];
const LINES_MAX: usize = 600;
const VAGUE_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "shared", "types"];

#[test]
fn layers_are_ordered() {
    let mut seen = BTreeSet::new();
    for (module, imports) in LAYERS {
        for import in *imports {
            assert!(
                seen.contains(import),
                "`{module}` may not list `{import}`: it is not above it"
            );
        }
        seen.insert(*module);
    }
}

#[test]
fn sources_are_tidy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for path in rust_files(&src) {
        let text = fs::read_to_string(&path).expect("source file is UTF-8");
        let relative = path.strip_prefix(&src).expect("listed under src").display().to_string();
        check_file(&relative, &text, &mut faults);
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn check_file(relative: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{relative}: {lines} lines, at most {LINES_MAX}"));
    }
    if !text.starts_with("//!") && !relative.ends_with("tests.rs") {
        faults.push(format!("{relative}: the first line must be a `//!` module doc"));
    }
    for part in relative.trim_end_matches(".rs").split('/') {
        if VAGUE_NAMES.contains(&part) {
            faults.push(format!("{relative}: `{part}` says nothing; name the thing"));
        }
    }
    if text.contains("super::super") {
        faults.push(format!("{relative}: write `crate::...`, not `super::super`"));
    }
    let module = relative.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if matches!(module, "main" | "lib") {
        return;
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        faults.push(format!("{relative}: `{module}` has no entry in LAYERS"));
        return;
    };
    for import in crate_imports(text) {
        if import != module && !allowed.contains(&import.as_str()) {
            faults.push(format!("{relative}: `{module}` may not import `{import}`"));
        }
    }
}

/// First path segments after `crate::`, also inside `use crate::{a, b::{c, d}}`.
fn crate_imports(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(identifier(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut expect_name = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expect_name = true,
                c if expect_name && (c.is_alphanumeric() || c == '_') => {
                    found.insert(identifier(&list[i..]));
                    expect_name = false;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
