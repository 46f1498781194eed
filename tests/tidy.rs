//! House rules a compiler cannot check: the layering of `src/`, circles of files, file size, file names, module docs.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    ("pki", &[]),
    ("model", &[]),
    ("schema", &["model"]),
    ("store", &[]),
    ("registry", &["model", "schema", "store"]),
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
            "pki",
            "model",
            "schema",
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
            "http_server",
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
            "pki",
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

/// Files that import each other can only be understood together: what both need belongs into a file below them.
#[test]
fn files_do_not_import_each_other() {
    let imports = imports_by_module();
    let mut faults = Vec::new();
    for circle in circles(&imports) {
        faults.push("these files import each other:".to_owned());
        for file in &circle {
            let others: Vec<&str> =
                imports[file].intersection(&circle).map(String::as_str).collect();
            faults.push(format!("    {file} imports {}", others.join(", ")));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn paths_are_written_out() {
    let text = "use crate::{a::{self, b::C, d as e}, f};\n// crate::no\nuse crate::g::*;\npub(in crate::h) x: crate::i::J::<K>,";
    let found: Vec<String> = crate_paths(text).into_iter().collect();
    assert_eq!(found, ["a", "a::b::C", "a::d", "f", "g", "i::J"]);
}

#[test]
fn circles_are_found() {
    let text = "a b\nb c\nc a\nd a\ne f\nf e\ng g";
    let mut imports = BTreeMap::<String, BTreeSet<String>>::new();
    for (from, to) in text.lines().filter_map(|line| line.split_once(' ')) {
        imports.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    let found: Vec<String> =
        circles(&imports).into_iter().map(|c| Vec::from_iter(c).concat()).collect();
    assert_eq!(found, ["abc", "ef"]);
}

/// By module that is a file, those that it imports by `crate::...`; tests are left out. What a front page takes from its
/// own files by `self::...` does not count: it stands for them.
fn imports_by_module() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    for path in rust_files(&src) {
        let relative = path.strip_prefix(&src).expect("listed under src").with_extension("");
        let parts: Vec<_> = relative.iter().filter_map(|part| part.to_str()).collect();
        if parts.contains(&"tests") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source file is UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        texts.insert(parts.join("::").trim_end_matches("::mod").to_owned(), code);
    }
    let file_of = |path: &str| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        let mut modules: Vec<&str> = ends.map(|end| &path[..end]).collect();
        modules.retain(|module| texts.contains_key(*module));
        modules.pop().map(str::to_owned)
    };
    let imports = |text: &String| crate_paths(text).iter().filter_map(|p| file_of(p)).collect();
    texts.iter().map(|(module, text)| (module.clone(), imports(text))).collect()
}

/// The largest sets in which each leads to each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|module| (module, reached_from(module, imports))).collect();
    let leads = |from: &String, to: &String| reached.get(from).is_some_and(|all| all.contains(to));
    let circle = |module: &String| -> BTreeSet<String> {
        imports.keys().filter(|m| leads(module, m) && leads(m, module)).cloned().collect()
    };
    imports.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

fn reached_from<'a>(
    module: &'a String,
    imports: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![module];
    while let Some(module) = open.pop() {
        open.extend(imports.get(module).into_iter().flatten().filter(|next| reached.insert(*next)));
    }
    reached
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

/// First path segments after `crate::`.
fn crate_imports(text: &str) -> BTreeSet<String> {
    crate_paths(text).iter().map(|path| identifier(path)).collect()
}

/// Every path after `crate::`, the lists of `use` written out: `{a, b::{c, d}}` is `a`, `b::c` and `b::d`.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, matched) in code.match_indices("crate::") {
        // Not who may see something.
        if !code[..at].ends_with("(in ") {
            write_out("", &code[at + matched.len()..], &mut found);
        }
    }
    found
}

/// Reads a path, or a list of paths, that follows another; gives what comes after it.
fn write_out<'a>(before: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = write_out(before, list, found);
            let end = list.find([',', '}']).unwrap_or(list.len());
            let more = list[end..].starts_with(',');
            list = list.get(end + 1..).unwrap_or_default();
            if !more {
                return list;
            }
        }
    }
    let name = identifier(text);
    let rest = &text[name.len()..];
    let path = match name.as_str() {
        "" | "self" => before.to_owned(),
        name if before.is_empty() => name.to_owned(),
        name => format!("{before}::{name}"),
    };
    match rest.strip_prefix("::") {
        Some(more) => write_out(&path, more, found),
        // After the last comma of a list nothing follows.
        None if path.is_empty() || rest.starts_with('}') && name.is_empty() => rest,
        None => {
            found.insert(path);
            rest
        }
    }
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
