//! Modules that are measured besides the built-in ones.

use std::fmt::Write as _;

/// Least connections as a component.
pub(crate) const COMPONENT_LC: &str = include_str!("../../tests/policies/least-connections.wat");

/// Picks endpoint 0 until a failed connect of it is on record; then does something else.
pub(crate) fn turns_bad(then: &str) -> String {
    format!(
        r#"(module
             (import "snowglobe:policy/host@0.1.0" "failures" (func $failures (param i32) (result i32)))
             (memory 1)
             (func (export "pick") (param i64 i32 i32) (result i32)
               (if (call $failures (i32.const 0)) (then {then}))
               (i32.const 0)))"#
    )
}

/// As much code as a policy in Rust with its allocator and its formatting of panics has: 14 KB.
pub(crate) fn large() -> Vec<u8> {
    let mut functions = String::new();
    for number in 0..110 {
        write!(
            functions,
            "(func $f{number} (param i32 i64) (result i64) (local i32 i64)
               (loop $again
                 (local.set 2 (i32.add (local.get 2) (i32.const {number})))
                 (if (i32.gt_u (local.get 2) (i32.const 1000))
                   (then (i64.store offset={number} (local.get 2) (i64.mul (local.get 1) (i64.const {}))))
                   (else (local.set 3 (i64.xor (local.get 3) (i64.load (local.get 2))))))
                 (local.set 3 (i64.rotl (local.get 3) (i64.extend_i32_u (local.get 2))))
                 (if (i64.lt_u (local.get 3) (local.get 1)) (then (return (local.get 3))))
                 (local.set 1 (i64.sub (local.get 1) (i64.shr_u (local.get 3) (i64.const 7))))
                 (br_if $again (i32.lt_u (local.get 2) (local.get 0))))
               (local.get 1))",
            1_000_003 * (number + 1)
        )
        .unwrap();
    }
    let calls: String = (0..110)
        .map(|n| format!("(local.set 0 (call $f{n} (local.get 1) (local.get 0)))"))
        .collect();
    let text = format!(
        r#"(module (memory 2) {functions}
             (func (export "pick") (param i64 i32 i32) (result i32)
               {calls} (i32.wrap_i64 (local.get 0))))"#
    );
    wat::parse_str(&text).unwrap()
}
