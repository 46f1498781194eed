//! Compiles the built-in policies (`policies/*.wat`) ahead of time, so that start-up does not pay for it, and writes
//! a table of them for `src/policy/wasm/builtin.rs`.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use wasmtime::Engine;

mod engine;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=policies");
    // New files of the dashboard are found only when the crate is compiled again.
    println!("cargo:rerun-if-changed=web");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // An explicit target switches off everything that only this machine's CPU can do.
    let target = env::var("TARGET")?;
    let engine = engine::config(Some(&target)).and_then(|config| Engine::new(&config));
    if let Err(error) = &engine {
        println!("cargo:warning=policies are compiled at start-up on {target}: {error:#}");
    }
    let mut table = String::from("&[\n");
    for path in sources(Path::new("policies"))? {
        let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("not a UTF-8 name")?;
        let source = fs::read(&path)?;
        // Without code for a foreign processor, the program compiles the text.
        let code =
            engine.as_ref().map_or(Ok(Vec::new()), |engine| engine.precompile_module(&source));
        let code = code.map_err(|error| format!("{}: {error:#}", path.display()))?;
        fs::write(out.join(format!("{name}.wat")), &source)?;
        fs::write(out.join(format!("{name}.cwasm")), code)?;
        writeln!(
            table,
            "    Builtin {{ name: {name:?}, source: include_bytes!(\"{name}.wat\"), \
             code: include_bytes!(\"{name}.cwasm\") }},"
        )?;
    }
    table.push_str("]\n");
    fs::write(out.join("builtin_policies.rs"), table)?;
    Ok(())
}

/// All `.wat` files of a folder, by name.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
