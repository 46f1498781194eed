//! Core modules that use WASI.

use super::{FIRST_RANDOM, NOW, is_stopped_start, picked};
use crate::policy::Failure;

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;

/// A module that imports a WASI function and has a `pick` of that body, with that in front of it.
fn module(function: &str, types: &str, more: &str, pick: &str) -> String {
    format!(
        r#"(module
             (import "wasi_snapshot_preview1" "{function}" (func $f {types}))
             {more}
             (func (export "pick") (param i64 i32 i32) (result i32) {pick}))"#
    )
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

#[test]
fn each_call_answers_an_errno_and_none_traps() {
    let four = "(param i32 i32 i32 i32) (result i32)";
    let two = "(param i32 i32) (result i32)";
    let clock = "(param i32 i64 i32) (result i32)";
    let path = "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)";
    // What the arguments are; -1 points beyond the memory.
    let rows: &[(&str, &str, &str, u32)] = &[
        ("args_sizes_get", two, "0 4", SUCCESS),
        ("args_sizes_get", two, "0 65533", FAULT),
        ("environ_sizes_get", two, "-1 0", FAULT),
        ("environ_get", two, "0 0", SUCCESS),
        ("clock_res_get", two, "1 0", SUCCESS),
        ("clock_res_get", two, "1 -1", FAULT),
        ("clock_res_get", two, "2 0", INVAL),
        ("clock_time_get", clock, "0 0 0", SUCCESS),
        ("clock_time_get", clock, "0 0 -8", FAULT),
        ("clock_time_get", clock, "3 0 0", INVAL),
        ("fd_write", four, "2 0 2 8", SUCCESS),
        ("fd_write", four, "0 0 1 8", BADF),
        ("fd_write", four, "1 -4 1 8", FAULT),
        ("fd_write", four, "1 -8 2 8", FAULT),
        ("fd_write", four, "1 0 1 -1", FAULT),
        ("fd_write", four, "1 0 1025 8", INVAL),
        ("random_get", two, "0 65536", SUCCESS),
        ("random_get", two, "1 65536", FAULT),
        ("random_get", two, "-1 -1", FAULT),
        ("poll_oneoff", four, "0 100 1 200", SUCCESS),
        ("poll_oneoff", four, "-1 100 1 200", FAULT),
        ("poll_oneoff", four, "0 -32 1 200", FAULT),
        ("poll_oneoff", four, "0 0 0 200", INVAL),
        ("poll_oneoff", four, "0 0 -1 200", INVAL),
        ("fd_prestat_get", two, "3 0", BADF),
        ("fd_read", four, "0 0 0 0", BADF),
        ("path_open", path, "3 0 0 0 0 0 0 0 0", BADF),
        ("sched_yield", "(result i32)", "", SUCCESS),
    ];
    for (name, types, values, errno) in rows {
        let sorts = types.trim_start_matches("(param ").split([' ', ')']);
        let arguments = values.split_whitespace().zip(sorts);
        let arguments = arguments.map(|(value, sort)| format!("({sort}.const {value}) "));
        let call = format!("(call $f {})", arguments.collect::<String>());
        let check = format!("(i32.eq {call} (i32.const {errno}))");
        let guest = module(name, types, MEMORY, &check);
        assert_eq!(picked(&guest), Ok(Some(1)), "{name} {values}");
    }
    let guest = module("clock_res_get", two, "", "(call $f (i32.const 1) (i32.const 0))");
    let Failure { reason, .. } = picked(&guest).unwrap_err();
    assert_eq!(reason, "pick: chose endpoint 21 of 3", "no memory is exported");
}

#[test]
fn time_and_chance_are_the_simulation_s() {
    let clock = "(param i32 i64 i32) (result i32)";
    for id in [0, 1] {
        let pick = format!(
            "(drop (call $f (i32.const {id}) (i64.const 0) (i32.const 8)))
             (i64.eq (i64.load (i32.const 8)) (i64.const {}))",
            NOW * 1000
        );
        assert_eq!(picked(&module("clock_time_get", clock, MEMORY, &pick)), Ok(Some(1)), "{id}");
    }
    // Not a byte more than asked for.
    let pick = format!(
        "(drop (call $f (i32.const 8) (i32.const 7)))
         (i64.eq (i64.load (i32.const 8)) (i64.const {}))",
        FIRST_RANDOM & 0x00ff_ffff_ffff_ffff
    );
    let random = module("random_get", "(param i32 i32) (result i32)", MEMORY, &pick);
    assert_eq!(picked(&random), Ok(Some(1)));
}

#[test]
fn output_is_counted_and_dropped() {
    // Two buffers, of 100 and 23 bytes.
    let buffers = r#"(memory (export "memory") 1)
        (data (i32.const 16) "\00\01\00\00\64\00\00\00\00\02\00\00\17\00\00\00")"#;
    let pick = "(drop (call $f (i32.const 1) (i32.const 16) (i32.const 2) (i32.const 8)))
        (i32.eq (i32.load (i32.const 8)) (i32.const 123))";
    let types = "(param i32 i32 i32 i32) (result i32)";
    assert_eq!(picked(&module("fd_write", types, buffers, pick)), Ok(Some(1)));
}

#[test]
fn waiting_is_over_at_once() {
    // The user's data is 7; one waits for a time, one for input.
    let subscriptions = r#"(memory (export "memory") 1)
        (data (i32.const 0) "\07") (data (i32.const 48) "\09\00\00\00\00\00\00\00\01")"#;
    let pick = "(drop (call $f (i32.const 0) (i32.const 512) (i32.const 2) (i32.const 256)))
        (i32.and
          (i32.and
            (i32.eq (i32.load (i32.const 256)) (i32.const 2))
            (i64.eq (i64.load (i32.const 512)) (i64.const 7)))
          (i32.and
            (i32.eq (i32.load (i32.const 520)) (i32.const 0))
            (i32.eq (i32.load (i32.const 552)) (i32.const 0x10008))))";
    let types = "(param i32 i32 i32 i32) (result i32)";
    assert_eq!(picked(&module("poll_oneoff", types, subscriptions, pick)), Ok(Some(1)));
}

#[test]
fn an_exit_is_a_failure() {
    let pick = "(call $f (i32.const 7)) (i32.const 0)";
    let Failure { reason, .. } = picked(&module("proc_exit", "(param i32)", "", pick)).unwrap_err();
    assert_eq!(reason, "pick: the module exited with code 7");
}

#[test]
fn who_uses_it_has_the_limits_of_a_language_s_runtime() {
    let guest = |more: &str| module("sched_yield", "(result i32)", more, "(i32.const 1)");
    // 64 MiB at once.
    assert_eq!(picked(&guest("(memory 1024) (table 100000 funcref)")), Ok(Some(1)));
    let Failure { reason, .. } = picked(&guest("(memory 1025)")).unwrap_err();
    assert!(reason.contains("exceeds memory limits"), "{reason}");
    let endless = r#"(func (export "_initialize") (loop $forever (br $forever)))"#;
    let Failure { reason, .. } = picked(&guest(endless)).unwrap_err();
    assert!(is_stopped_start(&reason), "{reason}");
}
