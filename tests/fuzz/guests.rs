//! Guests with the right exports and random code.

use arbitrary::Unstructured;
use rand::{RngExt as _, rngs::StdRng};
use wasm_smith::{Config, Module};

/// What a guest may import, and what it exports.
const IMPORTS: &str = r#"(module
    (import "snowglobe:policy/host@0.1.0" "zone" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "node" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "weight" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "active" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "failures" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "latency" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "identity" (func (param i32) (result i64)))
    (import "snowglobe:policy/host@0.1.0" "flow-hash" (func (param i32) (result i64)))
    (import "snowglobe:policy/host@0.1.0" "now" (func (result i64)))
    (import "snowglobe:policy/host@0.1.0" "random" (func (result i64)))
    (import "snowglobe:policy/host@0.1.0" "config-length" (func (result i32)))
    (import "snowglobe:policy/host@0.1.0" "config-byte" (func (param i32) (result i32)))
    (import "snowglobe:policy/host@0.1.0" "log" (func (param i32 i64))))"#;
const EXPORTS: &str = r#"(module
    (func (export "configure") (param i64 i32))
    (func (export "pick") (param i64 i32 i32) (result i32) unreachable))"#;

/// A valid core module. It may run forever, recurse without end, trap, or take all the memory that it can get.
pub(crate) fn random(random: &mut StdRng) -> Vec<u8> {
    let parse = |text| wat::parse_str(text).unwrap();
    let config = Config {
        available_imports: Some(parse(IMPORTS)),
        exports: Some(parse(EXPORTS)),
        max_instructions: 200,
        max_memories: 1,
        max_tables: 2,
        max_memory32_bytes: 1 << 32,
        memory_max_size_required: false,
        // What engines do not have by default.
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        reference_types_enabled: false,
        shared_everything_threads_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    let bytes: Vec<u8> = (0..4_096).map(|_| random.random()).collect();
    Module::new(config, &mut Unstructured::new(&bytes))
        .map_or_else(|_| Vec::new(), |m| m.to_bytes())
}
