//! The ABI as guests see it, and guests that mean no good.

mod topology;
mod wasi;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Engine, Environment, Log, WasmPolicy, abi, trial_candidates, trial_flow};
use crate::policy::{
    Candidates, Failure, FailureKind, ModuleError, Policy, PolicyKind, UNKNOWN, flow_hash, identity,
};

const CONFIG: &str = "ab";
const NOW: u64 = 1_234;

/// SplitMix64's first number from seed 0, as its authors give it.
const FIRST_RANDOM: u64 = 0xe220_a839_7b1d_cdaf;

/// Three endpoints; number 1 has a value of its own for everything.
fn candidates() -> Candidates {
    let mut candidates = trial_candidates(3).to_vec();
    let one = &mut candidates[1];
    (one.zone, one.node, one.weight) = (11, UNKNOWN, 13);
    one.load.active.store(14, Ordering::Relaxed);
    one.load.failures.store(15, Ordering::Relaxed);
    one.load.latency.store(u64::MAX, Ordering::Relaxed);
    candidates.into()
}

/// One host function: name, parameters in WIT types, result, the call's arguments and what it must return.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str, u64);

fn table() -> Vec<Row> {
    let one = trial_candidates(3)[1].address;
    let hash = |fields| trial_flow(40_000).hash(fields);
    let (i, fields) = (&["u32"], &["u32"]);
    vec![
        ("zone", i, "u32", "(i32.const 1)", 11),
        ("node", i, "u32", "(i32.const 1)", u64::from(UNKNOWN)),
        ("weight", i, "u32", "(i32.const 1)", 13),
        ("weight", i, "u32", "(i32.const 0)", 1),
        ("active", i, "u32", "(i32.const 1)", 14),
        ("failures", i, "u32", "(i32.const 1)", 15),
        ("latency", i, "u32", "(i32.const 1)", u64::from(u32::MAX)),
        ("latency", i, "u32", "(i32.const 0)", 0),
        ("identity", i, "u64", "(i32.const 1)", identity(one)),
        ("flow-hash", fields, "u64", "(i32.const 1)", hash(flow_hash::SOURCE_ADDRESS)),
        ("flow-hash", fields, "u64", "(i32.const 31)", hash(31)),
        ("now", &[], "u64", "", NOW),
        ("random", &[], "u64", "", FIRST_RANDOM),
        ("config-length", &[], "u32", "", 2),
        ("config-byte", i, "u32", "(i32.const 1)", u64::from(b'b')),
    ]
}

fn core_type(wit: &str) -> &'static str {
    if wit == "u64" { "i64" } else { "i32" }
}

/// The body of a `pick` that answers 1 if the call returns what it must, else 0.
fn checking_pick(row: &Row) -> String {
    let (_, _, result, arguments, expected) = row;
    let result = core_type(result);
    format!(
        r#"(func (export "pick") (param i64 i32 i32) (result i32)
             ({result}.eq (call $f {arguments}) ({result}.const {expected})))"#
    )
}

fn core_import(row: &Row) -> String {
    let (name, parameters, result, ..) = row;
    let parameters = parameters.iter().map(|wit| core_type(wit)).collect::<Vec<_>>().join(" ");
    let result = core_type(result);
    format!(r#""{name}" (func $f (param {parameters}) (result {result}))"#)
}

fn core_guest(row: &Row) -> String {
    let (import, pick) = (core_import(row), checking_pick(row));
    format!(r#"(module (import "snowglobe:policy/host@0.1.0" {import}) {pick})"#)
}

fn component_guest(row: &Row) -> String {
    let (name, parameters, result, ..) = row;
    let parameters =
        parameters.iter().map(|wit| format!(r#"(param "i" {wit})"#)).collect::<String>();
    let core = format!(
        r#"(import "host" {}) {} (func (export "configure") (param i64 i32))"#,
        core_import(row),
        checking_pick(row)
    );
    let host = format!(
        r#"(import "snowglobe:policy/host@0.1.0" (instance $host
             (export "{name}" (func {parameters} (result {result})))))
           (core func $f (canon lower (func $host "{name}")))
           (core instance $needs (export "{name}" (func $f)))"#
    );
    component(&host, "(with \"host\" (instance $needs))", &core)
}

/// A component around a core module, following the world.
fn component(imports: &str, with: &str, core: &str) -> String {
    format!(
        r#"(component
             {imports}
             (core module $code {core})
             (core instance $guest (instantiate $code {with}))
             (func (export "configure") (param "generation" u64) (param "count" u32)
               (canon lift (core func $guest "configure")))
             (func (export "pick")
               (param "source-hash" u64) (param "client-zone" u32) (param "client-node" u32)
               (result u32)
               (canon lift (core func $guest "pick"))))"#
    )
}

fn policy(source: &str, log: Log) -> Result<WasmPolicy, ModuleError> {
    let engine = Engine::new(None).unwrap();
    let program = Arc::new(engine.compile(source.as_bytes())?);
    let clock = Arc::new(AtomicU64::new(NOW));
    let policy = WasmPolicy::new(&engine, program, Arc::from(CONFIG), Arc::clone(&log));
    Ok(policy.in_environment(Environment::Simulated { clock, seed: 0 }, log))
}

fn silent() -> Log {
    Arc::new(|_, _| ())
}

fn picked(source: &str) -> Result<Option<usize>, Failure> {
    let mut guest = policy(source, silent()).expect(source).instance()?;
    guest.configure(1, &candidates())?;
    guest.pick(&trial_flow(40_000))
}

#[test]
fn host_functions_return_real_values() {
    for row in table() {
        assert_eq!(picked(&core_guest(&row)), Ok(Some(1)), "core {row:?}");
        assert_eq!(picked(&component_guest(&row)), Ok(Some(1)), "component {row:?}");
    }
}

#[test]
fn the_table_has_every_host_function() {
    let mut tested = table().iter().map(|row| row.0).collect::<BTreeSet<_>>();
    tested.insert("log");
    assert_eq!(tested, abi::FUNCTIONS.iter().copied().collect());
}

#[test]
fn an_index_out_of_range_traps() {
    for (name, parameters, result, arguments, _) in table() {
        if arguments != "(i32.const 1)" || name == "flow-hash" {
            continue;
        }
        let row = (name, parameters, result, "(i32.const 3)", 0);
        for guest in [core_guest(&row), component_guest(&row)] {
            let reason = picked(&guest).unwrap_err().reason;
            let expected =
                if name == "config-byte" { "config byte 3 of 2" } else { "endpoint 3 of 3" };
            assert_eq!(reason, format!("pick: asked for {expected}"), "{name}");
        }
    }
}

#[test]
fn log_reaches_the_host() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log: Log = {
        let seen = Arc::clone(&seen);
        Arc::new(move |code, value| seen.lock().push((code, value)))
    };
    let source = r#"(module
        (import "snowglobe:policy/host@0.1.0" "log" (func $log (param i32 i64)))
        (func (export "pick") (param i64 i32 i32) (result i32)
          (call $log (i32.const 7) (local.get 0)) (i32.const 0)))"#;
    let mut guest = policy(source, log).unwrap().instance().unwrap();
    guest.configure(1, &candidates()).unwrap();
    let flow = trial_flow(40_000);
    guest.pick(&flow).unwrap();
    assert_eq!(*seen.lock(), [(7, flow.hash(flow_hash::SOURCE_ADDRESS))]);
}

#[test]
fn configure_and_pick_get_their_arguments() {
    let core = r#"
        (global $sum (mut i64) (i64.const 0))
        (func (export "configure") (param i64 i32)
          (global.set $sum (i64.add (local.get 0) (i64.extend_i32_u (local.get 1)))))
        (func (export "pick") (param i64 i32 i32) (result i32)
          (i32.and
            (i64.eq (global.get $sum) (i64.const 45))
            (i32.and (i32.eq (local.get 1) (i32.const 5)) (i32.eq (local.get 2) (i32.const 6)))))"#;
    for source in [format!("(module {core})"), component("", "", core)] {
        let mut guest = policy(&source, silent()).unwrap().instance().unwrap();
        guest.configure(42, &candidates()).unwrap();
        let mut flow = trial_flow(40_000);
        (flow.client_zone, flow.client_node) = (5, 6);
        assert_eq!(guest.pick(&flow), Ok(Some(1)));
    }
}

#[test]
fn no_opinion_is_no_failure() {
    assert_eq!(picked(&pick("(i32.const -1)")), Ok(None));
}

#[test]
fn initialize_runs_first() {
    let source = r#"(module (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 1)))
        (func (export "pick") (param i64 i32 i32) (result i32) (global.get $ready)))"#;
    assert_eq!(picked(source), Ok(Some(1)));
}

#[test]
fn wasi_is_there_and_traps_when_called() {
    let imports = r#"
        (import "wasi:random/random@0.2.0" (instance $wasi
          (export "get-random-u64" (func (result u64)))))
        (core func $f (canon lower (func $wasi "get-random-u64")))
        (core instance $needs (export "f" (func $f)))"#;
    let guest = |pick: &str| {
        let core = format!(
            r#"(import "wasi" "f" (func $f (result i64))) (func (export "configure") (param i64 i32))
               (func (export "pick") (param i64 i32 i32) (result i32) {pick})"#
        );
        component(imports, "(with \"wasi\" (instance $needs))", &core)
    };
    assert_eq!(picked(&guest("(i32.const 2)")), Ok(Some(2)));
    let reason = picked(&guest("(i32.wrap_i64 (call $f))")).unwrap_err().reason;
    assert!(reason.contains("wasi:random/random@0.2.0#get-random-u64"), "{reason}");
}

#[test]
fn memory_ends_at_the_limit() {
    let core = |pages: u32| {
        format!(
            r#"(memory 1) (func (export "configure") (param i64 i32))
               (func (export "pick") (param i64 i32 i32) (result i32)
                 (loop $more
                   (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
                 (i32.eq (memory.size) (i32.const {pages})))"#
        )
    };
    assert_eq!(picked(&format!("(module {})", core(256))), Ok(Some(1)), "16 MiB");
    assert_eq!(picked(&component("", "", &core(1024))), Ok(Some(1)), "64 MiB");
}

/// A module with only a `pick` of that body.
fn pick(body: &str) -> String {
    format!(r#"(module (func (export "pick") (param i64 i32 i32) (result i32) {body}))"#)
}

#[test]
fn modules_that_do_not_fit_are_refused() {
    let import = |module: &str, name: &str, kind: &str| {
        let pick = r#"(func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#;
        format!(r#"(module (import "{module}" "{name}" {kind}) {pick})"#)
    };
    let host = "snowglobe:policy/host@0.1.0";
    let missing_export = r#"(component (core module $code (func (export "configure") (param i64 i32)))
        (core instance $guest (instantiate $code))
        (func (export "configure") (param "generation" u64) (param "count" u32)
          (canon lift (core func $guest "configure"))))"#;
    let new_component = component(
        r#"(import "snowglobe:policy/host@9.9.9" (instance))"#,
        "",
        r#"(func (export "configure") (param i64 i32))
           (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#,
    );
    let unknown_component = new_component.replace("snowglobe:policy/host@9.9.9", "evil:net/tcp");
    let rows: &[(&str, &str)] = &[
        ("", "the module is empty"),
        (";; nothing", "expected at least one module field"),
        ("\0asm garbage", "unknown binary version"),
        ("\u{7f}ELF", "unexpected character"),
        ("(module", "expected `)`"),
        ("(module)", "does not export `pick`"),
        ("(component)", "does not export `pick`"),
        (
            r#"(module (func (export "score") (param i32 i32 i32) (result i32) (i32.const 0)))"#,
            "a topology policy",
        ),
        (r#"(module (func (export "pick") (result i32) (i32.const 0)))"#, "exports `pick` as"),
        (r#"(module (memory (export "pick") 1))"#, "not as a function"),
        (
            &import("snowglobe:policy/host@9.9.9", "now", "(func (result i64))"),
            "imports version 9.9.9 of `snowglobe:policy/host`; supported are 0.1.0",
        ),
        (
            &import("snowglobe:policy/host", "now", "(func (result i64))"),
            "without a version; supported are 0.1.0",
        ),
        (&import(host, "shutdown", "(func)"), "imports `shutdown`, but"),
        (&import(host, "now", "(func (result i32))"), "incompatible import type"),
        (&import(host, "now", "(memory 1)"), "incompatible import type"),
        (&import("wasi_snapshot_preview1", "fd_write", "(func)"), "incompatible import type"),
        (
            &import("wasi_snapshot_preview1", "fd_paint", "(func)"),
            "imports `fd_paint` from `wasi_snapshot_preview1`, which has no such function",
        ),
        (
            &import("wasi_unstable", "fd_write", "(func)"),
            "imports `fd_write` from `wasi_unstable`; build it to import from `snowglobe:policy/host@0.1.0` \
             and `wasi_snapshot_preview1` only",
        ),
        (
            r#"(module (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))
                 (func (export "_start")))"#,
            "exports `_start` and no `_initialize`: a program that runs once. Build a library",
        ),
        (missing_export, "does not export `pick`"),
        (&new_component, "imports version 9.9.9 of `snowglobe:policy/host`; supported are 0.1.0"),
        (
            &unknown_component,
            "imports `evil:net/tcp`; build it to import from `snowglobe:policy/host@0.1.0`",
        ),
    ];
    for (source, expected) in rows {
        let Err(ModuleError(reason)) = policy(source, silent()) else {
            panic!("accepted: {source}")
        };
        assert!(reason.contains(expected), "{source}\n  got {reason}");
    }
}

/// What grows without end is stopped at its limit, and growing costs no more than that.
#[test]
fn tables_and_many_instances_end_at_the_limit() {
    let grow = |max: u32| {
        format!(
            r#"(table $t 0 funcref) (func (export "configure") (param i64 i32))
               (func (export "pick") (param i64 i32 i32) (result i32)
                 (loop $more
                   (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))))
                 (i32.eq (table.size $t) (i32.const {max})))"#
        )
    };
    assert_eq!(picked(&format!("(module {})", grow(10_000))), Ok(Some(1)));
    assert_eq!(picked(&component("", "", &grow(100_000))), Ok(Some(1)));
    let work = r#"(func (export "configure") (param i64 i32))
        (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 1))"#;
    let with = |kind: &str, count: usize| {
        let many = "(core instance (instantiate $more))".repeat(count);
        component(&format!("(core module $more {kind}) {many}"), "", work)
    };
    assert_eq!(picked(&with("", 200)), Ok(Some(1)));
    let rows = [
        (with("", 300), "resource limit exceeded: instance count too high"),
        (with("(memory 1)", 3), "resource limit exceeded: memory count too high"),
        (with("(memory 600)", 2), "exceeds memory limits"),
        (with("(table 1 funcref)", 40), "resource limit exceeded: table count too high"),
        (with("(table 60000 funcref)", 2), "exceeds table limits"),
    ];
    for (source, part) in rows {
        let Failure { reason, .. } = picked(&source).unwrap_err();
        assert!(reason.starts_with("start: ") && reason.contains(part), "{part}: {reason}");
    }
    let deep = pick("(call $f)").replace("(module", "(module (func $f (result i32) (call $f))");
    let Failure { reason, .. } = picked(&deep).unwrap_err();
    assert_eq!(reason, "pick: wasm trap: call stack exhausted");
}

#[test]
fn modules_that_misbehave_fail_when_tried() {
    let never = "(loop $forever (br $forever))";
    let with = |more: &str| {
        let pick = r#"(func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#;
        format!("(module {more} {pick})")
    };
    let configure = format!(r#"(func (export "configure") (param i64 i32) {never})"#);
    let grow = "(loop $more (drop (memory.grow (i32.const 1))) (br $more))";
    let flow_hash = r#"(import "snowglobe:policy/host@0.1.0" "flow-hash" (func $hash (param i32) (result i64)))
        (func (export "configure") (param i64 i32) (drop (call $hash (i32.const 1))))"#;
    let too_early = r#"(import "snowglobe:policy/host@0.1.0" "zone" (func $zone (param i32) (result i32)))
        (start $start) (func $start (drop (call $zone (i32.const 0))))"#;
    let slow_component = component(
        "",
        "",
        &format!(
            r#"(func (export "configure") (param i64 i32))
               (func (export "pick") (param i64 i32 i32) (result i32) {never} (i32.const 0))"#
        ),
    );
    let rows: &[(&str, &str)] = &[
        (&pick(&format!("{never} (i32.const 0)")), "pick: ran longer than 20 ms"),
        (&with(&configure), "configure: ran longer than 20 ms"),
        (&with(&format!("(start $s) (func $s {never})")), "start: ran longer than 20 ms"),
        (
            &with(&format!(r#"(func (export "_initialize") {never})"#)),
            "start: ran longer than 20 ms",
        ),
        (&slow_component, "pick: ran longer than 20 ms"),
        (
            &with(&format!(r#"(memory 1) (func (export "configure") (param i64 i32) {grow})"#)),
            "configure: ran longer",
        ),
        (&with("(memory 257)"), "memory minimum size of 257 pages exceeds memory limits"),
        (&with("(memory 1) (memory 1)"), "memory"),
        (&with("(table 100000 funcref)"), "exceeds table limits"),
        (&with("(start $s) (func $s (call $s))"), "call stack exhausted"),
        (&with(too_early), "start: asked for endpoint 0 of 0"),
        (&with(flow_hash), "configure: asked for flow-hash outside pick"),
        (&pick("unreachable"), "pick: wasm trap: wasm `unreachable` instruction executed"),
        (&pick("(i32.div_u (i32.const 1) (i32.const 0))"), "integer divide by zero"),
        (&pick("(i32.const 3)"), "pick: chose endpoint 3 of 3"),
        (&pick("(i32.const -2)"), "pick: chose endpoint 4294967294 of 3"),
    ];
    for (source, expected) in rows {
        let Err(ModuleError(reason)) = policy(source, silent()).unwrap().try_out() else {
            panic!("accepted: {source}")
        };
        assert!(reason.contains(expected), "{source}\n  got {reason}");
    }
}

#[test]
fn a_component_has_two_seconds_to_start() {
    let core = r#"(start $s) (func $s (loop $forever (br $forever)))
        (func (export "configure") (param i64 i32))
        (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#;
    let Err(failure) = policy(&component("", "", core), silent()).unwrap().instance().map(drop)
    else {
        panic!("it started")
    };
    assert_eq!(failure.kind, FailureKind::Deadline);
    assert!(is_stopped_start(&failure.reason), "{failure}");
}

/// On a machine that gives it hardly any CPU, its other bound comes first.
fn is_stopped_start(reason: &str) -> bool {
    ["start: ran longer than 2000 ms", "start: not done after 40000 ms"]
        .iter()
        .any(|bound| reason.starts_with(bound))
}

#[test]
fn a_busy_machine_makes_no_guest_look_like_a_loop() {
    // A millisecond or some.
    let pick = pick(
        "(local $step i32)
         (loop $again
           (local.set $step (i32.add (local.get $step) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $step) (i32.const 4000000))))
         (i32.const 1)",
    );
    let policy = policy(&pick, silent()).unwrap();
    let done = AtomicBool::new(false);
    let spinners = 3 * std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..spinners {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mut guest = policy.instance().unwrap();
        guest.configure(1, &candidates()).unwrap();
        let picks = (0..50).map(|_| guest.pick(&trial_flow(40_000))).collect::<Vec<_>>();
        done.store(true, Ordering::Relaxed);
        assert_eq!(picks, vec![Ok(Some(1)); 50]);
    });
}

#[test]
fn builtins_pass_their_trial() {
    let sources = std::fs::read_dir("policies").unwrap();
    let texts = sources.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "wat" || extension == "c")
    });
    let kinds = [PolicyKind::LoadBalancer, PolicyKind::Topology];
    let builtins = kinds.map(|kind| Engine::builtins_of(kind).count());
    assert_eq!(texts.count(), builtins.iter().sum::<usize>(), "each has a line in `builtin.rs`");
    let engine = Engine::new(None).unwrap();
    for kind in kinds {
        for name in Engine::builtins_of(kind) {
            let source = Engine::builtin_of(kind, name).unwrap();
            let program = Arc::new(engine.compile_for(kind, source).unwrap());
            WasmPolicy::new(&engine, program, Arc::from(""), silent()).try_out().expect(name);
        }
    }
    assert!(Engine::builtin("best").is_err());
}

#[test]
fn text_is_recognised() {
    let rows = [
        ("(component)", true),
        (" ;; note (module)\n(; one (module) ;) (component)", true),
        ("(module) ;; (component)", false),
        ("\0asm\u{d}\0\u{1}\0", true),
        ("\0asm\u{1}\0\0\0", false),
        ("", false),
    ];
    for (source, expected) in rows {
        assert_eq!(super::is_component(source.as_bytes()), expected, "{source}");
    }
}

#[test]
fn a_simulation_repeats_itself_and_its_instances_differ() {
    let source = core_guest(&("random", &[], "u64", "", FIRST_RANDOM));
    let policy = policy(&source, silent()).unwrap();
    let first_pick = || {
        let mut guest = policy.instance().unwrap();
        guest.configure(1, &candidates()).unwrap();
        guest.pick(&trial_flow(40_000)).unwrap()
    };
    assert_eq!(first_pick(), Some(1));
    assert_eq!(first_pick(), Some(0), "the second instance has another seed");
}

#[test]
fn compiled_code_comes_from_the_cache_and_damaged_code_is_compiled_anew() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("policies");
    let core = r#"(func (export "configure") (param i64 i32))
        (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 2))"#;
    let sources = [format!("(module {core})"), component("", "", core)];
    let work = |source: &str| {
        // As after a restart.
        let engine = Engine::new(Some(directory.clone())).unwrap();
        let program = Arc::new(engine.compile(source.as_bytes()).unwrap());
        let policy = WasmPolicy::new(&engine, program, Arc::from(""), silent());
        let mut guest = policy.instance().unwrap();
        guest.configure(1, &candidates()).unwrap();
        assert_eq!(guest.pick(&trial_flow(40_000)), Ok(Some(2)));
    };
    let file_of = |source: &str| {
        let digest = super::digest(source.as_bytes());
        let mut paths = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let name = digest.strip_prefix("sha256:").unwrap();
        paths.find(|path| path.to_string_lossy().contains(name)).expect("it is kept")
    };
    for source in &sources {
        work(source);
        let file = file_of(source);
        let good = std::fs::read(&file).unwrap();
        let inode = |file| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
        let first = inode(&file);
        work(source);
        assert_eq!(inode(&file), first, "it is used, not written anew");
        for damaged in [&good[..good.len() / 2], b"", &vec![b'x'; good.len()]] {
            std::fs::write(&file, damaged).unwrap();
            work(source);
            assert_eq!(std::fs::read(&file).unwrap().len(), good.len(), "it is replaced");
        }
    }
    let refused = "(module)";
    let engine = Engine::new(Some(directory.clone())).unwrap();
    engine.compile(refused.as_bytes()).map(drop).unwrap_err();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "only what is of use is kept");
}
